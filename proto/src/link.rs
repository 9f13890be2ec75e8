//! What a client is told of a link, and how it asks for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    Duplex, Flags, Generation, HwAddr, IfIndex, LinkClass, LinkId, LinkName, LinkState, Media,
    NameError, ZoneName,
};

/// Where a physical device sits: its parent bus address, such as `pci-0000:00:03.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevicePath(pub String);

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A link that another lies over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LowerLink {
    /// Its name in its zone.
    pub name: LinkName,
    /// Its zone, where that differs from the upper link's.
    pub zone: Option<ZoneName>,
}

impl fmt::Display for LowerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => f.pad(&format!("{zone}/{}", self.name)),
            None => self.name.fmt(f),
        }
    }
}

/// One link as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// Its identity.
    pub id: LinkId,
    /// Its name in the zone where it is.
    pub name: LinkName,
    /// Its class.
    pub class: LinkClass,
    /// The kernel's link type, where it has one.
    pub kind: Option<String>,
    /// Its medium.
    pub media: Media,
    /// Its flags.
    pub flags: Flags,
    /// Whether it carries traffic.
    pub state: LinkState,
    /// Largest packet in bytes, while the kernel has the link.
    pub mtu: Option<u32>,
    /// The kernel's index in the zone where it is.
    pub ifindex: Option<IfIndex>,
    /// The zone where it is.
    pub zone: ZoneName,
    /// The zone where it was created.
    pub owner: ZoneName,
    /// Its present address.
    pub mac: Option<HwAddr>,
    /// A physical link's permanent address.
    pub permanent_mac: Option<HwAddr>,
    /// A physical link's place on its bus.
    pub path: Option<DevicePath>,
    /// The kernel's name for the device now, or its last one.
    pub device: Option<LinkName>,
    /// The links it lies over; of a bridge or an aggregation, its ports.
    pub over: Vec<LowerLink>,
    /// Megabits per second, of a physical link, when its carrier last changed.
    pub speed: Option<u32>,
    /// Whether it sends and receives at once, as of the same moment.
    pub duplex: Option<Duplex>,
    /// Raised at each loan and return.
    pub generation: Generation,
}

/// A virtual link as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkSpec {
    /// A pair of links, of which this describes the other end.
    Veth {
        /// The other end's name, as the user typed it.
        peer: String,
        /// The other end's zone; `None` for the caller's own.
        peer_zone: Option<ZoneName>,
    },
    /// A macvlan.
    Vnic {
        /// The link it lies over.
        over: LinkRef,
        /// Its address; `None` lets the kernel choose.
        mac: Option<HwAddr>,
        /// Who of the links over one lower link hear each other.
        mode: MacvlanMode,
    },
}

/// Who of the macvlans over one lower link hear each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// All of them.
    #[default]
    Bridge,
    /// None of them.
    Private,
    /// Those that the switch outside lets.
    Vepa,
    /// There is only one.
    Passthru,
}

impl MacvlanMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        }
    }
}

/// Where a link is, whoever moved it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The link.
    pub link: LinkInfo,
    /// Its own name, at home.
    pub own_name: LinkName,
    /// The zone where it is; `None` for a namespace that is no zone, or nowhere at all.
    pub zone: Option<ZoneName>,
    /// The number that the daemon's own namespace has for the one where the link is.
    pub nsid: Option<i32>,
    /// A process in that namespace, if there is one that the daemon sees.
    pub pid: Option<i32>,
    /// The zone that the link is assigned to, there or not.
    pub assigned: Option<ZoneName>,
}

/// How a caller names a link (SPEC.md section 4): `NAME`, `ZONE/NAME` or `@ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkRef {
    /// A link of the caller's zone.
    Name(LinkName),
    /// A link of the zone named.
    InZone(ZoneName, LinkName),
    /// A linkid.
    Id(LinkId),
}

/// Why a text names no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefError {
    /// What follows `@` is no linkid.
    #[error("`{0}` is no linkid: `@` and a number from 1 to 4294967295 is")]
    BadId(String),
    /// The zone's name is not one.
    #[error("`{0}`: {1}")]
    BadZone(String, NameError),
    /// The link's name is not one.
    #[error("`{0}`: {1}")]
    BadName(String, NameError),
}

impl FromStr for LinkRef {
    type Err = LinkRefError;

    /// Names are taken as they are, since a link found in the kernel may have any; a name with
    /// bytes that are shown as `\xNN` is reached by its `@ID`.
    fn from_str(text: &str) -> Result<Self, LinkRefError> {
        let found = |name: &str| {
            LinkName::found(name.as_bytes())
                .map_err(|why| LinkRefError::BadName(name.escape_debug().to_string(), why))
        };
        if let Some(number) = text.strip_prefix('@') {
            let id = number.parse().ok().and_then(LinkId::new);
            return id
                .map(Self::Id)
                .ok_or_else(|| LinkRefError::BadId(text.escape_debug().to_string()));
        }
        match text.split_once('/') {
            Some((zone, name)) => {
                let zone = ZoneName::new(zone)
                    .map_err(|why| LinkRefError::BadZone(zone.escape_debug().to_string(), why))?;
                Ok(Self::InZone(zone, found(name)?))
            }
            None => Ok(Self::Name(found(text)?)),
        }
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::InZone(zone, name) => write!(f, "{zone}/{name}"),
            Self::Id(id) => write!(f, "@{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_in_three_ways() {
        let net0 = LinkName::given("net0").unwrap();
        assert_eq!("net0".parse(), Ok(LinkRef::Name(net0)));
        assert_eq!("web/net0".parse(), Ok(LinkRef::InZone(ZoneName::new("web").unwrap(), net0)));
        assert_eq!("@7".parse(), Ok(LinkRef::Id(LinkId::new(7).unwrap())));
    }

    #[test]
    fn what_names_no_link_is_refused() {
        for bad in ["", "@", "@0", "@x", "@4294967296", "../x", "/x", "web/", "sixteen-letters0"] {
            assert!(bad.parse::<LinkRef>().is_err(), "{bad}");
        }
    }
}
