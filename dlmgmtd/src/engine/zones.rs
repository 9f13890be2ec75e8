//! Zones come up and end: SPEC.md section 6.

mod taking_back;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dlmgmt_proto::{Error, ErrorCode, LinkId, Result, ZoneId, ZoneName};
use tokio::sync::{Notify, Semaphore, broadcast, oneshot, watch};

use super::observer::{self, Glance};
use super::participants::Participants;
use super::perimeter::{Key, Perimeter, Perimeters};
use super::pipeline::{Pipeline, Stranger, ends};
use crate::core::{
    Lend, Plan, Registry, Stored, is_incomplete, is_overdue, plan_end, plan_forget_lost,
    plan_home_coming, plan_lend, plan_remake, plan_space_lost, plan_zone_down, plan_zone_ending,
    plan_zone_up, refuse_ending, zone_named,
};
use crate::crash;
use crate::kernel::{Doorway, Hint, HintBatch, NsOpener};
use crate::model::{
    Action, AttachedBy, Attachment, Binding, Lifetime, Link, NsCookie, Step, ZoneUp,
};
use crate::zones::{Found, Source, SourceEvent, SourceEvents, ZoneSources};
use taking_back::{Kept, Unclaimed};

/// How long a namespace may take to die by itself, before transient links in it are ended one
/// by one. The kernel ends those of a dying namespace all at once, which is far quicker.
const DYING: Duration = Duration::from_millis(500);

/// Zones that come up at one time; each keeps its namespace open until it is up.
const ARRIVALS: usize = 64;

/// How long a store that fails is left alone before a zone that appeared is brought to it again.
const RETRY: Duration = Duration::from_secs(1);

/// Tries to bring one link home, while others take the names it is to have.
const TRIES: usize = 3;

/// A zone that appeared.
pub struct Arrival {
    /// Its name.
    pub name: ZoneName,
    /// Its namespace; not kept open.
    pub ns: OwnedFd,
    /// How to open it again.
    pub opener: NsOpener,
    /// The process whose namespace it is, where it was registered by one.
    pub pid: Option<i32>,
    /// Where its namespace can be opened.
    pub path: Option<String>,
    /// How a client registered it, where that can be done again after a restart.
    pub attached: Option<AttachedBy>,
}

impl From<Found> for Arrival {
    fn from(found: Found) -> Self {
        let Found { name, source, cookie, ns } = found;
        let (pid, path) = match &source {
            Source::Directory(path) | Source::Path(path) => {
                (None, Some(path.display().to_string()))
            }
            Source::Process { pid, .. } => (Some(*pid), Some(format!("/proc/{pid}/ns/net"))),
            Source::Descriptor { .. } => (None, None),
        };
        let attached = match &source {
            Source::Process { pid, .. } => Some(AttachedBy::Process(*pid)),
            Source::Path(path) => path.to_str().map(|path| AttachedBy::Path(path.to_owned())),
            Source::Descriptor { .. } => Some(AttachedBy::Descriptor),
            Source::Directory(_) => None,
        };
        Self { name, ns, opener: opener_of(&source, cookie), pid, path, attached }
    }
}

/// How the kernel's side enters the namespace again. There is no way but a pin into one that only
/// a descriptor was passed of.
fn opener_of(source: &Source, cookie: NsCookie) -> NsOpener {
    let nothing = || Err(std::io::Error::other("nothing is known to open the namespace by"));
    source.opener(cookie).unwrap_or_else(|| Arc::new(nothing))
}

/// Brings zones up and down.
pub(super) struct ZoneKeeper {
    pipeline: Arc<Pipeline>,
    pub participants: Arc<Participants>,
    pub sources: ZoneSources,
    /// One zone's coming and going, and what is lent to it or made in it, happen in order. Who is
    /// inside may enter perimeters of links; never the other way round.
    gates: Perimeters,
    /// Some zone has begun to end.
    began_to_end: Notify,
    /// Namespaces become zones one by one, and no strangers meanwhile.
    births: tokio::sync::Mutex<()>,
    deaths: Mutex<BTreeMap<NsCookie, watch::Sender<bool>>>,
    unclaimed: Unclaimed,
    /// Persistent virtual links that died with a namespace, or with the machine.
    owed: Mutex<BTreeSet<LinkId>>,
    /// Links that are tried to be sent to their zones again and again.
    late: Mutex<BTreeSet<LinkId>>,
    ended: broadcast::Sender<NsCookie>,
}

