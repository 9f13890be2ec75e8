//! Who takes part in zone ends: SPEC.md section 7.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dlmgmt_proto::ZoneId;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a zone's end waits for its participants.
const PATIENCE: Duration = Duration::from_secs(5);

/// The participants that are there, and what they still owe.
#[derive(Debug, Default)]
pub struct Participants {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    present: BTreeSet<u64>,
    awaited: BTreeMap<ZoneId, BTreeSet<u64>>,
}

/// One participant; dropping it ends its part.
#[derive(Debug)]
pub struct Participant {
    number: u64,
    all: Arc<Participants>,
}

impl Participants {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state whole, so a poisoned lock does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more participant, for zones that end from now on.
    pub fn join(self: &Arc<Self>) -> Participant {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.present.insert(number);
        Participant { number, all: self.clone() }
    }

    /// Everybody who is there must acknowledge the end of this zone. Called before that is told.
    pub fn expect(&self, zone: ZoneId) {
        let mut state = self.state();
        let present = state.present.clone();
        state.awaited.insert(zone, present);
    }

    /// Waits until all did, are gone, or took too long; tells how many are still missing.
    pub async fn wait(&self, zone: ZoneId) -> usize {
        let all_done = async {
            loop {
                let changed = self.changed.notified();
                if self.state().awaited.get(&zone).is_none_or(BTreeSet::is_empty) {
                    return;
                }
                changed.await;
            }
        };
        // What is missing then tells that it took too long.
        let _ = timeout(PATIENCE, all_done).await;
        self.state().awaited.remove(&zone).map_or(0, |missing| missing.len())
    }
}

impl Participant {
    /// Done with that zone; whether that was awaited.
    pub fn acknowledge(&self, zone: ZoneId) -> bool {
        let mut state = self.all.state();
        let was_awaited =
            state.awaited.get_mut(&zone).is_some_and(|awaited| awaited.remove(&self.number));
        drop(state);
        self.all.changed.notify_waiters();
        was_awaited
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.present.remove(&self.number);
        for awaited in state.awaited.values_mut() {
            awaited.remove(&self.number);
        }
        drop(state);
        self.all.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: ZoneId = ZoneId(1);

    #[tokio::test(start_paused = true)]
    async fn a_zone_ends_when_all_acknowledged_or_left() {
        let all = Arc::new(Participants::default());
        let (first, second) = (all.join(), all.join());
        all.expect(ZONE);
        let begun = tokio::time::Instant::now();
        let wait = all.wait(ZONE);
        tokio::pin!(wait);
        assert!(first.acknowledge(ZONE));
        tokio::select! {
            biased;
            _ = &mut wait => panic!("one is missing"),
            () = tokio::task::yield_now() => {}
        }
        drop(second);
        wait.await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(!first.acknowledge(ZONE));
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_holds_a_zone_up_for_a_bounded_time() {
        let all = Arc::new(Participants::default());
        let _hangs = all.join();
        all.expect(ZONE);
        let begun = tokio::time::Instant::now();
        all.wait(ZONE).await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn who_comes_late_is_not_waited_for() {
        let all = Arc::new(Participants::default());
        all.expect(ZONE);
        let _late = all.join();
        all.wait(ZONE).await;
    }
}
