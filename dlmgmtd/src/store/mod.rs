//! Durable records behind a small trait, with a real implementation in sled and a simulated one.

pub(crate) mod codec;
pub mod sim;
pub mod sled;

use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::LinkId;

use crate::model::{BootId, LinkRecord, ZoneRecord};

/// Why the store cannot do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another daemon has the state directory open.
    #[error("the state directory {0} is in use by another dlmgmtd")]
    InUse(String),
    /// The state directory cannot be made or used.
    #[error("the state directory {dir} cannot be used: {why}")]
    Unusable {
        /// The directory.
        dir: String,
        /// The reason.
        why: String,
    },
    /// Something that was written cannot be read again.
    #[error("the database in {dir} is damaged: {why}")]
    Damaged {
        /// The directory.
        dir: String,
        /// What is wrong.
        why: String,
    },
    /// A write did not become durable, and has no effect.
    #[error("the change could not be stored: {0}")]
    Write(String),
}

/// All that the store keeps, as it is found when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Every link, in the order of their ids.
    pub links: Vec<LinkRecord>,
    /// Every zone that ever had a number, in the order of numbers.
    pub zones: Vec<ZoneRecord>,
    /// The boot in which it was last written.
    pub boot: Option<BootId>,
    /// From here on, no id was ever given. At least 1; after a crash, some that were not given may
    /// be left out.
    pub next_link_id: u32,
    /// How often the store was opened by a daemon before.
    pub epoch: u32,
}

/// Writes that become durable together or not at all. A record that is put and deleted ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records to keep; each replaces an earlier one of its id.
    pub put: Vec<Arc<LinkRecord>>,
    /// Zones to keep, for ever.
    pub zones: Vec<ZoneRecord>,
    /// Records that end.
    pub delete: Vec<LinkId>,
    /// Ids below this were given. The store keeps the highest it was ever told.
    pub next_link_id: Option<u32>,
    /// The boot of the kernel.
    pub boot: Option<BootId>,
    /// The epoch, raised at each start.
    pub epoch: Option<u32>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A change that is under way, until this is dropped. See [`Store::begin`].
#[must_use = "the change ends when this is dropped"]
#[derive(Default)]
pub struct ChangeGuard {
    _ended_by_its_drop: Option<Box<dyn Send + Sync>>,
}

impl ChangeGuard {
    /// A guard that drops `end` when the change ends.
    pub fn new(end: impl Send + Sync + 'static) -> Self {
        Self { _ended_by_its_drop: Some(Box::new(end)) }
    }
}

/// What the daemon asks of its store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Tells the store of a change that will be committed or already is. The engine holds the
    /// guard from a request's arrival to its reply: knowing how many changes are under way, the
    /// store can let a flush wait a moment for those about to come. Without it each flush goes
    /// at once.
    fn begin(&self) -> ChangeGuard {
        ChangeGuard::default()
    }

    /// Writes a batch. When this returns, the batch survives a power cut; on an error it has no
    /// effect, also not later. Concurrent commits share a flush. A caller that stops waiting does
    /// not withdraw its batch.
    async fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Writes a batch that matters in this boot alone: of links that end with it, as they were and as
    /// they will be, or of what is noted of links for a restart of the daemon. When this returns, the
    /// batch survives a crash of the daemon; a power cut may take it away. The ids that it gives are
    /// never given again all the same.
    async fn commit_for_this_boot(&self, batch: Batch) -> Result<(), StoreError>;

    /// Writes a batch that need not be durable before the next [`Store::commit`] is. Batches are
    /// written in their order, but a crash before that takes it, also where it leaves a later
    /// [`Store::commit_for_this_boot`].
    async fn commit_lazily(&self, batch: Batch) -> Result<(), StoreError>;

    /// How many flushes to the disk there have been.
    fn flushes(&self) -> u64;
}
