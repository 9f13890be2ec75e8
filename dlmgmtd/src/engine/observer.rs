//! Looks at the kernel: look → plan → persist → apply → publish.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dlmgmt_proto::{IfIndex, LinkId, LinkState};

use super::perimeter::{Key, Keys};
use super::pipeline::{Pipeline, Where};
use crate::core::{LinkChange, Look, Observed, Registry, Sighting, observe};
use crate::kernel::{Hint, KernelError};
use crate::model::{Binding, KernelLink, Link, NsCookie};

/// More links of a namespace than this are looked at all at once.
const SINGLE_LOOKS_MAX: usize = 256;

/// How long the kernel is left alone after it refused to be read.
const RETRY: Duration = Duration::from_millis(100);

/// How long links that come and go have to settle until all are looked at once more. With very
/// many links a look takes seconds, in which no request is carried out.
const NEXT_WHOLE_LOOK: Duration = Duration::from_secs(10);

/// What of a namespace is to be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Glance {
    /// All of it.
    pub is_whole: bool,
    /// What is known of single links.
    pub links: BTreeMap<IfIndex, Clue>,
}

/// What is known of one link before it is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clue {
    /// What the kernel told.
    pub hint: Hint,
    /// The link that moved there.
    pub known_as: Option<LinkId>,
}

impl Glance {
    /// All of a namespace.
    pub fn whole() -> Self {
        Self { is_whole: true, links: BTreeMap::new() }
    }

    /// One link.
    pub fn at(ifindex: IfIndex) -> Self {
        Self { is_whole: false, links: [(ifindex, Clue::default())].into() }
    }

    fn is_everything(&self) -> bool {
        self.is_whole || self.links.len() > SINGLE_LOOKS_MAX
    }
}

/// Brings registry and kernel to agree where something happened, and does not give up while the
/// namespace is one to look at.
pub(super) async fn reconcile(pipeline: &Pipeline, ns: NsCookie, mut glance: Glance) {
    while pipeline.is_watched(ns) {
        match look_and_follow(pipeline, ns, &mut glance).await {
            Ok(()) => return,
            // It is dead, and that is told.
            Err(LookError::Kernel(why)) if why.is_no_namespace() => return,
            Err(why) => {
                tracing::warn!("cannot follow the kernel in namespace {ns}, trying again: {why}");
                tokio::time::sleep(RETRY).await;
                glance.is_whole = true;
            }
        }
    }
}

/// Brings what is known of one link up to date, before something depends on it.
pub(super) async fn refresh(pipeline: &Pipeline, id: LinkId) {
    let at = pipeline.registry().link(id).and_then(|link| link.binding());
    if let Some(Binding { ns, ifindex }) = at {
        reconcile(pipeline, ns, Glance::at(ifindex)).await;
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

async fn look_and_follow(
    pipeline: &Pipeline,
    ns: NsCookie,
    glance: &mut Glance,
) -> Result<(), LookError> {
    let mut keys = known_keys(&pipeline.registry(), ns, glance);
    loop {
        let _perimeter = pipeline.perimeters.enter(keys.clone()).await;
        // A new link is in nobody's perimeter: two looks at once could make two links of it.
        let _alone = pipeline.following.write().await;
        let look = look_at(pipeline, ns, glance).await?;
        let registry = pipeline.registry();
        let may_change = pipeline.read_only.is_none();
        let observed = observe(&registry, &mut pipeline.ids(), &look, may_change)?;
        let outdated = outdated(&registry, &observed, ns);
        if !outdated.is_empty() {
            outdated.into_iter().for_each(|ifindex| {
                glance.links.entry(ifindex).or_default();
            });
            keys = known_keys(&registry, ns, glance);
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

fn known_keys(registry: &Registry, ns: NsCookie, glance: &Glance) -> Keys {
    if glance.is_everything() {
        return Keys::All;
    }
    let known = glance.links.iter().flat_map(|(ifindex, clue)| {
        let bound = registry.by_binding(Binding { ns, ifindex: *ifindex });
        bound.into_iter().chain(clue.known_as)
    });
    Keys::Some(known.map(Key::Link).collect())
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

async fn look_at(pipeline: &Pipeline, ns: NsCookie, glance: &Glance) -> Result<Look, KernelError> {
    let is_whole = glance.is_everything();
    let mut seen = BTreeMap::new();
    if is_whole {
        let dump = pipeline.kernel.dump(ns).await?;
        seen.extend(dump.links.into_iter().map(|kernel| (kernel.ifindex, Some(kernel))));
        if !dump.is_consistent {
            confirm_absences(pipeline, ns, &mut seen).await?;
            // A link that nobody knows yet may be missing too.
            pipeline.look_again(Where::Everywhere, NEXT_WHOLE_LOOK);
        }
    } else {
        for ifindex in glance.links.keys() {
            seen.insert(*ifindex, pipeline.kernel.get(ns, *ifindex).await?);
        }
    }
    let seen = seen.into_iter().map(|(ifindex, kernel)| {
        let clue = glance.links.get(&ifindex).copied().unwrap_or_default();
        Sighting {
            ifindex,
            kernel,
            was_deleted: clue.hint.was_deleted,
            went_down: clue.hint.went_down,
            known_as: clue.known_as,
        }
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
fn outdated(registry: &Registry, observed: &Observed, ns: NsCookie) -> Vec<IfIndex> {
    let changes = &observed.plan.changes;
    let touched: BTreeSet<LinkId> = changes.iter().map(|change| change.id).collect();
    let losers: Vec<LinkId> = changes
        .iter()
        .filter_map(|change| change.after.as_ref())
        .filter_map(|link| registry.by_name(link.place()?, link.kernel.as_ref()?.name))
        .filter(|id| !touched.contains(id))
        .collect();
    if losers.is_empty() {
        return Vec::new();
    }
    let outdated = registry.with(changes).outdated(losers).into_iter();
    outdated.filter(|at| at.ns == ns).map(|at| at.ifindex).collect()
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
