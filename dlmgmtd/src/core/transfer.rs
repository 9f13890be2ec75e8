//! The persistent registry as a text: what `dladm export` writes and `dladm import` reads.

use std::collections::{BTreeMap, BTreeSet};

use dlmgmt_proto::kind::{ClassSpec, LinkKind, LinkOptions};
use dlmgmt_proto::property::{Description, Kind, Property};
use dlmgmt_proto::{
    DevicePath, Error, ErrorCode, HwAddr, LinkClass, LinkId, LinkName, MacvlanMode, Media, Result,
    ZoneId, ZoneName,
};
use serde::{Deserialize, Serialize};

use super::registry::Registry;
use crate::model::{Lifetime, Link, Origin, Settings};

/// The version of the text that this daemon writes. It reads all up to this one: format 1 has
/// physical links alone, and nothing of zones; format 2 has no properties, and pairs and macvlans
/// alone, of which those say their address and mode without `kind` and `options`.
const FORMAT: u32 = 3;

/// Numbers are given upwards from the highest one, so a text must not be able to use them all up.
pub(super) const HIGHEST_NUMBER: u32 = 1 << 31;

/// Links that may lie over each other: the kernel has no more (`MAX_NEST_DEV`).
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
    /// Of hardware, its permanent address; of a vnic of format 2, the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<HwAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<DevicePath>,
    /// Of a virtual link, its kind; that which is meant by the class alone, if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of one end of a pair, the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<LinkId>,
    /// What it lies over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// What its ports are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Over>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Of a vnic of format 2, its mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MacvlanMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loan: Option<LoanEntry>,
    /// What was set for good, as people write it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<Property, String>,
}

/// A link below: another entry, or a link that is in no text because it is not persistent.
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
    let Some(recipe) = &link.record.recipe else { return link.record.class == LinkClass::Phys };
    let has_peer = |peer| registry.link(peer).is_some_and(|peer| lasts(peer));
    let is_there = |lower| registry.link(lower).is_some();
    lasts(link) && recipe.peer.is_none_or(has_peer) && recipe.over.is_none_or(is_there)
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
        kind: None,
        peer: None,
        over: None,
        ports: Vec::new(),
        options: BTreeMap::new(),
        mode: None,
        loan: loan
            .map(|loan| LoanEntry { zone: registry.zone_label(loan.zone), name: loan.name_inside }),
        properties: written(&record.properties.persistent),
    };
    if let Some(recipe) = &record.recipe {
        let below = |id: LinkId| registry.link(id).map(|lower| over_entry(registry, lower));
        entry.kind = Some(recipe.kind.clone());
        entry.peer = recipe.peer;
        entry.over = recipe.over.and_then(below);
        entry.ports = recipe.ports.iter().copied().filter_map(below).collect();
        entry.options = recipe.options.clone();
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
            _ => match entry.made_with()?.kind().is_pair {
                true => self.refuse_half_a_pair(entry),
                false => self.refuse_bad_below(entry),
            },
        }
    }

    fn refuse_half_a_pair(&self, entry: &Entry) -> Result<()> {
        let peer = entry.peer.and_then(|peer| self.entry(peer));
        let is_whole = peer.is_some_and(|peer| {
            peer.class == entry.class
                && peer.peer == Some(entry.linkid)
                && peer.linkid != entry.linkid
        });
        if is_whole {
            return Ok(());
        }
        Err(invalid(format!("{}: its other end is missing", entry.link)))
    }

    fn refuse_bad_below(&self, entry: &Entry) -> Result<()> {
        let wrong = |why: &str| Err(invalid(format!("{}: {why}", entry.link)));
        let kind = entry.made_with()?.kind();
        if !kind.has_ports && !entry.ports.is_empty() {
            return wrong("it can have no ports");
        }
        if entry.ports.iter().any(|port| self.is_missing(port)) {
            return wrong("a port of it is missing");
        }
        let rule = match (kind.lower_rule(), &entry.over) {
            (None, Some(_)) => return wrong("it lies over no other link"),
            (_, None) if kind.needs_lower() => return wrong("what it lies over is missing"),
            (_, Some(over)) if self.is_missing(over) => {
                return wrong("what it lies over is missing");
            }
            (rule, _) => rule,
        };
        let has_media = |lower: &Entry| {
            rule.is_none_or(|rule| rule.media.is_empty() || rule.media.contains(&lower.media))
        };
        match self.lower_of(entry) {
            Some(lower) if !has_media(lower) => {
                wrong("what it lies over is no link of the right media")
            }
            _ if self.is_circular(entry) => wrong("it lies over too many others, or over itself"),
            _ => Ok(()),
        }
    }

    fn is_missing(&self, below: &Over) -> bool {
        matches!(below, Over::Entry(id) if self.entry(*id).is_none())
    }

    fn lower_of(&self, entry: &Entry) -> Option<&Entry> {
        match &entry.over {
            Some(Over::Entry(lower)) => self.entry(*lower),
            _ => None,
        }
    }

    /// Whether the way down from an entry never ends.
    fn is_circular(&self, entry: &Entry) -> bool {
        let mut level = BTreeSet::from([entry.linkid]);
        for _ in 0..=DEEPEST {
            let entries = level.iter().filter_map(|id| self.entry(*id));
            level = entries.flat_map(Entry::below).collect();
        }
        !level.is_empty()
    }
}

impl Entry {
    /// The entries that are below this one.
    fn below(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.over.iter().chain(&self.ports).filter_map(|below| match below {
            Over::Entry(id) => Some(*id),
            Over::Named(_) => None,
        })
    }

    /// How a virtual link is made.
    pub fn made_with(&self) -> Result<LinkOptions> {
        let kind = match &self.kind {
            Some(name) => LinkKind::named(name).filter(|kind| kind.class == self.class),
            None => ClassSpec::of(self.class).and_then(ClassSpec::default_kind),
        };
        let wrong = |why: String| invalid(format!("{}: {why}", self.link));
        let unknown = || wrong(format!("a link of class {} cannot be imported", self.class));
        let kind = kind.ok_or_else(unknown)?;
        let mac = self.mac.map(|mac| ("mac", mac.to_string()));
        let mode = self.mode.map(|mode| ("mode", mode.as_str().to_owned()));
        let old: Vec<(&str, String)> = mac.into_iter().chain(mode).collect();
        let old = old.iter().map(|(name, value)| (*name, value.as_str()));
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = LinkOptions::parse(kind, options.chain(old), self.over.is_some());
        settings.map_err(|why| wrong(why.to_string()))
    }
}

fn double(what: String) -> Error {
    invalid(format!("{what} is there twice"))
}

pub(super) fn invalid(why: String) -> Error {
    Error::new(ErrorCode::Invalid, format!("cannot import: {why}"))
}
