//! Follows the kernel: hints → look → plan → persist → apply → publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlmgmt_proto::{LinkId, LinkState};

use super::perimeter::{Key, Keys};
use super::pipeline::Pipeline;
use crate::core::{Look, Observed, Registry, Sighting, observe};
use crate::kernel::{Hint, HintBatch, KernelError};
use crate::model::{Binding, Bound, KernelLink, Link};

/// More links than this are looked at all at once.
const SINGLE_LOOKS_MAX: usize = 256;

/// How long the kernel is left alone after it refused to be read.
const RETRY: std::time::Duration = std::time::Duration::from_millis(100);

/// Follows the kernel until dropped.
pub(super) async fn run(pipeline: Arc<Pipeline>) {
    loop {
        let hints = pipeline.kernel.hints().take().await;
        reconcile(&pipeline, hints).await;
    }
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
fn links_of(registry: &Registry, observed: &Observed) -> BTreeSet<Key> {
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
        for kernel in pipeline.kernel.dump(ns).await? {
            seen.insert(kernel.ifindex, Some(kernel));
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
    let down = |id: &LinkId| {
        let mut link = Link::clone(registry.link(*id)?);
        let bound = link.kernel.take()?;
        let kernel = KernelLink { state: LinkState::Down, ..KernelLink::clone(&bound) };
        link.kernel = Some(Bound { ns: bound.ns, link: kernel.into() });
        Some(link.into())
    };
    let changes: Vec<_> = dipped.iter().filter_map(down).collect();
    if !changes.is_empty() {
        pipeline.commit(&changes);
    }
}
