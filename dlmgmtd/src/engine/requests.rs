//! The engine as its faces see it: every request of SPEC.md section 8.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::door::{
    AttachZone, ChangePorts, Changed, Created, DeleteLink, DeletePhys, DetachZone, Details,
    GetAttribute, GetDetails, GetLink, GetLinkId, GetName, LinkFilter, ListProperties, MakeLink,
    Named, Reclaim, Rename, RenameItem, ResetProperties, ResetZone, SetProperties, SetZone,
    Subscribe, Where,
};
use dlmgmt_proto::kind::{LinkKind, LinkOptions};
use dlmgmt_proto::property::{Assignment, Property, PropertyInfo};
use dlmgmt_proto::{
    Error, ErrorCode, Event, Generation, LinkId, LinkInfo, LinkName, LinkRef, Result, Seq,
    SequencedEvent, Whereabouts, ZoneId, ZoneInfo, ZoneName, ZoneState,
};

use super::details;
use super::hub::Subscription;
use super::observer;
use super::participants::Participant;
use super::perimeter::{Key, Perimeter};
use super::pipeline::Pipeline;
use super::{Caller, Engine, EventStream, HoldGuard, Service, Snapshot};
use crate::auth::{Action, authorise};
use crate::begun::{Begun, begin};
use crate::core::{
    Asked, Document, HoldNumber, Holder, Lend, LinkIds, Make, Plan, PortChange, Recall, Registry,
    Resetting, Scope, Setting, describe_properties, describe_to, describe_zone, export, is_shown,
    known_virtual_links, links_to_change, links_to_lend, plan_change_ports, plan_delete,
    plan_delete_phys, plan_import, plan_lend, plan_make, plan_recall, plan_rename,
    plan_reset_properties, plan_set_properties, refuse_ending, refuse_stale, resolve, veiled,
    visible_zone, zone_named,
};
use crate::model::{Lifetime, Link, Readings, Zone};
use crate::zones::{Found, SourceError, ZoneSources};

impl Engine {
    /// Plans and carries out a change to its end, also when nobody waits for it any more.
    async fn change(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync + 'static,
    ) -> Result<Changed> {
        let (seq, _) = self.make(prepare).await?;
        Ok(Changed { seq })
    }

    /// As [`Engine::change`], and tells which links were made.
    async fn make(
        &self,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync + 'static,
    ) -> Result<(Seq, Vec<LinkId>)> {
        let pipeline = self.pipeline.clone();
        let in_progress = pipeline.store.begin();
        let change = begin(async move {
            let (plan, perimeter) = loop {
                let (plan, perimeter) = pipeline.plan_unless_store_fails(&prepare).await?;
                let Some(id) = pipeline.first_mistaken(&plan).await else {
                    break (plan, perimeter);
                };
                drop(perimeter);
                observer::refresh(&pipeline, id).await;
            };
            let made = plan.create.as_ref().map_or_else(Vec::new, |creation| creation.ids.clone());
            let seq = pipeline.carry_out_inside(plan, perimeter).await?;
            drop(in_progress);
            Ok((seq, made))
        });
        match change {
            Begun::Ended(changed) => changed,
            Begun::Waits(rest) => tokio::spawn(rest).await.unwrap_or_else(|_| Err(going_down())),
        }
    }

    /// As [`Engine::change`], and the next one has its turn when it is done.
    async fn change_in_turn(
        &self,
        turn: Perimeter,
        prepare: impl Fn(&Registry, &mut LinkIds) -> Result<Plan> + Send + Sync + 'static,
    ) -> Result<Changed> {
        let prepare = move |registry: &Registry, ids: &mut LinkIds| {
            let _until_the_end = &turn;
            prepare(registry, ids)
        };
        self.change(prepare).await
    }
}

#[async_trait]
impl Service for Engine {
    fn zone_name(&self, zone: ZoneId) -> Option<ZoneName> {
        self.pipeline.registry().zone_name(zone)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.pipeline.registry()
    }

