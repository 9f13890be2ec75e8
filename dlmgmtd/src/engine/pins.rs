//! Which namespaces are kept alive: those with a loan inside, and those that one may be on its way
//! to or from.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{LinkId, ZoneName};

use super::pipeline::Pipeline;
use crate::core::{Plan, Registry};
use crate::kernel::KernelError;
use crate::model::{Link, NsCookie};

/// How many changes each namespace has to do with at this moment.
pub(super) type Used = Mutex<BTreeMap<NsCookie, usize>>;

/// Namespaces that a change has to do with. None of them is let go while this lives: a loan may be
/// on its way there, which the registry does not know yet.
pub(super) struct InUse<'a> {
    pipeline: &'a Pipeline,
    spaces: BTreeSet<NsCookie>,
}

impl InUse<'_> {
    /// The change is over: a namespace that nobody uses, and that no loan is in, is let go.
    pub fn end(mut self) {
        let mut used = self.pipeline.used();
        for ns in std::mem::take(&mut self.spaces) {
            let is_free = is_last_leaving(&mut used, ns);
            if is_free && !self.pipeline.has_loans(ns) {
                self.pipeline.unpin(ns);
            }
        }
    }
}

impl Drop for InUse<'_> {
    /// A change that was cut short may have left a loan anywhere, so nothing is let go for it.
    fn drop(&mut self) {
        let mut used = self.pipeline.used();
        for ns in std::mem::take(&mut self.spaces) {
            is_last_leaving(&mut used, ns);
        }
    }
}

fn is_last_leaving(used: &mut BTreeMap<NsCookie, usize>, ns: NsCookie) -> bool {
    let left = used.get(&ns).map_or(0, |users| users.saturating_sub(1));
    if left == 0 {
        used.remove(&ns);
    } else {
        used.insert(ns, left);
    }
    left == 0
}

impl Pipeline {
    /// Whoever pins a namespace does so within this.
    pub fn using(&self, mut spaces: BTreeSet<NsCookie>) -> InUse<'_> {
        spaces.remove(&self.kernel.home());
        let mut used = self.used();
        for ns in &spaces {
            *used.entry(*ns).or_default() += 1;
        }
        InUse { pipeline: self, spaces }
    }

    /// Keeps the namespace of a zone alive, also over a restart of the daemon.
    pub async fn pin(&self, ns: NsCookie) -> Result<(), KernelError> {
        self.kernel.pin(ns).await?;
        let registry = self.registry();
        let zone = registry.zone_of_ns(ns).map(|zone| registry.zone_label(zone));
        if let Some(zone) = zone.filter(|zone| !self.custody.has(zone)) {
            let open = self.kernel.open(ns).await?;
            self.keep(zone, open).await;
        }
        Ok(())
    }

    /// Has the namespace of a zone kept while the daemon is not there.
    pub async fn keep(&self, zone: ZoneName, ns: OwnedFd) {
        let custody = self.custody.clone();
        // It says itself what goes wrong, and nothing depends on it now.
        let _ = tokio::task::spawn_blocking(move || custody.keep(&zone, ns)).await;
    }

    /// Ends what [`Pipeline::pin`] began. A zone that only a descriptor was passed of stays kept.
    fn unpin(&self, ns: NsCookie) {
        self.kernel.unpin(ns);
        let registry = self.registry();
        let zone = registry.zone_of_ns(ns).and_then(|zone| registry.zone(zone));
        if let Some(zone) = zone.filter(|zone| !zone.record.is_known_by_descriptor()) {
            self.custody.let_go(&zone.record.name);
        }
    }

    fn has_loans(&self, ns: NsCookie) -> bool {
        let registry = self.registry();
        let zone = registry.zone_of_ns(ns);
        zone.is_some_and(|zone| registry.lent_to(zone).any(|link| link.is_lent()))
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<NsCookie, usize>> {
        // Every statement leaves the map whole, so a poisoned lock does no harm.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespaces that links on loan leave or get into, or to which the plan moves links.
pub(super) fn spaces_of(before: &Registry, plan: &Plan) -> BTreeSet<NsCookie> {
    let was = plan.changes.iter().filter_map(|change| before.link(change.id)).map(|link| &**link);
    let is = plan.changes.iter().filter_map(|change| change.after.as_ref());
    let lent = was.chain(is).filter(|link| link.is_lent()).filter_map(Link::binding);
    plan.moves().map(|(ns, _)| ns).chain(lent.map(|at| at.ns)).collect()
}

/// Links that the plan makes loans, or finds to be where they are lent to, with the namespaces.
pub(super) fn lent_where_they_are(before: &Registry, plan: &Plan) -> Vec<(LinkId, NsCookie)> {
    let is_new = |link: &&Link| {
        let was = before.link(link.record.id);
        link.is_lent() && was.is_none_or(|was| !was.is_lent() || was.binding() != link.binding())
    };
    let lent = plan.changes.iter().filter_map(|change| change.after.as_ref()).filter(is_new);
    lent.filter_map(|link| Some((link.record.id, link.binding()?.ns))).collect()
}
