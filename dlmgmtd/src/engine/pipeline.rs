//! The way of every change: plan → persist → apply → commit and publish.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::{
    Error, ErrorCode, Event, LinkId, LinkName, Result, Seq, SequencedEvent, ZoneId,
};

use super::arrivals::Arrivals;
use super::custody::Custody;
use super::hub::Hub;
use super::perimeter::{Key, Keys, Perimeter, Perimeters};
use super::pins::{Used, lent_where_they_are, spaces_of};
use crate::core::{
    Creation, LinkChange, LinkIds, Plan, PlannedStep, Registry, Stored, changed, detaching,
    equipment, events_between, wanted_options, zone_events,
};
use crate::crash;
use crate::kernel::{Hint, Kernel, KernelError};
use crate::model::{
    Action, Anchor, Binding, Bound, KernelLink, Lifetime, Link, LinkRecord, NewLink, NsCookie,
    Settings, Step, Zone,
};
use crate::store::{Batch, Store, StoreError};

/// The state of the daemon and the one way to change it.
pub(super) struct Pipeline {
    pub kernel: Arc<dyn Kernel>,
    pub store: Arc<dyn Store>,
    pub hub: Hub,
    pub perimeters: Perimeters,
    /// Who changes what links are not followed by has them in here, from when it is read: else of
    /// two the later one could take for given what the earlier one is about to change. Entered
    /// before `perimeters`.
    pub turns: Perimeters,
    /// Who looks at the kernel is alone here: a new link is in nobody's perimeter, and two looks at
    /// once could make two links of it.
    pub looks: tokio::sync::Mutex<()>,
    /// Where links are being made or moved to, until the registry knows them there.
    pub arrivals: Arrivals,
    /// Who keeps namespaces of zones open while the daemon is not there.
    pub custody: Arc<dyn Custody>,
    /// Namespaces that are not to be let go at this moment.
    pub used: Used,
    /// Why the kernel and the store are left as they are, if they are.
    pub read_only: Option<String>,
    registry: ArcSwap<Registry>,
    ids: Mutex<LinkIds>,
    commits: Mutex<()>,
    last_hold: AtomicU64,
    strangers: Mutex<BTreeMap<NsCookie, Stranger>>,
    looks_to_come: Arc<Mutex<BTreeSet<Where>>>,
    /// Refused changes that the store does not give up, whose perimeters nobody can enter.
    not_given_up: AtomicUsize,
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
        custody: Arc<dyn Custody>,
    ) -> Self {
        Self {
            kernel,
            store,
            hub: Hub::new(registry.seq()),
            perimeters: Perimeters::default(),
            turns: Perimeters::default(),
            looks: tokio::sync::Mutex::default(),
            arrivals: Arrivals::default(),
            custody,
            used: Used::default(),
            read_only,
            registry: ArcSwap::from_pointee(registry),
            ids: Mutex::new(ids),
            commits: Mutex::new(()),
            last_hold: AtomicU64::new(0),
            strangers: Mutex::default(),
            looks_to_come: Arc::default(),
            not_given_up: AtomicUsize::new(0),
            unstored: Mutex::default(),
        }
    }

    /// The present state.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    /// Whether what happens in a namespace is followed.
    pub fn is_watched(&self, ns: NsCookie) -> bool {
        self.registry().zone_of_ns(ns).is_some() || self.strangers().contains_key(&ns)
    }

    /// Namespaces that are no zones, to which somebody moved links.
    pub fn strangers(&self) -> MutexGuard<'_, BTreeMap<NsCookie, Stranger>> {
        // Every statement leaves the map whole, so a poisoned lock does no harm.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub async fn plan_inside(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync,
    ) -> Result<(Plan, Perimeter)> {
        let before = *self.ids();
        let mut draft = Draft::new(self.registry(), before, &prepare)?;
        loop {
            let perimeter = self.perimeters.enter(draft.keys.clone()).await;
            let mut ids = self.ids();
            let registry = self.registry();
            if !draft.is_of(&registry, *ids) {
                let again = Draft::new(registry, *ids, &prepare)?;
                let is_covered = again.keys.is_subset(&draft.keys);
                draft = again;
                if !is_covered {
                    continue;
                }
            }
            *ids = draft.given;
            return Ok((draft.plan, perimeter));
        }
    }

    /// As [`Pipeline::plan_inside`], but does not wait for as long as the store may fail.
    pub async fn plan_unless_store_fails(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync,
    ) -> Result<(Plan, Perimeter)> {
        let planned = self.plan_inside(prepare);
        tokio::pin!(planned);
        loop {
            match tokio::time::timeout(PATIENCE, &mut planned).await {
                Ok(planned) => return planned,
                Err(_) if self.not_given_up.load(Ordering::Relaxed) > 0 => {
                    let text = "the store cannot give up an earlier change, which was refused";
                    return Err(Error::new(ErrorCode::Store, text));
                }
                Err(_) => {}
            }
        }
    }

    /// A link that a plan takes for named as it is to be, and that others have just renamed.
    pub async fn first_mistaken(&self, plan: &Plan) -> Option<LinkId> {
        let registry = self.registry();
        for id in &plan.presumes {
            let known = registry.link(*id).and_then(|link| link.kernel.as_ref());
            let Some(Bound { ns, link, .. }) = known else { continue };
            let found = self.kernel.get(*ns, link.ifindex).await.ok().flatten();
            if found.is_some_and(|found| found.name != link.name) {
                return Some(*id);
            }
        }
        None
    }

    /// Carries out a request's plan: all of it, or nothing and an error. While the store does not
    /// work, a refusal is told before it has given up the plan's records; their perimeter is left
    /// when it has.
    pub async fn carry_out_inside(
        self: &Arc<Self>,
        plan: Plan,
        perimeter: Perimeter,
    ) -> Result<Seq> {
        self.refuse_if_read_only()?;
        match self.try_to_carry_out(plan).await {
            Ok(seq) => Ok(seq),
            Err(Refusal { why, intent: None }) => Err(why),
            Err(Refusal { why, intent: Some(intent) }) => {
                let pipeline = self.clone();
                self.not_given_up.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    pipeline.take_intent_back(&intent).await;
                    pipeline.not_given_up.fetch_sub(1, Ordering::Relaxed);
                    drop(perimeter);
                });
                Err(not_taken_back(&why))
            }
        }
    }

    /// As [`Pipeline::carry_out_inside`], but waits for the store.
    pub async fn carry_out(&self, plan: Plan) -> Result<Seq> {
        self.refuse_if_read_only()?;
        self.carry_out_always(plan).await
    }

    /// As [`Pipeline::carry_out`], for what is no change of a link.
    pub async fn carry_out_always(&self, plan: Plan) -> Result<Seq> {
        match self.try_to_carry_out(plan).await {
            Ok(seq) => Ok(seq),
            Err(Refusal { why, intent }) => {
                if let Some(intent) = intent {
                    self.take_intent_back(&intent).await;
                }
                Err(why)
            }
        }
    }

    async fn try_to_carry_out(&self, plan: Plan) -> std::result::Result<Seq, Refusal> {
        let in_use = self.using(spaces_of(&self.registry(), &plan));
        let result = self.carry_out_expected(plan).await;
        in_use.end();
        result
    }

    async fn carry_out_expected(&self, mut plan: Plan) -> std::result::Result<Seq, Refusal> {
        let before = self.registry();
        let is_of_this_boot = self.store_intent(&before, &plan).await?;
        let _expected = self.arrivals.expect(plan.arrivals());
        let mut done = Done::default();
        self.tell_of_deleted(&plan, detaching);
        if let Err(why) = self.apply_all(&before, &plan, &mut done).await {
            let intent = self.undo(&plan, &done, is_of_this_boot).await;
            self.tell_of_deleted(&plan, changed);
            return Err(Refusal { why, intent });
        }
        self.clear_rules_behind(&before, &plan, &done).await;
        self.equip(&mut plan, &mut done, KeptOptions::Trusted).await;
        crash::point("pipeline.before_read_back");
        self.read_back(&mut plan, &mut done).await;
        if plan.stored != Stored::First {
            self.store_outcome(&before, &plan, &done, is_of_this_boot).await?;
        }
        crash::point("pipeline.before_commit");
        let seq = self.commit_plan(&plan);
        crash::point("pipeline.before_settle");
        self.settle_records(&plan).await;
        crash::point("pipeline.before_reply");
        Ok(seq)
    }

    /// Whether it need not survive a power cut.
    async fn store_intent(&self, before: &Registry, plan: &Plan) -> Result<bool> {
        let intent = match plan.stored {
            Stored::First => intent(before, plan, self.ids().next()),
            Stored::Last | Stored::Eventually => marks(before, plan),
        };
        let is_of_this_boot = ends_with_this_boot(before, &intent);
        self.store_now(plan, intent, is_of_this_boot).await?;
        Ok(is_of_this_boot)
    }

    /// Stores what was done, or takes it back.
    async fn store_outcome(
        &self,
        before: &Registry,
        plan: &Plan,
        done: &Done,
        is_of_this_boot: bool,
    ) -> std::result::Result<(), Refusal> {
        let outcome = outcome(before, plan, self.ids().next());
        let is_short = ends_with_this_boot(before, &outcome);
        let Err(why) = self.store_now(plan, outcome, is_short).await else { return Ok(()) };
        let intent = self.undo(plan, done, is_of_this_boot).await;
        Err(Refusal { why, intent })
    }

    async fn store_now(&self, plan: &Plan, batch: Batch, is_of_this_boot: bool) -> Result<()> {
        crash::point("pipeline.before_persist");
        let stored = match batch.is_empty() {
            true => Ok(()),
            false => self.store(batch, is_of_this_boot).await,
        };
        crash::point("pipeline.after_persist");
        match stored {
            Err(why) if plan.stored == Stored::Eventually => {
                tracing::error!("{why}; it is tried again");
                self.store_later(plan.changes.iter().map(|change| change.id));
                Ok(())
            }
            stored => stored.map_err(store_error),
        }
    }

    /// The intent is what the store has not given up within [`PATIENCE`].
    async fn undo(&self, plan: &Plan, done: &Done, is_of_this_boot: bool) -> Option<Intent> {
        self.take_back(plan, done).await;
        let ids = plan.changes.iter().map(|change| change.id).collect();
        let intent = Intent { ids, is_of_this_boot };
        let given_up = tokio::time::timeout(PATIENCE, self.take_intent_back(&intent)).await;
        given_up.err().map(|_| intent)
    }

    /// A link's name for the log.
    pub fn label(&self, id: LinkId) -> String {
        self.registry().label(id)
    }

    /// Nothing is changed by a daemon that may not.
    pub fn refuse_if_read_only(&self) -> Result<()> {
        let denied = |why| Error::new(ErrorCode::Denied, format!("dlmgmtd is read-only: {why}"));
        self.read_only.as_ref().map_or(Ok(()), |why| Err(denied(why)))
    }

    /// Every step or none; what was done until a refusal is in `done`.
    async fn apply_all(&self, before: &Registry, plan: &Plan, done: &mut Done) -> Result<()> {
        self.pin_lent(before, plan).await?;
        if let Some(creation) = &plan.create {
            crash::point("kernel.before_create");
            let made = self.kernel.create(&creation.new).await;
            crash::point("kernel.after_create");
            let made = made.map_err(|why| cannot_make(before, creation, &why))?;
            for (id, made) in creation.ids.iter().zip(made) {
                done.moved.insert(*id, made.at);
                done.seen.extend(made.link.map(|link| (*id, Arc::new(link))));
            }
        }
        let guarded = guarded(before, plan);
        for (n, step) in plan.steps.iter().enumerate() {
            let is_guarded = guarded.contains(&step.id);
            let applied = self.apply(done.now(step), is_guarded).await;
            crash::point("kernel.after_step");
            match applied.map_err(|why| refusal(before, step.id, &why)) {
                Ok(at) => done.note(step, at),
                Err(why) if plan.can_spare(n) => {
                    let link = before.label(step.id);
                    tracing::warn!(LINKID = step.id.get(), LINK = link, "left as it is: {why}");
                    done.spare(step);
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Somebody else brought these links to where they are lent to now: no step takes them there.
    async fn pin_lent(&self, before: &Registry, plan: &Plan) -> Result<()> {
        for (id, ns) in lent_where_they_are(before, plan) {
            let pinned = self.pin(ns).await;
            pinned.map_err(|why| refusal(before, id, &why))?;
        }
        Ok(())
    }

    /// A namespace that a link goes to must not die before the link can come back. Where rules are for
    /// the link, they go on being for it; what changed it is done, whatever becomes of them: they show
    /// what is in force.
    async fn apply(
        &self,
        step: Step,
        is_guarded: bool,
    ) -> std::result::Result<Binding, KernelError> {
        if let Action::Move { to, .. } = &step.action
            && *to != self.kernel.home()
        {
            crash::point("kernel.before_pin");
            self.pin(*to).await?;
        }
        crash::point("kernel.before_step");
        let at = self.kernel.apply(&step).await?.at;
        let is_in_rules =
            matches!(step.action, Action::SetMac(_) | Action::Rename(_) | Action::Move { .. });
        if is_guarded
            && is_in_rules
            && let Err(why) = self.kernel.renew_rules(at).await
        {
            tracing::error!("rules do not follow the link with index {}: {why}", at.ifindex);
        }
        Ok(at)
    }

    async fn take_back(&self, plan: &Plan, done: &Done) {
        let (mut left, mut places) = (BTreeMap::new(), done.moved.clone());
        let guarded = guarded(&self.registry(), plan);
        for step in plan.steps[..done.steps].iter().rev() {
            let Some(backward) = &step.backward else { continue };
            let at = places.get(&step.id).copied().unwrap_or(backward.at);
            let backward = Step { at, action: backward.action.clone() };
            crash::point("take_back.before_step");
            let is_guarded = guarded.contains(&step.id);
            match self.apply(backward, is_guarded).await {
                Ok(now) => {
                    places.insert(step.id, now);
                }
                Err(why) => {
                    let link = self.label(step.id);
                    tracing::error!(
                        LINKID = step.id.get(),
                        LINK = link,
                        "cannot be taken back yet: {why}"
                    );
                    left.insert(step.id, at);
                }
            }
            crash::point("take_back.after_step");
        }
        places.retain(|id, _| !left.contains_key(id));
        self.show_where_moved_back(places).await;
        self.leave_unsettled(left).await;
        let made = plan.create.as_ref().and_then(|creation| creation.ids.first());
        if let Some(at) = made.and_then(|id| done.moved.get(id)) {
            let delete = Step { at: *at, action: Action::Delete };
            if let Err(why) = self.kernel.apply(&delete).await {
                tracing::error!("cannot take a creation back: {why}");
            }
        }
    }

    /// A link with all that can be asked of it.
    pub async fn look_closely(&self, at: Binding) -> Option<KernelLink> {
        let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten()?;
        // What cannot be asked is not known, and else the link is as it was found.
        Some(found.knowing(self.kernel.readings(at).await.unwrap_or_default()))
    }

    /// A link with its values of these properties. Drivers may take their time to answer, so they
    /// are asked only for what the link itself does not tell.
    async fn look_for(
        &self,
        at: Binding,
        wanted: &Settings,
        options: Option<&LinkOptions>,
    ) -> Option<KernelLink> {
        let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten()?;
        let tells_all = options.is_none()
            && wanted.iter().all(|(property, _)| found.setting(property).is_some());
        if tells_all { Some(found) } else { self.look_closely(at).await }
    }

    /// Where links have gone from, no rules for them stay.
    async fn clear_rules_behind(&self, before: &Registry, plan: &Plan, done: &Done) {
        for change in &plan.changes {
            let Some(was) = before.link(change.id) else { continue };
            let Some(at) = was.binding().filter(|_| was.record.properties.wants_rules()) else {
                continue;
            };
            let after = || change.after.as_ref().and_then(|after| after.binding());
            if done.moved.get(&change.id).copied().or_else(after) == Some(at) {
                continue;
            }
            // The namespace may have gone, too.
            if let Err(why) = self.kernel.clear_rules(at).await {
                tracing::debug!(LINKID = change.id.get(), "its rules are not cleared: {why}");
            }
        }
    }

    /// Gives links what their records want of their properties. They are read back afterwards.
    async fn equip(&self, plan: &mut Plan, done: &mut Done, kept: KeptOptions) {
        for id in plan.equips.clone() {
            let change = plan.changes.iter_mut().find(|change| change.id == id);
            let Some(link) = change.and_then(|change| change.after.as_mut()) else { continue };
            let at = done.moved.get(&id).copied().or_else(|| link.binding());
            let wanted = link.record.properties.wanted();
            let options = match kept {
                KeptOptions::Trusted => None,
                KeptOptions::Doubted => wanted_options(&link.record),
            };
            let wants_any = !wanted.is_empty() || options.is_some();
            let Some(at) = at.filter(|_| wants_any) else { continue };
            let now = self.look_for(at, &wanted, options.as_ref()).await;
            let Some(now) = now else { continue };
            let zone = self.registry().zone_of_ns(at.ns);
            link.kernel = Some(Bound { ns: at.ns, zone, link: Arc::new(now.clone()) });
            let (properties, actions) = equipment(link, &now, options.as_ref());
            let finds_more = properties.found != link.record.properties.found;
            link.record_mut().properties = properties;
            if finds_more && !actions.is_empty() && plan.stored == Stored::First {
                self.keep_found(link).await;
            }
            for action in actions {
                let is_guarded = link.record.properties.wants_rules();
                if let Err(why) = self.apply(Step { at, action }, is_guarded).await {
                    let link = self.label(id);
                    tracing::warn!(LINKID = id.get(), LINK = link, "a property is refused: {why}");
                }
                crash::point("kernel.after_step");
            }
            done.seen.remove(&id);
            done.moved.insert(id, at);
        }
    }

    /// A restart would take what the link is about to get for what it had before. While a plan is
    /// stored only when it is done, the store must not have its links yet.
    async fn keep_found(&self, link: &Link) {
        let batch = Batch { put: vec![unsettled(link)], ..Batch::default() };
        if let Err(why) = self.store.commit_for_this_boot(batch).await {
            tracing::warn!("{why}");
        }
    }

    /// Links that were made or moved are read as the kernel has them now, unless that was seen.
    async fn read_back(&self, plan: &mut Plan, done: &mut Done) {
        let registry = self.registry();
        for (id, at) in &done.moved {
            let change = plan.changes.iter_mut().find(|change| change.id == *id);
            let Some(link) = change.and_then(|change| change.after.as_mut()) else { continue };
            let found = match done.seen.remove(id) {
                Some(seen) => Some(seen),
                None => self.kernel.get(at.ns, at.ifindex).await.ok().flatten().map(Arc::new),
            };
            // What is not there any more is lost when it is looked at, where it was last.
            let presumed = || {
                let planned = KernelLink::clone(&link.kernel.as_ref()?.link);
                Some(Arc::new(KernelLink { ifindex: at.ifindex, ..planned }))
            };
            if let Some(found) = found.or_else(presumed) {
                link.record_mut().anchor = Some(Anchor { at: *at, mac: found.mac });
                let zone = registry.zone_of_ns(at.ns);
                link.kernel = Some(Bound { ns: at.ns, zone, link: found });
            }
            self.kernel.hints().push(*at, Hint::default());
        }
        self.read_back_ports(plan).await;
    }

    async fn read_back_ports(&self, plan: &mut Plan) {
        for at in plan.ports() {
            let links = plan.changes.iter_mut().filter_map(|change| change.after.as_mut());
            let port = links.filter_map(|link| link.kernel.as_mut()).find(|it| it.at() == at);
            let Some(port) = port else { continue };
            if let Ok(Some(found)) = self.kernel.get(at.ns, at.ifindex).await {
                port.link = found.into();
            }
        }
    }

    /// Links that were moved back may have other indexes there than before.
    async fn show_where_moved_back(&self, links: BTreeMap<LinkId, Binding>) {
        let registry = self.registry();
        let mut changes = Vec::new();
        for (id, at) in links {
            let known =
                registry.link(id).filter(|link| link.binding().is_some_and(|was| was != at));
            let Some(mut link) = known.map(|link| Link::clone(link)) else { continue };
            let Ok(Some(found)) = self.kernel.get(at.ns, at.ifindex).await else { continue };
            link.record_mut().anchor = Some(Anchor { at, mac: found.mac });
            link.kernel =
                Some(Bound { ns: at.ns, zone: registry.zone_of_ns(at.ns), link: found.into() });
            changes.push(link.into());
            self.store_later([id]);
        }
        if !changes.is_empty() {
            self.commit(&changes);
        }
    }

    /// Shows links as the kernel has them, so that the observer brings them to their records: left
    /// alone, it would take them for renamed by others.
    async fn leave_unsettled(&self, links: BTreeMap<LinkId, Binding>) {
        let registry = self.registry();
        let mut changes = Vec::new();
        for (id, at) in links {
            let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten();
            if let (Some(found), Some(link)) = (found, registry.link(id)) {
                let zone = registry.zone_of_ns(at.ns);
                changes.push(Link::clone(link).unsettled_at(at, zone, found).into());
            }
            self.look_again(Where::At(at), RETRY);
        }
        if !changes.is_empty() {
            self.commit(&changes);
        }
    }

    /// While the store has the intent, a crash would let a restart carry it out. So it is to give it
    /// up as durably as it had it, however long that takes.
    async fn take_intent_back(&self, intent: &Intent) {
        loop {
            crash::point("take_back.before_persist");
            let batch = as_known(&self.registry(), &intent.ids);
            let stored = self.store(batch, intent.is_of_this_boot).await;
            crash::point("take_back.after_persist");
            match stored {
                Ok(()) => return,
                Err(why) => tracing::error!("a refused change cannot be taken back yet: {why}"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Stores a batch for as long as it means something: what a power cut ends need not survive it.
    async fn store(
        &self,
        batch: Batch,
        is_of_this_boot: bool,
    ) -> std::result::Result<(), StoreError> {
        match is_of_this_boot {
            true => self.store.commit_for_this_boot(batch).await,
            false => self.store.commit(batch).await,
        }
    }

    fn unstored(&self) -> MutexGuard<'_, BTreeSet<LinkId>> {
        // Every statement leaves the set whole, so a poisoned lock does no harm.
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_later(&self, ids: impl IntoIterator<Item = LinkId>) {
        self.unstored().extend(ids);
        self.look_again(Where::Everywhere, RETRY);
    }

    /// Stores what the store refused before, of all links but these. This may run only inside the
    /// perimeter of the others: a change that is under way has newer records in the store than there
    /// are in the registry.
    pub async fn store_the_unstored(&self, spared: &BTreeSet<LinkId>) {
        let ids: BTreeSet<LinkId> = {
            let mut unstored = self.unstored();
            let ids = unstored.difference(spared).copied().collect();
            unstored.retain(|id| spared.contains(id));
            ids
        };
        if !spared.is_disjoint(&self.unstored()) {
            self.look_again(Where::Everywhere, RETRY);
        }
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
        let in_use = self.using(spaces_of(&before, &plan));
        let batch = intent(&before, &plan, self.ids().next());
        let is_of_this_boot = ends_with_this_boot(&before, &batch);
        crash::point("observer.before_persist");
        if !batch.is_empty()
            && let Err(why) = self.store(batch, is_of_this_boot).await
        {
            tracing::error!("{why}; new links wait until the store works");
            plan.steps.clear();
            plan.changes.retain(|change| before.link(change.id).is_some());
            self.store_later(plan.changes.iter().map(|change| change.id));
        }
        crash::point("observer.after_persist");
        self.apply_each(&mut plan).await;
        let mut equipped = Done::default();
        self.clear_rules_behind(&before, &plan, &equipped).await;
        self.equip(&mut plan, &mut equipped, KeptOptions::Doubted).await;
        self.read_back(&mut plan, &mut equipped).await;
        if let Err(why) = self.pin_lent(&before, &plan).await {
            tracing::warn!("a zone cannot be kept: {why}");
        }
        crash::point("observer.before_commit");
        self.commit_plan(&plan);
        in_use.end();
        crash::point("observer.before_settle");
        self.settle_records(&plan).await;
    }

    async fn apply_each(&self, plan: &mut Plan) {
        let mut names: BTreeMap<LinkId, LinkName> = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let guarded = guarded(&self.registry(), plan);
        for step in &plan.steps {
            if let Some(Action::Rename(from)) = step.backward.as_ref().map(|back| &back.action) {
                names.entry(step.id).or_insert(*from);
            }
            crash::point("observer.before_step");
            let is_guarded = guarded.contains(&step.id);
            let applied = self.apply(step.forward.clone(), is_guarded).await;
            crash::point("observer.after_step");
            match (applied, &step.forward.action) {
                (Ok(_), Action::Rename(to)) => drop(names.insert(step.id, *to)),
                (Ok(_), _) => {}
                (Err(why), _) => {
                    let link = self.label(step.id);
                    tracing::warn!(
                        LINKID = step.id.get(),
                        LINK = link,
                        "a change is refused: {why}"
                    );
                    refused.insert(step.id, step.forward.at);
                }
            }
        }
        for (id, at) in refused {
            self.correct(plan, id, at, names.get(&id).copied()).await;
        }
    }

    /// Puts what the kernel really has in the place of what was planned; where it does not even say
    /// that, the `name` that it has by what it did not refuse.
    async fn correct(&self, plan: &mut Plan, id: LinkId, at: Binding, name: Option<LinkName>) {
        let found = self.kernel.get(at.ns, at.ifindex).await.ok().flatten();
        let change = plan.changes.iter_mut().find(|change| change.id == id);
        if let Some(link) = change.and_then(|change| change.after.as_mut()) {
            let planned = link.kernel.as_ref().map(|bound| KernelLink::clone(&bound.link));
            let presumed = planned.zip(name).map(|(planned, name)| KernelLink { name, ..planned });
            if let Some(found) = found.or(presumed) {
                let zone = self.registry().zone_of_ns(at.ns);
                *link = link.clone().unsettled_at(at, zone, found);
            }
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
                Where::AllOf(ns) => kernel.hints().push_whole(ns),
                Where::At(at) => kernel.hints().push(at, Hint::default()),
            }
        });
    }

    /// Makes changes of links visible, and tells of them.
    pub fn commit(&self, changes: &[LinkChange]) -> Seq {
        self.commit_with(|registry| {
            let after = registry.with(changes);
            let ids: BTreeSet<LinkId> = changes.iter().map(|change| change.id).collect();
            (after, ids)
        })
    }

    /// Makes what a plan comes to visible, and tells of it.
    pub fn commit_plan(&self, plan: &Plan) -> Seq {
        self.commit_with(|registry| {
            let with_zones = plan.zones.iter().fold(Cow::Borrowed(registry), |registry, zone| {
                Cow::Owned(registry.with_zone(zone.clone()))
            });
            let ids: BTreeSet<LinkId> = plan.changes.iter().map(|change| change.id).collect();
            (with_zones.with(&plan.changes), ids)
        })
    }

    /// Replaces the registry by what `change` makes of it; the ids are of the links that differ.
    pub fn commit_with(
        &self,
        change: impl FnOnce(&Registry) -> (Registry, BTreeSet<LinkId>),
    ) -> Seq {
        self.commit_telling(|registry| {
            let (after, ids) = change(registry);
            (after, ids, Vec::new())
        })
    }

    /// As [`Pipeline::commit_with`], with events that do not follow from the change.
    fn commit_telling(
        &self,
        change: impl FnOnce(&Registry) -> (Registry, BTreeSet<LinkId>, Vec<Event>),
    ) -> Seq {
        let commit = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.registry();
        let (after, mut ids, told) = change(&before);
        ids.extend(before.displaced_by(&after));
        ids.extend(before.whose_ports_differ(&after, &ids));
        let mut seq = before.seq();
        let zones = before.zones_that_differ(&after);
        let zone_events = zones.into_iter().flat_map(|id| zone_events(&before, &after, id));
        let (gone, come): (Vec<Event>, Vec<Event>) =
            zone_events.partition(|event| matches!(event, Event::ZoneGone { .. }));
        let events: Vec<SequencedEvent> = told
            .into_iter()
            .chain(come)
            .chain(events_between(&before, &after, ids))
            .chain(gone)
            .map(|event| {
                seq = seq.next();
                SequencedEvent { seq, event }
            })
            .collect();
        let after = Arc::new(after.at(seq));
        self.registry.store(after.clone());
        self.hub.publish(events);
        drop(commit);
        let was_settleable: BTreeSet<Binding> = before.settleable().collect();
        after
            .settleable()
            .filter(|at| !was_settleable.contains(at))
            .for_each(|at| self.kernel.hints().push(at, Hint::default()));
        seq
    }

    /// Tells of each link that a plan deletes in the kernel, as the registry knows it.
    fn tell_of_deleted(&self, plan: &Plan, event: fn(&Registry, &Link) -> Option<Event>) {
        if !plan.deletes() {
            return;
        }
        self.commit_telling(|registry| {
            let deleted = ends(plan).filter_map(|id| registry.link(id));
            let told = deleted.filter_map(|link| event(registry, link)).collect();
            (registry.clone(), BTreeSet::new(), told)
        });
    }

    /// A zone's end overrides holds, and tells who had them.
    pub fn break_holds(&self, zone: ZoneId) {
        self.commit_telling(|registry| {
            let held: Vec<Arc<Link>> = registry
                .links()
                .filter(|link| link.place() == Some(zone))
                .filter(|link| registry.holders(link.record.id).next().is_some())
                .cloned()
                .collect();
            let broken = held.iter().map(|link| Event::HoldBroken {
                id: link.record.id,
                name: registry.shown_name(link),
                zone: registry.zone_label(zone),
            });
            let told: Vec<Event> = broken.collect();
            let ids: BTreeSet<LinkId> = held.iter().map(|link| link.record.id).collect();
            let free = ids.iter().fold(registry.clone(), |free, id| free.without_holds(*id));
            (free, ids, told)
        });
    }

    /// Runs `look` at the registry of a moment at which nothing is published.
    pub fn at_rest<T>(&self, look: impl FnOnce(&Arc<Registry>) -> T) -> T {
        let _rest = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        look(&self.registry())
    }

    /// The kernel agrees now, and a restart need not look after it. That this is lost in a crash
    /// does no harm, so nobody waits for the disk; except for where a link was moved to, without
    /// which it would not be known again, and for links that ended, whose place another one may
    /// get. Options would be set again, over what others have set since: but only in this boot.
    async fn settle_records(&self, plan: &Plan) {
        if plan.stored != Stored::First {
            return;
        }
        let stepped = stepped(plan);
        let delete: Vec<LinkId> = ends(plan).filter(|_| plan.deletes()).collect();
        let put: Vec<Arc<LinkRecord>> = plan
            .changes
            .iter()
            .filter(|change| stepped.contains(&change.id))
            .filter_map(|change| change.after.as_ref())
            .map(|link| link.record.clone())
            .collect();
        if put.is_empty() && delete.is_empty() {
            return;
        }
        let batch = Batch { put, delete, ..Batch::default() };
        let moves = plan.steps.iter().any(|step| step.moves_to().is_some());
        let stored = if moves || plan.deletes() {
            let is_of_this_boot = ends_with_this_boot(&self.registry(), &batch);
            self.store(batch, is_of_this_boot).await
        } else if batch.put.iter().any(|record| wanted_options(record).is_some()) {
            self.store.commit_for_this_boot(batch).await
        } else {
            self.store.commit_lazily(batch).await
        };
        if let Err(why) = stored {
            tracing::warn!("{why}");
            self.store_later(stepped.into_iter().chain(ends(plan)));
        }
    }
}

/// How long a store that fails is left alone, in which new links are not shown, and a kernel that
/// refuses to give a link its name.
const RETRY: Duration = Duration::from_secs(1);

/// How long who asked for a change that was refused waits for the store to give it up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a plan was not carried out.
struct Refusal {
    why: Error,
    /// What the store still has of it.
    intent: Option<Intent>,
}

impl From<Error> for Refusal {
    fn from(why: Error) -> Self {
        Self { why, intent: None }
    }
}

/// Links that the store has as a change would have made them, and that are to be as they are.
struct Intent {
    ids: BTreeSet<LinkId>,
    is_of_this_boot: bool,
}

/// A namespace that is no zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    /// Its number in the daemon's own namespace.
    pub nsid: i32,
    /// A process in it, if one was found.
    pub pid: Option<i32>,
}

/// A plan, and what it was made of.
struct Draft {
    registry: Arc<Registry>,
    ids: LinkIds,
    plan: Plan,
    /// The ids without those that the plan uses.
    given: LinkIds,
    /// What the plan touches.
    keys: Keys,
}

impl Draft {
    fn new(
        registry: Arc<Registry>,
        ids: LinkIds,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan>,
    ) -> Result<Self> {
        let mut given = ids;
        let plan = prepare(&registry, &mut given)?;
        let keys = keys_of(&registry, &plan);
        Ok(Self { registry, ids, plan, given, keys })
    }

    /// Whether it would be the same if it were made of these.
    fn is_of(&self, registry: &Arc<Registry>, ids: LinkIds) -> bool {
        Arc::ptr_eq(&self.registry, registry) && self.ids == ids
    }
}

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    Everywhere,
    AllOf(NsCookie),
    At(Binding),
}

fn looks(to_come: &Mutex<BTreeSet<Where>>) -> MutexGuard<'_, BTreeSet<Where>> {
    // Every statement leaves the set whole, so a poisoned lock does no harm.
    to_come.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// The link as the kernel has it after it refused a step: its name is still to be brought to
    /// the one that its record wants.
    fn unsettled_at(mut self, at: Binding, zone: Option<ZoneId>, found: KernelLink) -> Self {
        self.kernel = Some(Bound { ns: at.ns, zone, link: found.into() });
        let is_misnamed =
            self.kernel.as_ref().is_some_and(|bound| bound.name != self.wanted_name());
        self.record_mut().unsettled = is_misnamed;
        self
    }
}

/// The links that a plan changes, every name that they have, had or want, and whoever is known by
/// the index that a link keeps where it moves: if somebody took that one away, a change of it that is
/// under way would change the link that comes.
fn keys_of(registry: &Registry, plan: &Plan) -> Keys {
    let mut keys: Keys = plan
        .steps
        .iter()
        .filter_map(|step| Some(Binding { ns: step.moves_to()?, ..step.forward.at }))
        .filter_map(|landing| registry.by_binding(landing).map(Key::Link))
        .collect();
    keys.extend(plan.beside.iter().chain(&plan.presumes).copied().map(Key::Link));
    for change in &plan.changes {
        keys.insert(Key::Link(change.id));
        let before = registry.link(change.id).map(|link| link.as_ref());
        for link in before.into_iter().chain(change.after.as_ref()) {
            keys.insert(Key::Name(link.zone(), link.wanted_name()));
            keys.insert(Key::Name(link.record.owner, link.record.name));
            if let Some(bound) = &link.kernel {
                keys.insert(Key::Name(link.zone(), bound.name));
            }
        }
    }
    keys
}

/// What is written before the kernel is touched: the wanted result, marked where the kernel may
/// not agree yet.
fn intent(before: &Registry, plan: &Plan, next_link_id: u32) -> Batch {
    let stepped = stepped(plan);
    let mut batch = records(before, plan, next_link_id, |link| {
        if stepped.contains(&link.record.id) { unsettled(link) } else { link.record.clone() }
    });
    if plan.deletes() {
        let ending = batch.delete.drain(..).filter_map(|id| before.link(id));
        batch.put.extend(ending.map(|link| {
            let mut record = link.record.clone();
            Arc::make_mut(&mut record).lifetime = Lifetime::Ending;
            record
        }));
    }
    batch
}

/// A link's record, marked as one that the kernel may not agree with.
fn unsettled(link: &Link) -> Arc<LinkRecord> {
    let mut record = link.record.clone();
    if !record.unsettled {
        Arc::make_mut(&mut record).unsettled = true;
    }
    record
}

/// What is written before the kernel is touched, where the wanted result is written only after it:
/// links that are to move may be somewhere else.
fn marks(before: &Registry, plan: &Plan) -> Batch {
    let moved = plan.steps.iter().filter(|step| step.moves_to().is_some());
    let put = moved.filter_map(|step| before.link(step.id)).map(|link| unsettled(link));
    Batch { put: put.collect(), ..Batch::default() }
}

/// What is written when the kernel has what was wanted.
fn outcome(before: &Registry, plan: &Plan, next_link_id: u32) -> Batch {
    records(before, plan, next_link_id, |link| link.record.clone())
}

/// The records that differ afterwards.
fn records(
    before: &Registry,
    plan: &Plan,
    next_link_id: u32,
    record: impl Fn(&Link) -> Arc<LinkRecord>,
) -> Batch {
    let is_new =
        |zone: &&Zone| before.zone(zone.record.id).is_none_or(|known| known.record != zone.record);
    let zones = plan.zones.iter().filter(is_new).map(|zone| zone.record.clone()).collect();
    let mut batch = Batch { zones, ..Batch::default() };
    for change in &plan.changes {
        let was = before.link(change.id).map(|link| &link.record);
        match change.after.as_ref().map(&record) {
            Some(is) if was != Some(&is) => {
                if was.is_none() {
                    batch.next_link_id = Some(next_link_id);
                }
                batch.put.push(is);
            }
            None if was.is_some() => batch.delete.push(change.id),
            _ => {}
        }
    }
    batch
}

/// Whether a batch is about nothing but links that are not kept over a reboot, neither as the
/// registry knows them nor as they will be.
fn ends_with_this_boot(registry: &Registry, batch: &Batch) -> bool {
    let Batch { put, zones, delete, next_link_id: _, boot, epoch } = batch;
    let is_kept = |record: &LinkRecord| record.lifetime == Lifetime::Persistent;
    let was_kept = |id: &LinkId| registry.link(*id).is_some_and(|link| is_kept(&link.record));
    let is_about_more = !zones.is_empty() || boot.is_some() || epoch.is_some();
    let is_about_links = !put.is_empty() || !delete.is_empty();
    is_about_links
        && !is_about_more
        && !put.iter().any(|record| is_kept(record) || was_kept(&record.id))
        && !delete.iter().any(was_kept)
}

/// What brings the store to what the registry knows of these links.
fn as_known(registry: &Registry, ids: &BTreeSet<LinkId>) -> Batch {
    let mut batch = Batch::default();
    for id in ids {
        match registry.link(*id) {
            Some(link) => batch.put.push(link.record.clone()),
            None => batch.delete.push(*id),
        }
    }
    batch
}

/// Links that end.
pub(super) fn ends(plan: &Plan) -> impl Iterator<Item = LinkId> {
    plan.changes.iter().filter(|change| change.after.is_none()).map(|change| change.id)
}

/// Links whose part of the kernel the plan changes.
fn stepped(plan: &Plan) -> BTreeSet<LinkId> {
    let made = plan.create.iter().flat_map(|creation| creation.ids.iter().copied());
    let equipped = plan.equips.iter().copied();
    plan.steps.iter().map(|step| step.id).chain(made).chain(equipped).collect()
}

/// Whether links have the options of their kind that their records say.
#[derive(Clone, Copy)]
enum KeptOptions {
    /// They were made with them or had them already: the kernel keeps them wherever a link goes.
    Trusted,
    /// A run of the daemon may have died while it changed them.
    Doubted,
}

/// How far a plan was carried out.
#[derive(Default)]
struct Done {
    /// Steps that were applied.
    steps: usize,
    /// Where links are that are to be read back: they were made or moved, or became something else
    /// than was planned.
    moved: BTreeMap<LinkId, Binding>,
    /// Links that were made, as they were found there.
    seen: BTreeMap<LinkId, Arc<KernelLink>>,
}

impl Done {
    /// The step where its link is now.
    fn now(&self, step: &PlannedStep) -> Step {
        let at = self.moved.get(&step.id).copied().unwrap_or(step.forward.at);
        Step { at, action: step.forward.action.clone() }
    }

    /// The kernel's refusal of the step was taken as it was.
    fn spare(&mut self, step: &PlannedStep) {
        self.moved.entry(step.id).or_insert(step.forward.at);
    }

    fn note(&mut self, step: &PlannedStep, at: Binding) {
        self.steps += 1;
        self.seen.remove(&step.id);
        if at != step.forward.at {
            self.moved.insert(step.id, at);
        }
    }
}

/// Links that have rules before a plan, or are to have them after it.
fn guarded(before: &Registry, plan: &Plan) -> BTreeSet<LinkId> {
    let wants_rules = |link: &Link| link.record.properties.wants_rules();
    let is_guarded = |change: &&LinkChange| {
        before.link(change.id).is_some_and(|link| wants_rules(link))
            || change.after.as_ref().is_some_and(wants_rules)
    };
    plan.changes.iter().filter(is_guarded).map(|change| change.id).collect()
}

fn cannot_make(registry: &Registry, creation: &Creation, why: &KernelError) -> Error {
    let NewLink { ns, name, .. } = &creation.new;
    let zone = registry.zone_of_ns(*ns).map(|zone| registry.zone_label(zone));
    let place = zone.map_or_else(String::new, |zone| format!(" in zone {zone}"));
    Error::kernel(why.errno, format!("the kernel refused to make {name}{place}: {why}"))
}

fn not_taken_back(why: &Error) -> Error {
    let text = format!(
        "{}, and the store cannot give the change up yet, which is tried until it can: nothing is \
         changed now, but if dlmgmtd ends before that, its next start may make all of it",
        why.message
    );
    Error::new(ErrorCode::Store, text)
}

fn store_error(why: StoreError) -> Error {
    Error::new(ErrorCode::Store, why.to_string())
}

fn refusal(registry: &Registry, id: LinkId, why: &KernelError) -> Error {
    let name = registry.label(id);
    let zone = registry
        .link(id)
        .map_or_else(String::new, |link| format!(" in zone {}", registry.zone_label(link.zone())));
    Error::kernel(why.errno, format!("the kernel refused to change {name}{zone}: {why}"))
}
