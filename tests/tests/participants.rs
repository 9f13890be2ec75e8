//! Who takes part in zone ends: SPEC.md section 7.

use dlmgmt_proto::door::Subscribe;
use dlmgmt_proto::{Event, ZoneId};
use dlmgmt_tests::{Host, eventually};
use libdlmgmt::Subscription;

fn participate(host: &Host) -> Subscription {
    let call = Subscribe { snapshot: true, since: None, participant: true };
    host.with_client(|door| door.subscribe(call)).unwrap()
}

/// The next event that `wanted` has an answer for.
#[track_caller]
fn next<T>(events: &mut Subscription, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let next = events.find_map(|event| wanted(&event.unwrap().event));
    next.expect("the event comes")
}

fn shutting_down(event: &Event) -> Option<ZoneId> {
    match event {
        Event::ZoneShuttingDown(zone) => Some(zone.id),
        Event::ZoneGone { .. } => panic!("gone before it was shutting down"),
        _ => None,
    }
}

#[test]
fn a_zone_ends_when_its_participants_have_acknowledged() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    let mut events = participate(&host);
    host.ip("netns delete web");
    let zone = next(&mut events, shutting_down);
    assert_eq!(host.zones()["web"], "shutting-down");
    host.dladm("hold web/a -- true").refused("shutting-down");
    events.acknowledge(zone).unwrap();
    next(&mut events, |event| {
        matches!(event, Event::ZoneGone { id, .. } if *id == zone).then_some(())
    });
    host.await_at("global/a", id);
}

#[test]
fn a_participant_that_never_acknowledges_does_not_hold_a_zone_up() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    let mut events = participate(&host);
    host.ip("netns delete web");
    next(&mut events, shutting_down);
    host.await_down("web");
    host.await_at("global/a", id);
}

#[test]
fn a_participant_that_leaves_is_not_waited_for() {
    let host = Host::with_zones(&["web"]);
    let mut events = participate(&host);
    host.ip("netns delete web");
    next(&mut events, shutting_down);
    drop(events);
    host.await_down("web");
}

#[test]
fn a_late_participant_is_told_of_the_zones_that_there_are_first() {
    let host = Host::with_zones(&["web", "db"]);
    let mut events = participate(&host);
    let mut told = Vec::new();
    loop {
        match events.next().unwrap().unwrap().event {
            Event::ZoneReady(zone) => told.push(zone.name.as_str().to_owned()),
            Event::SnapshotEnd => break,
            Event::Snapshot(_) => {}
            other => panic!("before the snapshot's end: {other:?}"),
        }
    }
    told.retain(|zone| zone != "global");
    told.sort_unstable();
    assert_eq!(told, ["db", "web"]);
}

#[test]
fn every_zone_is_acknowledged_by_itself() {
    let host = Host::with_zones(&["web", "db"]);
    let mut events = participate(&host);
    host.ip("netns delete web");
    let web = next(&mut events, shutting_down);
    host.ip("netns delete db");
    let db = next(&mut events, |event| shutting_down(event).filter(|zone| *zone != web));
    events.acknowledge(db).unwrap();
    events.acknowledge(web).unwrap();
    eventually("both ended", || !host.is_ready("web") && !host.is_ready("db"));
}
