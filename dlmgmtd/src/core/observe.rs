//! What follows from what the kernel shows: SPEC.md sections 5 and 7, rules 3.2, 3.5 and 3.8.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlmgmt_proto::{Generation, IfIndex, LinkClass, LinkId, LinkName, LinkState, Result, ZoneId};

use super::options::wanted_options;
use super::phys::{Device, match_devices};
use super::plan::{LinkChange, LinkIds, Plan};
use super::registry::Registry;
use super::rename::{Move, kernel_steps};
use crate::model::{
    Anchor, Binding, Bound, KernelLink, Lifetime, Link, LinkRecord, Location, NsCookie, Origin,
};

/// What was read from one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The namespace.
    pub ns: NsCookie,
    /// Whether this is all that the namespace has; otherwise only these indexes were looked at.
    pub is_whole: bool,
    /// What was seen.
    pub seen: Vec<Sighting>,
    /// Links that are left as they are: they are just being changed.
    pub spared: BTreeSet<LinkId>,
}

/// One index of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The index that was looked at.
    pub ifindex: IfIndex,
    /// What is there.
    pub kernel: Option<KernelLink>,
    /// The link that was there before has ended, whatever is there now.
    pub was_deleted: bool,
    /// The link was down in the meantime.
    pub went_down: bool,
    /// It was no port of its bridge in the meantime.
    pub left_bridge: bool,
    /// The link that was told to have moved there.
    pub known_as: Option<LinkId>,
}

impl Look {
    /// All that a namespace has, where nothing is just being changed.
    pub fn whole(ns: NsCookie, links: impl IntoIterator<Item = KernelLink>) -> Self {
        let seen = links.into_iter().map(Sighting::of).collect();
        Self { ns, is_whole: true, seen, spared: BTreeSet::new() }
    }
}

impl Sighting {
    /// A link that is there, and of which nothing else was heard.
    pub fn of(link: KernelLink) -> Self {
        Self::at(link.ifindex, Some(link))
    }

    /// What is at an index of which nothing was heard.
    pub fn at(ifindex: IfIndex, kernel: Option<KernelLink>) -> Self {
        Self {
            ifindex,
            kernel,
            was_deleted: false,
            went_down: false,
            left_bridge: false,
            known_as: None,
        }
    }
}

/// What an observation comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What changes.
    pub plan: Plan,
    /// Links that were down for a moment and are up again.
    pub dipped: Vec<LinkId>,
}

/// Brings the registry to what the kernel shows, and the kernel to what the registry wants.
///
/// In a namespace that is no zone only links are followed that are known already.
///
/// Where `may_change` is false the kernel is left as it is. A step that the kernel refuses when
/// the plan is carried out does not make the rest wrong: that link keeps the name it has.
pub fn observe(
    registry: &Registry,
    ids: &mut LinkIds,
    look: &Look,
    may_change: bool,
) -> Result<Observed> {
    let mut draft = Draft::new(registry, look.ns);
    draft.rebind_the_moved(look);
    draft.end_the_lost(look);
    draft.update_the_known(look);
    if draft.space.zone.is_some() {
        draft.attach_the_unknown(look, ids)?;
    }
    draft.end_the_unfound(look);
    let wishes = if may_change { draft.settle() } else { BTreeMap::new() };
    let mut plan = draft.into_plan(&wishes)?;
    if !may_change {
        plan.equips.clear();
    }
    Ok(Observed { plan, dipped: dipped(registry, look) })
}

fn dipped(registry: &Registry, look: &Look) -> Vec<LinkId> {
    let is_up = |kernel: &KernelLink| kernel.state == LinkState::Up;
    let dipped = look.seen.iter().filter_map(|sighting| {
        let kernel = sighting.kernel.as_ref().filter(|_| sighting.went_down)?;
        let id = registry.by_binding(Binding { ns: look.ns, ifindex: sighting.ifindex })?;
        let was_up = registry.link(id)?.kernel.as_ref().is_some_and(|bound| is_up(bound));
        (was_up && is_up(kernel) && !sighting.was_deleted).then_some(id)
    });
    dipped.collect()
}