    fn get_linkid(&self, caller: &Caller, call: &GetLinkId) -> Result<LinkId> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        Ok(resolve(&registry, scope, &call.link)?.record.id)
    }

    fn get_name(&self, caller: &Caller, call: &GetName) -> Result<Named> {
        let LinkInfo { zone, name, .. } = self.look_up(caller, &LinkRef::Id(call.id))?;
        Ok(Named { zone, name })
    }

    fn get_link(&self, caller: &Caller, call: &GetLink) -> Result<LinkInfo> {
        self.look_up(caller, &call.link)
    }

    fn get_attribute(&self, caller: &Caller, call: &GetAttribute) -> Result<String> {
        let link = self.look_up(caller, &call.link)?;
        link.attribute(&call.attribute).ok_or_else(|| {
            let text = format!("{}: no attribute {}", link.name, quotable(&call.attribute));
            Error::new(ErrorCode::Invalid, text)
        })
    }

    async fn get_details(&self, caller: &Caller, call: GetDetails) -> Result<Details> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        details::details(&*self.pipeline.kernel, &registry, scope, &call).await
    }

    async fn rename(&self, caller: &Caller, call: Rename) -> Result<Changed> {
        let scope = authorise(caller, Action::Rename)?;
        let items = call.items.iter().map(checked).collect::<Result<Vec<_>>>()?;
        let before = self.pipeline.registry();
        let changed = self.change(move |registry, _| {
            let known = |(link, to): &(LinkRef, LinkName)| {
                Ok((resolve(registry, scope, link)?.record.id, *to))
            };
            plan_rename(registry, &items.iter().map(known).collect::<Result<Vec<_>>>()?)
        });
        let changed = changed.await?;
        // What took over the record of a link is lent where that was.
        self.zones.send_those_back(&before);
        Ok(changed)
    }

    async fn delete_phys(&self, caller: &Caller, call: DeletePhys) -> Result<Changed> {
        let scope = authorise(caller, Action::DeletePhys)?;
        self.change(move |registry, _| {
            plan_delete_phys(registry, resolve(registry, scope, &call.link)?.record.id)
        })
        .await
    }

    async fn set_zone(&self, caller: &Caller, call: SetZone) -> Result<Changed> {
        let scope = authorise(caller, Action::Lend)?;
        let link = resolve(&self.pipeline.registry(), scope, &call.link)?.clone();
        let id = link.record.id;
        if self.pipeline.registry().zone_by_name(&call.zone) == Some(link.record.owner) {
            let SetZone { link, temporary, force, generation, .. } = call;
            return self.reset_zone(caller, ResetZone { link, temporary, force, generation }).await;
        }
        let name_inside = call.name_inside.as_deref().map(given).transpose()?;
        self.pipeline.refuse_if_read_only()?;
        let registry = self.pipeline.registry();
        let zone = zone_named(&registry, &call.zone);
        let is_new = registry.zone(zone.record.id).is_none();
        if is_new && call.temporary {
            return Err(Error::new(ErrorCode::NoZone, format!("no zone {}", call.zone)));
        }
        let mut lend = Lend {
            id,
            zone: zone.record.id,
            name_inside,
            is_persistent: !call.temporary,
            force: call.force,
            generation: call.generation,
        };
        if is_new {
            // A refused loan leaves no zone behind.
            plan_lend(&registry.with_zone(zone), &lend, &self.addresses_of(&link).await?)?;
            lend.zone = self.zones.ensure_zone(&call.zone).await?;
        }
        let gate = self.zones.enter_unless_ending([lend.zone].into()).await?;
        let addresses = self.addresses_of(&link).await?;
        let changed = self.change(move |registry, _| plan_lend(registry, &lend, &addresses)).await;
        drop(gate);
        changed
    }

    async fn reset_zone(&self, caller: &Caller, call: ResetZone) -> Result<Changed> {
        let scope = authorise(caller, Action::Lend)?;
        let link = resolve(&self.pipeline.registry(), scope, &call.link)?.clone();
        if link.loan().is_none() {
            refuse_stale(&self.pipeline.registry(), &link, call.generation)?;
            let text = format!("{} is not lent to a zone", call.link);
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        self.recall(&link, call.temporary, call.force, call.generation).await
    }

    async fn make_link(&self, caller: &Caller, call: MakeLink) -> Result<Created> {
        let scope = authorise(caller, Action::MakeInside)?;
        let quota = match scope.zone {
            ZoneId::GLOBAL => None,
            _ => Some(self.limits.load().transient_links),
        };
        let make = asked(&self.pipeline.registry(), scope, &call, quota)?;
        // These zones must not end in between.
        let zones = ending_zones(make.zone, make.peer);
        let gates = self.zones.enter_unless_ending(zones).await?;
        let plan = move |registry: &Registry, ids: &mut LinkIds| {
            plan_make(registry, ids, &asked(registry, scope, &call, quota)?)
        };
        let (seq, made) = self.make(plan).await?;
        drop(gates);
        let mut made = made.into_iter();
        #[expect(clippy::expect_used, reason = "each plan of `plan_make` makes a link")]
        let id = made.next().expect("a link was made");
        Ok(Created { id, peer: made.next(), seq })
    }

    async fn delete_link(&self, caller: &Caller, call: DeleteLink) -> Result<Changed> {
        let scope = authorise(caller, Action::MakeInside)?;
        let link = resolve(&self.pipeline.registry(), scope, &call.link)?.clone();
        let is_own = link.record.owner == scope.zone && link.record.lifetime == Lifetime::Transient;
        if !is_own {
            authorise(caller, Action::Make)?;
        }
        let (id, class) = (link.record.id, call.class);
        self.change(move |registry, _| plan_delete(registry, scope, id, class)).await
    }

    async fn change_ports(&self, caller: &Caller, call: ChangePorts) -> Result<Changed> {
        let scope = authorise(caller, Action::Make)?;
        self.change(move |registry, _| {
            let known = |link: &LinkRef| Ok(resolve(registry, scope, link)?.record.id);
            let change = PortChange {
                id: known(&call.link)?,
                class: call.class,
                add: call.add.iter().map(known).collect::<Result<_>>()?,
                remove: call.remove.iter().map(known).collect::<Result<_>>()?,
            };
            plan_change_ports(registry, &change)
        })
        .await
    }

    async fn whereabouts(&self, caller: &Caller, call: Where) -> Result<Whereabouts> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        let link = resolve(&registry, scope, &call.link)?;
        let stranger = link.binding().and_then(|at| self.pipeline.strangers().get(&at.ns).copied());
        Ok(Whereabouts {
            own_name: link.record.name,
            zone: link.place().map(|zone| registry.zone_label(zone)),
            nsid: stranger.map(|stranger| stranger.nsid),
            pid: stranger.and_then(|stranger| stranger.pid),
            assigned: link.loan().map(|loan| registry.zone_label(loan.zone)),
            link: describe_to(scope, &registry, link),
        })
    }

    async fn reclaim(&self, caller: &Caller, call: Reclaim) -> Result<Changed> {
        let scope = authorise(caller, Action::Reclaim)?;
        let link = resolve(&self.pipeline.registry(), scope, &call.link)?.clone();
        self.recall(&link, false, true, None).await
    }

    async fn list_properties(
        &self,
        caller: &Caller,
        call: ListProperties,
    ) -> Result<Vec<PropertyInfo>> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        let link = resolve(&registry, scope, &call.link)?;
        let mut link = Link::clone(link);
        if let Some(bound) = &mut link.kernel
            // The kernel does not tell of every change of what is shown here.
            && let Some(now) = self.pipeline.look_closely(bound.at()).await
        {
            bound.link = now.into();
        }
        describe_properties(&registry, &link, &call.names)
    }

    async fn set_properties(&self, caller: &Caller, call: SetProperties) -> Result<Changed> {
        if let [Assignment { property, value }] = call.values.as_slice()
            && is_zone(property)
        {
            let SetProperties { link, temporary, .. } = call;
            let zone = value.parse().map_err(|why| {
                let text = format!("{link}: zone: `{}`: {why}", quotable(value));
                Error::new(ErrorCode::Invalid, text)
            })?;
            let call = SetZone {
                link,
                zone,
                name_inside: None,
                temporary,
                force: false,
                generation: None,
            };
            return self.set_zone(caller, call).await;
        }
        let scope = authorise(caller, Action::SetProperties)?;
        let id = resolve(&self.pipeline.registry(), scope, &call.link)?.record.id;
        let wish = Setting { id, values: call.values, is_temporary: call.temporary };
        let (turn, asked) = self.have_a_turn(id).await?;
        self.change_in_turn(turn, move |registry, _| plan_set_properties(registry, &wish, &asked))
            .await
    }

    async fn reset_properties(&self, caller: &Caller, call: ResetProperties) -> Result<Changed> {
        if let [property] = call.names.as_slice()
            && is_zone(property)
        {
            let ResetProperties { link, temporary, .. } = call;
            let call = ResetZone { link, temporary, force: false, generation: None };
            return self.reset_zone(caller, call).await;
        }
        let scope = authorise(caller, Action::SetProperties)?;
        let id = resolve(&self.pipeline.registry(), scope, &call.link)?.record.id;
        let wish = Resetting { id, names: call.names, is_temporary: call.temporary };
        let (turn, asked) = self.have_a_turn(id).await?;
        self.change_in_turn(turn, move |registry, _| plan_reset_properties(registry, &wish, &asked))
            .await
    }

    fn list_zones(&self, caller: &Caller) -> Result<Vec<ZoneInfo>> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        let is_visible =
            |zone: &&Arc<Zone>| scope.sees_zone(zone.record.id) && is_shown(&registry, zone);
        Ok(registry.zones().filter(is_visible).map(|zone| describe_zone(&registry, zone)).collect())
    }

    async fn attach_zone(
        &self,
        caller: &Caller,
        call: AttachZone,
        descriptor: Option<OwnedFd>,
    ) -> Result<Changed> {
        authorise(caller, Action::ManageZones)?;
        let registry = self.pipeline.registry();
        let known = registry.zone_by_name(&call.zone);
        known.map_or(Ok(()), |zone| refuse_ending(&registry, zone))?;
        let sources = self.zones.sources.clone();
        let name = call.zone.clone();
        let found = tokio::task::spawn_blocking(move || find_zone(&sources, call, descriptor));
        let found = found.await.map_err(|_| going_down())?;
        let found = found.map_err(|why| {
            Error::new(code_of(&why), format!("zone {name} cannot be attached: {why}"))
        })?;
        if let Err(why) = self.zones.attach(found).await {
            // It may have ended by itself meanwhile, and then it is unknown already.
            let _ = self.zones.sources.remove(&name);
            return Err(why);
        }
        Ok(Changed { seq: self.pipeline.registry().seq() })
    }

    async fn detach_zone(&self, caller: &Caller, call: DetachZone) -> Result<Changed> {
        authorise(caller, Action::ManageZones)?;
        let registry = self.pipeline.registry();
        let (zone, ns) = registry
            .zone_by_name(&call.zone)
            .and_then(|zone| Some((zone, registry.zone(zone)?.up.as_ref()?.ns)))
            .ok_or_else(|| Error::new(ErrorCode::NoZone, format!("no zone {}", call.zone)))?;
        self.zones.sources.remove(&call.zone).map_err(|why| {
            let text = format!("zone {} cannot be detached: {why}", call.zone);
            Error::new(ErrorCode::Invalid, text)
        })?;
        self.zones.end_zone(zone, ns).await;
        Ok(Changed { seq: self.pipeline.registry().seq() })
    }

    async fn open_zone(&self, caller: &Caller, zone: &ZoneName) -> Result<OwnedFd> {
        authorise(caller, Action::ManageZones)?;
        let registry = self.pipeline.registry();
        let up = registry.zone_by_name(zone).and_then(|id| registry.zone(id)?.up.clone());
        let up = up.ok_or_else(|| Error::new(ErrorCode::NoZone, format!("no zone {zone}")))?;
        self.pipeline
            .kernel
            .open(up.ns)
            .await
            .map_err(|why| Error::kernel(why.errno, format!("zone {zone} cannot be opened: {why}")))
    }

    async fn hold(&self, caller: &Caller, link: LinkRef) -> Result<Box<dyn HoldGuard>> {
        let scope = authorise(caller, Action::Hold)?;
        let registry = self.pipeline.registry();
        let found = resolve(&registry, scope, &link)?;
        refuse_in_ending_zone(&registry, found)?;
        let id = found.record.id;
        let _perimeter = self.pipeline.perimeters.enter([Key::Link(id)].into()).await;
        let registry = self.pipeline.registry();
        refuse_in_ending_zone(&registry, resolve(&registry, scope, &LinkRef::Id(id))?)?;
        let number = self.pipeline.next_hold();
        let holder = Holder::new(caller.clone());
        self.pipeline.commit_with(|registry| (registry.with_hold(id, number, holder), [id].into()));
        Ok(Box::new(Held { pipeline: self.pipeline.clone(), id, number }))
    }

    fn subscribe(&self, caller: &Caller, call: &Subscribe) -> Result<(Seq, Box<dyn EventStream>)> {
        let scope = authorise(caller, Action::See)?;
        if call.snapshot && call.since.is_some() {
            let text = "a subscription begins with a snapshot or after a number, not with both";
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        let part = if call.participant {
            authorise(caller, Action::Participate)?;
            Some(self.zones.participants.join())
        } else {
            None
        };
        let hub = &self.pipeline.hub;
        self.pipeline.at_rest(|registry| {
            let seq = registry.seq();
            let mut past = match call.since {
                Some(since) => hub
                    .history_after(since)
                    .unwrap_or_else(|| vec![SequencedEvent { seq, event: Event::Resync }]),
                None if call.snapshot => told_snapshot(registry, scope)?,
                None => Vec::new(),
            };
            if part.is_some() {
                past.splice(0..0, told_zones(registry));
            }
            let zone = registry.zone_label(scope.zone);
            let visible = VisibleEvents { scope, zone: zone.clone() };
            let stream = hub.subscribe(past, Box::new(move |event| visible.sees(event)));
            let told: Box<dyn EventStream> = Box::new(Told { stream, part, zone });
            Ok((seq, told))
        })
    }

    async fn export(&self, caller: &Caller) -> Result<Vec<u8>> {
        authorise(caller, Action::Export)?;
        export(&self.pipeline.registry())
    }

    async fn import(&self, caller: &Caller, text: Vec<u8>) -> Result<Changed> {
        authorise(caller, Action::Import)?;
        let document = Document::parse(&text)?;
        let zones = document.zones_lent_to();
        let still = self.zones.keep_still(&zones).await;
        let known = known_virtual_links(&self.pipeline.registry(), &document);
        let turn = self.pipeline.turns.enter(known.into_iter().map(Key::Link).collect()).await;
        let asked = self.asked_for(&document).await?;
        let changed = self
            .change_in_turn(turn, move |registry, ids| {
                plan_import(registry, ids, &document, &asked)
            })
            .await?;
        drop(still);
        self.zones.remake_lost_links().await;
        Ok(changed)
    }
}

