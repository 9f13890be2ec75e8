//! Looks at the kernel: look → plan → persist → apply → publish.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dlmgmt_proto::{IfIndex, LinkId, LinkState};

use super::perimeter::{Key, Keys};
use super::pipeline::{Pipeline, Where};
use crate::core::{LinkChange, Look, Observed, Registry, Sighting, observe};
use crate::kernel::{Hint, KernelError};
use crate::model::{Action, Binding, KernelLink, Link, NsCookie};

/// More links of a namespace than this are looked at all at once.
const SINGLE_LOOKS_MAX: usize = 256;

/// How long the kernel is left alone after it refused to be read.
const RETRY: Duration = Duration::from_millis(100);

/// How long a namespace other than home is left alone where it cannot be read.
const NEXT_LOOK_ELSEWHERE: Duration = Duration::from_secs(1);

/// How often all is looked at once more, at once, where names change meanwhile or a look fails.
const LOOKS_AT_ONCE: usize = 3;

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

    /// One link, of which this is known.
    pub fn at(ifindex: IfIndex, clue: Clue) -> Self {
        Self { is_whole: false, links: [(ifindex, clue)].into() }
    }

    /// Leaves out links that ended and that nobody knows any more, as after an end of our own doing.
    fn leave_out_the_forgotten(&mut self, registry: &Registry, ns: NsCookie) {
        self.links.retain(|ifindex, clue| {
            let at = Binding { ns, ifindex: *ifindex };
            let is_known = registry.by_binding(at).or_else(|| registry.outrun_at(at)).is_some();
            is_known || !clue.hint.is_over || clue.known_as.is_some()
        });
    }

    fn is_everything(&self) -> bool {
        self.is_whole || self.links.len() > SINGLE_LOOKS_MAX
    }
}

/// Brings registry and kernel to agree where something happened, and does not give up while the
/// namespace is one to look at. Nothing works where home cannot be read; another namespace that
/// cannot be is looked at later, since what happens there must hold up no other.
pub(super) async fn reconcile(pipeline: &Pipeline, ns: NsCookie, mut glance: Glance) {
    let is_home = ns == pipeline.kernel.home();
    let mut tries = 0;
    while pipeline.is_watched(ns) {
        match look_and_follow(pipeline, ns, &mut glance).await {
            Ok(()) => return,
            // It is dead, and that is told.
            Err(LookError::Kernel(why)) if why.is_no_namespace() => return,
            Err(why) => {
                tracing::warn!("cannot follow the kernel in namespace {ns}, trying again: {why}");
                glance.is_whole = true;
                tries += 1;
                if is_home {
                    tokio::time::sleep(RETRY).await;
                } else if tries >= LOOKS_AT_ONCE {
                    pipeline.look_again(Where::AllOf(ns), NEXT_LOOK_ELSEWHERE);
                    return;
                }
            }
        }
    }
}