impl ZoneKeeper {
    pub fn new(pipeline: Arc<Pipeline>, sources: ZoneSources) -> Self {
        Self {
            pipeline,
            sources,
            participants: Arc::default(),
            gates: Perimeters::default(),
            began_to_end: Notify::new(),
            births: tokio::sync::Mutex::default(),
            deaths: Mutex::default(),
            unclaimed: Unclaimed::default(),
            owed: Mutex::default(),
            late: Mutex::default(),
            ended: broadcast::Sender::new(1024),
        }
    }

    /// Tells of namespaces that are zones no longer, while they can still be let go.
    pub fn ended(&self) -> broadcast::Receiver<NsCookie> {
        self.ended.subscribe()
    }

    /// The right to lend to these zones and to make links in them. As their ends may take long,
    /// one that is ending is no reason to wait but an error.
    pub async fn enter_unless_ending(&self, zones: BTreeSet<ZoneId>) -> Result<Perimeter> {
        let keys = zones.iter().copied().map(Key::Zone).collect();
        let gates = self.gates.enter(keys);
        tokio::pin!(gates);
        loop {
            let began_to_end = self.began_to_end.notified();
            let registry = self.pipeline.registry();
            zones.iter().try_for_each(|zone| refuse_ending(&registry, *zone))?;
            tokio::select! {
                gates = &mut gates => return Ok(gates),
                () = began_to_end => {}
            }
        }
    }

    async fn enter(&self, zone: ZoneId) -> Perimeter {
        self.gates.enter([Key::Zone(zone)].into()).await
    }