/// The namespace that is looked at.
#[derive(Clone, Copy)]
struct Space {
    ns: NsCookie,
    zone: Option<ZoneId>,
}

/// A registry under change, with what changed so far.
struct Draft {
    space: Space,
    registry: Registry,
    changed: BTreeMap<LinkId, LinkChange>,
    /// Links whose name in the kernel is to be brought to the one they want.
    unsettled: BTreeSet<LinkId>,
    /// Links that appeared, or that an earlier run of the daemon was just changing.
    appeared: BTreeSet<LinkId>,
}

impl Draft {
    fn new(registry: &Registry, ns: NsCookie) -> Self {
        let space = Space { ns, zone: registry.zone_of_ns(ns) };
        Self {
            space,
            registry: registry.clone(),
            changed: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            appeared: BTreeSet::new(),
        }
    }

    fn put(&mut self, changes: Vec<LinkChange>) {
        self.registry = self.registry.with(&changes);
        self.changed.extend(changes.into_iter().map(|change| (change.id, change)));
    }

    fn at(&self, ifindex: IfIndex) -> Binding {
        Binding { ns: self.space.ns, ifindex }
    }

    /// Somebody moved links here from other namespaces: they stay the links they are.
    fn rebind_the_moved(&mut self, look: &Look) {
        let moved = look.seen.iter().filter_map(|sighting| {
            let kernel = sighting.kernel.as_ref()?;
            let link = self.registry.link(sighting.known_as?)?;
            // The word of a move may come when another link is where that one went from.
            if !can_be(link, kernel) {
                return None;
            }
            let rebound = LinkChange::from(link.brought_to(self.space, kernel));
            let known = self.registry.by_binding(self.at(sighting.ifindex));
            match known.and_then(|id| self.registry.link(id)) {
                None => Some(vec![rebound]),
                // That one has left, and is lost or known elsewhere.
                Some(known) if !can_be(known, kernel) => Some(vec![rebound]),
                Some(known) => {
                    let taken_for_new = is_taken_for_new(known) && had_mac_of(link, kernel);
                    taken_for_new.then(|| vec![LinkChange::end(known.record.id), rebound])
                }
            }
        });
        let moved: Vec<LinkChange> = moved.flatten().collect();
        self.put(moved);
    }

    fn end_the_lost(&mut self, look: &Look) {
        let survives: BTreeSet<IfIndex> = look
            .seen
            .iter()
            .filter(|sighting| !sighting.was_deleted && self.is_same_link(sighting))
            .map(|sighting| sighting.ifindex)
            .collect();
        let places = if look.is_whole {
            self.registry.places_in(self.space.ns)
        } else {
            look.seen.iter().map(|sighting| self.at(sighting.ifindex)).collect()
        };
        let gone = |at: &Binding| {
            let bound = self.registry.by_binding(*at);
            let bound = bound.filter(|_| !survives.contains(&at.ifindex));
            bound.into_iter().chain(self.registry.outrun_at(*at))
        };
        let lost: Vec<LinkChange> = places
            .iter()
            .flat_map(gone)
            .filter(|id| !look.spared.contains(id))
            .filter_map(|id| self.registry.link(id))
            .map(|link| lost(link))
            .collect();
        self.put(lost);
    }

    /// Whether what is seen can be the link that is known there.
    fn is_same_link(&self, sighting: &Sighting) -> bool {
        let known = self
            .registry
            .by_binding(self.at(sighting.ifindex))
            .and_then(|id| self.registry.link(id));
        let (Some(known), Some(seen)) = (known, &sighting.kernel) else { return false };
        can_be(known, seen)
    }

