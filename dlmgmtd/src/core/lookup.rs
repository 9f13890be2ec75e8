//! Which link a caller means, and what it is told of it: SPEC.md section 4 and rule 3.6.

use std::sync::Arc;

use dlmgmt_proto::door::{LinkFilter, View};
use dlmgmt_proto::{
    Error, ErrorCode, Flags, LinkClass, LinkId, LinkInfo, LinkRef, LowerLink, Result, ZoneId,
    ZoneName,
};

use super::registry::Registry;
use crate::model::{Bound, Link};

/// What a caller can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The caller's zone, in which a plain name is looked up.
    pub zone: ZoneId,
}

impl Scope {
    /// Of who sees all.
    pub const GLOBAL: Self = Self { zone: ZoneId::GLOBAL };

    /// Whether a link is owned by or assigned to the caller's zone; `global` sees all.
    pub fn sees(self, link: &Link) -> bool {
        self.sees_zone(link.record.owner) || self.sees_zone(link.zone())
    }

    /// Whether a zone is the caller's own; `global` sees all.
    pub fn sees_zone(self, zone: ZoneId) -> bool {
        self.zone == ZoneId::GLOBAL || zone == self.zone
    }
}

/// The link that a caller means.
///
/// A link that the caller may not see is answered as one that is not there.
pub fn resolve<'a>(registry: &'a Registry, scope: Scope, what: &LinkRef) -> Result<&'a Arc<Link>> {
    let id = match what {
        LinkRef::Id(id) => Some(*id),
        LinkRef::Name(name) => registry.by_name(scope.zone, *name),
        LinkRef::InZone(zone_name, name) => {
            registry.by_name(visible_zone(registry, scope, zone_name)?, *name)
        }
    };
    id.and_then(|id| registry.link(id))
        .filter(|link| scope.sees(link))
        .ok_or_else(|| not_found(registry, scope, what))
}

/// A link that a request was resolved to, if it is still there.
pub(super) fn known(registry: &Registry, id: LinkId) -> Result<&Arc<Link>> {
    let gone = || Error::new(ErrorCode::NotFound, format!("no link @{id}"));
    registry.link(id).ok_or_else(gone)
}

/// As [`known`], if it is of a class.
pub(super) fn known_of(registry: &Registry, id: LinkId, class: LinkClass) -> Result<&Arc<Link>> {
    let link = known(registry, id)?;
    if link.record.class != class {
        let (what, is) = (title(registry, link), link.record.class);
        return Err(Error::new(ErrorCode::Invalid, format!("{what} is no {class} but a {is}")));
    }
    Ok(link)
}

/// Where the kernel has a link.
pub(super) fn present<'a>(registry: &Registry, link: &'a Link) -> Result<&'a Bound> {
    link.kernel.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::Invalid, format!("{} is not there now", title(registry, link)))
    })
}

fn not_found(registry: &Registry, scope: Scope, what: &LinkRef) -> Error {
    let place = match what {
        LinkRef::Name(_) => in_zone(registry, scope.zone),
        LinkRef::InZone(..) | LinkRef::Id(_) => String::new(),
    };
    Error::new(ErrorCode::NotFound, format!("no link {what}{place}"))
}

/// A zone as the caller may name it; one that it may not see is answered as one that is not.
pub fn visible_zone(registry: &Registry, scope: Scope, name: &ZoneName) -> Result<ZoneId> {
    let zone = registry.zone_by_name(name).filter(|zone| scope.sees_zone(*zone));
    zone.ok_or_else(|| Error::new(ErrorCode::NoZone, format!("no zone {name}")))
}

fn in_zone(registry: &Registry, zone: ZoneId) -> String {
    format!(" in zone {}", registry.zone_label(zone))
}

/// `NAME in zone ZONE`, as messages speak of a link.
pub(super) fn title(registry: &Registry, link: &Link) -> String {
    format!("{}{}", registry.shown_name(link), in_zone(registry, link.zone()))
}

