//! What a well-behaved client finds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dlmgmt_proto::ErrorCode;
use dlmgmt_proto::door::{
    GetAttribute, GetDetails, GetLinkId, Hello, Hold, HoldId, Kind, LinkFilter, List, Release,
    Rename, RenameItem, Subscribe, Unsubscribe, encode,
};
use dlmgmt_proto::{LinkId, LinkRef, Seq, Topic};
use dlmgmtd::door::Limits;

use crate::fake::{Fake, Served};
use crate::raw::Raw;

pub fn rename(to: &str) -> Rename {
    Rename { items: vec![RenameItem { link: net(1), to: to.to_owned() }] }
}

pub fn net(number: u32) -> LinkRef {
    format!("net{number}").parse().unwrap()
}

/// A subscription that the fake answers with as many events as `since` says.
pub fn events(since: Option<Seq>) -> Subscribe {
    Subscribe { snapshot: false, since, participant: false }
}

/// Waits for what another thread is about to do.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came true: {what}");
}

#[test]
fn client_and_daemon_agree_on_a_version() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::connect(&served.path());
    raw.call(1, &Hello { oldest: 2, newest: 9, client: String::new() });
    assert_eq!(raw.error(), (1, ErrorCode::NotSupported));
    raw.call(2, &Hello { oldest: 3, newest: 2, client: String::new() });
    assert_eq!(raw.error(), (2, ErrorCode::Invalid));
    raw.call(3, &Hello { oldest: 0, newest: 9, client: String::new() });
    assert_eq!(raw.reply::<Hello>(3).version, 1);
}

#[test]
fn nothing_is_answered_before_hello_and_hello_is_said_once() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::connect(&served.path());
    raw.call(1, &GetLinkId { link: net(1) });
    assert_eq!(raw.error(), (1, ErrorCode::Invalid));
    let hello = Hello { oldest: 1, newest: 1, client: String::new() };
    raw.call(2, &hello);
    raw.reply::<Hello>(2);
    raw.call(3, &hello);
    assert_eq!(raw.error(), (3, ErrorCode::Invalid));
    raw.call(4, &GetLinkId { link: net(1) });
    assert_eq!(raw.reply::<GetLinkId>(4).get(), 1);
}

#[test]
fn a_connection_without_hello_is_closed_in_time() {
    let limits = Limits { hello_within: Duration::from_millis(20), ..Limits::default() };
    let served = Served::with_limits(&Fake::new(1), limits);
    assert!(Raw::connect(&served.path()).is_closed());
}

#[test]
fn an_unknown_command_is_not_supported_and_the_connection_stays() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    raw.send(&encode(Kind::Call, 9999, 7, "").unwrap()).unwrap();
    assert_eq!(raw.error(), (7, ErrorCode::NotSupported));
    raw.call(8, &GetLinkId { link: net(1) });
    assert_eq!(raw.reply::<GetLinkId>(8).get(), 1);
}

#[test]
fn the_kernel_tells_who_the_caller_is() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(2, &GetLinkId { link: net(1) });
    raw.reply::<GetLinkId>(2);
    let caller = fake.last_caller.lock().unwrap().clone().unwrap();
    assert_eq!(caller.uid, rustix::process::getuid().as_raw());
    assert_eq!(caller.process.unwrap().pid().unwrap().unsigned_abs(), std::process::id());
    assert_eq!(caller.client, "raw");
}

#[test]
fn calls_are_pipelined_and_a_slow_one_is_overtaken() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(10, &rename("later"));
    raw.call(11, &rename("now1"));
    raw.reply::<Rename>(11);
    raw.call(12, &GetLinkId { link: net(1) });
    raw.reply::<GetLinkId>(12);
    fake.gate.add_permits(1);
    raw.reply::<Rename>(10);
}

