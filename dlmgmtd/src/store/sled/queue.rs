//! Where batches wait for the writer, and for how long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Options;
use super::state::EncodedBatch;
use crate::store::StoreError;

/// A batch that waits to be written.
pub struct Waiting {
    pub batch: EncodedBatch,
    /// Where the outcome goes; nobody asks for that of a lazy batch.
    pub answer: Option<oneshot::Sender<Result<(), StoreError>>>,
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

#[derive(Default)]
struct Inner {
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

    fn take(&mut self) -> Vec<Waiting> {
        self.awaited = 0;
        self.due = None;
        std::mem::take(&mut self.waiting)
    }
}

impl Queue {
    pub fn new(options: Options) -> Self {
        Self { options, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a batch. An error when the writer has ended.
    pub fn push(&self, waiting: Waiting) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(ended());
        }
        if waiting.answer.is_some() {
            inner.awaited += 1;
            inner.wait_at_most(self.options.linger);
        } else {
            inner.wait_at_most(self.options.lazy);
        }
        inner.waiting.push(waiting);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Puts lazy batches back before all others, to be written with the next group. Once the queue
    /// has ended there is none, and they are lost.
    pub fn put_back(&self, mut lazy: Vec<Waiting>) {
        let mut inner = self.lock();
        if lazy.is_empty() || inner.ended {
            return;
        }
        lazy.append(&mut inner.waiting);
        inner.waiting = lazy;
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
    /// Tells the outcome to whoever still asks for it.
    pub fn tell(self, outcome: Result<(), StoreError>) {
        if let Some(answer) = self.answer {
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