    /// As [`ZoneKeeper::enter`] for all zones of these names; and no zone gets a number meanwhile.
    pub async fn keep_still(&self, names: &BTreeSet<ZoneName>) -> Still<'_> {
        let birth = self.births.lock().await;
        let registry = self.pipeline.registry();
        let zones = names.iter().filter_map(|name| registry.zone_by_name(name));
        let gates = self.gates.enter(zones.map(Key::Zone).collect()).await;
        Still { _gates: gates, _birth: birth }
    }

    /// The zone of that name, with a number that is kept, though it may never have been up.
    pub async fn ensure_zone(&self, name: &ZoneName) -> Result<ZoneId> {
        let _birth = self.births.lock().await;
        let zone = zone_named(&self.pipeline.registry(), name);
        let id = zone.record.id;
        self.pipeline.carry_out(Plan { zones: vec![zone], ..Plan::default() }).await?;
        Ok(id)
    }

    /// A namespace has a name: it is a zone from now on.
    pub async fn zone_appeared(self: &Arc<Self>, arrival: Arrival) -> Result<ZoneId> {
        let name = arrival.name.clone();
        let zone = self.bring_up(arrival).await?;
        tracing::info!(ZONE = name.as_str(), "zone {name} is up");
        crash::point("zone_up.before_loans");
        self.send_loans(zone).await;
        Ok(zone)
    }

    async fn bring_up(&self, arrival: Arrival) -> Result<ZoneId> {
        let Arrival { name, ns, opener, pid, path, attached } = arrival;
        if let Some(ending) = self.pipeline.registry().zone_by_name(&name) {
            // An earlier zone of that name may still be on its way down.
            drop(self.enter(ending).await);
        }
        let only_way = match &attached {
            Some(AttachedBy::Descriptor) => ns.try_clone().ok(),
            _ => None,
        };
        let _birth = self.births.lock().await;
        let registry = self.pipeline.registry();
        refuse_known_name(&registry, &name)?;
        let watched = self.pipeline.kernel.watch(ns, opener).await;
        let ns = watched.map_err(|why| {
            Error::kernel(why.errno, format!("zone {name} cannot be watched: {why}"))
        })?;
        if let Some(other) = registry.zone_of_ns(ns) {
            let other = registry.zone_label(other);
            let text = format!("zone {name} has the namespace of zone {other}");
            return Err(Error::new(ErrorCode::Exists, text));
        }
        self.deaths().insert(ns, watch::Sender::new(false));
        let up = ZoneUp { ns, is_ending: false, pid, path };
        let plan = plan_zone_up(&registry, &name, up, attached);
        let zone = plan.zones[0].record.id;
        crash::point("zone_up.before_persist");
        if let Err(why) = self.pipeline.carry_out_always(plan).await {
            self.forget(ns).await;
            return Err(why);
        }
        if let Some(open) = only_way {
            self.pipeline.keep(name, open).await;
        }
        self.pipeline.strangers().remove(&ns);
        crash::point("zone_up.before_look");
        observer::reconcile(&self.pipeline, ns, Glance::whole()).await;
        Ok(zone)
    }

    /// A source has the namespace of a zone: of a new one, or of one that waits for its source.
    async fn take_up(self: &Arc<Self>, found: Found) -> Result<ZoneId> {
        match self.claimed_by(&found).await {
            Some(_kept_until_then) => self.claim(found).await,
            None => self.zone_appeared(found.into()).await,
        }
    }

    /// A client registered a namespace: it is a zone from now on.
    pub async fn attach(self: &Arc<Self>, found: Found) -> Result<()> {
        let (name, ns) = (found.name.clone(), found.cookie);
        let registry = self.pipeline.registry();
        registry.zone_of_ns(ns).map_or(Ok(()), |zone| refuse_ending(&registry, zone))?;
        let zone = self.take_up(found).await?;
        if self.sources.has(&name, ns) {
            return Ok(());
        }
        // Its end was told when there was nothing to end yet.
        self.end_zone(zone, ns).await;
        Err(Error::new(ErrorCode::NoZone, format!("zone {name} ended while it was attached")))
    }

    /// Every link that is lent to the zone goes there: what cannot go now, as soon as it can.
    async fn send_loans(self: &Arc<Self>, zone: ZoneId) {
        let _gate = self.enter(zone).await;
        for id in waiting_for(&self.pipeline.registry(), zone) {
            crash::point("zone_up.before_loan");
            if let Err(why) = self.send_loan(id, zone).await
                && self.late().insert(id)
            {
                tracing::warn!(
                    LINKID = id.get(),
                    LINK = self.pipeline.label(id),
                    "a link stays at home for now: {why}"
                );
                tokio::spawn(send_when_possible(Arc::downgrade(self), id, zone));
            }
        }
    }

    async fn send_loan(&self, id: LinkId, zone: ZoneId) -> Result<()> {
        let (plan, _perimeter) = self
            .pipeline
            .plan_inside(|registry, _| {
                let loan = registry.link(id).and_then(|link| link.loan());
                let Some(loan) = loan.filter(|loan| loan.zone == zone) else {
                    return Ok(Plan::default());
                };
                let lend = Lend {
                    id,
                    zone,
                    name_inside: Some(loan.name_inside),
                    is_persistent: loan.is_persistent,
                    force: true,
                    generation: None,
                };
                plan_lend(registry, &lend, &[])
            })
            .await?;
        self.pipeline.carry_out(plan).await.map(drop)
    }

    /// Follows the sources of zones until they end; `settled` is told once those that were there at
    /// the start are up.
    pub async fn follow_sources(
        self: Arc<Self>,
        mut events: SourceEvents,
        settled: oneshot::Sender<()>,
    ) {
        let mut settled = Some(settled);
        let mut turns = Turns::default();
        let arrivals = Arc::new(Semaphore::new(ARRIVALS));
        while let Some(event) = events.next().await {
            let keeper = self.clone();
            match event {
                SourceEvent::Appeared(found) => {
                    let room = arrivals.clone().acquire_owned().await;
                    turns.spawn(found.name.clone(), found.cookie, async move {
                        keeper.source_appeared(found).await;
                        drop(room);
                    });
                }
                SourceEvent::Ended { name, cookie, .. } => {
                    turns.spawn(name.clone(), cookie, async move {
                        keeper.source_ended(&name, cookie).await;
                    });
                }
                SourceEvent::Settled => {
                    turns.all_done().await;
                    // Who does not wait for it does not mind.
                    settled.take().map(|settled| settled.send(()));
                }
            }
        }
    }

    async fn source_appeared(self: &Arc<Self>, found: Found) {
        let (name, cookie) = (found.name.clone(), found.cookie);
        let Err(why) = self.take_up(found).await else { return };
        tracing::warn!(ZONE = name.as_str(), "zone {name} is not taken: {why}");
        if why.code == ErrorCode::Store {
            // What refuses it now may work again; its namespace is not kept open until then.
            let sources = self.sources.clone();
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                sources.tell_again(&name, cookie);
            });
        }
    }

    /// Zones that clients registered with an earlier run of the daemon are zones again, if their
    /// namespaces are still there.
    pub async fn attach_again(self: &Arc<Self>) {
        let registry = self.pipeline.registry();
        let attached = registry
            .zones()
            .filter_map(|zone| Some((zone.record.name.clone(), zone.record.attached.clone()?)));
        for (name, Attachment { ns, by }) in attached.collect::<Vec<_>>() {
            let (sources, called) = (self.sources.clone(), name.clone());
            let kept = self.unclaimed().get(&name).and_then(Kept::open);
            let found = tokio::task::spawn_blocking(move || match by {
                AttachedBy::Process(pid) => sources.add_process(&called, pid),
                AttachedBy::Path(path) => sources.add_path(&called, path.into()),
                AttachedBy::Descriptor => match kept {
                    Some(kept) => sources.claim_again(&called, kept),
                    None => sources.find_again(&called, ns),
                },
            });
            match found.await {
                Ok(Ok(found)) if found.cookie == ns => {
                    if let Err(why) = self.attach(found).await {
                        tracing::warn!(ZONE = name.as_str(), "zone {name} is not taken: {why}");
                    }
                }
                // Another process has the number by now, or another namespace the place.
                Ok(Ok(_)) => drop(self.sources.remove(&name)),
                _ => tracing::info!(ZONE = name.as_str(), "zone {name} ended meanwhile"),
            }
        }
    }

    async fn source_ended(self: &Arc<Self>, name: &ZoneName, cookie: NsCookie) {
        let registry = self.pipeline.registry();
        let Some(zone) = registry.zone_of_ns(cookie) else { return };
        if registry.zone_label(zone) == *name {
            self.end_zone(zone, cookie).await;
        }
    }

    /// Follows links that somebody moved to namespaces that are no zones.
    pub async fn find_strangers(&self, hints: &mut HintBatch) {
        for (at, hint) in &mut hints.links {
            let Some(moved) = hint.moved_to.as_mut().filter(|moved| moved.ns.is_none()) else {
                continue;
            };
            if self.pipeline.registry().by_binding(*at).is_some() {
                moved.ns = self.find_stranger(moved.nsid).await;
            }
        }
    }

    async fn find_stranger(&self, nsid: i32) -> Option<NsCookie> {
        let found = self.pipeline.kernel.find(nsid).await;
        let Doorway { ns, opener, pid } = found.ok().flatten()?;
        let _birth = self.births.lock().await;
        let ns = self.pipeline.kernel.watch(ns, opener).await.ok()?;
        if self.pipeline.registry().zone_of_ns(ns).is_none() {
            self.pipeline.strangers().insert(ns, Stranger { nsid, pid });
        }
        Some(ns)
    }

    /// A namespace without a link that is followed is none to watch.
    pub async fn leave_empty_strangers(&self) {
        if self.pipeline.strangers().is_empty() {
            return;
        }
        // One that is just becoming a zone goes on to be watched.
        let _birth = self.births.lock().await;
        let registry = self.pipeline.registry();
        let is_empty = |ns: &NsCookie| registry.bound_in(*ns).next().is_none();
        let empty: Vec<NsCookie> =
            self.pipeline.strangers().keys().copied().filter(is_empty).collect();
        for ns in empty {
            self.pipeline.strangers().remove(&ns);
            if registry.zone_of_ns(ns).is_none() {
                self.pipeline.kernel.unwatch(ns).await;
            }
        }
    }

    /// A namespace that was no zone is dead.
    async fn forget_stranger(self: &Arc<Self>, ns: NsCookie) {
        self.follow_planned(|registry| plan_space_lost(registry, ns)).await;
        self.pipeline.strangers().remove(&ns);
        self.pipeline.kernel.unwatch(ns).await;
        self.remake_lost_links().await;
    }

    /// A namespace is dead: so is its zone.
    pub fn namespace_died(self: &Arc<Self>, ns: NsCookie) {
        if self.pipeline.strangers().contains_key(&ns) {
            let keeper = self.clone();
            tokio::spawn(async move { keeper.forget_stranger(ns).await });
        }
        if let Some(death) = self.deaths().get(&ns) {
            death.send_replace(true);
        }
        if let Some(zone) = self.pipeline.registry().zone_of_ns(ns) {
            // Only a zone without a source that watches it is told of here.
            let _ = self.sources.remove(&self.pipeline.registry().zone_label(zone));
            let keeper = self.clone();
            tokio::spawn(async move { keeper.end_zone(zone, ns).await });
        }
    }

    /// Ends a zone while it is that namespace: its loans come home first, then the namespace is let
    /// go. Another one of the name, which came up meanwhile, is left alone.
    pub async fn end_zone(self: &Arc<Self>, zone: ZoneId, ns: NsCookie) {
        self.take_down(zone, ns).await;
        crash::point("zone_end.before_remake");
        self.remake_lost_links().await;
    }

    async fn take_down(&self, zone: ZoneId, ns: NsCookie) {
        let gate = self.enter(zone).await;
        let registry = self.pipeline.registry();
        if registry.zone_of_ns(ns) != Some(zone) {
            return;
        }
        self.participants.expect(zone);
        self.pipeline.commit_plan(&plan_zone_ending(&registry, zone));
        self.began_to_end.notify_waiters();
        crash::point("zone_end.before_participants");
        let missing = self.participants.wait(zone).await;
        if missing > 0 {
            let name = registry.zone_label(zone);
            tracing::warn!(ZONE = name.as_str(), "zone {name} ends without {missing} participants");
        }
        self.pipeline.break_holds(zone);
        crash::point("zone_end.before_loans");
        self.bring_loans_home(zone).await;
        crash::point("zone_end.before_unpin");
        self.pipeline.kernel.unpin(ns);
        self.pipeline.custody.let_go(&registry.zone_label(zone));
        // Nobody may be listening, which is fine.
        let _ = self.ended.send(ns);
        crash::point("zone_end.before_transient_links");
        self.end_transient_links(zone, ns).await;
        crash::point("zone_end.before_down");
        self.follow_planned(|registry| plan_zone_down(registry, zone)).await;
        crash::point("zone_end.before_unwatch");
        self.forget(ns).await;
        drop(gate);
        let name = registry.zone_label(zone);
        tracing::info!(ZONE = name.as_str(), "zone {name} has ended");
    }

    async fn bring_loans_home(&self, zone: ZoneId) {
        let is_lent = |link: &Link| link.loan().is_some_and(|loan| loan.zone == zone);
        self.bring_all_home(|_, link| is_lent(link)).await;
    }

    /// Brings home what is due. The last try does without what the kernel refuses to restore: else
    /// the link would go down with its namespace.
    async fn bring_all_home(&self, is_due: impl Fn(&Registry, &Link) -> bool + Send + Sync) {
        let registry = self.pipeline.registry();
        for link in registry.links().filter(|link| is_due(&registry, link)) {
            crash::point("zone_end.before_home_coming");
            let id = link.record.id;
            for tries_left in (0..TRIES).rev() {
                match self.bring_home(id, &is_due, tries_left == 0).await {
                    Ok(()) => break,
                    Err(why) => tracing::warn!(
                        LINKID = id.get(),
                        LINK = self.pipeline.label(id),
                        "cannot bring home yet: {why}"
                    ),
                }
            }
        }
    }

    /// Brings a link home, unless it is not due any more: somebody may have lent it on meanwhile.
    async fn bring_home(
        &self,
        id: LinkId,
        is_due: impl Fn(&Registry, &Link) -> bool + Send + Sync,
        is_lenient: bool,
    ) -> Result<()> {
        observer::refresh(&self.pipeline, id).await;
        let (plan, _perimeter) = self
            .pipeline
            .plan_inside(|registry, _| match registry.link(id) {
                Some(link) if is_due(registry, link) => {
                    let plan = plan_home_coming(registry, link, true)?;
                    Ok(Plan { stored: Stored::Eventually, is_lenient, ..plan })
                }
                _ => Ok(Plan::default()),
            })
            .await?;
        let result = self.pipeline.carry_out(plan).await;
        if result.is_err() {
            // Who took its name at home is looked at, so that the next try gives it another one.
            let home = self.pipeline.kernel.home();
            drop(_perimeter);
            observer::reconcile(&self.pipeline, home, Glance::whole()).await;
        }
        result.map(drop)
    }

    /// What is transient in the zone ends with it, also where the namespace lives on and where it was
    /// lent to another zone.
    async fn end_transient_links(&self, zone: ZoneId, ns: NsCookie) {
        let registry = self.pipeline.registry();
        let is_transient = |link: &&Arc<Link>| {
            link.record.lifetime == Lifetime::Transient && link.record.owner == zone
        };
        let transient: Vec<&Arc<Link>> = registry.links().filter(is_transient).collect();
        let is_inside = |link: &Link| link.binding().is_some_and(|at| at.ns == ns);
        let dies = transient.iter().any(|link| is_inside(link)) && self.dies_by_itself(ns).await;
        for link in transient {
            self.end_transient_link(link.record.id, ns, dies).await;
        }
    }

    /// Somebody may be lending it on at this moment: it ends where it gets.
    async fn end_transient_link(&self, id: LinkId, ns: NsCookie, dies: bool) {
        let _perimeter = self.pipeline.perimeters.enter([Key::Link(id)].into()).await;
        let at = self.pipeline.registry().link(id).and_then(|link| link.binding());
        let Some(at) = at.filter(|at| at.ns != ns || !dies) else { return };
        crash::point("zone_end.before_delete");
        let delete = Step { at, action: Action::Delete };
        if let Err(why) = self.pipeline.kernel.apply(&delete).await {
            // Its peer took it along, or the namespace is gone after all.
            tracing::debug!("a transient link was not deleted: {why}");
        }
    }

    async fn dies_by_itself(&self, ns: NsCookie) -> bool {
        let Some(mut death) = self.deaths().get(&ns).map(watch::Sender::subscribe) else {
            return true;
        };
        tokio::time::timeout(DYING, death.wait_for(|is_dead| *is_dead)).await.is_ok()
    }

    /// Brings the registry to what has happened already and cannot be refused. What it knows no more
    /// is looked for where it was: others may have taken it out of a zone at the very end, and then
    /// it is theirs.
    async fn follow_planned(&self, plan: impl Fn(&Registry) -> Plan + Send + Sync) {
        match self.pipeline.plan_inside(|registry, _| Ok(plan(registry))).await {
            Ok((_, _perimeter)) => {
                // A look that began before may have found more meanwhile, in nobody's perimeter.
                let _alone = self.pipeline.looks.lock().await;
                let before = self.pipeline.registry();
                let plan = plan(&before);
                let places: Vec<Binding> =
                    ends(&plan).filter_map(|id| before.link(id)?.binding()).collect();
                self.pipeline.follow(plan).await;
                let seen = places.into_iter().filter(|at| self.pipeline.is_watched(at.ns));
                seen.for_each(|at| self.pipeline.kernel.hints().push(at, Hint::default()));
            }
            Err(why) => tracing::error!("what has happened cannot be followed: {why}"),
        }
    }

    /// What the daemon's absence left behind: links of namespaces that are no zones any more,
    /// deletions that were begun, links that a reboot or a dead namespace took, loans of zones
    /// that ended meanwhile, and links that were on their way from one zone to another.
    pub async fn finish_start(self: &Arc<Self>) {
        self.follow_planned(plan_forget_lost).await;
        self.delete_the_ending().await;
        self.remake_lost_links().await;
        self.bring_all_home(is_overdue).await;
        let registry = self.pipeline.registry();
        let zones = registry.zones().map(|zone| zone.record.id);
        for zone in zones.filter(|zone| !waiting_for(&registry, *zone).is_empty()) {
            self.send_loans(zone).await;
        }
    }

    /// Deletions that were begun are done.
    async fn delete_the_ending(&self) {
        let registry = self.pipeline.registry();
        let is_ending = |link: &&Arc<Link>| link.record.lifetime == Lifetime::Ending;
        for id in registry.links().filter(is_ending).map(|link| link.record.id) {
            if let Err(why) = self.delete(id).await {
                tracing::warn!(
                    LINKID = id.get(),
                    LINK = self.pipeline.label(id),
                    "a link is not deleted: {why}"
                );
            }
        }
    }

    async fn delete(&self, id: LinkId) -> Result<()> {
        let (plan, _perimeter) = self
            .pipeline
            .plan_inside(|registry, _| match registry.link(id) {
                Some(link) => Ok(plan_end(registry, link)),
                // The other end of a pair took it along.
                None => Ok(Plan::default()),
            })
            .await?;
        self.pipeline.carry_out(plan).await.map(drop)
    }

    /// Persistent virtual links of ours that went down with a namespace are made again at home.
    pub async fn remake_lost_links(self: &Arc<Self>) {
        let registry = self.pipeline.registry();
        let is_lost = |link: &&Arc<Link>| {
            link.record.recipe.is_some() && is_kept(link) && is_incomplete(&registry, link)
        };
        self.owed().extend(registry.links().filter(is_lost).map(|link| link.record.id));
        self.remake_owed_links().await;
    }

    /// Whether links are to be made again as soon as that is possible.
    pub fn owes_links(&self) -> bool {
        !self.owed().is_empty()
    }

    /// Makes those of them again for which it is possible now: the other end of a pair may not have
    /// ended yet, or a lower link be absent. What was made may be the lower link of others, in
    /// whatever order they have their ids.
    pub async fn remake_owed_links(self: &Arc<Self>) {
        let registry = self.pipeline.registry();
        loop {
            let owed = std::mem::take(&mut *self.owed());
            let mut has_made_one = false;
            for id in owed {
                has_made_one |= self.remake(id).await;
            }
            if !has_made_one {
                break;
            }
        }
        self.send_those_back(&registry);
    }

    /// Links that became active at home since `before` go where they are lent to, in their own time.
    pub fn send_those_back(self: &Arc<Self>, before: &Registry) {
        for zone in lent_and_home_again(before, &self.pipeline.registry()) {
            let keeper = self.clone();
            tokio::spawn(async move { keeper.send_loans(zone).await });
        }
    }

    /// Links that others of ours lie over, or have as ports, came back: so may the others.
    pub fn owe_those_over(&self, returned: impl Iterator<Item = LinkId>) {
        let registry = self.pipeline.registry();
        for upper in returned.flat_map(|id| registry.made_over(id)) {
            if is_kept(upper) && is_incomplete(&registry, upper) {
                self.owed().insert(upper.record.id);
            }
        }
    }

    /// Whether it is there again.
    async fn remake(&self, id: LinkId) -> bool {
        crash::point("remake.before_link");
        let prepare =
            |registry: &Registry, _: &mut _| Ok(plan_remake(registry, id).unwrap_or_default());
        let made = match self.pipeline.plan_inside(prepare).await {
            Ok((plan, _perimeter)) if !plan.changes.is_empty() => {
                self.pipeline.carry_out(plan).await
            }
            Ok(_) => {
                self.owe(id);
                return false;
            }
            Err(why) => Err(why),
        };
        match &made {
            Ok(_) => {
                tracing::info!(
                    LINKID = id.get(),
                    LINK = self.pipeline.label(id),
                    "a lost link is made again"
                );
                self.owe(id);
            }
            Err(why) => tracing::warn!(
                LINKID = id.get(),
                LINK = self.pipeline.label(id),
                "a lost link is not made again: {why}"
            ),
        }
        made.is_ok()
    }

    /// What is still missing of it comes later.
    fn owe(&self, id: LinkId) {
        let registry = self.pipeline.registry();
        if registry.link(id).is_some_and(|link| is_incomplete(&registry, link)) {
            self.owed().insert(id);
        }
    }

    fn late(&self) -> MutexGuard<'_, BTreeSet<LinkId>> {
        // Every statement leaves the set whole, so a poisoned lock does no harm.
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owed(&self) -> MutexGuard<'_, BTreeSet<LinkId>> {
        // Every statement leaves the set whole, so a poisoned lock does no harm.
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget(&self, ns: NsCookie) {
        self.deaths().remove(&ns);
        self.pipeline.kernel.unwatch(ns).await;
    }

    fn deaths(&self) -> MutexGuard<'_, BTreeMap<NsCookie, watch::Sender<bool>>> {
        // Every statement leaves the map whole, so a poisoned lock does no harm.
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to one name, or to one namespace, happens in order, and holds up no other.
#[derive(Default)]
struct Turns {
    by_name: BTreeMap<ZoneName, Turn>,
    by_ns: BTreeMap<NsCookie, Turn>,
}

