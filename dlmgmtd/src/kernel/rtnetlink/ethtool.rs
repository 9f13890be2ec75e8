//! What the drivers of links know of them: ethtool's part of generic netlink.
//!
//! A request is answered in the namespace where the connection was opened, and may take as long as
//! the driver takes to ask its hardware, so it has no place where links are followed.

use dlmgmt_proto::{Duplex, IfIndex};
use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::channel::Channel;
use super::frame::attributes;
use crate::kernel::KernelError;
use crate::model::LinkMode;

/// Bytes of `struct genlmsghdr`, which the attributes follow.
const HEADER_LEN: usize = 4;

const CTRL_ATTR_FAMILY_ID: u16 = 1;

const NLA_F_NESTED: u16 = 1 << 15;

/// The first attribute of every message of ethtool's.
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;

/// Asks for the modes of a link.
pub const LINKMODES_GET: u8 = 4;

/// Attributes of the modes.
pub const LINKMODES_AUTONEG: u16 = 2;
pub const LINKMODES_SPEED: u16 = 5;
pub const LINKMODES_DUPLEX: u16 = 6;

const SPEED_UNKNOWN: u32 = u32::MAX;
const DUPLEX_HALF: u8 = 0;
const DUPLEX_FULL: u8 = 1;

/// A request about one link.
#[derive(Debug)]
struct Request {
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl Request {
    fn new(command: u8, ifindex: IfIndex, attributes: Vec<DefaultNla>) -> Self {
        let index = ifindex.get().to_ne_bytes().to_vec();
        let header =
            nested(ETHTOOL_A_HEADER, &[DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, index)]);
        Self { command, attributes: [vec![header], attributes].concat() }
    }
}

/// An attribute that consists of attributes.
pub fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

impl GenlFamily for Request {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Request {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

/// A connection to the drivers of the links of a namespace. Every call blocks.
pub struct Ethtool {
    channel: Channel,
    family: u16,
}

impl Ethtool {
    /// Opens a connection in the namespace of the calling thread.
    pub fn open() -> Result<Self, KernelError> {
        let mut channel = Channel::open(NETLINK_GENERIC)?;
        let family = family(&mut channel)?;
        Ok(Self { channel, family })
    }

    /// How fast a link is; nothing where there is no such link, or its driver does not tell.
    pub fn link_mode(&mut self, ifindex: IfIndex) -> Result<LinkMode, KernelError> {
        let mut mode = LinkMode::default();
        self.ask(LINKMODES_GET, ifindex, |told| mode = link_mode(told))?;
        Ok(mode)
    }

    /// Asks for what the driver of a link may tell. Many a driver has no answer.
    pub fn ask(
        &mut self,
        command: u8,
        ifindex: IfIndex,
        on_answer: impl FnMut(&[u8]),
    ) -> Result<(), KernelError> {
        match self.request(command, ifindex, Vec::new(), on_answer) {
            Err(why) if matches!(why.errno, libc::ENODEV | libc::EOPNOTSUPP) => Ok(()),
            answered => answered,
        }
    }

    /// Makes a request about a link, handing the attributes of each message of the answer to
    /// `on_answer`.
    pub fn request(
        &mut self,
        command: u8,
        ifindex: IfIndex,
        attributes: Vec<DefaultNla>,
        mut on_answer: impl FnMut(&[u8]),
    ) -> Result<(), KernelError> {
        let request = Request::new(command, ifindex, attributes);
        let mut message = GenlMessage::from_payload(request);
        message.set_resolved_family_id(self.family);
        let family = self.family;
        self.channel.exchange(message, NLM_F_ACK, |message| {
            if message.kind == family {
                on_answer(message.payload.get(HEADER_LEN..).unwrap_or_default());
            }
        })?;
        Ok(())
    }
}

/// Whether a connection was refused because the kernel has no such thing.
pub fn is_missing(why: &KernelError) -> bool {
    matches!(why.errno, libc::ENOENT | libc::EPROTONOSUPPORT)
}

/// The number of ethtool's family; ENOENT where the kernel has none.
fn family(channel: &mut Channel) -> Result<u16, KernelError> {
    let name = GenlCtrlAttrs::FamilyName(Request::family_name().to_owned());
    let asked = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
    let mut family = None;
    channel.exchange(GenlMessage::from_payload(asked), NLM_F_ACK, |message| {
        let told = message.payload.get(HEADER_LEN..).unwrap_or_default();
        family = attributes(told)
            .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
            .and_then(|(_, id)| id.try_into().ok())
            .map(u16::from_ne_bytes);
    })?;
    family.ok_or_else(|| {
        let text = "the kernel told of a family without a number".to_owned();
        KernelError { errno: libc::EBADMSG, text: Some(text) }
    })
}

/// Takes bytes for an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn take_for_an_answer(told: &[u8]) {
    link_mode(told);
}

/// What the attributes of a LINKMODES_GET_REPLY say; each that makes no sense counts as absent.
fn link_mode(told: &[u8]) -> LinkMode {
    let mut mode = LinkMode::default();
    for (kind, value) in attributes(told) {
        match (kind, value) {
            (LINKMODES_AUTONEG, [autoneg]) => mode.autoneg = Some(*autoneg != 0),
            (LINKMODES_SPEED, _) => mode.speed = speed(value),
            (LINKMODES_DUPLEX, [DUPLEX_HALF]) => mode.duplex = Some(Duplex::Half),
            (LINKMODES_DUPLEX, [DUPLEX_FULL]) => mode.duplex = Some(Duplex::Full),
            _ => {}
        }
    }
    mode
}

/// A link without a carrier has no speed: drivers then tell 0, or that it is unknown.
fn speed(value: &[u8]) -> Option<u32> {
    let speed = value.try_into().ok().map(u32::from_ne_bytes);
    speed.filter(|speed| !matches!(*speed, 0 | SPEED_UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attributes: &[(u16, &[u8])]) -> LinkMode {
        let attributes: Vec<_> =
            attributes.iter().map(|(kind, value)| DefaultNla::new(*kind, value.to_vec())).collect();
        let mut bytes = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut bytes);
        link_mode(&bytes)
    }

    #[test]
    fn a_link_is_as_fast_as_its_driver_says() {
        let gigabit = 1000_u32.to_ne_bytes();
        let mode = told(&[
            (ETHTOOL_A_HEADER, &[]),
            (LINKMODES_AUTONEG, &[1]),
            (LINKMODES_SPEED, &gigabit),
            (LINKMODES_DUPLEX, &[1]),
        ]);
        let full = Some(Duplex::Full);
        assert_eq!(mode, LinkMode { speed: Some(1000), duplex: full, autoneg: Some(true) });
    }

    #[test]
    fn a_link_without_a_carrier_has_neither_speed_nor_duplex() {
        let unknown = SPEED_UNKNOWN.to_ne_bytes();
        for speed in [unknown, [0; 4]] {
            let mode = told(&[(LINKMODES_SPEED, &speed), (LINKMODES_DUPLEX, &[0xff])]);
            assert_eq!((mode.speed, mode.duplex), (None, None));
        }
    }

    #[test]
    fn odd_attributes_count_as_absent() {
        let odd = [(LINKMODES_SPEED, &[1][..]), (LINKMODES_DUPLEX, &[])];
        assert_eq!(told(&odd), LinkMode::default());
        assert_eq!(link_mode(&[3, 0, 5]), LinkMode::default());
    }
}
