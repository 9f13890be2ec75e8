//! Virtual links are made and ended: SPEC.md section 6, transient links, and section 10.

use std::sync::Arc;

use dlmgmt_proto::kind::{Address, LinkKind, LinkOptions};
use dlmgmt_proto::{
    Error, ErrorCode, Generation, HwAddr, LinkClass, LinkId, LinkName, Result, ZoneId,
};

use super::lookup::{Scope, known_of, present, title};
use super::plan::{Creation, LinkChange, LinkIds, Plan, PlannedStep, Stored};
use super::registry::Registry;
use super::rename::refuse_held;
use super::stacking::{self, Master};
use super::zones::refuse_ending;
use crate::model::{
    Action, Anchor, Binding, Lifetime, Link, LinkRecord, Location, NewKind, NewLink, NsCookie,
    Origin, Recipe, Settings, Step,
};

/// A link that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// The zone where it is made.
    pub zone: ZoneId,
    /// Its name there.
    pub name: LinkName,
    /// How long it is kept.
    pub lifetime: Lifetime,
    /// Its kind and its options.
    pub settings: LinkOptions,
    /// The link it lies over.
    pub over: Option<LinkId>,
    /// The zone and the name of the other end, of a pair.
    pub peer: Option<(ZoneId, LinkName)>,
    /// The links that become its ports.
    pub ports: Vec<LinkId>,
    /// How many transient links the zone may have.
    pub quota: Option<usize>,
}

impl Make {
    fn kind(&self) -> &'static LinkKind {
        self.settings.kind()
    }
}

/// Makes a link, directly in its zone and under its name.
pub fn plan_make(registry: &Registry, ids: &mut LinkIds, make: &Make) -> Result<Plan> {
    let ns = space_of(registry, make.zone)?;
    refuse_taken(registry, make.zone, make.name)?;
    refuse_over_quota(registry, make)?;
    let id = ids.give()?;
    match (make.kind().is_pair, make.peer) {
        (true, Some((zone, name))) => plan_pair(registry, make, ns, (id, ids.give()?), zone, name),
        (false, None) => plan_single(registry, make, ns, id),
        (true, None) => Err(invalid(make, "its other end is not named")),
        (false, Some(_)) => Err(invalid(make, "it has no other end")),
    }
}

fn plan_pair(
    registry: &Registry,
    make: &Make,
    ns: NsCookie,
    (id, peer): (LinkId, LinkId),
    peer_zone: ZoneId,
    peer_name: LinkName,
) -> Result<Plan> {
    refuse_taken(registry, peer_zone, peer_name)?;
    if (peer_zone, peer_name) == (make.zone, make.name) {
        let text = format!("two links of one zone cannot both be named {peer_name}");
        return Err(Error::new(ErrorCode::Exists, text));
    }
    stacking::lower_of(registry, make)?;
    stacking::refuse_bad_ports(registry, &Master::new(make), &make.ports)?;
    let peer_ns = space_of(registry, peer_zone)?;
    let kind = NewKind::Veth { peer_ns, peer_name, peer_mac: None };
    let recipe = |other| Recipe { peer: Some(other), ..Recipe::new(&make.settings) };
    let ends = [
        link(make, id, make.zone, make.name, recipe(peer)),
        link(make, peer, peer_zone, peer_name, recipe(id)),
    ];
    let new = new_link(make, ns, kind);
    let changes = ends.into_iter().map(LinkChange::from).collect();
    Ok(Plan { changes, create: Some(Creation { new, ids: vec![id, peer] }), ..Plan::default() })
}

fn plan_single(registry: &Registry, make: &Make, ns: NsCookie, id: LinkId) -> Result<Plan> {
    let lower = stacking::lower_of(registry, make)?;
    let master = Master::new(make);
    stacking::refuse_bad_ports(registry, &master, &make.ports)?;
    let recipe =
        Recipe { over: make.over, ports: make.ports.clone(), ..Recipe::new(&make.settings) };
    let over = lower.and_then(|lower| lower.binding());
    let new = new_link(make, ns, NewKind::Single { settings: make.settings.clone(), over });
    let made = link(make, id, make.zone, make.name, recipe);
    let joining = stacking::join(registry, &master, id, Binding::to_come(ns), &make.ports);
    Ok(Plan {
        changes: std::iter::once(made.into()).chain(joining.changes).collect(),
        create: Some(Creation { new, ids: vec![id] }),
        steps: joining.steps,
        beside: make.over.into_iter().collect(),
        ..Plan::default()
    })
}

fn new_link(make: &Make, ns: NsCookie, kind: NewKind) -> NewLink {
    NewLink { ns, name: make.name, mac: make.settings.mac(), mtu: make.settings.mtu(), kind }
}

