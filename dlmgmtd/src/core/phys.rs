//! Which physical link a device is: SPEC.md section 5.

use std::collections::BTreeSet;
use std::sync::Arc;

use dlmgmt_proto::{LinkId, Media, ZoneId};

use super::registry::Registry;
use crate::model::{Binding, KernelLink, Link, PhysIdentity};

/// A device without a known link, and where the kernel has it.
pub(super) struct Device<'a> {
    pub at: Binding,
    pub kernel: &'a KernelLink,
}

impl KernelLink {
    /// What makes the device the same wherever it appears.
    pub(super) fn phys_identity(&self) -> PhysIdentity {
        PhysIdentity { mac: self.permanent_mac, path: self.path.clone() }
    }

    /// Its medium as it is seen in a zone, where it is `known` to have had one: elsewhere than at
    /// home, WiFi looks like Ethernet.
    pub(super) fn medium(&self, zone: Option<ZoneId>, known: Media) -> Media {
        let may_be_wifi = zone != Some(ZoneId::GLOBAL) && self.media == Media::Ethernet;
        if may_be_wifi && known == Media::WiFi { known } else { self.media }
    }
}

impl PhysIdentity {
    /// Whether the device can be known again at all after it was away.
    pub(super) fn is_known(&self) -> bool {
        self.mac.is_some() || self.path.is_some()
    }
}

/// A rule by which an absent link is found for a device.
type Rule = fn(&Registry, &Device<'_>, &Link) -> bool;

/// The rules, strongest first. All devices are tried by one rule before the next one is looked
/// at, so that the order in which devices appear does not matter.
const RULES: [Rule; 4] = [same_seat, same_mac_and_path, same_mac, replaced_card];

/// Finds the absent link that each device is; `None` for a new one.
pub(super) fn match_devices(registry: &Registry, devices: &[Device<'_>]) -> Vec<Option<LinkId>> {
    let mut matched: Vec<Option<LinkId>> = vec![None; devices.len()];
    let mut taken = BTreeSet::new();
    for rule in RULES {
        for (device, found) in devices.iter().zip(&mut matched) {
            if found.is_some() {
                continue;
            }
            let link = candidates(registry, device)
                .filter(|link| link.is_removed() && !taken.contains(&link.record.id))
                .find(|link| rule(registry, device, link));
            if let Some(link) = link {
                taken.insert(link.record.id);
                *found = Some(link.record.id);
            }
        }
    }
    matched
}

fn candidates<'a>(
    registry: &'a Registry,
    device: &'a Device<'_>,
) -> Box<dyn Iterator<Item = &'a Arc<Link>> + 'a> {
    let identity = device.kernel.phys_identity();
    if !identity.is_known() {
        return Box::new(registry.links());
    }
    let by_mac = identity.mac.into_iter().flat_map(|mac| registry.by_mac(mac));
    let by_path = device.kernel.path.iter().flat_map(|path| registry.by_path(path));
    Box::new(by_mac.chain(by_path))
}

/// A device that tells the same of itself as others do, or nothing, is known by its place in the
/// kernel while it keeps that.
fn same_seat(registry: &Registry, device: &Device<'_>, link: &Link) -> bool {
    same_medium(registry, device, link)
        && link.record.phys.as_ref() == Some(&device.kernel.phys_identity())
        && link.record.anchor.as_ref().is_some_and(|anchor| anchor.at == device.at)
}

fn same_mac_and_path(_: &Registry, device: &Device<'_>, link: &Link) -> bool {
    let identity = device.kernel.phys_identity();
    identity.is_known() && link.record.phys.as_ref() == Some(&identity)
}

/// Same MAC, anywhere: the same link.
fn same_mac(_: &Registry, device: &Device<'_>, link: &Link) -> bool {
    let mac = device.kernel.permanent_mac;
    mac.is_some() && link.record.phys.as_ref().is_some_and(|phys| phys.mac == mac)
}

/// Unknown MAC in the slot of a removed link: the card was replaced.
fn replaced_card(registry: &Registry, device: &Device<'_>, link: &Link) -> bool {
    let is_unknown =
        device.kernel.permanent_mac.is_none_or(|mac| registry.by_mac(mac).next().is_none());
    let path = &device.kernel.path;
    same_medium(registry, device, link)
        && is_unknown
        && path.is_some()
        && link.record.phys.as_ref().is_some_and(|phys| phys.path == *path)
}

fn same_medium(registry: &Registry, device: &Device<'_>, link: &Link) -> bool {
    let zone = registry.zone_of_ns(device.at.ns);
    device.kernel.medium(zone, link.record.media) == link.record.media
}
