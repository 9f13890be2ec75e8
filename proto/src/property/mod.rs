//! The properties of links: what `show-linkprop` shows and `set-linkprop` sets.
//!
//! [`TABLE`] says of each property what its values are and which links have it. A value is a text
//! for people, on the door and on the bus, and a [`Value`] inside the daemon.

mod protection;
mod value;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::class::words;
use crate::kind::{KINDS, LinkKind, OptionSpec};
use crate::{LinkClass, Media, ValueType};

pub use protection::{Guard, Network, NoNetwork};
pub use value::{Value, ValueError};

words! {
    /// A property. Stores keep the numbers, so a new one comes last.
    Property {
        /// Largest packet in bytes.
        Mtu = "mtu",
        /// Whether the link is administratively up.
        State = "state",
        /// Its address.
        Mac = "mac",
        /// A text for people.
        Alias = "alias",
        /// Its alternative names.
        AltNames = "altnames",
        /// Packets that may wait to be sent.
        TxQueueLen = "txqueuelen",
        /// Whether it takes in packets for everybody.
        Promisc = "promisc",
        /// Whether it takes in packets for all groups.
        AllMulti = "allmulti",
        /// The zone that it is lent to.
        Zone = "zone",
        /// The most that it sends.
        MaxBw = "maxbw",
        /// Whether the bridge learns from what comes through this port.
        Learning = "learning",
        /// Whether the port speaks with no other isolated one.
        Isolated = "isolated",
        /// What a way over this port costs.
        StpCost = "stp_cost",
        /// Which port is taken among equal ones: the lowest.
        StpPriority = "stp_priority",
        /// Whether the port is handed what came from it.
        Hairpin = "hairpin",
        /// Whether the port is handed what is for stations that nobody knows.
        Flood = "flood",
        /// Whether the port is handed what is for groups that nobody knows.
        McastFlood = "mcast_flood",
        /// Whether the port is handed what is for everybody.
        BcastFlood = "bcast_flood",
        /// Whether the bridge answers for neighbours that it knows.
        NeighSuppress = "neigh_suppress",
        /// Whether a bridge behind the port is shut out.
        BpduGuard = "bpdu_guard",
        /// Whether a bridge behind the port is never the root.
        RootGuard = "root_guard",
        /// Megabits a second.
        Speed = "speed",
        /// Whether it sends and receives at once.
        Duplex = "duplex",
        /// Whether speed and duplex are agreed on with the other end.
        Autoneg = "autoneg",
        /// Packets that may wait to be taken in.
        RxRing = "rx_ring",
        /// Packets that the hardware may have to send.
        TxRing = "tx_ring",
        /// Whether packets that belong together are taken in as one.
        Gro = "gro",
        /// Whether large packets are cut up as late as possible.
        Gso = "gso",
        /// Whether the hardware cuts up TCP.
        Tso = "tso",
        /// Whether the hardware puts packets together that it takes in.
        Lro = "lro",
        /// Whether the hardware gathers a packet from several places.
        Sg = "sg",
        /// Whether the hardware checks what it takes in.
        RxCsum = "rx_csum",
        /// Whether the hardware adds what others check.
        TxCsum = "tx_csum",
        /// What it does not send.
        Protection = "protection",
        /// The addresses that it sends from where it is kept from sending from others.
        AllowedIps = "allowed-ips",
    }
}

/// What can be said of a property without looking at a link.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Which property.
    pub property: Property,
    /// Whether it can be set.
    pub is_writable: bool,
    /// What its values are.
    pub kind: Kind,
    /// Which links have it.
    pub applies: Applies,
    /// What a reset comes to.
    pub standard: Standard,
}

/// What the values of a property are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number. What a link can do may be less.
    Number {
        /// The lowest one.
        least: u64,
        /// The highest one.
        most: u64,
    },
    /// One of two words.
    Switch {
        /// The word for true.
        on: &'static str,
        /// The word for false.
        off: &'static str,
    },
    /// An address of one Ethernet station.
    Mac,
    /// Any text without control characters.
    Text {
        /// Most bytes.
        most: usize,
    },
    /// Alternative names, separated by commas.
    Names,
    /// The name of a zone.
    Zone,
    /// Kilobits a second, written with K, M (also without a letter) or G; 0 is no bound.
    Bandwidth,
    /// Words of [`Guard`], separated by commas.
    Guards,
    /// IP addresses and networks, separated by commas.
    Networks,
}

