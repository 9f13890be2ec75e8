//! What of the stored records still holds when the daemon starts: SPEC.md rule 3.3.

use dlmgmt_proto::{LinkId, Seq};

use super::plan::LinkChange;
use super::registry::Registry;
use crate::model::{Lifetime, Link, LinkRecord, NsCookie};

/// The registry of the records that still hold, none of them active yet, and the links that do
/// not hold any more.
///
/// What is not persistent holds only within one boot, and while its namespace can be looked at.
pub fn restore(
    records: Vec<LinkRecord>,
    is_same_boot: bool,
    home: NsCookie,
    seq: Seq,
) -> (Registry, Vec<LinkId>) {
    let holds = |record: &LinkRecord| {
        let is_reachable = record.anchor.as_ref().is_some_and(|anchor| anchor.at.ns == home);
        record.lifetime == Lifetime::Persistent || (is_same_boot && is_reachable)
    };
    let (kept, ended): (Vec<LinkRecord>, Vec<LinkRecord>) = records.into_iter().partition(holds);
    let links: Vec<LinkChange> = kept
        .into_iter()
        .map(|mut record| {
            if !is_same_boot {
                record.anchor = None;
            }
            Link { record, kernel: None }.into()
        })
        .collect();
    let ended = ended.into_iter().map(|record| record.id).collect();
    (Registry::new(home, seq).with(&links), ended)
}
