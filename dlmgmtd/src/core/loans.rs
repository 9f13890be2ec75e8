//! Links are lent to zones, and come home: SPEC.md section 6.

use std::sync::Arc;

use dlmgmt_proto::kind::LinkKind;
use dlmgmt_proto::{Error, ErrorCode, Generation, LinkId, LinkName, Result, ZoneId};

use super::lookup::{Scope, known, title};
use super::plan::{Plan, PlannedStep, Stored};
use super::properties::{changes_to, steps};
use super::registry::Registry;
use super::rename::refuse_held;
use super::stacking::uses;
use super::zones::refuse_ending;
use crate::model::{
    Action, AltName, Bound, Link, Loan, Location, NsCookie, Settings, Step, Zone, ZoneUp,
};

/// A link that is to be lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lend {
    /// Which link.
    pub id: LinkId,
    /// Where it is to be.
    pub zone: ZoneId,
    /// Its name there; `None` for its own.
    pub name_inside: Option<LinkName>,
    /// Whether the loan outlives the zone's end.
    pub is_persistent: bool,
    /// Also if somebody uses it.
    pub force: bool,
    /// The generation that the caller knows.
    pub generation: Option<Generation>,
}

/// A link that is to come home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// Which link.
    pub id: LinkId,
    /// Whether a persistent loan stays as it is, for when the zone comes up anew.
    pub keeps_loan: bool,
    /// Also if somebody uses it.
    pub force: bool,
    /// The generation that the caller knows.
    pub generation: Option<Generation>,
}

/// Lends a link: it moves now if the zone is up, else whenever the zone comes up.
///
/// `addresses` are those that the link has now.
pub fn plan_lend(registry: &Registry, lend: &Lend, addresses: &[String]) -> Result<Plan> {
    let link = known(registry, lend.id)?;
    refuse_stale(registry, link, lend.generation)?;
    refuse_pinned(registry, link)?;
    refuse_held(registry, link)?;
    if !lend.force {
        refuse_used(registry, link, addresses)?;
    }
    refuse_ending(registry, lend.zone)?;
    let zone = registry.zone(lend.zone).ok_or_else(|| no_zone(registry, lend.zone))?;
    let name_inside = lend.name_inside.unwrap_or(link.record.name);
    let mut lent = Link::clone(link);
    let left = link.loan().and_then(|loan| loan.left.clone());
    let is_persistent = lend.is_persistent;
    let record = lent.record_mut();
    record.generation.0 += 1;
    record.location = Location::OnLoan(Loan { zone: lend.zone, name_inside, is_persistent, left });
    match &zone.up {
        Some(up) => lend_now(registry, link, lent, up.ns, zone, name_inside),
        None if !is_persistent => {
            Err(Error::new(ErrorCode::NoZone, format!("zone {} is down", zone.record.name)))
        }
        None => lend_later(registry, link, &lent),
    }
}

/// While the zone is down the link is at home, wherever it was before.
fn lend_later(registry: &Registry, link: &Link, lent: &Link) -> Result<Plan> {
    let mut plan = plan_home_coming(registry, link, false)?;
    for home in plan.changes.iter_mut().filter_map(|change| change.after.as_mut()) {
        let record = home.record_mut();
        record.location = lent.record.location.clone();
        if let Location::OnLoan(loan) = &mut record.location {
            loan.left = None;
        }
    }
    Ok(plan)
}

fn lend_now(
    registry: &Registry,
    link: &Arc<Link>,
    mut lent: Link,
    ns: NsCookie,
    zone: &Zone,
    name: LinkName,
) -> Result<Plan> {
    let Some(bound) = &link.kernel else {
        return Ok(Plan { changes: vec![lent.into()], ..Plan::default() });
    };
    if bound.ns == ns && bound.name == name {
        return Ok(Plan { changes: vec![lent.into()], ..Plan::default() });
    }
    refuse_taken_inside(registry, link, zone, name)?;
    if let Location::OnLoan(loan) = &mut lent.record_mut().location
        && link.is_at_home()
    {
        // One whose return was cut short is not yet as it was.
        loan.left.get_or_insert_with(|| Settings::at_home(bound));
    }
    let step = |action| Step { at: bound.at(), action };
    let forward = if bound.ns == ns {
        step(Action::Rename(name))
    } else {
        step(Action::Move { to: ns, name })
    };
    let backward = if bound.ns == ns {
        step(Action::Rename(bound.name))
    } else {
        step(Action::Move { to: bound.ns, name: bound.name })
    };
    lent.kernel = Some(Bound {
        ns,
        zone: Some(zone.record.id),
        link: bound
            .renamed(name)
            .with(|kernel| {
                kernel.admin_up = false;
                kernel.master = None;
            })
            .link,
    });
    let id = link.record.id;
    let mut steps = giving_up(link, bound, |altname| altname.is(&name));
    steps.push(PlannedStep { id, forward, backward: Some(backward) });
    Ok(Plan { changes: vec![lent.into()], steps, equips: vec![id], ..Plan::default() })
}