impl Engine {
    fn look_up(&self, caller: &Caller, link: &LinkRef) -> Result<LinkInfo> {
        let scope = authorise(caller, Action::See)?;
        let registry = self.pipeline.registry();
        Ok(describe_to(scope, &registry, resolve(&registry, scope, link)?))
    }
}

impl Engine {
    /// A link that has just gone has no addresses; the plan will find out where it is.
    async fn addresses_of(&self, link: &Link) -> Result<Vec<String>> {
        let Some(at) = link.binding() else { return Ok(Vec::new()) };
        match self.pipeline.kernel.addresses(at).await {
            Ok(addresses) => Ok(addresses),
            Err(why) if why.is_no_namespace() || why.is_no_link() => Ok(Vec::new()),
            Err(why) => {
                let name = link.record.name;
                let text = format!("the addresses of {name} cannot be read: {why}");
                Err(Error::kernel(why.errno, text))
            }
        }
    }

    /// What an import must know that links are not followed by.
    async fn asked_for(&self, document: &Document) -> Result<Asked> {
        let mut asked = Asked::default();
        let registry = self.pipeline.registry();
        for id in links_to_lend(&registry, document) {
            if let Some(link) = registry.link(id) {
                asked.addresses.insert(id, self.addresses_of(link).await?);
            }
        }
        for id in links_to_change(&registry, document) {
            asked.readings.insert(id, self.readings_of(id).await?);
        }
        Ok(asked)
    }

