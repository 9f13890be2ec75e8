//! What of the stored records still holds when the daemon starts: SPEC.md rule 3.3.

use dlmgmt_proto::{LinkId, Seq};

use super::plan::LinkChange;
use super::registry::Registry;
use crate::model::{Lifetime, Link, LinkRecord, Location, NsCookie, Zone, ZoneRecord};

/// The registry of the records that still hold, none of them active yet, and the links that do
/// not hold any more: what is not persistent holds only within one boot.
pub fn restore(
    records: Vec<LinkRecord>,
    zones: Vec<ZoneRecord>,
    is_same_boot: bool,
    home: NsCookie,
    seq: Seq,
) -> (Registry, Vec<LinkId>) {
    let holds = |record: &LinkRecord| record.lifetime == Lifetime::Persistent || is_same_boot;
    let (kept, ended): (Vec<LinkRecord>, Vec<LinkRecord>) = records.into_iter().partition(holds);
    let links: Vec<LinkChange> =
        kept.into_iter().map(|record| remembered(record, is_same_boot).into()).collect();
    let known = zones.into_iter().map(|mut record| {
        record.attached = record.attached.filter(|_| is_same_boot);
        Zone { record, up: None }
    });
    let registry = known.fold(Registry::new(home, seq), |registry, zone| registry.with_zone(zone));
    (registry.with(&links), ended.into_iter().map(|record| record.id).collect())
}

/// A new boot knows nothing of places, and a loan that was not persistent ended with the old one.
fn remembered(mut record: LinkRecord, is_same_boot: bool) -> Link {
    if !is_same_boot {
        record.properties.forget_the_link();
        if let Some(anchor) = &mut record.anchor {
            anchor.at.ns = NsCookie::NONE;
        }
        record.location = match record.location {
            Location::OnLoan(loan) | Location::Recalled { loan, .. } if loan.is_persistent => {
                Location::OnLoan(loan)
            }
            _ => Location::Home,
        };
    }
    Link { record: record.into(), kernel: None }
}
