//! A link as the kernel's messages tell it.
//!
//! What the kernel sends holds what others chose: names that are no UTF-8, drivers' own oddities,
//! attributes of kernels to come. So nothing in a message makes the rest of it unreadable: each
//! attribute is taken if it makes sense, else treated as absent.

use dlmgmt_proto::{DevicePath, HwAddr, IfIndex, LinkName, LinkState, Media};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkFlags, LinkHeader};

use super::device;
use super::frame::{attributes, string};
use super::port;
use crate::model::{AltName, KernelLink, Lower, Tunables};

/// Bytes of `struct ifinfomsg`, which the attributes follow.
const HEADER_LEN: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_IFALIAS: u16 = 20;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PHYS_PORT_NAME: u16 = 38;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFLA_MIN_MTU: u16 = 50;
const IFLA_MAX_MTU: u16 = 51;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;

/// One RTM_NEWLINK or RTM_DELLINK: the attributes that matter, as they came.
#[derive(Debug)]
pub struct RawLink<'a> {
    family: AddressFamily,
    ifindex: IfIndex,
    hardware_type: u16,
    flags: LinkFlags,
    name: Option<LinkName>,
    kind: Option<&'a [u8]>,
    address: Option<HwAddr>,
    permanent_address: Option<HwAddr>,
    mtu: u32,
    operstate: u8,
    carrier: bool,
    lower: Option<IfIndex>,
    lower_nsid: Option<i32>,
    master: Option<IfIndex>,
    altnames: Vec<AltName>,
    tunables: Tunables,
    bus: Option<&'a [u8]>,
    device: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    is_elsewhere: bool,
    new_nsid: Option<i32>,
    new_ifindex: Option<IfIndex>,
}

impl<'a> RawLink<'a> {
    /// Whether the message speaks of a bridge's port: its end is that of the port, not of the link.
    pub fn is_of_bridge(&self) -> bool {
        self.family == AddressFamily::Bridge
    }