    fn update_the_known(&mut self, look: &Look) {
        let mut updated = Vec::new();
        for sighting in &look.seen {
            let Some(kernel) = &sighting.kernel else { continue };
            let known = self.registry.by_binding(self.at(kernel.ifindex));
            let Some(link) = known.and_then(|id| self.registry.link(id)) else { continue };
            let was_named = link.kernel.as_ref().map(|bound| bound.name);
            let was_port = link.kernel.as_ref().is_some_and(|bound| bound.is_bridge_port());
            let stayed_port = was_port && !sighting.left_bridge;
            let properties = &link.record.properties;
            let joined = kernel.is_bridge_port() && !stayed_port && properties.wants_any();
            // Others renamed it, and newer kernels take its rules for those of the old name.
            let lost_rules = was_named != Some(kernel.name) && properties.wants_rules();
            if joined || lost_rules {
                self.appeared.insert(link.record.id);
            }
            let mut link = link.bound_to(self.space, kernel);
            if was_named != Some(kernel.name) && has_fallen(kernel) {
                self.unsettled.insert(link.record.id);
            } else if was_named != Some(kernel.name) {
                link.follow_name(kernel.name);
            } else if kernel.name != link.wanted_name() && link.record.leads_the_kernel() {
                self.unsettled.insert(link.record.id);
            }
            if self.registry.link(link.record.id).is_none_or(|old| **old != link) {
                updated.push(link.into());
            }
        }
        self.put(updated);
    }

    fn attach_the_unknown(&mut self, look: &Look, ids: &mut LinkIds) -> Result<()> {
        let unknown: Vec<&KernelLink> = look
            .seen
            .iter()
            .filter_map(|sighting| sighting.kernel.as_ref())
            .filter(|kernel| self.registry.by_binding(self.at(kernel.ifindex)).is_none())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (hardware, others): (Vec<&KernelLink>, Vec<&KernelLink>) =
            unknown.into_iter().partition(|kernel| is_hardware(kernel));
        self.attach_virtual(&others, ids)?;
        self.attach_hardware(&hardware, ids)
    }

    fn attach_virtual(&mut self, seen: &[&KernelLink], ids: &mut LinkIds) -> Result<()> {
        let absent = || {
            let links = self.registry.links();
            links.filter(|link| link.kernel.is_none() && link.record.phys.is_none())
        };
        let anchored: BTreeMap<Binding, &Arc<Link>> =
            absent().filter_map(|link| Some((link.record.anchor.as_ref()?.at, link))).collect();
        let expected: BTreeMap<LinkName, &Arc<Link>> = absent()
            .flat_map(|link| self.expected_here(link).into_iter().map(move |name| (name, link)))
            .collect();
        let mut attached = Vec::new();
        for kernel in seen {
            let known = anchored
                .get(&self.at(kernel.ifindex))
                .filter(|link| is_seen_again(link, kernel))
                .or_else(|| expected.get(&kernel.name).filter(|link| had_mac_of(link, kernel)))
                .filter(|link| link.record.kind == kernel.kind);
            let link = match known {
                Some(link) => {
                    if link.appears_at(self.at(kernel.ifindex)) {
                        self.appeared.insert(link.record.id);
                    }
                    let mut link = link.found_again(self.space, kernel);
                    if link.record.leads_the_kernel() {
                        self.unsettled.insert(link.record.id);
                    } else {
                        link.follow_name(kernel.name);
                    }
                    link
                }
                None => new_link(ids.give()?, self.space, kernel, kernel.name),
            };
            attached.push(link.into());
        }
        self.put(attached);
        Ok(())
    }

    /// The names under which a link may be here, if the daemon was about to make it here or to move
    /// it here when it stopped.
    fn expected_here(&self, link: &Link) -> Vec<LinkName> {
        let was_here =
            link.record.anchor.as_ref().is_some_and(|anchor| anchor.at.ns == self.space.ns);
        let Some(zone) = self.space.zone.filter(|_| link.record.unsettled && !was_here) else {
            return Vec::new();
        };
        match link.loan() {
            Some(loan) if loan.zone == zone => vec![loan.name_inside],
            _ if link.record.owner == zone => {
                vec![link.record.name, self.registry.stand_in_name(link)]
            }
            _ => Vec::new(),
        }
    }

