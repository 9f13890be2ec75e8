//! The door's server: packets and descriptors over a pair of sockets.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dlmgmt_proto::door::{
    Command, FDS_MAX, Header, Hello, Kind, PACKET_MAX, VERSION, encode, split,
};
use dlmgmt_proto::{SequencedEvent, ZoneId, door::decode_body};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::block_on;
use super::echo::Echo;
use crate::door::{DoorOptions, Limits, serve_connected};

/// How many packets are sent: their answers fit into a socket whose client does not read them yet.
const PACKETS_MAX: usize = 24;

/// Descriptors that the client lets go of must be closed by the daemon within this time.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// Takes the bytes for what a client sends, each packet behind two bytes of its length and one that
/// says which descriptors travel with it.
///
/// Each packet that has an address is answered at that address, once, or the connection is closed.
/// Nothing that the daemon sends is malformed, and it keeps no descriptor.
pub fn door(bytes: &[u8]) {
    let sent = Sent::read(bytes);
    let outcome = block_on(converse(&sent));
    let pipes = outcome.unwrap_or_else(|why| panic!("the client cannot do its part: {why}"));
    pipes.iter().for_each(assert_closed);
}

/// A packet, and how many descriptors of which kind travel with it.
struct Packet<'a> {
    bytes: &'a [u8],
    pipes: usize,
    files: usize,
}

struct Sent<'a> {
    greets: bool,
    packets: Vec<Packet<'a>>,
}

impl<'a> Sent<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let (greets, mut rest) =
            bytes.split_first().map_or((true, bytes), |(g, r)| (g & 1 == 0, r));
        let mut packets = Vec::new();
        while let Some(([low, high, with], more)) = rest.split_first_chunk() {
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
            let (bytes, more) = more.split_at(len);
            let (pipes, files) = (usize::from(with & 7), usize::from(with >> 3 & 1));
            packets.push(Packet { bytes, pipes, files });
            rest = more;
            if packets.len() == PACKETS_MAX {
                break;
            }
        }
        Self { greets, packets }
    }

    /// Whether every packet is of this protocol: the connection then outlives them all.
    fn is_of_the_door(&self) -> bool {
        self.packets.iter().all(|packet| Header::address(packet.bytes).is_some())
    }
}

/// Plays both sides. What is answered are the other ends of the pipes that travelled.
async fn converse(sent: &Sent<'_>) -> io::Result<Vec<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, server) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let options =
        DoorOptions { zone_of: Arc::new(|_| Some(ZoneId::GLOBAL)), limits: Limits::default() };
    let server = serve_connected(stream(server)?, Arc::new(Echo), options);
    let client = Client(stream(client)?);
    let (served, told) = tokio::join!(server, client.play(sent));
    if let Err(why) = served {
        panic!("the connection failed: {why}");
    }
    told
}

fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(socket.into())
}

struct Client(UnixStream);

impl Client {
    async fn play(self, sent: &Sent<'_>) -> io::Result<Vec<OwnedFd>> {
        let mut expected = Vec::new();
        if sent.greets {
            let hello = Hello { oldest: VERSION, newest: VERSION, client: "fuzz".to_owned() };
            let packet = encode(Kind::Call, Hello::NUMBER, 0, &hello).map_err(io::Error::other)?;
            self.send(&packet, &[])?;
            expected.push((Hello::NUMBER, 0));
        }
        let mut pipes = Vec::new();
        for packet in &sent.packets {
            if self.send_with_descriptors(packet, &mut pipes).is_err() {
                break;
            }
            expected.extend(Header::address(packet.bytes));
        }
        self.read_answers(expected, sent.is_of_the_door()).await;
        Ok(pipes)
    }

    fn send_with_descriptors(
        &self,
        packet: &Packet<'_>,
        pipes: &mut Vec<OwnedFd>,
    ) -> io::Result<()> {
        let mut travelling = Vec::new();
        for _ in 0..packet.pipes {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            travelling.push(read);
            pipes.push(write);
        }
        for _ in 0..packet.files {
            let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC)?);
            file.write_all(packet.bytes)?;
            travelling.push(file.into());
        }
        self.send(packet.bytes, &travelling)
    }

    fn send(&self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Reads until each expected answer came, or the connection is closed. `lasts` says that it is
    /// not to be closed before.
    async fn read_answers(&self, mut expected: Vec<(u16, u64)>, lasts: bool) {
        let mut inbox = vec![0; PACKET_MAX];
        while !expected.is_empty() {
            let Some(packet) = self.receive(&mut inbox).await else {
                assert!(!lasts, "closed, and {expected:?} not answered");
                return;
            };
            let (header, body) = split(packet).unwrap_or_else(|why| panic!("malformed: {why}"));
            let address = (header.command, header.serial);
            match header.kind {
                Kind::Call => panic!("the daemon calls"),
                Kind::Event => {
                    let event = decode_body::<SequencedEvent>(header.command, body);
                    assert!(event.is_ok(), "{event:?}");
                }
                Kind::Error if address == (0, 0) && !expected.contains(&address) => {}
                Kind::Reply | Kind::Error => {
                    let at = expected.iter().position(|expected| *expected == address);
                    let at = at.unwrap_or_else(|| panic!("{address:?} is answered unasked"));
                    expected.swap_remove(at);
                }
            }
        }
    }

    async fn receive<'a>(&self, inbox: &'a mut [u8]) -> Option<&'a [u8]> {
        let take = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(
                &self.0,
                &mut [IoSliceMut::new(inbox)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            Ok(got.bytes)
        };
        // A connection that the daemon closed with packets unread is reset.
        let len = self.0.async_io(Interest::READABLE, take).await.unwrap_or(0);
        inbox.get(..len).filter(|packet| !packet.is_empty())
    }
}

/// A pipe is in error once nobody has its other end. A change that a client left behind goes on to
/// its end, so that may take a moment.
fn assert_closed(pipe: &OwnedFd) {
    let give_up = Instant::now() + CLOSED_WITHIN;
    while !is_closed(pipe) {
        assert!(Instant::now() < give_up, "the daemon keeps a descriptor");
        block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }
}

fn is_closed(pipe: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pipe, PollFlags::empty())], Some(&at_once)) == Ok(1)
}
