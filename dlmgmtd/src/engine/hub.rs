//! Who is told of changes: SPEC.md section 7.
//!
//! Publishing never waits. Each subscriber has a bounded queue: when it is full, states of one
//! link fold together, and what still does not fit is counted, with the links that went down.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dlmgmt_proto::{Event, LinkId, LinkState, Seq, SequencedEvent};
use tokio::sync::Notify;

/// Events kept for those who ask for what followed a sequence number.
const HISTORY_MAX: usize = 8192;

/// Events that wait for one subscriber.
const QUEUE_MAX: usize = 1024;

/// Tells subscribers what happens, in the order in which it is published.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: VecDeque<SequencedEvent>,
    /// The last event that is no longer in the history.
    forgotten: Seq,
    subscribers: Vec<Weak<Queue>>,
    is_closed: bool,
}

/// Which events a subscriber is told of. Others take no room in its queue, and their loss is none.
pub type Sees = Box<dyn Fn(&Event) -> bool + Send + Sync>;

struct Queue {
    sees: Sees,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// What was there before the subscription; as long as the registry, so not bounded here.
    past: VecDeque<SequencedEvent>,
    events: VecDeque<SequencedEvent>,
    lost: Option<Loss>,
    is_closed: bool,
}

/// What did not fit.
#[derive(Debug, Default)]
struct Loss {
    last: Seq,
    count: u64,
    went_down: BTreeSet<LinkId>,
}

impl Hub {
    /// A hub whose first event will follow `seq`.
    pub fn new(seq: Seq) -> Self {
        Self {
            state: Mutex::new(State {
                history: VecDeque::new(),
                forgotten: seq,
                subscribers: Vec::new(),
                is_closed: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state whole, so a poisoned lock does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all subscribers.
    pub fn publish(&self, events: Vec<SequencedEvent>) {
        let mut state = self.state();
        state.subscribers.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                events.iter().for_each(|event| queue.push(event));
                true
            }
            None => false,
        });
        for event in events {
            if state.history.len() == HISTORY_MAX
                && let Some(oldest) = state.history.pop_front()
            {
                state.forgotten = oldest.seq;
            }
            state.history.push_back(event);
        }
    }

    /// A subscription to what follows, after the events of `past`; both as far as it `sees` them.
    pub fn subscribe(&self, mut past: Vec<SequencedEvent>, sees: Sees) -> Subscription {
        past.retain(|event| sees(&event.event));
        let mut state = self.state();
        let waiting =
            Waiting { past: past.into(), is_closed: state.is_closed, ..Waiting::default() };
        let queue =
            Arc::new(Queue { sees, waiting: Mutex::new(waiting), arrived: Notify::default() });
        state.subscribers.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// All events after `seq`, or `None` where some of them are no longer kept.
    pub fn history_after(&self, seq: Seq) -> Option<Vec<SequencedEvent>> {
        let state = self.state();
        let is_future = state.history.back().map_or(state.forgotten, |last| last.seq) < seq;
        if seq < state.forgotten || is_future {
            return None;
        }
        Some(state.history.iter().filter(|event| event.seq > seq).cloned().collect())
    }

    /// Ends every subscription after what waits already.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        for queue in state.subscribers.iter().filter_map(Weak::upgrade) {
            queue.waiting().is_closed = true;
            queue.arrived.notify_one();
        }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every statement leaves the queue whole, so a poisoned lock does no harm.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &SequencedEvent) {
        if (self.sees)(&event.event) {
            self.waiting().push(event.clone());
            self.arrived.notify_one();
        }
    }
}

impl Waiting {
    fn push(&mut self, event: SequencedEvent) {
        if self.lost.is_none() && self.events.len() >= QUEUE_MAX {
            fold_states(&mut self.events);
        }
        match &mut self.lost {
            None if self.events.len() < QUEUE_MAX => self.events.push_back(event),
            lost => lost.get_or_insert_default().add(&event),
        }
    }

    fn pop(&mut self) -> Option<SequencedEvent> {
        let next = self.past.pop_front().or_else(|| self.events.pop_front());
        next.or_else(|| self.lost.take().map(Loss::into_event))
    }
}

impl Loss {
    fn add(&mut self, event: &SequencedEvent) {
        self.last = event.seq;
        self.count += 1;
        if let Some(id) = link_gone_down(&event.event) {
            self.went_down.insert(id);
        }
    }

    fn into_event(self) -> SequencedEvent {
        let went_down = self.went_down.into_iter().collect();
        SequencedEvent { seq: self.last, event: Event::Lost { count: self.count, went_down } }
    }
}

fn link_gone_down(event: &Event) -> Option<LinkId> {
    match event {
        Event::State { id, state: LinkState::Down, .. } => Some(*id),
        _ => None,
    }
}

