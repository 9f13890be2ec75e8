//! The fields of what is shown: their names, and how each is read from what the daemon told.

pub mod class;

use std::borrow::Cow;

use dlmgmt_proto::property::{self, PropertyInfo};
use dlmgmt_proto::{HwAddr, LinkInfo, LinkName, LowerLink, Whereabouts, ZoneInfo, ZoneName};

use crate::details::Detailed;
use crate::failure::Failure;

/// One value to be shown.
#[derive(Debug)]
pub enum Value<'a> {
    /// Nothing is known, or nothing is there.
    Absent,
    /// A number.
    Number(u64),
    /// A text.
    Text(Cow<'a, str>),
    /// Any number of texts.
    List(Vec<Cow<'a, str>>),
}

impl<'a> Value<'a> {
    /// A text that needs no copy.
    pub fn word(word: &'a str) -> Self {
        Self::Text(Cow::Borrowed(word))
    }

    /// A link's name, shown so that it cannot harm a terminal.
    pub fn name(name: &'a LinkName) -> Self {
        Self::Text(shown(name))
    }

    fn number(number: Option<impl Into<u64>>) -> Self {
        number.map_or(Self::Absent, |number| Self::Number(number.into()))
    }

    /// A number of the kernel's that is negative where there is none.
    fn natural(number: Option<i32>) -> Self {
        Self::number(number.and_then(|number| u32::try_from(number).ok()))
    }

    fn optional(word: Option<&'a str>) -> Self {
        word.map_or(Self::Absent, Self::word)
    }

    fn mac(address: Option<&HwAddr>) -> Self {
        address.map_or(Self::Absent, |mac| Self::Text(Cow::Owned(mac.to_string())))
    }

    /// Appends the value as text; nothing for an absent one.
    pub fn write_to(&self, out: &mut String) {
        match self {
            Self::Absent => {}
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Text(text) => out.push_str(text),
            Self::List(texts) => out.push_str(&texts.join(",")),
        }
    }
}

/// The name as text: without a copy where it is plain, as nearly every name is.
fn shown(name: &LinkName) -> Cow<'_, str> {
    match std::str::from_utf8(name.as_bytes()) {
        Ok(text) if !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(name.to_string()),
    }
}

fn lower_name(lower: &LowerLink) -> Cow<'_, str> {
    match lower.zone {
        None => shown(&lower.name),
        Some(_) => Cow::Owned(lower.to_string()),
    }
}

/// One field of a `T`.
#[derive(Debug)]
pub struct Field<T> {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Its value.
    pub value: fn(&T) -> Value<'_>,
}

const LINK: Field<LinkInfo> = Field { name: "link", value: |link| Value::name(&link.name) };
const MEDIA: Field<LinkInfo> =
    Field { name: "media", value: |link| Value::word(link.media.as_str()) };
const STATE: Field<LinkInfo> =
    Field { name: "state", value: |link| Value::word(link.state.as_str()) };
const ZONE: Field<LinkInfo> = Field { name: "zone", value: |link| Value::word(link.zone.as_str()) };
const FLAGS: Field<LinkInfo> = Field {
    name: "flags",
    value: |link| Value::List(link.flags.words().into_iter().map(Cow::Borrowed).collect()),
};

/// The fields of `show-link`.
pub const LINK_FIELDS: &[Field<LinkInfo>] = &[
    LINK,
    Field { name: "class", value: |link| Value::word(link.class.as_str()) },
    Field { name: "mtu", value: |link| Value::number(link.mtu) },
    STATE,
    Field { name: "over", value: |link| Value::List(link.over.iter().map(lower_name).collect()) },
    ZONE,
    Field { name: "owner", value: |link| Value::word(link.owner.as_str()) },
    Field { name: "linkid", value: |link| Value::Number(link.id.get().into()) },
    Field { name: "mac", value: |link| Value::mac(link.mac.as_ref()) },
    Field { name: "ifindex", value: |link| Value::number(link.ifindex.map(|i| i.get())) },
    Field { name: "kind", value: |link| Value::optional(link.kind.as_deref()) },
    MEDIA,
    FLAGS,
];

