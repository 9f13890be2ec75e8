//! Zones come and go: SPEC.md section 6.

use std::sync::Arc;

use dlmgmt_proto::{
    Error, ErrorCode, Event, LinkClass, Result, ZoneId, ZoneInfo, ZoneName, ZoneState,
};

use super::events::detaching;
use super::plan::{LinkChange, Plan};
use super::registry::Registry;
use crate::model::{
    AttachedBy, Attachment, Bound, Lifetime, Link, Location, NsCookie, Zone, ZoneRecord, ZoneUp,
};

/// The zone of that name, made up with a number of its own if there never was one.
pub fn zone_named(registry: &Registry, name: &ZoneName) -> Zone {
    let known = registry.zone_by_name(name).and_then(|id| registry.zone(id));
    known.map_or_else(
        || Zone {
            record: ZoneRecord { id: registry.fresh_zone_id(), name: name.clone(), attached: None },
            up: None,
        },
        |zone| Zone::clone(zone),
    )
}

/// The zone with its namespace, and how it is found again if a client registered it.
pub fn plan_zone_up(
    registry: &Registry,
    name: &ZoneName,
    up: ZoneUp,
    by: Option<AttachedBy>,
) -> Plan {
    let mut zone = zone_named(registry, name);
    zone.record.attached = by.map(|by| Attachment { ns: up.ns, by });
    zone.up = Some(up);
    Plan { zones: vec![zone], ..Plan::default() }
}

/// The zone is ending: nothing new is lent to it or made in it.
pub fn plan_zone_ending(registry: &Registry, zone: ZoneId) -> Plan {
    let ending = registry.zone(zone).map(|zone| {
        let mut zone = Zone::clone(zone);
        zone.up = zone.up.map(|up| ZoneUp { is_ending: true, ..up });
        zone
    });
    Plan { zones: ending.into_iter().collect(), ..Plan::default() }
}

/// Nothing new begins in a zone that is ending.
pub fn refuse_ending(registry: &Registry, zone: ZoneId) -> Result<()> {
    let up = registry.zone(zone).and_then(|zone| zone.up.as_ref());
    if !up.is_some_and(|up| up.is_ending) {
        return Ok(());
    }
    let text = format!("zone {} is shutting down", registry.zone_label(zone));
    Err(Error::new(ErrorCode::ShuttingDown, text))
}

/// The zone has ended: what is still in its namespace is not ours to show any more.
pub fn plan_zone_down(registry: &Registry, zone: ZoneId) -> Plan {
    let Some(known) = registry.zone(zone) else { return Plan::default() };
    let ns = known.up.as_ref().map(|up| up.ns);
    let inside = registry.links().filter(|link| {
        link.record.owner == zone || ns.is_some() && link.kernel.as_ref().map(|b| b.ns) == ns
    });
    let changes = inside.map(|link| left_behind(link, ns, Some(zone))).collect();
    let record = ZoneRecord { attached: None, ..known.record.clone() };
    let down = Zone { record, up: None };
    Plan { zones: vec![down], changes, ..Plan::default() }
}

/// A namespace that was no zone is gone, and with it what somebody moved there.
pub fn plan_space_lost(registry: &Registry, ns: NsCookie) -> Plan {
    let inside = registry.bound_in(ns).filter_map(|(_, id)| registry.link(id));
    let changes = inside.map(|link| left_behind(link, Some(ns), None)).collect();
    Plan { changes, ..Plan::default() }
}

