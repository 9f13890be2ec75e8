//! The persistent registry as a text: what `dladm export` writes and `dladm import` reads.

use std::collections::{BTreeMap, BTreeSet};

use dlmgmt_proto::property::{Description, Kind, Property};
use dlmgmt_proto::{
    DevicePath, Error, ErrorCode, HwAddr, LinkClass, LinkId, LinkName, MacvlanMode, Media, Result,
    ZoneId, ZoneName,
};
use serde::{Deserialize, Serialize};

use super::registry::Registry;
use crate::model::{Lifetime, Link, Origin, Recipe, Settings};

/// The version of the text that this daemon writes. It reads all up to this one: format 1 has
/// physical links alone, and nothing of zones; format 2 has no properties.
const FORMAT: u32 = 3;

/// Numbers are given upwards from the highest one, so a text must not be able to use them all up.
pub(super) const HIGHEST_NUMBER: u32 = 1 << 31;

/// Vnics that may lie over each other: the kernel has no more (`MAX_NEST_DEV`).
const DEEPEST: usize = 8;

/// A text that makes sense by itself, whatever is known here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) zones: Vec<ZoneEntry>,
    pub(super) links: Vec<Entry>,
    /// Where the entry of each linkid is.
    #[serde(skip)]
    places: BTreeMap<LinkId, usize>,
}

/// The number of a zone's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneEntry {
    pub zoneid: ZoneId,
    pub zone: ZoneName,
}

/// A persistent link, without what holds only on this machine at this moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub linkid: LinkId,
    pub link: LinkName,
    pub class: LinkClass,
    pub media: Media,
    /// Of hardware, its permanent address; of a vnic, the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<HwAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<DevicePath>,
    /// Of a veth, the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<LinkId>,
    /// Of a vnic, what it lies over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MacvlanMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loan: Option<LoanEntry>,
    /// What was set for good, as people write it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<Property, String>,
}

/// The lower link of a vnic: another entry, or a link that is in no text because it is not
/// persistent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Over {
    Entry(LinkId),
    Named(LinkName),
}

/// A persistent assignment to a zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoanEntry {
    pub zone: ZoneName,
    pub name: LinkName,
}

/// Every persistent link, and every zone's number, as JSON text.
pub fn export(registry: &Registry) -> Result<Vec<u8>> {
    let zones = registry.zones().map(|zone| &zone.record).filter(|zone| zone.id != ZoneId::GLOBAL);
    let zones = zones.map(|zone| ZoneEntry { zoneid: zone.id, zone: zone.name.clone() });
    let links = registry.links().filter(|link| is_exported(registry, link));
    let document = Document {
        format: FORMAT,
        zones: zones.collect(),
        links: links.map(|link| entry(registry, link)).collect(),
        places: BTreeMap::new(),
    };
    let failed = |why| Error::new(ErrorCode::Invalid, format!("cannot write the export: {why}"));
    let mut text = serde_json::to_vec_pretty(&document).map_err(failed)?;
    text.push(b'\n');
    Ok(text)
}

/// A virtual link that was made in a zone ends with it, and so does its other end.
fn is_exported(registry: &Registry, link: &Link) -> bool {
    if link.record.lifetime != Lifetime::Persistent {
        return false;
    }
    let lasts = |link: &Link| {
        link.record.owner == ZoneId::GLOBAL && link.record.lifetime == Lifetime::Persistent
    };
    match &link.record.recipe {
        None => link.record.class == LinkClass::Phys,
        Some(Recipe::Veth { peer }) => {
            lasts(link) && registry.link(*peer).is_some_and(|peer| lasts(peer))
        }
        Some(Recipe::Macvlan { over, .. }) => lasts(link) && registry.link(*over).is_some(),
    }
}

fn entry(registry: &Registry, link: &Link) -> Entry {
    let record = &link.record;
    let phys = record.phys.as_ref();
    let loan = link.loan().filter(|loan| loan.is_persistent);
    let mut entry = Entry {
        linkid: record.id,
        link: record.name,
        class: record.class,
        media: record.media,
        mac: phys.and_then(|phys| phys.mac),
        path: phys.and_then(|phys| phys.path.clone()),
        peer: None,
        over: None,
        mode: None,
        loan: loan
            .map(|loan| LoanEntry { zone: registry.zone_label(loan.zone), name: loan.name_inside }),
        properties: written(&record.properties.persistent),
    };
    match &record.recipe {
        None => {}
        Some(Recipe::Veth { peer }) => entry.peer = Some(*peer),
        Some(Recipe::Macvlan { over, mac, mode }) => {
            entry.over = registry.link(*over).map(|lower| over_entry(registry, lower));
            (entry.mac, entry.mode) = (*mac, Some(*mode));
        }
    }
    entry
}

fn written(settings: &Settings) -> BTreeMap<Property, String> {
    let written = settings.iter().map(|(of, value)| (of, of.description().kind.show(value)));
    written.collect()
}

fn over_entry(registry: &Registry, lower: &Link) -> Over {
    if lower.record.origin == Origin::Own && is_exported(registry, lower) {
        Over::Entry(lower.record.id)
    } else {
        Over::Named(registry.name_at_home(lower))
    }
}

impl Entry {
    /// The values of its properties.
    pub(super) fn settings(&self) -> Result<Settings> {
        let read = |(property, text): (&Property, &String)| {
            let Description { kind, is_writable, .. } = property.description();
            let wrong = |why: String| invalid(format!("{}: {property}: {why}", self.link));
            if !is_writable || *kind == Kind::Zone {
                return Err(wrong("it is no property to be imported".to_owned()));
            }
            Ok((*property, kind.parse(text).map_err(|why| wrong(why.to_string()))?))
        };
        self.properties.iter().map(read).collect()
    }
}

