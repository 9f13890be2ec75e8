//! What the engine offers to its faces, the door and D-Bus.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::auth::Action;
use async_trait::async_trait;
use dlmgmt_proto::door::{
    AttachZone, ChangePorts, Changed, CreateLink, Created, DeleteLink, DeletePhys, DetachZone,
    Details, GetAttribute, GetDetails, GetLink, GetLinkId, GetName, GetNext, LinkFilter,
    ListProperties, MakeLink, Named, Reclaim, Rename, ResetProperties, ResetZone, SetProperties,
    SetZone, Subscribe, Where,
};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{
    LinkId, LinkInfo, LinkRef, Result, Seq, SequencedEvent, Whereabouts, ZoneId, ZoneInfo, ZoneName,
};

use super::requests::quotable;
use crate::auth::Process;

/// Who calls, as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The caller's zone; `None` for a namespace that is no zone.
    pub zone: Option<ZoneId>,
    /// Its user id, in the daemon's user namespace.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its process, for messages only.
    pub process: Option<Process>,
    /// What the client calls itself, for messages only.
    pub client: String,
    /// What somebody whom the daemon trusts with it (polkit) lets the caller do, beside what its
    /// user may.
    pub granted: &'static [Action],
}

impl Caller {
    /// The daemon itself.
    pub fn daemon() -> Self {
        Self { zone: Some(ZoneId::GLOBAL), client: "dlmgmtd".to_owned(), ..Self::default() }
    }
}

impl fmt::Display for Caller {
    /// As messages speak of it at this moment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = if self.client.is_empty() { "a client" } else { &self.client };
        write!(f, "{} (", quotable(client))?;
        if let Some(pid) = self.process.as_ref().and_then(Process::pid) {
            write!(f, "pid {pid}, ")?;
        }
        write!(f, "uid {})", self.uid)
    }
}

/// A claim on a link; dropping it ends the claim.
pub trait HoldGuard: Send + Sync {}

/// A stream of events for one subscriber.
#[async_trait]
pub trait EventStream: Send {
    /// The next event; `None` when the daemon goes down. Dropping the future loses no event.
    async fn next(&mut self) -> Option<SequencedEvent>;

    /// As a participant: done with that zone, which is shutting down.
    fn acknowledge(&self, zone: ZoneId) -> Result<()>;
}

/// The links of one moment.
pub trait Snapshot: Send + Sync {
    /// The commit that it shows.
    fn seq(&self) -> Seq;

    /// The first link after `after` that passes the filter and that the caller may see, in the
    /// order of ids.
    fn next(
        &self,
        caller: &Caller,
        filter: &LinkFilter,
        after: Option<LinkId>,
    ) -> Result<Option<LinkInfo>>;

    /// The first `max` links after `after` that pass the filter and that the caller may see, in
    /// the order of ids.
    fn list(
        &self,
        caller: &Caller,
        filter: &LinkFilter,
        mut after: Option<LinkId>,
        max: usize,
    ) -> Result<Vec<LinkInfo>> {
        let mut links = Vec::new();
        while links.len() < max
            && let Some(link) = self.next(caller, filter, after)?
        {
            after = Some(link.id);
            links.push(link);
        }
        Ok(links)
    }

    /// One link, if it is there and the caller may see it.
    fn link(&self, caller: &Caller, id: LinkId) -> Result<Option<LinkInfo>> {
        let next = self.next(caller, &LinkFilter::everything(), LinkId::new(id.get() - 1))?;
        Ok(next.filter(|link| link.id == id))
    }
}

/// What the faces ask of the engine. Reads are answered from memory at once; changes are durable
/// and in the kernel when they return.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// The zone's name, for the greeting.
    fn zone_name(&self, zone: ZoneId) -> Option<ZoneName>;

    /// The present state, which later changes leave as it is.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// `get-linkid`
    fn get_linkid(&self, caller: &Caller, call: &GetLinkId) -> Result<LinkId>;

    /// `get-name`
    fn get_name(&self, caller: &Caller, call: &GetName) -> Result<Named>;

    /// `get-link`
    fn get_link(&self, caller: &Caller, call: &GetLink) -> Result<LinkInfo>;

    /// `get-next`
    fn get_next(&self, caller: &Caller, call: &GetNext) -> Result<Option<LinkInfo>> {
        self.snapshot().next(caller, &call.filter, call.after)
    }

    /// `get-attribute`
    fn get_attribute(&self, caller: &Caller, call: &GetAttribute) -> Result<String>;

    /// `get-details`: of the first of the links that are asked about, as many as are looked at in
    /// one go.
    async fn get_details(&self, caller: &Caller, call: GetDetails) -> Result<Details>;

    /// `rename`
    async fn rename(&self, caller: &Caller, call: Rename) -> Result<Changed>;

    /// `delete-phys`
    async fn delete_phys(&self, caller: &Caller, call: DeletePhys) -> Result<Changed>;

    /// `set-zone`
    async fn set_zone(&self, caller: &Caller, call: SetZone) -> Result<Changed>;

    /// `reset-zone`
    async fn reset_zone(&self, caller: &Caller, call: ResetZone) -> Result<Changed>;

    /// `create-link`
    async fn create_link(&self, caller: &Caller, call: CreateLink) -> Result<Created> {
        self.make_link(caller, call.into()).await
    }

    /// `make-link`
    async fn make_link(&self, caller: &Caller, call: MakeLink) -> Result<Created>;

    /// `change-ports`
    async fn change_ports(&self, caller: &Caller, call: ChangePorts) -> Result<Changed>;

    /// `delete-link`
    async fn delete_link(&self, caller: &Caller, call: DeleteLink) -> Result<Changed>;

    /// `where`
    async fn whereabouts(&self, caller: &Caller, call: Where) -> Result<Whereabouts>;

    /// `reclaim`
    async fn reclaim(&self, caller: &Caller, call: Reclaim) -> Result<Changed>;

    /// `list-properties`, as the kernel shows the link at this moment.
    async fn list_properties(
        &self,
        caller: &Caller,
        call: ListProperties,
    ) -> Result<Vec<PropertyInfo>>;

    /// `set-properties`
    async fn set_properties(&self, caller: &Caller, call: SetProperties) -> Result<Changed>;

    /// `reset-properties`
    async fn reset_properties(&self, caller: &Caller, call: ResetProperties) -> Result<Changed>;

    /// `list-zones`: every zone that the caller may see, in the order of numbers.
    fn list_zones(&self, caller: &Caller) -> Result<Vec<ZoneInfo>>;

    /// `attach-zone`, with the descriptor that came with the call.
    async fn attach_zone(
        &self,
        caller: &Caller,
        call: AttachZone,
        descriptor: Option<OwnedFd>,
    ) -> Result<Changed>;

    /// `detach-zone`
    async fn detach_zone(&self, caller: &Caller, call: DetachZone) -> Result<Changed>;

    /// The namespace of a zone that is up.
    async fn open_zone(&self, caller: &Caller, zone: &ZoneName) -> Result<OwnedFd>;

    /// `hold`
    async fn hold(&self, caller: &Caller, link: LinkRef) -> Result<Box<dyn HoldGuard>>;

    /// `subscribe`; also tells the newest commit at that moment.
    fn subscribe(&self, caller: &Caller, call: &Subscribe) -> Result<(Seq, Box<dyn EventStream>)>;

    /// `export`: the persistent registry as text.
    async fn export(&self, caller: &Caller) -> Result<Vec<u8>>;

    /// `import` of such a text.
    async fn import(&self, caller: &Caller, text: Vec<u8>) -> Result<Changed>;
}