/// What becomes of a link whose namespace, or owner, is gone or no zone any more.
///
/// Hardware that was first seen there will be found again where the kernel puts it.
fn left_behind(link: &Link, ns: Option<NsCookie>, zone: Option<ZoneId>) -> LinkChange {
    let is_orphan = Some(link.record.owner) == zone;
    let elsewhere = link.kernel.as_ref().filter(|bound| Some(bound.ns) != ns);
    let is_phys = link.record.class == LinkClass::Phys;
    match (elsewhere, link.record.lifetime) {
        (Some(bound), Lifetime::Persistent | Lifetime::Temporary) if is_orphan => {
            adopted(link, bound).into()
        }
        (_, Lifetime::Persistent) if !is_orphan => Link { kernel: None, ..link.clone() }.into(),
        (None, Lifetime::Persistent) if is_phys => {
            let mut fallen = Link { kernel: None, ..link.clone() };
            fallen.record_mut().owner = ZoneId::GLOBAL;
            fallen.into()
        }
        _ => LinkChange::end(link.record.id),
    }
}

/// A link whose owner ended while it was lent is the borrower's, and called what it is called there.
fn adopted(link: &Link, bound: &Bound) -> Link {
    let mut adopted = link.clone();
    let record = adopted.record_mut();
    record.owner = bound.zone.unwrap_or(ZoneId::GLOBAL);
    record.name = bound.name;
    record.location = Location::Home;
    record.generation.0 += 1;
    adopted
}

/// All that a client is told of a zone.
pub fn describe_zone(registry: &Registry, zone: &Zone) -> ZoneInfo {
    let inside =
        registry.links().filter(|link| !link.is_loopback() && link.place() == Some(zone.record.id));
    let up = zone.up.as_ref();
    ZoneInfo {
        id: zone.record.id,
        name: zone.record.name.clone(),
        state: match up {
            Some(up) if up.is_ending => ZoneState::ShuttingDown,
            Some(_) => ZoneState::Ready,
            None => ZoneState::Down,
        },
        // A zone has fewer links than u32::MAX, since linkids are u32.
        links: u32::try_from(inside.count()).unwrap_or(u32::MAX),
        pid: up.and_then(|up| up.pid),
        netns: up.and_then(|up| up.path.clone()),
    }
}

/// Whether a zone is one to show: it is up, or links wait for it.
pub fn is_shown(registry: &Registry, zone: &Zone) -> bool {
    zone.up.is_some() || registry.lent_to(zone.record.id).next().is_some()
}

/// What subscribers are told of a zone, and of what ends with it, when `before` becomes `after`.
pub fn zone_events(before: &Registry, after: &Registry, zone: ZoneId) -> Vec<Event> {
    let state = |registry: &Registry| {
        let up = registry.zone(zone)?.up.as_ref()?;
        Some(up.is_ending)
    };
    let info = || after.zone(zone).map(|zone| describe_zone(after, zone));
    match (state(before), state(after)) {
        (before, after) if before == after => Vec::new(),
        (_, Some(false)) => info().map(Event::ZoneReady).into_iter().collect(),
        (_, Some(true)) => {
            let ending = info().map(Event::ZoneShuttingDown);
            ending.into_iter().chain(detaching_with(after, zone)).collect()
        }
        (_, None) => vec![Event::ZoneGone { id: zone, name: after.zone_label(zone) }],
    }
}

/// A zone's end takes the links that are in it from there, and ends its transient ones wherever
/// they are.
fn detaching_with(registry: &Registry, zone: ZoneId) -> impl Iterator<Item = Event> {
    let leaves = move |link: &&Arc<Link>| {
        let is_own = link.record.lifetime == Lifetime::Transient && link.record.owner == zone;
        link.kernel.is_some() && (link.place() == Some(zone) || is_own)
    };
    registry.links().filter(leaves).filter_map(|link| detaching(registry, link))
}

/// What of an earlier run of the daemon is lost, once every namespace was looked at: links that
/// were not persistent and were not found again.
pub fn plan_forget_lost(registry: &Registry) -> Plan {
    let lost = registry
        .links()
        .filter(|link| link.kernel.is_none() && link.record.lifetime != Lifetime::Persistent);
    let changes = lost.map(|link| LinkChange::end(link.record.id)).collect();
    Plan { changes, ..Plan::default() }
}