/// The fields of `show-phys`.
pub const PHYS_FIELDS: &[Field<LinkInfo>] = &[
    LINK,
    MEDIA,
    STATE,
    Field { name: "speed", value: |link| Value::number(link.speed) },
    Field {
        name: "duplex",
        value: |link| link.duplex.map_or(Value::Absent, |duplex| Value::word(duplex.as_str())),
    },
    Field { name: "device", value: |link| link.device.as_ref().map_or(Value::Absent, Value::name) },
    Field {
        name: "mac",
        value: |link| Value::mac(link.permanent_mac.as_ref().or(link.mac.as_ref())),
    },
    Field {
        name: "path",
        value: |link| link.path.as_ref().map_or(Value::Absent, |path| Value::word(&path.0)),
    },
    ZONE,
    FLAGS,
];

/// The fields of `show-link -s`.
pub const STATISTICS_FIELDS: &[Field<Detailed>] = &[
    Field { name: "link", value: |row| Value::name(&row.link.name) },
    Field { name: "ipackets", value: |row| row.fact("ipackets") },
    Field { name: "rbytes", value: |row| row.fact("rbytes") },
    Field { name: "ierrors", value: |row| row.fact("ierrors") },
    Field { name: "opackets", value: |row| row.fact("opackets") },
    Field { name: "obytes", value: |row| row.fact("obytes") },
    Field { name: "oerrors", value: |row| row.fact("oerrors") },
    Field { name: "idrops", value: |row| row.fact("idrops") },
    Field { name: "odrops", value: |row| row.fact("odrops") },
    Field { name: "multicast", value: |row| row.fact("multicast") },
    Field { name: "collisions", value: |row| row.fact("collisions") },
    Field { name: "zone", value: |row| Value::word(row.link.zone.as_str()) },
    Field { name: "linkid", value: |row| Value::Number(row.link.id.get().into()) },
];

/// The fields of `show-zone`.
pub const ZONE_FIELDS: &[Field<ZoneInfo>] = &[
    Field { name: "zone", value: |zone| Value::word(zone.name.as_str()) },
    Field { name: "zoneid", value: |zone| Value::Number(zone.id.0.into()) },
    Field { name: "state", value: |zone| Value::word(zone.state.as_str()) },
    Field { name: "links", value: |zone| Value::Number(zone.links.into()) },
    Field { name: "pid", value: |zone| Value::natural(zone.pid) },
    Field { name: "netns", value: |zone| Value::optional(zone.netns.as_deref()) },
];

/// The fields of `where`.
pub const WHERE_FIELDS: &[Field<Whereabouts>] = &[
    Field { name: "link", value: |found| Value::name(&found.own_name) },
    Field { name: "linkid", value: |found| Value::Number(found.link.id.get().into()) },
    Field {
        name: "zone",
        value: |found| Value::optional(found.zone.as_ref().map(ZoneName::as_str)),
    },
    Field { name: "nsid", value: |found| Value::natural(found.nsid) },
    Field { name: "pid", value: |found| Value::natural(found.pid) },
    Field {
        name: "assigned",
        value: |found| Value::optional(found.assigned.as_ref().map(ZoneName::as_str)),
    },
    Field { name: "owner", value: |found| Value::word(found.link.owner.as_str()) },
    Field {
        name: "device",
        value: |found| found.link.device.as_ref().map_or(Value::Absent, Value::name),
    },
];

/// One property of a link.
#[derive(Debug)]
pub struct PropertyRow {
    /// The link's name.
    pub link: LinkName,
    /// The property.
    pub property: PropertyInfo,
}

impl PropertyRow {
    /// A number where the property's values are numbers.
    fn value<'a>(&self, text: Option<&'a str>) -> Value<'a> {
        match (text.map(str::parse), property::is_number(&self.property.name)) {
            (Some(Ok(number)), true) => Value::Number(number),
            _ => Value::optional(text),
        }
    }
}