    /// Waits until nobody else changes properties of a link, and reads those that it is not followed
    /// by.
    async fn have_a_turn(&self, id: LinkId) -> Result<(Perimeter, Readings)> {
        let turn = self.pipeline.turns.enter([Key::Link(id)].into()).await;
        observer::refresh(&self.pipeline, id).await;
        Ok((turn, self.readings_of(id).await?))
    }

    /// What of a link's properties it is not followed by.
    async fn readings_of(&self, id: LinkId) -> Result<Readings> {
        let registry = self.pipeline.registry();
        let Some(at) = registry.link(id).and_then(|link| link.binding()) else {
            return Ok(Readings::default());
        };
        match self.pipeline.kernel.readings(at).await {
            Ok(readings) => Ok(readings),
            Err(why) if why.is_no_namespace() || why.is_no_link() => Ok(Readings::default()),
            Err(why) => {
                let link = registry.label(id);
                let text = format!("the properties of {link} cannot be read: {why}");
                Err(Error::kernel(why.errno, text))
            }
        }
    }

    async fn recall(
        &self,
        link: &Link,
        keeps_loan: bool,
        force: bool,
        generation: Option<Generation>,
    ) -> Result<Changed> {
        observer::refresh(&self.pipeline, link.record.id).await;
        let recall = Recall { id: link.record.id, keeps_loan, force, generation };
        let addresses = self.addresses_of(link).await?;
        self.change(move |registry, _| plan_recall(registry, &recall, &addresses)).await
    }
}

