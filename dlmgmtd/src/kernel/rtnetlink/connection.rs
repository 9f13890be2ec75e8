//! A netlink socket for requests: one at a time, each followed to the end of its answer.

use std::io;
use std::os::fd::AsFd;

use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{IfIndex, LinkName};
use netlink_packet_core::Parseable;
use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::{RecvFlags, sockopt};

use super::bandwidth;
use super::frame::{Message, Messages, attributes, string};
use super::link::RawLink;
use super::request::{self, Target};
use super::{RTM_DELLINK, RTM_NEWLINK};
use crate::kernel::{Dump, KernelError};
use crate::model::{Action, KernelLink, NewLink, Settings, Step};

/// Larger than any datagram: the kernel fills 32 KiB where it has more to tell, and more only
/// where one link's alternative names alone do not fit.
pub const DATAGRAM_MAX: usize = 256 << 10;

/// How often a dump is tried that links come or go under. Where they never stop, more attempts do
/// not help, and with many links each takes most of a second.
const DUMP_ATTEMPTS: u32 = 3;

/// Where the extended-ack attributes of an NLMSG_ERROR begin: after the errno and the header of
/// the request, without its body (NETLINK_CAP_ACK).
const ERROR_ATTRIBUTES: usize = 20;

/// Where those of an NLMSG_DONE begin: after the errno.
const DONE_ATTRIBUTES: usize = 4;

const NLMSGERR_ATTR_MSG: u16 = 1;

/// The multicast group of links (`RTNLGRP_LINK`).
const LINK_GROUP: u32 = 1;

/// What notifications have in the place of a request's sequence number.
const UNASKED: u32 = 0;

/// Bytes of notifications that can wait while a link is moved: all others of the namespace come
/// too, and a move takes long.
const MOVE_BUFFER: usize = 4 << 20;

/// A connection to the kernel, in the namespace of the thread that opened it.
///
/// Every call blocks: the kernel answers when it has the lock over all links.
pub struct Connection {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

/// How an exchange ended well.
pub struct Answered {
    /// The picture that the answers give is not of one moment.
    interrupted: bool,
}

impl Connection {
    /// Opens a connection.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Connected to the kernel, it takes messages of nobody else.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, datagram: vec![0; DATAGRAM_MAX] })
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Every link of the namespace that has the number `nsid` here: the first consistent picture
    /// of a few attempts, or else the last one.
    pub fn dump(&mut self, nsid: Option<i32>) -> Result<Dump, KernelError> {
        let mut dump = self.dump_once(nsid)?;
        for _ in 1..DUMP_ATTEMPTS {
            if dump.is_consistent {
                break;
            }
            dump = self.dump_once(nsid)?;
        }
        Ok(dump)
    }

    fn dump_once(&mut self, nsid: Option<i32>) -> Result<Dump, KernelError> {
        let mut links = Vec::new();
        let answered = self.exchange(request::dump(nsid), NLM_F_DUMP, |message| {
            links.extend(decode(message));
        })?;
        // The sort is stable: of a link that is shown twice, the newer picture stays the last.
        links.sort_by_key(|link: &KernelLink| link.ifindex);
        Ok(Dump { links, is_consistent: !answered.interrupted })
    }

    /// The link of an index, if there is one.
    pub fn get(
        &mut self,
        nsid: Option<i32>,
        ifindex: IfIndex,
    ) -> Result<Option<KernelLink>, KernelError> {
        if i32::try_from(ifindex.get()).is_err() {
            return Ok(None);
        }
        self.find(request::get(nsid, ifindex))
    }

    /// The link that has this name, as its name or as an alternative one, if there is one.
    pub fn find_named(
        &mut self,
        nsid: Option<i32>,
        name: &LinkName,
    ) -> Result<Option<KernelLink>, KernelError> {
        self.find(request::get_named(nsid, name))
    }

