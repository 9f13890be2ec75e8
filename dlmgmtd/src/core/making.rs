//! Virtual links are made and ended: SPEC.md section 6, transient links, and section 10.

use std::sync::Arc;

use dlmgmt_proto::{
    Error, ErrorCode, Generation, HwAddr, LinkClass, LinkId, LinkName, MacvlanMode, Media, Result,
    ZoneId,
};

use super::lookup::title;
use super::plan::{Creation, LinkChange, LinkIds, Plan, PlannedStep};
use super::registry::Registry;
use super::rename::refuse_held;
use super::zones::refuse_ending;
use crate::model::{
    Action, Anchor, Binding, Lifetime, Link, LinkRecord, Location, NewKind, NewLink, NsCookie,
    Origin, Recipe, Settings, Step,
};

/// A link that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// The zone where it is made.
    pub zone: ZoneId,
    /// Its name there.
    pub name: LinkName,
    /// How long it is kept.
    pub lifetime: Lifetime,
    /// What it is.
    pub what: What,
    /// How many transient links the zone may have.
    pub quota: Option<usize>,
}

/// The kind of a [`Make`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A pair.
    Veth {
        /// The other end's zone.
        peer_zone: ZoneId,
        /// The other end's name.
        peer_name: LinkName,
    },
    /// A macvlan.
    Macvlan {
        /// The link it lies over.
        over: LinkId,
        /// Its address, where one is asked for.
        mac: Option<HwAddr>,
        /// Who hears whom.
        mode: MacvlanMode,
    },
}

/// Makes a link, directly in its zone and under its name.
pub fn plan_make(registry: &Registry, ids: &mut LinkIds, make: &Make) -> Result<Plan> {
    let ns = space_of(registry, make.zone)?;
    refuse_taken(registry, make.zone, make.name)?;
    refuse_over_quota(registry, make)?;
    let id = ids.give()?;
    let (kind, links) = match &make.what {
        What::Veth { peer_zone, peer_name } => {
            refuse_taken(registry, *peer_zone, *peer_name)?;
            if (*peer_zone, *peer_name) == (make.zone, make.name) {
                let text = format!("two links of one zone cannot both be named {peer_name}");
                return Err(Error::new(ErrorCode::Exists, text));
            }
            let peer = ids.give()?;
            let kind = NewKind::Veth {
                peer_ns: space_of(registry, *peer_zone)?,
                peer_name: *peer_name,
                peer_mac: None,
            };
            let ends = vec![
                link(make, id, make.zone, make.name, "veth", Recipe::Veth { peer }),
                link(make, peer, *peer_zone, *peer_name, "veth", Recipe::Veth { peer: id }),
            ];
            (kind, ends)
        }
        What::Macvlan { over, mac, mode } => {
            let lower = lower_link(registry, *over)?;
            let at = lower.binding().ok_or_else(|| absent(registry, lower))?;
            let recipe = Recipe::Macvlan { over: *over, mac: *mac, mode: *mode };
            let upper = link(make, id, make.zone, make.name, "macvlan", recipe);
            (NewKind::Macvlan { over: at, mode: *mode }, vec![upper])
        }
    };
    let new = NewLink { ns, name: make.name, mac: asked_mac(&make.what), mtu: None, kind };
    let ids = links.iter().map(|link| link.record.id).collect();
    let changes = links.into_iter().map(LinkChange::from).collect();
    Ok(Plan { changes, create: Some(Creation { new, ids }), ..Plan::default() })
}

fn asked_mac(what: &What) -> Option<HwAddr> {
    match what {
        What::Veth { .. } => None,
        What::Macvlan { mac, .. } => *mac,
    }
}

fn space_of(registry: &Registry, zone: ZoneId) -> Result<NsCookie> {
    refuse_ending(registry, zone)?;
    let up = registry.zone(zone).and_then(|zone| zone.up.as_ref());
    up.map(|up| up.ns).ok_or_else(|| {
        let text = format!("zone {} is not up", registry.zone_label(zone));
        Error::new(ErrorCode::NoZone, text)
    })
}

fn refuse_taken(registry: &Registry, zone: ZoneId, name: LinkName) -> Result<()> {
    if registry.is_name_free(zone, name) {
        return Ok(());
    }
    let text = format!("the name {name} is taken in zone {}", registry.zone_label(zone));
    Err(Error::new(ErrorCode::Exists, text))
}

fn refuse_over_quota(registry: &Registry, make: &Make) -> Result<()> {
    let Some(quota) = make.quota else { return Ok(()) };
    let is_counted = |link: &&Arc<Link>| {
        link.record.owner == make.zone && link.record.lifetime == Lifetime::Transient
    };
    let wanted = if matches!(make.what, What::Veth { .. }) { 2 } else { 1 };
    if registry.links().filter(is_counted).count() + wanted <= quota {
        return Ok(());
    }
    let zone = registry.zone_label(make.zone);
    let text = format!("zone {zone} may have {quota} transient links, and has them");
    Err(Error::new(ErrorCode::Quota, text))
}

