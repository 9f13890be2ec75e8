//! Which link that is known here is the one that an entry of a text speaks of.

use std::collections::BTreeSet;
use std::sync::Arc;

use dlmgmt_proto::kind::{LinkOptions, OptionSpec};
use dlmgmt_proto::{LinkClass, LinkId, LinkName, ZoneId};

use super::options::value_of;
use super::registry::Registry;
use super::transfer::{Document, Entry, Over};
use crate::model::{Lifetime, Link, Origin, Recipe};

/// The link that an entry speaks of, if it is known here.
pub(super) fn find(registry: &Registry, document: &Document, entry: &Entry) -> Option<LinkId> {
    match entry.class {
        LinkClass::Phys => find_hardware(registry, document, entry),
        _ => find_virtual(registry, document, entry),
    }
}

/// The same device, or else one with the same address that no entry describes better.
fn find_hardware(registry: &Registry, document: &Document, entry: &Entry) -> Option<LinkId> {
    let is_exactly = |link: &Link, entry: &Entry| {
        link.record.phys.as_ref().is_some_and(|phys| {
            link.record.media == entry.media && (phys.mac, &phys.path) == (entry.mac, &entry.path)
        })
    };
    let has_address = |link: &Link| {
        link.record.media == entry.media
            && entry.mac.is_some()
            && !document.links.iter().any(|other| is_exactly(link, other))
    };
    let by_mac = || entry.mac.into_iter().flat_map(|mac| registry.by_mac(mac));
    let by_path = entry.path.iter().flat_map(|path| registry.by_path(path));
    let exact = by_mac().chain(by_path).find(|link| is_exactly(link, entry));
    exact.or_else(|| by_mac().find(|link| has_address(link))).map(|link| link.record.id)
}

/// A virtual link of ours that has the name, and of which only what can change differs.
fn find_virtual(registry: &Registry, document: &Document, entry: &Entry) -> Option<LinkId> {
    let link = named(registry, entry.link)?;
    difference(registry, document, entry, link).is_none().then_some(link.record.id)
}

/// The link that has the name at home.
pub(super) fn named(registry: &Registry, name: LinkName) -> Option<&Arc<Link>> {
    let link = registry.link(registry.by_name(ZoneId::GLOBAL, name)?)?;
    let record = &link.record;
    ((record.owner, record.name) == (ZoneId::GLOBAL, name)).then_some(link)
}

/// What of a link cannot become as an entry of its name says, in words that go on from the link's
/// name; `None` where the link is the one that is meant.
pub(super) fn difference(
    registry: &Registry,
    document: &Document,
    entry: &Entry,
    link: &Link,
) -> Option<String> {
    let record = &link.record;
    let is_ours = (record.origin, record.lifetime) == (Origin::Own, Lifetime::Persistent);
    let (Some(recipe), true) = (&record.recipe, is_ours) else {
        return Some("which is no persistent link of ours".to_owned());
    };
    let other = |what: &str| Some(format!("which {what}"));
    let (Ok(wanted), Some(made_with)) = (entry.made_with(), recipe.settings()) else {
        return other("was made by a later dlmgmtd");
    };
    if made_with.kind() != wanted.kind() {
        let (is, meant) = (made_with.kind().name, wanted.kind().name);
        return Some(format!("which is of kind {is}, not {meant}"));
    }
    let below = |below: &Over| match below {
        Over::Entry(lower) => {
            document.entry(*lower).and_then(|lower| find(registry, document, lower))
        }
        Over::Named(name) => named(registry, *name).map(|lower| lower.record.id),
    };
    if entry.over.as_ref().and_then(below) != recipe.over {
        return other("lies over another link");
    }
    let ports: BTreeSet<LinkId> = entry.ports.iter().filter_map(below).collect();
    if ports != recipe.ports.iter().copied().collect() {
        return other("has other ports");
    }
    if !has_that_peer(registry, document, entry, recipe) {
        return other("is one end of another pair");
    }
    fixed_difference(&made_with, &wanted)
}

fn has_that_peer(registry: &Registry, document: &Document, entry: &Entry, recipe: &Recipe) -> bool {
    let wanted = entry.peer.and_then(|peer| document.entry(peer)).map(|peer| peer.link);
    let peer = recipe.peer.and_then(|peer| registry.link(peer)).map(|peer| peer.record.name);
    wanted == peer
}

/// The first option that is another one, and that is given only when the link is made.
fn fixed_difference(is: &LinkOptions, wanted: &LinkOptions) -> Option<String> {
    let fixed = is.kind().options.iter().filter(|option| !option.is_changeable);
    let differs = |option: &&OptionSpec| value_of(is, option) != value_of(wanted, option);
    fixed.into_iter().find(differs).map(|option| {
        let show = |options| {
            value_of(options, option).map_or_else(|| "not given".to_owned(), |it| it.to_string())
        };
        format!("whose {} is {}, not {}", option.name, show(is), show(wanted))
    })
}
