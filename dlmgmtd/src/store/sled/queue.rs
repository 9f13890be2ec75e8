//! Where batches wait for the writer, and for how long.
//!
//! What need not outlive the boot is written into the journal here, by whoever brings it, and then
//! waits like a lazy batch. That is possible whenever all that came before and that somebody waits
//! for is in the database or in the journal; else it takes the way of all others, and waits for the
//! disk.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Options;
use super::journal::Journal;
use super::snapshot::Reserve;
use super::state::EncodedBatch;
use crate::crash;
use crate::store::codec::CodecError;
use crate::store::{Batch, StoreError};

/// A batch that waits to be written.
pub enum Waiting {
    /// Somebody waits for it, and is told the outcome.
    Awaited(EncodedBatch, oneshot::Sender<Result<(), StoreError>>),
    /// It is in the journal.
    Journalled(EncodedBatch),
    /// Nobody cares when it is written. Many such are old news by then, so only the writer gives it
    /// its durable form.
    Lazy(Batch),
}

/// What is surely on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    /// The number of the last commit.
    pub commit: u64,
    /// What the snapshot reserves.
    pub reserve: Reserve,
}

/// What the writer does next.
pub enum Turn {
    /// Writes these, in this order.
    Write(Vec<Waiting>),
    /// Has nothing to write.
    Idle,
    /// Ends.
    End,
}

/// The queue between the callers and the writer.
pub struct Queue {
    options: Options,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    journal: Journal,
    durable: Durable,
    /// Whether the writer has taken a group of which it is not known yet how it ended.
    is_writing: bool,
    waiting: Vec<Waiting>,
    /// Of those waiting, how many somebody waits for.
    awaited: usize,
    /// Changes under way, whether they wait here or not.
    in_progress: usize,
    /// When what waits is written at the latest.
    due: Option<Instant>,
    ended: bool,
}

impl Inner {
    /// Whether to write now. While more changes are under way elsewhere than wait here, a flush
    /// waits for them: they will be here soon, and then one flush does for all. A caller that is
    /// alone never waits.
    fn is_due(&self, now: Instant) -> bool {
        let elsewhere = self.in_progress.saturating_sub(self.awaited);
        let enough = self.awaited > 0 && self.awaited >= elsewhere;
        self.ended || enough || self.due.is_some_and(|due| due <= now)
    }

    fn wait_at_most(&mut self, patience: Duration) {
        let due = Instant::now() + patience;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Writes a batch into the journal.
    fn journal(&mut self, batch: &EncodedBatch) -> bool {
        if self.ended || self.is_writing || self.awaited > 0 {
            return false;
        }
        if !self.durable.reserve.covers_ids(batch.next_link_id()) {
            return false;
        }
        crash::point("journal.before_write");
        if let Err(why) = self.journal.append(self.durable.commit + 1, batch) {
            tracing::warn!("the journal cannot be written: {why}");
            return false;
        }
        crash::point("journal.after_write");
        true
    }

    fn take(&mut self) -> Vec<Waiting> {
        self.awaited = 0;
        self.due = None;
        std::mem::take(&mut self.waiting)
    }
}

impl Queue {
    /// A queue without batches. The journal is empty.
    pub fn new(options: Options, journal: Journal, durable: Durable) -> Self {
        let inner = Inner {
            journal,
            durable,
            is_writing: false,
            waiting: Vec::new(),
            awaited: 0,
            in_progress: 0,
            due: None,
            ended: false,
        };
        Self { options, inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Adds a batch. An error when the writer has ended.
    pub fn push(&self, waiting: Waiting) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(ended());
        }
        let due = inner.due;
        let is_awaited = waiting.is_awaited();
        if is_awaited {
            inner.awaited += 1;
            inner.wait_at_most(self.options.linger);
        } else {
            inner.wait_at_most(self.options.lazy);
        }
        inner.waiting.push(waiting);
        let concerns_writer = is_awaited || inner.due != due;
        drop(inner);
        if concerns_writer {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Writes a batch into the journal, which then need not be waited for; gives it back where
    /// that cannot be done now.
    pub fn journal(&self, batch: EncodedBatch) -> Result<(), EncodedBatch> {
        let mut inner = self.lock();
        if !inner.journal(&batch) {
            return Err(batch);
        }
        let is_first = inner.due.is_none();
        inner.wait_at_most(self.options.lazy);
        inner.waiting.push(Waiting::Journalled(batch));
        drop(inner);
        if is_first {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The group that the writer took is durable, and all that the journal held with it.
    pub fn written(&self, durable: Durable) {
        let mut inner = self.lock();
        inner.is_writing = false;
        inner.durable = durable;
        inner.journal.clear();
    }

    /// More is reserved on the disk than was.
    pub fn reserved(&self, reserve: Reserve) {
        self.lock().durable.reserve = reserve;
    }

    /// The group that the writer took was refused: puts what nobody waits for back before all others,
    /// to be written with the next group. Once the queue has ended there is none, and what is not in
    /// the journal is lost. As long as it `is_open` whether the database has the group all the same,
    /// no entry can be told to come after it.
    pub fn put_back(&self, mut unawaited: Vec<Waiting>, is_open: bool) {
        let mut inner = self.lock();
        inner.is_writing = is_open;
        if unawaited.is_empty() || inner.ended {
            return;
        }
        unawaited.append(&mut inner.waiting);
        inner.waiting = unawaited;
        inner.wait_at_most(self.options.lazy);
    }

    /// Counts a change as under way until what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> InProgress {
        self.lock().in_progress += 1;
        InProgress(Arc::clone(self))
    }

    /// Waits for the writer's next turn; it is idle when nothing comes until `idle_at`.
    pub fn next_turn(&self, idle_at: Option<Instant>) -> Turn {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            if !inner.waiting.is_empty() && inner.is_due(now) {
                inner.is_writing = true;
                return Turn::Write(inner.take());
            }
            if inner.ended {
                return Turn::End;
            }
            if idle_at.is_some_and(|at| at <= now) && inner.waiting.is_empty() {
                return Turn::Idle;
            }
            let until = if inner.waiting.is_empty() { idle_at } else { inner.due };
            inner = self.wait(inner, until.map(|until| until.saturating_duration_since(now)));
        }
    }

    /// Lets the writer write what waits and end.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Ends the queue without its writer: those who wait are told so.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        for waiting in inner.take() {
            waiting.tell(Err(ended()));
        }
    }

    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match patience {
            None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.changed.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Every critical section here leaves the queue whole, also one that panics.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited(..))
    }

    /// The batch in its durable form.
    pub fn encoded(&self) -> Result<Cow<'_, EncodedBatch>, CodecError> {
        match self {
            Self::Awaited(batch, _) | Self::Journalled(batch) => Ok(Cow::Borrowed(batch)),
            Self::Lazy(batch) => batch.try_into().map(Cow::Owned),
        }
    }

    /// Tells the outcome to whoever still asks for it.
    pub fn tell(self, outcome: Result<(), StoreError>) {
        if let Self::Awaited(_, answer) = self {
            let _ = answer.send(outcome);
        }
    }
}

/// A change under way.
pub struct InProgress(Arc<Queue>);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.in_progress -= 1;
        let awaited = inner.awaited > 0;
        drop(inner);
        if awaited {
            self.0.changed.notify_one();
        }
    }
}

/// The error of a store that takes no more batches.
pub fn ended() -> StoreError {
    StoreError::Write("the store is closed".to_owned())
}