    /// Reads a message's payload; `None` where it does not even tell an index.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Self {
            family: header.interface_family,
            ifindex: IfIndex::new(header.index)?,
            hardware_type: header.link_layer_type.into(),
            flags: header.flags,
            name: None,
            kind: None,
            address: None,
            permanent_address: None,
            mtu: 0,
            operstate: 0,
            carrier: false,
            lower: None,
            lower_nsid: None,
            master: None,
            altnames: Vec::new(),
            tunables: Tunables {
                promisc: header.flags.contains(LinkFlags::Promisc),
                allmulti: header.flags.contains(LinkFlags::Allmulti),
                ..Tunables::default()
            },
            bus: None,
            device: None,
            port: None,
            is_elsewhere: false,
            new_nsid: None,
            new_ifindex: None,
        };
        attributes(&payload[HEADER_LEN..]).for_each(|(kind, value)| link.take(kind, value));
        Some(link)
    }

    fn take(&mut self, kind: u16, value: &'a [u8]) {
        match kind {
            IFLA_IFNAME => self.name = LinkName::found(string(value)).ok(),
            IFLA_LINKINFO => {
                self.kind = nested(value, IFLA_INFO_KIND).next().map(string);
                let port = nested(value, IFLA_INFO_SLAVE_KIND).next().map(string);
                if port == Some(port::KIND) {
                    let told = nested(value, IFLA_INFO_SLAVE_DATA).next().unwrap_or_default();
                    self.tunables.others = port::read(told);
                }
            }
            IFLA_ADDRESS => self.address = address(value),
            IFLA_PERM_ADDRESS => self.permanent_address = address(value),
            IFLA_MTU => self.mtu = number(value).unwrap_or_default(),
            IFLA_TXQLEN => self.tunables.txqueuelen = number(value).unwrap_or_default(),
            IFLA_IFALIAS => self.tunables.alias = String::from_utf8_lossy(string(value)).into(),
            IFLA_MIN_MTU => self.tunables.mtu_min = number(value).unwrap_or_default(),
            IFLA_MAX_MTU => self.tunables.mtu_max = number(value).unwrap_or_default(),
            IFLA_OPERSTATE => self.operstate = value.first().copied().unwrap_or_default(),
            IFLA_CARRIER => self.carrier = value.first().is_some_and(|carrier| *carrier != 0),
            IFLA_LINK => self.lower = number(value).and_then(IfIndex::new),
            IFLA_LINK_NETNSID => self.lower_nsid = number(value).map(u32::cast_signed),
            IFLA_TARGET_NETNSID => self.is_elsewhere = true,
            IFLA_NEW_NETNSID => self.new_nsid = number(value).map(u32::cast_signed),
            IFLA_NEW_IFINDEX => self.new_ifindex = number(value).and_then(IfIndex::new),
            IFLA_MASTER => self.master = number(value).and_then(IfIndex::new),
            IFLA_PROP_LIST => self.altnames = altnames(value),
            IFLA_PARENT_DEV_BUS_NAME => self.bus = Some(string(value)),
            IFLA_PARENT_DEV_NAME => self.device = Some(string(value)),
            IFLA_PHYS_PORT_NAME => self.port = Some(string(value)),
            _ => {}
        }
    }

    /// Its index.
    pub fn ifindex(&self) -> IfIndex {
        self.ifindex
    }

    /// Where the link was moved to, if that is why it is here no more: the number that this
    /// namespace has for the other one, and the link's index there.
    pub fn moved_to(&self) -> Option<(i32, IfIndex)> {
        Some((self.new_nsid?, self.new_ifindex?))
    }

    /// Whether it carries traffic, by RFC 2863's operational state.
    ///
    /// Drivers that do not keep that state leave it unknown: then the link is up if it was put up
    /// and has a carrier, down if it was not put up, and else nobody knows.
    pub fn state(&self) -> LinkState {
        const IF_OPER_UNKNOWN: u8 = 0;
        const IF_OPER_UP: u8 = 6;
        match self.operstate {
            IF_OPER_UP => LinkState::Up,
            IF_OPER_UNKNOWN if !self.is_admin_up() => LinkState::Down,
            IF_OPER_UNKNOWN if self.carrier => LinkState::Up,
            IF_OPER_UNKNOWN => LinkState::Unknown,
            _ => LinkState::Down,
        }
    }

    fn is_admin_up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }

    /// The link that it tells of; `None` where it has no name. Hardware is looked up in sysfs.
    pub fn into_kernel_link(self) -> Option<KernelLink> {
        let name = self.name?;
        Some(KernelLink {
            ifindex: self.ifindex,
            name,
            kind: self.kind.map(|kind| String::from_utf8_lossy(kind).into_owned()),
            media: self.media(&name),
            mac: self.address,
            permanent_mac: self.permanent_address,
            path: self.path(),
            mtu: self.mtu,
            admin_up: self.is_admin_up(),
            state: self.state(),
            lower: self.lower.map(|ifindex| Lower { ifindex, nsid: self.lower_nsid, ns: None }),
            master: self.master,
            altnames: self.altnames,
            tunables: self.tunables,
        })
    }

    fn media(&self, name: &LinkName) -> Media {
        match media_of(self.hardware_type) {
            // Drivers of wireless hardware show Ethernet; sysfs shows only the links that are here.
            Media::Ethernet
                if self.kind.is_none() && !self.is_elsewhere && device::is_wireless(name) =>
            {
                Media::WiFi
            }
            media => media,
        }
    }

    /// Only hardware has a place: what other devices tell of a parent is not where they sit.
    fn path(&self) -> Option<DevicePath> {
        match (self.kind, self.bus, self.device) {
            (None, Some(bus), Some(device)) => Some(device::path(bus, device, self.port)),
            _ => None,
        }
    }
}

/// The medium of an ARPHRD type.
fn media_of(hardware_type: u16) -> Media {
    match hardware_type {
        1 => Media::Ethernet,
        32 => Media::Infiniband,
        768 | 778 => Media::IPv4,
        769 | 823 => Media::IPv6,
        772 => Media::Loopback,
        776 => Media::SixToFour,
        801..=803 => Media::WiFi,
        _ => Media::Other,
    }
}

fn nested(value: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    attributes(value).filter(move |(found, _)| *found == kind).map(|(_, value)| value)
}

fn altnames(properties: &[u8]) -> Vec<AltName> {
    let mut names: Vec<AltName> =
        nested(properties, IFLA_ALT_IFNAME).map(|name| AltName(string(name).to_vec())).collect();
    names.sort_unstable();
    names
}

