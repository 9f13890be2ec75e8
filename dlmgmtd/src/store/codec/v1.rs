//! Links as version 1 wrote them: virtual ones are pairs of veths or macvlans, none has properties,
//! and what a lent link was at home are four fields.

use std::collections::BTreeMap;

use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{Generation, HwAddr, LinkClass, LinkId, LinkName, MacvlanMode, Media, ZoneId};
use serde::Deserialize;

use crate::model::{
    AltName, Anchor, Lifetime, LinkProperties, LinkRecord, Loan, Location, NsCookie, Origin,
    PhysIdentity, Recipe, Settings,
};

#[derive(Deserialize)]
pub struct LinkV1 {
    id: LinkId,
    name: LinkName,
    owner: ZoneId,
    location: LocationV1,
    class: LinkClass,
    kind: Option<String>,
    media: Media,
    lifetime: Lifetime,
    origin: Origin,
    phys: Option<PhysIdentity>,
    anchor: Option<Anchor>,
    recipe: Option<RecipeV1>,
    unsettled: bool,
    generation: Generation,
}

#[derive(Deserialize)]
enum LocationV1 {
    Home,
    OnLoan(LoanV1),
    Recalled { loan: LoanV1, from: NsCookie },
}

#[derive(Deserialize)]
struct LoanV1 {
    zone: ZoneId,
    name_inside: LinkName,
    is_persistent: bool,
    left: Option<HomeStateV1>,
}

#[derive(Deserialize)]
struct HomeStateV1 {
    admin_up: bool,
    mtu: u32,
    mac: Option<HwAddr>,
    altnames: Vec<AltName>,
}

#[derive(Deserialize)]
enum RecipeV1 {
    Veth { peer: LinkId },
    Macvlan { over: LinkId, mac: Option<HwAddr>, mode: MacvlanMode },
}

impl From<LinkV1> for LinkRecord {
    fn from(old: LinkV1) -> Self {
        Self {
            id: old.id,
            name: old.name,
            owner: old.owner,
            location: old.location.into(),
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
            properties: LinkProperties::default(),
        }
    }
}

impl From<LocationV1> for Location {
    fn from(old: LocationV1) -> Self {
        match old {
            LocationV1::Home => Self::Home,
            LocationV1::OnLoan(loan) => Self::OnLoan(loan.into()),
            LocationV1::Recalled { loan, from } => Self::Recalled { loan: loan.into(), from },
        }
    }
}

impl From<LoanV1> for Loan {
    fn from(old: LoanV1) -> Self {
        Self {
            zone: old.zone,
            name_inside: old.name_inside,
            is_persistent: old.is_persistent,
            left: old.left.map(Settings::from),
        }
    }
}

impl From<HomeStateV1> for Settings {
    fn from(old: HomeStateV1) -> Self {
        let altnames = old.altnames.into_iter().map(|name| name.0).collect();
        let mac = old.mac.map(|mac| (Property::Mac, Value::Mac(mac)));
        let others = [
            (Property::Mtu, Value::Number(old.mtu.into())),
            (Property::State, Value::Switch(old.admin_up)),
            (Property::AltNames, Value::Names(altnames)),
        ];
        others.into_iter().chain(mac).collect()
    }
}

impl From<RecipeV1> for Recipe {
    fn from(old: RecipeV1) -> Self {
        let bare = |kind: &str| Self {
            kind: kind.to_owned(),
            over: None,
            peer: None,
            ports: Vec::new(),
            options: BTreeMap::new(),
        };
        match old {
            RecipeV1::Veth { peer } => Self { peer: Some(peer), ..bare("veth") },
            RecipeV1::Macvlan { over, mac, mode } => {
                let mac = mac.map(|mac| ("mac".to_owned(), mac.to_string()));
                let mode = ("mode".to_owned(), mode.as_str().to_owned());
                let options = mac.into_iter().chain([mode]).collect();
                Self { over: Some(over), options, ..bare("macvlan") }
            }
        }
    }
}
