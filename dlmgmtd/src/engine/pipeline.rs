//! The way of every change: plan → persist → apply → commit and publish.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dlmgmt_proto::{Error, ErrorCode, LinkId, Result, Seq, SequencedEvent};

use super::hub::Hub;
use super::perimeter::{Key, Keys, Perimeter, Perimeters};
use crate::core::{LinkChange, LinkIds, Plan, PlannedStep, Registry, events_between};
use crate::kernel::{Hint, Kernel, KernelError};
use crate::model::{Binding, Bound, KernelLink, Link, LinkRecord};
use crate::store::{Batch, Store, StoreError};

/// The state of the daemon and the one way to change it.
pub(super) struct Pipeline {
    pub kernel: Arc<dyn Kernel>,
    pub store: Arc<dyn Store>,
    pub hub: Hub,
    pub perimeters: Perimeters,
    /// Held by whoever follows the kernel, inside the perimeter of what is looked at.
    pub following: tokio::sync::Mutex<()>,
    /// Why the kernel and the store are left as they are, if they are.
    pub read_only: Option<String>,
    registry: ArcSwap<Registry>,
    ids: Mutex<LinkIds>,
    commits: Mutex<()>,
    last_hold: AtomicU64,
    looks_to_come: Arc<Mutex<BTreeSet<Where>>>,
    /// Links whose records the store refused: it has other ones than the registry.
    unstored: Mutex<BTreeSet<LinkId>>,
}

impl Pipeline {
    pub fn new(
        kernel: Arc<dyn Kernel>,
        store: Arc<dyn Store>,
        registry: Registry,
        ids: LinkIds,
        read_only: Option<String>,
    ) -> Self {
        Self {
            kernel,
            store,
            hub: Hub::new(registry.seq()),
            perimeters: Perimeters::default(),
            following: tokio::sync::Mutex::default(),
            read_only,
            registry: ArcSwap::from_pointee(registry),
            ids: Mutex::new(ids),
            commits: Mutex::new(()),
            last_hold: AtomicU64::new(0),
            looks_to_come: Arc::default(),
            unstored: Mutex::default(),
        }
    }

