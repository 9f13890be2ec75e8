//! Where the kernel tells that something happened.
//!
//! A hint says where to look, not what is there: the state is read when the hint is taken. So
//! repeated hints about one link fold into one, old ones can do no harm, and when too many are
//! waiting they fold into "look at everything".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::IfIndex;
use tokio::sync::Notify;

use crate::model::{Binding, NsCookie};

/// Hints about more links than this fold into [`HintBatch::overrun`].
const HINTS_MAX: usize = 4096;

/// What is known of one link beyond "something happened".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// It was seen down, though it may be up again.
    pub went_down: bool,
    /// It was a port of a bridge and was none then, though it may be one again.
    pub left_bridge: bool,
    /// The link that had this index ended, though another one may have it again.
    pub was_deleted: bool,
    /// The link that had this index was moved away; then it did not end here.
    pub moved_to: Option<MovedTo>,
    /// That it ended is the last that was told of the index: of a link that is there now there is a
    /// hint to come.
    pub is_over: bool,
}

impl Hint {
    /// Takes in what happened later under the same index. A link that ended or left has no more to
    /// do with what became of the next one there.
    pub fn fold(&mut self, later: Self) {
        self.went_down |= later.went_down;
        self.left_bridge |= later.left_bridge;
        self.is_over = later.is_over;
        if !self.was_deleted && self.moved_to.is_none() {
            self.was_deleted = later.was_deleted;
            self.moved_to = later.moved_to;
        }
    }
}

/// Where a link was moved to, when it was moved: it may be elsewhere by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedTo {
    /// The namespace, where that is the daemon's own or a watched one.
    pub ns: Option<NsCookie>,
    /// Its number as the daemon's namespace counts; -1 where it has none there.
    pub nsid: i32,
    /// The link's index there.
    pub ifindex: IfIndex,
}

/// All hints since the last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintBatch {
    /// Hints were lost: only a full dump tells what happened.
    pub overrun: bool,
    /// Namespaces of which only a full dump tells what happened.
    pub whole: BTreeSet<NsCookie>,
    /// Where something happened.
    pub links: BTreeMap<Binding, Hint>,
    /// Watched namespaces that died, with all that was in them. They are watched no more. A death
    /// is told after any overrun too. What it does at home, to the peers of links there and to
    /// hardware, happens after it and has hints of its own.
    pub ended: BTreeSet<NsCookie>,
}

impl HintBatch {
    fn is_empty(&self) -> bool {
        !self.overrun && self.whole.is_empty() && self.links.is_empty() && self.ended.is_empty()
    }
}

/// Collects hints until somebody takes them.
#[derive(Debug, Default)]
pub struct HintQueue {
    waiting: Mutex<HintBatch>,
    arrived: Notify,
}

impl HintQueue {
    fn waiting(&self) -> MutexGuard<'_, HintBatch> {
        // A batch is valid after every single statement here, so a poisoned lock does no harm.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to a link.
    pub fn push(&self, at: Binding, hint: Hint) {
        let mut waiting = self.waiting();
        if waiting.links.len() >= HINTS_MAX && !waiting.links.contains_key(&at) {
            waiting.links.clear();
            waiting.overrun = true;
        }
        waiting.links.entry(at).or_default().fold(hint);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// A watched namespace died.
    pub fn push_ended(&self, ns: NsCookie) {
        self.waiting().ended.insert(ns);
        self.arrived.notify_one();
    }

    /// A namespace is to be looked at as a whole.
    pub fn push_whole(&self, ns: NsCookie) {
        self.waiting().whole.insert(ns);
        self.arrived.notify_one();
    }

    /// Notifications were lost.
    pub fn push_overrun(&self) {
        self.waiting().overrun = true;
        self.arrived.notify_one();
    }

    /// Waits for hints and takes them all.
    ///
    /// Dropping the future loses none: they are taken at its very end.
    pub async fn take(&self) -> HintBatch {
        self.arrived().await;
        std::mem::take(&mut *self.waiting())
    }

    /// Waits until there are hints. There must be only one who waits.
    pub async fn arrived(&self) {
        while self.waiting().is_empty() {
            self.arrived.notified().await;
        }
    }
}