    fn attach_hardware(&mut self, seen: &[&KernelLink], ids: &mut LinkIds) -> Result<()> {
        let devices: Vec<Device<'_>> =
            seen.iter().map(|kernel| Device { at: self.at(kernel.ifindex), kernel }).collect();
        let matched = match_devices(&self.registry, &devices);
        for (kernel, known) in seen.iter().zip(matched) {
            let link = match known.and_then(|id| self.registry.link(id)) {
                Some(link) => {
                    if link.appears_at(self.at(kernel.ifindex)) {
                        self.appeared.insert(link.record.id);
                    }
                    link.found_again(self.space, kernel)
                }
                None => new_link(ids.give()?, self.space, kernel, self.free_name(kernel.name)),
            };
            self.unsettled.insert(link.record.id);
            self.put(vec![link.into()]);
        }
        Ok(())
    }

    /// Links of an earlier run of the daemon that are not there any more.
    fn end_the_unfound(&mut self, look: &Look) {
        let was_here = |link: &Link| match &link.record.anchor {
            Some(anchor) => anchor.at.ns == look.ns,
            None => self.space.zone == Some(link.record.owner),
        };
        let is_unfound = |link: &&Arc<Link>| {
            let may_be_elsewhere = link.record.unsettled && link.loan().is_some();
            let is_absent = link.kernel.is_none() && !may_be_elsewhere;
            let is_spared = look.spared.contains(&link.record.id);
            let is_kept = link.record.lifetime == Lifetime::Persistent;
            is_absent && !is_kept && !is_spared && was_here(link)
        };
        if look.is_whole {
            let unfound = self.registry.links().filter(is_unfound);
            let ended = unfound.map(|link| LinkChange::end(link.record.id)).collect();
            self.put(ended);
        }
    }

    /// The kernel's name if it is free, else `net<N>` (SPEC.md section 5).
    fn free_name(&self, kernel_name: LinkName) -> LinkName {
        let Some(zone) = self.space.zone else { return kernel_name };
        let numbered = (0..).map_while(|number| LinkName::numbered("net", number));
        std::iter::once(kernel_name)
            .chain(numbered)
            .find(|name| self.registry.is_name_free(zone, *name))
            // Only a zone with 10^12 links has no free number.
            .unwrap_or(kernel_name)
    }

    /// The names that the unsettled links are to get in the kernel.
    ///
    /// A link whose name another one keeps gets its stand-in name, and stays as it is where
    /// somebody else made it.
    fn settle(&self) -> BTreeMap<LinkId, LinkName> {
        let mut wishes: BTreeMap<LinkId, LinkName> = self
            .unsettled
            .iter()
            .filter_map(|id| self.registry.link(*id))
            .map(|link| (link.record.id, link.wanted_name()))
            .collect();
        loop {
            let blocked: Vec<LinkId> = wishes
                .iter()
                .filter(|(id, name)| self.is_kept_by_another(**id, **name, &wishes))
                .map(|(id, _)| *id)
                .collect();
            if blocked.is_empty() {
                break;
            }
            for id in blocked {
                match self.stand_in(id) {
                    Some(name) if wishes.get(&id) != Some(&name) => wishes.insert(id, name),
                    _ => wishes.remove(&id),
                };
            }
        }
        wishes.retain(|id, name| self.kernel_name(*id).is_some_and(|now| now != *name));
        wishes
    }

    fn stand_in(&self, id: LinkId) -> Option<LinkName> {
        let link = self.registry.link(id).filter(|link| link.record.origin == Origin::Own)?;
        Some(self.registry.stand_in_name(link))
    }

