//! A netlink socket for requests: one at a time, each followed to the end of its answer.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::{RecvFlags, sockopt};

use super::frame::{Message, Messages, attributes, string};
use crate::kernel::KernelError;

/// Larger than any datagram: the kernel fills 32 KiB where it has more to tell, and more only
/// where one link's alternative names alone do not fit.
pub const DATAGRAM_MAX: usize = 256 << 10;

/// Where the extended-ack attributes of an NLMSG_ERROR begin: after the errno and the header of
/// the request, without its body (NETLINK_CAP_ACK).
const ERROR_ATTRIBUTES: usize = 20;

/// Where those of an NLMSG_DONE begin: after the errno.
const DONE_ATTRIBUTES: usize = 4;

const NLMSGERR_ATTR_MSG: u16 = 1;

/// What notifications have in the place of a request's sequence number.
const UNASKED: u32 = 0;

/// A socket to one part of the kernel, in the namespace of the thread that opened it.
pub struct Channel {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

/// The answer to a request that was sent.
pub struct Expected {
    sequence: u32,
    /// Its last message is the word that this is all; otherwise it has one message alone.
    is_closed: bool,
}

impl Expected {
    pub(super) fn to(sequence: u32, flags: u16) -> Self {
        Self { sequence, is_closed: flags & (NLM_F_ACK | NLM_F_DUMP) != 0 }
    }
}

/// How an exchange ended well.
pub struct Answered {
    /// The picture that the answers give is not of one moment.
    pub is_interrupted: bool,
}

impl Channel {
    /// Opens a socket of a netlink protocol.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
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

    /// The socket, to be set up.
    pub fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Sends a request and reads to the end of its answer, handing each message of it, and each
    /// notification that comes meanwhile, to `on_message`.
    pub fn exchange<M: NetlinkSerializable>(
        &mut self,
        request: M,
        flags: u16,
        on_message: impl FnMut(Message<'_>),
    ) -> Result<Answered, KernelError> {
        let [expected] = self.send_each([(request, flags)])?;
        self.hear(&expected, on_message)
    }

    /// As [`Channel::exchange`] with several requests, each with its flags, that are one for the
    /// kernel: an error of any is the answer, or else the only one that asks for an answer has it.
    pub fn exchange_all<M: NetlinkSerializable>(
        &mut self,
        requests: Vec<(M, u16)>,
        on_message: impl FnMut(Message<'_>),
    ) -> Result<Answered, KernelError> {
        let sequence = self.next_sequence();
        let mut packets = Vec::new();
        for (request, flags) in requests {
            append_packet(&mut packets, request, flags, sequence);
        }
        self.socket.send(&packets, 0)?;
        self.hear(&Expected::to(sequence, NLM_F_ACK), on_message)
    }

    /// Sends requests at one stroke, which the kernel answers one after the other: each answer is to
    /// be heard in its turn, or none that follows.
    pub fn send_each<M: NetlinkSerializable, const N: usize>(
        &mut self,
        requests: [(M, u16); N],
    ) -> io::Result<[Expected; N]> {
        let mut packets = Vec::new();
        let expected = requests.map(|(request, flags)| {
            let expected = Expected::to(self.next_sequence(), flags);
            append_packet(&mut packets, request, flags, expected.sequence);
            expected
        });
        self.socket.send(&packets, 0)?;
        Ok(expected)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Reads to the end of an answer, handing each message of it, and each notification that comes
    /// meanwhile, to `on_message`.
    pub fn hear(
        &mut self,
        expected: &Expected,
        mut on_message: impl FnMut(Message<'_>),
    ) -> Result<Answered, KernelError> {
        let mut is_interrupted = false;
        loop {
            let len = receive(&self.socket, &mut self.datagram)?;
            let datagram = &self.datagram[..len];
            if read_answer(datagram, expected, &mut is_interrupted, &mut on_message)? {
                return Ok(Answered { is_interrupted });
            }
        }
    }
}

/// Reads one datagram of an answer; tells whether it was the last one.
pub(super) fn read_answer(
    datagram: &[u8],
    expected: &Expected,
    is_interrupted: &mut bool,
    mut on_message: impl FnMut(Message<'_>),
) -> Result<bool, KernelError> {
    for message in Messages::new(datagram) {
        let message = message?;
        if message.sequence == UNASKED {
            on_message(message);
            continue;
        }
        if message.sequence != expected.sequence {
            // Left over from an exchange that an error cut short.
            continue;
        }
        *is_interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        match message.kind {
            NLMSG_ERROR => return outcome(message, ERROR_ATTRIBUTES).map(|()| true),
            NLMSG_DONE => return outcome(message, DONE_ATTRIBUTES).map(|()| true),
            _ => {
                on_message(message);
                if !expected.is_closed {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn append_packet<M: NetlinkSerializable>(
    packets: &mut Vec<u8>,
    request: M,
    flags: u16,
    sequence: u32,
) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let start = packets.len();
    packets.resize(start + message.header.length as usize, 0);
    message.serialize(&mut packets[start..]);
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
