//! Packets of one connection: what the blocking and the asynchronous client have in common.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dlmgmt_proto::door::{
    Command, Details, Exported, FDS_MAX, GetDetails, Hello, Kind, PACKET_MAX, Subscribe, VERSION,
    decode_body, encode_into, split,
};
use dlmgmt_proto::{LinkDetails, LinkId, SequencedEvent, Topic};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    send, sendmsg, socket_with,
};

use crate::ClientError;

type Result<T> = std::result::Result<T, ClientError>;

/// A connection of its own to the door at `path`.
pub(crate) fn dial(path: &Path) -> Result<OwnedFd> {
    let dial = || -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let door = SocketAddrUnix::new(path)?;
        retry_on_intr(|| connect(&socket, &door))?;
        Ok(socket)
    };
    dial().map_err(|why| ClientError::Unreachable { path: path.to_owned(), source: why.into() })
}

/// The first call, under the name of this program.
pub(crate) fn hello() -> Hello {
    let program = std::env::args_os().next().unwrap_or_default();
    let client = Path::new(&program).file_name().unwrap_or_default().display().to_string();
    Hello { oldest: VERSION, newest: VERSION, client }
}

/// The call about the first of these links, as many as one call is good for.
pub(crate) fn details_of(links: &[LinkId], topics: &[Topic]) -> GetDetails {
    const AT_ONCE: usize = 256;
    let links = links[..links.len().min(AT_ONCE)].to_vec();
    GetDetails { links, topics: topics.to_vec() }
}

/// What it answers: something, so that whoever goes on asking comes to an end.
pub(crate) fn told(reply: Details) -> Result<Vec<LinkDetails>> {
    match reply.links.is_empty() {
        true => Err(ClientError::Protocol("the details are those of no link".to_owned())),
        false => Ok(reply.links),
    }
}

/// The text of an export, from its file.
pub(crate) fn exported(reply: Exported, fds: Vec<OwnedFd>) -> Result<Vec<u8>> {
    let Ok([fd]) = <[OwnedFd; 1]>::try_from(fds) else {
        return Err(ClientError::Protocol("an export came without its file".to_owned()));
    };
    let file = File::from(fd);
    // The size is the file's own: the reply's is not to be trusted with an allocation.
    if file.metadata()?.len() != reply.len {
        return Err(ClientError::Protocol("an export's file has another length".to_owned()));
    }
    let mut text = vec![0; usize::try_from(reply.len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

/// Both directions of a connection, without its socket.
pub(crate) struct Wire {
    last_serial: u64,
    draft: Vec<u8>,
    inbox: Box<[u8]>,
}

/// A packet in the inbox: its length and its descriptors.
pub(crate) struct Received {
    len: usize,
    fds: Vec<OwnedFd>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { last_serial: 0, draft: Vec::new(), inbox: vec![0; PACKET_MAX].into() }
    }

    /// Makes the packet of a call; tells its serial.
    pub(crate) fn draft<C: Command>(&mut self, call: &C) -> Result<u64> {
        self.last_serial += 1;
        encode_into(&mut self.draft, Kind::Call, C::NUMBER, self.last_serial, call)?;
        Ok(self.last_serial)
    }

    /// The serial of the latest call.
    pub(crate) fn last_serial(&self) -> u64 {
        self.last_serial
    }

    /// Sends the packet that was made.
    pub(crate) fn send(
        &self,
        socket: BorrowedFd<'_>,
        fd: Option<BorrowedFd<'_>>,
        flags: SendFlags,
    ) -> io::Result<()> {
        let flags = flags | SendFlags::NOSIGNAL;
        let sent = match fd {
            Some(fd) => retry_on_intr(|| send_with(socket, &self.draft, fd, flags)),
            // The kernel takes this a good deal faster than a message with room for control data.
            None => retry_on_intr(|| send(socket, &self.draft, flags)),
        };
        match sent {
            // The daemon may have left a word why it closed: the receiving side finds it.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    /// Receives a packet into the inbox.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        flags: RecvFlags,
    ) -> io::Result<Received> {
        let mut take = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut inbox = [IoSliceMut::new(&mut self.inbox)];
            let flags = flags | RecvFlags::CMSG_CLOEXEC;
            let got = retry_on_intr(|| recvmsg(socket, &mut inbox, &mut control, flags))?;
            Ok(Received { len: got.bytes, fds: descriptors(&mut control) })
        };
        match take() {
            // Told once, when the daemon closed before it read everything; its last words follow.
            Err(Errno::CONNRESET) => take(),
            taken => taken,
        }
        .map_err(io::Error::from)
    }

    /// The answer to the call `serial`, if this packet is it.
    pub(crate) fn answer<C: Command>(
        &self,
        got: Received,
        serial: u64,
    ) -> Result<Option<(C::Reply, Vec<OwnedFd>)>> {
        match self.read(&got, serial)? {
            Some((Kind::Reply, body)) => Ok(Some((decode_body(C::NUMBER, body)?, got.fds))),
            Some((kind, _)) => Err(ClientError::Protocol(format!("{kind:?} answers a call"))),
            None => Ok(None),
        }
    }

    /// The event of the subscription `serial`, if this packet is one.
    pub(crate) fn event(&self, got: &Received, serial: u64) -> Result<Option<SequencedEvent>> {
        match self.read(got, serial)? {
            Some((Kind::Event, body)) => Ok(Some(decode_body(Subscribe::NUMBER, body)?)),
            _ => Ok(None),
        }
    }

    /// The kind and body of a packet that belongs to `serial`. An error for `serial`, or for no
    /// call at all, is the daemon's refusal.
    fn read(&self, got: &Received, serial: u64) -> Result<Option<(Kind, &[u8])>> {
        if got.len == 0 {
            return Err(ClientError::Closed);
        }
        let (header, body) = split(&self.inbox[..got.len])?;
        if header.kind == Kind::Error && (header.serial == serial || header.serial == 0) {
            return Err(ClientError::Refused(decode_body(header.command, body)?));
        }
        // Anything else answers a call that was given up while it was under way.
        Ok((header.serial == serial).then_some((header.kind, body)))
    }
}

fn send_with(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    fd: BorrowedFd<'_>,
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags)
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
