//! What is asked of the kernel, as messages.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use dlmgmt_proto::kind::{Address, LinkKind, LinkOptions, Place};
use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{HwAddr, IfIndex, LinkName};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::stats::{StatsFilterMask, StatsMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::port;
use crate::kernel::KernelError;
use crate::model::{Action, AltName, NewKind, NewLink, Step, small};

const IFLA_IFNAME: u16 = 3;
const IFLA_IFALIAS: u16 = 20;
const IFLA_ALT_IFNAME: u16 = 53;
const IFA_TARGET_NETNSID: u16 = 10;

/// How a request names another namespace than the one it is made in. A request takes only one.
#[derive(Clone, Debug)]
pub enum Target {
    /// By its number there.
    Number(i32),
    /// By a descriptor.
    Open(Arc<OwnedFd>),
}

impl Target {
    fn attribute(&self) -> LinkAttribute {
        match self {
            Self::Number(nsid) => LinkAttribute::IfNetnsId(*nsid),
            Self::Open(fd) => LinkAttribute::NetNsFd(fd.as_raw_fd()),
        }
    }
}

/// Asks for one link of the namespace that has the number `nsid` here, or of this one.
pub fn get(nsid: Option<i32>, ifindex: IfIndex) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(looked_at(nsid, LinkMessage::default(), ifindex.get()))
}

/// As [`get`], for the link of a name.
pub fn get_named(nsid: Option<i32>, name: &LinkName) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(ifname(name));
    RouteNetlinkMessage::GetLink(looked_at(nsid, link, 0))
}

/// As [`get`], for every link.
pub fn dump(nsid: Option<i32>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(looked_at(nsid, LinkMessage::default(), 0))
}

/// Asks for the indexes of all links of this namespace: for what is counted of each of some protocols,
/// which nearly none has, so that each takes a few bytes.
pub fn indexes() -> RouteNetlinkMessage {
    let mut message = StatsMessage::default();
    message.header.filter_mask = StatsFilterMask::AfSpec;
    RouteNetlinkMessage::GetStats(message)
}

/// As [`get`], with all that the kernel tells of a link.
pub fn get_all(nsid: Option<i32>, ifindex: IfIndex) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = ifindex.get();
    link.attributes.extend(nsid.map(LinkAttribute::IfNetnsId));
    RouteNetlinkMessage::GetLink(link)
}

/// Asks for the addresses of a link of the namespace that has the number `nsid` here.
pub fn addresses(nsid: Option<i32>, ifindex: IfIndex) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex.get();
    message.attributes.extend(nsid.map(|nsid| {
        let number = DefaultNla::new(IFA_TARGET_NETNSID, nsid.to_ne_bytes().to_vec());
        AddressAttribute::Other(number)
    }));
    RouteNetlinkMessage::GetAddress(message)
}

/// Statistics are the larger part of a link's message, and nothing here looks at them.
fn looked_at(nsid: Option<i32>, mut link: LinkMessage, ifindex: u32) -> LinkMessage {
    link.header.index = ifindex;
    link.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    link.attributes.extend(nsid.map(LinkAttribute::IfNetnsId));
    link
}

/// Asks to end a link of the namespace that has the number `nsid` here, or of this one.
pub fn delete(nsid: Option<i32>, ifindex: IfIndex) -> Result<RouteNetlinkMessage, KernelError> {
    let mut link = LinkMessage::default();
    link.header.index = existing(ifindex)?;
    link.attributes.extend(nsid.map(LinkAttribute::IfNetnsId));
    Ok(RouteNetlinkMessage::DelLink(link))
}

/// Asks for a link in the namespace of `target`, or in this one; its peer is made in this one, or
/// the link that it lies over is here. The kernel chooses its index where none is given.
pub fn create(
    new: &NewLink,
    target: Option<&Target>,
    index: Option<IfIndex>,
) -> Result<RouteNetlinkMessage, KernelError> {
    let mut link = LinkMessage::default();
    link.header.index = index.map(existing).transpose()?.unwrap_or_default();
    link.attributes.extend(target.map(Target::attribute));
    link.attributes.push(ifname(&new.name));
    link.attributes.extend(new.mtu.map(LinkAttribute::Mtu));
    match &new.kind {
        NewKind::Veth { peer_name, peer_mac, .. } => {
            link.attributes.push(address(new.mac));
            let mut peer = LinkMessage::default();
            peer.attributes.push(ifname(peer_name));
            peer.attributes.push(address(*peer_mac));
            let data = InfoData::Veth(InfoVeth::Peer(peer));
            link.attributes.push(info(InfoKind::Veth, Some(data)));
        }
        NewKind::Single { settings, over } => {
            let over = over.map(|over| existing(over.ifindex)).transpose()?;
            let mac = mac_of(new, settings.kind());
            link.attributes.extend(mac.map(LinkAttribute::Address));
            let place = settings.kind().lower_rule().map(|rule| rule.place);
            if let (Some(Place::Link(_)), Some(over)) = (place, over) {
                link.attributes.push(LinkAttribute::Link(over));
            }
            link.attributes.push(described(settings, over));
        }
    }
    Ok(RouteNetlinkMessage::NewLink(link))
}

