//! Links as version 2 wrote them: virtual ones are pairs of veths or macvlans.

use std::collections::BTreeMap;

use dlmgmt_proto::{Generation, HwAddr, LinkClass, LinkId, LinkName, MacvlanMode, Media, ZoneId};
use serde::Deserialize;

use crate::model::{
    Anchor, Lifetime, LinkProperties, LinkRecord, Location, Origin, PhysIdentity, Recipe,
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
    recipe: Option<RecipeV2>,
    unsettled: bool,
    generation: Generation,
    properties: LinkProperties,
}

#[derive(Deserialize)]
pub enum RecipeV2 {
    Veth { peer: LinkId },
    Macvlan { over: LinkId, mac: Option<HwAddr>, mode: MacvlanMode },
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
            recipe: old.recipe.map(Recipe::from),
            unsettled: old.unsettled,
            generation: old.generation,
            properties: old.properties,
        }
    }
}

impl From<RecipeV2> for Recipe {
    fn from(old: RecipeV2) -> Self {
        let bare = |kind: &str| Self {
            kind: kind.to_owned(),
            over: None,
            peer: None,
            ports: Vec::new(),
            options: BTreeMap::new(),
        };
        match old {
            RecipeV2::Veth { peer } => Self { peer: Some(peer), ..bare("veth") },
            RecipeV2::Macvlan { over, mac, mode } => {
                let mac = mac.map(|mac| ("mac".to_owned(), mac.to_string()));
                let mode = ("mode".to_owned(), mode.as_str().to_owned());
                let options = mac.into_iter().chain([mode]).collect();
                Self { over: Some(over), options, ..bare("macvlan") }
            }
        }
    }
}