fn invalid(make: &Make, why: &str) -> Error {
    Error::new(ErrorCode::Invalid, format!("a {} cannot be made: {why}", make.kind().name))
}

fn space_of(registry: &Registry, zone: ZoneId) -> Result<NsCookie> {
    refuse_ending(registry, zone)?;
    let up = registry.zone(zone).and_then(|zone| zone.up.as_ref());
    up.map(|up| up.ns).ok_or_else(|| {
        let text = format!("zone {} is not up", registry.zone_label(zone));
        Error::new(ErrorCode::NoZone, text)
    })
}

fn refuse_taken(registry: &Registry, zone: ZoneId, name: LinkName) -> Result<()> {
    if registry.is_name_free(zone, name) {
        return Ok(());
    }
    let text = format!("the name {name} is taken in zone {}", registry.zone_label(zone));
    Err(Error::new(ErrorCode::Exists, text))
}

fn refuse_over_quota(registry: &Registry, make: &Make) -> Result<()> {
    let Some(quota) = make.quota else { return Ok(()) };
    let is_counted = |link: &&Arc<Link>| {
        link.record.owner == make.zone && link.record.lifetime == Lifetime::Transient
    };
    let wanted = if make.kind().is_pair { 2 } else { 1 };
    if registry.links().filter(is_counted).count() + wanted <= quota {
        return Ok(());
    }
    let zone = registry.zone_label(make.zone);
    let text = format!("zone {zone} may have {quota} transient links, and has them");
    Err(Error::new(ErrorCode::Quota, text))
}

fn link(make: &Make, id: LinkId, owner: ZoneId, name: LinkName, recipe: Recipe) -> Link {
    let kind = make.kind();
    let record = LinkRecord {
        id,
        name,
        owner,
        location: Location::Home,
        class: kind.class,
        kind: Some(kind.kernel.to_owned()),
        media: kind.media,
        lifetime: make.lifetime,
        origin: Origin::Own,
        phys: None,
        anchor: None,
        recipe: Some(recipe),
        unsettled: false,
        generation: Generation::default(),
        properties: Default::default(),
    };
    Link { record: record.into(), kernel: None }
}

/// Makes a persistent link of ours again that the kernel lost, at home and with its linkid, or
/// gives one that is there the ports that it lost.
///
/// `None` where that is not possible now: a link below is absent, or the other end of a pair has
/// not ended yet.
pub fn plan_remake(registry: &Registry, id: LinkId) -> Option<Plan> {
    let link = registry.link(id)?;
    if link.kernel.is_some() {
        return plan_rejoin(registry, link);
    }
    let ns = space_of(registry, link.record.owner).ok()?;
    let recipe = link.record.recipe.as_ref()?;
    let settings = recipe.settings()?;
    let (kind, ids, joining) = match recipe.peer {
        Some(peer) => {
            let other = registry.link(peer).filter(|peer| peer.kernel.is_none())?;
            let kind = NewKind::Veth {
                peer_ns: space_of(registry, other.record.owner).ok()?,
                peer_name: registry.name_at_home(other),
                peer_mac: home_mac(other),
            };
            (kind, vec![id, peer], Plan::default())
        }
        None => {
            let over = match recipe.over {
                Some(over) => Some(stacking::lower_again(registry, settings.kind(), over, ns)?),
                None => None,
            };
            let joining = stacking::rejoin(registry, link, Binding::to_come(ns));
            (NewKind::Single { settings: settings.clone(), over }, vec![id], joining)
        }
    };
    let wanted = link.record.properties.persistent.mac().or(settings.mac());
    let mac = match settings.kind().address {
        Address::Own => wanted.or_else(|| home_mac(link)),
        Address::Inherited => wanted,
        Address::None => None,
    };
    let name = registry.name_at_home(link);
    let new = NewLink { ns, name, mac, mtu: settings.mtu(), kind };
    let remade = ids.iter().filter_map(|id| registry.link(*id)).map(|link| {
        let made_with = if link.record.id == id { mac } else { home_mac(link) };
        to_be_remade(link, made_with).into()
    });
    Some(Plan {
        changes: remade.chain(joining.changes).collect(),
        create: Some(Creation { new, ids: ids.clone() }),
        equips: ids.clone(),
        steps: joining.steps,
        beside: recipe.over.into_iter().collect(),
        ..Plan::default()
    })
}

/// It will be somewhere else, and is known by the address that it is made with; where the kernel
/// chooses that, by its name alone.
fn to_be_remade(link: &Link, made_with: Option<HwAddr>) -> Link {
    let mut link = link.clone();
    let record = link.record_mut();
    record.properties.forget_the_link();
    record.anchor = record
        .anchor
        .take()
        .filter(|_| made_with.is_some())
        .map(|anchor| Anchor { at: Binding { ns: NsCookie::NONE, ..anchor.at }, mac: made_with });
    link
}

