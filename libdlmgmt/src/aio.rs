//! The client for programs that run on tokio: as the blocking one, call by call.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::path::{Path, PathBuf};

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
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::ClientError;
use crate::wire::{self, Received, Wire};

type Result<T> = std::result::Result<T, ClientError>;

/// A connection to the daemon. Tasks may share it; their calls are made one after the other.
///
/// Giving up a call (dropping its future) does not undo it: the daemon may still do what it asks.
pub struct Client {
    path: PathBuf,
    line: Mutex<Line>,
    greeting: HelloReply,
}

impl Client {
    /// Connects to the door at `path`; [`crate::DOOR`] is where it is by default.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let mut line = Line::dial(path.clone()).await?;
        let (greeting, _) = line.exchange(&wire::hello(), None).await?;
        Ok(Self { path, line: Mutex::new(line), greeting })
    }

    /// What the daemon said at the start.
    pub fn greeting(&self) -> &HelloReply {
        &self.greeting
    }

    /// Makes a call and waits for its answer.
    pub async fn call<C: Command>(&self, call: &C) -> Result<C::Reply> {
        Ok(self.line.lock().await.exchange(call, None).await?.0)
    }

    /// The linkid of a link.
    pub async fn linkid(&self, link: LinkRef) -> Result<LinkId> {
        self.call(&GetLinkId { link }).await
    }

    /// The name of a linkid, and the zone where it holds.
    pub async fn name(&self, id: LinkId) -> Result<Named> {
        self.call(&GetName { id }).await
    }

    /// All that is known of a link.
    pub async fn link(&self, link: LinkRef) -> Result<LinkInfo> {
        self.call(&GetLink { link }).await
    }

    /// The links of one moment, in the order of their ids. Other calls wait meanwhile.
    pub async fn list(&self, filter: LinkFilter) -> Result<Vec<LinkInfo>> {
        let mut line = self.line.lock().await;
        let mut links = Vec::new();
        let mut ask = List { filter, cursor: None };
        loop {
            let (page, _) = line.exchange(&ask, None).await?;
            links.extend(page.links);
            ask.cursor = page.next;
            if ask.cursor.is_none() {
                return Ok(links);
            }
        }
    }

    /// What the kernel has of these links at this moment, of each in the order asked for. Other
    /// calls may come between.
    pub async fn details(&self, links: &[LinkId], topics: &[Topic]) -> Result<Vec<LinkDetails>> {
        let mut told = Vec::with_capacity(links.len());
        while told.len() < links.len() {
            let ask = wire::details_of(&links[told.len()..], topics);
            told.extend(wire::told(self.call(&ask).await?)?);
        }
        Ok(told)
    }

    /// Renames links, all of them or none.
    pub async fn rename(&self, items: Vec<RenameItem>) -> Result<Changed> {
        self.call(&Rename { items }).await
    }

    /// Ends the record of a physical link whose hardware is absent.
    pub async fn delete_phys(&self, link: LinkRef) -> Result<Changed> {
        self.call(&DeletePhys { link }).await
    }

    /// Lends a link to a zone.
    pub async fn set_zone(&self, call: SetZone) -> Result<Changed> {
        self.call(&call).await
    }

    /// Takes a lent link home.
    pub async fn reset_zone(&self, call: ResetZone) -> Result<Changed> {
        self.call(&call).await
    }

    /// Makes a virtual link, or a pair of them.
    pub async fn make_link(&self, call: MakeLink) -> Result<Created> {
        self.call(&call).await
    }

    /// Makes a veth pair or a macvlan.
    pub async fn create_link(&self, call: CreateLink) -> Result<Created> {
        self.call(&call).await
    }

    /// Ends a virtual link of this class, and its record.
    pub async fn delete_link(&self, link: LinkRef, class: LinkClass) -> Result<Changed> {
        self.call(&DeleteLink { link, class }).await
    }

    /// Where a link is, whoever moved it there.
    pub async fn whereabouts(&self, link: LinkRef) -> Result<Whereabouts> {
        self.call(&Where { link }).await
    }

    /// Brings a link home that somebody moved away.
    pub async fn reclaim(&self, link: LinkRef) -> Result<Changed> {
        self.call(&Reclaim { link }).await
    }

    /// Properties of a link, all that it has where none is named.
    pub async fn properties(&self, link: LinkRef, names: Vec<String>) -> Result<Vec<PropertyInfo>> {
        Ok(self.call(&ListProperties { link, names }).await?.properties)
    }

    /// Sets properties of a link, all of them or none.
    pub async fn set_properties(&self, call: SetProperties) -> Result<Changed> {
        self.call(&call).await
    }

    /// Takes back what was set, all of it or none.
    pub async fn reset_properties(&self, call: ResetProperties) -> Result<Changed> {
        self.call(&call).await
    }

    /// The zones that the caller may see, in the order of their numbers.
    pub async fn zones(&self) -> Result<Vec<ZoneInfo>> {
        let mut zones = Vec::new();
        let mut ask = ListZones { after: None };
        loop {
            let page = self.call(&ask).await?;
            zones.extend(page.zones);
            ask.after = page.next;
            if ask.after.is_none() {
                return Ok(zones);
            }
        }
    }

    /// Registers a zone. Its namespace is `descriptor`, an open network namespace or a pidfd; or
    /// without one, what `call` names.
    pub async fn attach_zone(
        &self,
        call: AttachZone,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Changed> {
        Ok(self.line.lock().await.exchange(&call, descriptor).await?.0)
    }

    /// Ends a zone: its loans come home. Its namespace may live on.
    pub async fn detach_zone(&self, zone: ZoneName) -> Result<Changed> {
        self.call(&DetachZone { zone }).await
    }

    /// Claims a link for as long as the guard lives, on a connection of its own.
    pub async fn hold(&self, link: LinkRef) -> Result<Hold> {
        let client = Self::connect(&self.path).await?;
        let id = client.call(&dlmgmt_proto::door::Hold { link }).await?;
        Ok(Hold { client, id })
    }

    /// Asks to be told of changes, on a connection of its own.
    pub async fn subscribe(&self, call: Subscribe) -> Result<Subscription> {
        let client = Self::connect(&self.path).await?;
        client.call(&call).await?;
        let line = client.line.into_inner();
        Ok(Subscription { serial: line.wire.last_serial(), line, early: VecDeque::new() })
    }

    /// The persistent registry as text.
    pub async fn export(&self) -> Result<Vec<u8>> {
        let (reply, fds) = self.line.lock().await.exchange(&Export {}, None).await?;
        wire::exported(reply, fds)
    }

    /// Brings in a registry from a regular file, all of it, wherever the file is opened.
    pub async fn import(&self, file: &File) -> Result<Changed> {
        let mut line = self.line.lock().await;
        Ok(line.exchange(&Import {}, Some(file.as_fd())).await?.0)
    }
}

