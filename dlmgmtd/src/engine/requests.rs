//! The engine as its faces see it: every request of SPEC.md section 8.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::door::{
    AttachZone, Changed, CreateLink, Created, DeleteLink, DeletePhys, DetachZone, GetAttribute,
    GetLink, GetLinkId, GetName, LinkFilter, Named, Reclaim, Rename, RenameItem, ResetZone,
    SetZone, Subscribe, Where,
};
use dlmgmt_proto::{
    Error, ErrorCode, Event, LinkId, LinkInfo, LinkName, LinkRef, Result, Seq, SequencedEvent,
    Whereabouts, ZoneId, ZoneInfo, ZoneName,
};

use super::perimeter::{Key, Keys};
use super::pipeline::Pipeline;
use super::{Caller, Engine, EventStream, HoldGuard, Service, Snapshot};
use crate::auth::{Action, authorise};
use crate::core::{
    HoldNumber, Holder, LinkIds, Plan, Registry, Scope, describe, export, plan_delete_phys,
    plan_import, plan_rename, resolve,
};

impl Engine {
    /// Plans and carries out a change to its end, also when nobody waits for it any more.
    async fn change(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync + 'static,
    ) -> Result<Changed> {
        let pipeline = self.pipeline.clone();
        let in_progress = pipeline.store.begin();
        let change = tokio::spawn(async move {
            let (plan, _perimeter) = pipeline.plan_inside(prepare).await?;
            let seq = pipeline.carry_out(plan).await?;
            drop(in_progress);
            Ok(Changed { seq })
        });
        change
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorCode::ShuttingDown, "dlmgmtd is going down")))
    }
}

#[async_trait]
impl Service for Engine {
    fn zone_name(&self, zone: ZoneId) -> Option<ZoneName> {
        self.pipeline.registry().zone_name(zone)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.pipeline.registry()
    }

    fn get_linkid(&self, caller: &Caller, call: &GetLinkId) -> Result<LinkId> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        Ok(resolve(&registry, scope, &call.link)?.record.id)
    }

    fn get_name(&self, caller: &Caller, call: &GetName) -> Result<Named> {
        let LinkInfo { zone, name, .. } = self.look_up(caller, &LinkRef::Id(call.id))?;
        Ok(Named { zone, name })
    }

    fn get_link(&self, caller: &Caller, call: &GetLink) -> Result<LinkInfo> {
        self.look_up(caller, &call.link)
    }

    fn get_attribute(&self, caller: &Caller, call: &GetAttribute) -> Result<String> {
        let link = self.look_up(caller, &call.link)?;
        link.attribute(&call.attribute).ok_or_else(|| {
            let text = format!("{}: no attribute {}", link.name, quotable(&call.attribute));
            Error::new(ErrorCode::Invalid, text)
        })
    }

    async fn rename(&self, caller: &Caller, call: Rename) -> Result<Changed> {
        let scope = authorise(caller, Action::Rename)?;
        let items = call.items.iter().map(checked).collect::<Result<Vec<_>>>()?;
        self.change(move |registry, _| {
            let known = |(link, to): &(LinkRef, LinkName)| {
                Ok((resolve(registry, scope, link)?.record.id, *to))
            };
            plan_rename(registry, &items.iter().map(known).collect::<Result<Vec<_>>>()?)
        })
        .await
    }

    async fn delete_phys(&self, caller: &Caller, call: DeletePhys) -> Result<Changed> {
        let scope = authorise(caller, Action::DeletePhys)?;
        self.change(move |registry, _| {
            plan_delete_phys(registry, resolve(registry, scope, &call.link)?.record.id)
        })
        .await
    }

    async fn set_zone(&self, _: &Caller, _: SetZone) -> Result<Changed> {
        Err(not_yet())
    }

    async fn reset_zone(&self, _: &Caller, _: ResetZone) -> Result<Changed> {
        Err(not_yet())
    }

    async fn create_link(&self, _: &Caller, _: CreateLink) -> Result<Created> {
        Err(not_yet())
    }

    async fn delete_link(&self, _: &Caller, _: DeleteLink) -> Result<Changed> {
        Err(not_yet())
    }

    async fn whereabouts(&self, _: &Caller, _: Where) -> Result<Whereabouts> {
        Err(not_yet())
    }

    async fn reclaim(&self, _: &Caller, _: Reclaim) -> Result<Changed> {
        Err(not_yet())
    }

    fn list_zones(&self, _: &Caller) -> Result<Vec<ZoneInfo>> {
        Err(not_yet())
    }

    async fn attach_zone(
        &self,
        _: &Caller,
        _: AttachZone,
        _: Option<std::os::fd::OwnedFd>,
    ) -> Result<Changed> {
        Err(not_yet())
    }

    async fn detach_zone(&self, _: &Caller, _: DetachZone) -> Result<Changed> {
        Err(not_yet())
    }

    async fn hold(&self, caller: &Caller, link: LinkRef) -> Result<Box<dyn HoldGuard>> {
        let scope = authorise(caller, Action::Hold)?;
        let id = resolve(&self.pipeline.registry(), scope, &link)?.record.id;
        let keys = Keys::Some([Key::Link(id)].into());
        let _perimeter = self.pipeline.perimeters.enter(keys).await;
        resolve(&self.pipeline.registry(), scope, &LinkRef::Id(id))?;
        let number = self.pipeline.next_hold();
        let holder = Holder(describe_caller(caller));
        self.pipeline.commit_with(|registry| (registry.with_hold(id, number, holder), [id].into()));
        Ok(Box::new(Held { pipeline: self.pipeline.clone(), id, number }))
    }

    fn subscribe(&self, caller: &Caller, call: &Subscribe) -> Result<(Seq, Box<dyn EventStream>)> {
        let scope = authorise(caller, Action::See)?;
        if call.snapshot && call.since.is_some() {
            let text = "a subscription begins with a snapshot or after a number, not with both";
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        let hub = &self.pipeline.hub;
        self.pipeline.at_rest(|registry| {
            let seq = registry.seq();
            let past = match call.since {
                Some(since) => hub
                    .history_after(since)
                    .unwrap_or_else(|| vec![SequencedEvent { seq, event: Event::Resync }]),
                None if call.snapshot => told_snapshot(registry, scope)?,
                None => Vec::new(),
            };
            let subscription: Box<dyn EventStream> = Box::new(hub.subscribe(past));
            Ok((seq, subscription))
        })
    }

    async fn export(&self, caller: &Caller) -> Result<Vec<u8>> {
        authorise(caller, Action::Export)?;
        export(&self.pipeline.registry())
    }

    async fn import(&self, caller: &Caller, text: Vec<u8>) -> Result<Changed> {
        authorise(caller, Action::Import)?;
        self.change(move |registry, ids| plan_import(registry, ids, &text)).await
    }
}

