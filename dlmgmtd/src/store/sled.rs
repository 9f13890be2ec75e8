//! The store in sled.
//!
//! One thread writes. It takes all batches that wait as one group: one transaction, one flush, one
//! fdatasync of sled's file (which sled itself leaves out), one answer for all. sled is treated as
//! a part that can fail, and above all as one that loses the end of a damaged log without a word:
//! what it should hold is therefore known outside it, and a snapshot replaces it when it must.
//!
//! What need not outlive the boot does not wait for the disk: it is acknowledged as soon as it is in
//! the journal, and goes to sled with a later group. A power cut may take the journal away, but not
//! what the snapshot has reserved; a store that was not closed in order gives ids from there on.
//!
//! In the state directory lie
//!
//! | name            | what                                                              |
//! |-----------------|-------------------------------------------------------------------|
//! | `lock`          | locked while a daemon uses the directory                          |
//! | `db/`           | the sled database                                                 |
//! | `acknowledged`  | the number of the last acknowledged commit                        |
//! | `journal`       | batches that the database does not have yet                       |
//! | `snapshot.json` | a plain export, from which a damaged database is restored         |
//! | `damaged-N/`    | a damaged database or journal, as it was found                    |
//! | `db.copy/`      | a copy of the database, while it is opened                        |
//! | `db.rebuilt/`   | a restored database, until it takes its place                     |

mod database;
mod directory;
mod high_water;
mod inspect;
mod journal;
mod queue;
mod recovery;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;

pub use self::inspect::{Inspection, Problem, inspect};
pub use self::recovery::Recovery;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::{
    journal::assert_reads_orderly as assert_journal_reads_orderly,
    snapshot::assert_reads_orderly as assert_snapshot_reads_orderly,
};

use self::directory::StateDir;
use self::high_water::HighWater;
use self::journal::Journal;
use self::queue::{Durable, Queue, Waiting, ended};
use self::recovery::Opened;
use self::state::EncodedBatch;
use self::writer::{SnapshotState, Writer};
use super::{Batch, ChangeGuard, Loaded, Store, StoreError};

/// What the last snapshot in the state directory `dir` has, if there is one. A daemon may be using the
/// directory; then this is what it had some time ago.
pub fn read_snapshot(dir: &Path) -> Result<Option<Loaded>, StoreError> {
    let damaged = |why: String| StoreError::Damaged { dir: dir.display().to_string(), why };
    let state = snapshot::read(&dir.join(directory::SNAPSHOT)).map_err(damaged)?;
    state.map(|state| state.loaded().map_err(|why| damaged(why.to_string()))).transpose()
}

/// How long the store may put things off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a flush waits at most for changes that are under way.
    pub linger: Duration,
    /// How long a lazy batch waits at most for a flush.
    pub lazy: Duration,
    /// How old the snapshot may become, before the writer writes another when it is idle.
    pub snapshot: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            lazy: Duration::from_secs(1),
            snapshot: Duration::from_secs(30),
        }
    }
}

/// The store in sled. Dropping it writes what still waits and closes the database, which blocks
/// for some milliseconds.
pub struct SledStore {
    queue: Arc<Queue>,
    flushes: Arc<AtomicU64>,
    recovery: Option<Recovery>,
    writer: Option<JoinHandle<()>>,
}

impl SledStore {
    /// Opens the store in the directory `dir`, made when absent, and reads all of it.
    ///
    /// Fails with [`StoreError::InUse`], [`StoreError::Unusable`], or [`StoreError::Damaged`] when
    /// the database cannot be read and there is nothing to restore it from; the database is then
    /// left as it was found. A restored database is told of by [`SledStore::recovery`].
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Loaded), StoreError> {
        let dir = StateDir::take(dir)?;
        let high_water = HighWater::open(&dir.high_water()).map_err(|why| dir.unusable(why))?;
        let journal = Journal::open(&dir.journal()).map_err(|why| dir.unusable(why))?;
        let (journal, entries, unread) = journal;
        if unread > 0 {
            tell_of_damage(&dir, &journal, entries.len(), unread);
        }
        let Opened { database, state, reserve, given, recovery } =
            recovery::open(&dir, high_water.read().unwrap_or(0))?;
        high_water.set(state.meta.commit).map_err(|why| dir.unusable(why))?;
        dir.sync()?;

        let durable = Durable { commit: state.meta.commit, reserve };
        let queue = Arc::new(Queue::new(options, journal, durable));
        let flushes = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            dir,
            options,
            queue: Arc::clone(&queue),
            flushes: Arc::clone(&flushes),
            database: Some(database),
            durable: state,
            has_hole: false,
            high_water,
            snapshot: SnapshotState {
                reserve,
                commit: None,
                at: Instant::now(),
                hardware: BTreeMap::new(),
            },
        };
        if let Err(why) = writer.take_over(&entries, given) {
            writer.close();
            return Err(writer.dir.unusable(why));
        }
        let loaded = writer.durable.loaded().map_err(|why| writer.dir.damaged(why))?;
        let hardware = loaded.links.iter().filter(|link| link.phys.is_some());
        writer.snapshot.hardware = hardware.map(|link| (link.id, link.name)).collect();
        let writer = start(writer)?;
        Ok((Self { queue, flushes, recovery, writer: Some(writer) }, loaded))
    }

    /// Whether the database was found damaged and had to be restored.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }
}

/// Neither the database nor the snapshot has what is lost: it can only be told, and kept.
fn tell_of_damage(dir: &StateDir, journal: &Journal, entries: usize, unread: usize) {
    let kept = match dir.keep_journal() {
        Ok(evidence) => {
            journal.cut_off();
            format!("it is kept in {}", evidence.display())
        }
        Err(why) => format!("it cannot be kept: {why}"),
    };
    tracing::error!(
        "the journal is damaged: after {entries} entries there are {unread} bytes that cannot be \
         read, and unless the machine was started anew, changes of links that end with the boot \
         may be lost, though they were acknowledged; {kept}"
    );
}

fn start(mut writer: Writer) -> Result<JoinHandle<()>, StoreError> {
    let refused = |why: std::io::Error| StoreError::Write(why.to_string());
    writer.save_snapshot();
    thread::Builder::new().name("store".to_owned()).spawn(|| writer.run()).map_err(refused)
}

#[async_trait]
impl Store for SledStore {
    fn begin(&self) -> ChangeGuard {
        ChangeGuard::new(self.queue.begin())
    }

    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit_durably(encode(&batch)?).await
    }

    async fn commit_for_this_boot(&self, batch: Batch) -> Result<(), StoreError> {
        match self.queue.journal(encode(&batch)?) {
            Ok(()) => Ok(()),
            Err(batch) => self.commit_durably(batch).await,
        }
    }

    async fn commit_lazily(&self, batch: Batch) -> Result<(), StoreError> {
        self.queue.push(Waiting::Lazy(batch))
    }

    fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl SledStore {
    async fn commit_durably(&self, batch: EncodedBatch) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Waiting::Awaited(batch, answer))?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn encode(batch: &Batch) -> Result<EncodedBatch, StoreError> {
    EncodedBatch::try_from(batch).map_err(|why| StoreError::Write(why.to_string()))
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.queue.end();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer failed");
        }
        tracing::debug!(flushes = self.flushes(), "the store is closed");
    }
}
