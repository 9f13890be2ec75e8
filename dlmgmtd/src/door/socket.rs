//! Packets in and out of one accepted connection.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dlmgmt_proto::door::{
    Call, CodecError, FDS_MAX, Header, HeaderError, Kind, PACKET_MAX, VERSION, split,
};
use dlmgmt_proto::{Error, ErrorCode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Which call a packet answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) command: u16,
    pub(super) serial: u64,
}

/// What came in.
pub(super) enum Incoming {
    /// A call that can be read, with its descriptors.
    Call(Address, Call, Vec<OwnedFd>),
    /// A packet that cannot: the error to answer.
    Bad(Address, Error),
    /// A packet of some other protocol: the error to leave with.
    Alien(Error),
    /// The client has closed its end.
    Closed,
}

/// One packet to send, and at most one descriptor with it.
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
}

/// A connection's socket.
///
/// tokio has no type for `SOCK_SEQPACKET`. Of its `UnixStream` only what is the same for both is
/// used: readiness and the peer's credentials.
pub(super) struct Socket(UnixStream);

impl Socket {
    pub(super) fn new(accepted: UnixStream) -> Self {
        Self(accepted)
    }

    /// The same socket, whose readiness the runtime of the caller tells.
    pub(super) fn registered_here(self) -> io::Result<Self> {
        UnixStream::from_std(self.0.into_std()?).map(Self)
    }

    /// The next packet. Dropping the future loses none.
    pub(super) async fn recv(&self) -> io::Result<Incoming> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await
    }

    /// The next packet if there is one by now; `WouldBlock` otherwise.
    pub(super) fn try_recv(&self) -> io::Result<Incoming> {
        self.0.try_io(Interest::READABLE, || receive(self.0.as_fd()))
    }

    /// Waits until the client has closed its end, whatever it left unread.
    pub(super) async fn hung_up(&self) -> io::Result<()> {
        // Sockets of this family have no priority data: that interest is in the end alone.
        while !self.0.ready(Interest::PRIORITY).await?.is_read_closed() {}
        Ok(())
    }

    /// Sends a packet once the socket takes it. Dropping the future sends it wholly or not.
    pub(super) async fn send(&self, packet: &Packet) -> io::Result<()> {
        let Packet { bytes, fd } = packet;
        self.0.async_io(Interest::WRITABLE, || self.try_send(bytes, fd.as_ref())).await
    }

    /// Sends a packet if the socket takes it now; `WouldBlock` otherwise.
    pub(super) fn try_send(&self, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        transmit(self.0.as_fd(), bytes, fd)
    }
}

fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let Some(fd) = fd else {
        // The kernel takes this a good deal faster than a message with room for control data.
        send(socket, bytes, flags)?;
        return Ok(());
    };
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

thread_local! {
    /// A packet is read and decoded without a pause between, so one buffer serves a whole thread.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PACKET_MAX].into());
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Incoming> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
        Ok(read(&buffer[..got.bytes], got.flags, &mut control))
    })
}

fn read(packet: &[u8], flags: ReturnFlags, control: &mut RecvAncillaryBuffer<'_>) -> Incoming {
    if packet.is_empty() {
        return Incoming::Closed;
    }
    let Some((command, serial)) = Header::address(packet) else {
        return Incoming::Alien(invalid("this is the door of dlmgmtd, and that no packet for it"));
    };
    let address = Address { command, serial };
    if flags.contains(ReturnFlags::TRUNC) {
        let why = format!("a packet is at most {PACKET_MAX} bytes long");
        return Incoming::Bad(address, invalid(why));
    }
    if flags.contains(ReturnFlags::CTRUNC) {
        let why = format!("at most {FDS_MAX} descriptors travel with a packet");
        return Incoming::Bad(address, invalid(why));
    }
    match decode(packet) {
        Ok(call) => Incoming::Call(address, call, descriptors(control)),
        Err(error) => Incoming::Bad(address, error),
    }
}

fn decode(packet: &[u8]) -> Result<Call, Error> {
    let (header, body) = split(packet).map_err(refusal)?;
    if header.kind != Kind::Call {
        return Err(invalid("a client sends calls only"));
    }
    Call::decode(header.command, body).map_err(refusal)
}

fn descriptors(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect()
}

/// The error that a packet is answered with when it cannot be read.
fn refusal(why: CodecError) -> Error {
    match why {
        CodecError::UnknownCommand(_) => Error::new(ErrorCode::NotSupported, why.to_string()),
        CodecError::Header(HeaderError::Version(_)) => {
            let text = format!("{why}: version {VERSION} is");
            Error::new(ErrorCode::NotSupported, text)
        }
        other => invalid(other.to_string()),
    }
}

pub(super) fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorCode::Invalid, why)
}