/// What a caller asks to make.
fn asked(registry: &Registry, scope: Scope, call: &MakeLink, quota: Option<usize>) -> Result<Make> {
    let zone_of = |name: &Option<ZoneName>| match name {
        Some(name) => visible_zone(registry, scope, name),
        None => Ok(scope.zone),
    };
    let link = |link: &LinkRef| Ok(resolve(registry, scope, link)?.record.id);
    let (zone, name) = (zone_of(&call.zone)?, given(&call.name)?);
    let peer = call.peer.as_ref().map(|peer| Ok((zone_of(&peer.zone)?, given(&peer.name)?)));
    let peer = peer.transpose()?;
    Ok(Make {
        zone,
        name,
        lifetime: lifetime(call.temporary, &ending_zones(zone, peer), name)?,
        settings: settings(call)?,
        over: call.over.as_ref().map(link).transpose()?,
        peer,
        ports: call.ports.iter().map(link).collect::<Result<_>>()?,
        quota,
    })
}

/// A pair ends with the zone of either end, so both ends have one lifetime.
fn lifetime(is_temporary: bool, zones: &BTreeSet<ZoneId>, name: LinkName) -> Result<Lifetime> {
    match (is_temporary, zones.is_empty()) {
        (true, true) => Ok(Lifetime::Temporary),
        (true, false) => Ok(Lifetime::Transient),
        (false, true) => Ok(Lifetime::Persistent),
        (false, false) => {
            let why = "a link made in a zone is temporary; make it in global and lend it";
            Err(Error::new(ErrorCode::Invalid, format!("{name}: {why}")))
        }
    }
}

