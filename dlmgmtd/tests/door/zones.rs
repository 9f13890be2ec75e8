//! Zones: what is asked of them, who takes part in their ends, and what their ends do to callers.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dlmgmt_proto::door::{
    Acknowledge, AttachZone, Call, Command, CreateLink, DeleteLink, DetachZone, GetLinkId, Kind,
    ListZones, Reclaim, Rename, ResetZone, SetZone, Subscribe, Where, encode,
};
use dlmgmt_proto::{
    Error, ErrorCode, Event, Generation, LinkClass, LinkSpec, MacvlanMode, Seq, SequencedEvent,
    ZoneId, ZoneName,
};
use dlmgmtd::door::{DoorOptions, Limits};
use dlmgmtd::model::NsCookie;
use libdlmgmt::{Client, ClientError, aio};

use crate::calls::{events, eventually, net, rename};
use crate::fake::{Fake, Served, link, zone};
use crate::raw::Raw;

fn web() -> ZoneName {
    ZoneName::new("web").unwrap()
}

fn set_zone() -> SetZone {
    SetZone {
        link: net(1),
        zone: web(),
        name_inside: Some("eth0".to_owned()),
        temporary: true,
        force: false,
        generation: Some(Generation(3)),
    }
}

fn reset_zone() -> ResetZone {
    ResetZone { link: net(1), temporary: false, force: true, generation: None }
}

fn create(spec: LinkSpec) -> CreateLink {
    CreateLink { name: "v0".to_owned(), zone: Some(web()), temporary: true, spec }
}

fn veth() -> CreateLink {
    create(LinkSpec::Veth { peer: "p0".to_owned(), peer_zone: None })
}

fn vnic() -> CreateLink {
    create(LinkSpec::Vnic { over: net(1), mac: None, mode: MacvlanMode::Bridge })
}

fn attach() -> AttachZone {
    AttachZone { zone: web(), pid: Some(1), path: Some("/run/netns/web".to_owned()) }
}

/// Every change of zones and links, as the fake is to have been asked for it.
fn all_changes() -> Vec<Call> {
    let delete = DeleteLink { link: net(1), class: LinkClass::Veth };
    vec![
        set_zone().into(),
        reset_zone().into(),
        veth().into(),
        vnic().into(),
        delete.into(),
        Reclaim { link: net(1) }.into(),
        attach().into(),
        DetachZone { zone: web() }.into(),
    ]
}

fn participant() -> Subscribe {
    Subscribe { participant: true, ..events(Some(Seq(3))) }
}

/// What tells a file from all others.
fn identity(fd: &OwnedFd) -> (u64, u64) {
    let found = File::from(fd.try_clone().unwrap()).metadata().unwrap();
    (found.dev(), found.ino())
}

fn own_namespace() -> OwnedFd {
    File::open("/proc/self/ns/net").unwrap().into()
}

#[test]
fn every_change_reaches_the_service_as_the_blocking_client_asked_for_it() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    client.set_zone(set_zone()).unwrap();
    client.reset_zone(reset_zone()).unwrap();
    assert_eq!(client.create_link(veth()).unwrap().peer, Some(link(9).id));
    assert_eq!(client.create_link(vnic()).unwrap().peer, None);
    client.delete_link(net(1), LinkClass::Veth).unwrap();
    client.reclaim(net(1)).unwrap();
    client.attach_zone(attach(), None).unwrap();
    client.detach_zone(web()).unwrap();
    assert_eq!(*fake.asked.lock().unwrap(), all_changes());
    assert_eq!(client.whereabouts(net(1)).unwrap().link, link(1));
}

#[test]
fn the_asynchronous_client_asks_for_the_same() {
    let fake = Fake::new(1);
    *fake.zones.lock().unwrap() = (0..40).map(zone).collect();
    let served = Served::new(&fake);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = aio::Client::connect(served.path()).await.unwrap();
        client.set_zone(set_zone()).await.unwrap();
        client.reset_zone(reset_zone()).await.unwrap();
        client.create_link(veth()).await.unwrap();
        client.create_link(vnic()).await.unwrap();
        client.delete_link(net(1), LinkClass::Veth).await.unwrap();
        client.reclaim(net(1)).await.unwrap();
        client.attach_zone(attach(), Some(own_namespace().as_fd())).await.unwrap();
        client.detach_zone(web()).await.unwrap();
        assert_eq!(*fake.asked.lock().unwrap(), all_changes());
        assert_eq!(client.whereabouts(net(1)).await.unwrap().link, link(1));
        assert_eq!(client.zones().await.unwrap().len(), 40);
        let mut told = client.subscribe(participant()).await.unwrap();
        told.acknowledge(ZoneId(5)).await.unwrap();
        for number in 1..=3 {
            assert_eq!(told.next().await.unwrap().unwrap().seq, Seq(number));
        }
    });
    assert_eq!(*fake.acknowledged.lock().unwrap(), [ZoneId(5)]);
}