/// All that a client is told of a link.
pub fn describe(registry: &Registry, link: &Link) -> LinkInfo {
    let record = &link.record;
    let kernel = link.kernel.as_ref();
    let mode = registry.link_mode(link);
    LinkInfo {
        id: record.id,
        name: registry.shown_name(link),
        class: record.class,
        kind: record.kind.clone(),
        media: record.media,
        flags: registry.flags(link),
        state: kernel.map_or(dlmgmt_proto::LinkState::Unknown, |kernel| kernel.state),
        mtu: kernel.map(|kernel| kernel.mtu),
        ifindex: kernel.map(|kernel| kernel.ifindex),
        zone: registry.zone_label(link.zone()),
        owner: registry.zone_label(record.owner),
        mac: kernel.and_then(|kernel| kernel.mac),
        permanent_mac: record.phys.as_ref().and_then(|phys| phys.mac),
        path: record.phys.as_ref().and_then(|phys| phys.path.clone()),
        device: kernel.map(|kernel| kernel.name),
        over: over(registry, link).into_iter().chain(ports(registry, link)).collect(),
        speed: mode.speed,
        duplex: mode.duplex,
        generation: record.generation,
    }
}

/// The link that one lies over, or that is the other end of a pair.
///
/// Of our own links the records know it best: the kernel does not tell when a lower link goes to
/// another namespace.
fn over(registry: &Registry, link: &Link) -> Option<LowerLink> {
    let bound = link.kernel.as_ref()?;
    let recipe = link.record.recipe.as_ref();
    let made_over = recipe.and_then(|recipe| recipe.over.or(recipe.peer));
    let lies_over = || registry.by_binding(bound.lower?.at(bound.ns)?);
    let lower = registry.link(made_over.or_else(lies_over)?)?;
    let place = lower.kernel.as_ref()?;
    let zone = match place.ns == bound.ns {
        true => None,
        false => Some(registry.zone_label(place.zone?)),
    };
    Some(LowerLink { name: place.name, zone })
}

/// The ports of a bridge or an aggregation, which are always in its own namespace.
fn ports(registry: &Registry, link: &Link) -> Vec<LowerLink> {
    let ports = link.binding().into_iter().flat_map(|at| registry.ports_of(at));
    let mut ports: Vec<_> =
        ports.map(|port| LowerLink { name: registry.shown_name(port), zone: None }).collect();
    ports.sort_unstable();
    ports
}

/// All that a caller is told of a link.
pub fn describe_to(scope: Scope, registry: &Registry, link: &Link) -> LinkInfo {
    let described = describe(registry, link);
    match scope.zone {
        ZoneId::GLOBAL => described,
        zone => veiled(&registry.zone_label(zone), described),
    }
}

/// What a caller of a zone is told of a link: not what that lies over elsewhere (rule 3.6).
pub fn veiled(zone: &ZoneName, mut link: LinkInfo) -> LinkInfo {
    if !zone.is_global() {
        link.over.retain(|lower| lower.zone.as_ref().is_none_or(|other| other == zone));
    }
    link
}

impl Registry {
    /// The first link after `after` that passes the filter and that the scope sees.
    pub fn next_link(
        &self,
        scope: Scope,
        filter: &LinkFilter,
        after: Option<LinkId>,
    ) -> Result<Option<LinkInfo>> {
        let zone = match (&filter.zone, filter.all_zones) {
            (_, true) => None,
            (None, false) => Some(scope.zone),
            (Some(name), false) => Some(visible_zone(self, scope, name)?),
        };
        let passes = |link: &&Arc<Link>| {
            scope.sees(link)
                && !link.is_loopback()
                && zone.is_none_or(|zone| link.zone() == zone)
                && (filter.classes.is_empty() || filter.classes.contains(&link.record.class))
                && self.is_in_view(link, filter.view)
        };
        let found = self.links_after(after).find(passes);
        Ok(found.map(|link| describe_to(scope, self, link)))
    }

    fn is_in_view(&self, link: &Link, view: View) -> bool {
        match view {
            View::Active => link.kernel.is_some(),
            View::Persistent => self.flags(link).contains(Flags::PERSISTENT),
            View::All => true,
        }
    }
}