/// Brings a link home: under its own name, and as it was when it left.
pub fn plan_recall(registry: &Registry, recall: &Recall, addresses: &[String]) -> Result<Plan> {
    let link = known(registry, recall.id)?;
    refuse_stale(registry, link, recall.generation)?;
    if link.loan().is_none() && (link.kernel.is_none() || link.is_at_home()) {
        let text = format!("{} is at home", title(registry, link));
        return Err(Error::new(ErrorCode::Invalid, text));
    }
    refuse_held(registry, link)?;
    if !recall.force && !link.is_at_home() {
        refuse_used(registry, link, addresses)?;
    }
    plan_home_coming(registry, link, recall.keeps_loan)
}

/// As [`plan_recall`], with nobody to ask: the end of a zone overrides holds and use.
pub fn plan_home_coming(registry: &Registry, link: &Link, keeps_loan: bool) -> Result<Plan> {
    let mut home = link.clone();
    home.record_mut().generation.0 += 1;
    let left = take_loan(registry, &mut home, keeps_loan);
    let Some(bound) = &link.kernel else {
        return Ok(Plan { changes: vec![home.into()], ..Plan::default() });
    };
    if link.is_at_home() {
        return Ok(plan_restoring(registry, home, bound, left));
    }
    let owner = registry.zone(link.record.owner).and_then(|zone| zone.up.as_ref());
    let Some(ZoneUp { ns, .. }) = owner else {
        return Err(no_zone(registry, link.record.owner));
    };
    let name = registry.name_at_home(link);
    // Also a link that somebody else made was lent under its own name, and is owed that again.
    let record = home.record_mut();
    record.unsettled |= name != record.name;
    let is_taken =
        |altname: &AltName| altname.is(&name) || is_taken_at_home(registry, link, altname);
    let mut was = left.unwrap_or_else(|| Settings::at_home(bound));
    was.keep_altnames(|altname| !is_taken(altname));
    let id = link.record.id;
    let mut steps = giving_up(link, bound, is_taken);
    let moved = bound.with(|kernel| {
        kernel.name = name;
        kernel.altnames.retain(|altname| !is_taken(altname));
    });
    steps.push(PlannedStep {
        id,
        forward: Step { at: bound.at(), action: Action::Move { to: *ns, name } },
        backward: Some(Step {
            at: bound.at(),
            action: Action::Move { to: bound.ns, name: bound.name },
        }),
    });
    steps.extend(restoring(link, &moved, &was));
    let link = restored(&moved, &was).link;
    home.kernel = Some(Bound { ns: *ns, zone: Some(home.record.owner), link });
    let stored = Stored::Last;
    Ok(Plan { changes: vec![home.into()], steps, equips: vec![id], stored, ..Plan::default() })
}

/// The kernel refuses a link a name, or a place, where one of its alternative names is taken: it gives
/// those up first.
fn giving_up(link: &Link, bound: &Bound, is_taken: impl Fn(&AltName) -> bool) -> Vec<PlannedStep> {
    let step = |action| Step { at: bound.at(), action };
    let taken = bound.altnames.iter().filter(|altname| is_taken(altname));
    taken
        .map(|altname| PlannedStep {
            id: link.record.id,
            forward: step(Action::DropAltName(altname.clone())),
            backward: Some(step(Action::AddAltName(altname.clone()))),
        })
        .collect()
}

/// Whether another link has that name, as its own or beside it, where this one is at home.
fn is_taken_at_home(registry: &Registry, link: &Link, altname: &AltName) -> bool {
    let home = link.record.owner;
    let is_there = |id: &LinkId| registry.link(*id).is_some_and(|it| it.place() == Some(home));
    let name = LinkName::found(&altname.0).ok();
    let named = name.and_then(|name| registry.by_name(home, name)).filter(is_there);
    let others = [named, registry.with_altname(home, altname)];
    others.into_iter().flatten().any(|other| other != link.record.id)
}

