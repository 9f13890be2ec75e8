//! The properties that a link's driver has: what its hardware does of the work, how many packets it
//! keeps, how fast it is.

use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{Duplex, IfIndex};
use netlink_packet_core::DefaultNla;

use super::ethtool::{
    Ethtool, LINKMODES_AUTONEG, LINKMODES_DUPLEX, LINKMODES_GET, LINKMODES_SPEED, nested,
};
use super::frame::{attributes, string};
use crate::kernel::KernelError;
use crate::model::{LinkMode, Readings, small};

const LINKMODES_SET: u8 = 5;
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const RINGS_GET: u8 = 15;
const RINGS_SET: u8 = 16;

const LINKMODES_OURS: u16 = 3;
const RINGS_RX_MAX: u16 = 2;
const RINGS_TX_MAX: u16 = 5;
const RINGS_RX: u16 = 6;
const RINGS_TX: u16 = 9;

/// What the hardware can do or leave (`ETHTOOL_A_FEATURES_HW`), and what it does.
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;

const BITSET_NOMASK: u16 = 1;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// Each property that is a feature, by the kernel's name for it.
const FEATURES: [(Property, &str); 7] = [
    (Property::Gro, "rx-gro"),
    (Property::Gso, "tx-generic-segmentation"),
    (Property::Tso, "tx-tcp-segmentation"),
    (Property::Lro, "rx-lro"),
    (Property::Sg, "tx-scatter-gather"),
    (Property::RxCsum, "rx-checksum"),
    (Property::TxCsum, "tx-checksum-ip-generic"),
];

impl Ethtool {
    /// The properties that the driver of a link tells of; it need not tell of any.
    pub fn readings(&mut self, ifindex: IfIndex) -> Result<Readings, KernelError> {
        let values = self.link_mode(ifindex)?.into();
        let mut readings = Readings { values, ..Readings::default() };
        self.ask(FEATURES_GET, ifindex, |told| {
            for (property, is_on) in features(told) {
                readings.values.insert(property, Value::Switch(is_on));
            }
        })?;
        self.ask(RINGS_GET, ifindex, |told| rings(told, &mut readings))?;
        Ok(readings)
    }

    /// Gives a link a speed, a duplex and whether they are agreed on, or some of these. What it
    /// comes to shows when there is a carrier; whether it agrees shows at once.
    pub fn set_mode(&mut self, ifindex: IfIndex, mode: LinkMode) -> Result<(), KernelError> {
        let mut asked = mode_attributes(mode);
        if mode.autoneg == Some(true) && (mode.speed, mode.duplex) == (None, None) {
            self.ask(LINKMODES_GET, ifindex, |told| asked.extend(whatever_it_can(told)))?;
        }
        self.request(LINKMODES_SET, ifindex, asked, |_| ())?;
        let is_so = mode.autoneg.is_none() || self.link_mode(ifindex)?.autoneg == mode.autoneg;
        if is_so { Ok(()) } else { Err(left(Property::Autoneg)) }
    }

    /// Gives another property of a link this value.
    pub fn set(
        &mut self,
        ifindex: IfIndex,
        property: Property,
        value: &Value,
    ) -> Result<(), KernelError> {
        let (command, asked) = request(property, value).ok_or_else(not_settable)?;
        self.request(command, ifindex, vec![asked], |_| ())?;
        // A driver that cannot do what is asked may leave it without a word.
        match self.readings(ifindex)?.values.get(property) {
            Some(is) if is == value => Ok(()),
            _ => Err(left(property)),
        }
    }
}

fn left(property: Property) -> KernelError {
    let text = format!("the driver leaves {property} as it is");
    KernelError { errno: libc::EOPNOTSUPP, text: Some(text) }
}

fn not_settable() -> KernelError {
    let text = "no driver has such a property".to_owned();
    KernelError { errno: libc::EINVAL, text: Some(text) }
}

