//! One client: its calls, its holds and its subscriptions.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dlmgmt_proto::door::{
    AttachZone, Call, Changed, Command, Created, Details, Exported, Hello, HelloReply, Hold,
    HoldId, Import, Kind, List, ListCursor, ListZones, NextLink, Page, Properties, Release,
    Released, Subscribe, Subscribed, VERSION, Zones, encode_into,
};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{Error, ErrorCode, Event, Result, SequencedEvent, Whereabouts};
use serde::Serialize;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::Desk;
use super::outbox::{Outbox, Overflow};
use super::socket::{Address, Incoming, Packet, Socket, invalid};
use super::subscriptions::Subscriptions;
use super::{pages, transfer};
use crate::begun::{Begun, begin};
use crate::engine::{Caller, HoldGuard, Service, Snapshot};
use crate::files;

/// Longest message of an error and longest name of a client, in characters.
const MESSAGE_MAX: usize = 4096;
const CLIENT_NAME_MAX: usize = 64;

/// Calls that are answered in a row before the connection's other business gets its turn.
const CALLS_IN_A_ROW: usize = 16;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client closed it")]
    Closed,
    #[error("the client speaks some other protocol")]
    Alien,
    #[error("the client does not read")]
    Overflow,
    #[error("the client did not say hello in time")]
    Silent,
    #[error("the daemon goes down")]
    Stopped,
    #[error("the client's zone has ended")]
    ZoneEnded,
    #[error("a change ended without an outcome: {0}")]
    Lost(#[from] JoinError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Overflow> for End {
    fn from(_: Overflow) -> Self {
        Self::Overflow
    }
}

/// What a change comes to.
enum Outcome {
    Changed(Changed),
    Created(Created),
    Found(Box<Whereabouts>),
    Told(Details),
    Described(Vec<PropertyInfo>),
    Held(Box<dyn HoldGuard>),
    Exported(OwnedFd, Exported),
}

impl From<Changed> for Outcome {
    fn from(changed: Changed) -> Self {
        Self::Changed(changed)
    }
}

impl From<Created> for Outcome {
    fn from(created: Created) -> Self {
        Self::Created(created)
    }
}

impl From<Details> for Outcome {
    fn from(details: Details) -> Self {
        Self::Told(pages::details(details))
    }
}

impl From<Vec<PropertyInfo>> for Outcome {
    fn from(properties: Vec<PropertyInfo>) -> Self {
        Self::Described(properties)
    }
}

impl From<Whereabouts> for Outcome {
    fn from(whereabouts: Whereabouts) -> Self {
        Self::Found(Box::new(whereabouts))
    }
}

/// What comes of serving a connection.
pub(super) enum Served {
    /// It has ended.
    Ended(End),
    /// Its client is about to change something: it is to go on where changes are made.
    ToChange(Box<Connection>),
}

/// A call that can be read: whom to answer, what it asks, and its descriptors.
type Asked = (Address, Call, Vec<OwnedFd>);

/// Changes under way. Those that were begun go on to their end, whether or not anyone waits for
/// them.
#[derive(Default)]
struct Changes(JoinSet<(Address, Result<Outcome>)>);

impl Drop for Changes {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

pub(super) struct Connection {
    desk: Arc<Desk>,
    socket: Socket,
    /// Whether it is served where changes are made.
    is_where_changes_are: bool,
    /// A change that waits until it is.
    first_change: Option<Asked>,
    caller: Arc<Caller>,
    /// Until when the client must say hello; `None` once it has.
    hello_by: Option<Instant>,
    outbox: Outbox,
    /// The packet that is being made.
    draft: Vec<u8>,
    changes: Changes,
    /// The state that the client is listing.
    list: Option<Arc<dyn Snapshot>>,
    holds: BTreeMap<HoldId, Box<dyn HoldGuard>>,
    last_hold: u64,
    subscriptions: Subscriptions,
    /// Closes when the client's zone has ended.
    ended: oneshot::Receiver<()>,
    /// Once its zone has ended: until when the client may still be told of that.
    leave_by: Option<Instant>,
}

/// Begins a change that a method of the service makes.
macro_rules! begin {
    ($self:ident, $to:ident, $method:ident($call:ident)) => {
        $self.begin($to, |service, caller| async move {
            service.$method(&caller, $call).await.map(Outcome::from)
        })
    };
}

impl Connection {
    pub(super) fn new(
        desk: Arc<Desk>,
        socket: Socket,
        caller: Caller,
        ended: oneshot::Receiver<()>,
    ) -> Self {
        Self {
            hello_by: Some(Instant::now() + desk.limits.hello_within),
            desk,
            socket,
            is_where_changes_are: false,
            first_change: None,
            caller: Arc::new(caller),
            outbox: Outbox::default(),
            draft: Vec::with_capacity(256),
            changes: Changes::default(),
            list: None,
            holds: BTreeMap::new(),
            last_hold: 0,
            subscriptions: Subscriptions::default(),
            ended,
            leave_by: None,
        }
    }