/// A link that is at home again, though not by this daemon's hand or not to the end, becomes as it
/// was when it left.
fn plan_restoring(
    registry: &Registry,
    mut home: Link,
    bound: &Bound,
    left: Option<Settings>,
) -> Plan {
    let mut steps = Vec::new();
    if let Some(mut was) = left {
        was.keep_altnames(|altname| !is_taken_at_home(registry, &home, altname));
        steps = restoring(&home, bound, &was);
        home.kernel = Some(restored(bound, &was));
    }
    let (equips, stored) = (vec![home.record.id], Stored::Last);
    Plan { changes: vec![home.into()], steps, equips, stored, ..Plan::default() }
}

/// Whether an earlier run of the daemon would have brought the link home, or to how it was at home:
/// its zone ended meanwhile.
pub fn is_overdue(registry: &Registry, link: &Link) -> bool {
    let Some(loan) = link.loan() else { return false };
    let is_down = registry.zone(loan.zone).is_none_or(|zone| zone.up.is_none());
    is_down && (loan.left.is_some() || !loan.is_persistent)
}

/// Ends the loan or, if it is persistent and is to be kept, makes it wait for the zone to come up
/// anew.
fn take_loan(registry: &Registry, link: &mut Link, keeps_loan: bool) -> Option<Settings> {
    let mut loan = link.loan()?.clone();
    let left = loan.left.take();
    let up = registry.zone(loan.zone).and_then(|zone| zone.up.as_ref());
    link.record_mut().location = match up.filter(|up| !up.is_ending) {
        _ if !(keeps_loan && loan.is_persistent) => Location::Home,
        Some(up) => Location::Recalled { loan, from: up.ns },
        None => Location::OnLoan(loan),
    };
    left
}

/// What brings a link at home to how it was when it left. One that was just moved is down, and is
/// put up even if it was so before.
fn restoring(link: &Link, now: &Bound, was: &Settings) -> Vec<PlannedStep> {
    let moved = now.with(|kernel| kernel.admin_up = false);
    steps(link.record.id, now.at(), changes_to(&moved, was))
}

/// The link as the kernel will have it then.
fn restored(now: &Bound, was: &Settings) -> Bound {
    now.with(|kernel| was.iter().for_each(|(of, value)| kernel.take_setting(of, value)))
}

fn no_zone(registry: &Registry, zone: ZoneId) -> Error {
    Error::new(ErrorCode::NoZone, format!("zone {} is not up", registry.zone_label(zone)))
}

/// A late request does nothing, so that it never hurts the link's next user.
pub fn refuse_stale(registry: &Registry, link: &Link, known: Option<Generation>) -> Result<()> {
    let now = link.record.generation;
    if known.is_none_or(|known| known == now) {
        return Ok(());
    }
    let text = format!("{} is of generation {} by now", title(registry, link), now.0);
    Err(Error::new(ErrorCode::Stale, text))
}

fn refuse_pinned(registry: &Registry, link: &Link) -> Result<()> {
    let kind = link.record.kind.as_deref().and_then(LinkKind::of_kernel);
    let why = match kind.and_then(|kind| kind.pinned) {
        _ if link.is_loopback() => "every zone has a loopback device of its own",
        Some(why) => why,
        None => return Ok(()),
    };
    let text = format!("{} cannot be lent: {why}", title(registry, link));
    Err(Error::new(ErrorCode::NotSupported, text))
}

fn refuse_used(registry: &Registry, link: &Link, addresses: &[String]) -> Result<()> {
    let mut users = uses(registry, Scope::GLOBAL, link);
    users.extend(addresses.iter().map(|address| format!("address {address}")));
    if users.is_empty() {
        return Ok(());
    }
    let text = format!("{} is in use: {}", title(registry, link), users.join(", "));
    Err(Error::new(ErrorCode::Busy, text))
}

fn refuse_taken_inside(
    registry: &Registry,
    link: &Link,
    zone: &Zone,
    name: LinkName,
) -> Result<()> {
    let id = zone.record.id;
    let has = registry.by_name(id, name).filter(|other| *other != link.record.id);
    if has.is_none() && registry.by_altname(id, &name).is_none_or(|other| other == link.record.id) {
        return Ok(());
    }
    let text = format!(
        "{} cannot be lent to zone {}: {name} is taken there",
        title(registry, link),
        zone.record.name
    );
    Err(Error::new(ErrorCode::Exists, text))
}
