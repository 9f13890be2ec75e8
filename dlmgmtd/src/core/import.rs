//! A text of another registry is brought in: all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::{
    Error, ErrorCode, Generation, LinkClass, LinkId, LinkName, Result, ZoneId, ZoneName,
};

use super::likeness::{difference, find, named};
use super::loans::{Lend, plan_lend};
use super::lookup::title;
use super::options::plan_made_with;
use super::plan::{LinkChange, LinkIds, Plan};
use super::registry::Registry;
use super::rename::plan_rename;
use super::transfer::{Document, Entry, HIGHEST_NUMBER, Over, ZoneEntry, invalid};
use crate::model::{
    Lifetime, Link, LinkRecord, Loan, Location, Origin, PhysIdentity, Readings, Recipe, Zone,
    ZoneRecord,
};

/// What links are not followed by, and was asked for an import.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The addresses of links that are to be lent.
    pub addresses: BTreeMap<LinkId, Vec<String>>,
    /// What links have whose options are to be others.
    pub readings: BTreeMap<LinkId, Readings>,
}

/// The links that are known here and that the text lends to a zone: who brings it in must know
/// their addresses.
pub fn links_to_lend(registry: &Registry, document: &Document) -> Vec<LinkId> {
    let lent = document.links.iter().filter(|entry| entry.loan.is_some());
    lent.filter_map(|entry| find(registry, document, entry)).collect()
}

/// The virtual links that are known here.
pub fn known_virtual_links(registry: &Registry, document: &Document) -> Vec<LinkId> {
    known_virtual(registry, document).map(|(_, id)| id).collect()
}

/// The links among those that the text says to have been made otherwise: who brings it in must know
/// what they have.
pub fn links_to_change(registry: &Registry, document: &Document) -> Vec<LinkId> {
    let differs = |(entry, id): &(&Entry, LinkId)| {
        let made_with = entry.made_with().ok()?;
        plan_made_with(registry.link(*id)?, &made_with, None)
    };
    let known = known_virtual(registry, document);
    known.filter(|known| differs(known).is_some()).map(|(_, id)| id).collect()
}

fn known_virtual<'a>(
    registry: &'a Registry,
    document: &'a Document,
) -> impl Iterator<Item = (&'a Entry, LinkId)> {
    let virtual_links = document.links.iter().filter(|entry| entry.class != LinkClass::Phys);
    virtual_links.filter_map(|entry| Some((entry, find(registry, document, entry)?)))
}

/// Brings a text in.
///
/// A link that is known here keeps its linkid and takes the name: hardware is known by its
/// identity, a virtual link by its name and by what of it never changes; its options become those of
/// the text. What is not known becomes a link that is absent
/// as yet, with the linkid it had if that was never given here: hardware waits to appear, a
/// virtual link to be made. Zones keep the numbers that their names have here. What is known here
/// and not in the text stays as it is.
pub fn plan_import(
    registry: &Registry,
    ids: &mut LinkIds,
    document: &Document,
    asked: &Asked,
) -> Result<Plan> {
    let mut draft = Draft::new(registry, document)?;
    draft.number_zones();
    draft.give_ids(ids)?;
    draft.rename_the_known()?;
    draft.add_the_unknown()?;
    draft.give_options(&asked.readings)?;
    draft.give_properties()?;
    draft.lend(&asked.addresses)?;
    Ok(Plan { changes: draft.changes.into_values().collect(), ..draft.plan })
}

struct Draft<'a> {
    document: &'a Document,
    /// As it will be by the plan so far.
    registry: Registry,
    plan: Plan,
    changes: BTreeMap<LinkId, LinkChange>,
    /// Which link here each linkid of the text meant before anything changed.
    known: BTreeMap<LinkId, LinkId>,
    /// Which link here each linkid of the text means.
    ids: BTreeMap<LinkId, LinkId>,
}

impl<'a> Draft<'a> {
    fn new(registry: &Registry, document: &'a Document) -> Result<Self> {
        let mut known = BTreeMap::new();
        let mut found = BTreeSet::new();
        for entry in &document.links {
            let Some(id) = find(registry, document, entry) else { continue };
            if !found.insert(id) {
                return Err(invalid(format!("{}: another entry is the same link", entry.link)));
            }
            known.insert(entry.linkid, id);
        }
        let registry = registry.clone();
        let (plan, changes, ids) = (Plan::default(), BTreeMap::new(), known.clone());
        Ok(Self { document, registry, plan, changes, known, ids })
    }

