//! What lies over what: lower links, ports, and who is in the way.

use std::sync::Arc;

use dlmgmt_proto::kind::{LinkKind, Lower, Place};
use dlmgmt_proto::{Error, ErrorCode, LinkId, Media, Result, ZoneId};

use super::lookup::{Scope, known, present, title};
use super::making::Make;
use super::plan::{Plan, PlannedStep};
use super::registry::Registry;
use crate::model::{Action, Binding, Link, NsCookie, Step};

/// A link that has ports, or is to have some.
pub(super) struct Master {
    kind: &'static LinkKind,
    zone: Option<ZoneId>,
    id: Option<LinkId>,
    title: String,
}

impl Master {
    /// A link that is to be made.
    pub fn new(make: &Make) -> Self {
        let kind = make.settings.kind();
        Self { kind, zone: Some(make.zone), id: None, title: make.name.to_string() }
    }

    /// What to call it in messages.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A link that is there.
    pub fn of(link: &Link, title: String) -> Result<Self> {
        let kind = link.record.kind.as_deref().and_then(LinkKind::of_kernel);
        let kind = kind.filter(|kind| kind.has_ports).ok_or_else(|| {
            Error::new(ErrorCode::Invalid, format!("{title} is no link that has ports"))
        })?;
        Ok(Self { kind, zone: link.place(), id: Some(link.record.id), title })
    }
}