/// The address that a new link is to get, unless the kernel is to choose it.
pub fn mac_of(new: &NewLink, kind: &LinkKind) -> Option<Vec<u8>> {
    let asked = new.mac.map(|mac| mac.as_bytes().to_vec());
    match kind.address {
        Address::Own => Some(asked.unwrap_or_else(mac_by_chance)),
        Address::Inherited | Address::None => asked,
    }
}

/// An address that the kernel took by chance udev would soon replace; one that was asked for, it
/// leaves alone. So chance is at work here.
fn address(wanted: Option<HwAddr>) -> LinkAttribute {
    let wanted = wanted.map(|mac| mac.as_bytes().to_vec());
    LinkAttribute::Address(wanted.unwrap_or_else(mac_by_chance))
}

/// Of nobody's making, and of one link alone.
fn mac_by_chance() -> Vec<u8> {
    let mut mac: [u8; 6] = std::array::from_fn(|_| fastrand::u8(..));
    mac[0] = mac[0] & 0xfe | 0x02;
    mac.to_vec()
}

/// Asks to give a link of this namespace an address.
pub fn set_address(ifindex: IfIndex, mac: Vec<u8>) -> Result<RouteNetlinkMessage, KernelError> {
    let link = LinkUnspec::new_with_index(existing(ifindex)?);
    Ok(RouteNetlinkMessage::SetLink(link.address(mac).build()))
}

/// What a link is, as the table of kinds tells the kernel of it.
fn described(settings: &LinkOptions, over: Option<u32>) -> LinkAttribute {
    let kind = settings.kind();
    let mut attributes = settings.info_attributes();
    if let (Some(Place::Info(number)), Some(over)) =
        (kind.lower_rule().map(|rule| rule.place), over)
    {
        attributes.push((number, over.to_ne_bytes().to_vec()));
    }
    said(kind, &attributes)
}

/// What of a link of this kind is told by attributes inside `IFLA_INFO_DATA`.
fn said(kind: &LinkKind, attributes: &[(u16, Vec<u8>)]) -> LinkAttribute {
    let data: Vec<u8> =
        attributes.iter().flat_map(|(number, value)| attribute(*number, value)).collect();
    let data = (!data.is_empty()).then_some(InfoData::Other(data));
    info(InfoKind::Other(kind.kernel.to_owned()), data)
}

/// One attribute as it travels: its length, its number, its value, padded to four bytes.
fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 4;
    // The cast keeps the value: no option is longer than a bond's 16 ARP targets.
    let len = (HEADER_LEN + value.len()) as u16;
    let mut bytes = [&len.to_ne_bytes()[..], &number.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let data = data.map(LinkInfo::Data);
    LinkAttribute::LinkInfo(std::iter::once(LinkInfo::Kind(kind)).chain(data).collect())
}

/// Asks to move a link of this namespace and to give it its name there.
pub fn move_to(
    ifindex: IfIndex,
    target: &Target,
    name: &LinkName,
) -> Result<RouteNetlinkMessage, KernelError> {
    let mut link = LinkMessage::default();
    link.header.index = existing(ifindex)?;
    link.attributes = vec![target.attribute(), ifname(name)];
    Ok(RouteNetlinkMessage::SetLink(link))
}

/// Asks to move a link of this namespace back under the index that it had, with the name it has.
pub fn move_back(
    ifindex: IfIndex,
    target: &Target,
    old: IfIndex,
) -> Result<RouteNetlinkMessage, KernelError> {
    let mut link = LinkMessage::default();
    link.header.index = existing(ifindex)?;
    let old = LinkAttribute::NewIfIndex(existing(old)?.cast_signed());
    link.attributes = vec![target.attribute(), old];
    Ok(RouteNetlinkMessage::SetLink(link))
}

/// Asks for the number of an open namespace.
pub fn number_of(ns: BorrowedFd<'_>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNsId(about_namespaces(vec![descriptor(ns)]))
}

/// Asks whether a number is one of a namespace.
pub fn has_number(nsid: i32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNsId(about_namespaces(vec![NsidAttribute::Id(nsid)]))
}

/// Asks to give an open namespace a number.
pub fn give_number(ns: BorrowedFd<'_>, nsid: i32) -> RouteNetlinkMessage {
    let attributes = vec![descriptor(ns), NsidAttribute::Id(nsid)];
    RouteNetlinkMessage::NewNsId(about_namespaces(attributes))
}