/// The fields of `show-linkprop`.
pub const PROPERTY_FIELDS: &[Field<PropertyRow>] = &[
    Field { name: "link", value: |row| Value::name(&row.link) },
    Field { name: "property", value: |row| Value::word(&row.property.name) },
    Field {
        name: "perm",
        value: |row| Value::word(if row.property.is_writable { "rw" } else { "r-" }),
    },
    Field { name: "value", value: |row| row.value(row.property.value.as_deref()) },
    Field { name: "effective", value: |row| row.value(row.property.effective.as_deref()) },
    Field { name: "default", value: |row| row.value(row.property.default.as_deref()) },
    Field { name: "possible", value: |row| Value::optional(row.property.possible.as_deref()) },
];

/// A choice of fields, in the order in which they are shown.
pub type Selection<T> = Vec<&'static Field<T>>;

/// The fields of `table` that `list` names, separated by commas, in any case.
pub fn select<T>(table: &'static [Field<T>], list: &str) -> Result<Selection<T>, Failure> {
    list.split(',').map(|name| find(table, name.trim())).collect()
}

fn find<T>(table: &'static [Field<T>], name: &str) -> Result<&'static Field<T>, Failure> {
    let field = table.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    field.ok_or_else(|| {
        let known: Vec<&str> = table.iter().map(|field| field.name).collect();
        Failure::Usage(format!("unknown field `{name}`: there are {}", known.join(", ")))
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use dlmgmt_proto::{
        Duplex, Flags, Generation, IfIndex, LinkClass, LinkId, LinkState, Media, ZoneId, ZoneState,
    };

    /// A link with a value in every field.
    pub fn full(name: &[u8]) -> LinkInfo {
        LinkInfo {
            id: LinkId::new(7).unwrap(),
            name: LinkName::found(name).unwrap(),
            class: LinkClass::Vlan,
            kind: Some("vlan".to_owned()),
            media: Media::Ethernet,
            flags: Flags::ACTIVE | Flags::FOREIGN,
            state: LinkState::Up,
            mtu: Some(1500),
            ifindex: IfIndex::new(3),
            zone: ZoneName::global(),
            owner: ZoneName::global(),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            permanent_mac: Some("02:00:00:00:00:02".parse().unwrap()),
            path: Some(dlmgmt_proto::DevicePath("pci-0000:00:03.0".to_owned())),
            device: Some(LinkName::found(name).unwrap()),
            over: vec![LowerLink { name: LinkName::found(b"net0").unwrap(), zone: None }],
            speed: Some(1000),
            duplex: Some(Duplex::Full),
            generation: Generation(1),
        }
    }

    /// A link with as little as a link can have.
    pub fn bare(name: &[u8]) -> LinkInfo {
        LinkInfo {
            kind: None,
            flags: Flags::empty(),
            state: LinkState::Unknown,
            mtu: None,
            ifindex: None,
            mac: None,
            permanent_mac: None,
            path: None,
            device: None,
            over: Vec::new(),
            speed: None,
            duplex: None,
            ..full(name)
        }
    }

    /// A zone of this name with two links.
    pub fn zone(name: &str) -> ZoneInfo {
        ZoneInfo {
            id: ZoneId(5),
            name: ZoneName::new(name).unwrap(),
            state: ZoneState::Ready,
            links: 2,
            pid: None,
            netns: Some(format!("/run/netns/{name}")),
        }
    }

    /// `net0`, lent to zone `web` as `eth0`.
    pub fn away() -> Whereabouts {
        let web = || ZoneName::new("web").unwrap();
        Whereabouts {
            link: LinkInfo { zone: web(), ..full(b"eth0") },
            own_name: LinkName::found(b"net0").unwrap(),
            zone: Some(web()),
            nsid: Some(3),
            pid: Some(77),
            assigned: Some(web()),
        }
    }

    fn text<T>(table: &'static [Field<T>], field: &str, link: &T) -> String {
        let mut text = String::new();
        (find(table, field).unwrap().value)(link).write_to(&mut text);
        text
    }

    #[test]
    fn the_tables_have_the_fields_of_the_specification() {
        fn names<T>(table: &[Field<T>]) -> String {
            table.iter().map(|field| field.name).collect::<Vec<_>>().join(" ")
        }
        assert_eq!(
            names(LINK_FIELDS),
            "link class mtu state over zone owner linkid mac ifindex kind media flags"
        );
        assert_eq!(names(PHYS_FIELDS), "link media state speed duplex device mac path zone flags");
        assert_eq!(names(ZONE_FIELDS), "zone zoneid state links pid netns");
        let properties = "link property perm value effective default possible";
        assert_eq!(names(PROPERTY_FIELDS), properties);
    }

    #[test]
    fn fields_are_found_in_any_case_and_kept_in_the_order_asked_for() {
        let chosen = select(LINK_FIELDS, "STATE,Link,mtu").unwrap();
        let names: Vec<&str> = chosen.iter().map(|field| field.name).collect();
        assert_eq!(names, ["state", "link", "mtu"]);
    }

    #[test]
    fn an_unknown_field_is_named() {
        for bad in ["link,speed", "", "link,"] {
            let Err(Failure::Usage(why)) = select(LINK_FIELDS, bad) else { panic!("{bad}") };
            assert!(why.contains("unknown field"), "{why}");
        }
    }

    #[test]
    fn a_physical_link_shows_its_permanent_address_and_else_the_present_one() {
        let mut link = full(b"net0");
        assert_eq!(text(PHYS_FIELDS, "mac", &link), "02:00:00:00:00:02");
        link.permanent_mac = None;
        assert_eq!(text(PHYS_FIELDS, "mac", &link), "02:00:00:00:00:01");
        assert_eq!(text(LINK_FIELDS, "mac", &link), "02:00:00:00:00:01");
    }

    #[test]
    fn a_link_that_is_away_shows_its_own_name_and_the_device_where_it_is() {
        let found = away();
        assert_eq!(text(WHERE_FIELDS, "link", &found), "net0");
        assert_eq!(text(WHERE_FIELDS, "device", &found), "eth0");
        assert_eq!(text(WHERE_FIELDS, "nsid", &found), "3");
        let unknown = Whereabouts { nsid: Some(-1), zone: None, ..found };
        assert_eq!(text(WHERE_FIELDS, "nsid", &unknown), "");
        assert_eq!(text(WHERE_FIELDS, "zone", &unknown), "");
    }

    #[test]
    fn only_values_of_properties_that_are_numbers_are_numbers() {
        let row = |name: &str| PropertyRow {
            link: LinkName::found(b"net0").unwrap(),
            property: PropertyInfo {
                name: name.to_owned(),
                is_writable: true,
                value: Some("1500".to_owned()),
                effective: None,
                default: None,
                possible: None,
            },
        };
        let is_number = |name| {
            let row = row(name);
            matches!((find(PROPERTY_FIELDS, "value").unwrap().value)(&row), Value::Number(1500))
        };
        assert!(is_number("mtu"));
        assert!(!is_number("alias"));
        assert_eq!(text(PROPERTY_FIELDS, "perm", &row("mtu")), "rw");
    }

    #[test]
    fn a_name_that_is_not_plain_text_is_shown_escaped() {
        assert_eq!(text(LINK_FIELDS, "link", &full(b"a\xff\x1b")), "a\\xff\\x1b");
    }

    #[test]
    fn a_lower_link_elsewhere_is_shown_with_its_zone() {
        let mut link = full(b"v0");
        link.over[0].zone = Some(ZoneName::new("web").unwrap());
        link.over.push(LowerLink { name: LinkName::found(b"net1").unwrap(), zone: None });
        assert_eq!(text(LINK_FIELDS, "over", &link), "web/net0,net1");
    }
}