fn lower_link(registry: &Registry, over: LinkId) -> Result<&Arc<Link>> {
    let gone = || Error::new(ErrorCode::NotFound, format!("no link @{over}"));
    let lower = registry.link(over).ok_or_else(gone)?;
    if lower.record.media != Media::Ethernet {
        let (what, media) = (title(registry, lower), lower.record.media);
        let text = format!("a vnic cannot lie over {what}: its media is {media}, not Ethernet");
        return Err(Error::new(ErrorCode::Invalid, text));
    }
    Ok(lower)
}

fn absent(registry: &Registry, link: &Link) -> Error {
    Error::new(ErrorCode::Invalid, format!("{} is not there now", title(registry, link)))
}

fn link(
    make: &Make,
    id: LinkId,
    owner: ZoneId,
    name: LinkName,
    kind: &str,
    recipe: Recipe,
) -> Link {
    let record = LinkRecord {
        id,
        name,
        owner,
        location: Location::Home,
        class: LinkClass::of_kind(Some(kind)),
        kind: Some(kind.to_owned()),
        media: Media::Ethernet,
        lifetime: make.lifetime,
        origin: Origin::Own,
        phys: None,
        anchor: None,
        recipe: Some(recipe),
        unsettled: false,
        generation: Generation::default(),
        properties: Default::default(),
    };
    Link { record, kernel: None }
}

/// Makes a persistent link of ours again that the kernel lost, at home and with its linkid.
///
/// `None` where that is not possible now: a lower link is absent, or the name is taken.
pub fn plan_remake(registry: &Registry, id: LinkId) -> Option<Plan> {
    let link = registry.link(id).filter(|link| link.kernel.is_none())?;
    let ns = space_of(registry, link.record.owner).ok()?;
    let name = registry.name_at_home(link);
    let (kind, mac, ids) = match link.record.recipe.as_ref()? {
        Recipe::Veth { peer } => {
            let other = registry.link(*peer).filter(|peer| peer.kernel.is_none())?;
            let kind = NewKind::Veth {
                peer_ns: space_of(registry, other.record.owner).ok()?,
                peer_name: registry.name_at_home(other),
                peer_mac: home_mac(other),
            };
            (kind, home_mac(link), vec![id, *peer])
        }
        Recipe::Macvlan { over, mac, mode } => {
            let over = registry.link(*over)?.binding()?;
            (NewKind::Macvlan { over, mode: *mode }, remade_mac(link, *mac), vec![id])
        }
    };
    let new = NewLink { ns, name, mac, mtu: None, kind };
    let changes = ids.iter().filter_map(|id| registry.link(*id)).map(|link| {
        let made_with = if link.record.id == id { mac } else { home_mac(link) };
        let mut link = Link::clone(link);
        // It will be somewhere else, and is known by the address that it is made with.
        if let Some(anchor) = &mut link.record.anchor {
            *anchor = Anchor { at: Binding { ns: NsCookie::NONE, ..anchor.at }, mac: made_with };
        }
        link.into()
    });
    Some(Plan {
        changes: changes.collect(),
        create: Some(Creation { new, ids: ids.clone() }),
        equips: ids.clone(),
        ..Plan::default()
    })
}

/// The address that was set, or else the one that was asked for when the link was made.
fn remade_mac(link: &Link, asked: Option<HwAddr>) -> Option<HwAddr> {
    link.record.properties.wanted().mac().or(asked).or_else(|| home_mac(link))
}

/// The address that a link had when it was last seen: it is made again with the same one.
fn home_mac(link: &Link) -> Option<HwAddr> {
    let left = link.loan().and_then(|loan| loan.left.as_ref()).and_then(Settings::mac);
    link.record
        .properties
        .wanted()
        .mac()
        .or(left)
        .or_else(|| link.record.anchor.as_ref().and_then(|anchor| anchor.mac))
}

/// Ends a virtual link and its record, and the other end of a pair with it.
pub fn plan_delete(registry: &Registry, id: LinkId, class: LinkClass) -> Result<Plan> {
    let gone = || Error::new(ErrorCode::NotFound, format!("no link @{id}"));
    let link = registry.link(id).ok_or_else(gone)?;
    if link.record.class != class {
        let (what, is) = (title(registry, link), link.record.class);
        return Err(Error::new(ErrorCode::Invalid, format!("{what} is no {class} but a {is}")));
    }
    refuse_held(registry, link)?;
    let mut changes = vec![LinkChange::end(id)];
    if let Some(peer) = peer_of(registry, link) {
        refuse_held(registry, peer)?;
        changes.push(LinkChange::end(peer.record.id));
    }
    let delete =
        |at| PlannedStep { id, forward: Step { at, action: Action::Delete }, backward: None };
    Ok(Plan { changes, steps: link.binding().map(delete).into_iter().collect(), ..Plan::default() })
}

fn peer_of<'a>(registry: &'a Registry, link: &Link) -> Option<&'a Arc<Link>> {
    match link.record.recipe.as_ref()? {
        Recipe::Veth { peer } => registry.link(*peer),
        Recipe::Macvlan { .. } => None,
    }
}