/// The link that a new one is to lie over, if there is to be one.
pub(super) fn lower_of<'a>(registry: &'a Registry, make: &Make) -> Result<Option<&'a Arc<Link>>> {
    let kind = make.settings.kind();
    let (rule, over) = match (&kind.lower, make.over) {
        (Lower::None | Lower::Optional(_), None) => return Ok(None),
        (Lower::Required(_), None) => {
            let text = format!("a {} needs a link that it lies over", kind.name);
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        (Lower::None, Some(_)) => {
            let text = format!("a {} lies over no other link", kind.name);
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        (Lower::Optional(rule) | Lower::Required(rule), Some(over)) => (rule, over),
    };
    let lower = known(registry, over)?;
    let what = title(registry, lower);
    let unfit = |why: String| {
        let text = format!("a {} cannot lie over {what}: {why}", make.settings.kind().name);
        Err(Error::new(ErrorCode::Invalid, text))
    };
    let media = lower.record.media;
    if media == Media::Loopback || !rule.media.is_empty() && !rule.media.contains(&media) {
        let wanted: Vec<&str> = rule.media.iter().map(|media| media.as_str()).collect();
        let wanted = if wanted.is_empty() { "any other".to_owned() } else { wanted.join(" or ") };
        return unfit(format!("its media is {media}, not {wanted}"));
    }
    let bound = present(registry, lower)?;
    if !rule.may_be_elsewhere && lower.place() != Some(make.zone) {
        return unfit(format!("it is not in zone {}", registry.zone_label(make.zone)));
    }
    let is_share = matches!(rule.place, Place::Link(_));
    if let Some(mtu) = make.settings.mtu().filter(|mtu| is_share && *mtu > bound.mtu) {
        return unfit(format!("an MTU of {mtu} is more than its {}", bound.mtu));
    }
    Ok(Some(lower))
}

/// Where the lower link is of one that is to be made again in `ns`, if it will do.
pub(super) fn lower_again(
    registry: &Registry,
    kind: &LinkKind,
    over: LinkId,
    ns: NsCookie,
) -> Option<Binding> {
    let at = registry.link(over)?.binding()?;
    let rule = kind.lower_rule()?;
    (rule.may_be_elsewhere || at.ns == ns).then_some(at)
}

/// Refuses links that cannot become ports.
pub(super) fn refuse_bad_ports(
    registry: &Registry,
    master: &Master,
    ports: &[LinkId],
) -> Result<()> {
    if !master.kind.has_ports && !ports.is_empty() {
        let text = format!("a {} has no ports", master.kind.name);
        return Err(Error::new(ErrorCode::Invalid, text));
    }
    for (nth, id) in ports.iter().enumerate() {
        let port = known(registry, *id)?;
        if ports[..nth].contains(id) {
            let text = format!("{} is given twice", title(registry, port));
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        refuse_bad_port(registry, master, port)?;
    }
    Ok(())
}

fn refuse_bad_port(registry: &Registry, master: &Master, port: &Link) -> Result<()> {
    let what = title(registry, port);
    let unfit = |code, why: String| {
        Err(Error::new(code, format!("{what} cannot be a port of {}: {why}", master.title)))
    };
    let bound = present(registry, port)?;
    if master.id == Some(port.record.id) {
        return unfit(ErrorCode::Invalid, "no link is a port of itself".to_owned());
    }
    if port.record.media != Media::Ethernet {
        let media = port.record.media;
        return unfit(ErrorCode::Invalid, format!("its media is {media}, not Ethernet"));
    }
    if port.record.kind.as_deref() == Some(master.kind.kernel) {
        let kind = master.kind.name;
        return unfit(ErrorCode::Invalid, format!("it is a {kind} itself"));
    }
    if port.place() != master.zone {
        let zone = master.zone.map_or_else(String::new, |zone| {
            format!(": it is not in zone {}", registry.zone_label(zone))
        });
        return unfit(ErrorCode::Invalid, format!("both must be in one zone{zone}"));
    }
    if let Some(id) = master.id.filter(|id| lies_below(registry, *id, port.record.id)) {
        return unfit(ErrorCode::Invalid, format!("it lies over {} itself", registry.label(id)));
    }
    let other = bound.master.map(|ifindex| Binding { ns: bound.ns, ifindex });
    if let Some(other) = other {
        let other = registry.by_binding(other).map(|id| registry.label(id));
        let other = other.unwrap_or_else(|| "another link".to_owned());
        return unfit(ErrorCode::Busy, format!("it is a port of {other}"));
    }
    Ok(())
}

/// Whether a link is below another one, at any depth.
fn lies_below(registry: &Registry, lower: LinkId, upper: LinkId) -> bool {
    let mut above = vec![lower];
    let mut next = 0;
    while let Some(id) = above.get(next).copied() {
        for over in registry.made_over(id).map(|link| link.record.id) {
            if over == upper {
                return true;
            }
            if !above.contains(&over) {
                above.push(over);
            }
        }
        next += 1;
    }
    false
}

/// Makes links the ports of one that will be at `at`. A bond takes only links that are down, and
/// puts them up.
pub(super) fn join(
    registry: &Registry,
    master: &Master,
    id: LinkId,
    at: Binding,
    ports: &[LinkId],
) -> Plan {
    let mut plan = Plan::default();
    for port in ports.iter().filter_map(|port| registry.link(*port)) {
        let Some(bound) = &port.kernel else { continue };
        if master.kind.kernel == "bond" && bound.admin_up {
            let step = |up| Step { at: bound.at(), action: Action::SetUp(up) };
            plan.steps.push(PlannedStep {
                id: port.record.id,
                forward: step(false),
                backward: Some(step(true)),
            });
        }
        let step = |action| Step { at, action };
        plan.steps.push(PlannedStep {
            id,
            forward: step(Action::AddPort(bound.ifindex)),
            backward: Some(step(Action::DropPort(bound.ifindex))),
        });
        plan.changes.push(Link::clone(port).into());
    }
    plan
}

/// Makes links no ports any more of one that is at `at`.
pub(super) fn leave(
    registry: &Registry,
    master: &Master,
    id: LinkId,
    at: Binding,
    ports: &[LinkId],
) -> Result<Plan> {
    let mut plan = Plan::default();
    for id_of_port in ports {
        let port = known(registry, *id_of_port)?;
        let is_planned = registry.made_over(*id_of_port).any(|over| over.record.id == id);
        let bound = port.kernel.as_ref().filter(|bound| bound.master_at() == Some(at));
        let Some(bound) = bound else {
            if is_planned {
                continue;
            }
            let text = format!("{} is no port of {}", title(registry, port), master.title);
            return Err(Error::new(ErrorCode::NotFound, text));
        };
        let step = |action| Step { at, action };
        plan.steps.push(PlannedStep {
            id,
            forward: step(Action::DropPort(bound.ifindex)),
            backward: Some(step(Action::AddPort(bound.ifindex))),
        });
        plan.changes.push(Link::clone(port).into());
    }
    Ok(plan)
}

/// Gives a link of ours the ports that its record names and that it has not, in so far as they are
/// there and nobody else's.
pub(super) fn rejoin(registry: &Registry, link: &Link, at: Binding) -> Plan {
    let Ok(master) = Master::of(link, registry.label(link.record.id)) else {
        return Plan::default();
    };
    let recipe = link.record.recipe.as_ref();
    let is_to_come = |port: &LinkId| {
        let bound = registry.link(*port).and_then(|port| port.kernel.as_ref());
        bound.is_some_and(|bound| bound.ns == at.ns && bound.master.is_none())
    };
    let ports: Vec<LinkId> = recipe
        .map_or_else(Vec::new, |recipe| recipe.ports.iter().copied().filter(is_to_come).collect());
    join(registry, &master, link.record.id, at, &ports)
}

/// Whether a link of ours lacks something that its record names.
pub fn is_incomplete(registry: &Registry, link: &Link) -> bool {
    let Some(at) = link.binding() else { return true };
    let is_port = |port: &LinkId| {
        let bound = registry.link(*port).and_then(|port| port.kernel.as_ref());
        bound.is_some_and(|bound| bound.master_at() == Some(at))
    };
    link.record.recipe.as_ref().is_some_and(|recipe| !recipe.ports.iter().all(is_port))
}

/// What depends on a link that the kernel has, as a caller is told of it.
pub(super) fn uses(registry: &Registry, scope: Scope, link: &Link) -> Vec<String> {
    let Some(bound) = &link.kernel else { return Vec::new() };
    let named = |other: &Link| name_beside(registry, scope, link, other);
    let master = bound.master_at().and_then(|at| registry.link(registry.by_binding(at)?));
    let master = master.map(|master| format!("port of {}", named(master)));
    // The kernel does not tell of every kind what it lies over, and not always where that is.
    let was_made_over_it = |other: &Link| {
        let recipe = other.record.recipe.as_ref();
        recipe.is_some_and(|recipe| recipe.over == Some(link.record.id))
    };
    let lies_over_it = |other: &&Arc<Link>| {
        other.kernel.as_ref().is_some_and(|upper| {
            was_made_over_it(other)
                || upper.kind.as_deref() != Some("veth")
                    && upper.lower.and_then(|lower| lower.at(upper.ns)) == Some(bound.at())
        })
    };
    let uppers = registry.links().filter(lies_over_it);
    uppers.map(|upper| format!("lower link of {}", named(upper))).chain(master).collect()
}

/// Refuses to end a link that others lie over, also such as wait for it.
pub(super) fn refuse_under_others(registry: &Registry, scope: Scope, link: &Link) -> Result<()> {
    let waiting = registry.made_over(link.record.id).filter(|other| other.kernel.is_none());
    let waiting =
        waiting.map(|other| format!("lower link of {}", name_beside(registry, scope, link, other)));
    let users: Vec<String> = uses(registry, scope, link).into_iter().chain(waiting).collect();
    if users.is_empty() {
        return Ok(());
    }
    let text = format!("{} is in use: {}", title(registry, link), users.join(", "));
    Err(Error::new(ErrorCode::Busy, text))
}

/// What to call another link in a message about one.
fn name_beside(registry: &Registry, scope: Scope, link: &Link, other: &Link) -> String {
    match other.zone() {
        _ if !scope.sees(other) => "another link".to_owned(),
        zone if zone == link.zone() => registry.shown_name(other).to_string(),
        zone => format!("{}/{}", registry.zone_label(zone), registry.shown_name(other)),
    }
}
