//! The persistent registry as a text, and back: `dladm export` and `import`.

use std::collections::BTreeSet;

use dlmgmt_proto::{
    DevicePath, Error, ErrorCode, Generation, HwAddr, LinkClass, LinkId, LinkName, Media, Result,
    ZoneId,
};
use serde::{Deserialize, Serialize};

use super::lookup::title;
use super::plan::{LinkIds, Plan};
use super::registry::Registry;
use super::rename::plan_rename;
use crate::model::{Lifetime, Link, LinkRecord, Location, Origin, PhysIdentity};

/// The version of the text that this daemon writes, and so far the only one it reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    links: Vec<Entry>,
}

/// A persistent link, without what holds only on this machine at this moment.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    linkid: LinkId,
    link: LinkName,
    class: LinkClass,
    media: Media,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<HwAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<DevicePath>,
}

/// Every persistent link as JSON text.
pub fn export(registry: &Registry) -> Result<Vec<u8>> {
    let persistent = registry.links().filter(|link| link.record.lifetime == Lifetime::Persistent);
    let document = Document { format: FORMAT, links: persistent.map(|link| entry(link)).collect() };
    let failed = |why| Error::new(ErrorCode::Invalid, format!("cannot write the export: {why}"));
    let mut text = serde_json::to_vec_pretty(&document).map_err(failed)?;
    text.push(b'\n');
    Ok(text)
}

fn entry(link: &Link) -> Entry {
    let record = &link.record;
    Entry {
        linkid: record.id,
        link: record.name,
        class: record.class,
        media: record.media,
        mac: record.phys.as_ref().and_then(|phys| phys.mac),
        path: record.phys.as_ref().and_then(|phys| phys.path.clone()),
    }
}

/// Brings such a text in: all of it or nothing.
///
/// A link that is known here by its identity keeps its linkid and takes the name; one that is not
/// becomes a `removed` link that waits for its hardware, with the linkid it had if that was never
/// given here.
pub fn plan_import(registry: &Registry, ids: &mut LinkIds, text: &[u8]) -> Result<Plan> {
    let entries = parse(text)?;
    refuse_doubles(&entries)?;
    let (known, unknown): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .map(|entry| (find(registry, &entry), entry))
        .partition(|(id, _)| id.is_some());
    let wishes: Vec<(LinkId, LinkName)> = known
        .into_iter()
        .filter_map(|(id, entry)| Some((id?, entry.link)))
        .filter(|(id, name)| registry.link(*id).is_some_and(|link| link.record.name != *name))
        .collect();
    let mut plan =
        if wishes.is_empty() { Plan::default() } else { plan_rename(registry, &wishes)? };
    let renamed = registry.with(&plan.changes);
    for (_, entry) in unknown {
        refuse_taken(&renamed, entry.link)?;
        plan.changes.push(absent_link(&entry, ids)?.into());
    }
    Ok(plan)
}

fn parse(text: &[u8]) -> Result<Vec<Entry>> {
    let invalid = |why: String| Error::new(ErrorCode::Invalid, format!("cannot import: {why}"));
    let document: Document =
        serde_json::from_slice(text).map_err(|why| invalid(why.to_string()))?;
    if document.format != FORMAT {
        return Err(invalid(format!("format {} is not known here", document.format)));
    }
    for Entry { link, class, mac, path, .. } in &document.links {
        LinkName::given_bytes(link.as_bytes()).map_err(|why| invalid(format!("{link}: {why}")))?;
        if *class != LinkClass::Phys {
            return Err(invalid(format!("{link}: a link of class {class} cannot be imported")));
        }
        if mac.is_none() && path.is_none() {
            return Err(invalid(format!("{link}: it has neither a mac nor a path to know it by")));
        }
    }
    Ok(document.links)
}

fn refuse_doubles(entries: &[Entry]) -> Result<()> {
    let mut ids = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut identities = BTreeSet::new();
    for Entry { linkid, link, mac, path, .. } in entries {
        let double =
            |what| Error::new(ErrorCode::Invalid, format!("cannot import: {what} is there twice"));
        if !ids.insert(*linkid) {
            return Err(double(format!("linkid {linkid}")));
        }
        if !names.insert(*link) {
            return Err(double(format!("link {link}")));
        }
        if !identities.insert((*mac, path.clone())) {
            return Err(double(format!("the hardware of {link}")));
        }
    }
    Ok(())
}

fn find(registry: &Registry, entry: &Entry) -> Option<LinkId> {
    let is_it = |link: &&std::sync::Arc<Link>| {
        let phys = link.record.phys.as_ref();
        link.record.media == entry.media
            && phys.is_some_and(|phys| {
                phys.mac == entry.mac && (phys.mac.is_some() || phys.path == entry.path)
            })
    };
    let by_mac = entry.mac.into_iter().flat_map(|mac| registry.by_mac(mac));
    let by_path = entry.path.iter().flat_map(|path| registry.by_path(path));
    by_mac.chain(by_path).find(is_it).map(|link| link.record.id)
}

fn refuse_taken(registry: &Registry, name: LinkName) -> Result<()> {
    if registry.is_name_free(ZoneId::GLOBAL, name) {
        return Ok(());
    }
    let by = registry.by_name(ZoneId::GLOBAL, name).and_then(|id| registry.link(id));
    let by = by.map_or_else(|| "another link".to_owned(), |link| title(registry, link));
    Err(Error::new(ErrorCode::Exists, format!("cannot import {name}: it is the name of {by}")))
}

fn absent_link(entry: &Entry, ids: &mut LinkIds) -> Result<Link> {
    let id = if ids.is_fresh(entry.linkid) && entry.linkid.get() < HIGHEST_IMPORTED_ID {
        ids.give_exactly(entry.linkid);
        entry.linkid
    } else {
        ids.give()?
    };
    let record = LinkRecord {
        id,
        name: entry.link,
        owner: ZoneId::GLOBAL,
        location: Location::Home,
        class: entry.class,
        kind: None,
        media: entry.media,
        lifetime: Lifetime::Persistent,
        origin: Origin::Own,
        phys: Some(PhysIdentity { mac: entry.mac, path: entry.path.clone() }),
        anchor: None,
        recipe: None,
        unsettled: false,
        generation: Generation::default(),
    };
    Ok(Link { record, kernel: None })
}

/// Ids are given upwards from the highest one, so a text must not be able to use them all up.
const HIGHEST_IMPORTED_ID: u32 = 1 << 31;
