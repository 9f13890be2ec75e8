//! The events that a change of the registry comes to: SPEC.md section 7.

use std::sync::Arc;

use dlmgmt_proto::{Event, LinkId, LinkInfo};

use super::lookup::describe;
use super::registry::Registry;
use crate::model::Link;

/// What subscribers are told when `before` becomes `after`, as far as the links `ids` go.
///
/// A link that comes and goes in one step is not told of, as nobody could have found it.
pub fn events_between(
    before: &Registry,
    after: &Registry,
    ids: impl IntoIterator<Item = LinkId>,
) -> Vec<Event> {
    ids.into_iter()
        .flat_map(|id| {
            let managed = |link: &&Arc<Link>| !link.is_loopback();
            match (before.link(id).filter(managed), after.link(id).filter(managed)) {
                (None, None) => Vec::new(),
                (None, Some(new)) => vec![Event::Added(describe(after, new))],
                (Some(old), None) => vec![gone(before, old)],
                (Some(old), Some(new)) => told(before, old, after, new),
            }
        })
        .collect()
}

/// A link is about to end where it is, unless it is one that nobody is told of.
pub fn detaching(registry: &Registry, link: &Link) -> Option<Event> {
    let LinkInfo { id, name, zone, .. } = describe(registry, link);
    (!link.is_loopback()).then_some(Event::Detaching { id, name, zone })
}

/// A link is as it was, after all.
pub fn changed(registry: &Registry, link: &Link) -> Option<Event> {
    (!link.is_loopback()).then(|| Event::Changed(describe(registry, link)))
}

fn gone(before: &Registry, old: &Link) -> Event {
    let LinkInfo { id, name, zone, .. } = describe(before, old);
    Event::Gone { id, name, zone }
}

fn told(before: &Registry, old: &Link, after: &Registry, new: &Link) -> Vec<Event> {
    let (was, is) = (describe(before, old), describe(after, new));
    match (&old.kernel, &new.kernel) {
        (Some(_), None) => return vec![Event::Removed(is)],
        (None, Some(_)) => return vec![Event::Added(is)],
        _ => {}
    }
    let mut events = Vec::new();
    if was.zone != is.zone {
        events.push(Event::Moved { from: was.zone.clone(), link: is.clone() });
    }
    let is_renamed = was.name != is.name;
    if is_renamed {
        events.push(Event::Renamed { from: was.name, link: is.clone() });
    }
    if was.state != is.state {
        events.push(Event::State {
            id: is.id,
            name: is.name,
            zone: is.zone.clone(),
            state: is.state,
        });
    }
    let told_already = LinkInfo {
        name: is.name,
        device: if is_renamed { is.device } else { was.device },
        zone: is.zone.clone(),
        state: is.state,
        ..was
    };
    if told_already != is {
        events.push(Event::Changed(is));
    }
    events
}