/// Which links have a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applies {
    /// Of these classes; none named means all.
    pub classes: &'static [LinkClass],
    /// Of these media; none named means all.
    pub media: &'static [Media],
    /// Those of which this one tells.
    pub told_by: Teller,
}

/// Who knows of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// The kernel itself, of every link.
    Kernel,
    /// A bridge, of its ports.
    Bridge,
    /// The driver of a link, if that has it.
    Driver,
}

/// What a reset comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// What the link had before anything was set here.
    AsFound,
    /// No.
    Off,
    /// An empty text.
    Empty,
    /// No number.
    Zero,
    /// None of what there could be several of.
    None,
    /// Its owner zone.
    Owner,
}

const EVERY: Applies = Applies { classes: &[], media: &[], told_by: Teller::Kernel };
const ETHERNET: Applies = Applies { media: &[Media::Ethernet, Media::WiFi], ..EVERY };
const PORTS: Applies = Applies { told_by: Teller::Bridge, ..EVERY };
const DRIVEN: Applies = Applies { told_by: Teller::Driver, ..EVERY };
const HARDWARE: Applies = Applies { classes: &[LinkClass::Phys], ..DRIVEN };
const ON_OFF: Kind = Kind::Switch { on: "on", off: "off" };

/// The highest priority of a bridge's port.
const STP_PRIORITY_MAX: u64 = 63;

/// Bytes of an alias (`IFALIASZ` without its terminator).
const ALIAS_MAX: usize = 255;

const fn writable(
    property: Property,
    kind: Kind,
    applies: Applies,
    standard: Standard,
) -> Description {
    Description { property, is_writable: true, kind, applies, standard }
}

const RING: Kind = Kind::Number { least: 1, most: u32::MAX as u64 };

const fn offload(property: Property) -> Description {
    writable(property, ON_OFF, DRIVEN, Standard::AsFound)
}

const fn port_switch(property: Property) -> Description {
    writable(property, ON_OFF, PORTS, Standard::AsFound)
}

/// Every property, in the order in which they are shown.
pub const TABLE: &[Description] = &[
    writable(Property::Zone, Kind::Zone, EVERY, Standard::Owner),
    writable(
        Property::Mtu,
        Kind::Number { least: 1, most: u32::MAX as u64 },
        EVERY,
        Standard::AsFound,
    ),
    writable(Property::State, Kind::Switch { on: "up", off: "down" }, EVERY, Standard::AsFound),
    writable(Property::Mac, Kind::Mac, ETHERNET, Standard::AsFound),
    writable(Property::Alias, Kind::Text { most: ALIAS_MAX }, EVERY, Standard::Empty),
    writable(Property::AltNames, Kind::Names, EVERY, Standard::AsFound),
    writable(
        Property::TxQueueLen,
        Kind::Number { least: 0, most: i32::MAX as u64 },
        EVERY,
        Standard::AsFound,
    ),
    writable(Property::Promisc, ON_OFF, EVERY, Standard::Off),
    writable(Property::AllMulti, ON_OFF, EVERY, Standard::Off),
    writable(Property::MaxBw, Kind::Bandwidth, EVERY, Standard::Zero),
    writable(Property::Protection, Kind::Guards, ETHERNET, Standard::None),
    writable(Property::AllowedIps, Kind::Networks, ETHERNET, Standard::None),
    port_switch(Property::Learning),
    port_switch(Property::Isolated),
    writable(
        Property::StpCost,
        Kind::Number { least: 1, most: u16::MAX as u64 },
        PORTS,
        Standard::AsFound,
    ),
    writable(
        Property::StpPriority,
        Kind::Number { least: 0, most: STP_PRIORITY_MAX },
        PORTS,
        Standard::AsFound,
    ),
    port_switch(Property::Hairpin),
    port_switch(Property::Flood),
    port_switch(Property::McastFlood),
    port_switch(Property::BcastFlood),
    port_switch(Property::NeighSuppress),
    port_switch(Property::BpduGuard),
    port_switch(Property::RootGuard),
    writable(
        Property::Speed,
        Kind::Number { least: 1, most: u32::MAX as u64 - 1 },
        HARDWARE,
        Standard::AsFound,
    ),
    writable(
        Property::Duplex,
        Kind::Switch { on: "full", off: "half" },
        HARDWARE,
        Standard::AsFound,
    ),
    writable(Property::Autoneg, ON_OFF, HARDWARE, Standard::AsFound),
    writable(Property::RxRing, RING, DRIVEN, Standard::AsFound),
    writable(Property::TxRing, RING, DRIVEN, Standard::AsFound),
    offload(Property::Gro),
    offload(Property::Gso),
    offload(Property::Tso),
    offload(Property::Lro),
    offload(Property::Sg),
    offload(Property::RxCsum),
    offload(Property::TxCsum),
];