    fn kernel_name(&self, id: LinkId) -> Option<LinkName> {
        Some(self.registry.link(id)?.kernel.as_ref()?.name)
    }

    fn is_kept_by_another(
        &self,
        id: LinkId,
        name: LinkName,
        wishes: &BTreeMap<LinkId, LinkName>,
    ) -> bool {
        let Some(link) = self.registry.link(id) else { return true };
        let zone = link.zone();
        let holder = self.registry.by_name(zone, name).filter(|holder| *holder != id);
        let keeps = holder.is_some_and(|holder| {
            let leaves = wishes.get(&holder).is_some_and(|other| *other != name);
            self.kernel_name(holder).is_some() && !leaves
        });
        let is_altname = self.registry.by_altname(zone, &name).is_some_and(|holder| holder != id);
        keeps || is_altname
    }

    fn into_plan(mut self, wishes: &BTreeMap<LinkId, LinkName>) -> Result<Plan> {
        let links: Vec<(LinkName, Arc<Link>)> = wishes
            .iter()
            .filter_map(|(id, to)| Some((*to, self.registry.link(*id)?.clone())))
            .collect();
        let moves: Vec<Move<'_>> = links
            .iter()
            .filter_map(|(to, link)| {
                let bound = link.kernel.as_ref()?;
                Some(Move { id: link.record.id, link, bound, to: *to })
            })
            .collect();
        let steps = kernel_steps(&self.registry, &moves)?;
        let renamed: Vec<LinkChange> = links
            .iter()
            .map(|(to, link)| {
                let mut link = Link::clone(link);
                link.kernel = link.kernel.map(|bound| bound.renamed(*to));
                link.into()
            })
            .collect();
        self.put(renamed);
        for link in self.changed.values_mut().filter_map(|change| change.after.as_mut()) {
            let is_settled = |bound: &Bound| bound.name == link.wanted_name();
            link.record_mut().unsettled &= !link.kernel.as_ref().is_none_or(is_settled);
        }
        let equips = self.appeared.into_iter().collect();
        Ok(Plan { changes: self.changed.into_values().collect(), steps, equips, ..Plan::default() })
    }
}

impl LinkRecord {
    /// Whether the kernel is to be brought to the record; otherwise the record follows the kernel.
    fn leads_the_kernel(&self) -> bool {
        self.unsettled || self.origin == Origin::Own
    }
}

/// Whether what the kernel shows is of the kind of a link, and the same hardware if that is known.
fn can_be(link: &Link, kernel: &KernelLink) -> bool {
    let had_mac = link.record.phys.as_ref().and_then(|phys| phys.mac);
    link.record.kind == kernel.kind && (had_mac.is_none() || had_mac == kernel.permanent_mac)
}

/// Whether a link is one that nobody knows more of than that it is there: a look that came before
/// the word of its move takes a link for such a one.
fn is_taken_for_new(link: &Link) -> bool {
    link.record.origin == Origin::Foreign && link.record.lifetime == Lifetime::Temporary
}

/// A device that has no kernel link type.
fn is_hardware(kernel: &KernelLink) -> bool {
    kernel.class() == LinkClass::Phys && !kernel.is_loopback()
}

/// Whether this is the name that the kernel itself gives to hardware whose namespace died: it may
/// have been away and back where it was, and neither was heard.
fn has_fallen(kernel: &KernelLink) -> bool {
    is_hardware(kernel) && LinkName::numbered("dev", kernel.ifindex.get()) == Some(kernel.name)
}

/// What becomes of a link that the kernel no longer has: a persistent one's record stays.
fn lost(link: &Link) -> LinkChange {
    match link.record.lifetime {
        Lifetime::Persistent => {
            let mut absent = Link { kernel: None, ..link.clone() };
            absent.record_mut().properties.forget_the_link();
            absent.into()
        }
        Lifetime::Temporary | Lifetime::Transient | Lifetime::Ending => {
            LinkChange::end(link.record.id)
        }
    }
}