    /// The present state.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    /// A number for a new hold.
    pub fn next_hold(&self) -> u64 {
        self.last_hold.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The ids, to plan with.
    pub fn ids(&self) -> MutexGuard<'_, LinkIds> {
        // An id given by a plan that panicked is merely never used.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans with everything that the plan touches in one's own perimeter.
    pub async fn plan_inside<T: AsPlan>(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<T> + Send + Sync,
    ) -> Result<(T, Perimeter)> {
        let registry = self.registry();
        let mut unused = *self.ids();
        let planned = prepare(&registry, &mut unused)?;
        let mut needed = keys_of(&registry, planned.as_plan());
        loop {
            let perimeter = self.perimeters.enter(needed.clone()).await;
            let registry = self.registry();
            let mut ids = self.ids();
            let mut given = *ids;
            let planned = prepare(&registry, &mut given)?;
            let now_needed = keys_of(&registry, planned.as_plan());
            if needed.covers(&now_needed) {
                *ids = given;
                return Ok((planned, perimeter));
            }
            needed = now_needed;
        }
    }

    /// Carries out a request's plan: all of it, or nothing and an error.
    pub async fn carry_out(&self, plan: Plan) -> Result<Seq> {
        if let Some(why) = &self.read_only {
            return Err(Error::new(ErrorCode::Denied, format!("dlmgmtd is read-only: {why}")));
        }
        let before = self.registry();
        let intent = intent(&before, &plan, self.ids().next());
        self.store.commit(intent).await.map_err(store_error)?;
        if let Err(refusal) = self.apply_all(&before, &plan.steps).await {
            self.take_intent_back(&plan).await?;
            return Err(refusal);
        }
        let seq = self.commit(&plan.changes);
        self.settle_records(&plan).await;
        Ok(seq)
    }

    /// Every step or none.
    async fn apply_all(&self, before: &Registry, steps: &[PlannedStep]) -> Result<()> {
        for (done, step) in steps.iter().enumerate() {
            if let Err(why) = self.kernel.apply(&step.forward).await {
                self.take_back(&steps[..done]).await;
                return Err(refusal(before, step.id, &why));
            }
        }
        Ok(())
    }

    async fn take_back(&self, done: &[PlannedStep]) {
        let mut left = BTreeMap::new();
        for step in done.iter().rev() {
            if let Err(why) = self.kernel.apply(&step.backward).await {
                tracing::error!(LINKID = step.id.get(), "cannot take a change back yet: {why}");
                left.insert(step.id, step.forward.at);
            }
        }
        self.leave_unsettled(left).await;
    }

    /// Shows links as the kernel has them, so that the observer brings them to their records: left
    /// alone, it would take them for renamed by others.
    async fn leave_unsettled(&self, links: BTreeMap<LinkId, Binding>) {
        let registry = self.registry();
        let mut changes = Vec::new();
        for (id, at) in links {
            let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten();
            if let (Some(found), Some(link)) = (found, registry.link(id)) {
                changes.push(Link::clone(link).unsettled_at(at, found).into());
            }
            self.look_again(Where::At(at), RETRY);
        }
        if !changes.is_empty() {
            self.commit(&changes);
        }
    }

    async fn take_intent_back(&self, plan: &Plan) -> Result<()> {
        let ids: BTreeSet<LinkId> = plan.changes.iter().map(|change| change.id).collect();
        let known = as_known(&self.registry(), &ids);
        self.store.commit(known).await.map_err(|why| {
            self.store_later(ids);
            store_error(why)
        })
    }

    fn unstored(&self) -> MutexGuard<'_, BTreeSet<LinkId>> {
        // Every statement leaves the set whole, so a poisoned lock does no harm.
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_later(&self, ids: impl IntoIterator<Item = LinkId>) {
        self.unstored().extend(ids);
        self.look_again(Where::Everywhere, RETRY);
    }

    /// Stores what the store refused before. This may run only inside the perimeter of everything:
    /// a change that is under way has newer records in the store than there are in the registry.
    pub async fn store_the_unstored(&self) {
        let ids = std::mem::take(&mut *self.unstored());
        if ids.is_empty() {
            return;
        }
        if let Err(why) = self.store.commit(as_known(&self.registry(), &ids)).await {
            tracing::error!("{why}");
            self.store_later(ids);
        }
    }

    /// Carries out what an observation asks for. What the kernel refuses stays as it is there;
    /// what the store refuses is known, but no new link is shown before it is stored.
    pub async fn follow(&self, mut plan: Plan) {
        let before = self.registry();
        let batch = intent(&before, &plan, self.ids().next());
        if !batch.is_empty()
            && let Err(why) = self.store.commit(batch).await
        {
            tracing::error!("{why}; new links wait until the store works");
            plan.steps.clear();
            plan.changes.retain(|change| before.link(change.id).is_some());
            self.store_later(plan.changes.iter().map(|change| change.id));
        }
        self.apply_each(&mut plan).await;
        self.commit(&plan.changes);
        self.settle_records(&plan).await;
    }

    async fn apply_each(&self, plan: &mut Plan) {
        for step in std::mem::take(&mut plan.steps) {
            if let Err(why) = self.kernel.apply(&step.forward).await {
                tracing::warn!(LINKID = step.id.get(), "the kernel refused a change: {why}");
                self.correct(plan, step.id, step.forward.at).await;
            }
            plan.steps.push(step);
        }
    }

    /// Puts what the kernel really has in the place of what was planned.
    async fn correct(&self, plan: &mut Plan, id: LinkId, at: Binding) {
        let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten();
        let change = plan.changes.iter_mut().find(|change| change.id == id);
        if let (Some(found), Some(link)) = (found, change.and_then(|c| c.after.as_mut())) {
            *link = link.clone().unsettled_at(at, found);
        }
        self.look_again(Where::At(at), RETRY);
    }

    /// Has the observer look once more, after a pause. Such a look can ask for the next one, so all
    /// that are asked for until it begins are one: otherwise they would only ever get more.
    pub fn look_again(&self, place: Where, pause: Duration) {
        if !looks(&self.looks_to_come).insert(place) {
            return;
        }
        let kernel = self.kernel.clone();
        let looks_to_come = self.looks_to_come.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            looks(&looks_to_come).remove(&place);
            match place {
                Where::Everywhere => kernel.hints().push_overrun(),
                Where::At(at) => kernel.hints().push(at, Hint::default()),
            }
        });
    }

    /// Makes changes visible, and tells of them.
    pub fn commit(&self, changes: &[LinkChange]) -> Seq {
        self.commit_with(|registry| {
            let after = registry.with(changes);
            let ids: BTreeSet<LinkId> = changes.iter().map(|change| change.id).collect();
            (after, ids)
        })
    }

    /// Replaces the registry by what `change` makes of it; the ids are of the links that differ.
    pub fn commit_with(
        &self,
        change: impl FnOnce(&Registry) -> (Registry, BTreeSet<LinkId>),
    ) -> Seq {
        let commit = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.registry();
        let (after, mut ids) = change(&before);
        ids.extend(before.displaced_by(&after));
        let mut seq = before.seq();
        let events: Vec<SequencedEvent> = events_between(&before, &after, ids)
            .into_iter()
            .map(|event| {
                seq = seq.next();
                SequencedEvent { seq, event }
            })
            .collect();
        let after = Arc::new(after.at(seq));
        self.registry.store(after.clone());
        self.hub.publish(&events);
        drop(commit);
        let was_settleable: BTreeSet<Binding> = before.settleable().collect();
        after
            .settleable()
            .filter(|at| !was_settleable.contains(at))
            .for_each(|at| self.kernel.hints().push(at, Hint::default()));
        seq
    }

    /// Runs `look` at the registry of a moment at which nothing is published.
    pub fn at_rest<T>(&self, look: impl FnOnce(&Arc<Registry>) -> T) -> T {
        let _rest = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        look(&self.registry())
    }

    /// The kernel agrees now, and a restart need not look after it. That this is lost in a crash
    /// does no harm, so nobody waits for the disk.
    async fn settle_records(&self, plan: &Plan) {
        let stepped: BTreeSet<LinkId> = plan.steps.iter().map(|step| step.id).collect();
        let put = plan
            .changes
            .iter()
            .filter(|change| stepped.contains(&change.id))
            .filter_map(|change| change.after.as_ref())
            .map(|link| Arc::new(link.record.clone()))
            .collect();
        let batch = Batch { put, ..Batch::default() };
        if !batch.is_empty()
            && let Err(why) = self.store.commit_lazily(batch).await
        {
            tracing::warn!("{why}");
        }
    }
}

