//! The one registry of links, an immutable value whose copies share what did not change.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use dlmgmt_proto::{DevicePath, Flags, HwAddr, IfIndex, LinkId, LinkName, Seq, ZoneId, ZoneName};
use imbl::{OrdMap, OrdSet};

use super::plan::LinkChange;
use crate::model::{
    AltName, Binding, Lifetime, Link, LinkMode, NsCookie, Origin, Recipe, Zone, ZoneRecord, ZoneUp,
};

/// Tells one hold from another for as long as the daemon runs.
pub type HoldNumber = u64;

/// Who claims a link. It is put into words when somebody is told: what is true of a holder may
/// change.
#[derive(Clone)]
pub struct Holder(Arc<dyn fmt::Display + Send + Sync>);

impl Holder {
    /// A holder that is told of in these words.
    pub fn new(words: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self(Arc::new(words))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({self})")
    }
}

/// Every link, with its indexes.
///
/// Cloning costs nothing to speak of, so a clone serves as the snapshot of a moment.
#[derive(Clone, Debug)]
pub struct Registry {
    seq: Seq,
    home: NsCookie,
    zones: OrdMap<ZoneId, Arc<Zone>>,
    zone_names: OrdMap<ZoneName, ZoneId>,
    zone_spaces: OrdMap<NsCookie, ZoneId>,
    links: OrdMap<LinkId, Arc<Link>>,
    /// What each name means: rule 3.1 holds because a key has one value. A link has a seat where
    /// the kernel has it, and one at home that stays reserved while it is away or absent.
    names: OrdMap<(ZoneId, LinkName), LinkId>,
    /// Links that were last seen under a name under which another one was found or put since: one of
    /// the two is known wrongly, which is only to be heard yet.
    outnamed: OrdSet<(ZoneId, LinkName, LinkId)>,
    /// Links that do not have the name they want in a zone, by that name.
    displaced: OrdSet<(ZoneId, LinkName, LinkId)>,
    /// What links are called at home that are away or absent and whose own name others took.
    stand_ins: OrdMap<LinkId, LinkName>,
    altnames: OrdMap<(ZoneId, AltName), LinkId>,
    bindings: OrdMap<Binding, LinkId>,
    /// Links that are thought to be where another one is found by now: they must have gone from
    /// there, which is only to be heard yet.
    outrun: OrdMap<Binding, LinkId>,
    /// Links that are lent, there or not, by the zone.
    lent: OrdSet<(ZoneId, LinkId)>,
    /// Ports of bridges and aggregations, by where these are.
    ports: OrdSet<(Binding, LinkId)>,
    macs: OrdSet<(HwAddr, LinkId)>,
    paths: OrdSet<(DevicePath, LinkId)>,
    /// Links with those that were made over them or with them as ports, by the record of the upper.
    above: OrdSet<(LinkId, LinkId)>,
    holds: OrdMap<(LinkId, HoldNumber), Holder>,
    /// How fast physical links were when their drivers were asked last.
    link_modes: OrdMap<LinkId, LinkMode>,
}

impl Registry {
    /// A registry without links, of a daemon started in the namespace `home`.
    pub fn new(home: NsCookie, seq: Seq) -> Self {
        let global = Zone {
            record: ZoneRecord { id: ZoneId::GLOBAL, name: ZoneName::global(), attached: None },
            up: Some(ZoneUp { ns: home, is_ending: false, pid: None, path: None }),
        };
        let empty = Self {
            seq,
            home,
            zones: OrdMap::new(),
            zone_names: OrdMap::new(),
            zone_spaces: OrdMap::new(),
            links: OrdMap::new(),
            names: OrdMap::new(),
            outnamed: OrdSet::new(),
            displaced: OrdSet::new(),
            stand_ins: OrdMap::new(),
            altnames: OrdMap::new(),
            bindings: OrdMap::new(),
            outrun: OrdMap::new(),
            lent: OrdSet::new(),
            ports: OrdSet::new(),
            macs: OrdSet::new(),
            paths: OrdSet::new(),
            above: OrdSet::new(),
            holds: OrdMap::new(),
            link_modes: OrdMap::new(),
        };
        empty.with_zone(global)
    }

