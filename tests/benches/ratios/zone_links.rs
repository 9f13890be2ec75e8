//! Links that get into a zone: made there, and lent to it, against the bare requests.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use dlmgmt_proto::door::{CreateLink, ResetZone, SetZone};
use dlmgmt_proto::{LinkClass, LinkRef, LinkSpec, ZoneName};
use dlmgmt_tests::{Host, Namespace};
use libdlmgmt::Client;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::figure::{Figure, Goal, median, medians_in_turn, microseconds};
use crate::netlink::Netlink;
use crate::processors::Placement;
use crate::world::{Space, start_daemon_on_disk};

const TURNS: usize = 11;
const CALLS: u32 = 20;

/// The number of the zone's namespace at home, for the bare requests.
const INSIDE: i32 = 1;

/// The link that is lent.
const LENT: &str = "lent0";

pub fn figures() -> Vec<Figure> {
    // The bound is on the daemon's own work. Beside it is told what comes on top where the scheduler
    // may have another processor woken, and where a pause has emptied the caches.
    let bounded = Goal::AtMost { aim: 1.15, bound: 1.3 };
    let mut figures = Placement::on_one().measure(Sides::start, move |sides| {
        vec![
            sides.pairs(Pace::InARow, "a transient veth into a zone, on one processor", bounded),
            sides.pairs(Pace::Alone, "one after a pause, on one processor", Goal::None),
        ]
    });
    figures.extend(Placement::anywhere().measure(Sides::start, |sides| {
        [
            sides.pairs(Pace::InARow, "a transient veth into a zone, anywhere", Goal::None),
            sides.pairs(Pace::Alone, "one after a pause, anywhere", Goal::None),
            sides.lent(),
        ]
    }));
    figures
}

/// The daemon, and what its kernel can do without it.
struct Sides {
    door: Door,
    bare: Bare,
    _spaces: [Space; 2],
    _hosts: [Host; 2],
    _state: TempDir,
}

impl Sides {
    fn start() -> Self {
        let mut host = Host::new();
        let state = start_daemon_on_disk(&mut host);
        let bare_host = Host::new();
        let (space, bare_space) = (Space::new(), Space::new());
        let door = Door::open(&host, &space);
        let bare = Bare::open(bare_host.namespace(), &bare_space);
        let _spaces = [space, bare_space];
        Self { door, bare, _spaces, _hosts: [host, bare_host], _state: state }
    }

    fn pairs(&self, pace: Pace, what: &'static str, goal: Goal) -> Figure {
        let Self { door, bare, .. } = self;
        let (made, sent) =
            medians_in_turn(TURNS, || door.make_pairs(pace), || bare.make_pairs(pace));
        let (asked, sent_again) =
            medians_in_turn(TURNS, || bare.ask_for_pairs(pace), || bare.make_pairs(pace));
        let asked = asked / sent_again;
        let behind = format!(
            "{made:.0} µs against {sent:.0} µs; {asked:.2}x where a thread that does nothing else \
             is asked for it over a socket"
        );
        let unit = "x the same messages, sent bare";
        Figure { what, value: made / sent, unit, goal, behind }
    }

    fn lent(&self) -> Figure {
        let Self { door, bare, .. } = self;
        let (lent, sent) = medians_in_turn(TURNS, || door.lend(), || bare.lend());
        Figure {
            what: "set-zone and reset-zone",
            value: lent / sent,
            unit: "x the bare moves",
            goal: Goal::None,
            behind: format!("{lent:.0} µs against {sent:.0} µs"),
        }
    }
}

/// When the next pair is made.
#[derive(Clone, Copy)]
enum Pace {
    /// When the one before is ended. That takes the kernel some 30 ms, in which caches can be lost.
    Alone,
    /// At once.
    InARow,
}

