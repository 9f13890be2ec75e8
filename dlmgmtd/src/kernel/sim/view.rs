//! What one simulated daemon gets to see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::kernel::{Hint, HintQueue, NsOpener};
use crate::model::{Binding, NsCookie};

/// A daemon, as the machine knows it.
#[derive(Default)]
pub struct View {
    /// Where it hears.
    pub hints: HintQueue,
    /// How long it lives.
    pub life: Mutex<Life>,
    /// Whether it has crashed.
    pub crashed: watch::Sender<bool>,
    watched: Mutex<BTreeMap<NsCookie, Watched>>,
}

/// How long a daemon lives: so many more steps take effect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// Steps that still take effect; `None` for all.
    pub steps_left: Option<u64>,
    /// Whether the daemon gets no answer to the last of them.
    pub last_answer_lost: bool,
}

struct Watched {
    opener: NsOpener,
    is_pinned: bool,
}

impl View {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<NsCookie, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch; of one that is watched already, only the opener changes.
    pub fn watch(&self, ns: NsCookie, opener: NsOpener) {
        let mut watched = self.watched();
        let is_pinned = watched.get(&ns).is_some_and(|known| known.is_pinned);
        watched.insert(ns, Watched { opener, is_pinned });
    }

    /// Ends that.
    pub fn unwatch(&self, ns: NsCookie) {
        self.watched().remove(&ns);
    }

    /// Ends all.
    pub fn forget_all(&self) {
        self.watched().clear();
    }

    /// Whether this namespace is watched.
    pub fn watches(&self, ns: NsCookie) -> bool {
        self.watched().contains_key(&ns)
    }

    /// Whether this daemon keeps the namespace alive.
    pub fn is_pinned(&self, ns: NsCookie) -> bool {
        self.watched().get(&ns).is_some_and(|watched| watched.is_pinned)
    }

    /// Namespaces that this daemon keeps alive.
    pub fn pinned(&self) -> BTreeSet<NsCookie> {
        let watched = self.watched();
        watched.iter().filter(|(_, known)| known.is_pinned).map(|(ns, _)| *ns).collect()
    }

    /// Begins or ends to keep a watched namespace alive.
    pub fn set_pinned(&self, ns: NsCookie, is_pinned: bool) {
        if let Some(watched) = self.watched().get_mut(&ns) {
            watched.is_pinned = is_pinned;
        }
    }

    /// How a watched namespace is opened again.
    pub fn opener(&self, ns: NsCookie) -> Option<NsOpener> {
        self.watched().get(&ns).map(|watched| watched.opener.clone())
    }

    /// Tells the daemon of a link, in as far as it hears of that: what happens in namespaces that
    /// it does not watch it does not get to know.
    pub fn tell(&self, home: NsCookie, at: Binding, mut hint: Hint) {
        let is_known = |ns: NsCookie| ns == home || self.watches(ns);
        if !is_known(at.ns) {
            return;
        }
        if let Some(moved_to) = &mut hint.moved_to {
            moved_to.ns = moved_to.ns.filter(|ns| is_known(*ns));
        }
        self.hints.push(at, hint);
    }

    /// Tells the daemon that a namespace died, if it watched that.
    pub fn tell_ended(&self, ns: NsCookie) {
        if self.watched().remove(&ns).is_some() {
            self.hints.push_ended(ns);
        }
    }
}