    fn find(&mut self, request: RouteNetlinkMessage) -> Result<Option<KernelLink>, KernelError> {
        let mut found = None;
        match self.exchange(request, NLM_F_ACK, |message| found = decode(message)) {
            Err(error) if error.errno == libc::ENODEV => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// The addresses of a link by which others reach it.
    pub fn addresses(
        &mut self,
        ifindex: IfIndex,
        nsid: Option<i32>,
    ) -> Result<Vec<String>, KernelError> {
        let mut addresses = Vec::new();
        self.exchange(request::addresses(nsid, ifindex), NLM_F_DUMP, |message| {
            addresses.extend(decode_address(message.payload, ifindex));
        })?;
        Ok(addresses)
    }

    /// The values of properties that the message of a link of this namespace does not tell.
    pub fn settings(&mut self, ifindex: IfIndex) -> Result<Settings, KernelError> {
        let mut limit = None;
        self.exchange(bandwidth::queues(), NLM_F_DUMP, |message| {
            limit = limit.or(bandwidth::limit_of(message.payload, ifindex));
        })?;
        let most = Value::Number(limit.unwrap_or(0));
        Ok([(Property::MaxBw, most)].into_iter().collect())
    }

    /// Changes a link of this namespace.
    pub fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match &step.action {
            Action::Set(Property::MaxBw, Value::Number(most)) => {
                self.set_limit(step.at.ifindex, *most)
            }
            _ => self.exchange(request::apply(step)?, NLM_F_ACK, |_| ()).map(drop),
        }
    }

    fn set_limit(&mut self, ifindex: IfIndex, most: u64) -> Result<(), KernelError> {
        let index = request::existing(ifindex)?;
        if most > 0 {
            let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
            return self.exchange(bandwidth::limit(index, most), flags, |_| ()).map(drop);
        }
        let is_limited = self.settings(ifindex)?.get(Property::MaxBw) != Some(&Value::Number(0));
        match is_limited {
            true => self.exchange(bandwidth::no_limit(index), NLM_F_ACK, |_| ()).map(drop),
            false => Ok(()),
        }
    }

    /// Gives a link of this namespace an address.
    pub fn set_address(&mut self, ifindex: IfIndex, mac: Vec<u8>) -> Result<(), KernelError> {
        self.exchange(request::set_address(ifindex, mac)?, NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Ends a link of the namespace that has the number `nsid` here.
    pub fn delete(&mut self, nsid: Option<i32>, ifindex: IfIndex) -> Result<(), KernelError> {
        self.exchange(request::delete(nsid, ifindex)?, NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Makes a link in the namespace of `target`, and its peer, if it has one, in this one.
    pub fn create(&mut self, new: &NewLink, target: Option<&Target>) -> Result<(), KernelError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.exchange(request::create(new, target)?, flags, |_| ())?;
        Ok(())
    }

    /// Moves a link to another namespace. Answers how that ended, and its index there if it left
    /// at all: the kernel gives it its name only once it is there, and may refuse that.
    ///
    /// Use the connection for nothing afterwards: it hears of every link.
    pub fn move_away(
        &mut self,
        ifindex: IfIndex,
        request: RouteNetlinkMessage,
    ) -> (Result<(), KernelError>, Option<IfIndex>) {
        let mut now = None;
        let outcome = self.hear_of_links().map_err(KernelError::from).and_then(|()| {
            self.exchange(request, NLM_F_ACK, |message| {
                let link = RawLink::parse(message.payload).filter(|link| link.ifindex() == ifindex);
                if let (RTM_DELLINK, Some(link)) = (message.kind, link) {
                    now = link.moved_to().map(|(_, ifindex)| ifindex).or(now);
                }
            })
        });
        (outcome.map(|_| ()), now)
    }

    /// Only the notification tells the new index beyond doubt: who asks for the link by its name
    /// may get another one that has the name by then.
    fn hear_of_links(&mut self) -> io::Result<()> {
        set_receive_buffer(&self.socket, MOVE_BUFFER)?;
        self.socket.add_membership(LINK_GROUP)
    }

    /// Sends a request and reads to the end of its answer, handing each message of it, and each
    /// notification that comes meanwhile, to `on_message`.
    pub fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut on_message: impl FnMut(Message<'_>),
    ) -> Result<Answered, KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&packet(request, flags, self.sequence), 0)?;
        let mut interrupted = false;
        loop {
            let len = receive(&self.socket, &mut self.datagram)?;
            let datagram = &self.datagram[..len];
            if read_answer(datagram, self.sequence, &mut interrupted, &mut on_message)? {
                return Ok(Answered { interrupted });
            }
        }
    }
}

/// Reads one datagram of the answer to the request `sequence`; tells whether it was the last one.
fn read_answer(
    datagram: &[u8],
    sequence: u32,
    interrupted: &mut bool,
    mut on_message: impl FnMut(Message<'_>),
) -> Result<bool, KernelError> {
    for message in Messages::new(datagram) {
        let message = message?;
        if message.sequence == UNASKED {
            on_message(message);
            continue;
        }
        if message.sequence != sequence {
            // Left over from an exchange that an error cut short.
            continue;
        }
        *interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        match message.kind {
            NLMSG_ERROR => return outcome(message, ERROR_ATTRIBUTES).map(|()| true),
            NLMSG_DONE => return outcome(message, DONE_ATTRIBUTES).map(|()| true),
            _ => on_message(message),
        }
    }
    Ok(false)
}

/// Takes a datagram for the answer to any request: what comes of it does not matter.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn take_for_an_answer(datagram: &[u8], sequence: u32) {
    let one = IfIndex::new(1);
    let _ = read_answer(datagram, sequence, &mut false, |message| {
        decode(message);
        one.and_then(|ifindex| decode_address(message.payload, ifindex));
    });
}

/// An address of the link, unless it is one that only this link itself can reach.
fn decode_address(payload: &[u8], ifindex: IfIndex) -> Option<String> {
    let message = AddressMessage::parse(payload).ok()?;
    let is_global = message.header.scope == AddressScope::Universe;
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(address),
        _ => None,
    });
    address
        .filter(|_| is_global && message.header.index == ifindex.get())
        .map(|address| format!("{address}/{}", message.header.prefix_len))
}

fn packet(request: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut packet = vec![0; message.buffer_len()];
    message.serialize(&mut packet);
    packet
}

/// Receives one whole datagram and returns its length.
///
/// It never waits: the kernel answers requests while they are sent, and the next part of a dump
/// while one is received, so an answer that is not there now is lost and will never be.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    let (_, len) = rustix::net::recv(socket, &mut *into, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    if len > into.len() {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(len)
}

