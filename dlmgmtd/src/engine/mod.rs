//! The one pipeline: request → authorise → plan → persist → apply → publish → reply.

mod arrivals;
mod custody;
mod details;
mod following;
mod hub;
mod observer;
mod participants;
mod perimeter;
mod pins;
mod pipeline;
mod requests;
mod service;
mod speeds;
mod zones;

use std::sync::Arc;

use arc_swap::ArcSwap;
use dlmgmt_proto::{IfIndex, Result, Seq, ZoneId};
use futures_util::FutureExt;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use crate::core::{LinkIds, Registry, restore};
use crate::crash;
use crate::kernel::Kernel;
use crate::model::{BootId, NsCookie, Zone};
use crate::store::{Batch, Loaded, Store, StoreError};
use crate::zones::{SourceEvents, ZoneSources};
use hub::Subscription;
use observer::Glance;
use perimeter::Key;
use pipeline::Pipeline;
use zones::ZoneKeeper;

pub use custody::{Custody, NoCustody};
pub(crate) use requests::{going_down, is_zone};
pub use service::{Caller, EventStream, HoldGuard, Service, Snapshot};
pub use zones::Arrival;

/// The daemon's engine. Dropping it stops following the kernel; links stay as they are.
pub struct Engine {
    pipeline: Arc<Pipeline>,
    zones: Arc<ZoneKeeper>,
    limits: ArcSwap<EngineLimits>,
    followers: Vec<JoinHandle<()>>,
}

/// What the engine lets callers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Transient links that callers inside a zone may have there.
    pub transient_links: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { transient_links: 256 }
    }
}

/// What an engine runs on.
pub struct Parts {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// The store, and what it kept.
    pub store: Arc<dyn Store>,
    /// What the store kept.
    pub loaded: Loaded,
    /// This run of the kernel.
    pub boot: BootId,
    /// Why nothing may be changed in the kernel, if so: requests for changes are then refused.
    pub read_only: Option<String>,
    /// Where zones come from.
    pub sources: (ZoneSources, SourceEvents),
    /// Zones that are known from the start, beside those that the sources tell of.
    pub present: Vec<Arrival>,
    /// What callers may have.
    pub limits: EngineLimits,
    /// Who keeps namespaces open while the daemon is not there.
    pub custody: Arc<dyn Custody>,
}

impl Engine {
    /// Starts on what the store kept. When this returns, the first reconciliation is done, also in
    /// the zones that are there.
    pub async fn start(parts: Parts) -> std::result::Result<Self, StoreError> {
        let Parts { kernel, store, loaded, boot, read_only, sources, present, limits, custody } =
            parts;
        let epoch = loaded.epoch.saturating_add(1);
        let is_same_boot = loaded.boot.as_ref() == Some(&boot);
        let seq = Seq::first_of_epoch(epoch);
        let home = kernel.home();
        let (registry, ended) = restore(loaded.links, loaded.zones, is_same_boot, home, seq);
        crash::point("start.before_epoch");
        let of_new_boot =
            if is_same_boot { Batch::default() } else { records_of_new_boot(&registry) };
        let batch = Batch { delete: ended, boot: Some(boot), epoch: Some(epoch), ..of_new_boot };
        store.commit(batch).await?;
        let ids = LinkIds::starting_at(loaded.next_link_id);
        let pipeline = Arc::new(Pipeline::new(kernel, store, registry, ids, read_only, custody));
        let (sources, events) = sources;
        let zones = Arc::new(ZoneKeeper::new(pipeline.clone(), sources));
        crash::point("start.before_look");
        observer::reconcile(&pipeline, home, Glance::whole()).await;
        zones.take_back_what_was_kept().await;
        let (settle, settled) = oneshot::channel();
        let followers = vec![
            tokio::spawn(zones.clone().follow_sources(events, settle)),
            tokio::spawn(following::run(pipeline.clone(), zones.clone())),
            tokio::spawn(speeds::follow(pipeline.clone())),
        ];
        if settled.await.is_err() {
            tracing::warn!("zones cannot be watched");
        }
        crash::point("start.before_zones");
        zones.attach_again().await;
        for arrival in present {
            let name = arrival.name.clone();
            if let Err(why) = zones.zone_appeared(arrival).await {
                tracing::warn!(ZONE = name.as_str(), "zone {name} is not taken: {why}");
            }
        }
        zones.end_unclaimed().await;
        crash::point("start.before_finish");
        zones.finish_start().await;
        Ok(Self { pipeline, zones, limits: ArcSwap::from_pointee(limits), followers })
    }

