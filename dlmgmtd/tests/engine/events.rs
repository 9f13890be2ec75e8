//! SPEC.md section 7: what subscribers are told.

use std::collections::BTreeMap;

use dlmgmt_proto::door::Subscribe;
use dlmgmt_proto::{Event, LinkId, LinkInfo, LinkState, Seq, SequencedEvent};
use dlmgmtd::engine::{EventStream, Service};
use dlmgmtd::kernel::Kernel;
use dlmgmtd::model::{Action, Step};

use crate::machine::{Daemon, Machine, card, outcome, root, settle};

/// A subscriber.
pub struct Subscriber {
    /// The commit that the subscription begins with.
    pub seq: Seq,
    stream: Box<dyn EventStream>,
}

impl Daemon {
    /// Subscribes to what follows.
    pub fn events(&self) -> Subscriber {
        self.subscribe(false, None)
    }

    pub fn subscribe(&self, snapshot: bool, since: Option<Seq>) -> Subscriber {
        let (seq, stream) = self
            .engine
            .subscribe(&root(), &Subscribe { snapshot, since, participant: false })
            .unwrap();
        Subscriber { seq, stream }
    }

    /// The kernel says that it could not tell all.
    pub fn hear_that_hints_were_lost(&self) {
        self.kernel.hints().push_overrun();
    }
}

impl Subscriber {
    /// Everything until nothing more comes.
    pub async fn waiting(&mut self) -> Vec<SequencedEvent> {
        let mut told = Vec::new();
        while let Some(Some(event)) = outcome(self.stream.next()).await {
            told.push(event);
        }
        told
    }
}

/// The links as somebody knows them who hears nothing but events.
#[derive(Default)]
pub struct Reducer(BTreeMap<LinkId, LinkInfo>);

impl Reducer {
    pub fn hear(&mut self, told: &[SequencedEvent]) {
        for SequencedEvent { event, .. } in told {
            match event.clone() {
                Event::Snapshot(link)
                | Event::Added(link)
                | Event::Renamed { link, .. }
                | Event::Moved { link, .. }
                | Event::Changed(link)
                | Event::Removed(link) => drop(self.0.insert(link.id, link)),
                Event::State { id, state, .. } => self.0.get_mut(&id).unwrap().state = state,
                Event::Gone { id, .. } => drop(self.0.remove(&id).unwrap()),
                Event::SnapshotEnd | Event::Detaching { .. } => {}
                _ => panic!("{event:?}"),
            }
        }
    }

    pub fn links(&self) -> Vec<LinkInfo> {
        self.0.values().cloned().collect()
    }
}

/// Something of every kind happens.
async fn much_happens(machine: &Machine, daemon: &Daemon) {
    machine.create("v0");
    settle().await;
    daemon.rename(&[("eth0", "eth1"), ("eth1", "eth0")]).await.unwrap();
    let v0 = machine.at("v0");
    machine.world.by_others(&Step { at: v0, action: Action::SetMtu(9000) }).unwrap();
    machine.world.set_state(v0, LinkState::Up).unwrap();
    settle().await;
    machine.rename_by_others("v0", "v1");
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    let held = daemon.engine.hold(&root(), "v1".parse().unwrap()).await.unwrap();
    daemon.rename(&[("eth1", "eth0")]).await.unwrap();
    drop(held);
    machine.world.delete(v0).unwrap();
    machine.create("v2");
    settle().await;
}

async fn busy_machine() -> (Machine, Daemon) {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    machine.create("w0");
    let daemon = machine.start().await;
    (machine, daemon)
}

#[tokio::test(start_paused = true)]
async fn subscribers_get_every_change_in_commit_order_with_a_sequence_number() {
    let (machine, daemon) = busy_machine().await;
    let mut subscribers = [daemon.events(), daemon.events()];
    much_happens(&machine, &daemon).await;
    let first = subscribers[0].waiting().await;
    let numbers: Vec<u64> = first.iter().map(|event| event.seq.0).collect();
    let begin = subscribers[0].seq.0;
    assert_eq!(numbers, (begin + 1..=begin + numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(subscribers[1].waiting().await, first);
    assert_eq!(daemon.engine.snapshot().seq(), first.last().unwrap().seq);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_the_events_after_it_come_to_the_list() {
    let (machine, daemon) = busy_machine().await;
    let mut subscriber = daemon.subscribe(true, None);
    let mut known = Reducer::default();
    let before = daemon.links();
    known.hear(&subscriber.waiting().await);
    assert_eq!(known.links(), before);
    much_happens(&machine, &daemon).await;
    known.hear(&subscriber.waiting().await);
    assert_eq!(known.links(), daemon.links());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_what_followed_a_number_gets_just_that() {
    let (machine, daemon) = busy_machine().await;
    let mut early = daemon.events();
    much_happens(&machine, &daemon).await;
    let all = early.waiting().await;
    for (at, event) in all.iter().enumerate() {
        let mut late = daemon.subscribe(false, Some(event.seq));
        assert_eq!(late.waiting().await, all[at + 1..]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_what_followed_a_number_of_an_earlier_life_is_told_to_resynchronise() {
    let (machine, daemon) = busy_machine().await;
    let before = daemon.engine.snapshot().seq();
    let daemon = machine.start().await;
    let mut subscriber = daemon.subscribe(false, Some(before));
    let told = subscriber.waiting().await;
    assert_eq!(told.iter().map(|told| &told.event).collect::<Vec<_>>(), [&Event::Resync]);
}

#[tokio::test(start_paused = true)]
async fn a_down_between_two_looks_is_never_lost() {
    let machine = Machine::new(0);
    let v0 = machine.create("v0");
    machine.world.set_state(v0, LinkState::Up).unwrap();
    let daemon = machine.start().await;
    let mut subscriber = daemon.events();
    machine.world.set_state(v0, LinkState::Down).unwrap();
    machine.world.set_state(v0, LinkState::Up).unwrap();
    let states: Vec<LinkState> = subscriber
        .waiting()
        .await
        .into_iter()
        .filter_map(|told| match told.event {
            Event::State { state, .. } => Some(state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [LinkState::Down, LinkState::Up]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_carries_the_number_of_the_commit_that_shows_it() {
    let (_machine, daemon) = busy_machine().await;
    let mut subscriber = daemon.events();
    let changed = daemon.rename(&[("eth0", "lan")]).await.unwrap();
    let told = subscriber.waiting().await;
    assert_eq!(told.iter().map(|told| told.seq).collect::<Vec<_>>(), [changed.seq]);
}