/// How long a store that fails is left alone, in which new links are not shown, and a kernel that
/// refuses to give a link its name.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    Everywhere,
    At(Binding),
}

fn looks(to_come: &Mutex<BTreeSet<Where>>) -> MutexGuard<'_, BTreeSet<Where>> {
    // Every statement leaves the set whole, so a poisoned lock does no harm.
    to_come.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// The link as the kernel has it after it refused a step: its name is still to be brought to
    /// the one that its record wants.
    fn unsettled_at(mut self, at: Binding, found: KernelLink) -> Self {
        self.record.unsettled = found.name != self.wanted_name();
        self.kernel = Some(Bound { ns: at.ns, link: found.into() });
        self
    }
}

/// What holds a plan.
pub(super) trait AsPlan: Send {
    fn as_plan(&self) -> &Plan;
}

impl AsPlan for Plan {
    fn as_plan(&self) -> &Plan {
        self
    }
}

/// The links that a plan changes, and every name that they have, had or want.
fn keys_of(registry: &Registry, plan: &Plan) -> Keys {
    let mut keys = HashSet::new();
    for change in &plan.changes {
        keys.insert(Key::Link(change.id));
        let before = registry.link(change.id).map(|link| link.as_ref());
        for link in before.into_iter().chain(change.after.as_ref()) {
            keys.insert(Key::Name(link.zone(), link.wanted_name()));
            if let Some(bound) = &link.kernel {
                keys.insert(Key::Name(link.zone(), bound.name));
            }
        }
    }
    Keys::Some(keys)
}

/// What is written before the kernel is touched: the wanted result, marked where the kernel may
/// not agree yet.
fn intent(before: &Registry, plan: &Plan, next_link_id: u32) -> Batch {
    let stepped: BTreeSet<LinkId> = plan.steps.iter().map(|step| step.id).collect();
    let record = |link: &Link| {
        let unsettled = link.record.unsettled || stepped.contains(&link.record.id);
        LinkRecord { unsettled, ..link.record.clone() }
    };
    let mut batch = Batch::default();
    for change in &plan.changes {
        let was = before.link(change.id).map(|link| &link.record);
        match change.after.as_ref().map(record) {
            Some(is) if was != Some(&is) => {
                if was.is_none() {
                    batch.next_link_id = Some(next_link_id);
                }
                batch.put.push(Arc::new(is));
            }
            None if was.is_some() => batch.delete.push(change.id),
            _ => {}
        }
    }
    batch
}

/// What brings the store to what the registry knows of these links.
fn as_known(registry: &Registry, ids: &BTreeSet<LinkId>) -> Batch {
    let mut batch = Batch::default();
    for id in ids {
        match registry.link(*id) {
            Some(link) => batch.put.push(Arc::new(link.record.clone())),
            None => batch.delete.push(*id),
        }
    }
    batch
}

fn store_error(why: StoreError) -> Error {
    Error::new(ErrorCode::Store, why.to_string())
}

fn refusal(registry: &Registry, id: LinkId, why: &KernelError) -> Error {
    let link = registry.link(id);
    let name = link.map_or_else(|| format!("@{id}"), |link| registry.shown_name(link).to_string());
    let zone = link
        .map_or_else(String::new, |link| format!(" in zone {}", registry.zone_label(link.zone())));
    Error::kernel(why.errno, format!("the kernel refused to change {name}{zone}: {why}"))
}
