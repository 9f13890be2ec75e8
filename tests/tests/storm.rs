//! Many zones at once: issue 3, what it must withstand.

use std::collections::BTreeMap;

use dlmgmt_proto::door::{AttachZone, CreateLink, LinkFilter, RenameItem, SetZone, View};
use dlmgmt_proto::{ErrorCode, LinkId, LinkSpec, MacvlanMode, ZoneName};
use dlmgmt_tests::{Guest, Host, eventually};
use libdlmgmt::{Client, ClientError};

const ZONES: usize = 200;
const WORKERS: usize = 20;

/// What has a namespace: a name, as `ip netns add` makes it, or a process.
enum Life {
    Name(String),
    Process(Guest),
}

impl Life {
    /// Begins, and is a zone in a moment at the latest.
    fn begin(host: &Host, door: &Client, number: usize, zone: &ZoneName) -> Self {
        if number.is_multiple_of(2) {
            host.ip(&format!("netns add {zone}"));
            return Self::Name(zone.to_string());
        }
        let guest = host.guest();
        let pid = guest.pid().cast_signed();
        door.attach_zone(AttachZone { zone: zone.clone(), pid: Some(pid), path: None }, None)
            .unwrap();
        Self::Process(guest)
    }

    fn end(self, host: &Host) {
        match self {
            Self::Name(zone) => drop(host.ip(&format!("netns delete {zone}"))),
            Self::Process(guest) => guest.kill(),
        }
    }
}

fn lend(link: String, zone: &ZoneName, name_inside: &str) -> SetZone {
    SetZone {
        link: link.parse().unwrap(),
        zone: zone.clone(),
        name_inside: Some(name_inside.to_owned()),
        temporary: true,
        force: false,
        generation: None,
    }
}

fn create(zone: &ZoneName, name: &str, spec: LinkSpec) -> CreateLink {
    CreateLink { name: name.to_owned(), zone: Some(zone.clone()), temporary: true, spec }
}

/// A request that races with the coming or the end of a zone may be refused, but never for the
/// daemon's own trouble.
#[track_caller]
fn attempt<T>(outcome: Result<T, ClientError>) -> Option<T> {
    match outcome {
        Ok(done) => Some(done),
        Err(ClientError::Refused(why)) => {
            assert!(!matches!(why.code, ErrorCode::Store | ErrorCode::Denied), "{why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// One zone's life: loans and transient links, and a sudden end. For every fourth zone nothing is
/// waited for, so that requests meet zones that are only about to come.
fn live_and_die(host: &Host, door: &Client, number: usize) {
    let zone = ZoneName::new(&format!("z{number}")).unwrap();
    let life = Life::begin(host, door, number, &zone);
    let loan = lend(format!("v{number}"), &zone, "eth0");
    let pair = LinkSpec::Veth { peer: format!("t{number}"), peer_zone: Some(ZoneName::global()) };
    let over = "under".parse().unwrap();
    let vnic = LinkSpec::Vnic { over, mac: None, mode: MacvlanMode::Bridge };
    let (pair, vnic) = (create(&zone, "t0", pair), create(&zone, "m0", vnic));
    if number % 4 < 2 {
        let is_lent = || attempt(door.set_zone(loan.clone())).is_some();
        eventually(&format!("{zone} is up and has its loan"), is_lent);
        door.create_link(pair).unwrap();
        door.create_link(vnic).unwrap();
        let inside = format!("{zone}/eth0").parse().unwrap();
        assert_eq!(door.linkid(inside).unwrap(), door.linkid(loan.link).unwrap());
    } else {
        attempt(door.set_zone(loan));
        attempt(door.create_link(pair));
        attempt(door.create_link(vnic));
    }
    // Renames race with this one.
    attempt(door.set_zone(lend(format!("w{number}"), &zone, "eth1")));
    life.end(host);
}

/// Every record that there is, by its link's name at home.
fn records(host: &Host) -> BTreeMap<LinkId, String> {
    let filter = LinkFilter { view: View::All, all_zones: true, ..LinkFilter::default() };
    let links = host.with_client(|door| door.list(filter)).unwrap();
    links.into_iter().map(|link| (link.id, link.name.to_string())).collect()
}

#[test]
fn after_a_storm_of_zones_nothing_is_left_over_and_no_loan_is_lost() {
    let mut host = Host::new();
    host.ip("link add name under type bridge");
    host.sh(&format!(
        "for i in $(seq 0 {}); do echo link add name v$i type veth peer name w$i; done | ip -batch -",
        ZONES - 1
    ));
    host.start_daemon();
    let before = records(&host);
    let (fds, namespaces) = (host.daemon_fds(), host.numbered_namespaces());

    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let host = &host;
            scope.spawn(move || {
                host.with_client(|door| {
                    (worker..ZONES).step_by(WORKERS).for_each(|n| live_and_die(host, door, n));
                });
            });
        }
        scope.spawn(|| {
            host.with_client(|door| {
                for number in 0..ZONES {
                    let link = format!("w{number}").parse().unwrap();
                    let to = format!("r{number}");
                    attempt(door.rename(vec![RenameItem { link, to }]));
                }
            });
        });
    });

    eventually("all zones ended", || {
        host.zones().iter().all(|(zone, state)| zone == "global" || state == "down")
    });
    eventually("every namespace died", || host.numbered_namespaces() == namespaces);
    eventually("no other link is left", || records(&host).keys().eq(before.keys()));
    eventually("the kernel has nothing else", || host.kernel().len() == before.len());
    host.agreed();
    for (id, name) in records(&host) {
        let was = &before[&id];
        assert!(name == *was || name == was.replacen('w', "r", 1), "@{id} was {was}, is {name}");
    }
    assert!(host.everywhere().into_keys().all(|place| place.starts_with("global/")));
    eventually("no descriptor is left", || host.daemon_fds() <= fds);
}