impl Pace {
    /// Tells the median time that one takes to make, in microseconds.
    fn time(self, make: impl Fn(u32), end: impl Fn(u32)) -> f64 {
        let timed = |n| microseconds(|| make(n));
        match self {
            Self::Alone => median((0..CALLS).map(|n| {
                let took = timed(n);
                end(n);
                took
            })),
            Self::InARow => {
                let took: Vec<f64> = (0..CALLS).map(timed).collect();
                (0..CALLS).for_each(end);
                median(took)
            }
        }
    }
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

    fn make_pairs(&self, pace: Pace) -> f64 {
        let make = |n| {
            let (name, peer) = names(n);
            let spec = LinkSpec::Veth { peer, peer_zone: None };
            let call = CreateLink { name, zone: Some(self.zone.clone()), temporary: true, spec };
            self.client.create_link(call).expect("the pair is made");
        };
        let end = |n| {
            let link = link(&names(n).1);
            self.client.delete_link(link, LinkClass::Veth).expect("the pair is ended");
        };
        pace.time(make, end)
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
                self.client.set_zone(there()).expect("it is lent");
                self.client.reset_zone(back()).expect("it comes home");
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
    servant: Servant,
}

impl Bare {
    fn open(home: Namespace, space: &Space) -> Self {
        home.enter();
        let home = Netlink::open();
        let home_ns = this_namespace();
        home.make_pair(LENT, &home_ns, "peer0");
        let inside_ns = space.open();
        home.give_number(&inside_ns, INSIDE);
        let servant = Servant::start(space.open());
        move_into_link_name_space(inside_ns.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace can be entered");
        Self { home, home_ns, inside: Netlink::open(), inside_ns, servant }
    }

    fn make_pairs(&self, pace: Pace) -> f64 {
        let make = |n| {
            let (name, peer) = names(n);
            self.home.make_and_see_pair(&name, (&self.inside_ns, INSIDE), &peer);
        };
        pace.time(make, |n| self.home.delete(&names(n).1))
    }

    /// The floor under whoever asks somebody else for it.
    fn ask_for_pairs(&self, pace: Pace) -> f64 {
        pace.time(|n| self.servant.ask(Errand::Make, n), |n| self.servant.ask(Errand::End, n))
    }

    fn lend(&self) -> f64 {
        median((0..CALLS).map(|_| {
            microseconds(|| {
                self.home.move_to(LENT, &self.inside_ns);
                self.inside.move_to(LENT, &self.home_ns);
            })
        }))
    }
}

/// What the servant is asked to do with a pair.
#[derive(Clone, Copy, PartialEq)]
enum Errand {
    Make,
    End,
}

/// A thread that makes and ends the pairs that it is asked for over a socket.
struct Servant {
    socket: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Servant {
    /// It makes one end in the namespace `there`, and the other one in the caller's.
    fn start(there: File) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair of sockets");
        let netlink = Netlink::open();
        let thread = std::thread::spawn(move || {
            let mut asked = [0; 5];
            while recv(&theirs, &mut asked, RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {
                let [errand, number @ ..] = asked;
                let (name, peer) = names(u32::from_ne_bytes(number));
                if errand == Errand::Make as u8 {
                    netlink.make_and_see_pair(&name, (&there, INSIDE), &peer);
                } else {
                    netlink.delete(&peer);
                }
                send(&theirs, &number, SendFlags::NOSIGNAL).expect("the bench takes answers");
            }
        });
        Self { socket: Some(socket), thread: Some(thread) }
    }

    fn ask(&self, errand: Errand, n: u32) {
        let socket = self.socket.as_ref().expect("it is open until the end");
        let [a, b, c, d] = n.to_ne_bytes();
        let mut answer = [0; 4];
        send(socket, &[errand as u8, a, b, c, d], SendFlags::NOSIGNAL)
            .expect("the servant takes packets");
        let (len, _) = recv(socket, &mut answer, RecvFlags::empty()).expect("the servant answers");
        assert_ne!(len, 0, "the servant ended");
    }
}

impl Drop for Servant {
    fn drop(&mut self) {
        // It ends when its socket closes.
        drop(self.socket.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