fn settings(call: &MakeLink) -> Result<LinkOptions> {
    let unknown = || {
        let text = format!("links of kind {} cannot be made", quotable(&call.kind));
        Error::new(ErrorCode::NotSupported, text)
    };
    let kind = LinkKind::named(&call.kind).ok_or_else(unknown)?;
    let options = call.options.iter().map(|option| (option.name.as_str(), option.value.as_str()));
    LinkOptions::parse(kind, options, call.over.is_some())
        .map_err(|why| Error::new(ErrorCode::Invalid, format!("{}: {why}", quotable(&call.name))))
}

/// The zones with which a link and its peer end; `global` never does.
fn ending_zones(zone: ZoneId, peer: Option<(ZoneId, LinkName)>) -> BTreeSet<ZoneId> {
    let zones = peer.map(|(zone, _)| zone).into_iter().chain([zone]);
    zones.filter(|zone| *zone != ZoneId::GLOBAL).collect()
}

fn find_zone(
    sources: &ZoneSources,
    call: AttachZone,
    descriptor: Option<OwnedFd>,
) -> std::result::Result<Found, SourceError> {
    let AttachZone { zone, pid, path } = call;
    match (descriptor, pid, path) {
        (Some(pidfd), Some(_), _) => sources.add_pidfd(&zone, pidfd),
        (None, Some(pid), _) => sources.add_process(&zone, pid),
        (None, None, Some(path)) => sources.add_path(&zone, path.into()),
        (Some(ns), None, Some(path)) => sources.add_opened(&zone, ns, path.into()),
        (Some(ns), None, None) => sources.add_descriptor(&zone, ns),
        (None, None, None) => Err(SourceError::NotMounted),
    }
}