#[test]
fn zones_are_listed_in_pages_each_zone_once() {
    let fake = Fake::new(1);
    *fake.zones.lock().unwrap() = (0..40).map(zone).collect();
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(5, &ListZones { after: None });
    let first = raw.reply::<ListZones>(5);
    assert_eq!(first.next, first.zones.last().map(|zone| zone.id));
    assert!(first.next.is_some(), "the zones fit in one page");
    let all = Client::connect(served.path()).unwrap().zones().unwrap();
    assert_eq!(all, (0..40).map(zone).collect::<Vec<_>>());
    raw.call(6, &ListZones { after: Some(ZoneId(39)) });
    let rest = raw.reply::<ListZones>(6);
    assert_eq!((rest.zones.len(), rest.next), (0, None));
}

#[test]
fn the_descriptor_of_a_zone_reaches_the_service_as_it_is() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    // What is no namespace is the service's to refuse.
    let given = [own_namespace(), File::open("/dev/null").unwrap().into()];
    for fd in &given {
        client.attach_zone(attach(), Some(fd.as_fd())).unwrap();
    }
    client.attach_zone(attach(), None).unwrap();
    let attached = fake.attached.lock().unwrap();
    let came: Vec<_> = attached.iter().map(|fd| fd.as_ref().map(identity)).collect();
    assert_eq!(came, [Some(identity(&given[0])), Some(identity(&given[1])), None]);
}

#[test]
fn a_zone_takes_no_second_descriptor_and_other_changes_take_none() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    let fd = own_namespace();
    let packet = encode(Kind::Call, AttachZone::NUMBER, 4, &attach()).unwrap();
    for count in [2, 4, 16] {
        raw.send_fds(&packet, &vec![fd.as_fd(); count]);
        assert_eq!(raw.error(), (4, ErrorCode::Invalid), "{count}");
    }
    raw.send_fds(&encode(Kind::Call, SetZone::NUMBER, 5, &set_zone()).unwrap(), &[fd.as_fd()]);
    assert_eq!(raw.error(), (5, ErrorCode::Invalid));
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn names_that_cannot_be_are_refused_before_the_service_sees_them() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    let bad = ["z".repeat(64), "z".repeat(30_000), "../x".to_owned(), String::new()];
    for (serial, zone) in (10..).zip(&bad) {
        raw.send(&encode(Kind::Call, DetachZone::NUMBER, serial, zone).unwrap()).unwrap();
        assert_eq!(raw.error(), (serial, ErrorCode::Invalid), "{zone:.70}");
    }
    let long_link = (0_u32, "l".repeat(16));
    raw.send(&encode(Kind::Call, Where::NUMBER, 20, &long_link).unwrap()).unwrap();
    assert_eq!(raw.error(), (20, ErrorCode::Invalid));
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn a_participant_acknowledges_a_zone_and_loses_no_event_by_that() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    let mut told = client.subscribe(participant()).unwrap();
    told.acknowledge(ZoneId(5)).unwrap();
    told.acknowledge(ZoneId(6)).unwrap();
    assert_eq!(*fake.acknowledged.lock().unwrap(), [ZoneId(5), ZoneId(6)]);
    let numbers: Vec<u64> = told.by_ref().take(3).map(|event| event.unwrap().seq.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(!told.has_kept());
}

#[test]
fn who_takes_no_part_has_nothing_to_acknowledge() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    let mut told = client.subscribe(events(Some(Seq(1)))).unwrap();
    match told.acknowledge(ZoneId(5)) {
        Err(ClientError::Refused(Error { code, .. })) => assert_eq!(code, ErrorCode::Invalid),
        other => panic!("{other:?}"),
    }
    assert!(told.next().unwrap().is_ok());
}

#[test]
fn nobody_acknowledges_for_another() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let (raw, foreign) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    raw.call(20, &Subscribe { participant: true, ..events(Some(Seq(0))) });
    raw.reply::<Subscribe>(20);
    foreign.call(30, &Acknowledge { serial: 20, zone: ZoneId(5) });
    assert_eq!(foreign.error(), (30, ErrorCode::NotFound));
    assert!(fake.acknowledged.lock().unwrap().is_empty());
    raw.call(31, &Acknowledge { serial: 20, zone: ZoneId(5) });
    raw.reply::<Acknowledge>(31);
}

/// A door before which this process's own namespace is zone 5, and that namespace.
fn served_in_zone_5(fake: &Arc<Fake>) -> (Served, NsCookie) {
    served_in_zone_5_with(fake, Limits::default())
}

fn served_in_zone_5_with(fake: &Arc<Fake>, limits: Limits) -> (Served, NsCookie) {
    let seen = Arc::new(Mutex::new(None));
    let zone_of = {
        let seen = Arc::clone(&seen);
        Arc::new(move |ns| {
            *seen.lock().unwrap() = Some(ns);
            Some(ZoneId(5))
        })
    };
    let served = Served::with_options(fake, DoorOptions { zone_of, limits });
    Raw::greeted(&served.path());
    let ns = seen.lock().unwrap().unwrap();
    (served, ns)
}