/// Whether a virtual link found after a restart of the daemon, in the very place of a known one,
/// is that one: somebody may have changed its name or its address in the meantime, hardly both.
fn is_seen_again(link: &Link, kernel: &KernelLink) -> bool {
    let had_mac = link.record.anchor.as_ref().and_then(|anchor| anchor.mac);
    link.record.kind == kernel.kind && (had_mac == kernel.mac || link.wanted_name() == kernel.name)
}

/// Whether the link was never seen, or had this address when it was.
fn had_mac_of(link: &Link, kernel: &KernelLink) -> bool {
    link.record.anchor.as_ref().is_none_or(|anchor| anchor.mac == kernel.mac)
}

fn new_link(id: LinkId, space: Space, kernel: &KernelLink, name: LinkName) -> Link {
    let is_hardware = is_hardware(kernel);
    let phys = is_hardware.then(|| kernel.phys_identity());
    let is_known_again = phys.as_ref().is_some_and(|identity| identity.is_known());
    let record = LinkRecord {
        id,
        name,
        owner: space.zone.unwrap_or(ZoneId::GLOBAL),
        location: Location::Home,
        class: kernel.class(),
        kind: kernel.kind.clone(),
        media: kernel.media,
        lifetime: if is_known_again { Lifetime::Persistent } else { Lifetime::Temporary },
        origin: if is_hardware { Origin::Own } else { Origin::Foreign },
        phys,
        anchor: None,
        recipe: None,
        unsettled: false,
        generation: Generation::default(),
        properties: Default::default(),
    };
    Link { record: record.into(), kernel: None }.bound_to(space, kernel)
}

impl Link {
    /// Whether what is found there is not just as an earlier run of the daemon left it.
    fn appears_at(&self, at: Binding) -> bool {
        let wants_any =
            self.record.properties.wants_any() || wanted_options(&self.record).is_some();
        wants_any && (self.record.unsettled || !self.was_at(at))
    }

    fn was_at(&self, at: Binding) -> bool {
        self.record.anchor.as_ref().is_some_and(|anchor| anchor.at == at)
    }

    /// The link as the kernel has it again; what was temporary ended with the one that it had.
    fn found_again(&self, space: Space, kernel: &KernelLink) -> Link {
        let mut link = self.bound_to(space, kernel);
        let at = Binding { ns: space.ns, ifindex: kernel.ifindex };
        if !self.was_at(at) && !self.record.unsettled {
            link.record_mut().properties.forget_the_link();
        }
        link
    }

    /// The link as the kernel has it now.
    fn bound_to(&self, space: Space, kernel: &KernelLink) -> Link {
        let mut link = self.clone();
        let at = Binding { ns: space.ns, ifindex: kernel.ifindex };
        let record = link.record_mut();
        record.anchor = Some(Anchor { at, mac: kernel.mac });
        if record.phys.as_ref().is_some_and(|phys| phys.mac != kernel.permanent_mac) {
            record.location.forget_left();
        }
        record.phys = record.phys.as_ref().map(|_| kernel.phys_identity());
        record.media = kernel.medium(space.zone, record.media);
        link.kernel = Some(Bound { ns: space.ns, zone: space.zone, link: kernel.clone().into() });
        link
    }

    /// The link where somebody moved it: at home, one that was lent is owed its own name again.
    fn brought_to(&self, space: Space, kernel: &KernelLink) -> Link {
        let mut link = self.bound_to(space, kernel);
        let is_home_again = link.is_at_home() && self.is_lent();
        link.record_mut().unsettled |= is_home_again;
        link
    }

    /// Somebody else renamed the link: the record follows (rule 3.5).
    fn follow_name(&mut self, name: LinkName) {
        if self.is_at_home() {
            self.record_mut().name = name;
        } else if self.is_lent()
            && let Location::OnLoan(loan) = &mut self.record_mut().location
        {
            loan.name_inside = name;
        }
    }
}
