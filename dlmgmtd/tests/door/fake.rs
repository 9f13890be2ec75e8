//! An engine of plain values behind a real door.

use std::collections::VecDeque;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use dlmgmt_proto::door::{
    AttachZone, Call, ChangePorts, Changed, CreateLink, Created, DeleteLink, DeletePhys,
    DetachZone, Details, GetAttribute, GetDetails, GetLink, GetLinkId, GetName, LinkFilter,
    ListProperties, MakeLink, Named, Reclaim, Rename, ResetProperties, ResetZone, SetProperties,
    SetZone, Subscribe, Where,
};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{
    Error, ErrorCode, Event, Fact, FactValue, Flags, Generation, LinkClass, LinkDetails, LinkId,
    LinkInfo, LinkName, LinkRef, LinkSpec, LinkState, Media, Result, Seq, SequencedEvent, Topic,
    Whereabouts, ZoneId, ZoneInfo, ZoneName, ZoneState,
};
use dlmgmtd::door::{Door, DoorHandle, DoorOptions, Limits};
use dlmgmtd::engine::{Caller, EventStream, HoldGuard, Service, Snapshot};
use dlmgmtd::engine_thread::EngineThread;
use tokio::sync::{Semaphore, oneshot};

/// A link `net<number>`.
pub fn link(number: u32) -> LinkInfo {
    LinkInfo {
        id: LinkId::new(number).unwrap(),
        name: LinkName::numbered("net", number).unwrap(),
        class: LinkClass::Phys,
        kind: None,
        media: Media::Ethernet,
        flags: Flags::ACTIVE | Flags::PERSISTENT,
        state: LinkState::Up,
        mtu: Some(1500),
        ifindex: None,
        zone: ZoneName::global(),
        owner: ZoneName::global(),
        mac: None,
        permanent_mac: None,
        path: None,
        device: None,
        over: Vec::new(),
        speed: None,
        duplex: None,
        generation: Generation(0),
    }
}

/// The commit at which every subscription begins.
const BEGAN: Seq = Seq(0);

/// A zone `zone<number>`, whose namespace has a path as long as a path may be.
pub fn zone(number: u32) -> ZoneInfo {
    ZoneInfo {
        id: ZoneId(number),
        name: ZoneName::numbered(ZoneId(number)),
        state: ZoneState::Ready,
        links: number,
        pid: None,
        netns: Some(format!("/{}", "n".repeat(4094))),
    }
}

fn not_found() -> Error {
    Error::new(ErrorCode::NotFound, "no such link")
}

/// The state: links, by id, at one commit.
#[derive(Clone)]
struct State {
    seq: Seq,
    links: Vec<LinkInfo>,
}

impl Snapshot for State {
    fn seq(&self) -> Seq {
        self.seq
    }

    fn next(&self, _: &Caller, _: &LinkFilter, after: Option<LinkId>) -> Result<Option<LinkInfo>> {
        let start = after.map_or(0, |id| self.links.partition_point(|link| link.id <= id));
        Ok(self.links.get(start).cloned())
    }
}

/// An engine whose every change is a test's to make.
pub struct Fake {
    state: Mutex<Arc<State>>,
    /// Renames wait here for a permit each, but those to a name that begins with `now`.
    pub gate: Semaphore,
    /// Renames to a name that begins with `nowhere` hold up their thread while a test has this.
    pub thread: Mutex<()>,
    pub renames: AtomicUsize,
    pub holds: Arc<AtomicUsize>,
    pub imported: Mutex<Vec<u8>>,
    pub last_caller: Mutex<Option<Caller>>,
    pub zones: Mutex<Vec<ZoneInfo>>,
    /// The changes of zones and links that were asked for.
    pub asked: Mutex<Vec<Call>>,
    /// What came with each `attach-zone`.
    pub attached: Mutex<Vec<Option<OwnedFd>>>,
    pub acknowledged: Arc<Mutex<Vec<ZoneId>>>,
    /// What subscribers are told before all else, as what happened before they came.
    pub past: Mutex<Vec<Event>>,
    /// Permits to tell subscribers, after all else, that their zone is gone.
    pub zone_ends: Arc<Semaphore>,
}