impl Document {
    /// Reads a text, and refuses one that contradicts itself.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut document: Self =
            serde_json::from_slice(text).map_err(|why| invalid(why.to_string()))?;
        if !(1..=FORMAT).contains(&document.format) {
            return Err(invalid(format!("format {} is not known here", document.format)));
        }
        let places = document.links.iter().enumerate();
        document.places = places.map(|(place, entry)| (entry.linkid, place)).collect();
        document.refuse_bad_zones()?;
        document.refuse_doubles()?;
        document.links.iter().try_for_each(|entry| document.refuse_bad_link(entry))?;
        Ok(document)
    }

    /// The zones that links are lent to.
    pub fn zones_lent_to(&self) -> BTreeSet<ZoneName> {
        let loans = self.links.iter().filter_map(|entry| entry.loan.as_ref());
        loans.map(|loan| loan.zone.clone()).collect()
    }

    /// The entry of that linkid.
    pub(super) fn entry(&self, id: LinkId) -> Option<&Entry> {
        self.places.get(&id).and_then(|place| self.links.get(*place))
    }

    fn refuse_bad_zones(&self) -> Result<()> {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for ZoneEntry { zoneid, zone } in &self.zones {
            if zone.is_global() || *zoneid == ZoneId::GLOBAL {
                return Err(invalid(format!("zone {zone} of number {zoneid}: both are reserved")));
            }
            if !ids.insert(*zoneid) {
                return Err(double(format!("zone number {zoneid}")));
            }
            if !names.insert(zone) {
                return Err(double(format!("zone {zone}")));
            }
        }
        Ok(())
    }

    fn refuse_doubles(&self) -> Result<()> {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut hardware = BTreeSet::new();
        let mut insides = BTreeSet::new();
        for Entry { linkid, link, class, mac, path, loan, .. } in &self.links {
            if !ids.insert(*linkid) {
                return Err(double(format!("linkid {linkid}")));
            }
            if !names.insert(*link) {
                return Err(double(format!("link {link}")));
            }
            if *class == LinkClass::Phys && !hardware.insert((*mac, path.clone())) {
                return Err(double(format!("the hardware of {link}")));
            }
            if let Some(LoanEntry { zone, name }) = loan
                && !insides.insert((zone, *name))
            {
                return Err(double(format!("{name} inside zone {zone}")));
            }
        }
        Ok(())
    }

    fn refuse_bad_link(&self, entry: &Entry) -> Result<()> {
        let Entry { link, class, mac, path, .. } = entry;
        let wrong = |why: String| Err(invalid(format!("{link}: {why}")));
        let names = [Some(*link), entry.loan.as_ref().map(|loan| loan.name)];
        for name in names.into_iter().flatten() {
            if let Err(why) = LinkName::given_bytes(name.as_bytes()) {
                return wrong(format!("{name}: {why}"));
            }
        }
        if let Some(LoanEntry { zone, .. }) = &entry.loan
            && !self.zones.iter().any(|known| known.zone == *zone)
        {
            return wrong(format!("it is lent to zone {zone}, which has no number"));
        }
        entry.settings()?;
        match class {
            LinkClass::Phys if mac.is_none() && path.is_none() => {
                wrong("it has neither a mac nor a path to know it by".to_owned())
            }
            LinkClass::Phys => Ok(()),
            LinkClass::Veth => self.refuse_half_a_pair(entry),
            LinkClass::Vnic => self.refuse_bad_vnic(entry),
            other => wrong(format!("a link of class {other} cannot be imported")),
        }
    }

    fn refuse_half_a_pair(&self, entry: &Entry) -> Result<()> {
        let peer = entry.peer.and_then(|peer| self.entry(peer));
        let is_whole = peer.is_some_and(|peer| {
            peer.class == LinkClass::Veth
                && peer.peer == Some(entry.linkid)
                && peer.linkid != entry.linkid
        });
        if is_whole {
            return Ok(());
        }
        Err(invalid(format!("{}: its other end is missing", entry.link)))
    }

    fn refuse_bad_vnic(&self, entry: &Entry) -> Result<()> {
        let Entry { link, mac, .. } = entry;
        let wrong = |why: &str| Err(invalid(format!("{link}: {why}")));
        let is_unicast = |mac: &HwAddr| {
            mac.as_bytes().len() == 6 && mac.as_bytes()[0] & 1 == 0 && !mac.is_zero()
        };
        if mac.as_ref().is_some_and(|mac| !is_unicast(mac)) {
            return wrong("its mac is no unicast Ethernet address");
        }
        match self.lower_of(entry) {
            None if matches!(entry.over, Some(Over::Named(_))) => Ok(()),
            None => wrong("what it lies over is missing"),
            Some(lower) if lower.media != Media::Ethernet => {
                wrong("what it lies over is no Ethernet link")
            }
            Some(lower) if self.is_circular(lower) => {
                wrong("it lies over too many others, or over itself")
            }
            Some(_) => Ok(()),
        }
    }

    fn lower_of(&self, entry: &Entry) -> Option<&Entry> {
        match &entry.over {
            Some(Over::Entry(lower)) => self.entry(*lower),
            _ => None,
        }
    }

    /// Whether the way down from an entry never ends.
    fn is_circular(&self, entry: &Entry) -> bool {
        std::iter::successors(Some(entry), |entry| self.lower_of(entry)).nth(DEEPEST).is_some()
    }
}

fn double(what: String) -> Error {
    invalid(format!("{what} is there twice"))
}

pub(super) fn invalid(why: String) -> Error {
    Error::new(ErrorCode::Invalid, format!("cannot import: {why}"))
}