/// Brings what is known of one link up to date, before something depends on it.
pub(super) async fn refresh(pipeline: &Pipeline, id: LinkId) {
    let at = pipeline.registry().link(id).and_then(|link| link.binding());
    if let Some(Binding { ns, ifindex }) = at {
        reconcile(pipeline, ns, Glance::at(ifindex, Clue::default())).await;
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
    while !glance.is_everything() {
        let _perimeter = pipeline.perimeters.enter(keys.clone()).await;
        glance.leave_out_the_forgotten(&pipeline.registry(), ns);
        if glance.links.is_empty() {
            return Ok(());
        }
        let _alone = pipeline.looks.lock().await;
        let look = look_at(pipeline, ns, glance, BTreeSet::new()).await?;
        let Planned { observed, needs, outdated } = planned(pipeline, &look)?;
        if !outdated.is_empty() {
            for ifindex in outdated {
                glance.links.entry(ifindex).or_default();
            }
            keys = known_keys(&pipeline.registry(), ns, glance);
        } else if needs.is_subset(&keys) {
            show_dips(pipeline, &observed.dipped);
            pipeline.follow(observed.plan).await;
            return Ok(());
        } else {
            keys.extend(needs);
        }
    }
    look_at_all_and_follow(pipeline, ns, glance).await
}

/// Nothing that is just being changed is waited for, since whoever comes later would have to wait
/// too: it is looked at by itself when it is done.
async fn look_at_all_and_follow(
    pipeline: &Pipeline,
    ns: NsCookie,
    glance: &mut Glance,
) -> Result<(), LookError> {
    glance.is_whole = true;
    let _alone = pipeline.looks.lock().await;
    let registry = pipeline.registry();
    let all: Keys = registry.links().map(|link| Key::Link(link.record.id)).collect();
    let (_perimeter, had) = pipeline.perimeters.enter_free(&all);
    let spared: BTreeSet<LinkId> = links_of(all.difference(&had)).collect();
    let places = spared.iter().filter_map(|id| registry.link(*id)?.binding());
    for at in places.filter(|at| at.ns == ns) {
        pipeline.look_again(Where::At(at), RETRY);
    }
    pipeline.store_the_unstored(&spared).await;
    let mut look = look_at(pipeline, ns, glance, spared).await?;
    let mut tries = 0;
    loop {
        let Planned { observed, needs, outdated } = planned(pipeline, &look)?;
        if !outdated.is_empty() {
            // Somebody changed names under the look; a link that is spared may long be so.
            tries += 1;
            if tries > LOOKS_AT_ONCE {
                pipeline.look_again(Where::Everywhere, RETRY);
                return Ok(());
            }
            look = look_at(pipeline, ns, glance, look.spared).await?;
            continue;
        }
        let more: Keys = needs.difference(&had).copied().collect();
        let (_also, had_too) = pipeline.perimeters.enter_free(&more);
        if had_too == more {
            show_dips(pipeline, &observed.dipped);
            pipeline.follow(observed.plan).await;
            return Ok(());
        }
        let busy: Keys = more.difference(&had_too).copied().collect();
        let later = sightings_with(&pipeline.registry(), &observed, &busy);
        if later.is_empty() {
            pipeline.look_again(Where::Everywhere, RETRY);
            return Ok(());
        }
        look.seen.retain(|sighting| !later.contains(&sighting.ifindex));
        look.spared.extend(links_of(busy.iter()));
        for ifindex in later {
            pipeline.look_again(Where::At(Binding { ns, ifindex }), RETRY);
        }
    }
}

/// What a look comes to.
struct Planned {
    observed: Observed,
    needs: Keys,
    /// Where more must have changed than was looked at; then nothing else of this counts.
    outdated: Vec<IfIndex>,
}

fn planned(pipeline: &Pipeline, look: &Look) -> Result<Planned, LookError> {
    let registry = pipeline.registry();
    let mut ids = pipeline.ids();
    let mut given = *ids;
    let observed = observe(&registry, &mut given, look, pipeline.read_only.is_none())?;
    let outdated = outdated(&registry, &observed, look.ns);
    if outdated.is_empty() {
        *ids = given;
    }
    Ok(Planned { needs: keys_of(&registry, &observed), observed, outdated })
}

fn known_keys(registry: &Registry, ns: NsCookie, glance: &Glance) -> Keys {
    let known = glance.links.iter().flat_map(|(ifindex, clue)| {
        let bound = registry.by_binding(Binding { ns, ifindex: *ifindex });
        bound.into_iter().chain(clue.known_as)
    });
    known.map(Key::Link).collect()
}

/// Links that are known already and that the plan touches, and the names that it gives. New links
/// are nobody else's yet, and names that links have in the kernel are nobody else's any more.
fn keys_of(registry: &Registry, observed: &Observed) -> Keys {
    let plan = &observed.plan;
    let known = plan.changes.iter().filter(|change| registry.link(change.id).is_some());
    let given = plan.steps.iter().filter_map(|step| match step.forward.action {
        Action::Rename(name) => Some(Key::Name(registry.zone_of_ns(step.forward.at.ns)?, name)),
        _ => None,
    });
    known.map(|change| Key::Link(change.id)).chain(given).collect()
}

fn links_of<'a>(keys: impl Iterator<Item = &'a Key>) -> impl Iterator<Item = LinkId> {
    keys.filter_map(|key| match key {
        Key::Link(id) => Some(*id),
        Key::Name(..) | Key::Zone(_) => None,
    })
}

