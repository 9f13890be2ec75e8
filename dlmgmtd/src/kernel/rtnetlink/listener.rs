//! What the kernel tells unasked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dlmgmt_proto::LinkState;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::task::JoinHandle;

use super::connection::{DATAGRAM_MAX, receive};
use super::frame::{Message, Messages};
use super::link::RawLink;
use super::{RTM_DELLINK, RTM_NEWLINK};
use crate::kernel::{Hint, HintQueue};
use crate::model::{Binding, NsCookie};
use crate::sys::Watched;

/// The set of multicast groups with links alone (`RTMGRP_LINK`).
const LINK_GROUP: u32 = 1;

/// Hears of every link of a namespace, from when it is opened until it is dropped.
pub struct Listener {
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens in the namespace of the calling thread, which is `ns`, and turns what it hears into
    /// `hints`. `buffer` bytes can wait in the kernel to be heard. Needs a tokio runtime.
    pub fn open(ns: NsCookie, hints: Arc<HintQueue>, buffer: usize) -> io::Result<Self> {
        let socket = Watched::new(subscribe(buffer)?)?;
        Ok(Self { task: tokio::spawn(listen(socket, ns, hints)) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn subscribe(buffer: usize) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is protocol 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    set_receive_buffer(&socket, buffer)?;
    bind(&socket, &SocketAddrNetlink::new(0, LINK_GROUP))?;
    Ok(socket)
}

/// Without privilege the buffer is as large as the system lets anyone have (`rmem_max`).
fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size_force(&socket, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, bytes))
        .map_err(io::Error::from)
}

async fn listen(socket: Watched, ns: NsCookie, hints: Arc<HintQueue>) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    let mut lost = false;
    // Waiting fails only when the runtime goes down.
    while let Ok(mut ready) = socket.readable().await {
        match ready.try_io(|socket| receive(socket.get_ref(), &mut datagram)) {
            Ok(Ok(len)) => lost |= !push_hints(&datagram[..len], ns, &hints),
            Ok(Err(error)) => {
                tracing::debug!(%error, "notifications of the kernel were lost");
                lost = true;
            }
            // Once it has lost a message, the kernel drops all others, without another word,
            // until everything that waits is read. Whoever looked before would miss those.
            Err(_nothing_waits) if lost => {
                hints.push_overrun();
                lost = false;
            }
            Err(_nothing_waits) => {}
        }
    }
}

/// Whether the whole datagram could be read.
fn push_hints(datagram: &[u8], ns: NsCookie, hints: &HintQueue) -> bool {
    Messages::new(datagram).all(|message| message.is_ok_and(|m| push_hint(m, ns, hints)))
}

fn push_hint(message: Message<'_>, ns: NsCookie, hints: &HintQueue) -> bool {
    if !matches!(message.kind, RTM_NEWLINK | RTM_DELLINK) {
        return true;
    }
    let Some(link) = RawLink::parse(message.payload) else { return false };
    let hint = Hint {
        went_down: link.state() == LinkState::Down,
        was_deleted: message.kind == RTM_DELLINK && !link.is_of_bridge(),
        moved_to: None,
    };
    hints.push(Binding { ns, ifindex: link.ifindex() }, hint);
    true
}