    /// Goes on where changes are made, which is the runtime of the caller.
    pub(super) fn arrived(self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.registered_here()?, is_where_changes_are: true, ..self })
    }

    /// Serves the client until one side ends it, or it is to be served elsewhere.
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()>) -> Served {
        if let Some((to, call, fds)) = self.first_change.take()
            && let Err(end) = self.take(Incoming::Call(to, call, fds))
        {
            return Served::Ended(end);
        }
        tokio::pin!(stopped);
        loop {
            let has_room = self.has_room();
            let step = tokio::select! {
                () = &mut stopped => break,
                _ = &mut self.ended, if self.leave_by.is_none() => self.begin_to_leave(),
                () = sleep_until_some(self.leave_by) => self.see_off(),
                incoming = self.socket.recv(), if has_room => self.take_calls(incoming),
                // However busy it keeps the daemon, a client that ends lets its namespace go.
                closed = self.socket.hung_up(), if !has_room => closed_by(closed),
                Some(done) = self.changes.0.join_next() => self.finish(done),
                sent = send_first(&self.socket, &self.outbox), if !self.outbox.is_empty() => {
                    self.outbox.pop();
                    sent.map_err(End::from)
                }
                (to, event) = self.subscriptions.next(),
                    if self.outbox.is_empty() && !self.subscriptions.is_empty() =>
                {
                    self.tell(to, &event)
                }
                () = sleep_until_some(self.hello_by) => Err(End::Silent),
            };
            if let Err(end) = step.and_then(|()| self.leave_if_told()) {
                return Served::Ended(end);
            }
            if self.first_change.is_some() {
                return Served::ToChange(Box::new(self));
            }
        }
        Served::Ended(self.drain().await)
    }

    /// Whether one more call may be taken.
    fn has_room(&self) -> bool {
        self.leave_by.is_none()
            && self.first_change.is_none()
            && self.changes.0.len() < self.desk.limits.calls
    }

    /// The client's zone has ended: no further call is taken.
    fn begin_to_leave(&mut self) -> std::result::Result<(), End> {
        self.leave_by = Some(Instant::now() + self.desk.limits.farewell_within);
        Ok(())
    }

    /// Leaves a client whose zone has ended, once it was told of that.
    fn leave_if_told(&mut self) -> std::result::Result<(), End> {
        let was_told = self.subscriptions.is_empty() && self.outbox.is_empty();
        if self.leave_by.is_some() && was_told { self.see_off() } else { Ok(()) }
    }

    /// Leaves a client whose zone has ended, with a word why.
    fn see_off(&mut self) -> std::result::Result<(), End> {
        let error = Error::new(ErrorCode::ShuttingDown, "the caller's zone has ended");
        self.refuse(Address { command: 0, serial: 0 }, error)?;
        Err(End::ZoneEnded)
    }

    /// Answers what is under way, within the time there is for that.
    async fn drain(&mut self) -> End {
        let within = self.desk.limits.drain_within;
        let rest = async {
            while let Some(done) = self.changes.0.join_next().await {
                self.finish(done)?;
            }
            while !self.outbox.is_empty() {
                send_first(&self.socket, &self.outbox).await?;
                self.outbox.pop();
            }
            Ok(())
        };
        match timeout(within, rest).await {
            Ok(Err(end)) => end,
            Ok(Ok(())) | Err(_) => End::Stopped,
        }
    }

    /// Takes the packet that came and those right behind it: the next call often is there before
    /// this task would have gone to sleep.
    fn take_calls(&mut self, first: io::Result<Incoming>) -> std::result::Result<(), End> {
        self.take(first?)?;
        for _ in 1..CALLS_IN_A_ROW {
            if !self.has_room() {
                break;
            }
            match self.socket.try_recv() {
                Ok(incoming) => self.take(incoming)?,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) -> std::result::Result<(), End> {
        // What comes after the end is not looked at: the caller's zone may be another by now.
        if self.ended.try_recv() == Err(TryRecvError::Closed) {
            return self.begin_to_leave();
        }
        match incoming {
            Incoming::Call(to, call, fds) => match self.check(&call, &fds) {
                Ok(()) => self.handle(to, call, fds),
                Err(error) => self.refuse(to, error),
            },
            Incoming::Bad(to, error) => self.refuse(to, error),
            Incoming::Alien(error) => {
                self.refuse(Address { command: 0, serial: 0 }, error)?;
                Err(End::Alien)
            }
            Incoming::Closed => Err(End::Closed),
        }
    }

    /// Whether a call is in its place.
    fn check(&self, call: &Call, fds: &[OwnedFd]) -> Result<()> {
        let greets = matches!(call, Call::Hello(_));
        if greets != self.hello_by.is_some() {
            return Err(invalid("a connection begins with one `hello`"));
        }
        if !fds.is_empty() && !matches!(call, Call::Import(_) | Call::AttachZone(_)) {
            return Err(invalid("only `import` and `attach-zone` take a descriptor"));
        }
        Ok(())
    }

    fn handle(
        &mut self,
        to: Address,
        call: Call,
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(), End> {
        let (service, caller) = (&self.desk.service, &*self.caller);
        match call {
            Call::GetLinkId(call) => self.answer(to, service.get_linkid(caller, &call)),
            Call::GetName(call) => self.answer(to, service.get_name(caller, &call)),
            Call::GetLink(call) => self.answer(to, service.get_link(caller, &call)),
            Call::GetNext(call) => {
                let next = service.get_next(caller, &call).map(|link| NextLink { link });
                self.answer(to, next)
            }
            Call::GetAttribute(call) => self.answer(to, service.get_attribute(caller, &call)),
            Call::List(call) => {
                let page = self.page(&call);
                self.answer(to, page)
            }
            Call::ListZones(call) => {
                let zones = self.zones(&call);
                self.answer(to, zones)
            }
            Call::Hello(call) => {
                let greeting = self.hello(call);
                self.answer(to, greeting)
            }
            Call::Release(call) => {
                let released = self.release(&call);
                self.answer(to, released)
            }
            Call::Subscribe(call) => {
                let subscribed = self.subscribe(to, &call);
                self.answer(to, subscribed)
            }
            Call::Unsubscribe(call) => {
                let unsubscribed = self.subscriptions.remove(&call);
                self.answer(to, unsubscribed)
            }
            Call::Acknowledge(call) => {
                let acknowledged = self.subscriptions.acknowledge(&call);
                self.answer(to, acknowledged)
            }
            Call::GetDetails(call) => begin!(self, to, get_details(call)),
            Call::Where(call) => begin!(self, to, whereabouts(call)),
            Call::ListProperties(call) => begin!(self, to, list_properties(call)),
            Call::Hold(call) => self.hold(to, call),
            Call::Export(_) => self.begin(to, export),
            // All others change something.
            change if !self.is_where_changes_are => {
                self.first_change = Some((to, change, fds));
                Ok(())
            }
            Call::Rename(call) => begin!(self, to, rename(call)),
            Call::DeletePhys(call) => begin!(self, to, delete_phys(call)),
            Call::SetZone(call) => begin!(self, to, set_zone(call)),
            Call::ResetZone(call) => begin!(self, to, reset_zone(call)),
            Call::CreateLink(call) => begin!(self, to, create_link(call)),
            Call::MakeLink(call) => begin!(self, to, make_link(call)),
            Call::ChangePorts(call) => begin!(self, to, change_ports(call)),
            Call::DeleteLink(call) => begin!(self, to, delete_link(call)),
            Call::Reclaim(call) => begin!(self, to, reclaim(call)),
            Call::DetachZone(call) => begin!(self, to, detach_zone(call)),
            Call::SetProperties(call) => begin!(self, to, set_properties(call)),
            Call::ResetProperties(call) => begin!(self, to, reset_properties(call)),
            Call::AttachZone(call) => self.attach_zone(to, call, fds),
            Call::Import(Import {}) => self.import(to, fds),
        }
    }

    fn hello(&mut self, call: Hello) -> Result<HelloReply> {
        if call.oldest > call.newest {
            return Err(invalid("the oldest version cannot be newer than the newest"));
        }
        if !(call.oldest..=call.newest).contains(&VERSION) {
            let (oldest, newest) = (call.oldest, call.newest);
            let why = format!("versions {oldest} to {newest} are not spoken here: {VERSION} is");
            return Err(Error::new(ErrorCode::NotSupported, why));
        }
        self.hello_by = None;
        Arc::make_mut(&mut self.caller).client = presentable(&call.client);
        let service = &self.desk.service;
        Ok(HelloReply {
            version: VERSION,
            daemon: env!("CARGO_PKG_VERSION").to_owned(),
            zone: self.caller.zone.and_then(|zone| service.zone_name(zone)),
            seq: service.snapshot().seq(),
        })
    }

    fn page(&mut self, call: &List) -> Result<Page> {
        let snapshot = match call.cursor {
            None => self.desk.service.snapshot(),
            Some(cursor) => self.resume(cursor)?,
        };
        let page = pages::links(&*snapshot, &self.caller, call)?;
        self.list = page.next.map(|_| snapshot);
        Ok(page)
    }

    fn zones(&self, call: &ListZones) -> Result<Zones> {
        let all = self.desk.service.list_zones(&self.caller)?;
        Ok(pages::zones(all, call.after))
    }

    /// The state that a list under way shows.
    fn resume(&self, cursor: ListCursor) -> Result<Arc<dyn Snapshot>> {
        match &self.list {
            Some(snapshot) if snapshot.seq() == cursor.seq => Ok(Arc::clone(snapshot)),
            _ => Err(Error::new(ErrorCode::Again, "this list is no longer kept: begin a new one")),
        }
    }

    fn hold(&mut self, to: Address, call: Hold) -> std::result::Result<(), End> {
        let most = self.desk.limits.holds;
        if self.holds.len() >= most {
            let why = format!("a connection has at most {most} holds");
            return self.refuse(to, Error::new(ErrorCode::Quota, why));
        }
        self.begin(to, |service, caller| async move {
            service.hold(&caller, call.link).await.map(Outcome::Held)
        })
    }

    fn keep(&mut self, guard: Box<dyn HoldGuard>) -> HoldId {
        self.last_hold += 1;
        let id = HoldId(self.last_hold);
        self.holds.insert(id, guard);
        id
    }

    fn release(&mut self, call: &Release) -> Result<Released> {
        match self.holds.remove(&call.hold) {
            Some(_) => Ok(Released {}),
            None => {
                let why = format!("this connection has no hold {}", call.hold.0);
                Err(Error::new(ErrorCode::NotFound, why))
            }
        }
    }

    fn subscribe(&mut self, to: Address, call: &Subscribe) -> Result<Subscribed> {
        self.subscriptions.check_room(to.serial, self.desk.limits.subscriptions)?;
        let (seq, stream) = self.desk.service.subscribe(&self.caller, call)?;
        self.subscriptions.add(to, seq, stream);
        Ok(Subscribed { seq })
    }

    fn attach_zone(
        &mut self,
        to: Address,
        call: AttachZone,
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(), End> {
        match transfer::at_most_one(AttachZone::NAME, fds) {
            Ok(fd) => self.begin(to, |service, caller| async move {
                service.attach_zone(&caller, call, fd).await.map(Outcome::from)
            }),
            Err(error) => self.refuse(to, error),
        }
    }

    fn import(&mut self, to: Address, fds: Vec<OwnedFd>) -> std::result::Result<(), End> {
        match transfer::only(Import::NAME, fds) {
            Ok(fd) => {
                let desk = Arc::clone(&self.desk);
                self.begin(to, |service, caller| async move {
                    let text = desk.imports.read(&caller, fd).await?;
                    service.import(&caller, text).await.map(Outcome::from)
                })
            }
            Err(error) => self.refuse(to, error),
        }
    }

    /// Begins a change, which is answered when it has ended.
    fn begin<W>(
        &mut self,
        to: Address,
        change: impl FnOnce(Arc<dyn Service>, Arc<Caller>) -> W,
    ) -> std::result::Result<(), End>
    where
        W: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let work = change(Arc::clone(&self.desk.service), Arc::clone(&self.caller));
        match begin(async move { (to, work.await) }) {
            Begun::Ended(done) => self.finish(Ok(done)),
            Begun::Waits(rest) => {
                self.changes.0.spawn(rest);
                Ok(())
            }
        }
    }

    fn finish(
        &mut self,
        done: std::result::Result<(Address, Result<Outcome>), JoinError>,
    ) -> std::result::Result<(), End> {
        let (to, outcome) = done?;
        match outcome {
            Ok(Outcome::Changed(changed)) => self.post(Kind::Reply, to, &changed, None),
            Ok(Outcome::Created(created)) => self.post(Kind::Reply, to, &created, None),
            Ok(Outcome::Told(details)) => self.post(Kind::Reply, to, &details, None),
            Ok(Outcome::Described(properties)) => {
                self.post(Kind::Reply, to, &Properties { properties }, None)
            }
            Ok(Outcome::Found(whereabouts)) => self.post(Kind::Reply, to, &whereabouts, None),
            Ok(Outcome::Held(guard)) => {
                let id = self.keep(guard);
                self.post(Kind::Reply, to, &id, None)
            }
            Ok(Outcome::Exported(file, exported)) => {
                self.post(Kind::Reply, to, &exported, Some(file))
            }
            Err(error) => self.refuse(to, error),
        }
    }

    fn answer<T: Serialize>(
        &mut self,
        to: Address,
        result: Result<T>,
    ) -> std::result::Result<(), End> {
        match result {
            Ok(body) => self.post(Kind::Reply, to, &body, None),
            Err(error) => self.refuse(to, error),
        }
    }

    fn refuse(&mut self, to: Address, mut error: Error) -> std::result::Result<(), End> {
        if let Some((end, _)) = error.message.char_indices().nth(MESSAGE_MAX) {
            error.message.truncate(end);
        }
        self.post(Kind::Error, to, &error, None)
    }

    /// Tells an event. The end of the client's own zone is the last one of a subscription; in what
    /// is told of the past it is that of an earlier zone of that name.
    fn tell(&mut self, to: Address, event: &SequencedEvent) -> std::result::Result<(), End> {
        if let Event::ZoneGone { id, .. } = &event.event
            && self.caller.zone == Some(*id)
        {
            self.subscriptions.end(to, event.seq);
        }
        self.post(Kind::Event, to, event, None)
    }

    /// Sends a packet, or queues it where the socket does not take it now.
    fn post<T: Serialize>(
        &mut self,
        kind: Kind,
        to: Address,
        body: &T,
        fd: Option<OwnedFd>,
    ) -> std::result::Result<(), End> {
        if let Err(why) = encode_into(&mut self.draft, kind, to.command, to.serial, body) {
            let error = Error::new(ErrorCode::NotSupported, format!("no answer possible: {why}"));
            return self.refuse(to, error);
        }
        if self.outbox.is_empty() {
            match self.socket.try_send(&self.draft, fd.as_ref()) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Ok(sent?),
            }
        }
        let bytes = std::mem::take(&mut self.draft);
        Ok(self.outbox.push(Packet { bytes, fd }, &self.desk.limits)?)
    }
}

async fn export(service: Arc<dyn Service>, caller: Arc<Caller>) -> Result<Outcome> {
    let text = service.export(&caller).await?;
    let file = files::sealed(&text)?;
    Ok(Outcome::Exported(file, Exported { len: text.len() as u64 }))
}

/// Sends the packet that waits longest; with none, never ends.
async fn send_first(socket: &Socket, outbox: &Outbox) -> io::Result<()> {
    match outbox.first() {
        Some(packet) => socket.send(packet).await,
        None => pending().await,
    }
}

fn closed_by(hung_up: io::Result<()>) -> std::result::Result<(), End> {
    hung_up?;
    Err(End::Closed)
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// A client's name for itself, fit for one line of a message.
fn presentable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(CLIENT_NAME_MAX).collect()
}