fn plan_rejoin(registry: &Registry, link: &Link) -> Option<Plan> {
    let plan = stacking::rejoin(registry, link, link.binding()?);
    (!plan.steps.is_empty()).then_some(plan)
}

/// The address that a link had when it was last seen: it is made again with the same one.
fn home_mac(link: &Link) -> Option<HwAddr> {
    let left = link.loan().and_then(|loan| loan.left.as_ref()).and_then(Settings::mac);
    link.record
        .properties
        .persistent
        .mac()
        .or(left)
        .or_else(|| link.record.anchor.as_ref().and_then(|anchor| anchor.mac))
}

/// Ends a virtual link and its record, and the other end of a pair with it, unless others lie over
/// them.
pub fn plan_delete(
    registry: &Registry,
    scope: Scope,
    id: LinkId,
    class: LinkClass,
) -> Result<Plan> {
    let link = known_of(registry, id, class)?;
    for end in ends_of(registry, link) {
        refuse_in_use(registry, scope, link, end)?;
    }
    Ok(plan_end(registry, link))
}

/// Refuses to end a link one end of which others use. A caller in a zone is told neither who holds
/// it, since links are held from `global`, nor of links that it does not see.
fn refuse_in_use(registry: &Registry, scope: Scope, link: &Link, end: &Link) -> Result<()> {
    let untold = |how: &str| {
        let what = if end.record.id == link.record.id { "it" } else { "its other end" };
        let text = format!("{} cannot be deleted: {what} is {how}", title(registry, link));
        Error::new(ErrorCode::Busy, text)
    };
    let is_told_all = scope.sees_zone(ZoneId::GLOBAL);
    refuse_held(registry, end).map_err(|why| if is_told_all { why } else { untold("held") })?;
    stacking::refuse_under_others(registry, scope, end)
        .map_err(|why| if scope.sees(end) { why } else { untold("in use") })
}

fn ends_of<'a>(registry: &'a Registry, link: &'a Link) -> impl Iterator<Item = &'a Link> {
    let peer = link.record.recipe.as_ref().and_then(|recipe| registry.link(recipe.peer?));
    std::iter::once(link).chain(peer.map(Arc::as_ref))
}

/// As [`plan_delete`], whoever lies over it.
pub fn plan_end(registry: &Registry, link: &Link) -> Plan {
    // The kernel deletes both ends of a pair, and others may have taken either one away.
    let delete = ends_of(registry, link).find_map(|end| {
        let forward = Step { at: end.binding()?, action: Action::Delete };
        Some(PlannedStep { id: end.record.id, forward, backward: None })
    });
    Plan {
        changes: ends_of(registry, link).map(|end| LinkChange::end(end.record.id)).collect(),
        steps: delete.into_iter().collect(),
        ..Plan::default()
    }
}

/// A change of the ports of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// Whose ports.
    pub id: LinkId,
    /// What it must be.
    pub class: LinkClass,
    /// Links that become its ports.
    pub add: Vec<LinkId>,
    /// Links that are its ports no more.
    pub remove: Vec<LinkId>,
}

/// Makes links the ports of another one, or no ports of it any more.
pub fn plan_change_ports(registry: &Registry, change: &PortChange) -> Result<Plan> {
    let link = known_of(registry, change.id, change.class)?;
    let at = present(registry, link)?.at();
    refuse_held(registry, link)?;
    let master = Master::of(link, title(registry, link))?;
    if !change.add.is_empty() && !change.remove.is_empty() {
        let text = format!("ports of {} come or go, not both at once", master.title());
        return Err(Error::new(ErrorCode::Invalid, text));
    }
    stacking::refuse_bad_ports(registry, &master, &change.add)?;
    let leaving = stacking::leave(registry, &master, change.id, at, &change.remove)?;
    let joining = stacking::join(registry, &master, change.id, at, &change.add);
    let mut changed = Link::clone(link);
    if let Some(recipe) = &mut changed.record_mut().recipe {
        recipe.ports.retain(|port| !change.remove.contains(port));
        recipe.ports.extend(change.add.iter().copied());
    }
    let changes = std::iter::once(changed.into()).chain(leaving.changes).chain(joining.changes);
    // A restart gives a link the ports that its record names, and takes none away.
    let stored = if change.remove.is_empty() { Stored::First } else { Stored::Last };
    Ok(Plan {
        changes: changes.collect(),
        steps: leaving.steps.into_iter().chain(joining.steps).collect(),
        stored,
        ..Plan::default()
    })
}
