//! A netlink socket for requests: one at a time, each followed to the end of its answer.

use std::io;
use std::os::fd::AsFd;

use dlmgmt_proto::IfIndex;
use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::RecvFlags;

use super::frame::{Message, Messages, attributes, string};
use super::link::RawLink;
use super::{RTM_NEWLINK, request};
use crate::kernel::{Dump, KernelError};
use crate::model::{KernelLink, Step};

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

/// A connection to the kernel, in the namespace of the thread that opened it.
///
/// Every call blocks: the kernel answers when it has the lock over all links.
pub struct Connection {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

/// How an exchange ended well.
struct Answered {
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

    /// Every link: the first consistent picture of a few attempts, or else the last one.
    pub fn dump(&mut self) -> Result<Dump, KernelError> {
        let mut dump = self.dump_once()?;
        for _ in 1..DUMP_ATTEMPTS {
            if dump.is_consistent {
                break;
            }
            dump = self.dump_once()?;
        }
        Ok(dump)
    }

    fn dump_once(&mut self) -> Result<Dump, KernelError> {
        let mut links = Vec::new();
        let answered = self.exchange(request::dump(), NLM_F_DUMP, |link| {
            links.extend(decode(link));
        })?;
        // The sort is stable: of a link that is shown twice, the newer picture stays the last.
        links.sort_by_key(|link: &KernelLink| link.ifindex);
        Ok(Dump { links, is_consistent: !answered.interrupted })
    }

    /// The link of an index, if there is one.
    pub fn get(&mut self, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError> {
        if i32::try_from(ifindex.get()).is_err() {
            return Ok(None);
        }
        let mut found = None;
        match self.exchange(request::get(ifindex), NLM_F_ACK, |link| found = decode(link)) {
            Err(error) if error.errno == libc::ENODEV => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// Changes a link.
    pub fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        self.exchange(request::apply(step)?, NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Sends a request and reads to the end of its answer, handing each link in it to `on_link`.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut on_link: impl FnMut(&[u8]),
    ) -> Result<Answered, KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&packet(request, flags, self.sequence), 0)?;
        let mut interrupted = false;
        loop {
            let len = receive(&self.socket, &mut self.datagram)?;
            for message in Messages::new(&self.datagram[..len]) {
                let message = message?;
                if message.sequence != self.sequence {
                    // Left over from an exchange that an error cut short.
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    RTM_NEWLINK => on_link(message.payload),
                    NLMSG_ERROR => {
                        outcome(message, ERROR_ATTRIBUTES)?;
                        return Ok(Answered { interrupted });
                    }
                    NLMSG_DONE => {
                        outcome(message, DONE_ATTRIBUTES)?;
                        return Ok(Answered { interrupted });
                    }
                    _ => {}
                }
            }
        }
    }
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

fn decode(payload: &[u8]) -> Option<KernelLink> {
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
