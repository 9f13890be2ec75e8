//! What a hostile client gets: a clear error or an orderly close, and nobody else is disturbed.

use std::os::fd::AsFd;

use dlmgmt_proto::ErrorCode;
use dlmgmt_proto::door::{
    Call, Command, DeletePhys, GetAttribute, GetLinkId, HEADER_LEN, Kind, LinkFilter, List,
    PACKET_MAX, encode, split,
};
use dlmgmtd::door::Limits;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::io::Errno;

use crate::calls::net;
use crate::fake::{Fake, Served};
use crate::raw::Raw;

fn ask() -> Vec<u8> {
    encode(Kind::Call, GetLinkId::NUMBER, 7, &GetLinkId { link: net(1) }).unwrap()
}

fn assert_served(raw: &Raw) {
    raw.call(99, &GetLinkId { link: net(1) });
    assert_eq!(raw.reply::<GetLinkId>(99).get(), 1);
}

#[test]
fn what_is_of_another_protocol_gets_an_error_and_a_close() {
    let served = Served::new(&Fake::new(1));
    for alien in [&b"GET / HTTP/1.1\r\n\r\n\r\n\r\n\r\n"[..], b"D", &ask()[..HEADER_LEN - 1]] {
        let raw = Raw::greeted(&served.path());
        raw.send(alien).unwrap();
        assert_eq!(raw.error(), (0, ErrorCode::Invalid));
        assert!(raw.is_closed());
    }
}

#[test]
fn an_empty_packet_ends_the_connection() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    raw.send(&[]).unwrap();
    assert!(raw.is_closed());
}

#[test]
fn a_half_packet_is_invalid_and_the_connection_stays() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    for len in HEADER_LEN..ask().len() {
        raw.send(&ask()[..len]).unwrap();
        assert_eq!(raw.error(), (7, ErrorCode::Invalid), "{len}");
    }
    assert_served(&raw);
}

#[test]
fn a_wrong_header_is_refused_by_its_serial_and_the_connection_stays() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    let cases = [
        (4, 2, ErrorCode::NotSupported), // version
        (6, 2, ErrorCode::Invalid),      // a reply
        (6, 77, ErrorCode::Invalid),     // no kind at all
        (7, 1, ErrorCode::Invalid),      // reserved
        (12, 200, ErrorCode::Invalid),   // length
    ];
    for (at, value, code) in cases {
        let mut packet = ask();
        packet[at] = value;
        raw.send(&packet).unwrap();
        assert_eq!(raw.error(), (7, code), "byte {at}");
    }
    assert_served(&raw);
}

#[test]
fn a_huge_packet_is_invalid_and_the_connection_stays() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    let mut packet = ask();
    packet.resize(PACKET_MAX + 1, 0);
    raw.send(&packet).unwrap();
    assert_eq!(raw.error(), (7, ErrorCode::Invalid));
    assert_served(&raw);
}

#[test]
fn descriptors_that_nobody_asked_for_are_refused() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    for count in [1, 4, 16] {
        raw.send_fds(&ask(), &vec![raw.as_fd(); count]);
        assert_eq!(raw.error(), (7, ErrorCode::Invalid), "{count}");
    }
    assert_served(&raw);
}

#[test]
fn a_client_that_never_reads_is_disconnected_and_others_are_served() {
    let limits = Limits { queued_packets: 8, ..Limits::default() };
    let served = Served::with_limits(&Fake::new(2000), limits);
    let (deaf, other) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    let list = List { filter: LinkFilter::default(), cursor: None };
    let packet = encode(Kind::Call, List::NUMBER, 5, &list).unwrap();
    let end = (0..10_000).find_map(|_| {
        assert_served(&other);
        deaf.send(&packet).err()
    });
    assert!(matches!(end, Some(Errno::PIPE | Errno::CONNRESET)), "{end:?}");
}

#[test]
fn the_bytes_that_wait_for_a_client_are_bounded_too() {
    let limits = Limits { queued_bytes: 100_000, ..Limits::default() };
    let served = Served::with_limits(&Fake::new(1), limits);
    let deaf = Raw::greeted(&served.path());
    let call = GetAttribute { link: net(1), attribute: "x".repeat(30_000) };
    let packet = encode(Kind::Call, GetAttribute::NUMBER, 5, &call).unwrap();
    let end = (0..10_000).find_map(|_| deaf.send(&packet).err());
    assert!(matches!(end, Some(Errno::PIPE | Errno::CONNRESET)), "{end:?}");
}

#[test]
fn a_change_that_panics_ends_its_connection_alone() {
    let served = Served::new(&Fake::new(1));
    let (raw, other) = (Raw::greeted(&served.path()), Raw::greeted(&served.path()));
    raw.call(5, &DeletePhys { link: net(1) });
    assert!(raw.is_closed());
    assert_served(&other);
}

#[test]
fn a_thousand_connections_are_served() {
    raise_descriptor_limit();
    let served = Served::new(&Fake::new(1));
    let all: Vec<Raw> = (0..1000).map(|_| Raw::greeted(&served.path())).collect();
    all.iter().for_each(assert_served);
}

/// Both ends of the connections are in this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[test]
fn a_connection_beyond_all_is_told_so_and_a_place_is_given_back() {
    let limits = Limits { connections: 1, connections_for_root: 0, ..Limits::default() };
    let served = Served::with_limits(&Fake::new(1), limits);
    let first = Raw::greeted(&served.path());
    let second = Raw::connect(&served.path());
    assert_eq!(second.error(), (0, ErrorCode::Quota));
    assert!(second.is_closed());
    drop(first);
    crate::calls::eventually("the place is free", || {
        let third = Raw::connect(&served.path());
        third.send(&ask()).is_ok() && third.error() == (7, ErrorCode::Invalid)
    });
}

#[test]
fn random_packets_are_answered_or_closed_and_nobody_else_is_disturbed() {
    let served = Served::new(&Fake::new(1));
    let other = Raw::greeted(&served.path());
    let call = (any::<u16>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..80)).prop_map(
        |(command, serial, body)| {
            let mut packet = encode(Kind::Call, command % 128, serial, &()).unwrap();
            packet[12] = body.len().try_into().unwrap();
            packet.extend(body);
            packet
        },
    );
    let garbage = prop::collection::vec(any::<u8>(), 1..200);
    let mut runner =
        TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop_oneof![call, garbage], |packet| {
        // What the fake engine would act upon is left out: it has its own tests.
        let (header, body) = split(&packet).map_or((None, &[][..]), |(h, b)| (Some(h), b));
        prop_assume!(header.is_none_or(|h| Call::decode(h.command, body).is_err()));
        let raw = Raw::greeted(&served.path());
        raw.send(&packet).unwrap();
        prop_assert_eq!(raw.receive().unwrap().0.kind, Kind::Error);
        assert_served(&other);
        Ok(())
    });
    outcome.unwrap();
}
