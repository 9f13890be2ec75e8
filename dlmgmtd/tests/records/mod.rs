//! Records for the tests of the store.

use dlmgmt_proto::{Generation, LinkClass, LinkId, LinkName, Media, ZoneId};
use dlmgmtd::model::{Lifetime, LinkRecord, Location, Origin};

/// A physical link at home, which is persistent.
pub fn link(number: u32, name: &str) -> LinkRecord {
    LinkRecord {
        id: LinkId::new(number).unwrap(),
        name: LinkName::given(name).unwrap(),
        owner: ZoneId::GLOBAL,
        location: Location::Home,
        class: LinkClass::Phys,
        kind: None,
        media: Media::Ethernet,
        lifetime: Lifetime::Persistent,
        origin: Origin::Own,
        phys: None,
        anchor: None,
        recipe: None,
        unsettled: false,
        generation: Generation(0),
        properties: Default::default(),
    }
}