    fn number_zones(&mut self) {
        for ZoneEntry { zoneid, zone } in &self.document.zones {
            if self.registry.zone_by_name(zone).is_some() {
                continue;
            }
            let is_free = self.registry.zone(*zoneid).is_none() && zoneid.0 < HIGHEST_NUMBER;
            let id = if is_free { *zoneid } else { self.registry.fresh_zone_id() };
            let record = ZoneRecord { id, name: zone.clone(), attached: None };
            let zone = Zone { record, up: None };
            self.registry = self.registry.with_zone(zone.clone());
            self.plan.zones.push(zone);
        }
    }

    fn unknown(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let known = self.known.clone();
        self.document.links.iter().filter(move |entry| !known.contains_key(&entry.linkid))
    }

    /// Ids that can be kept are, before others are given that might be those.
    fn give_ids(&mut self, ids: &mut LinkIds) -> Result<()> {
        let is_kept = |id: &LinkId, ids: &LinkIds| ids.is_fresh(*id) && id.get() < HIGHEST_NUMBER;
        let (mut kept, others): (Vec<LinkId>, Vec<LinkId>) =
            self.unknown().map(|entry| entry.linkid).partition(|id| is_kept(id, ids));
        kept.sort_unstable();
        for id in kept {
            ids.give_exactly(id);
            self.ids.insert(id, id);
        }
        for id in others {
            self.ids.insert(id, ids.give()?);
        }
        Ok(())
    }

    fn rename_the_known(&mut self) -> Result<()> {
        let known = self.document.links.iter().filter_map(|entry| {
            let link = self.registry.link(*self.known.get(&entry.linkid)?)?;
            Some((link, entry.link))
        });
        let (named, others): (Vec<_>, Vec<_>) =
            known.partition(|(link, name)| link.record.name == *name);
        let wishes: Vec<(LinkId, LinkName)> =
            others.into_iter().map(|(link, name)| (link.record.id, name)).collect();
        let presumes = named.into_iter().map(|(link, _)| link.record.id).collect();
        if !wishes.is_empty() {
            let before = self.registry.clone();
            let plan = plan_rename(&before, &wishes)?;
            self.take(plan);
            self.follow_devices(&before);
        }
        self.take(Plan { presumes, ..Plan::default() });
        Ok(())
    }

    /// A device that took over a removed link is meant as that from now on.
    fn follow_devices(&mut self, before: &Registry) {
        for id in self.ids.values_mut() {
            let at = before.link(*id).and_then(|link| link.binding());
            *id = at.and_then(|at| self.registry.by_binding(at)).unwrap_or(*id);
        }
    }

    fn add_the_unknown(&mut self) -> Result<()> {
        let added = self.unknown().map(|entry| {
            refuse_taken(&self.registry, self.document, entry)?;
            Ok(Link { record: self.record(entry)?.into(), kernel: None }.into())
        });
        let changes = added.collect::<Result<_>>()?;
        self.take(Plan { changes, ..Plan::default() });
        Ok(())
    }

    fn give_options(&mut self, readings: &BTreeMap<LinkId, Readings>) -> Result<()> {
        let known = self.document.links.iter().filter(|entry| entry.class != LinkClass::Phys);
        for entry in known {
            let Some(id) = self.known.get(&entry.linkid) else { continue };
            let Some(link) = self.registry.link(*id) else { continue };
            if let Some(plan) = plan_made_with(link, &entry.made_with()?, readings.get(id)) {
                self.take(plan);
            }
        }
        Ok(())
    }

    /// What the text says of properties is wanted from now on; what else was set here stays.
    fn give_properties(&mut self) -> Result<()> {
        for entry in &self.document.links {
            let wanted = entry.settings()?;
            let link = self.registry.link(self.here(entry.linkid));
            let Some(link) = link.filter(|_| !wanted.is_empty()) else { continue };
            let mut link = Link::clone(link);
            link.record_mut().properties.want_for_good(&wanted);
            let equips = vec![link.record.id];
            self.take(Plan { changes: vec![link.into()], equips, ..Plan::default() });
        }
        Ok(())
    }

