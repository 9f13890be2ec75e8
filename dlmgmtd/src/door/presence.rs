//! Which connections come from which network namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::NsCookie;

/// The connections that are open, by the network namespace of their clients.
#[derive(Default)]
pub(super) struct Presence {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    by_namespace: HashMap<NsCookie, HashMap<u64, oneshot::Sender<()>>>,
}

/// One connection's entry; dropping it removes it.
pub(super) struct Stay {
    presence: Arc<Presence>,
    ns: NsCookie,
    number: u64,
}

impl Presence {
    /// Notes a connection. The receiver's channel closes when the connection is to end.
    pub(super) fn enter(self: &Arc<Self>, ns: NsCookie) -> (Stay, oneshot::Receiver<()>) {
        let (sender, ended) = oneshot::channel();
        let mut open = self.lock();
        open.last_number += 1;
        let number = open.last_number;
        open.by_namespace.entry(ns).or_default().insert(number, sender);
        (Stay { presence: Arc::clone(self), ns, number }, ended)
    }

    /// Tells the connections of a namespace to end.
    pub(super) fn end(&self, ns: NsCookie) {
        let ended = self.lock().by_namespace.remove(&ns);
        // Dropping the senders is the signal; it wakes tasks, which needs no lock.
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The maps are whole between any two statements, so a panic elsewhere does not spoil them.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut open = self.presence.lock();
        if let Some(others) = open.by_namespace.get_mut(&self.ns) {
            others.remove(&self.number);
            if others.is_empty() {
                open.by_namespace.remove(&self.ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn the_connections_of_one_namespace_end_and_no_others() {
        let presence = Arc::new(Presence::default());
        let (_a, mut first) = presence.enter(NsCookie(1));
        let (_b, mut second) = presence.enter(NsCookie(1));
        let (_c, mut elsewhere) = presence.enter(NsCookie(2));
        presence.end(NsCookie(1));
        assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(second.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(elsewhere.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn one_that_leaves_late_takes_no_newcomer_along() {
        let presence = Arc::new(Presence::default());
        let (late, _) = presence.enter(NsCookie(1));
        presence.end(NsCookie(1));
        let (_stay, mut newcomer) = presence.enter(NsCookie(1));
        drop(late);
        assert_eq!(newcomer.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn nothing_is_kept_of_connections_that_have_gone() {
        let presence = Arc::new(Presence::default());
        drop(presence.enter(NsCookie(1)));
        assert!(presence.lock().by_namespace.is_empty());
    }
}