/// The message that asks for a value, with its attribute.
fn request(property: Property, value: &Value) -> Option<(u8, DefaultNla)> {
    Some(match (property, value) {
        (Property::RxRing, Value::Number(packets)) => (RINGS_SET, long(RINGS_RX, small(*packets))),
        (Property::TxRing, Value::Number(packets)) => (RINGS_SET, long(RINGS_TX, small(*packets))),
        (feature, Value::Switch(is_on)) => {
            let (_, name) = FEATURES.iter().find(|(of, _)| *of == feature)?;
            let bits = nested(BITSET_BITS, &[bit(name.as_bytes(), *is_on)]);
            (FEATURES_SET, nested(FEATURES_WANTED, &[bits]))
        }
        _ => return None,
    })
}

fn long(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_ne_bytes().to_vec())
}

/// A bit of a set that is to be changed, by its name.
fn bit(name: &[u8], is_on: bool) -> DefaultNla {
    let mut bit = vec![DefaultNla::new(BIT_NAME, [name, &[0]].concat())];
    bit.extend(is_on.then(|| DefaultNla::new(BIT_VALUE, Vec::new())));
    nested(BITSET_BIT, &bit)
}

fn mode_attributes(mode: LinkMode) -> Vec<DefaultNla> {
    let switch = |kind, is_on: bool| DefaultNla::new(kind, vec![u8::from(is_on)]);
    let full = mode.duplex.map(|duplex| duplex == Duplex::Full);
    let autoneg = mode.autoneg.map(|is_on| switch(LINKMODES_AUTONEG, is_on));
    let speed = mode.speed.map(|speed| long(LINKMODES_SPEED, speed));
    let duplex = full.map(|is_full| switch(LINKMODES_DUPLEX, is_full));
    [autoneg, speed, duplex].into_iter().flatten().collect()
}

/// Out of a LINKMODES_GET_REPLY, the request to offer the other end every speed and duplex that the
/// driver can: the kernel goes on with those that were offered last. Of the other bits in that set,
/// such as for flow control, nobody spoke.
fn whatever_it_can(told: &[u8]) -> Option<DefaultNla> {
    let (_, ours) = attributes(told).find(|(kind, _)| *kind == LINKMODES_OURS)?;
    let is_speed = |name: &&[u8]| name.windows(4).any(|part| part == b"base");
    let offered: Vec<DefaultNla> =
        bits(ours).map(|(name, _)| name).filter(is_speed).map(|name| bit(name, true)).collect();
    Some(nested(LINKMODES_OURS, &[nested(BITSET_BITS, &offered)]))
}

/// What a RINGS_GET_REPLY says.
fn rings(told: &[u8], readings: &mut Readings) {
    let number = |value: &[u8]| {
        let packets = value.try_into().ok().map(u32::from_ne_bytes);
        packets.map(|packets| Value::Number(packets.into()))
    };
    for (kind, value) in attributes(told) {
        let (settings, property) = match kind {
            RINGS_RX => (&mut readings.values, Property::RxRing),
            RINGS_TX => (&mut readings.values, Property::TxRing),
            RINGS_RX_MAX => (&mut readings.limits, Property::RxRing),
            RINGS_TX_MAX => (&mut readings.limits, Property::TxRing),
            _ => continue,
        };
        number(value).into_iter().for_each(|value| settings.insert(property, value));
    }
}

/// Those features of a FEATURES_GET_REPLY that can be switched, and whether each is on.
fn features(told: &[u8]) -> Vec<(Property, bool)> {
    let bits = |set| {
        let set = attributes(told).find(|(kind, _)| *kind == set).map(|(_, value)| value);
        named_bits(set.unwrap_or_default())
    };
    let (switchable, active) = (bits(FEATURES_HW), bits(FEATURES_ACTIVE));
    let known = FEATURES.iter().filter(|(_, name)| switchable.contains(&name.as_bytes()));
    known.map(|(property, name)| (*property, active.contains(&name.as_bytes()))).collect()
}

/// The names of the bits that are set.
fn named_bits(bitset: &[u8]) -> Vec<&[u8]> {
    bits(bitset).filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
}

