//! Requests to the kernel with nothing around them: the floor under what the daemon does.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Bytes that every answer fits in.
const BUFFER: usize = 4096;

/// Where an answer goes on after its header.
const BODY_AT: usize = 16;

const RTM_NEWLINK: u16 = 16;

/// Flags of a request that makes a link.
const MAKES: u16 = NLM_F_CREATE | NLM_F_EXCL;

const ENODEV: i32 = 19;

/// A netlink socket of the namespace in which the thread was that opened it.
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    pub fn open() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
        socket.bind_auto().expect("an address");
        socket.connect(&SocketAddr::new(0, 0)).expect("the kernel's address");
        Self { socket }
    }

    /// Gives a namespace a number here.
    pub fn give_number(&self, there: impl AsFd, number: i32) {
        let there = there.as_fd().as_raw_fd().unsigned_abs();
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Fd(there), NsidAttribute::Id(number)];
        self.request(RouteNetlinkMessage::NewNsId(message), 0);
    }

    /// Makes a pair, one end in the namespace `there` and the other one here.
    pub fn make_pair(&self, name: &str, there: impl AsFd, peer: &str) {
        self.request(pair(name, there.as_fd(), peer), MAKES);
    }

    /// As [`Netlink::make_pair`], and looks at both ends at the same stroke, as the daemon does;
    /// the namespace `there` has that number here.
    pub fn make_and_see_pair(&self, name: &str, (there, number): (impl AsFd, i32), peer: &str) {
        let looks = [sight(name, Some(number)), sight(peer, None)];
        let [one, other] = looks.map(|look| (RouteNetlinkMessage::GetLink(look), 0));
        self.send([(pair(name, there.as_fd(), peer), NLM_F_ACK | MAKES), one, other]);
        assert_eq!(self.hear(), (NLMSG_ERROR, 0));
        assert_eq!([self.hear().0, self.hear().0], [RTM_NEWLINK; 2]);
    }

    pub fn delete(&self, name: &str) {
        self.request(RouteNetlinkMessage::DelLink(named(name)), 0);
    }

    /// Moves a link of this namespace to another one.
    pub fn move_to(&self, name: &str, there: impl AsFd) {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::NetNsFd(there.as_fd().as_raw_fd()));
        self.request(RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Whether a link is there, once the kernel is done with what it is just doing to its links:
    /// one that is on its way out is not seen before its end.
    pub fn has(&self, name: &str) -> bool {
        let (kind, errno) = self.ask(RouteNetlinkMessage::GetLink(named(name)), 0);
        assert!(kind == RTM_NEWLINK || errno == -ENODEV, "{name}: errno {errno}");
        kind == RTM_NEWLINK
    }

    fn request(&self, request: RouteNetlinkMessage, flags: u16) {
        assert_eq!(self.ask(request, NLM_F_ACK | flags), (NLMSG_ERROR, 0));
    }

    /// The type of the answer, and the number that it begins with: the errno where it is no more
    /// than that.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> (u16, i32) {
        self.send([(request, flags)]);
        self.hear()
    }

    fn send<const N: usize>(&self, requests: [(RouteNetlinkMessage, u16); N]) {
        let packets: Vec<u8> = requests.into_iter().flat_map(packet).collect();
        self.socket.send(&packets, 0).expect("the kernel takes requests");
    }

    /// The next answer, as [`Netlink::ask`] tells it.
    fn hear(&self) -> (u16, i32) {
        let mut answer = [0; BUFFER];
        let len = self.socket.recv(&mut &mut answer[..], 0).expect("the kernel answers");
        assert!(len >= BODY_AT + 4, "an answer of {len} bytes");
        let number = answer[BODY_AT..].first_chunk().expect("it is in the buffer");
        (u16::from_ne_bytes([answer[4], answer[5]]), i32::from_ne_bytes(*number))
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn pair(name: &str, there: BorrowedFd<'_>, peer: &str) -> RouteNetlinkMessage {
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(peer))));
    let mut link = named(name);
    link.attributes.extend([
        LinkAttribute::NetNsFd(there.as_raw_fd()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]),
    ]);
    RouteNetlinkMessage::NewLink(link)
}

/// What is asked to see the link of a name, without its statistics.
fn sight(name: &str, number: Option<i32>) -> LinkMessage {
    let mut link = named(name);
    link.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    link.attributes.extend(number.map(LinkAttribute::IfNetnsId));
    link
}

fn packet((request, flags): (RouteNetlinkMessage, u16)) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut packet = vec![0; message.buffer_len()];
    message.serialize(&mut packet);
    packet
}
