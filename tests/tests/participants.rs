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
    events.acknowledge(zone).unwrap();
    next(&mut events, |event| {
        matches!(event, Event::ZoneGone { id, .. } if *id == zone).then_some(())
    });
    host.await_at("global/a", id);
}

#[test]
fn a_loan_is_inside_while_its_zone_shuts_down_and_home_when_it_is_gone() {
    let host = Host::with_zones(&[]);
    let (id, guest) = (host.ids()["a"], host.guest());
    host.dladm(&format!("attach-zone --pid {} guest", guest.pid())).ok();
    host.dladm("set-zone -n eth0 a guest").ok();
    let mut events = participate(&host);
    std::thread::scope(|scope| {
        scope.spawn(|| host.dladm("detach-zone guest").ok());
        let zone = next(&mut events, shutting_down);
        assert_eq!(host.kernel_of(&guest), ["eth0"]);
        assert_eq!(host.everywhere()["guest/eth0"], id);
        events.acknowledge(zone).unwrap();
        next(&mut events, |event| matches!(event, Event::ZoneGone { .. }).then_some(()));
        assert!(host.kernel_of(&guest).is_empty());
        assert_eq!(host.agreed()["a"].0, id);
    });
}

#[test]
fn what_is_new_in_a_zone_that_shuts_down_is_refused_at_once() {
    let host = Host::with_zones(&["web"]);
    host.dladm("set-zone a web").ok();
    let mut events = participate(&host);
    host.ip("netns delete web");
    let zone = next(&mut events, shutting_down);
    for words in [
        "set-zone b web",
        "set-zone -t b web",
        "create-veth -t -z web t0 t1",
        "create-veth -t -Z web t0 t1",
        "create-vnic -t -z web -l b t0",
        "hold web/a -- true",
    ] {
        let line = host.dladm(words).refused("shutting-down");
        assert!(line.contains("zone web"), "{line}");
    }
    assert_eq!(host.zones()["web"], "shutting-down", "somebody waited for the end");
    events.acknowledge(zone).unwrap();
    host.await_down("web");
    host.agreed();
}

#[test]
fn a_subscriber_inside_an_ending_zone_is_told_of_it_to_the_end() {
    let host = Host::with_zones(&["web"]);
    host.ip("link add name probe type veth peer name inside netns web");
    host.dladm("set-zone a web").ok();
    host.dladm("create-veth -t -z web eth0 web0").ok();
    let monitor = host.monitor_in("web", "");
    eventually("the monitor tells changes", || {
        host.ip_in("web", "link add name marker type bridge");
        host.ip_in("web", "link delete dev marker");
        !monitor.so_far().is_empty()
    });
    host.ip("netns delete web");
    monitor.wait_for("its last hour", |line| line.contains(" zone-shutting-down web "));
    monitor.wait_for("the loan's return", |line| line.contains(" moved a "));
    monitor.wait_for("the end", |line| line.contains(" zone-gone web "));
    assert_eq!(monitor.wait_for_end(), Some(1));
    eventually("the namespace died", || !host.kernel().contains_key("probe"));
    host.await_down("web");
    assert!(host.agreed().into_keys().eq(["a", "b"]));
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
fn a_zone_that_waits_for_its_participants_holds_up_no_other_not_even_by_its_name() {
    let host = Host::with_zones(&["web"]);
    let mut events = participate(&host);
    host.ip("netns delete web");
    let zone = next(&mut events, shutting_down);
    host.ip("netns add web");
    host.add_zone("db");
    assert_eq!(host.zones()["web"], "shutting-down");
    events.acknowledge(zone).unwrap();
    host.await_ready("web");
    host.end_zone("db");
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