/// Without privilege the buffer is as large as the system lets anyone have (`rmem_max`).
pub fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size_force(&socket, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, bytes))
        .map_err(io::Error::from)
}

fn decode(message: Message<'_>) -> Option<KernelLink> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let payload = message.payload;
    let link = RawLink::parse(payload).and_then(RawLink::into_kernel_link);
    if link.is_none() {
        tracing::warn!(message = %payload.escape_ascii(), "the kernel told of a link without a name");
    }
    link
}

/// What an NLMSG_ERROR or NLMSG_DONE says: both begin with 0 or a negative errno.
fn outcome(message: Message<'_>, attributes_at: usize) -> Result<(), KernelError> {
    let code = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    let told = message.flags & NLM_F_ACK_TLVS != 0;
    let extended = message.payload.get(attributes_at..).filter(|_| told).unwrap_or_default();
    let text = attributes(extended)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, text)| String::from_utf8_lossy(string(text)).into_owned());
    Err(KernelError { errno: code.saturating_neg(), text })
}

impl From<io::Error> for KernelError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { errno, text: None },
            None => Self { errno: libc::EIO, text: Some(error.to_string()) },
        }
    }
}

impl From<DecodeError> for KernelError {
    fn from(error: DecodeError) -> Self {
        Self { errno: libc::EBADMSG, text: Some(error.to_string()) }
    }
}