/// Asks for all numbers that another namespace has for others, each with the one it has here.
pub fn numbers_of(nsid: i32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNsId(about_namespaces(vec![NsidAttribute::TargetNsid(nsid)]))
}

fn about_namespaces(attributes: Vec<NsidAttribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn descriptor(ns: BorrowedFd<'_>) -> NsidAttribute {
    NsidAttribute::Fd(ns.as_raw_fd().unsigned_abs())
}

/// Asks for a change of a link in this namespace.
pub fn apply(step: &Step) -> Result<RouteNetlinkMessage, KernelError> {
    let ifindex = existing(step.at.ifindex)?;
    let link = LinkUnspec::new_with_index(ifindex);
    Ok(match &step.action {
        Action::Rename(name) => {
            RouteNetlinkMessage::SetLink(link.append_extra_attribute(ifname(name)).build())
        }
        Action::SetMtu(mtu) => RouteNetlinkMessage::SetLink(link.mtu(*mtu).build()),
        Action::SetUp(true) => RouteNetlinkMessage::SetLink(link.up().build()),
        Action::SetUp(false) => RouteNetlinkMessage::SetLink(link.down().build()),
        Action::AddAltName(name) => {
            RouteNetlinkMessage::NewLinkProp(link.append_extra_attribute(altname(name)).build())
        }
        Action::DropAltName(name) => {
            RouteNetlinkMessage::DelLinkProp(link.append_extra_attribute(altname(name)).build())
        }
        Action::SetMac(mac) => {
            RouteNetlinkMessage::SetLink(link.address(mac.as_bytes().to_vec()).build())
        }
        Action::Set(property, value) => match port::attribute(*property, value) {
            // Only this message takes what a bridge is told of its port.
            Some(option) => {
                RouteNetlinkMessage::NewLink(link.append_extra_attribute(option).build())
            }
            None => RouteNetlinkMessage::SetLink(set(link, *property, value)?.build()),
        },
        Action::SetOption(setting) => RouteNetlinkMessage::NewLink(
            link.append_extra_attribute(said(
                setting.kind,
                &setting.option.info_attributes(&setting.value),
            ))
            .build(),
        ),
        Action::AddPort(port) => return port_of(*port, ifindex),
        Action::DropPort(port) => return port_of(*port, 0),
        Action::Delete => return delete(None, step.at.ifindex),
        Action::SetMode(_) => {
            let text = "drivers take modes, rtnetlink does not".to_owned();
            return Err(KernelError { errno: libc::EINVAL, text: Some(text) });
        }
        Action::Move { .. } => {
            let text = "a move needs the namespace that it goes to".to_owned();
            return Err(KernelError { errno: libc::EINVAL, text: Some(text) });
        }
    })
}

type Draft = LinkMessageBuilder<LinkUnspec>;

fn set(link: Draft, property: Property, value: &Value) -> Result<Draft, KernelError> {
    Ok(match (property, value) {
        // Without a terminator, so that an empty one ends it.
        (Property::Alias, Value::Text(alias)) => link.append_extra_attribute(LinkAttribute::Other(
            DefaultNla::new(IFLA_IFALIAS, alias.as_bytes().to_vec()),
        )),
        (Property::TxQueueLen, Value::Number(len)) => link.txqueuelen(small(*len)),
        (Property::Promisc, Value::Switch(promisc)) => link.promiscuous(*promisc),
        (Property::AllMulti, Value::Switch(allmulti)) => link.allmulticast(*allmulti),
        _ => {
            let text = format!("{property} is not set in this way");
            return Err(KernelError { errno: libc::EINVAL, text: Some(text) });
        }
    })
}

/// Asks to make a link the port of another one of this namespace; of none where that is 0.
fn port_of(port: IfIndex, controller: u32) -> Result<RouteNetlinkMessage, KernelError> {
    let link = LinkUnspec::new_with_index(existing(port)?);
    Ok(RouteNetlinkMessage::SetLink(link.controller(controller).build()))
}

/// The kernel takes an index that is no positive `int` for none at all, and then changes the link
/// that has the name in the request: on a rename, the very link that must not be touched.
pub fn existing(ifindex: IfIndex) -> Result<u32, KernelError> {
    match i32::try_from(ifindex.get()) {
        Ok(_) => Ok(ifindex.get()),
        Err(_) => Err(KernelError { errno: libc::ENODEV, text: None }),
    }
}

/// Names go as bytes: not every name that the kernel has is UTF-8.
fn ifname(name: &LinkName) -> LinkAttribute {
    LinkAttribute::Other(DefaultNla::new(IFLA_IFNAME, terminated(name.as_bytes())))
}

fn altname(name: &AltName) -> LinkAttribute {
    let name = DefaultNla::new(IFLA_ALT_IFNAME, terminated(&name.0));
    LinkAttribute::PropList(vec![Prop::Other(name)])
}

fn terminated(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}