/// A socket and what goes over it.
struct Line {
    /// tokio has no type for `SOCK_SEQPACKET`; of this one, only readiness is used.
    socket: UnixStream,
    wire: Wire,
}

impl Line {
    async fn dial(path: PathBuf) -> Result<Self> {
        // Connecting waits while the daemon is busy accepting, and nothing tells when it would not.
        let dialled = tokio::task::spawn_blocking(move || wire::dial(&path));
        let socket = net::UnixStream::from(dialled.await.map_err(io::Error::other)??);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, wire: Wire::new() })
    }

    async fn exchange<C: Command>(
        &mut self,
        call: &C,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(C::Reply, Vec<OwnedFd>)> {
        let serial = self.send(call, fd).await?;
        loop {
            let got = self.receive().await?;
            if let Some(answer) = self.wire.answer::<C>(got, serial)? {
                return Ok(answer);
            }
        }
    }

    /// Sends a call; tells its serial.
    async fn send<C: Command>(&mut self, call: &C, fd: Option<BorrowedFd<'_>>) -> Result<u64> {
        let serial = self.wire.draft(call)?;
        let Self { socket, wire } = self;
        let send = || wire.send(socket.as_fd(), fd, SendFlags::DONTWAIT);
        socket.async_io(Interest::WRITABLE, send).await?;
        Ok(serial)
    }

    async fn receive(&mut self) -> io::Result<Received> {
        let Self { socket, wire } = self;
        let receive = || wire.receive(socket.as_fd(), RecvFlags::DONTWAIT);
        socket.async_io(Interest::READABLE, receive).await
    }
}

/// A claim on a link. It ends when this is dropped, or at the latest when the process ends.
pub struct Hold {
    client: Client,
    id: HoldId,
}

impl Hold {
    /// Ends the claim and waits until the daemon has ended it.
    pub async fn release(self) -> Result<()> {
        self.client.call(&Release { hold: self.id }).await.map(|_| ())
    }
}

/// Changes as they happen.
pub struct Subscription {
    line: Line,
    serial: u64,
    /// Events that came before the answer to an `acknowledge`.
    early: VecDeque<SequencedEvent>,
}

impl Subscription {
    /// The next event; `None` when the daemon goes down. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<SequencedEvent>> {
        match self.early.pop_front() {
            Some(event) => Some(Ok(event)),
            None => self.receive().await,
        }
    }

    /// As a participant: done with that zone, which is shutting down. Dropping the future loses no
    /// event.
    pub async fn acknowledge(&mut self, zone: ZoneId) -> Result<()> {
        let call = Acknowledge { serial: self.serial, zone };
        let serial = self.line.send(&call, None).await?;
        loop {
            let got = self.line.receive().await?;
            match self.line.wire.event(&got, self.serial)? {
                Some(event) => self.early.push_back(event),
                None if self.line.wire.answer::<Acknowledge>(got, serial)?.is_some() => {
                    return Ok(());
                }
                None => {}
            }
        }
    }

    async fn receive(&mut self) -> Option<Result<SequencedEvent>> {
        loop {
            let got = match self.line.receive().await {
                Ok(got) => got,
                Err(why) => return Some(Err(why.into())),
            };
            match self.line.wire.event(&got, self.serial) {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => {}
                Err(ClientError::Closed) => return None,
                Err(why) => return Some(Err(why)),
            }
        }
    }
}