#[test]
fn calls_beyond_those_allowed_under_way_wait_and_are_all_answered() {
    let fake = Fake::new(1);
    let served = Served::with_limits(&fake, Limits { calls: 2, ..Limits::default() });
    let raw = Raw::greeted(&served.path());
    raw.call(10, &rename("a"));
    raw.call(11, &rename("b"));
    raw.call(12, &GetLinkId { link: net(1) });
    fake.gate.add_permits(2);
    let mut serials: Vec<u64> = (0..3).map(|_| raw.receive().unwrap().0.serial).collect();
    assert_ne!(serials[0], 12, "a call was read though two are under way");
    serials.sort_unstable();
    assert_eq!(serials, [10, 11, 12]);
}

#[test]
fn a_change_goes_on_to_its_end_though_its_client_has_gone() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(10, &rename("later"));
    raw.call(11, &rename("now"));
    raw.reply::<Rename>(11);
    drop(raw);
    fake.gate.add_permits(1);
    eventually("both renames were made", || fake.renames.load(Ordering::SeqCst) == 2);
}

#[test]
fn a_change_that_holds_up_its_thread_holds_up_no_reader() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let (changer, reader) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    let thread = fake.thread.lock().unwrap();
    changer.call(10, &rename("nowhere"));
    eventually("the change is begun", || fake.renames.load(Ordering::SeqCst) == 1);
    for raw in [reader, Raw::greeted(&served.path())] {
        raw.call(2, &GetLinkId { link: net(1) });
        raw.reply::<GetLinkId>(2);
    }
    drop(thread);
    changer.reply::<Rename>(10);
}

#[test]
fn a_connection_keeps_all_that_it_has_at_its_first_change() {
    let fake = Fake::new(3000);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(2, &Hold { link: net(1) });
    let hold = raw.reply::<Hold>(2);
    raw.call(3, &List { filter: LinkFilter::default(), cursor: None });
    let cursor = raw.reply::<List>(3).next;
    raw.call(4, &rename("now"));
    raw.call(5, &List { filter: LinkFilter::default(), cursor });
    raw.call(6, &Release { hold });
    raw.reply::<Rename>(4);
    assert_eq!(raw.reply::<List>(5).seq, Seq(1));
    raw.reply::<Release>(6);
}

#[test]
fn the_pages_of_a_list_show_one_moment() {
    let fake = Fake::new(3000);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    let mut ask = List { filter: LinkFilter::default(), cursor: None };
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        raw.call(5, &ask);
        let page = raw.reply::<List>(5);
        fake.add(3001 + pages);
        pages += 1;
        assert_eq!(page.seq, Seq(1));
        ids.extend(page.links.iter().map(|link| link.id.get()));
        ask.cursor = page.next;
        if ask.cursor.is_none() {
            break;
        }
    }
    assert!(pages > 1, "the list fits in one page");
    assert_eq!(ids, (1..=3000).collect::<Vec<u32>>());
}

#[test]
fn a_cursor_of_a_list_that_is_not_kept_is_refused_with_again() {
    let fake = Fake::new(3000);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    let fresh = List { filter: LinkFilter::default(), cursor: None };
    raw.call(5, &fresh);
    let cursor = raw.reply::<List>(5).next;
    fake.add(3001);
    raw.call(6, &fresh);
    raw.reply::<List>(6);
    raw.call(7, &List { cursor, ..fresh });
    assert_eq!(raw.error(), (7, ErrorCode::Again));
}