    /// The newest commit that this registry shows.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The same registry as of a later commit.
    pub fn at(mut self, seq: Seq) -> Self {
        self.seq = seq;
        self
    }

    /// The namespace in which the daemon was started.
    pub fn home(&self) -> NsCookie {
        self.home
    }

    /// The zone that a namespace is.
    pub fn zone_of_ns(&self, ns: NsCookie) -> Option<ZoneId> {
        self.zone_spaces.get(&ns).copied()
    }

    /// The namespaces of all zones, and those to which somebody moved links that are followed.
    pub fn known_spaces(&self) -> BTreeSet<NsCookie> {
        let zones = self.zone_spaces.keys().copied();
        let strange = self.bindings.keys().map(|at| at.ns);
        zones.chain(strange).collect()
    }

    /// A zone by its number.
    pub fn zone(&self, zone: ZoneId) -> Option<&Arc<Zone>> {
        self.zones.get(&zone)
    }

    /// Every zone in the order of numbers.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.zones.values()
    }

    /// A number that no zone ever had.
    pub fn fresh_zone_id(&self) -> ZoneId {
        ZoneId(self.zones.get_max().map_or(1, |(id, _)| id.0 + 1))
    }

    /// The same registry with a zone added, or replaced by its number.
    pub fn with_zone(&self, zone: Zone) -> Self {
        let mut next = self.clone();
        let id = zone.record.id;
        if let Some(old) = next.zones.get(&id).and_then(|old| old.up.as_ref()) {
            next.zone_spaces.remove(&old.ns);
        }
        if let Some(up) = &zone.up {
            next.zone_spaces.insert(up.ns, id);
        }
        next.zone_names.insert(zone.record.name.clone(), id);
        next.zones.insert(id, zone.into());
        next
    }

    /// A zone's name.
    pub fn zone_name(&self, zone: ZoneId) -> Option<ZoneName> {
        self.zones.get(&zone).map(|zone| zone.record.name.clone())
    }

    /// The zone of that name.
    pub fn zone_by_name(&self, name: &ZoneName) -> Option<ZoneId> {
        self.zone_names.get(name).copied()
    }

    /// Zones that `after` knows otherwise than this registry does.
    pub fn zones_that_differ(&self, after: &Self) -> Vec<ZoneId> {
        use imbl::ordmap::DiffItem;
        let differing = self.zones.diff(&after.zones).map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => *id,
            DiffItem::Update { new: (id, _), .. } => *id,
        });
        differing.collect()
    }

    /// Links that the kernel has, and at that earlier moment did not have there, in the order of
    /// ids. Costs no more than what differs.
    pub fn come_or_moved_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a Link> {
        use imbl::ordmap::DiffItem;
        let differing = earlier.links.diff(&self.links).filter_map(|item| match item {
            DiffItem::Add(_, link) => Some((None, link)),
            DiffItem::Update { old: (_, was), new: (_, link) } => Some((was.binding(), link)),
            DiffItem::Remove(..) => None,
        });
        differing
            .filter(|(was_at, link)| link.kernel.is_some() && *was_at != link.binding())
            .map(|(_, link)| link.as_ref())
    }

    /// Links that are lent to a zone, there or not, in the order of ids.
    pub fn lent_to(&self, zone: ZoneId) -> impl Iterator<Item = &Arc<Link>> {
        self.listed(&self.lent, zone)
    }

    /// What to call a zone, also one whose name is not known.
    pub fn zone_label(&self, zone: ZoneId) -> ZoneName {
        self.zone_name(zone).unwrap_or_else(|| ZoneName::numbered(zone))
    }

    /// A link by its id.
    pub fn link(&self, id: LinkId) -> Option<&Arc<Link>> {
        self.links.get(&id)
    }

    /// Every link in the order of ids.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    /// Links with an id above `after`, in the order of ids.
    pub fn links_after(&self, after: Option<LinkId>) -> impl Iterator<Item = &Arc<Link>> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.links.range((from, Bound::Unbounded)).map(|(_, link)| link)
    }

    /// The link that a name means in a zone.
    pub fn by_name(&self, zone: ZoneId, name: LinkName) -> Option<LinkId> {
        self.names.get(&(zone, name)).copied()
    }

    /// The link that has this alternative name in a zone.
    pub fn by_altname(&self, zone: ZoneId, name: &LinkName) -> Option<LinkId> {
        self.with_altname(zone, &AltName(name.as_bytes().to_vec()))
    }

    /// As [`Registry::by_altname`]; alternative names can be longer than a link's own.
    pub fn with_altname(&self, zone: ZoneId, altname: &AltName) -> Option<LinkId> {
        self.altnames.get(&(zone, altname.clone())).copied()
    }

    /// The link that the kernel has there.
    pub fn by_binding(&self, at: Binding) -> Option<LinkId> {
        self.bindings.get(&at).copied()
    }

    /// The link that was there before the one that is, and of which nothing was heard since.
    pub fn outrun_at(&self, at: Binding) -> Option<LinkId> {
        self.outrun.get(&at).copied()
    }

    /// Where links are thought to be in a namespace.
    pub fn places_in(&self, ns: NsCookie) -> BTreeSet<Binding> {
        within(&self.bindings, ns).chain(within(&self.outrun, ns)).map(|(at, _)| at).collect()
    }

    /// Every link that the kernel has in a namespace.
    pub fn bound_in(&self, ns: NsCookie) -> impl Iterator<Item = (Binding, LinkId)> {
        within(&self.bindings, ns)
    }

    /// The ports of the link that the kernel has there, in the order of ids.
    pub fn ports_of(&self, at: Binding) -> impl Iterator<Item = &Arc<Link>> {
        self.listed(&self.ports, at)
    }

    /// Links that have other ports in `after` than in this registry, or the same under other names,
    /// as far as the ports `ids` go.
    pub fn whose_ports_differ(&self, after: &Self, ids: &BTreeSet<LinkId>) -> BTreeSet<LinkId> {
        let port = |registry: &Self, id: LinkId| {
            let link = registry.link(id)?;
            Some((registry.by_binding(link.master()?)?, registry.shown_name(link)))
        };
        let ends = ids.iter().map(|id| (port(self, *id), port(after, *id)));
        let differing = ends.filter(|(was, is)| was != is);
        differing.flat_map(|(was, is)| [was, is]).flatten().map(|(master, _)| master).collect()
    }

    /// Physical links with that permanent address, in the order of ids.
    pub fn by_mac(&self, mac: HwAddr) -> impl Iterator<Item = &Arc<Link>> {
        self.listed(&self.macs, mac)
    }

    /// Physical links whose last place was that slot, in the order of ids.
    pub fn by_path(&self, path: &DevicePath) -> impl Iterator<Item = &Arc<Link>> {
        self.listed(&self.paths, path.clone())
    }

    /// Links of ours that were made over this one or with it as a port, in the order of ids.
    pub fn made_over(&self, lower: LinkId) -> impl Iterator<Item = &Arc<Link>> {
        self.listed(&self.above, lower)
    }

    /// The links that an index has under a key, in the order of ids.
    fn listed<'a, K: Ord + Clone>(
        &'a self,
        index: &'a OrdSet<(K, LinkId)>,
        key: K,
    ) -> impl Iterator<Item = &'a Arc<Link>> {
        let ids = index.range((key.clone(), FIRST_ID)..).take_while(move |(of, _)| *of == key);
        ids.filter_map(|(_, id)| self.links.get(id))
    }

    /// A link that wants this name and is not shown under it.
    pub fn wanting(&self, zone: ZoneId, name: LinkName) -> Option<LinkId> {
        first_of(&self.displaced, zone, name)
    }

    /// Whether nothing in the zone has or wants this name, neither as a name nor as an
    /// alternative one.
    pub fn is_name_free(&self, zone: ZoneId, name: LinkName) -> bool {
        self.by_name(zone, name).is_none()
            && self.by_altname(zone, &name).is_none()
            && self.wanting(zone, name).is_none()
    }

    /// What a link is called at home that lost its own name: `dl<linkid>` (SPEC.md section 6).
    pub fn stand_in_name(&self, link: &Link) -> LinkName {
        let (home, id) = (link.record.owner, link.record.id);
        self.spare_name(link, |name| {
            self.by_name(home, name).is_none_or(|owner| owner == id)
                && self.by_altname(home, &name).is_none()
        })
    }

    /// A name for a link on its way to another one, which nothing in its zone has or wants.
    pub fn aside_name(&self, link: &Link, is_usable: impl Fn(LinkName) -> bool) -> LinkName {
        self.spare_name(link, |name| self.is_name_free(link.zone(), name) && is_usable(name))
    }

    fn spare_name(&self, link: &Link, is_usable: impl Fn(LinkName) -> bool) -> LinkName {
        let id = link.record.id;
        let candidates = std::iter::once(format!("dl{id}"))
            .chain((1..).map(|number: u32| format!("d{number}l{id}")));
        candidates
            .filter_map(|name| LinkName::found(name.as_bytes()).ok())
            .find(|name| is_usable(*name))
            // The candidates are endless and the names taken are not, so one is always found.
            .unwrap_or(link.record.name)
    }

    /// What a link is called in messages: the name that it is shown under, or its linkid where it
    /// is not known.
    pub fn label(&self, id: LinkId) -> String {
        let link = self.link(id);
        link.map_or_else(|| format!("@{id}"), |link| self.shown_name(link).to_string())
    }

    /// The name under which a link is shown in the zone where it is; one in a namespace that is no
    /// zone is shown at home, where others may have the name that it has there.
    pub fn shown_name(&self, link: &Link) -> LinkName {
        match &link.kernel {
            Some(kernel) if kernel.zone.is_some() => kernel.name,
            _ => self.name_at_home(link),
        }
    }

    /// What a link is called at home, now or when it comes back.
    pub fn name_at_home(&self, link: &Link) -> LinkName {
        self.stand_ins.get(&link.record.id).copied().unwrap_or(link.record.name)
    }

    /// The flags of SPEC.md section 2.
    pub fn flags(&self, link: &Link) -> Flags {
        let record = &link.record;
        let mut flags = Flags::empty();
        flags.set(Flags::ACTIVE, link.kernel.is_some());
        flags.set(Flags::PERSISTENT, record.lifetime == Lifetime::Persistent);
        flags.set(Flags::TRANSIENT, record.lifetime == Lifetime::Transient);
        flags.set(Flags::REMOVED, link.is_removed());
        flags.set(Flags::HELD, self.holders(record.id).next().is_some());
        flags.set(Flags::FOREIGN, record.origin == Origin::Foreign);
        let is_displaced = self.stand_ins.contains_key(&record.id);
        let is_misnamed = link.place().is_some() && self.shown_name(link) != link.wanted_name();
        flags.set(Flags::CONFLICT, is_displaced || is_misnamed);
        flags
    }

    /// Who holds a link.
    pub fn holders(&self, id: LinkId) -> impl Iterator<Item = &Holder> {
        self.holds.range((id, 0)..=(id, HoldNumber::MAX)).map(|(_, holder)| holder)
    }

    /// The same registry with one more hold.
    pub fn with_hold(&self, id: LinkId, number: HoldNumber, holder: Holder) -> Self {
        let mut next = self.clone();
        next.holds.insert((id, number), holder);
        next
    }

    /// The same registry without that hold.
    pub fn without_hold(&self, id: LinkId, number: HoldNumber) -> Self {
        let mut next = self.clone();
        next.holds.remove(&(id, number));
        next
    }

    /// The same registry without any hold of that link.
    pub fn without_holds(&self, id: LinkId) -> Self {
        let numbers: Vec<HoldNumber> =
            self.holds.range((id, 0)..=(id, HoldNumber::MAX)).map(|((_, n), _)| *n).collect();
        numbers.into_iter().fold(self.clone(), |registry, n| registry.without_hold(id, n))
    }

    /// How fast a link that the kernel has was when its driver was asked last.
    pub fn link_mode(&self, link: &Link) -> LinkMode {
        let known = self.link_modes.get(&link.record.id).filter(|_| link.kernel.is_some());
        known.copied().unwrap_or_default()
    }

    /// The same registry, where a link is as fast as this.
    pub fn with_link_mode(&self, id: LinkId, mode: LinkMode) -> Self {
        let mut next = self.clone();
        next.link_modes.insert(id, mode);
        next
    }

    /// The registry after these changes.
    ///
    /// What the kernel has wins every name: a record that the kernel does not have gives way and
    /// gets its name back when it is free.
    pub fn with(&self, changes: &[LinkChange]) -> Self {
        let mut next = self.clone();
        for change in changes {
            next.take_out(change.id);
            if change.after.is_none() {
                next.link_modes.remove(&change.id);
            }
        }
        let (active, absent): (Vec<&Link>, Vec<&Link>) =
            changes.iter().filter_map(|c| c.after.as_ref()).partition(|l| l.kernel.is_some());
        for link in active.into_iter().chain(absent) {
            next.put_in(link);
        }
        next
    }

    fn take_out(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        let zone = link.zone();
        if let Some(at) = link.binding() {
            for places in [&mut self.bindings, &mut self.outrun] {
                if places.get(&at) == Some(&id) {
                    places.remove(&at);
                }
            }
        }
        link.loan().map(|loan| self.lent.remove(&(loan.zone, id)));
        link.master().map(|master| self.ports.remove(&(master, id)));
        for key in altname_keys(&link) {
            self.altnames.remove(&key);
        }
        if let Some(phys) = &link.record.phys {
            phys.mac.map(|mac| self.macs.remove(&(mac, id)));
            phys.path.clone().map(|path| self.paths.remove(&(path, id)));
        }
        for lower in link.record.recipe.iter().flat_map(Recipe::below) {
            self.above.remove(&(lower, id));
        }
        self.displaced.remove(&(zone, link.wanted_name(), id));
        if let Some(bound) = &link.kernel {
            self.outnamed.remove(&(zone, bound.name, id));
            self.give_up_name(zone, bound.name, id);
        }
        if !link.is_at_home() {
            let home = link.record.owner;
            let name = self.stand_ins.remove(&id).unwrap_or(link.record.name);
            self.displaced.remove(&(home, link.record.name, id));
            self.give_up_name(home, name, id);
        }
    }

    /// Frees a name, and gives it to whom the kernel has under it too, else to the home seat that has
    /// been waiting for it.
    fn give_up_name(&mut self, zone: ZoneId, name: LinkName, id: LinkId) {
        if self.names.get(&(zone, name)) != Some(&id) {
            return;
        }
        self.names.remove(&(zone, name));
        if let Some(outnamed) = first_of(&self.outnamed, zone, name) {
            self.outnamed.remove(&(zone, name, outnamed));
            self.names.insert((zone, name), outnamed);
            return;
        }
        let waiting = self.wanting(zone, name).and_then(|id| self.links.get(&id)).cloned();
        if let Some(link) = waiting.filter(|link| !link.is_at_home() && link.record.owner == zone) {
            let id = link.record.id;
            if let Some(stand_in) = self.stand_ins.remove(&id) {
                self.names.remove(&(zone, stand_in));
            }
            self.displaced.remove(&(zone, name, id));
            self.names.insert((zone, name), id);
        }
    }

    fn put_in(&mut self, link: &Link) {
        let id = link.record.id;
        if let Some(at) = link.binding()
            && let Some(earlier) = self.bindings.insert(at, id).filter(|earlier| *earlier != id)
        {
            self.outrun.insert(at, earlier);
        }
        link.loan().map(|loan| self.lent.insert((loan.zone, id)));
        link.master().map(|master| self.ports.insert((master, id)));
        for key in altname_keys(link) {
            self.altnames.insert(key, id);
        }
        if let Some(phys) = &link.record.phys {
            phys.mac.map(|mac| self.macs.insert((mac, id)));
            phys.path.clone().map(|path| self.paths.insert((path, id)));
        }
        for lower in link.record.recipe.iter().flat_map(Recipe::below) {
            self.above.insert((lower, id));
        }
        self.links.insert(id, Arc::new(link.clone()));
        self.take_seat(link);
        if !link.is_at_home() {
            self.reserve_home_seat(link);
        }
    }

    /// What the kernel has wins its name; whoever only had it reserved gives way.
    fn take_seat(&mut self, link: &Link) {
        let (Some(bound), Some(zone)) = (&link.kernel, link.place()) else { return };
        let id = link.record.id;
        if let Some(loser) = self.names.insert((zone, bound.name), id) {
            self.displace(zone, bound.name, loser);
        }
        if bound.name != link.wanted_name() {
            self.displaced.insert((zone, link.wanted_name(), id));
        }
    }

    fn reserve_home_seat(&mut self, link: &Link) {
        let seat = (link.record.owner, link.record.name);
        if self.names.get(&seat).is_none_or(|owner| *owner == link.record.id) {
            self.names.insert(seat, link.record.id);
        } else {
            self.stand_in(link);
        }
    }

    fn stand_in(&mut self, link: &Link) {
        let (home, id) = (link.record.owner, link.record.id);
        let stand_in = self.stand_in_name(link);
        self.displaced.insert((home, link.record.name, id));
        self.stand_ins.insert(id, stand_in);
        self.names.insert((home, stand_in), id);
    }

    /// The link lost a name to one that the kernel has.
    ///
    /// If the kernel has this one there too, what is known of it is old, for no two links have one
    /// name; `outdated` tells the engine to look at it.
    fn displace(&mut self, zone: ZoneId, name: LinkName, id: LinkId) {
        let Some(link) = self.links.get(&id).cloned() else { return };
        let has_it = link.kernel.as_ref().is_some_and(|b| b.zone == Some(zone) && b.name == name);
        if has_it {
            self.outnamed.insert((zone, name, id));
        } else if link.record.owner == zone {
            self.stand_in(&link);
        }
    }

    /// Links that `after` shows under another stand-in name than this registry does.
    pub fn displaced_by<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = LinkId> + 'a {
        use imbl::ordmap::DiffItem;
        self.stand_ins.diff(&after.stand_ins).map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => *id,
            DiffItem::Update { new: (id, _), .. } => *id,
        })
    }

    /// Links that the kernel has under another name than they want, though that is free now.
    pub fn settleable(&self) -> impl Iterator<Item = Binding> {
        let free =
            self.displaced.iter().filter(|(zone, name, _)| self.by_name(*zone, *name).is_none());
        free.filter_map(|(zone, _, id)| {
            self.link(*id).filter(|link| link.place() == Some(*zone))?.binding()
        })
    }

    /// Links that the kernel had under a name that another link has now: what is known of them
    /// is out of date.
    pub fn outdated(&self, ids: impl IntoIterator<Item = LinkId>) -> Vec<Binding> {
        let owner_of_name = |id| {
            let link = self.link(id)?;
            self.by_name(link.place()?, link.kernel.as_ref()?.name)
        };
        let is_outdated = |id: &LinkId| owner_of_name(*id).is_some_and(|owner| owner != *id);
        ids.into_iter().filter(is_outdated).filter_map(|id| self.link(id)?.binding()).collect()
    }
}

