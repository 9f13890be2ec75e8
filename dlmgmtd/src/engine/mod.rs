//! The one pipeline: request → authorise → plan → persist → apply → publish → reply.

mod hub;
mod observer;
mod perimeter;
mod pipeline;
mod requests;
mod service;

use std::sync::Arc;

use dlmgmt_proto::{LinkId, Seq, ZoneId};
use tokio::task::JoinHandle;

use crate::core::{LinkIds, restore};
use crate::kernel::{HintBatch, Kernel};
use crate::model::{BootId, NsCookie};
use crate::store::{Batch, Loaded, Store, StoreError};
use pipeline::Pipeline;

pub use service::{Caller, EventStream, HoldGuard, Service, Snapshot};

/// The daemon's engine. Dropping it stops following the kernel; links stay as they are.
pub struct Engine {
    pipeline: Arc<Pipeline>,
    observer: JoinHandle<()>,
}

impl Engine {
    /// Starts on what the store kept. When this returns, the first reconciliation is done.
    ///
    /// With `read_only`, which says why, nothing is changed in the kernel and requests for changes
    /// are refused.
    pub async fn start(
        kernel: Arc<dyn Kernel>,
        store: Arc<dyn Store>,
        loaded: Loaded,
        boot: BootId,
        read_only: Option<String>,
    ) -> Result<Self, StoreError> {
        let epoch = loaded.epoch.saturating_add(1);
        let is_same_boot = loaded.boot.as_ref() == Some(&boot);
        let seq = Seq::first_of_epoch(epoch);
        let (registry, ended) = restore(loaded.links, is_same_boot, kernel.home(), seq);
        open_epoch(store.as_ref(), boot, epoch, ended).await?;
        let ids = LinkIds::starting_at(loaded.next_link_id);
        let pipeline = Arc::new(Pipeline::new(kernel, store, registry, ids, read_only));
        let everything = HintBatch { overrun: true, ..HintBatch::default() };
        observer::reconcile(&pipeline, everything).await;
        let observer = tokio::spawn(observer::run(pipeline.clone()));
        Ok(Self { pipeline, observer })
    }

    /// The zone that a namespace is.
    pub fn zone_of(&self, ns: NsCookie) -> Option<ZoneId> {
        self.pipeline.registry().zone_of_ns(ns)
    }

    /// Tells subscribers that no more follows.
    pub fn close(&self) {
        self.pipeline.hub.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.observer.abort();
    }
}

async fn open_epoch(
    store: &dyn Store,
    boot: BootId,
    epoch: u32,
    ended: Vec<LinkId>,
) -> Result<(), StoreError> {
    let batch = Batch { delete: ended, boot: Some(boot), epoch: Some(epoch), ..Batch::default() };
    store.commit(batch).await
}
