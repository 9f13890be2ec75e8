//! A look-up by name at the door, against two processes that only send packets to and fro.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use dlmgmt_proto::door::{Command as _, GetLinkId, Kind, encode};
use dlmgmt_proto::{LinkId, LinkRef};
use dlmgmt_tests::Host;
use libdlmgmt::Client;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use crate::figure::{Figure, Goal, median, medians_in_turn, microseconds};
use crate::processors::Placement;

/// The first argument of the process that answers the bare packets.
pub const PEER: &str = "answer-packets";

const TURNS: usize = 51;
const CALLS: u32 = 1000;

/// Bytes that either side of the bare exchange can receive.
const BUFFER: usize = 4096;

pub fn figures() -> Vec<Figure> {
    vec![
        figure("look-up by name, on two processors", Placement::on_two()),
        figure("look-up by name, on one processor", Placement::on_one()),
    ]
}

fn figure(what: &'static str, placement: Placement) -> Figure {
    let (door, bare) = placement.measure(Sides::start, Sides::measure);
    Figure {
        what,
        value: door / bare,
        unit: "x a bare SEQPACKET ping-pong",
        goal: Goal::AtMost { aim: 1.25, bound: 2.0 },
        behind: format!("{door:.2} µs against {bare:.2} µs"),
    }
}

/// The daemon and its peer, and what both are asked.
struct Sides {
    _host: Host,
    client: Client,
    link: LinkRef,
    id: LinkId,
    peer: Peer,
}

impl Sides {
    fn start() -> Self {
        let host = Host::with_links(&["net0", "net1", "net2", "net3"]);
        host.namespace().enter();
        let client = Client::connect(host.door()).expect("the daemon answers");
        let link: LinkRef = "net2".parse().expect("a name");
        let id = client.linkid(link.clone()).expect("the link is known");
        let peer = Peer::start(&link, id);
        Self { _host: host, client, link, id, peer }
    }

    fn measure(self) -> (f64, f64) {
        let Self { _host, client, link, id, mut peer } = self;
        let call = || assert_eq!(client.linkid(link.clone()).expect("the link is known"), id);
        medians_in_turn(TURNS, || time_of_one(call), || time_of_one(|| peer.call()))
    }
}

/// The median time of a call: whatever else the machine does hits some calls, and not that.
fn time_of_one(mut call: impl FnMut()) -> f64 {
    median((0..CALLS).map(|_| microseconds(&mut call)))
}

/// A process that answers each packet by another, of the sizes that a look-up has.
struct Peer {
    socket: Option<OwnedFd>,
    process: Child,
    packet: Vec<u8>,
    answer: [u8; BUFFER],
}

impl Peer {
    fn start(link: &LinkRef, id: LinkId) -> Self {
        let call = GetLinkId { link: link.clone() };
        let packet = encode(Kind::Call, GetLinkId::NUMBER, 1, &call).expect("a packet");
        let answer = encode(Kind::Reply, GetLinkId::NUMBER, 1, &id).expect("a packet");
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair of sockets");
        let process = Command::new(std::env::current_exe().expect("a bench knows its own path"))
            .args([PEER, &answer.len().to_string()])
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("the peer starts");
        Self { socket: Some(socket), process, packet, answer: [0; BUFFER] }
    }

    fn call(&mut self) {
        let socket = self.socket.as_ref().expect("it is open until the end");
        send(socket, &self.packet, SendFlags::NOSIGNAL).expect("the peer takes packets");
        let (len, _) =
            recv(socket, &mut self.answer, RecvFlags::empty()).expect("the peer answers");
        assert_ne!(len, 0, "the peer ended");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The peer ends when its socket closes.
        drop(self.socket.take());
        let _ = self.process.wait();
    }
}

/// What the peer does, at the socket that is its standard input.
pub fn answer_until_closed(len: usize) {
    let socket = std::io::stdin();
    let (mut packet, answer) = ([0; BUFFER], vec![0; len]);
    while recv(&socket, &mut packet, RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {
        send(&socket, &answer, SendFlags::NOSIGNAL).expect("the bench takes answers");
    }
}