fn first_of(
    links: &OrdSet<(ZoneId, LinkName, LinkId)>,
    zone: ZoneId,
    name: LinkName,
) -> Option<LinkId> {
    let first = links.range((zone, name, FIRST_ID)..).next();
    first.filter(|(z, n, _)| (*z, *n) == (zone, name)).map(|(_, _, id)| *id)
}

/// Those of the places that are in a namespace.
fn within(
    places: &OrdMap<Binding, LinkId>,
    ns: NsCookie,
) -> impl Iterator<Item = (Binding, LinkId)> {
    let from = Binding { ns, ifindex: FIRST_INDEX };
    places.range(from..).take_while(move |(at, _)| at.ns == ns).map(|(at, id)| (*at, *id))
}

fn altname_keys(link: &Link) -> Vec<(ZoneId, AltName)> {
    let (Some(bound), Some(zone)) = (&link.kernel, link.place()) else { return Vec::new() };
    bound.altnames.iter().map(|altname| (zone, altname.clone())).collect()
}

/// No linkid is lower, so a range from here holds every id.
const FIRST_ID: LinkId = match LinkId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// No index is lower, so a range from here holds every index.
const FIRST_INDEX: IfIndex = match IfIndex::new(1) {
    Some(ifindex) => ifindex,
    None => unreachable!(),
};
