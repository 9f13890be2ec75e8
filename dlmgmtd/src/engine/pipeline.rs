//! The way of every change: plan → persist → apply → commit and publish.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use dlmgmt_proto::{Error, ErrorCode, LinkId, Result, Seq, SequencedEvent};

use super::hub::Hub;
use super::perimeter::{Key, Keys, Perimeter, Perimeters};
use crate::core::{LinkChange, LinkIds, Plan, PlannedStep, Registry, events_between};
use crate::kernel::{Hint, Kernel, KernelError};
use crate::model::{Binding, Bound, Link, LinkRecord};
use crate::store::{Batch, Store, StoreError};

/// The state of the daemon and the one way to change it.
pub(super) struct Pipeline {
    pub kernel: Arc<dyn Kernel>,
    pub store: Arc<dyn Store>,
    pub hub: Hub,
    pub perimeters: Perimeters,
    /// Why the kernel and the store are left as they are, if they are.
    pub read_only: Option<String>,
    registry: ArcSwap<Registry>,
    ids: Mutex<LinkIds>,
    commits: Mutex<()>,
    last_hold: AtomicU64,
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
            read_only,
            registry: ArcSwap::from_pointee(registry),
            ids: Mutex::new(ids),
            commits: Mutex::new(()),
            last_hold: AtomicU64::new(0),
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
        let attempt = || prepare(&self.registry(), &mut self.ids());
        let mut needed = keys_of(&self.registry(), attempt()?.as_plan());
        loop {
            let perimeter = self.perimeters.enter(needed.clone()).await;
            let planned = attempt()?;
            let now_needed = keys_of(&self.registry(), planned.as_plan());
            if needed.covers(&now_needed) {
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
            self.store.commit(inverse(&before, &plan)).await.map_err(store_error)?;
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
        for step in done.iter().rev() {
            if let Err(why) = self.kernel.apply(&step.backward).await {
                tracing::error!(LINKID = step.id.get(), "cannot take a change back: {why}");
                self.kernel.hints().push(step.forward.at, Hint::default());
            }
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
            self.look_again_later();
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
            link.kernel = Some(Bound { ns: at.ns, link: found.into() });
        }
        self.kernel.hints().push(at, Hint::default());
    }

    fn look_again_later(&self) {
        let kernel = self.kernel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            kernel.hints().push_overrun();
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
        after.settleable().for_each(|at| self.kernel.hints().push(at, Hint::default()));
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

/// How long a failing store is left alone, in which new links are not shown.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

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
    let mut keys = BTreeSet::new();
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
        let unsettled = stepped.contains(&link.record.id);
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

/// What takes an intent back.
fn inverse(before: &Registry, plan: &Plan) -> Batch {
    let mut batch = Batch::default();
    for change in &plan.changes {
        match before.link(change.id) {
            Some(link) => batch.put.push(Arc::new(link.record.clone())),
            None => batch.delete.push(change.id),
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
