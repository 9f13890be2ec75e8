//! Files that `dladm import` brings in.

use std::collections::BTreeSet;

use dlmgmt_proto::{DevicePath, HwAddr, IfIndex, LinkId, LinkName, Result, Seq};

use crate::core::{Asked, Document, LinkIds, Look, Plan, Registry, export, observe, plan_import};
use crate::model::{KernelLink, NsCookie};

const HOME: NsCookie = NsCookie(1);

/// Brings the bytes in, where two cards and a foreign link are known. An import is refused, or
/// leads to a registry in which every id is one that was given, and whose own export changes
/// nothing when it is brought in again.
pub fn import(bytes: &[u8]) {
    let Ok((before, mut ids)) = known() else { return };
    let first_new = ids.next();
    let Ok(document) = Document::parse(bytes) else { return };
    let Ok(plan) = plan_import(&before, &mut ids, &document, &Asked::default()) else { return };
    let after = carry_out(&before, &plan);
    for link in after.links() {
        assert!(!ids.is_fresh(link.record.id), "{} was never given", link.record.id);
    }
    let given: BTreeSet<LinkId> = after.links().map(|link| link.record.id).collect();
    assert!(before.links().all(|link| given.contains(&link.record.id)), "a link was lost");
    assert!(ids.next() >= first_new, "ids are given again");
    assert_is_idempotent(&after, ids);
}

fn assert_is_idempotent(registry: &Registry, mut ids: LinkIds) {
    let text = export(registry).and_then(|text| Document::parse(&text));
    let again = text.and_then(|text| plan_import(registry, &mut ids, &text, &Asked::default()));
    // That names are as they are is all that it relies on.
    let again = again.map(|plan| Plan { presumes: Vec::new(), ..plan });
    assert_eq!(again, Ok(Plan::default()));
}

fn known() -> Result<(Registry, LinkIds)> {
    let mut ids = LinkIds::starting_at(1);
    let registry = Registry::new(HOME, Seq(0));
    let links = [link(2, b"eth0", Some(1)), link(3, b"eth1", Some(2)), link(4, b"veth0", None)];
    let look = Look::whole(HOME, links.into_iter().flatten());
    let observed = observe(&registry, &mut ids, &look, true)?;
    Ok((carry_out(&registry, &observed.plan), ids))
}

fn link(ifindex: u32, name: &[u8], card: Option<u8>) -> Option<KernelLink> {
    let mac = card.and_then(|card| HwAddr::new(&[2, 0, 0, 0, 0, card]).ok());
    Some(KernelLink {
        kind: card.is_none().then(|| "veth".to_owned()),
        mac,
        permanent_mac: mac,
        path: card.map(|card| DevicePath(format!("pci-0000:00:{card:02x}.0"))),
        ..KernelLink::new(IfIndex::new(ifindex)?, LinkName::found(name).ok()?)
    })
}

fn carry_out(registry: &Registry, plan: &Plan) -> Registry {
    let zones = plan.zones.iter().cloned();
    zones.fold(registry.clone(), |all, zone| all.with_zone(zone)).with(&plan.changes)
}