fn code_of(why: &SourceError) -> ErrorCode {
    match why {
        SourceError::NameTaken(_) | SourceError::SameNamespace(_) => ErrorCode::Exists,
        SourceError::Ending(_) => ErrorCode::ShuttingDown,
        SourceError::TooMany(_) => ErrorCode::Quota,
        _ => ErrorCode::Invalid,
    }
}

fn told_zones(registry: &Registry) -> Vec<SequencedEvent> {
    let seq = registry.seq();
    let up = registry.zones().filter(|zone| zone.up.is_some() && zone.record.id != ZoneId::GLOBAL);
    up.map(|zone| {
        let info = describe_zone(registry, zone);
        let is_ending = info.state == ZoneState::ShuttingDown;
        let event = if is_ending { Event::ZoneShuttingDown(info) } else { Event::ZoneReady(info) };
        SequencedEvent { seq, event }
    })
    .collect()
}

/// The events that a subscriber may see.
struct VisibleEvents {
    scope: Scope,
    zone: ZoneName,
}

impl VisibleEvents {
    fn sees(&self, event: &Event) -> bool {
        if self.scope.zone == ZoneId::GLOBAL {
            return true;
        }
        let is_own = |link: &LinkInfo| link.zone == self.zone || link.owner == self.zone;
        match event {
            Event::Snapshot(link)
            | Event::Added(link)
            | Event::Renamed { link, .. }
            | Event::Changed(link)
            | Event::Removed(link) => is_own(link),
            Event::Moved { from, link } => *from == self.zone || is_own(link),
            Event::State { zone, .. }
            | Event::Gone { zone, .. }
            | Event::HoldBroken { zone, .. }
            | Event::Detaching { zone, .. } => *zone == self.zone,
            Event::ZoneReady(zone) | Event::ZoneShuttingDown(zone) => zone.name == self.zone,
            Event::ZoneGone { name, .. } => *name == self.zone,
            Event::SnapshotEnd | Event::Lost { .. } | Event::Resync => true,
        }
    }
}

