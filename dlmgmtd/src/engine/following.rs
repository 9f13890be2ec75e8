//! Takes the kernel's hints and has them looked into, as long as the daemon runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dlmgmt_proto::LinkId;
use tokio::task::JoinSet;

use super::observer::{Clue, Glance, reconcile};
use super::perimeter::{Key, Keys};
use super::pipeline::Pipeline;
use super::zones::ZoneKeeper;
use crate::core::Registry;
use crate::kernel::{Hint, HintBatch};
use crate::model::{Binding, NsCookie};

/// How long hints gather before they are looked into. One change comes as several, and a change of
/// our own is answered meanwhile, undisturbed by looks at what it does.
const GATHERING: Duration = Duration::from_millis(1);

/// How often hints gather at most, one time after the other, while changes of our own go on.
const GATHERINGS_MAX: usize = 10;

/// Follows the kernel until dropped.
pub(super) async fn run(pipeline: Arc<Pipeline>, zones: Arc<ZoneKeeper>) {
    let mut aside = Aside::default();
    let mut earlier = pipeline.registry();
    loop {
        pipeline.kernel.hints().arrived().await;
        gather(&pipeline).await;
        let mut hints = pipeline.kernel.hints().take().await;
        let ended = std::mem::take(&mut hints.ended);
        zones.find_strangers(&mut hints).await;
        aside.set_busy_links(&pipeline, &mut hints);
        let before = pipeline.registry();
        for (ns, glance) in glances(&before, hints) {
            if !ended.contains(&ns) {
                reconcile(&pipeline, ns, glance).await;
            }
        }
        // By now, what left a namespace before its end is known where it is.
        for ns in ended {
            zones.namespace_died(ns);
        }
        zones.leave_empty_strangers().await;
        let now = pipeline.registry();
        zones.owe_those_over(now.come_or_moved_since(&earlier).map(|link| link.record.id));
        earlier = now;
        if zones.owes_links() {
            let zones = zones.clone();
            tokio::spawn(async move { zones.remake_owed_links().await });
        }
        zones.send_those_back(&before);
    }
}

/// Lets hints gather. Each change of our own is soon followed by the next one, if by any: looks would
/// take the kernel's one lock from that.
async fn gather(pipeline: &Pipeline) {
    for _ in 0..GATHERINGS_MAX {
        let before = pipeline.registry().seq();
        tokio::time::sleep(GATHERING).await;
        if pipeline.registry().seq() == before {
            return;
        }
    }
}

/// Hints about links that are just being changed. Each such link is followed by itself when its
/// change is done, so that it holds up neither the others nor the requests for them.
#[derive(Default)]
struct Aside {
    hints: Arc<Mutex<BTreeMap<Binding, Hint>>>,
    followers: JoinSet<()>,
}

impl Aside {
    fn set_busy_links(&mut self, pipeline: &Arc<Pipeline>, hints: &mut HintBatch) {
        while self.followers.try_join_next().is_some() {}
        let registry = pipeline.registry();
        hints.links.retain(|at, hint| {
            let keys = registry.by_binding(*at).map(|id| [Key::Link(id)].into());
            match keys.filter(|keys| !pipeline.perimeters.are_free(keys)) {
                Some(keys) if hint.moved_to.is_none() => self.set(pipeline, *at, *hint, keys),
                _ => return true,
            }
            false
        });
    }

    fn set(&mut self, pipeline: &Arc<Pipeline>, at: Binding, hint: Hint, keys: Keys) {
        let mut waiting = locked(&self.hints);
        if let Some(earlier) = waiting.get_mut(&at) {
            earlier.fold(hint);
            return;
        }
        waiting.insert(at, hint);
        let (pipeline, hints) = (pipeline.clone(), self.hints.clone());
        self.followers.spawn(async move {
            drop(pipeline.perimeters.enter(keys).await);
            let hint = locked(&hints).remove(&at).unwrap_or_default();
            let clue = Clue { hint, known_as: None };
            reconcile(&pipeline, at.ns, Glance::at(at.ifindex, clue)).await;
        });
    }
}

fn locked(hints: &Mutex<BTreeMap<Binding, Hint>>) -> MutexGuard<'_, BTreeMap<Binding, Hint>> {
    // Every statement leaves the hints whole, so a poisoned lock does no harm.
    hints.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be looked at, places to which links moved first: there they are known again, before
/// they are missed where they were.
fn glances(registry: &Registry, hints: HintBatch) -> Vec<(NsCookie, Glance)> {
    let mut glances: BTreeMap<NsCookie, Glance> = BTreeMap::new();
    let moves = moves(registry, &hints.links);
    for (at, hint) in hints.links {
        glances.entry(at.ns).or_default().links.entry(at.ifindex).or_default().hint = hint;
    }
    for (to, id) in moves.values() {
        let there = glances.entry(to.ns).or_default().links.entry(to.ifindex).or_default();
        there.known_as = Some(*id);
    }
    let everywhere = if hints.overrun { registry.known_spaces() } else { BTreeSet::new() };
    for ns in everywhere.into_iter().chain(hints.whole) {
        glances.entry(ns).or_default().is_whole = true;
    }
    let arrivals: BTreeSet<NsCookie> = moves.values().map(|(to, _)| to.ns).collect();
    let mut glances: Vec<(NsCookie, Glance)> = glances.into_iter().collect();
    glances.sort_by_key(|(ns, _)| !arrivals.contains(ns));
    let first = ways_made(&moves).into_iter().map(|(at, id)| {
        let clue = Clue { known_as: Some(id), ..Clue::default() };
        (at.ns, Glance::at(at.ifindex, clue))
    });
    first.chain(glances).collect()
}

/// Where known links went, by where they were; one that moved on went to several places.
type Moves = BTreeMap<Binding, (Binding, LinkId)>;

fn moves(registry: &Registry, hints: &BTreeMap<Binding, Hint>) -> Moves {
    let next = |from: &Binding| {
        let moved = hints.get(from)?.moved_to?;
        Some(Binding { ns: moved.ns?, ifindex: moved.ifindex })
    };
    let mut moves = Moves::new();
    for (at, _) in hints.iter().filter(|(_, hint)| hint.moved_to.is_some()) {
        let Some(id) = registry.outrun_at(*at).or_else(|| registry.by_binding(*at)) else {
            continue;
        };
        let mut from = *at;
        while let Some(to) = next(&from).filter(|to| to != at)
            && !moves.contains_key(&from)
        {
            moves.insert(from, (to, id));
            if registry.by_binding(to).is_some() {
                break;
            }
            // Nobody is known to have been there, so it may be this link that moved on.
            from = to;
        }
    }
    moves
}

/// Links that moved to where others were, each after the one that made way for it. The last place of
/// one that moved on comes first.
fn ways_made(moves: &Moves) -> Vec<(Binding, LinkId)> {
    let (mut first, mut followed) = (Vec::new(), BTreeSet::new());
    for moved in moves.values().filter(|(to, _)| moves.contains_key(to)) {
        let mut way = Vec::new();
        let mut next = Some(moved);
        while let Some((to, id)) = next.filter(|(to, _)| followed.insert(*to)) {
            way.push((*to, *id));
            next = moves.get(to);
        }
        first.extend(way.into_iter().rev());
    }
    first
}
