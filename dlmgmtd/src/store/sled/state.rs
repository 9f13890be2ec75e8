//! What is durable, as the writer knows it, and the changes from one such state to the next.

use std::collections::BTreeMap;

use dlmgmt_proto::{LinkId, LinkName, ZoneId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::model::BootId;
use crate::store::codec::{CodecError, Meta, decode_link, decode_zone, encode_link, encode_zone};
use crate::store::{Batch, Loaded};

/// All that is kept, in its durable form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub meta: Meta,
    pub links: BTreeMap<LinkId, Vec<u8>>,
    pub zones: BTreeMap<ZoneId, Vec<u8>>,
}

impl State {
    /// What the daemon is told at its start.
    pub fn loaded(&self) -> Result<Loaded, CodecError> {
        let links = self.links.values().map(|link| decode_link(link)).collect::<Result<_, _>>()?;
        Ok(Loaded {
            links,
            zones: self.zones.values().map(|zone| decode_zone(zone)).collect::<Result<_, _>>()?,
            boot: self.meta.boot.clone(),
            next_link_id: self.meta.next_link_id,
            epoch: self.meta.epoch,
        })
    }

    /// The changes that these batches make, one after the other.
    pub fn changes<'a>(&self, batches: impl Iterator<Item = &'a EncodedBatch>) -> Changes {
        let mut changes =
            Changes { meta: self.meta.clone(), links: BTreeMap::new(), zones: BTreeMap::new() };
        changes.meta.commit += 1;
        for batch in batches {
            let bytes = |record: &ByteBuf| record.clone().into_vec();
            changes
                .links
                .extend(batch.links.iter().map(|(id, link)| (*id, link.as_ref().map(bytes))));
            changes.zones.extend(batch.zones.iter().map(|(id, zone)| (*id, bytes(zone))));
            let meta = &mut changes.meta;
            meta.next_link_id = meta.next_link_id.max(batch.next_link_id());
            meta.epoch = batch.epoch.unwrap_or(meta.epoch);
            if batch.boot.is_some() {
                meta.boot.clone_from(&batch.boot);
            }
        }
        changes
    }

    /// The changes that make `other` of this.
    pub fn changes_to(&self, other: &State) -> Changes {
        let ended = self.links.keys().filter(|id| !other.links.contains_key(id));
        let kept = other.links.iter().filter(|(id, link)| self.links.get(id) != Some(link));
        Changes {
            meta: other.meta.clone(),
            links: ended
                .map(|id| (*id, None))
                .chain(kept.map(|(id, link)| (*id, Some(link.clone()))))
                .collect(),
            zones: other.zones.clone(),
        }
    }

    /// Makes the changes.
    pub fn apply(&mut self, changes: Changes) {
        self.meta = changes.meta;
        self.zones.extend(changes.zones);
        for (id, link) in changes.links {
            match link {
                Some(link) => self.links.insert(id, link),
                None => self.links.remove(&id),
            };
        }
    }
}

/// What is to be written; a link without bytes ends, a zone never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub meta: Meta,
    pub links: BTreeMap<LinkId, Option<Vec<u8>>>,
    pub zones: BTreeMap<ZoneId, Vec<u8>>,
}

/// A [`Batch`] whose records have their durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedBatch {
    links: Vec<(LinkId, Option<ByteBuf>)>,
    zones: Vec<(ZoneId, ByteBuf)>,
    next_link_id: Option<u32>,
    boot: Option<BootId>,
    epoch: Option<u32>,
    /// Of no use once it is written.
    #[serde(skip)]
    hardware: Vec<(LinkId, LinkName)>,
}

impl EncodedBatch {
    /// The names that it gives to hardware.
    pub fn hardware(&self) -> impl Iterator<Item = (LinkId, LinkName)> {
        self.hardware.iter().copied()
    }

    /// Ids below this were given, as far as the batch tells.
    pub fn next_link_id(&self) -> u32 {
        self.next_link_id.unwrap_or(0)
    }
}

impl TryFrom<&Batch> for EncodedBatch {
    type Error = CodecError;

    fn try_from(batch: &Batch) -> Result<Self, CodecError> {
        let put = batch.put.iter().map(|link| Ok((link.id, Some(encode_link(link)?.into()))));
        let delete = batch.delete.iter().map(|id| Ok((*id, None)));
        let zones = batch.zones.iter().map(|zone| Ok((zone.id, encode_zone(zone)?.into())));
        let hardware = batch.put.iter().filter(|link| link.phys.is_some());
        Ok(Self {
            hardware: hardware.map(|link| (link.id, link.name)).collect(),
            links: put.chain(delete).collect::<Result<_, CodecError>>()?,
            zones: zones.collect::<Result<_, CodecError>>()?,
            next_link_id: batch.next_link_id,
            boot: batch.boot.clone(),
            epoch: batch.epoch,
        })
    }
}
