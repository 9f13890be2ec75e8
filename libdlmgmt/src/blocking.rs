//! The client that blocks.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::door::{
    Acknowledge, AttachZone, Changed, Command, CreateLink, Created, DeleteLink, DeletePhys,
    DetachZone, Export, GetLink, GetLinkId, GetName, HelloReply, HoldId, Import, LinkFilter, List,
    ListProperties, ListZones, MakeLink, Named, Reclaim, Release, Rename, RenameItem,
    ResetProperties, ResetZone, SetProperties, SetZone, Subscribe, Where,
};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{
    LinkClass, LinkDetails, LinkId, LinkInfo, LinkRef, SequencedEvent, Topic, Whereabouts, ZoneId,
    ZoneInfo, ZoneName,
};
use rustix::net::{RecvFlags, SendFlags};

use crate::ClientError;
use crate::wire::{self, Wire};

type Result<T> = std::result::Result<T, ClientError>;

/// A connection to the daemon. Threads may share it; their calls are made one after the other.
pub struct Client {
    path: PathBuf,
    socket: OwnedFd,
    wire: Mutex<Wire>,
    greeting: HelloReply,
}

impl Client {
    /// Connects to the door at `path`; [`crate::DOOR`] is where it is by default.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (socket, mut wire) = (wire::dial(path)?, Wire::new());
        let (greeting, _) = exchange(socket.as_fd(), &mut wire, &wire::hello(), None)?;
        Ok(Self { path: path.to_owned(), socket, wire: Mutex::new(wire), greeting })
    }

    /// What the daemon said at the start.
    pub fn greeting(&self) -> &HelloReply {
        &self.greeting
    }

    /// Makes a call and waits for its answer.
    pub fn call<C: Command>(&self, call: &C) -> Result<C::Reply> {
        Ok(self.exchange(call, None)?.0)
    }

    /// The linkid of a link.
    pub fn linkid(&self, link: LinkRef) -> Result<LinkId> {
        self.call(&GetLinkId { link })
    }

    /// The name of a linkid, and the zone where it holds.
    pub fn name(&self, id: LinkId) -> Result<Named> {
        self.call(&GetName { id })
    }

    /// All that is known of a link.
    pub fn link(&self, link: LinkRef) -> Result<LinkInfo> {
        self.call(&GetLink { link })
    }

    /// The links of one moment, in the order of their ids. Other calls wait meanwhile.
    pub fn list(&self, filter: LinkFilter) -> Result<Vec<LinkInfo>> {
        let mut wire = self.lock();
        let mut links = Vec::new();
        let mut ask = List { filter, cursor: None };
        loop {
            let (page, _) = exchange(self.socket.as_fd(), &mut wire, &ask, None)?;
            links.extend(page.links);
            ask.cursor = page.next;
            if ask.cursor.is_none() {
                return Ok(links);
            }
        }
    }

    /// What the kernel has of these links at this moment, of each in the order asked for. Other
    /// calls may come between.
    pub fn details(&self, links: &[LinkId], topics: &[Topic]) -> Result<Vec<LinkDetails>> {
        let mut told = Vec::with_capacity(links.len());
        while told.len() < links.len() {
            let ask = wire::details_of(&links[told.len()..], topics);
            told.extend(wire::told(self.call(&ask)?)?);
        }
        Ok(told)
    }

    /// Renames links, all of them or none.
    pub fn rename(&self, items: Vec<RenameItem>) -> Result<Changed> {
        self.call(&Rename { items })
    }

    /// Ends the record of a physical link whose hardware is absent.
    pub fn delete_phys(&self, link: LinkRef) -> Result<Changed> {
        self.call(&DeletePhys { link })
    }

    /// Lends a link to a zone.
    pub fn set_zone(&self, call: SetZone) -> Result<Changed> {
        self.call(&call)
    }

    /// Takes a lent link home.
    pub fn reset_zone(&self, call: ResetZone) -> Result<Changed> {
        self.call(&call)
    }

    /// Makes a virtual link, or a pair of them.
    pub fn make_link(&self, call: MakeLink) -> Result<Created> {
        self.call(&call)
    }

    /// Makes a veth pair or a macvlan.
    pub fn create_link(&self, call: CreateLink) -> Result<Created> {
        self.call(&call)
    }

    /// Ends a virtual link of this class, and its record.
    pub fn delete_link(&self, link: LinkRef, class: LinkClass) -> Result<Changed> {
        self.call(&DeleteLink { link, class })
    }

    /// Where a link is, whoever moved it there.
    pub fn whereabouts(&self, link: LinkRef) -> Result<Whereabouts> {
        self.call(&Where { link })
    }

    /// Brings a link home that somebody moved away.
    pub fn reclaim(&self, link: LinkRef) -> Result<Changed> {
        self.call(&Reclaim { link })
    }

    /// Properties of a link, all that it has where none is named.
    pub fn properties(&self, link: LinkRef, names: Vec<String>) -> Result<Vec<PropertyInfo>> {
        Ok(self.call(&ListProperties { link, names })?.properties)
    }

    /// Sets properties of a link, all of them or none.
    pub fn set_properties(&self, call: SetProperties) -> Result<Changed> {
        self.call(&call)
    }

    /// Takes back what was set, all of it or none.
    pub fn reset_properties(&self, call: ResetProperties) -> Result<Changed> {
        self.call(&call)
    }

    /// The zones that the caller may see, in the order of their numbers.
    pub fn zones(&self) -> Result<Vec<ZoneInfo>> {
        let mut zones = Vec::new();
        let mut ask = ListZones { after: None };
        loop {
            let page = self.call(&ask)?;
            zones.extend(page.zones);
            ask.after = page.next;
            if ask.after.is_none() {
                return Ok(zones);
            }
        }
    }

    /// Registers a zone. Its namespace is `descriptor`, an open network namespace or a pidfd; or
    /// without one, what `call` names.
    pub fn attach_zone(
        &self,
        call: AttachZone,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Changed> {
        Ok(self.exchange(&call, descriptor)?.0)
    }

    /// Ends a zone: its loans come home. Its namespace may live on.
    pub fn detach_zone(&self, zone: ZoneName) -> Result<Changed> {
        self.call(&DetachZone { zone })
    }

    /// Claims a link for as long as the guard lives, on a connection of its own.
    pub fn hold(&self, link: LinkRef) -> Result<Hold> {
        let client = Self::connect(&self.path)?;
        let id = client.call(&dlmgmt_proto::door::Hold { link })?;
        Ok(Hold { client, id })
    }

    /// Asks to be told of changes, on a connection of its own.
    pub fn subscribe(&self, call: Subscribe) -> Result<Subscription> {
        let client = Self::connect(&self.path)?;
        client.call(&call)?;
        let Self { socket, wire, .. } = client;
        let wire = wire.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Subscription { serial: wire.last_serial(), socket, wire, early: VecDeque::new() })
    }

    /// The persistent registry as text.
    pub fn export(&self) -> Result<Vec<u8>> {
        let (reply, fds) = self.exchange(&Export {}, None)?;
        wire::exported(reply, fds)
    }

    /// Brings in a registry from a regular file, all of it, wherever the file is opened.
    pub fn import(&self, file: &File) -> Result<Changed> {
        Ok(self.exchange(&Import {}, Some(file.as_fd()))?.0)
    }

    fn exchange<C: Command>(
        &self,
        call: &C,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(C::Reply, Vec<OwnedFd>)> {
        exchange(self.socket.as_fd(), &mut self.lock(), call, fd)
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        // A call that panicked leaves at most an answer behind, which the next call skips.
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exchange<C: Command>(
    socket: BorrowedFd<'_>,
    wire: &mut Wire,
    call: &C,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(C::Reply, Vec<OwnedFd>)> {
    let serial = wire.draft(call)?;
    wire.send(socket, fd, SendFlags::empty())?;
    loop {
        let got = wire.receive(socket, RecvFlags::empty())?;
        if let Some(answer) = wire.answer::<C>(got, serial)? {
            return Ok(answer);
        }
    }
}

/// A claim on a link. It ends when this is dropped, or at the latest when the process ends, unless
/// another process was given the connection.
pub struct Hold {
    client: Client,
    id: HoldId,
}

impl Hold {
    /// Ends the claim and waits until the daemon has ended it.
    pub fn release(self) -> Result<()> {
        self.client.call(&Release { hold: self.id }).map(|_| ())
    }
}

impl AsFd for Hold {
    /// The connection, to be handed on: the claim lasts as long as anybody has it open.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.socket.as_fd()
    }
}

/// Changes as they happen. The iterator ends when the daemon goes down.
pub struct Subscription {
    socket: OwnedFd,
    wire: Wire,
    serial: u64,
    /// Events that came before the answer to an `acknowledge`.
    early: VecDeque<SequencedEvent>,
}

impl Subscription {
    /// As a participant: done with that zone, which is shutting down.
    ///
    /// Events that come before the answer are kept for [`Iterator::next`].
    pub fn acknowledge(&mut self, zone: ZoneId) -> Result<()> {
        let serial = self.wire.draft(&Acknowledge { serial: self.serial, zone })?;
        self.wire.send(self.socket.as_fd(), None, SendFlags::empty())?;
        loop {
            let got = self.wire.receive(self.socket.as_fd(), RecvFlags::empty())?;
            match self.wire.event(&got, self.serial)? {
                Some(event) => self.early.push_back(event),
                None if self.wire.answer::<Acknowledge>(got, serial)?.is_some() => return Ok(()),
                None => {}
            }
        }
    }

    /// Whether an event was kept by [`Self::acknowledge`], which polling the connection does not
    /// tell.
    pub fn has_kept(&self) -> bool {
        !self.early.is_empty()
    }

    fn receive(&mut self) -> Option<Result<SequencedEvent>> {
        loop {
            let got = match self.wire.receive(self.socket.as_fd(), RecvFlags::empty()) {
                Ok(got) => got,
                Err(why) => return Some(Err(why.into())),
            };
            match self.wire.event(&got, self.serial) {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => {}
                Err(ClientError::Closed) => return None,
                Err(why) => return Some(Err(why)),
            }
        }
    }
}

impl AsFd for Subscription {
    /// The connection, to be polled for input: an event or the end is there when it is readable.
    /// See also [`Self::has_kept`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Iterator for Subscription {
    type Item = Result<SequencedEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.early.pop_front() {
            Some(event) => Some(Ok(event)),
            None => self.receive(),
        }
    }
}