/// Closes when the turn is over.
type Turn = watch::Receiver<()>;

impl Turns {
    fn spawn(
        &mut self,
        name: ZoneName,
        ns: NsCookie,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.by_name.retain(|_, turn| is_on(turn));
        self.by_ns.retain(|_, turn| is_on(turn));
        let (on, turn) = watch::channel(());
        let earlier = [self.by_name.insert(name, turn.clone()), self.by_ns.insert(ns, turn)];
        tokio::spawn(async move {
            for turn in earlier.into_iter().flatten() {
                over(turn).await;
            }
            work.await;
            drop(on);
        });
    }

    async fn all_done(&mut self) {
        for (_, turn) in std::mem::take(&mut self.by_name) {
            over(turn).await;
        }
    }
}

fn is_on(turn: &Turn) -> bool {
    turn.has_changed().is_ok()
}

async fn over(mut turn: Turn) {
    // Nothing is ever sent: the channel's end is the signal.
    while turn.changed().await.is_ok() {}
}

/// While this lives, zones do not come, go or get numbers: see [`ZoneKeeper::keep_still`].
pub struct Still<'a> {
    _gates: Perimeter,
    _birth: tokio::sync::MutexGuard<'a, ()>,
}

/// Links that are to go to a zone that is up.
fn waiting_for(registry: &Registry, zone: ZoneId) -> Vec<LinkId> {
    let up = registry.zone(zone).and_then(|zone| zone.up.as_ref());
    let Some(ns) = up.map(|up| up.ns) else { return Vec::new() };
    let is_waiting =
        |link: &&Arc<Link>| link.kernel.is_some() && !link.is_lent() && link.is_for(ns);
    registry.lent_to(zone).filter(is_waiting).map(|link| link.record.id).collect()
}