impl Fake {
    pub fn new(links: u32) -> Arc<Self> {
        let state = State { seq: Seq(1), links: (1..=links).map(link).collect() };
        Arc::new(Self {
            state: Mutex::new(Arc::new(state)),
            gate: Semaphore::new(0),
            thread: Mutex::default(),
            renames: AtomicUsize::new(0),
            holds: Arc::default(),
            imported: Mutex::default(),
            last_caller: Mutex::default(),
            zones: Mutex::default(),
            asked: Mutex::default(),
            attached: Mutex::default(),
            acknowledged: Arc::default(),
            past: Mutex::default(),
            zone_ends: Arc::new(Semaphore::new(0)),
        })
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap())
    }

    /// Adds a link in a commit of its own.
    pub fn add(&self, number: u32) {
        let mut state = self.state.lock().unwrap();
        let mut next = State::clone(&state);
        next.seq = next.seq.next();
        next.links.push(link(number));
        *state = Arc::new(next);
    }

    fn note(&self, call: impl Into<Call>) -> Changed {
        self.asked.lock().unwrap().push(call.into());
        Changed { seq: Seq(4) }
    }

    fn find(&self, wanted: &LinkRef) -> Result<LinkInfo> {
        let state = self.state();
        let found = state.links.iter().find(|link| match wanted {
            LinkRef::Name(name) | LinkRef::InZone(_, name) => link.name == *name,
            LinkRef::Id(id) => link.id == *id,
        });
        found.cloned().ok_or_else(not_found)
    }
}

struct Guard(Arc<AtomicUsize>);

impl HoldGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The past, and `count` events without a pause, then silence until the zone is gone; for ever
/// without a count.
struct Events {
    past: VecDeque<Event>,
    told: u64,
    count: Option<u64>,
    zone: ZoneId,
    zone_ends: Arc<Semaphore>,
    /// Where acknowledgements are noted, for a participant.
    acknowledged: Option<Arc<Mutex<Vec<ZoneId>>>>,
}

#[async_trait]
impl EventStream for Events {
    async fn next(&mut self) -> Option<SequencedEvent> {
        if let Some(event) = self.past.pop_front() {
            return Some(SequencedEvent { seq: BEGAN, event });
        }
        if self.count.is_some_and(|count| self.told > count) {
            pending::<()>().await;
        }
        let event = if self.count == Some(self.told) {
            self.zone_ends.acquire().await.unwrap().forget();
            Event::ZoneGone { id: self.zone, name: ZoneName::numbered(self.zone) }
        } else {
            Event::Added(link(1))
        };
        self.told += 1;
        Some(SequencedEvent { seq: Seq(self.told), event })
    }

    fn acknowledge(&self, zone: ZoneId) -> Result<()> {
        let no_part = || Error::new(ErrorCode::Invalid, "no participant");
        self.acknowledged.as_ref().ok_or_else(no_part)?.lock().unwrap().push(zone);
        Ok(())
    }
}

#[async_trait]
impl Service for Fake {
    fn zone_name(&self, _: ZoneId) -> Option<ZoneName> {
        Some(ZoneName::global())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.state()
    }

    fn get_linkid(&self, caller: &Caller, call: &GetLinkId) -> Result<LinkId> {
        *self.last_caller.lock().unwrap() = Some(caller.clone());
        self.find(&call.link).map(|link| link.id)
    }

    fn get_name(&self, _: &Caller, call: &GetName) -> Result<Named> {
        let link = self.find(&LinkRef::Id(call.id))?;
        Ok(Named { zone: link.zone, name: link.name })
    }

    fn get_link(&self, _: &Caller, call: &GetLink) -> Result<LinkInfo> {
        self.find(&call.link)
    }

    fn get_attribute(&self, _: &Caller, call: &GetAttribute) -> Result<String> {
        Ok(call.attribute.repeat(2))
    }

    /// Of each link a text of 1,000 characters for each topic.
    async fn get_details(&self, _: &Caller, call: GetDetails) -> Result<Details> {
        let fact = |topic: &Topic| Fact {
            name: topic.to_string(),
            value: FactValue::Text("x".repeat(1000)),
        };
        let facts: Vec<Fact> = call.topics.iter().map(fact).collect();
        let details = |id| LinkDetails { id, facts: facts.clone() };
        Ok(Details { links: call.links.into_iter().map(details).collect() })
    }

    async fn rename(&self, _: &Caller, call: Rename) -> Result<Changed> {
        if !call.items.iter().all(|item| item.to.starts_with("now")) {
            self.gate.acquire().await.unwrap().forget();
        }
        self.renames.fetch_add(1, Ordering::SeqCst);
        if call.items.iter().any(|item| item.to.starts_with("nowhere")) {
            drop(self.thread.lock());
        }
        Ok(Changed { seq: Seq(2) })
    }

    async fn delete_phys(&self, _: &Caller, call: DeletePhys) -> Result<Changed> {
        panic!("deleting {} is the fake's way to fail", call.link)
    }