    /// The zone that a namespace is, unless it is ending.
    pub fn zone_of(&self, ns: NsCookie) -> Option<ZoneId> {
        let registry = self.pipeline.registry();
        let zone = registry.zone_of_ns(ns)?;
        registry.zone(zone)?.up.as_ref().filter(|up| !up.is_ending).map(|_| zone)
    }

    /// A namespace has a name: it is a zone when this returns, and its loans are there.
    pub async fn zone_appeared(&self, arrival: Arrival) -> Result<ZoneId> {
        self.zones.zone_appeared(arrival).await
    }

    /// Ends a zone: when this returns, its loans are home and its namespace is let go.
    pub async fn end_zone(&self, zone: ZoneId) {
        let registry = self.pipeline.registry();
        if let Some(up) = registry.zone(zone).and_then(|zone| zone.up.as_ref()) {
            self.zones.end_zone(zone, up.ns).await;
        }
    }

    /// Tells of namespaces that are zones no longer, while they can still be let go.
    pub fn ended_namespaces(&self) -> broadcast::Receiver<NsCookie> {
        self.zones.ended()
    }

    /// From now on, callers may have this much.
    pub fn set_limits(&self, limits: EngineLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Goes the way of a change of everything, without changing anything: it returns as long as
    /// changes come to their ends and the kernel answers. What it answers does not matter.
    pub async fn pulse(&self) {
        let links = self.pipeline.registry();
        let everything = links.links().map(|link| Key::Link(link.record.id)).collect();
        drop(self.pipeline.perimeters.enter(everything).await);
        drop(self.pipeline.looks.lock().await);
        if let Some(loopback) = IfIndex::new(1) {
            let home = self.pipeline.kernel.home();
            let _ = self.pipeline.kernel.get(home, loopback).await;
        }
    }

    /// The links as they are now, and again after changes.
    pub fn changes(&self) -> Changes {
        let following = self.pipeline.hub.subscribe(Vec::new(), Box::new(|_| true));
        Changes { pipeline: self.pipeline.clone(), following, is_new: true }
    }

    /// Tells subscribers that no more follows.
    pub fn close(&self) {
        self.pipeline.hub.close();
    }
}

/// See [`Engine::changes`].
pub struct Changes {
    pipeline: Arc<Pipeline>,
    following: Subscription,
    is_new: bool,
}

impl Changes {
    /// All links, once they have changed since the last call; the first call answers at once. `None`
    /// when the engine is closed. Changes that come in swarms are answered together.
    pub async fn next(&mut self) -> Option<Arc<Registry>> {
        if !std::mem::take(&mut self.is_new) {
            self.following.next().await?;
            while self.following.next().now_or_never().is_some_and(|change| change.is_some()) {}
        }
        Some(self.pipeline.registry())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.followers.iter().for_each(JoinHandle::abort);
    }
}

/// All records, as a new boot begins with them: with its number alone, a start after a crash would take
/// what the old boot left in them for its own.
fn records_of_new_boot(registry: &Registry) -> Batch {
    let is_stored = |zone: &&Arc<Zone>| zone.record.id != ZoneId::GLOBAL;
    Batch {
        put: registry.links().map(|link| link.record.clone()).collect(),
        zones: registry.zones().filter(is_stored).map(|zone| zone.record.clone()).collect(),
        ..Batch::default()
    }
}