    fn record(&self, entry: &Entry) -> Result<LinkRecord> {
        let (kind, phys, recipe) = match entry.class {
            LinkClass::Phys => {
                let phys = PhysIdentity { mac: entry.mac, path: entry.path.clone() };
                (None, Some(phys), None)
            }
            _ => {
                let settings = entry.made_with()?;
                (Some(settings.kind().kernel), None, Some(self.recipe(entry, &settings)?))
            }
        };
        Ok(LinkRecord {
            id: self.here(entry.linkid),
            name: entry.link,
            owner: ZoneId::GLOBAL,
            location: Location::Home,
            class: entry.class,
            kind: kind.map(str::to_owned),
            media: entry.media,
            lifetime: Lifetime::Persistent,
            origin: Origin::Own,
            phys,
            anchor: None,
            recipe,
            unsettled: false,
            generation: Generation::default(),
            properties: Default::default(),
        })
    }

    /// Every linkid of the text has been found or given by now.
    fn here(&self, id: LinkId) -> LinkId {
        self.ids.get(&id).copied().unwrap_or(id)
    }

    fn recipe(&self, entry: &Entry, settings: &LinkOptions) -> Result<Recipe> {
        let missing = || invalid(format!("{}: what it lies over is not here", entry.link));
        let below = |below: &Over| match below {
            Over::Entry(lower) => Ok(self.here(*lower)),
            Over::Named(name) => self.registry.by_name(ZoneId::GLOBAL, *name).ok_or_else(missing),
        };
        Ok(Recipe {
            over: entry.over.as_ref().map(below).transpose()?,
            peer: entry.peer.map(|peer| self.here(peer)),
            ports: entry.ports.iter().map(below).collect::<Result<_>>()?,
            ..Recipe::new(settings)
        })
    }

    fn lend(&mut self, addresses: &BTreeMap<LinkId, Vec<String>>) -> Result<()> {
        for entry in &self.document.links {
            let Some(loan) = &entry.loan else { continue };
            let id = self.here(entry.linkid);
            let zone = self.zone(&loan.zone)?;
            if self.has_loan(id, zone, loan.name) {
                continue;
            }
            let lend = Lend {
                id,
                zone,
                name_inside: Some(loan.name),
                is_persistent: true,
                force: false,
                generation: None,
            };
            let asked = self.known.get(&entry.linkid).and_then(|found| addresses.get(found));
            let addresses = asked.map(Vec::as_slice).unwrap_or_default();
            let plan = plan_lend(&self.registry, &lend, addresses)?;
            self.take(plan);
        }
        Ok(())
    }

    fn zone(&self, name: &ZoneName) -> Result<ZoneId> {
        let unknown = || invalid(format!("zone {name} has no number"));
        self.registry.zone_by_name(name).ok_or_else(unknown)
    }

    fn has_loan(&self, id: LinkId, zone: ZoneId, name: LinkName) -> bool {
        let loan = self.registry.link(id).and_then(|link| link.loan());
        let is_it =
            |loan: &Loan| (loan.zone, loan.name_inside, loan.is_persistent) == (zone, name, true);
        loan.is_some_and(is_it)
    }

    /// The plan so far, and then this one. A later change of a link replaces the earlier one.
    fn take(&mut self, next: Plan) {
        self.registry = self.registry.with(&next.changes);
        self.changes.extend(next.changes.into_iter().map(|change| (change.id, change)));
        self.plan.steps.extend(next.steps);
        self.plan.equips.extend(next.equips);
        self.plan.presumes.extend(next.presumes);
    }
}

fn refuse_taken(registry: &Registry, document: &Document, entry: &Entry) -> Result<()> {
    let name = entry.link;
    if registry.is_name_free(ZoneId::GLOBAL, name) {
        return Ok(());
    }
    let by = registry.by_name(ZoneId::GLOBAL, name).and_then(|id| registry.link(id));
    let by = by.map_or_else(|| "another link".to_owned(), |link| title(registry, link));
    let differs = named(registry, name).filter(|_| entry.class != LinkClass::Phys);
    let differs = differs.and_then(|link| difference(registry, document, entry, link));
    let differs = differs.map(|differs| format!(", {differs}")).unwrap_or_default();
    let text = format!("cannot import {name}: it is the name of {by}{differs}");
    Err(Error::new(ErrorCode::Exists, text))
}
