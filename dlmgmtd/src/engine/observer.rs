//! Follows the kernel: hints → look → plan → persist → apply → publish.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dlmgmt_proto::{IfIndex, LinkId, LinkState};

use tokio::task::JoinSet;

use super::perimeter::{Key, Keys};
use super::pipeline::{Pipeline, Where};
use crate::core::{LinkChange, Look, Observed, Registry, Sighting, observe};
use crate::kernel::{Hint, HintBatch, KernelError};
use crate::model::{Binding, KernelLink, Link, NsCookie};

/// More links than this are looked at all at once.
const SINGLE_LOOKS_MAX: usize = 256;

/// How long the kernel is left alone after it refused to be read.
const RETRY: Duration = Duration::from_millis(100);

/// How long links that come and go have to settle until all are looked at once more. With very
/// many links a look takes seconds, in which no request is carried out.
const NEXT_WHOLE_LOOK: Duration = Duration::from_secs(10);

/// Follows the kernel until dropped.
pub(super) async fn run(pipeline: Arc<Pipeline>) {
    let mut aside = Aside::default();
    loop {
        let mut hints = pipeline.kernel.hints().take().await;
        aside.set_busy_links(&pipeline, &mut hints);
        if hints != HintBatch::default() {
            reconcile(&pipeline, hints).await;
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
        if is_everything(hints) {
            return;
        }
        let registry = pipeline.registry();
        hints.links.retain(|at, hint| {
            let keys = registry.by_binding(*at).map(|id| Keys::Some([Key::Link(id)].into()));
            match keys.filter(|keys| !pipeline.perimeters.are_free(keys)) {
                Some(keys) => self.set(pipeline, *at, *hint, keys),
                None => return true,
            }
            false
        });
    }

    fn set(&mut self, pipeline: &Arc<Pipeline>, at: Binding, hint: Hint, keys: Keys) {
        let mut waiting = locked(&self.hints);
        if let Some(earlier) = waiting.get_mut(&at) {
            earlier.add(hint);
            return;
        }
        waiting.insert(at, hint);
        let (pipeline, hints) = (pipeline.clone(), self.hints.clone());
        self.followers.spawn(async move {
            drop(pipeline.perimeters.enter(keys).await);
            let hint = locked(&hints).remove(&at).unwrap_or_default();
            reconcile(&pipeline, HintBatch { overrun: false, links: [(at, hint)].into() }).await;
        });
    }
}

fn locked(hints: &Mutex<BTreeMap<Binding, Hint>>) -> MutexGuard<'_, BTreeMap<Binding, Hint>> {
    // Every statement leaves the hints whole, so a poisoned lock does no harm.
    hints.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings registry and kernel to agree where something happened, and does not give up.
pub(super) async fn reconcile(pipeline: &Pipeline, mut hints: HintBatch) {
    while let Err(why) = look_and_follow(pipeline, &mut hints).await {
        tracing::warn!("cannot follow the kernel, trying again: {why}");
        tokio::time::sleep(RETRY).await;
        hints.overrun = true;
    }
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the kernel cannot be read: {0}")]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Plan(#[from] dlmgmt_proto::Error),
}

async fn look_and_follow(pipeline: &Pipeline, hints: &mut HintBatch) -> Result<(), LookError> {
    let mut keys = known_keys(&pipeline.registry(), hints);
    loop {
        let _perimeter = pipeline.perimeters.enter(keys.clone()).await;
        // A new link is in nobody's perimeter: two looks at once could make two links of it.
        let _alone = pipeline.following.lock().await;
        let look = look_at(pipeline, hints).await?;
        let registry = pipeline.registry();
        let may_change = pipeline.read_only.is_none();
        let observed = observe(&registry, &mut pipeline.ids(), &look, may_change)?;
        let outdated = outdated(&registry, &observed);
        if !outdated.is_empty() {
            hints.links.extend(outdated.into_iter().map(|at| (at, Hint::default())));
            keys = known_keys(&registry, hints);
            continue;
        }
        let needed = Keys::Some(links_of(&registry, &observed));
        if !keys.covers(&needed) {
            keys = union(keys, needed);
            continue;
        }
        if keys == Keys::All {
            pipeline.store_the_unstored().await;
        }
        show_dips(pipeline, &observed.dipped);
        pipeline.follow(observed.plan).await;
        return Ok(());
    }
}

fn known_keys(registry: &Registry, hints: &HintBatch) -> Keys {
    if is_everything(hints) {
        return Keys::All;
    }
    let known = hints.links.keys().filter_map(|at| registry.by_binding(*at));
    Keys::Some(known.map(Key::Link).collect())
}

fn is_everything(hints: &HintBatch) -> bool {
    hints.overrun || hints.links.len() > SINGLE_LOOKS_MAX
}

/// Links that are known already and that the plan touches. New ones are nobody else's yet.
fn links_of(registry: &Registry, observed: &Observed) -> HashSet<Key> {
    let touched = observed.plan.changes.iter().map(|change| change.id);
    touched.filter(|id| registry.link(*id).is_some()).map(Key::Link).collect()
}

fn union(keys: Keys, more: Keys) -> Keys {
    match (keys, more) {
        (Keys::Some(mut these), Keys::Some(those)) => {
            these.extend(those);
            Keys::Some(these)
        }
        _ => Keys::All,
    }
}

async fn look_at(pipeline: &Pipeline, hints: &HintBatch) -> Result<Look, KernelError> {
    let ns = pipeline.kernel.home();
    let is_whole = is_everything(hints);
    let mut seen = BTreeMap::new();
    if is_whole {
        let dump = pipeline.kernel.dump(ns).await?;
        seen.extend(dump.links.into_iter().map(|kernel| (kernel.ifindex, Some(kernel))));
        if !dump.is_consistent {
            confirm_absences(pipeline, ns, &mut seen).await?;
            // A link that nobody knows yet may be missing too.
            pipeline.look_again(Where::Everywhere, NEXT_WHOLE_LOOK);
        }
    }
    for at in hints.links.keys().filter(|at| at.ns == ns && !is_whole) {
        seen.insert(at.ifindex, pipeline.kernel.get(ns, at.ifindex).await?);
    }
    let seen = seen.into_iter().map(|(ifindex, kernel)| {
        let hint = hints.links.get(&Binding { ns, ifindex }).copied().unwrap_or_default();
        Sighting { ifindex, kernel, was_deleted: hint.was_deleted, went_down: hint.went_down }
    });
    Ok(Look { ns, is_whole, seen: seen.collect() })
}

/// Looks at each known link that a torn picture lacks: only what is seen to be absent is.
async fn confirm_absences(
    pipeline: &Pipeline,
    ns: NsCookie,
    seen: &mut BTreeMap<IfIndex, Option<KernelLink>>,
) -> Result<(), KernelError> {
    let registry = pipeline.registry();
    let places = registry.links().filter_map(|link| link.record.anchor.as_ref());
    for at in places.map(|anchor| anchor.at).filter(|at| at.ns == ns) {
        if let Entry::Vacant(unseen) = seen.entry(at.ifindex) {
            unseen.insert(pipeline.kernel.get(ns, at.ifindex).await?);
        }
    }
    Ok(())
}

/// Where the kernel must have changed more than was looked at.
fn outdated(registry: &Registry, observed: &Observed) -> Vec<Binding> {
    let changes = &observed.plan.changes;
    let touched: BTreeSet<LinkId> = changes.iter().map(|change| change.id).collect();
    let losers: Vec<LinkId> = changes
        .iter()
        .filter_map(|change| change.after.as_ref())
        .filter_map(|link| registry.by_name(link.zone(), link.kernel.as_ref()?.name))
        .filter(|id| !touched.contains(id))
        .collect();
    if losers.is_empty() { Vec::new() } else { registry.with(changes).outdated(losers) }
}

/// Tells of links that were down and are up again, so that no `down` is lost.
fn show_dips(pipeline: &Pipeline, dipped: &[LinkId]) {
    let registry = pipeline.registry();
    let up: Vec<LinkChange> = dipped
        .iter()
        .filter_map(|id| registry.link(*id))
        .map(|link| Link::clone(link).into())
        .collect();
    if up.is_empty() {
        return;
    }
    let mut down = up.clone();
    for bound in down.iter_mut().filter_map(|change| change.after.as_mut()?.kernel.as_mut()) {
        bound.link = KernelLink { state: LinkState::Down, ..KernelLink::clone(&bound.link) }.into();
    }
    pipeline.commit(&down);
    pipeline.commit(&up);
}
