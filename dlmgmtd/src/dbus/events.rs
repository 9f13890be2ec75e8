//! Past events, for who missed them.

use std::collections::BTreeMap;

use dlmgmt_proto::{Event, LinkInfo, SequencedEvent};
use futures_util::FutureExt;
use zbus::Variant;

use super::object::{Properties, link_path, link_properties, zone_path, zone_properties};
use crate::engine::EventStream;

/// What is told of one event: its number, its kind, and the rest by name.
pub type Told = (u64, &'static str, BTreeMap<&'static str, Variant<'static>>);

/// The events that wait in a stream.
pub fn waiting(mut stream: Box<dyn EventStream>) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(Some(SequencedEvent { seq, event })) = stream.next().now_or_never() {
        told.push((seq.0, event.kind().as_str(), details(&event)));
    }
    told
}

fn details(event: &Event) -> BTreeMap<&'static str, Variant<'static>> {
    match event {
        Event::Snapshot(link)
        | Event::Added(link)
        | Event::Changed(link)
        | Event::Removed(link) => of_link(link),
        Event::Renamed { from, link } => with_from(link, from.to_string()),
        Event::Moved { from, link } => with_from(link, from.to_string()),
        Event::State { id, name, zone, state } => BTreeMap::from([
            ("Object", link_path(*id).into()),
            ("Name", name.to_string().into()),
            ("Zone", zone.to_string().into()),
            ("State", state.to_string().into()),
        ]),
        Event::Gone { id, name, zone }
        | Event::HoldBroken { id, name, zone }
        | Event::Detaching { id, name, zone } => BTreeMap::from([
            ("Object", link_path(*id).into()),
            ("Name", name.to_string().into()),
            ("Zone", zone.to_string().into()),
        ]),
        Event::ZoneReady(zone) | Event::ZoneShuttingDown(zone) => {
            let mut told: Properties = zone_properties(zone);
            told.insert("Object", zone_path(zone.id).into());
            told
        }
        Event::ZoneGone { id, name } => {
            BTreeMap::from([("Object", zone_path(*id).into()), ("Name", name.to_string().into())])
        }
        Event::Lost { count, .. } => BTreeMap::from([("Count", (*count).into())]),
        Event::SnapshotEnd | Event::Resync => BTreeMap::new(),
    }
}

fn of_link(link: &LinkInfo) -> Properties {
    let mut told = link_properties(link);
    told.insert("Object", link_path(link.id).into());
    told
}

fn with_from(link: &LinkInfo, from: String) -> Properties {
    let mut told = of_link(link);
    told.insert("From", from.into());
    told
}