/// The bits that are told, by name, and whether each is set: all are, or where others are told too,
/// those with a value.
fn bits(bitset: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let within = |bytes, kind| attributes(bytes).filter(move |(found, _)| *found == kind);
    let are_all_set = within(bitset, BITSET_NOMASK).next().is_some();
    let bits = within(bitset, BITSET_BITS).flat_map(move |(_, bits)| within(bits, BITSET_BIT));
    bits.filter_map(move |(_, bit)| {
        let is_set = are_all_set || within(bit, BIT_VALUE).next().is_some();
        Some((string(within(bit, BIT_NAME).next()?.1), is_set))
    })
}

#[cfg(test)]
mod tests {
    use dlmgmt_proto::property::Teller;
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    use super::*;
    use crate::model::MODE;

    fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        bytes
    }

    fn flag(kind: u16) -> DefaultNla {
        DefaultNla::new(kind, Vec::new())
    }

    /// Bits of which those are told that are set.
    fn list(kind: u16, names: &[&str]) -> DefaultNla {
        let bits: Vec<DefaultNla> = names.iter().map(|name| bit(name.as_bytes(), false)).collect();
        nested(kind, &[flag(BITSET_NOMASK), nested(BITSET_BITS, &bits)])
    }

    /// Bits of which those are told that there are, each with whether it is set.
    fn masked(kind: u16, names: &[(&str, bool)]) -> DefaultNla {
        let bits = names.iter().map(|(name, is_set)| bit(name.as_bytes(), *is_set));
        let bits: Vec<DefaultNla> = bits.collect();
        nested(kind, &[nested(BITSET_BITS, &bits)])
    }

    #[test]
    fn only_features_that_can_be_switched_are_told() {
        let told = bytes(&[
            masked(
                FEATURES_HW,
                &[("rx-gro", true), ("rx-lro", false), ("tx-scatter-gather", true), ("new", true)],
            ),
            list(FEATURES_ACTIVE, &["rx-gro", "rx-checksum"]),
        ]);
        assert_eq!(features(&told), [(Property::Gro, true), (Property::Sg, false)]);
    }

    #[test]
    fn rings_are_told_with_their_bounds() {
        let mut readings = Readings::default();
        rings(&bytes(&[long(RINGS_RX, 256), long(RINGS_RX_MAX, 4096)]), &mut readings);
        assert_eq!(readings.values.get(Property::RxRing), Some(&Value::Number(256)));
        assert_eq!(readings.limits.get(Property::RxRing), Some(&Value::Number(4096)));
        assert_eq!(readings.values.get(Property::TxRing), None);
    }

    #[test]
    fn speed_duplex_and_autoneg_are_asked_for_in_one_message() {
        let mode = LinkMode { speed: Some(100), duplex: Some(Duplex::Half), autoneg: Some(false) };
        let expected = [
            DefaultNla::new(LINKMODES_AUTONEG, vec![0]),
            DefaultNla::new(LINKMODES_SPEED, 100_u32.to_ne_bytes().to_vec()),
            DefaultNla::new(LINKMODES_DUPLEX, vec![0]),
        ];
        assert_eq!(mode_attributes(mode), expected);
        assert_eq!(mode_attributes(LinkMode::default()), []);
    }

    #[test]
    fn a_link_that_is_to_agree_offers_every_speed_of_its_driver_and_leaves_all_else() {
        let told = bytes(&[masked(
            LINKMODES_OURS,
            &[("10baseT/Half", false), ("1000baseT/Full", true), ("Pause", true), ("TP", true)],
        )]);
        let both = masked(LINKMODES_OURS, &[("10baseT/Half", true), ("1000baseT/Full", true)]);
        assert_eq!(whatever_it_can(&told), Some(both));
        assert_eq!(whatever_it_can(&[]), None);
    }

    #[test]
    fn each_property_of_a_driver_can_be_asked_for() {
        for property in Property::ALL {
            let described = property.description();
            let is_driven = described.applies.told_by == Teller::Driver && !MODE.contains(property);
            let values = [Value::Number(1), Value::Switch(true)];
            let is_asked = values.iter().any(|value| request(*property, value).is_some());
            assert_eq!(is_asked, is_driven, "{property}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(told in proptest::collection::vec(any::<u8>(), 0..300)) {
            rings(&told, &mut Readings::default());
            whatever_it_can(&told);
            features(&told);
        }
    }
}