    async fn set_zone(&self, _: &Caller, call: SetZone) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn reset_zone(&self, _: &Caller, call: ResetZone) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn create_link(&self, _: &Caller, call: CreateLink) -> Result<Created> {
        let is_pair = matches!(call.spec, LinkSpec::Veth { .. });
        let Changed { seq } = self.note(call);
        let id = |number| LinkId::new(number);
        Ok(Created { id: id(8).unwrap(), peer: if is_pair { id(9) } else { None }, seq })
    }

    async fn make_link(&self, _: &Caller, call: MakeLink) -> Result<Created> {
        let is_pair = call.peer.is_some();
        let Changed { seq } = self.note(call);
        let id = |number| LinkId::new(number);
        Ok(Created { id: id(8).unwrap(), peer: if is_pair { id(9) } else { None }, seq })
    }

    async fn change_ports(&self, _: &Caller, call: ChangePorts) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn delete_link(&self, _: &Caller, call: DeleteLink) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn whereabouts(&self, _: &Caller, call: Where) -> Result<Whereabouts> {
        let link = self.find(&call.link)?;
        let (own_name, zone) = (link.name, Some(link.zone.clone()));
        Ok(Whereabouts { link, own_name, zone, nsid: Some(-1), pid: None, assigned: None })
    }

    async fn reclaim(&self, _: &Caller, call: Reclaim) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn list_properties(&self, _: &Caller, call: ListProperties) -> Result<Vec<PropertyInfo>> {
        self.find(&call.link)?;
        self.note(call);
        Ok(Vec::new())
    }

    async fn set_properties(&self, _: &Caller, call: SetProperties) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn reset_properties(&self, _: &Caller, call: ResetProperties) -> Result<Changed> {
        Ok(self.note(call))
    }

    fn list_zones(&self, _: &Caller) -> Result<Vec<ZoneInfo>> {
        Ok(self.zones.lock().unwrap().clone())
    }

    async fn attach_zone(
        &self,
        _: &Caller,
        call: AttachZone,
        descriptor: Option<OwnedFd>,
    ) -> Result<Changed> {
        self.attached.lock().unwrap().push(descriptor);
        Ok(self.note(call))
    }

    async fn detach_zone(&self, _: &Caller, call: DetachZone) -> Result<Changed> {
        Ok(self.note(call))
    }

    async fn open_zone(&self, _: &Caller, zone: &ZoneName) -> Result<OwnedFd> {
        Err(Error::new(ErrorCode::NoZone, format!("no zone {zone}")))
    }

    async fn hold(&self, _: &Caller, wanted: LinkRef) -> Result<Box<dyn HoldGuard>> {
        self.find(&wanted)?;
        self.holds.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Guard(Arc::clone(&self.holds))))
    }

    /// As many events as `since` says; without it, without end.
    fn subscribe(&self, caller: &Caller, call: &Subscribe) -> Result<(Seq, Box<dyn EventStream>)> {
        let acknowledged = call.participant.then(|| Arc::clone(&self.acknowledged));
        let (zone, zone_ends) = (caller.zone.unwrap(), Arc::clone(&self.zone_ends));
        let count = call.since.map(|seq| seq.0);
        let past = self.past.lock().unwrap().iter().cloned().collect();
        let events = Events { past, told: 0, count, zone, zone_ends, acknowledged };
        Ok((BEGAN, Box::new(events)))
    }

    async fn export(&self, _: &Caller) -> Result<Vec<u8>> {
        Ok(self.imported.lock().unwrap().clone())
    }

    async fn import(&self, _: &Caller, text: Vec<u8>) -> Result<Changed> {
        *self.imported.lock().unwrap() = text;
        Ok(Changed { seq: Seq(3) })
    }
}

/// A door that is served on a thread of its own until this is dropped.
pub struct Served {
    dir: tempfile::TempDir,
    pub handle: DoorHandle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub fn new(service: &Arc<Fake>) -> Self {
        Self::with_limits(service, Limits::default())
    }

    pub fn with_limits(service: &Arc<Fake>, limits: Limits) -> Self {
        Self::with_options(
            service,
            DoorOptions { zone_of: Arc::new(|_| Some(ZoneId::GLOBAL)), limits },
        )
    }

    pub fn with_options(service: &Arc<Fake>, options: DoorOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let door = Door::bind(&dir.path().join("door"), service.clone(), options).unwrap();
        let handle = door.handle();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
            let shutdown = async move { stopped.await.unwrap_or_default() };
            let changes = EngineThread::start().unwrap();
            runtime.block_on(door.serve(changes.handle().clone(), shutdown)).unwrap();
        });
        Self { dir, handle, stop: Some(stop), thread: Some(thread) }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("door")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the door, as `SIGTERM` does, and waits for it.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A door that failed fails its test, unless that fails already.
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}
