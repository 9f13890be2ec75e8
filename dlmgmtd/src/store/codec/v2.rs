//! Links as version 2 wrote them: no option of a kind is changed after a link was made.

use std::collections::BTreeMap;

use dlmgmt_proto::{Generation, LinkClass, LinkId, LinkName, Media, ZoneId};
use serde::Deserialize;

use crate::model::{
    Anchor, Lifetime, LinkProperties, LinkRecord, Location, Origin, PhysIdentity, Recipe, Settings,
};

#[derive(Deserialize)]
pub struct LinkV2 {
    id: LinkId,
    name: LinkName,
    owner: ZoneId,
    location: Location,
    class: LinkClass,
    kind: Option<String>,
    media: Media,
    lifetime: Lifetime,
    origin: Origin,
    phys: Option<PhysIdentity>,
    anchor: Option<Anchor>,
    recipe: Option<Recipe>,
    unsettled: bool,
    generation: Generation,
    properties: LinkPropertiesV2,
}

#[derive(Deserialize)]
struct LinkPropertiesV2 {
    persistent: Settings,
    temporary: Settings,
    found: Settings,
}

impl From<LinkV2> for LinkRecord {
    fn from(old: LinkV2) -> Self {
        Self {
            id: old.id,
            name: old.name,
            owner: old.owner,
            location: old.location,
            class: old.class,
            kind: old.kind,
            media: old.media,
            lifetime: old.lifetime,
            origin: old.origin,
            phys: old.phys,
            anchor: old.anchor,
            recipe: old.recipe,
            unsettled: old.unsettled,
            generation: old.generation,
            properties: old.properties.into(),
        }
    }
}

impl From<LinkPropertiesV2> for LinkProperties {
    fn from(old: LinkPropertiesV2) -> Self {
        Self {
            persistent: old.persistent,
            temporary: old.temporary,
            found: old.found,
            options: BTreeMap::new(),
        }
    }
}