impl Property {
    /// The property of this name, in whatever case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|property| property.as_str().eq_ignore_ascii_case(name))
    }

    /// What the table says of it; a test sees to it that it says something of each.
    pub fn description(self) -> &'static Description {
        let found = TABLE.iter().find(|described| described.property == self);
        found.unwrap_or(&TABLE[0])
    }
}

/// The name of a property of any link, by that name in whatever case, or by another word for it.
pub fn known(name: &str) -> Option<&'static str> {
    let of_kind = || KINDS.iter().find_map(|kind| kind.property(name)).map(|option| option.name);
    Property::named(name).map(Property::as_str).or_else(of_kind)
}

/// The names of all properties that some link has: first those of [`TABLE`], then the options of
/// kinds, each once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = TABLE.iter().map(|one| one.property.as_str()).collect();
    for option in KINDS.iter().flat_map(LinkKind::properties) {
        if !names.contains(&option.name) {
            names.push(option.name);
        }
    }
    names
}

/// Whether values of the property of that name are numbers: of one kind of link they may be, of
/// another not.
pub fn is_number(name: &str) -> bool {
    let is_number = |option: &OptionSpec| matches!(option.value, ValueType::Number { .. });
    match Property::named(name) {
        Some(property) => matches!(property.description().kind, Kind::Number { .. }),
        None => KINDS.iter().filter_map(|kind| kind.property(name)).any(is_number),
    }
}

impl Applies {
    /// Whether links of this class and medium are among them.
    pub fn covers(&self, class: LinkClass, media: Media) -> bool {
        let is_class = self.classes.is_empty() || self.classes.contains(&class);
        let is_media = self.media.is_empty() || self.media.contains(&media);
        is_class && is_media
    }
}

/// One property of one link as clients see it. Values are texts; one that is not there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyInfo {
    /// Its name.
    pub name: String,
    /// Whether it can be set.
    pub is_writable: bool,
    /// What is wanted for good; where nothing is, what the link has.
    pub value: Option<String>,
    /// What the link has.
    pub effective: Option<String>,
    /// What a reset comes to.
    pub default: Option<String>,
    /// What it can be set to.
    pub possible: Option<String>,
}

/// A value for a property, both as the user typed them: the daemon checks them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The property's name.
    pub property: String,
    /// The value.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_describes_each_property_once() {
        for property in Property::ALL {
            let described = TABLE.iter().filter(|described| described.property == *property);
            assert_eq!(described.count(), 1, "{property}");
        }
    }

    #[test]
    fn a_property_is_named_in_any_case() {
        assert_eq!(Property::named("MTU"), Some(Property::Mtu));
        assert_eq!(Property::named("colour"), None);
    }

    #[test]
    fn the_options_of_kinds_are_properties_too() {
        assert_eq!(known("STP"), Some("protect"));
        assert_eq!(known("mtu"), Some("mtu"));
        assert_eq!(known("colour"), None);
        assert!(names().contains(&"vlan-filtering"));
        assert!(is_number("ageing") && is_number("mtu") && !is_number("protect"));
        for name in names() {
            let alike = names().into_iter().filter(|other| *other == name).count();
            assert_eq!(alike, 1, "{name}");
        }
    }

    #[test]
    fn only_links_of_its_class_and_medium_have_a_property() {
        assert!(EVERY.covers(LinkClass::Iptun, Media::IPv4));
        assert!(ETHERNET.covers(LinkClass::Phys, Media::WiFi));
        assert!(!ETHERNET.covers(LinkClass::Phys, Media::Infiniband));
        let veths = Applies { classes: &[LinkClass::Veth], ..EVERY };
        assert!(!veths.covers(LinkClass::Bridge, Media::Ethernet));
    }
}