#[test]
fn the_connections_of_a_zone_that_ends_are_closed_with_a_word_why() {
    let fake = Fake::new(1);
    let (served, ns) = served_in_zone_5(&fake);
    let (idle, busy) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    busy.call(10, &rename("later"));
    busy.call(11, &rename("now"));
    busy.reply::<Rename>(11);
    served.handle.close_namespace(ns);
    for raw in [&idle, &busy] {
        assert_eq!(raw.error(), (0, ErrorCode::ShuttingDown));
        assert!(raw.is_closed());
    }
    Raw::greeted(&served.path());
}

#[test]
fn a_subscriber_inside_a_zone_that_ends_is_told_all_of_it_before_its_connection_closes() {
    let fake = Fake::new(1);
    let (served, ns) = served_in_zone_5(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(20, &events(Some(Seq(2))));
    raw.reply::<Subscribe>(20);
    served.handle.close_namespace(ns);
    let _not_read = raw.send(&encode(Kind::Call, SetZone::NUMBER, 10, &set_zone()).unwrap());
    fake.zone_ends.add_permits(1);
    for number in 1..=3 {
        assert_eq!(raw.event(20).seq, Seq(number));
    }
    assert_eq!(raw.error(), (0, ErrorCode::ShuttingDown));
    assert!(raw.is_closed());
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn a_subscription_outlasts_the_end_of_an_earlier_zone_of_that_name() {
    let fake = Fake::new(1);
    let earlier = Event::ZoneGone { id: ZoneId(5), name: ZoneName::numbered(ZoneId(5)) };
    fake.past.lock().unwrap().push(earlier.clone());
    let (served, ns) = served_in_zone_5(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(20, &events(Some(Seq(1))));
    let began = raw.reply::<Subscribe>(20).seq;
    served.handle.close_namespace(ns);
    fake.zone_ends.add_permits(1);
    assert_eq!(raw.event(20), SequencedEvent { seq: began, event: earlier });
    assert_eq!([raw.event(20).seq, raw.event(20).seq], [Seq(1), Seq(2)]);
    assert_eq!(raw.error(), (0, ErrorCode::ShuttingDown));
}

#[test]
fn every_subscription_is_told_of_the_end_of_its_zone() {
    let fake = Fake::new(1);
    let (served, ns) = served_in_zone_5(&fake);
    let raw = Raw::greeted(&served.path());
    for serial in [20, 21] {
        raw.call(serial, &events(Some(Seq(0))));
        raw.reply::<Subscribe>(serial);
    }
    served.handle.close_namespace(ns);
    fake.zone_ends.add_permits(2);
    let mut told = [raw.receive().unwrap().0.serial, raw.receive().unwrap().0.serial];
    told.sort_unstable();
    assert_eq!(told, [20, 21]);
    assert_eq!(raw.error(), (0, ErrorCode::ShuttingDown));
}

#[test]
fn a_subscriber_that_is_never_told_or_never_reads_keeps_its_ended_zone_for_a_bounded_time() {
    let fake = Fake::new(1);
    let limits = Limits { farewell_within: Duration::from_millis(20), ..Limits::default() };
    let (served, ns) = served_in_zone_5_with(&fake, limits);
    let (untold, deaf) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    untold.call(20, &events(Some(Seq(0))));
    untold.reply::<Subscribe>(20);
    deaf.call(20, &events(None));
    deaf.reply::<Subscribe>(20);
    served.handle.close_namespace(ns);
    assert_eq!(untold.error(), (0, ErrorCode::ShuttingDown));
    assert!(untold.is_closed());
    eventually("the deaf one is closed", || deaf.is_hung_up());
}

#[test]
fn the_connections_of_other_namespaces_stay() {
    let fake = Fake::new(1);
    let (served, NsCookie(ns)) = served_in_zone_5(&fake);
    let raw = Raw::greeted(&served.path());
    served.handle.close_namespace(NsCookie(ns + 1));
    raw.call(9, &GetLinkId { link: net(1) });
    raw.reply::<GetLinkId>(9);
}

#[test]
fn what_a_caller_sends_after_the_end_of_its_zone_is_not_done() {
    let fake = Fake::new(1);
    let (served, ns) = served_in_zone_5(&fake);
    let raw = Raw::greeted(&served.path());
    served.handle.close_namespace(ns);
    // The door may have closed already: then this is not even sent.
    let _ = raw.send(&encode(Kind::Call, SetZone::NUMBER, 10, &set_zone()).unwrap());
    assert_eq!(raw.error(), (0, ErrorCode::ShuttingDown));
    assert!(raw.is_closed());
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn a_client_that_ends_with_all_its_calls_under_way_is_let_go_at_once() {
    let fake = Fake::new(1);
    let limits = Limits { calls: 1, connections: 1, connections_for_root: 0, ..Limits::default() };
    let served = Served::with_limits(&fake, limits);
    let raw = Raw::greeted(&served.path());
    raw.call(10, &rename("later"));
    raw.call(11, &rename("later"));
    drop(raw);
    // The gate stays shut: the first rename is under way all the time.
    eventually("the place is free", || Client::connect(served.path()).is_ok());
    fake.gate.add_permits(1);
}
