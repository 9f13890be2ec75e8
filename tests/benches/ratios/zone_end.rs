//! The end of a zone full of transient links, against that of such a namespace without a daemon.

use std::time::{Duration, Instant};

use dlmgmt_proto::door::{CreateLink, LinkFilter, View};
use dlmgmt_proto::{LinkSpec, ZoneName};
use dlmgmt_tests::{Host, eventually};
use libdlmgmt::Client;

use crate::figure::{Figure, Goal, medians_in_turn};
use crate::netlink::Netlink;
use crate::world::{Space, start_daemon_on_disk};

/// As many pairs, each with an end in the zone.
const LINKS: usize = 1000;
const TURNS: usize = 3;

/// How often it is looked whether all links are gone.
const PAUSE: Duration = Duration::from_millis(2);

pub fn figures() -> Vec<Figure> {
    let measuring = std::thread::spawn(measure);
    let (with, without) = measuring.join().expect("the zones end");
    vec![Figure {
        what: "the end of a zone with 1,000 transient links",
        value: with / without,
        unit: "x the kernel's own",
        goal: Goal::AtMost { aim: 1.0, bound: 1.5 },
        behind: format!("{with:.0} ms against {without:.0} ms"),
    }]
}

fn measure() -> (f64, f64) {
    let mut host = Host::new();
    let _state = start_daemon_on_disk(&mut host);
    let bare_host = Host::new();
    host.namespace().enter();
    let client = Client::connect(host.door()).expect("the daemon answers");
    let zone: ZoneName = "bench".parse().expect("a name");
    medians_in_turn(
        TURNS,
        || {
            host.namespace().enter();
            end_zone(&client, &zone)
        },
        || {
            bare_host.namespace().enter();
            end_namespace()
        },
    )
}

/// Tells how many milliseconds pass until the daemon and the kernel are done with the zone.
fn end_zone(client: &Client, zone: &ZoneName) -> f64 {
    let space = Space::new();
    space.attach(client, zone);
    for n in 0..LINKS {
        let (name, peer) = names(n);
        let spec = LinkSpec::Veth { peer, peer_zone: None };
        let call = CreateLink { name, zone: Some(zone.clone()), temporary: true, spec };
        client.create_link(call).expect("the pair is made");
    }
    settle();
    let home = Netlink::open();
    end(space, &home, || are_links_gone(&home) && is_forgotten(client, zone))
}

fn end_namespace() -> f64 {
    let space = Space::new();
    let (home, there) = (Netlink::open(), space.open());
    for n in 0..LINKS {
        let (name, peer) = names(n);
        home.make_pair(&name, &there, &peer);
    }
    drop(there);
    settle();
    end(space, &home, || are_links_gone(&home))
}

/// What is still told of the links that were just made is no part of their end.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

fn end(space: Space, home: &Netlink, is_over: impl Fn() -> bool) -> f64 {
    assert!(!are_links_gone(home), "the links are there at first");
    let start = Instant::now();
    drop(space);
    eventually("the links are gone", || {
        std::thread::sleep(PAUSE);
        is_over()
    });
    start.elapsed().as_secs_f64() * 1e3
}

fn names(n: usize) -> (String, String) {
    (format!("inside{n}"), format!("outside{n}"))
}

/// Whether the kernel is done with the pairs, of which all end at once.
fn are_links_gone(home: &Netlink) -> bool {
    !home.has(&names(LINKS - 1).1)
}

fn is_forgotten(client: &Client, zone: &ZoneName) -> bool {
    let everything = LinkFilter { view: View::All, all_zones: true, ..LinkFilter::default() };
    client.zones().expect("the daemon answers").iter().all(|known| known.name != *zone)
        && client.list(everything).expect("the daemon answers").is_empty()
}
