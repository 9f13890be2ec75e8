//! Perimeters: changes to one link, or to one name, happen one after the other; changes to
//! different ones side by side.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{LinkId, LinkName, ZoneId};
use tokio::sync::oneshot;

/// What a change must have to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A link.
    Link(LinkId),
    /// A name in a zone, also one that nothing has yet.
    Name(ZoneId, LinkName),
    /// A zone's coming and going.
    Zone(ZoneId),
}

/// What one change needs.
pub type Keys = BTreeSet<Key>;

/// Gives out perimeters in the order in which they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Perimeters(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    inside: Vec<(u64, Keys)>,
    waiting: VecDeque<Waiter>,
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    keys: Keys,
    admit: oneshot::Sender<Perimeter>,
}

/// The right to change what its keys name; given back when dropped.
#[derive(Debug)]
pub struct Perimeter {
    number: u64,
    owner: Perimeters,
}

impl State {
    fn admit(&mut self, keys: Keys) -> u64 {
        self.last += 1;
        self.inside.push((self.last, keys));
        self.last
    }
}

impl Perimeters {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state whole, so a poisoned lock does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody has any of the keys and nobody who came first waits for one.
    pub async fn enter(&self, keys: Keys) -> Perimeter {
        let (admit, admitted) = oneshot::channel();
        self.state().waiting.push_back(Waiter { keys, admit });
        self.admit_waiters();
        match admitted.await {
            Ok(perimeter) => perimeter,
            // A waiter leaves the queue only by being admitted, and the queue outlives this call.
            Err(_) => unreachable!("a waiter was dropped without being admitted"),
        }
    }

    /// Whether nobody has any of the keys or waits for one.
    pub fn are_free(&self, keys: &Keys) -> bool {
        let state = self.state();
        let waiting = state.waiting.iter().map(|waiter| &waiter.keys);
        state
            .inside
            .iter()
            .map(|(_, keys)| keys)
            .chain(waiting)
            .all(|other| other.is_disjoint(keys))
    }

    /// Enters with those of the keys that nobody has or waits for, without waiting for the others.
    pub fn enter_free(&self, keys: &Keys) -> (Perimeter, Keys) {
        let mut state = self.state();
        let waiting = state.waiting.iter().map(|waiter| &waiter.keys);
        let busy: BTreeSet<&Key> =
            state.inside.iter().map(|(_, keys)| keys).chain(waiting).flatten().collect();
        let free: Keys = keys.iter().filter(|key| !busy.contains(key)).copied().collect();
        let number = state.admit(free.clone());
        (Perimeter { number, owner: self.clone() }, free)
    }

    fn admit_waiters(&self) {
        let mut abandoned = Vec::new();
        let mut state = self.state();
        let mut at = 0;
        while let Some(waiter) = state.waiting.get(at) {
            let is_blocked = state.inside.iter().any(|(_, keys)| !keys.is_disjoint(&waiter.keys))
                || state.waiting.iter().take(at).any(|first| !first.keys.is_disjoint(&waiter.keys));
            if is_blocked {
                at += 1;
                continue;
            }
            let Some(Waiter { keys, admit }) = state.waiting.remove(at) else { break };
            let number = state.admit(keys);
            // Who no longer waits gives it back, which needs the lock that is held here.
            abandoned.extend(admit.send(Perimeter { number, owner: self.clone() }).err());
        }
        drop(state);
        drop(abandoned);
    }
}

impl Drop for Perimeter {
    fn drop(&mut self) {
        self.owner.state().inside.retain(|(number, _)| *number != self.number);
        self.owner.admit_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn link(number: u32) -> Key {
        Key::Link(LinkId::new(number).unwrap())
    }

    fn keys(of: &[Key]) -> Keys {
        of.iter().copied().collect()
    }

    fn is_ready<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_link_is_changed_by_one_at_a_time_and_others_meanwhile() {
        let perimeters = Perimeters::default();
        let first = is_ready(pin!(perimeters.enter(keys(&[link(1)])))).unwrap();
        let mut second = pin!(perimeters.enter(keys(&[link(1)])));
        assert!(is_ready(second.as_mut()).is_none());
        assert!(is_ready(pin!(perimeters.enter(keys(&[link(2)])))).is_some());
        drop(first);
        assert!(is_ready(second.as_mut()).is_some());
    }

    #[test]
    fn who_came_first_is_not_overtaken() {
        let perimeters = Perimeters::default();
        let first = is_ready(pin!(perimeters.enter(keys(&[link(1)])))).unwrap();
        let mut both = pin!(perimeters.enter(keys(&[link(1), link(2)])));
        assert!(is_ready(both.as_mut()).is_none());
        let mut late = pin!(perimeters.enter(keys(&[link(2)])));
        assert!(is_ready(late.as_mut()).is_none());
        drop(first);
        let both = is_ready(both.as_mut()).unwrap();
        assert!(is_ready(late.as_mut()).is_none());
        drop(both);
        assert!(is_ready(late.as_mut()).is_some());
    }

    #[test]
    fn what_is_free_is_had_at_once_and_nobody_waits_for_the_rest() {
        let perimeters = Perimeters::default();
        let first = is_ready(pin!(perimeters.enter(keys(&[link(1)])))).unwrap();
        let mut second = pin!(perimeters.enter(keys(&[link(1), link(2)])));
        assert!(is_ready(second.as_mut()).is_none());
        let (rest, had) = perimeters.enter_free(&keys(&[link(1), link(2), link(3)]));
        assert_eq!(had, keys(&[link(3)]));
        assert!(is_ready(pin!(perimeters.enter(keys(&[link(3)])))).is_none());
        drop(rest);
        assert!(is_ready(pin!(perimeters.enter(keys(&[link(3)])))).is_some());
        drop(first);
        assert!(is_ready(second.as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_waiting_holds_nobody_up() {
        let perimeters = Perimeters::default();
        let first = is_ready(pin!(perimeters.enter(keys(&[link(1)])))).unwrap();
        {
            let mut gives_up = pin!(perimeters.enter(keys(&[link(1), link(2)])));
            assert!(is_ready(gives_up.as_mut()).is_none());
        }
        drop(first);
        assert!(is_ready(pin!(perimeters.enter(keys(&[link(1)])))).is_some());
    }
}
