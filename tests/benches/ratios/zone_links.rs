//! Links that get into a zone: made there, and lent to it, against the bare requests.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use dlmgmt_proto::door::{CreateLink, ResetZone, SetZone};
use dlmgmt_proto::{LinkClass, LinkRef, LinkSpec, ZoneName};
use dlmgmt_tests::{Host, Namespace};
use libdlmgmt::Client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::figure::{Figure, Goal, in_turn, median};
use crate::netlink::Netlink;
use crate::world::{Space, start_daemon_on_disk};

const TURNS: usize = 21;
const CALLS: u32 = 20;

/// The link that is lent.
const LENT: &str = "lent0";

pub fn figures() -> Vec<Figure> {
    let measuring = std::thread::spawn(measure);
    measuring.join().expect("the links are made and moved")
}

fn measure() -> Vec<Figure> {
    let mut host = Host::new();
    let _state = start_daemon_on_disk(&mut host);
    let bare_host = Host::new();
    let (space, bare_space) = (Space::new(), Space::new());
    let door = Door::open(&host, &space);
    let bare = Bare::open(bare_host.namespace(), &bare_space);

    let (made, bare_made) = in_turn(TURNS, || door.make_pairs(), || bare.make_pairs());
    let (lent, bare_lent) = in_turn(TURNS, || door.lend(), || bare.lend());
    let [made, bare_made, lent, bare_lent] = [made, bare_made, lent, bare_lent].map(median);
    vec![
        Figure {
            what: "a transient veth into a zone",
            value: made / bare_made,
            unit: "x the bare request",
            goal: Goal::AtMost { aim: 1.15, bound: 1.3 },
            behind: format!("{made:.0} µs against {bare_made:.0} µs"),
        },
        Figure {
            what: "set-zone and reset-zone",
            value: lent / bare_lent,
            unit: "x the bare moves",
            goal: Goal::None,
            behind: format!("{lent:.0} µs against {bare_lent:.0} µs"),
        },
    ]
}

/// What the daemon is asked to do.
struct Door {
    client: Client,
    zone: ZoneName,
}

impl Door {
    fn open(host: &Host, space: &Space) -> Self {
        host.namespace().enter();
        Netlink::open().make_pair(LENT, this_namespace(), "peer0");
        host.id_when_known(LENT);
        let client = Client::connect(host.door()).expect("the daemon answers");
        let zone: ZoneName = "bench".parse().expect("a name");
        space.attach(&client, &zone);
        Self { client, zone }
    }

    /// Tells the median time of one, in microseconds.
    fn make_pairs(&self) -> f64 {
        median((0..CALLS).map(|n| {
            let (name, peer) = names(n);
            let spec = LinkSpec::Veth { peer: peer.clone(), peer_zone: None };
            let call = CreateLink { name, zone: Some(self.zone.clone()), temporary: true, spec };
            let took = microseconds(|| self.client.create_link(call).map(drop));
            let link = link(&peer);
            self.client.delete_link(link, LinkClass::Veth).expect("the pair is ended");
            took
        }))
    }

    fn lend(&self) -> f64 {
        let there = || SetZone {
            link: link(LENT),
            zone: self.zone.clone(),
            name_inside: None,
            temporary: true,
            force: false,
            generation: None,
        };
        let back = || ResetZone {
            link: format!("{}/{LENT}", self.zone).parse().expect("a name"),
            temporary: false,
            force: false,
            generation: None,
        };
        median((0..CALLS).map(|_| {
            microseconds(|| {
                self.client.set_zone(there())?;
                self.client.reset_zone(back()).map(drop)
            })
        }))
    }
}

/// The same by bare requests.
struct Bare {
    home: Netlink,
    home_ns: File,
    inside: Netlink,
    inside_ns: File,
}

impl Bare {
    fn open(home: Namespace, space: &Space) -> Self {
        home.enter();
        let home = Netlink::open();
        let home_ns = this_namespace();
        home.make_pair(LENT, &home_ns, "peer0");
        let inside_ns = space.open();
        move_into_link_name_space(inside_ns.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace can be entered");
        Self { home, home_ns, inside: Netlink::open(), inside_ns }
    }

    fn make_pairs(&self) -> f64 {
        median((0..CALLS).map(|n| {
            let (name, peer) = names(n);
            let took = microseconds(|| {
                self.home.make_pair(&name, &self.inside_ns, &peer);
                Ok::<(), std::convert::Infallible>(())
            });
            self.home.delete(&peer);
            took
        }))
    }

    fn lend(&self) -> f64 {
        median((0..CALLS).map(|_| {
            microseconds(|| {
                self.home.move_to(LENT, &self.inside_ns);
                self.inside.move_to(LENT, &self.home_ns);
                Ok::<(), std::convert::Infallible>(())
            })
        }))
    }
}

fn this_namespace() -> File {
    File::open("/proc/thread-self/ns/net").expect("this thread's namespace")
}

fn names(n: u32) -> (String, String) {
    (format!("inside{n}"), format!("outside{n}"))
}

fn link(name: &str) -> LinkRef {
    name.parse().expect("a name")
}

fn microseconds<E: std::fmt::Debug>(act: impl FnOnce() -> Result<(), E>) -> f64 {
    let start = Instant::now();
    act().expect("it is done");
    start.elapsed().as_secs_f64() * 1e6
}