/// Where what needs these keys was seen.
fn sightings_with(registry: &Registry, observed: &Observed, keys: &Keys) -> BTreeSet<IfIndex> {
    let plan = &observed.plan;
    let renamed = plan.steps.iter().filter(|step| match step.forward.action {
        Action::Rename(name) => {
            keys.iter().any(|key| matches!(key, Key::Name(_, busy) if *busy == name))
        }
        _ => false,
    });
    let busy = plan.changes.iter().filter(|change| keys.contains(&Key::Link(change.id)));
    let now = busy.clone().filter_map(|change| change.after.as_ref()?.binding());
    let before = busy.filter_map(|change| registry.link(change.id)?.binding());
    let steps = renamed.map(|step| step.forward.at);
    now.chain(before).chain(steps).map(|at| at.ifindex).collect()
}

async fn look_at(
    pipeline: &Pipeline,
    ns: NsCookie,
    glance: &Glance,
    mut spared: BTreeSet<LinkId>,
) -> Result<Look, KernelError> {
    let is_whole = glance.is_everything();
    let known_before = pipeline.registry();
    let mut arriving = pipeline.arrivals.names_in(ns);
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
    arriving.extend(pipeline.arrivals.names_in(ns));
    let registry = pipeline.registry();
    if is_whole {
        // The dump may well be older than they are.
        for (at, id) in newcomers(&known_before, &registry, ns) {
            spared.insert(id);
            pipeline.look_again(Where::At(at), RETRY);
        }
    }
    seen.retain(|ifindex, kernel| {
        let at = Binding { ns, ifindex: *ifindex };
        let known = registry.by_binding(at);
        let is_arriving = kernel.as_ref().is_some_and(|kernel| arriving.contains(&kernel.name));
        if known.is_none() && is_arriving {
            pipeline.look_again(Where::At(at), RETRY);
        }
        !known.map_or(is_arriving, |id| spared.contains(&id))
    });
    let moved = moved_here(pipeline, ns, seen.values().flatten()).await?;
    let seen = seen.into_iter().map(|(ifindex, kernel)| {
        let clue = glance.links.get(&ifindex).copied().unwrap_or_default();
        Sighting {
            ifindex,
            kernel,
            was_deleted: clue.hint.was_deleted,
            went_down: clue.hint.went_down,
            left_bridge: clue.hint.left_bridge,
            known_as: clue.known_as.or(moved.get(&ifindex).copied()),
        }
    });
    Ok(Look { ns, is_whole, seen: seen.collect(), spared })
}

/// Links that are known in a namespace now and were not before, such as those just made.
fn newcomers<'a>(
    before: &'a Registry,
    now: &'a Registry,
    ns: NsCookie,
) -> impl Iterator<Item = (Binding, LinkId)> + 'a {
    now.bound_in(ns).filter(|(at, _)| before.by_binding(*at).is_none())
}

/// Hardware that is known to be somewhere else, and is there no more: somebody moved it, and that
/// was not told yet.
async fn moved_here(
    pipeline: &Pipeline,
    ns: NsCookie,
    seen: impl Iterator<Item = &KernelLink>,
) -> Result<BTreeMap<IfIndex, LinkId>, KernelError> {
    let registry = pipeline.registry();
    let mut moved = BTreeMap::new();
    for kernel in seen {
        let at = Binding { ns, ifindex: kernel.ifindex };
        let Some(mac) = kernel.permanent_mac else { continue };
        if registry.by_mac(mac).any(|link| link.binding() == Some(at)) {
            continue;
        }
        for (link, was) in registry.by_mac(mac).filter_map(|link| Some((link, link.binding()?))) {
            let there = match pipeline.kernel.get(was.ns, was.ifindex).await {
                Err(why) if why.is_no_namespace() => None,
                there => there?,
            };
            if there.is_none_or(|there| there.permanent_mac != Some(mac)) {
                moved.insert(kernel.ifindex, link.record.id);
            }
        }
    }
    Ok(moved)
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
