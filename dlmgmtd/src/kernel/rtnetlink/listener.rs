//! What the kernel tells unasked.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dlmgmt_proto::LinkState;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::task::JoinHandle;

use super::channel::{DATAGRAM_MAX, set_receive_buffer};
use super::frame::{Message, Messages};
use super::link::RawLink;
use super::numbers::number_told;
use super::zones::Zones;
use super::{RTM_DELLINK, RTM_NEWLINK};
use crate::kernel::{Hint, HintQueue};
use crate::model::{Binding, NsCookie};
use crate::sys::{self, Watched};

const RTM_DELNSID: u16 = 89;

/// The set of the multicast groups of links (`RTNLGRP_LINK`, 1) and of the numbers of namespaces
/// (`RTNLGRP_NSID`, 28). Group 1 is the lowest bit.
const GROUPS: u32 = 1 | 1 << 27;

/// Hears of every link at home and in watched namespaces, from when it is opened until it is
/// dropped.
pub struct Listener {
    task: JoinHandle<()>,
    /// Whether it hears of more than home.
    pub hears_zones: bool,
}

impl Listener {
    /// Listens in the namespace of the calling thread, and turns what it hears into `hints`.
    /// `buffer` bytes can wait in the kernel to be heard. Needs a tokio runtime.
    pub fn open(zones: Arc<Zones>, hints: Arc<HintQueue>, buffer: usize) -> io::Result<Self> {
        let socket = subscribe(buffer)?;
        let hears_zones = sys::listen_to_all_namespaces(&socket)
            .inspect_err(|why| tracing::warn!("no other namespace can be watched: {why}"))
            .is_ok();
        let ear = Ear { zones, hints, lost: false };
        Ok(Self { task: tokio::spawn(listen(Watched::new(socket)?, ear)), hears_zones })
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
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

async fn listen(socket: Watched, mut ear: Ear) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    // Waiting fails only when the runtime goes down.
    while let Ok(mut ready) = socket.readable().await {
        match ready.try_io(|socket| sys::receive_with_nsid(socket.get_ref(), &mut datagram)) {
            Ok(Ok((len, nsid))) => match datagram.get(..len) {
                Some(datagram) => ear.hear(datagram, nsid).await,
                None => ear.lost = true,
            },
            Ok(Err(error)) => {
                tracing::debug!(%error, "notifications of the kernel were lost");
                ear.lost = true;
            }
            // Once it has lost a message, the kernel drops all others, without another word,
            // until everything that waits is read. Whoever looked before would miss those.
            Err(_nothing_waits) => ear.make_good().await,
        }
    }
}

/// Understands what is heard.
struct Ear {
    zones: Arc<Zones>,
    hints: Arc<HintQueue>,
    lost: bool,
}

impl Ear {
    async fn hear(&mut self, datagram: &[u8], nsid: Option<i32>) {
        let origin = self.zones.of_number(nsid);
        for message in Messages::new(datagram) {
            match (message, origin) {
                (Err(_), _) => self.lost = true,
                (Ok(message), _) if message.kind == RTM_DELNSID => {
                    self.hear_of_an_end(message).await
                }
                (Ok(message), Some(ns)) => self.hear_of_a_link(message, ns),
                (Ok(_), None) => {}
            }
        }
    }

    fn hear_of_a_link(&mut self, message: Message<'_>, ns: NsCookie) {
        if !matches!(message.kind, RTM_NEWLINK | RTM_DELLINK) {
            return;
        }
        let Some(link) = RawLink::parse(message.payload) else {
            self.lost = true;
            return;
        };
        let is_end = message.kind == RTM_DELLINK;
        let is_gone = is_end && !link.is_of_bridge();
        let moved_to = link.moved_to().filter(|_| is_gone);
        let was_deleted = is_gone && moved_to.is_none();
        let hint = Hint {
            went_down: link.state() == LinkState::Down,
            left_bridge: is_end && link.is_of_bridge(),
            was_deleted,
            is_over: was_deleted,
            moved_to: moved_to.map(|(nsid, ifindex)| self.zones.moved_to(ns, nsid, ifindex)),
        };
        self.hints.push(Binding { ns, ifindex: link.ifindex() }, hint);
    }

    /// A number is free again. It may have been that of a namespace before the one that is known
    /// by it now, so the kernel is asked.
    async fn hear_of_an_end(&mut self, message: Message<'_>) {
        let Some(nsid) = number_told(message) else { return };
        if self.zones.of_number(Some(nsid)).is_some() {
            self.bury_the_dead(Some(nsid)).await;
        }
    }

    /// After a loss, everything is to be looked at; of namespaces that died, that is done here.
    async fn make_good(&mut self) {
        if std::mem::take(&mut self.lost) {
            tracing::info!("notifications of the kernel were lost: all links are looked at");
            self.bury_the_dead(None).await;
            self.hints.push_overrun();
        }
    }

    async fn bury_the_dead(&self, of_number: Option<i32>) {
        let zones = Arc::clone(&self.zones);
        let dead = tokio::task::spawn_blocking(move || zones.bury_the_dead(of_number)).await;
        // It fails only when the runtime goes down.
        dead.unwrap_or_default().into_iter().for_each(|ns| self.hints.push_ended(ns));
    }
}

/// Hears one datagram as if it came from the namespace that has the number `nsid`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) async fn hear_once(zones: Arc<Zones>, datagram: &[u8], nsid: Option<i32>) {
    let mut ear = Ear { zones, hints: Arc::default(), lost: false };
    ear.hear(datagram, nsid).await;
}