fn not_yet() -> Error {
    Error::new(ErrorCode::NotSupported, "not yet")
}

impl Engine {
    fn look_up(&self, caller: &Caller, link: &LinkRef) -> Result<LinkInfo> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        Ok(describe(&registry, resolve(&registry, scope, link)?))
    }
}

impl Snapshot for Registry {
    fn seq(&self) -> Seq {
        self.seq()
    }

    fn next(
        &self,
        caller: &Caller,
        filter: &LinkFilter,
        after: Option<LinkId>,
    ) -> Result<Option<LinkInfo>> {
        self.next_link(authorise(caller, Action::See)?, filter, after)
    }
}

/// The new name of a rename, by the rules of SPEC.md section 4.
fn checked(item: &RenameItem) -> Result<(LinkRef, LinkName)> {
    let name = LinkName::given(&item.to).map_err(|why| {
        let to = quotable(&item.to);
        Error::new(ErrorCode::Invalid, format!("{} cannot be named `{to}`: {why}", item.link))
    })?;
    Ok((item.link.clone(), name))
}

/// A caller's text as a message can hold it: printable, and not longer than a line.
fn quotable(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut quoted: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        quoted.push_str("...");
    }
    quoted
}

fn told_snapshot(registry: &Registry, scope: Scope) -> Result<Vec<SequencedEvent>> {
    let seq = registry.seq();
    let everything = LinkFilter {
        view: dlmgmt_proto::door::View::All,
        all_zones: true,
        ..LinkFilter::default()
    };
    let mut told = Vec::new();
    let mut after = None;
    while let Some(link) = registry.next_link(scope, &everything, after)? {
        after = Some(link.id);
        told.push(SequencedEvent { seq, event: Event::Snapshot(link) });
    }
    told.push(SequencedEvent { seq, event: Event::SnapshotEnd });
    Ok(told)
}

fn describe_caller(caller: &Caller) -> String {
    let client = if caller.client.is_empty() { "a client" } else { &caller.client };
    let client = quotable(client);
    match caller.pid {
        Some(pid) => format!("{client} (pid {pid}, uid {})", caller.uid),
        None => format!("{client} (uid {})", caller.uid),
    }
}

/// A hold; it ends when this is dropped.
struct Held {
    pipeline: Arc<Pipeline>,
    id: LinkId,
    number: HoldNumber,
}

impl HoldGuard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let ids = BTreeSet::from([self.id]);
        self.pipeline.commit_with(|registry| (registry.without_hold(self.id, self.number), ids));
    }
}
