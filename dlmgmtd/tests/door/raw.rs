//! A client that can misbehave: packets go out as they are.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dlmgmt_proto::door::{
    Command, Header, Hello, Kind, PACKET_MAX, Subscribe, VERSION, decode_body, encode, split,
};
use dlmgmt_proto::{Error, ErrorCode, SequencedEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, send, sendmsg,
    socket_with,
};

pub struct Raw(OwnedFd);

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Raw {
    pub fn connect(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    /// A connection that has said hello.
    pub fn greeted(path: &Path) -> Self {
        let raw = Self::connect(path);
        let hello = Hello { oldest: VERSION, newest: VERSION, client: "raw".to_owned() };
        raw.call(1, &hello);
        raw.reply::<Hello>(1);
        raw
    }

    pub fn send(&self, packet: &[u8]) -> Result<(), Errno> {
        send(&self.0, packet, SendFlags::NOSIGNAL).map(|_| ())
    }

    pub fn send_fds(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(fds));
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    pub fn call<C: Command>(&self, serial: u64, call: &C) {
        self.send(&encode(Kind::Call, C::NUMBER, serial, call).unwrap()).unwrap();
    }

    /// The next packet; `None` when the door closed the connection.
    pub fn receive(&self) -> Option<(Header, Vec<u8>)> {
        let mut inbox = vec![0; PACKET_MAX];
        let mut take = || {
            let mut control = RecvAncillaryBuffer::default();
            let mut inbox = [IoSliceMut::new(&mut inbox)];
            recvmsg(&self.0, &mut inbox, &mut control, RecvFlags::empty()).map(|got| got.bytes)
        };
        // A reset is told once; what the door said before it follows.
        let len = take().or_else(|_| take()).unwrap_or(0);
        (len > 0).then(|| {
            let (header, body) = split(&inbox[..len]).unwrap();
            (header, body.to_vec())
        })
    }

    pub fn reply<C: Command>(&self, serial: u64) -> C::Reply {
        let (header, body) = self.receive().unwrap();
        assert_eq!((header.kind, header.command, header.serial), (Kind::Reply, C::NUMBER, serial));
        decode_body(C::NUMBER, &body).unwrap()
    }

    /// The next packet, which is an event of the subscription `serial`.
    pub fn event(&self, serial: u64) -> SequencedEvent {
        let (header, body) = self.receive().unwrap();
        assert_eq!((header.kind, header.serial), (Kind::Event, serial));
        decode_body(Subscribe::NUMBER, &body).unwrap()
    }

    /// The next packet, which is an error: its serial and its code.
    pub fn error(&self) -> (u64, ErrorCode) {
        let (header, body) = self.receive().unwrap();
        assert_eq!(header.kind, Kind::Error);
        (header.serial, decode_body::<Error>(0, &body).unwrap().code)
    }

    /// Whether the door has closed the connection, whatever it left to read.
    pub fn is_hung_up(&self) -> bool {
        let mut asked = [PollFd::new(&self.0, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&at_once)).unwrap();
        asked[0].revents().contains(PollFlags::HUP)
    }

    pub fn is_closed(&self) -> bool {
        self.receive().is_none()
    }
}