/// Tries to send a loan until that is done, or not to be done any more.
async fn send_when_possible(keeper: Weak<ZoneKeeper>, id: LinkId, zone: ZoneId) {
    loop {
        tokio::time::sleep(RETRY).await;
        let Some(keeper) = keeper.upgrade() else { return };
        let _gate = keeper.enter(zone).await;
        let is_waiting = waiting_for(&keeper.pipeline.registry(), zone).contains(&id);
        if !is_waiting || keeper.send_loan(id, zone).await.is_ok() {
            keeper.late().remove(&id);
            return;
        }
    }
}

/// Whether a link of ours is to be as its record says: while it is there, or for good.
fn is_kept(link: &Link) -> bool {
    link.kernel.is_some() || link.record.lifetime == Lifetime::Persistent
}

/// Zones to which links are lent that became active, at home, between two moments.
fn lent_and_home_again(before: &Registry, after: &Registry) -> BTreeSet<ZoneId> {
    let was_absent = |id| before.link(id).is_none_or(|link| link.kernel.is_none());
    let is_up = |zone| after.zone(zone).is_some_and(|zone| zone.up.is_some());
    let returned = after
        .come_or_moved_since(before)
        .filter(|link| link.is_at_home() && was_absent(link.record.id));
    returned.filter_map(|link| Some(link.loan()?.zone)).filter(|zone| is_up(*zone)).collect()
}

fn refuse_known_name(registry: &Registry, name: &ZoneName) -> Result<()> {
    if name.is_global() {
        let text = "`global` is the zone of dlmgmtd itself";
        return Err(Error::new(ErrorCode::Exists, text));
    }
    let known = registry.zone_by_name(name).and_then(|id| registry.zone(id));
    if known.is_some_and(|zone| zone.up.is_some()) {
        return Err(Error::new(ErrorCode::Exists, format!("zone {name} is up already")));
    }
    Ok(())
}
