//! The objects: their paths and their properties.

use std::collections::BTreeMap;

use dlmgmt_proto::{LinkId, LinkInfo, ZoneId, ZoneInfo};
use zbus::{ObjectPath, Variant};

use super::table::{
    INTROSPECTABLE, Interface, LINK_INTERFACE, LOG_CONTROL, MANAGER, OBJECT_MANAGER, PEER,
    PROPERTIES, ZONE_INTERFACE,
};

/// The root of everything.
pub const ROOT: &str = "/org/dlmgmt1";

const LINKS: &str = "/org/dlmgmt1/link";
const ZONES: &str = "/org/dlmgmt1/zone";
const LOG: &str = "/org/freedesktop/LogControl1";

/// Properties by name.
pub type Properties = BTreeMap<&'static str, Variant<'static>>;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Something above objects, with these children.
    Node(&'static [&'static str]),
    /// The manager.
    Manager,
    /// Where links are.
    Links,
    /// A link, which need not be there.
    Link(LinkId),
    /// Where zones are.
    Zones,
    /// A zone, which need not be there.
    Zone(ZoneId),
    /// What the daemon logs.
    LogControl,
}

impl Object {
    /// What lies at a path, if anything can.
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Node(&["org"]),
            "/org" => Self::Node(&["dlmgmt1", "freedesktop"]),
            "/org/freedesktop" => Self::Node(&["LogControl1"]),
            LOG => Self::LogControl,
            ROOT => Self::Manager,
            LINKS => Self::Links,
            ZONES => Self::Zones,
            _ => return Self::numbered(path),
        })
    }

    fn numbered(path: &str) -> Option<Self> {
        let (parent, leaf) = path.rsplit_once('/')?;
        let number = leaf.strip_prefix('_')?;
        let is_plain = number == "0" || !number.starts_with(['0', '+']);
        let number = number.parse().ok().filter(|_| is_plain)?;
        match parent {
            LINKS => LinkId::new(number).map(Self::Link),
            ZONES => Some(Self::Zone(ZoneId(number))),
            _ => None,
        }
    }

    /// The interfaces that it has.
    pub fn interfaces(self) -> &'static [&'static Interface] {
        match self {
            Self::Node(_) | Self::Links | Self::Zones => &[&INTROSPECTABLE, &PEER],
            Self::Manager => &[&MANAGER, &OBJECT_MANAGER, &PROPERTIES, &INTROSPECTABLE, &PEER],
            Self::Link(_) => &[&LINK_INTERFACE, &PROPERTIES, &INTROSPECTABLE, &PEER],
            Self::Zone(_) => &[&ZONE_INTERFACE, &PROPERTIES, &INTROSPECTABLE, &PEER],
            Self::LogControl => &[&LOG_CONTROL, &PROPERTIES, &INTROSPECTABLE, &PEER],
        }
    }
}

/// The path of a link.
pub fn link_path(id: LinkId) -> ObjectPath<'static> {
    ObjectPath::from_string_unchecked(format!("{LINKS}/_{id}"))
}

/// The path of a zone.
pub fn zone_path(id: ZoneId) -> ObjectPath<'static> {
    ObjectPath::from_string_unchecked(format!("{ZONES}/_{id}"))
}

/// The properties of a link.
pub fn link_properties(link: &LinkInfo) -> Properties {
    let over: Vec<String> = link.over.iter().map(ToString::to_string).collect();
    BTreeMap::from([
        ("Id", link.id.get().into()),
        ("Name", text(&link.name)),
        ("Class", text(&link.class)),
        ("Kind", text_or_none(link.kind.as_ref())),
        ("Media", text(&link.media)),
        ("Flags", link.flags.words().into()),
        ("State", text(&link.state)),
        ("Mtu", link.mtu.unwrap_or(0).into()),
        ("IfIndex", link.ifindex.map_or(0, |index| index.get()).into()),
        ("Zone", text(&link.zone)),
        ("Owner", text(&link.owner)),
        ("Mac", text_or_none(link.mac.as_ref())),
        ("PermanentMac", text_or_none(link.permanent_mac.as_ref())),
        ("Path", text_or_none(link.path.as_ref())),
        ("Device", text_or_none(link.device.as_ref())),
        ("Over", over.into()),
        ("Speed", link.speed.unwrap_or(0).into()),
        ("Duplex", text_or_none(link.duplex.as_ref())),
        ("Generation", link.generation.0.into()),
    ])
}

/// The properties of a zone.
pub fn zone_properties(zone: &ZoneInfo) -> Properties {
    BTreeMap::from([
        ("Id", zone.id.0.into()),
        ("Name", text(&zone.name)),
        ("State", text(&zone.state)),
        ("Links", zone.links.into()),
        ("Pid", zone.pid.unwrap_or(0).into()),
        ("Netns", text_or_none(zone.netns.as_ref())),
    ])
}

/// Those properties that have another value now.
pub fn changed(before: Properties, after: Properties) -> Properties {
    after.into_iter().filter(|(name, value)| before.get(name) != Some(value)).collect()
}

fn text(value: &impl ToString) -> Variant<'static> {
    value.to_string().into()
}

fn text_or_none<T: ToString>(value: Option<&T>) -> Variant<'static> {
    value.map(T::to_string).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use dlmgmt_proto::{ZoneName, ZoneState};

    use super::*;

    fn link() -> LinkInfo {
        crate::fuzzing::echo::link(1).unwrap()
    }

    fn zone() -> ZoneInfo {
        let (name, state) = (ZoneName::global(), ZoneState::Ready);
        ZoneInfo { id: ZoneId(0), name, state, links: 0, pid: None, netns: None }
    }

    /// The names and signatures of properties in the table, in the order of names.
    fn described(interface: &Interface) -> Vec<(&'static str, String)> {
        let mut described: Vec<_> = interface
            .properties
            .iter()
            .map(|property| (property.name, property.signature.to_owned()))
            .collect();
        described.sort_unstable();
        described
    }

    fn had(properties: &Properties) -> Vec<(&'static str, String)> {
        let had = properties.iter();
        had.map(|(name, value)| (*name, value.value_signature().to_string())).collect()
    }

    #[test]
    fn objects_have_the_properties_of_the_table() {
        assert_eq!(had(&link_properties(&link())), described(&LINK_INTERFACE));
        assert_eq!(had(&zone_properties(&zone())), described(&ZONE_INTERFACE));
    }

    #[test]
    fn only_what_is_different_has_changed() {
        let (before, mut after) = (link(), link());
        after.mtu = Some(1400);
        let told = changed(link_properties(&before), link_properties(&after));
        assert_eq!(told, Properties::from([("Mtu", Variant::U32(1400))]));
    }

    #[test]
    fn a_path_leads_to_one_object_and_back() {
        let link = LinkId::new(7).unwrap();
        assert_eq!(Object::at(&link_path(link)), Some(Object::Link(link)));
        assert_eq!(Object::at(&zone_path(ZoneId(0))), Some(Object::Zone(ZoneId(0))));
        for nothing in [
            "/org/dlmgmt1/link/7",
            "/org/dlmgmt1/link/_0",
            "/org/dlmgmt1/link/_07",
            "/org/dlmgmt1/link/_+7",
            "/org/dlmgmt1/link/_7/x",
            "/org/dlmgmt2",
            "/com",
        ] {
            assert_eq!(Object::at(nothing), None, "{nothing}");
        }
    }
}
