//! An engine that does whatever it is asked, to nothing.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::door::{
    AttachZone, ChangePorts, Changed, Created, DeleteLink, DeletePhys, DetachZone, Details,
    GetAttribute, GetDetails, GetLink, GetLinkId, GetName, LinkFilter, ListProperties, MakeLink,
    Named, Reclaim, Rename, ResetProperties, ResetZone, SetProperties, SetZone, Subscribe, Where,
};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{
    Error, ErrorCode, Event, Fact, FactValue, Flags, Generation, LinkClass, LinkDetails, LinkId,
    LinkInfo, LinkName, LinkRef, LinkState, Media, Result, Seq, SequencedEvent, Topic, Whereabouts,
    ZoneId, ZoneInfo, ZoneName, ZoneState,
};

use crate::engine::{Caller, EventStream, HoldGuard, Service, Snapshot};

/// It has links 1 to this, and as many zones.
const LAST: u32 = 3;

const DONE: Changed = Changed { seq: Seq(2) };

/// The engine.
pub struct Echo;

struct Held;

impl HoldGuard for Held {}

fn not_found() -> Error {
    Error::new(ErrorCode::NotFound, "no such link")
}

/// A link, where there is one of that linkid.
pub fn link(number: u32) -> Option<LinkInfo> {
    Some(LinkInfo {
        id: LinkId::new(number).filter(|id| id.get() <= LAST)?,
        name: LinkName::numbered("net", number)?,
        class: LinkClass::Phys,
        kind: None,
        media: Media::Ethernet,
        flags: Flags::ACTIVE,
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
    })
}

fn find(wanted: &LinkRef) -> Result<LinkInfo> {
    let is_it = |link: &LinkInfo| match wanted {
        LinkRef::Name(name) | LinkRef::InZone(_, name) => link.name == *name,
        LinkRef::Id(id) => link.id == *id,
    };
    (1..=LAST).filter_map(link).find(is_it).ok_or_else(not_found)
}

/// As many events as there are links, and then the end.
struct Events(u32);

#[async_trait]
impl EventStream for Events {
    async fn next(&mut self) -> Option<SequencedEvent> {
        self.0 += 1;
        Some(SequencedEvent { seq: Seq(1), event: Event::Added(link(self.0)?) })
    }

    fn acknowledge(&self, _: ZoneId) -> Result<()> {
        Ok(())
    }
}

impl Snapshot for Echo {
    fn seq(&self) -> Seq {
        Seq(1)
    }

    fn next(&self, _: &Caller, _: &LinkFilter, after: Option<LinkId>) -> Result<Option<LinkInfo>> {
        Ok(after.map_or(0, LinkId::get).checked_add(1).and_then(link))
    }
}

#[async_trait]
impl Service for Echo {
    fn zone_name(&self, _: ZoneId) -> Option<ZoneName> {
        Some(ZoneName::global())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(Self)
    }

    fn get_linkid(&self, _: &Caller, call: &GetLinkId) -> Result<LinkId> {
        find(&call.link).map(|link| link.id)
    }

    fn get_name(&self, _: &Caller, call: &GetName) -> Result<Named> {
        find(&LinkRef::Id(call.id)).map(|link| Named { zone: link.zone, name: link.name })
    }

    fn get_link(&self, _: &Caller, call: &GetLink) -> Result<LinkInfo> {
        find(&call.link)
    }

    fn get_attribute(&self, _: &Caller, call: &GetAttribute) -> Result<String> {
        Ok(call.attribute.clone())
    }

    async fn get_details(&self, _: &Caller, call: GetDetails) -> Result<Details> {
        let fact = |topic: &Topic| Fact { name: topic.to_string(), value: FactValue::Flag(true) };
        let facts: Vec<Fact> = call.topics.iter().map(fact).collect();
        let details = |id| LinkDetails { id, facts: facts.clone() };
        Ok(Details { links: call.links.into_iter().take(LAST as usize).map(details).collect() })
    }

    async fn rename(&self, _: &Caller, call: Rename) -> Result<Changed> {
        for item in &call.items {
            find(&item.link)?;
        }
        Ok(DONE)
    }

    async fn delete_phys(&self, _: &Caller, call: DeletePhys) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn set_zone(&self, _: &Caller, call: SetZone) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn reset_zone(&self, _: &Caller, call: ResetZone) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn make_link(&self, _: &Caller, call: MakeLink) -> Result<Created> {
        let refused = || Error::new(ErrorCode::Invalid, call.name.clone());
        let id = LinkId::new(LAST + 1).ok_or_else(refused)?;
        Ok(Created { id, peer: Some(id), seq: DONE.seq })
    }

    async fn change_ports(&self, _: &Caller, call: ChangePorts) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn delete_link(&self, _: &Caller, call: DeleteLink) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn whereabouts(&self, _: &Caller, call: Where) -> Result<Whereabouts> {
        let link = find(&call.link)?;
        let (own_name, zone) = (link.name, Some(link.zone.clone()));
        Ok(Whereabouts { link, own_name, zone, nsid: Some(-1), pid: None, assigned: None })
    }

    async fn reclaim(&self, _: &Caller, call: Reclaim) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn list_properties(&self, _: &Caller, call: ListProperties) -> Result<Vec<PropertyInfo>> {
        find(&call.link)?;
        let described = |name: String| PropertyInfo {
            value: Some(name.clone()),
            name,
            is_writable: true,
            effective: None,
            default: None,
            possible: None,
        };
        Ok(call.names.into_iter().map(described).collect())
    }

    async fn set_properties(&self, _: &Caller, call: SetProperties) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    async fn reset_properties(&self, _: &Caller, call: ResetProperties) -> Result<Changed> {
        find(&call.link).map(|_| DONE)
    }

    fn list_zones(&self, _: &Caller) -> Result<Vec<ZoneInfo>> {
        let zone = |number| ZoneInfo {
            id: ZoneId(number),
            name: ZoneName::numbered(ZoneId(number)),
            state: ZoneState::Ready,
            links: 0,
            pid: None,
            netns: None,
        };
        Ok((0..LAST).map(zone).collect())
    }

    async fn attach_zone(
        &self,
        _: &Caller,
        _: AttachZone,
        descriptor: Option<OwnedFd>,
    ) -> Result<Changed> {
        descriptor.map(|_| DONE).ok_or_else(not_found)
    }

    async fn detach_zone(&self, _: &Caller, _: DetachZone) -> Result<Changed> {
        Ok(DONE)
    }

    async fn open_zone(&self, _: &Caller, _: &ZoneName) -> Result<OwnedFd> {
        Err(not_found())
    }

    async fn hold(&self, _: &Caller, wanted: LinkRef) -> Result<Box<dyn HoldGuard>> {
        find(&wanted)?;
        Ok(Box::new(Held))
    }

    fn subscribe(&self, _: &Caller, _: &Subscribe) -> Result<(Seq, Box<dyn EventStream>)> {
        Ok((Seq(1), Box::new(Events(0))))
    }

    async fn export(&self, _: &Caller) -> Result<Vec<u8>> {
        Ok(b"{}".to_vec())
    }

    async fn import(&self, _: &Caller, text: Vec<u8>) -> Result<Changed> {
        serde_json::from_slice::<serde_json::Value>(&text)
            .map(|_| DONE)
            .map_err(|why| Error::new(ErrorCode::Invalid, why.to_string()))
    }
}