/// A subscription as its subscriber gets it.
struct Told {
    stream: Subscription,
    part: Option<Participant>,
    zone: ZoneName,
}

#[async_trait]
impl EventStream for Told {
    async fn next(&mut self) -> Option<SequencedEvent> {
        let SequencedEvent { seq, event } = self.stream.next().await?;
        let veiled = |link| veiled(&self.zone, link);
        let event = match event {
            Event::Snapshot(link) => Event::Snapshot(veiled(link)),
            Event::Added(link) => Event::Added(veiled(link)),
            Event::Renamed { from, link } => Event::Renamed { from, link: veiled(link) },
            Event::Moved { from, link } => Event::Moved { from, link: veiled(link) },
            Event::Changed(link) => Event::Changed(veiled(link)),
            Event::Removed(link) => Event::Removed(veiled(link)),
            other => other,
        };
        Some(SequencedEvent { seq, event })
    }

    fn acknowledge(&self, zone: ZoneId) -> Result<()> {
        let none = || Error::new(ErrorCode::Invalid, "the subscription takes no part in zone ends");
        let part = self.part.as_ref().ok_or_else(none)?;
        if part.acknowledge(zone) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::Stale, format!("zone {zone} does not wait for it")))
    }
}

impl Snapshot for Registry {
    fn seq(&self) -> Seq {
        self.seq()
    }

    fn next(
        &self,
        caller: &Caller,
        filter: &LinkFilter,
        after: Option<LinkId>,
    ) -> Result<Option<LinkInfo>> {
        self.next_link(authorise(caller, Action::See)?, filter, after)
    }
}

/// The new name of a rename.
fn checked(item: &RenameItem) -> Result<(LinkRef, LinkName)> {
    let name = given(&item.to).map_err(|why| {
        Error::new(ErrorCode::Invalid, format!("{} cannot be renamed: {why}", item.link))
    })?;
    Ok((item.link.clone(), name))
}

/// To set that property is to lend the link.
pub(crate) fn is_zone(property: &str) -> bool {
    Property::named(property) == Some(Property::Zone)
}

/// A name that a user gives, by the rules of SPEC.md section 4.
fn given(name: &str) -> Result<LinkName> {
    LinkName::given(name).map_err(|why| {
        Error::new(ErrorCode::Invalid, format!("`{}` is no link name: {why}", quotable(name)))
    })
}

/// What a request comes to whose task ends with the daemon.
pub(crate) fn going_down() -> Error {
    Error::new(ErrorCode::ShuttingDown, "dlmgmtd is going down")
}

/// A caller's text as a message can hold it: printable, and not longer than a line.
pub(super) fn quotable(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut quoted: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        quoted.push_str("...");
    }
    quoted
}

fn told_snapshot(registry: &Registry, scope: Scope) -> Result<Vec<SequencedEvent>> {
    let seq = registry.seq();
    let everything = LinkFilter::everything();
    let mut told = Vec::new();
    let mut after = None;
    while let Some(link) = registry.next_link(scope, &everything, after)? {
        after = Some(link.id);
        told.push(SequencedEvent { seq, event: Event::Snapshot(link) });
    }
    told.push(SequencedEvent { seq, event: Event::SnapshotEnd });
    Ok(told)
}

/// A zone's end overrides holds, so it is no time for new ones.
fn refuse_in_ending_zone(registry: &Registry, link: &Link) -> Result<()> {
    let Some(zone) = link.place() else { return Ok(()) };
    refuse_ending(registry, zone).map_err(|why| {
        let text = format!("{} cannot be held: {}", registry.shown_name(link), why.message);
        Error { message: text, ..why }
    })
}

/// A hold; it ends when this is dropped.
struct Held {
    pipeline: Arc<Pipeline>,
    id: LinkId,
    number: HoldNumber,
}

impl HoldGuard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let ids = BTreeSet::from([self.id]);
        self.pipeline.commit_with(|registry| (registry.without_hold(self.id, self.number), ids));
    }
}
