//! What the bus is told: each commit's changes, with the new values.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dlmgmt_proto::door::{LinkFilter, Subscribe};
use dlmgmt_proto::{Event, LinkId, LinkInfo, Result, Seq, SequencedEvent, ZoneId, ZoneInfo};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, Message, ObjectPath};

use super::object::{
    Properties, ROOT, changed, link_path, link_properties, zone_path, zone_properties,
};
use super::table::{
    Emits, Interface, LINK_INTERFACE, MANAGER, OBJECT_MANAGER, PROPERTIES, ZONE_INTERFACE,
};
use crate::engine::{Caller, EventStream, Service, Snapshot};

/// Tells the bus of everything that happens from now on, until the future is dropped.
pub(super) fn start(
    connection: Connection,
    service: Arc<dyn Service>,
) -> std::result::Result<impl Future<Output = ()>, zbus::Error> {
    let wish = Subscribe { snapshot: false, since: None, participant: false };
    let refused = |why: dlmgmt_proto::Error| zbus::Error::Failure(why.to_string());
    let (_, stream) = service.subscribe(&Caller::daemon(), &wish).map_err(refused)?;
    let now = service.snapshot();
    let zones = zones_of(service.as_ref());
    let (before, after, compared) = (now.clone(), now, BTreeSet::new());
    Ok(Herald { connection, service, stream, before, after, compared, zones }.run())
}

type Signal = zbus::Result<Message>;

struct Herald {
    connection: Connection,
    service: Arc<dyn Service>,
    stream: Box<dyn EventStream>,
    /// What the bus was told of, but for the links that are compared with `after` already.
    before: Arc<dyn Snapshot>,
    /// What there was when an event came that `before` does not show.
    after: Arc<dyn Snapshot>,
    compared: BTreeSet<LinkId>,
    zones: HashMap<ZoneId, ZoneInfo>,
}

impl Herald {
    async fn run(mut self) {
        while let Some(event) = self.stream.next().await {
            for signal in self.signals(&event) {
                if let Err(why) = send(&self.connection, signal).await {
                    tracing::debug!("the bus cannot be told: {why}");
                }
            }
        }
    }

    fn signals(&mut self, SequencedEvent { seq, event }: &SequencedEvent) -> Vec<Signal> {
        let mut signals: Vec<_> = of_zone(event, None).into_iter().collect();
        if let Event::HoldBroken { id, name, zone } | Event::Detaching { id, name, zone } = event {
            let signal = match event {
                Event::Detaching { .. } => "LinkDetaching",
                _ => "HoldBroken",
            };
            let told = (id.get(), name.to_string(), zone.to_string());
            signals.push(message(ROOT, MANAGER.name, signal, None, &told));
        }
        match event {
            Event::Lost { .. } | Event::Resync => {
                signals.extend(self.link_signals(self.all_ids()));
                self.advance_to(*seq);
                signals.extend(self.link_signals(self.all_ids()));
                signals.extend(self.zone_signals());
            }
            Event::ZoneReady(_) | Event::ZoneShuttingDown(_) | Event::ZoneGone { .. } => {
                signals.extend(self.zone_signals());
            }
            event => {
                self.advance_to(*seq);
                signals.extend(self.link_signals(link_of(event)));
            }
        }
        signals
    }

    /// Takes a new snapshot where the last one does not show that event. It shows all events before,
    /// so all links that differ were compared.
    fn advance_to(&mut self, seq: Seq) {
        if self.after.seq() < seq {
            self.before = std::mem::replace(&mut self.after, self.service.snapshot());
            self.compared.clear();
        }
    }

    /// What is new of these links, unless that was told already.
    fn link_signals(&mut self, ids: impl IntoIterator<Item = LinkId>) -> Vec<Signal> {
        let ids = ids.into_iter().filter(|id| self.compared.insert(*id));
        ids.filter_map(|id| of_link(id, self.before.as_ref(), self.after.as_ref())).collect()
    }

    fn all_ids(&self) -> BTreeSet<LinkId> {
        [&self.before, &self.after].into_iter().flat_map(|links| all_ids(links.as_ref())).collect()
    }