fn address(value: &[u8]) -> Option<HwAddr> {
    HwAddr::new(value).ok().filter(|address| !address.is_zero())
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IFF_UP: u32 = 1;

    /// A message about link 7.
    fn message(hardware_type: u16, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 0];
        message.extend(hardware_type.to_ne_bytes());
        message.extend([7_u32, flags, 0].iter().flat_map(|field| field.to_ne_bytes()));
        message.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)));
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len() as u16;
        let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn decode(message: &[u8]) -> KernelLink {
        RawLink::parse(message).and_then(RawLink::into_kernel_link).unwrap()
    }

    #[test]
    fn the_state_is_the_operational_one_and_by_carrier_where_that_is_unknown() {
        use LinkState::{Down, Unknown, Up};
        let cases = [
            (IFF_UP, 6, 1, Up),
            (IFF_UP, 1, 1, Down),
            (IFF_UP, 2, 1, Down),
            (IFF_UP, 3, 1, Down),
            (IFF_UP, 4, 1, Down),
            (IFF_UP, 5, 1, Down),
            (IFF_UP, 0, 1, Up),
            (IFF_UP, 0, 0, Unknown),
            (0, 0, 1, Down),
        ];
        for (flags, operstate, carrier, state) in cases {
            let attributes = [(IFLA_OPERSTATE, &[operstate][..]), (IFLA_CARRIER, &[carrier])];
            let message = message(1, flags, &attributes);
            let seen = RawLink::parse(&message).unwrap().state();
            assert_eq!(seen, state, "flags {flags}, operstate {operstate}, carrier {carrier}");
        }
    }

    #[test]
    fn the_medium_follows_the_hardware_type() {
        let cases = [
            (1, Media::Ethernet),
            (32, Media::Infiniband),
            (768, Media::IPv4),
            (769, Media::IPv6),
            (772, Media::Loopback),
            (776, Media::SixToFour),
            (801, Media::WiFi),
            (65534, Media::Other),
        ];
        for (hardware_type, media) in cases {
            let message = message(hardware_type, 0, &[(IFLA_IFNAME, b"no such link\0")]);
            assert_eq!(decode(&message).media, media, "{hardware_type}");
        }
    }

    #[test]
    fn an_address_of_zeros_is_none() {
        let attributes =
            [(IFLA_IFNAME, &b"x\0"[..]), (IFLA_ADDRESS, &[0; 6]), (IFLA_PERM_ADDRESS, &[])];
        let link = decode(&message(1, 0, &attributes));
        assert_eq!((link.mac, link.permanent_mac), (None, None));
    }

    #[test]
    fn hardware_has_a_place_and_what_has_a_kind_has_none() {
        let pci = [
            (IFLA_IFNAME, &b"no such link\0"[..]),
            (IFLA_PARENT_DEV_BUS_NAME, b"pci\0"),
            (IFLA_PARENT_DEV_NAME, b"0000:00:03.0\0"),
        ];
        let hardware = decode(&message(1, 0, &pci));
        assert_eq!(hardware.path, Some(DevicePath("pci-0000:00:03.0".to_owned())));
        let kind = attribute(IFLA_INFO_KIND, b"netdevsim\0");
        let simulated = [&pci[..], &[(IFLA_LINKINFO, &kind[..])]].concat();
        let simulated = decode(&message(1, 0, &simulated));
        assert_eq!((simulated.kind.as_deref(), simulated.path), (Some("netdevsim"), None));
    }

    #[test]
    fn odd_attributes_hide_nothing_else() {
        let attributes = [
            (IFLA_MTU, &[1][..]),
            (IFLA_LINK, &[0; 4]),
            (IFLA_ADDRESS, &[1; 40]),
            (IFLA_LINKINFO, b"\xff\xff\xff"),
            (IFLA_OPERSTATE, b""),
            (60_000 & 0x3fff, b"of a kernel to come"),
            (IFLA_PROP_LIST, b"\x03\0"),
            (IFLA_IFNAME, b"\xff\xfe\0"),
        ];
        let link = decode(&message(1, IFF_UP, &attributes));
        assert_eq!(link.name.as_bytes(), b"\xff\xfe");
        assert_eq!((link.mtu, link.mac, link.kind, link.lower), (0, None, None, None));
        assert!(link.admin_up);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = RawLink::parse(&bytes).and_then(RawLink::into_kernel_link);
        }

        #[test]
        fn no_attributes_make_it_panic(
            attributes in proptest::collection::vec(
                (0_u16..70, proptest::collection::vec(any::<u8>(), 0..40)), 0..30
            )
        ) {
            let attributes: Vec<_> =
                attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
            let message = message(1, IFF_UP, &attributes);
            prop_assert!(RawLink::parse(&message).is_some());
        }
    }
}