/// Drops every state of a link that a later one of the same link makes old news, but never its
/// last `down`.
fn fold_states(events: &mut VecDeque<SequencedEvent>) {
    let mut has_later = BTreeSet::new();
    let mut has_later_down = BTreeSet::new();
    let mut kept: VecDeque<SequencedEvent> = VecDeque::with_capacity(events.len());
    for event in events.drain(..).rev() {
        let is_news = match &event.event {
            Event::State { id, state: LinkState::Down, .. } => {
                has_later.insert(*id);
                has_later_down.insert(*id)
            }
            Event::State { id, .. } => has_later.insert(*id),
            _ => true,
        };
        if is_news {
            kept.push_front(event);
        }
    }
    *events = kept;
}

/// One subscriber's end of the hub.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next event; `None` once the hub is closed. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<SequencedEvent> {
        loop {
            {
                let mut waiting = self.queue.waiting();
                let next = waiting.pop();
                if next.is_some() || waiting.is_closed {
                    return next;
                }
            }
            self.queue.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlmgmt_proto::{LinkName, ZoneName};

    fn state(seq: u64, link: u32, state: LinkState) -> SequencedEvent {
        let id = LinkId::new(link).unwrap();
        let name = LinkName::given("net0").unwrap();
        let event = Event::State { id, name, zone: ZoneName::global(), state };
        SequencedEvent { seq: Seq(seq), event }
    }

    fn gone(seq: u64) -> SequencedEvent {
        let id = LinkId::new(9).unwrap();
        let name = LinkName::given("net9").unwrap();
        SequencedEvent { seq: Seq(seq), event: Event::Gone { id, name, zone: ZoneName::global() } }
    }

    async fn take_all(subscription: &mut Subscription) -> Vec<SequencedEvent> {
        let mut taken = Vec::new();
        while let Some(event) = subscription.next().await {
            taken.push(event);
        }
        taken
    }

    fn all() -> Sees {
        Box::new(|_| true)
    }

    #[tokio::test]
    async fn what_a_subscriber_does_not_see_takes_no_room_and_is_not_lost() {
        let hub = Hub::new(Seq(0));
        let sees = Box::new(|event: &Event| matches!(event, Event::State { .. }));
        let mut subscription = hub.subscribe(vec![gone(1)], sees);
        (2..=QUEUE_MAX as u64 + 2).for_each(|seq| hub.publish(vec![gone(seq)]));
        let down = state(5000, 7, LinkState::Down);
        hub.publish(vec![down.clone(), gone(5001)]);
        hub.close();
        assert_eq!(take_all(&mut subscription).await, [down]);
    }

    #[tokio::test]
    async fn a_subscriber_is_told_the_past_and_then_everything_in_order() {
        let hub = Hub::new(Seq(0));
        hub.publish(vec![gone(1)]);
        let mut subscription = hub.subscribe(hub.history_after(Seq(0)).unwrap(), all());
        hub.publish(vec![gone(2), gone(3)]);
        hub.close();
        let told: Vec<u64> = take_all(&mut subscription).await.iter().map(|e| e.seq.0).collect();
        assert_eq!(told, [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_a_down_is_never_lost() {
        let hub = Hub::new(Seq(0));
        let mut subscription = hub.subscribe(Vec::new(), all());
        let fits: Vec<_> = (1..=QUEUE_MAX as u64).map(gone).collect();
        hub.publish(fits);
        hub.publish(vec![
            state(5000, 7, LinkState::Down),
            state(5001, 7, LinkState::Up),
            gone(5002),
        ]);
        hub.close();
        let told = take_all(&mut subscription).await;
        assert_eq!(told.len(), QUEUE_MAX + 1);
        let went_down = vec![LinkId::new(7).unwrap()];
        let lost = SequencedEvent { seq: Seq(5002), event: Event::Lost { count: 3, went_down } };
        assert_eq!(told.last(), Some(&lost));
    }

    #[tokio::test]
    async fn states_of_one_link_fold_but_its_last_down_stays() {
        let hub = Hub::new(Seq(0));
        let mut subscription = hub.subscribe(Vec::new(), all());
        let flaps = (1..=QUEUE_MAX as u64 * 4)
            .map(|seq| state(seq, 7, if seq % 2 == 0 { LinkState::Up } else { LinkState::Down }));
        flaps.for_each(|event| hub.publish(vec![event]));
        hub.close();
        let told = take_all(&mut subscription).await;
        assert!(told.iter().all(|event| !matches!(event.event, Event::Lost { .. })));
        let last_two = [
            state(QUEUE_MAX as u64 * 4 - 1, 7, LinkState::Down),
            state(QUEUE_MAX as u64 * 4, 7, LinkState::Up),
        ];
        assert_eq!(told[told.len() - 2..], last_two);
    }

    #[test]
    fn events_that_are_no_longer_kept_are_not_told_in_part() {
        let hub = Hub::new(Seq(0));
        (1..=HISTORY_MAX as u64 + 5).for_each(|seq| hub.publish(vec![gone(seq)]));
        assert!(hub.history_after(Seq(4)).is_none());
        assert_eq!(hub.history_after(Seq(5)).unwrap().len(), HISTORY_MAX);
        assert!(hub.history_after(Seq(u64::MAX)).is_none());
    }
}