#[test]
fn a_hold_ends_when_it_is_released_or_its_connection_ends() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(2, &Hold { link: net(1) });
    let first = raw.reply::<Hold>(2);
    raw.call(3, &Hold { link: net(1) });
    raw.reply::<Hold>(3);
    assert_eq!(fake.holds.load(Ordering::SeqCst), 2);
    raw.call(4, &Release { hold: first });
    raw.reply::<Release>(4);
    assert_eq!(fake.holds.load(Ordering::SeqCst), 1);
    raw.call(5, &Release { hold: HoldId(77) });
    assert_eq!(raw.error(), (5, ErrorCode::NotFound));
    drop(raw);
    eventually("no hold is left", || fake.holds.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_connection_has_no_more_holds_than_allowed() {
    let served = Served::with_limits(&Fake::new(1), Limits { holds: 1, ..Limits::default() });
    let raw = Raw::greeted(&served.path());
    raw.call(2, &Hold { link: net(1) });
    raw.reply::<Hold>(2);
    raw.call(3, &Hold { link: net(1) });
    assert_eq!(raw.error(), (3, ErrorCode::Quota));
}

#[test]
fn events_follow_the_reply_and_end_with_unsubscribe() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    raw.call(20, &events(None));
    raw.reply::<Subscribe>(20);
    let (header, _) = raw.receive().unwrap();
    assert_eq!((header.kind, header.serial), (Kind::Event, 20));
    raw.call(21, &Unsubscribe { serial: 20 });
    let answer = std::iter::from_fn(|| raw.receive()).find(|(h, _)| h.kind != Kind::Event);
    assert_eq!(answer.map(|(h, _)| (h.kind, h.serial)), Some((Kind::Reply, 21)));
    raw.call(22, &GetLinkId { link: net(1) });
    raw.reply::<GetLinkId>(22);
}

#[test]
fn subscriptions_of_one_connection_take_turns_and_are_bounded() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    let served = Served::with_limits(&Fake::new(1), limits);
    let raw = Raw::greeted(&served.path());
    let few = events(Some(Seq(3)));
    raw.call(20, &few);
    raw.reply::<Subscribe>(20);
    (0..3).for_each(|_| assert_eq!(raw.receive().unwrap().0.serial, 20));
    raw.call(20, &few);
    assert_eq!(raw.error(), (20, ErrorCode::Invalid));
    raw.call(21, &few);
    raw.reply::<Subscribe>(21);
    (0..3).for_each(|_| assert_eq!(raw.receive().unwrap().0.serial, 21));
    raw.call(22, &few);
    assert_eq!(raw.error(), (22, ErrorCode::Quota));
    raw.call(23, &Unsubscribe { serial: 99 });
    assert_eq!(raw.error(), (23, ErrorCode::NotFound));
}

#[test]
fn a_subscriber_that_does_not_read_events_still_has_its_connection() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    raw.call(20, &events(None));
    raw.reply::<Subscribe>(20);
    raw.call(21, &GetLinkId { link: net(1) });
    let reply = std::iter::from_fn(|| raw.receive()).find(|(h, _)| h.kind == Kind::Reply);
    assert_eq!(reply.map(|(h, _)| h.serial), Some(21));
}

#[test]
fn an_answer_longer_than_a_packet_is_an_error() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    raw.call(5, &GetAttribute { link: net(1), attribute: "x".repeat(40_000) });
    assert_eq!(raw.error(), (5, ErrorCode::NotSupported));
}

#[test]
fn at_shutdown_changes_under_way_are_answered_and_then_the_connection_closes() {
    let fake = Fake::new(1);
    let mut served = Served::new(&fake);
    let raw = Raw::greeted(&served.path());
    raw.call(10, &rename("later"));
    raw.call(11, &rename("now"));
    raw.reply::<Rename>(11);
    let stopping = std::thread::spawn(move || served.stop());
    fake.gate.add_permits(1);
    raw.reply::<Rename>(10);
    assert!(raw.is_closed());
    stopping.join().unwrap();
}

#[test]
fn details_are_answered_of_as_many_links_as_fit_in_a_packet() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    let links: Vec<LinkId> = (1..=100).filter_map(LinkId::new).collect();
    let ask = |links: &[LinkId], topics: usize| {
        raw.call(1, &GetDetails { links: links.to_vec(), topics: vec![Topic::Kind; topics] });
        let told = raw.reply::<GetDetails>(1).links;
        told.into_iter().map(|link| link.id).collect::<Vec<_>>()
    };
    // The fake has 1,000 bytes to tell of each topic.
    let (first, others) = (ask(&links, 1), ask(&links[50..], 1));
    assert!((50..65).contains(&first.len()), "{}", first.len());
    assert_eq!(first, links[..first.len()]);
    assert_eq!(others, links[50..]);
    assert_eq!(ask(&links, 62), links[..1], "one at least");
}
