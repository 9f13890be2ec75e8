//! Requests to the kernel with nothing around them: the floor under what the daemon does.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Bytes that every answer fits in.
const BUFFER: usize = 4096;

/// Where an answer goes on after its header.
const BODY_AT: usize = 16;

const RTM_NEWLINK: u16 = 16;
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

    /// Makes a pair, one end in the namespace `there` and the other one here.
    pub fn make_pair(&self, name: &str, there: impl AsFd, peer: &str) {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other)));
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::NetNsFd(there.as_fd().as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]),
        ];
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL);
    }

    pub fn delete(&self, name: &str) {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.request(RouteNetlinkMessage::DelLink(link), 0);
    }

    /// Moves a link of this namespace to another one.
    pub fn move_to(&self, name: &str, there: impl AsFd) {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::NetNsFd(there.as_fd().as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
        ];
        self.request(RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Whether a link is there, once the kernel is done with what it is just doing to its links:
    /// one that is on its way out is not seen before its end.
    pub fn has(&self, name: &str) -> bool {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let (kind, errno) = self.ask(RouteNetlinkMessage::GetLink(link), 0);
        assert!(kind == RTM_NEWLINK || errno == -ENODEV, "{name}: errno {errno}");
        kind == RTM_NEWLINK
    }

    fn request(&self, request: RouteNetlinkMessage, flags: u16) {
        assert_eq!(self.ask(request, NLM_F_ACK | flags), (NLMSG_ERROR, 0));
    }

    /// The type of the answer, and the number that it begins with: the errno where it is no more
    /// than that.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> (u16, i32) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut packet = vec![0; message.buffer_len()];
        message.serialize(&mut packet);
        self.socket.send(&packet, 0).expect("the kernel takes requests");

        let mut answer = [0; BUFFER];
        let len = self.socket.recv(&mut &mut answer[..], 0).expect("the kernel answers");
        assert!(len >= BODY_AT + 4, "an answer of {len} bytes");
        let number = answer[BODY_AT..].first_chunk().expect("it is in the buffer");
        (u16::from_ne_bytes([answer[4], answer[5]]), i32::from_ne_bytes(*number))
    }
}
