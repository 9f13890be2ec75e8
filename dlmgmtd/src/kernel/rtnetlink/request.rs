//! What is asked of the kernel, as messages.

use dlmgmt_proto::{IfIndex, LinkName};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage, Prop};
use rtnetlink::LinkUnspec;

use crate::kernel::KernelError;
use crate::model::{Action, AltName, Step};

const IFLA_IFNAME: u16 = 3;
const IFLA_ALT_IFNAME: u16 = 53;

/// Asks for one link.
pub fn get(ifindex: IfIndex) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(without_statistics(ifindex.get()))
}

/// Asks for every link.
pub fn dump() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(without_statistics(0))
}

/// Statistics are the larger part of a link's message, and nothing here looks at them.
fn without_statistics(ifindex: u32) -> LinkMessage {
    LinkUnspec::new_with_index(ifindex)
        .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
        .build()
}

/// Asks for a change.
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
        Action::SetMac(_) | Action::Move { .. } | Action::Delete => {
            return Err(KernelError { errno: libc::ENOSYS, text: None });
        }
    })
}

/// The kernel takes an index that is no positive `int` for none at all, and then changes the link
/// that has the name in the request: on a rename, the very link that must not be touched.
fn existing(ifindex: IfIndex) -> Result<u32, KernelError> {
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