    fn zone_signals(&mut self) -> Vec<Signal> {
        let now = zones_of(self.service.as_ref());
        let before = std::mem::replace(&mut self.zones, now);
        let ids = before.keys().chain(self.zones.keys().filter(|id| !before.contains_key(id)));
        let properties = |zone: Option<&ZoneInfo>| zone.map(zone_properties);
        ids.filter_map(|id| {
            let (was, is) = (properties(before.get(id)), properties(self.zones.get(id)));
            of_object(&zone_path(*id), &ZONE_INTERFACE, was, is)
        })
        .collect()
    }
}

fn link_of(event: &Event) -> Option<LinkId> {
    match event {
        Event::Added(link)
        | Event::Renamed { link, .. }
        | Event::Moved { link, .. }
        | Event::Changed(link)
        | Event::Removed(link) => Some(link.id),
        Event::State { id, .. } | Event::Gone { id, .. } | Event::HoldBroken { id, .. } => {
            Some(*id)
        }
        _ => None,
    }
}

fn zones_of(service: &dyn Service) -> HashMap<ZoneId, ZoneInfo> {
    let zones = service.list_zones(&Caller::daemon()).unwrap_or_default();
    zones.into_iter().map(|zone| (zone.id, zone)).collect()
}

fn all_ids(snapshot: &dyn Snapshot) -> Vec<LinkId> {
    let all = snapshot.list(&Caller::daemon(), &LinkFilter::everything(), None, usize::MAX);
    all.unwrap_or_default().into_iter().map(|link| link.id).collect()
}

fn of_link(id: LinkId, before: &dyn Snapshot, after: &dyn Snapshot) -> Option<Signal> {
    let properties =
        |link: Result<Option<LinkInfo>>| link.ok().flatten().as_ref().map(link_properties);
    let caller = Caller::daemon();
    let (was, is) = (properties(before.link(&caller, id)), properties(after.link(&caller, id)));
    of_object(&link_path(id), &LINK_INTERFACE, was, is)
}

/// What is told of an object that had some properties and has others now.
fn of_object(
    path: &ObjectPath<'_>,
    interface: &Interface,
    was: Option<Properties>,
    is: Option<Properties>,
) -> Option<Signal> {
    match (was, is) {
        (None, Some(is)) => {
            let interfaces = HashMap::from([(interface.name, is)]);
            let told = (path, interfaces);
            Some(message(ROOT, OBJECT_MANAGER.name, "InterfacesAdded", None, &told))
        }
        (Some(_), None) => {
            let told = (path, &[interface.name][..]);
            Some(message(ROOT, OBJECT_MANAGER.name, "InterfacesRemoved", None, &told))
        }
        (Some(was), Some(is)) => {
            let mut changed = changed(was, is);
            changed.retain(|name, _| {
                interface.properties.iter().any(|p| p.name == *name && p.emits == Emits::Value)
            });
            if changed.is_empty() {
                return None;
            }
            let invalidated: [&str; 0] = [];
            let told = (interface.name, changed, &invalidated[..]);
            Some(message(path, PROPERTIES.name, "PropertiesChanged", None, &told))
        }
        (None, None) => None,
    }
}

/// What the manager tells of zones, to everybody or to one alone.
pub(super) fn of_zone(event: &Event, to: Option<&OwnedUniqueName>) -> Option<Signal> {
    let (name, id, zone) = match event {
        Event::ZoneReady(zone) => ("ZoneReady", zone.id, &zone.name),
        Event::ZoneShuttingDown(zone) => ("ZoneShuttingDown", zone.id, &zone.name),
        Event::ZoneGone { id, name } => ("ZoneGone", *id, name),
        _ => return None,
    };
    Some(message(ROOT, MANAGER.name, name, to, &(id.0, zone.to_string())))
}

pub(super) async fn send(connection: &Connection, signal: Signal) -> zbus::Result<()> {
    connection.send(&signal?).await
}

fn message<B: serde::Serialize + zbus::DynamicType>(
    path: &str,
    interface: &str,
    name: &str,
    to: Option<&OwnedUniqueName>,
    body: &B,
) -> Signal {
    let mut signal = Message::signal(path, interface, name);
    if let Some(to) = to {
        signal = signal.destination(to);
    }
    signal.build(body)
}
