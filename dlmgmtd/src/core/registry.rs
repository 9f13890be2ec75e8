//! The one registry of links, an immutable value whose copies share what did not change.

use std::sync::Arc;

use dlmgmt_proto::{DevicePath, Flags, HwAddr, LinkId, LinkName, Seq, ZoneId, ZoneName};
use imbl::{OrdMap, OrdSet};

use super::plan::LinkChange;
use crate::model::{AltName, Binding, Lifetime, Link, NsCookie, Origin};

/// Tells one hold from another for as long as the daemon runs.
pub type HoldNumber = u64;

/// Who claims a link, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(pub String);

/// Every link, with its indexes.
///
/// Cloning costs nothing to speak of, so a clone serves as the snapshot of a moment.
#[derive(Clone, Debug)]
pub struct Registry {
    seq: Seq,
    home: NsCookie,
    links: OrdMap<LinkId, Arc<Link>>,
    /// What each name means: rule 3.1 holds because a key has one value.
    names: OrdMap<(ZoneId, LinkName), LinkId>,
    /// Links that are not shown under the name their record wants, by that name.
    displaced: OrdSet<(ZoneId, LinkName, LinkId)>,
    /// Names given to displaced links that the kernel does not have.
    stand_ins: OrdMap<LinkId, LinkName>,
    altnames: OrdMap<(ZoneId, AltName), LinkId>,
    bindings: OrdMap<Binding, LinkId>,
    macs: OrdSet<(HwAddr, LinkId)>,
    paths: OrdSet<(DevicePath, LinkId)>,
    holds: OrdMap<(LinkId, HoldNumber), Holder>,
}

impl Registry {
    /// A registry without links, of a daemon started in the namespace `home`.
    pub fn new(home: NsCookie, seq: Seq) -> Self {
        Self {
            seq,
            home,
            links: OrdMap::new(),
            names: OrdMap::new(),
            displaced: OrdSet::new(),
            stand_ins: OrdMap::new(),
            altnames: OrdMap::new(),
            bindings: OrdMap::new(),
            macs: OrdSet::new(),
            paths: OrdSet::new(),
            holds: OrdMap::new(),
        }
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
        (ns == self.home).then_some(ZoneId::GLOBAL)
    }

    /// A zone's name.
    pub fn zone_name(&self, zone: ZoneId) -> Option<ZoneName> {
        (zone == ZoneId::GLOBAL).then(ZoneName::global)
    }

    /// What to call a zone, also one whose name is not known.
    pub fn zone_label(&self, zone: ZoneId) -> ZoneName {
        self.zone_name(zone).unwrap_or_else(|| ZoneName::numbered(zone))
    }

    /// The zone of that name.
    pub fn zone_by_name(&self, name: &ZoneName) -> Option<ZoneId> {
        name.is_global().then_some(ZoneId::GLOBAL)
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
        self.altnames.get(&(zone, AltName(name.as_bytes().to_vec()))).copied()
    }

    /// The link that the kernel has there.
    pub fn by_binding(&self, at: Binding) -> Option<LinkId> {
        self.bindings.get(&at).copied()
    }

    /// Every link that the kernel has in a namespace.
    pub fn bound_in(&self, ns: NsCookie) -> impl Iterator<Item = (Binding, LinkId)> {
        self.bindings.iter().filter(move |(at, _)| at.ns == ns).map(|(at, id)| (*at, *id))
    }

    /// Physical links with that permanent address, in the order of ids.
    pub fn by_mac(&self, mac: HwAddr) -> impl Iterator<Item = &Arc<Link>> {
        let ids = self.macs.range((mac, FIRST_ID)..).take_while(move |(m, _)| *m == mac);
        ids.filter_map(|(_, id)| self.links.get(id))
    }

    /// Physical links whose last place was that slot, in the order of ids.
    pub fn by_path(&self, path: &DevicePath) -> impl Iterator<Item = &Arc<Link>> {
        let ids = self.paths.range((path.clone(), FIRST_ID)..);
        let path = path.clone();
        ids.take_while(move |(p, _)| *p == path).filter_map(|(_, id)| self.links.get(id))
    }

    /// A link that wants this name and is not shown under it.
    pub fn wanting(&self, zone: ZoneId, name: LinkName) -> Option<LinkId> {
        let first = self.displaced.range((zone, name, FIRST_ID)..).next();
        first.filter(|(z, n, _)| (*z, *n) == (zone, name)).map(|(_, _, id)| *id)
    }

    /// Whether nothing in the zone has or wants this name, neither as a name nor as an
    /// alternative one.
    pub fn is_name_free(&self, zone: ZoneId, name: LinkName) -> bool {
        self.by_name(zone, name).is_none()
            && self.by_altname(zone, &name).is_none()
            && self.wanting(zone, name).is_none()
    }

    /// The name under which a link that lost its own is shown: `dl<linkid>` (SPEC.md section 6).
    pub fn stand_in_name(&self, link: &Link) -> LinkName {
        let (zone, id) = (link.zone(), link.record.id);
        self.spare_name(link, |name| {
            self.by_name(zone, name).is_none_or(|owner| owner == id)
                && self.by_altname(zone, &name).is_none()
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

    /// The name under which a link is shown in the zone where it is.
    pub fn shown_name(&self, link: &Link) -> LinkName {
        match &link.kernel {
            Some(kernel) => kernel.name,
            None => self.stand_ins.get(&link.record.id).copied().unwrap_or(link.wanted_name()),
        }
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
        flags.set(Flags::CONFLICT, self.shown_name(link) != link.wanted_name());
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

    /// The registry after these changes.
    ///
    /// What the kernel has wins every name: a record that the kernel does not have gives way and
    /// gets its name back when it is free.
    pub fn with(&self, changes: &[LinkChange]) -> Self {
        let mut next = self.clone();
        for change in changes {
            next.take_out(change.id);
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
            self.bindings.remove(&at);
        }
        if let Some(kernel) = &link.kernel {
            for altname in &kernel.altnames {
                self.altnames.remove(&(zone, altname.clone()));
            }
        }
        if let Some(phys) = &link.record.phys {
            phys.mac.map(|mac| self.macs.remove(&(mac, id)));
            phys.path.clone().map(|path| self.paths.remove(&(path, id)));
        }
        let shown = self.stand_ins.remove(&id).unwrap_or_else(|| {
            link.kernel.as_ref().map_or(link.wanted_name(), |kernel| kernel.name)
        });
        self.displaced.remove(&(zone, link.wanted_name(), id));
        self.give_up_name(zone, shown, id);
    }

    /// Frees a name, and gives it to a record that has been waiting for it.
    fn give_up_name(&mut self, zone: ZoneId, name: LinkName, id: LinkId) {
        if self.names.get(&(zone, name)) != Some(&id) {
            return;
        }
        self.names.remove(&(zone, name));
        let waiting = self.wanting(zone, name).and_then(|id| self.links.get(&id)).cloned();
        if let Some(link) = waiting.filter(|link| link.kernel.is_none()) {
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
        let zone = link.zone();
        if let Some(at) = link.binding() {
            self.bindings.insert(at, id);
        }
        if let Some(kernel) = &link.kernel {
            for altname in &kernel.altnames {
                self.altnames.insert((zone, altname.clone()), id);
            }
        }
        if let Some(phys) = &link.record.phys {
            phys.mac.map(|mac| self.macs.insert((mac, id)));
            phys.path.clone().map(|path| self.paths.insert((path, id)));
        }
        self.links.insert(id, Arc::new(link.clone()));
        self.claim_name(zone, link);
    }

    fn claim_name(&mut self, zone: ZoneId, link: &Link) {
        let id = link.record.id;
        let wanted = link.wanted_name();
        if let Some(kernel) = &link.kernel {
            if let Some(loser) = self.names.insert((zone, kernel.name), id) {
                self.displace(zone, loser);
            }
            if kernel.name != wanted {
                self.displaced.insert((zone, wanted, id));
            }
        } else if self.names.contains_key(&(zone, wanted)) {
            self.displace(zone, id);
        } else {
            self.names.insert((zone, wanted), id);
        }
    }

    /// The link lost the name that it is known by; the kernel has another link there.
    fn displace(&mut self, zone: ZoneId, id: LinkId) {
        let Some(link) = self.links.get(&id).cloned() else { return };
        if link.kernel.is_some() {
            // Two links the kernel has cannot have one name: what is known of this one is old,
            // and `outdated` tells the engine to look at it.
            return;
        }
        let stand_in = self.stand_in_name(&link);
        self.displaced.insert((zone, link.wanted_name(), id));
        self.stand_ins.insert(id, stand_in);
        self.names.insert((zone, stand_in), id);
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
        free.filter_map(|(_, _, id)| self.link(*id)?.binding())
    }

    /// Links that the kernel had under a name that another link has now: what is known of them
    /// is out of date.
    pub fn outdated(&self, ids: impl IntoIterator<Item = LinkId>) -> Vec<Binding> {
        let owner_of_name = |id| {
            let link = self.link(id)?;
            self.by_name(link.zone(), link.kernel.as_ref()?.name)
        };
        let is_outdated = |id: &LinkId| owner_of_name(*id).is_some_and(|owner| owner != *id);
        ids.into_iter().filter(is_outdated).filter_map(|id| self.link(id)?.binding()).collect()
    }
}

/// No linkid is lower, so a range from here holds every id.
const FIRST_ID: LinkId = match LinkId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};
