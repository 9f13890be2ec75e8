//! What `IFLA_LINKINFO` tells of a link: of itself by its kind, and of it as a port.
//!
//! Options are read by the table by which they are written ([`KINDS`]), so what a link was made
//! with is what is shown. Here is only what nobody can set.

use dlmgmt_proto::kind::{Form, KINDS, LinkKind, LinkOptions, OptionSpec, Place};
use dlmgmt_proto::{HwAddr, IfIndex, Value, ValueType};

use super::frame::{attributes, string};
use crate::kernel::{KernelFact, KernelValue};

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

const IFLA_BR_ROOT_ID: u16 = 10;
const IFLA_BR_BRIDGE_ID: u16 = 11;
const IFLA_BR_ROOT_PORT: u16 = 12;
const IFLA_BR_ROOT_PATH_COST: u16 = 13;
const IFLA_BR_TOPOLOGY_CHANGE: u16 = 14;

const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_PRIORITY: u16 = 2;
const IFLA_BRPORT_COST: u16 = 3;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_ROOT_ID: u16 = 13;
const IFLA_BRPORT_BRIDGE_ID: u16 = 14;
const IFLA_BRPORT_DESIGNATED_PORT: u16 = 15;
const IFLA_BRPORT_DESIGNATED_COST: u16 = 16;
const IFLA_BRPORT_NO: u16 = 18;
const IFLA_BRPORT_TOPOLOGY_CHANGE_ACK: u16 = 19;

/// The states of a bridge's port (`BR_STATE_*`), by their numbers.
const PORT_STATES: [&str; 5] = ["disabled", "listening", "learning", "forwarding", "blocking"];

const IFLA_BOND_ACTIVE_SLAVE: u16 = 2;
const IFLA_BOND_AD_INFO: u16 = 23;
const IFLA_BOND_AD_INFO_AGGREGATOR: u16 = 1;
const IFLA_BOND_AD_INFO_PARTNER_MAC: u16 = 5;

const IFLA_BOND_SLAVE_STATE: u16 = 1;
const IFLA_BOND_SLAVE_MII_STATUS: u16 = 2;
const IFLA_BOND_SLAVE_LINK_FAILURE_COUNT: u16 = 3;
const IFLA_BOND_SLAVE_PERM_HWADDR: u16 = 4;
const IFLA_BOND_SLAVE_AD_AGGREGATOR_ID: u16 = 6;
const IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE: u16 = 7;
const IFLA_BOND_SLAVE_AD_PARTNER_OPER_PORT_STATE: u16 = 8;

/// Whether a port of an aggregation is used (`BOND_STATE_*`), by its number.
const BOND_STATES: [&str; 2] = ["attached", "standby"];

/// What is known of its carrier (`BOND_LINK_*`), by its number.
const BOND_CARRIERS: [&str; 4] = ["up", "fail", "down", "back"];

/// The bits of LACP's port states that illumos' `show-aggr -L` shows, of this end and of the other.
const LACP_BITS: [(u8, &str, &str); 6] = [
    (0x04, "aggregatable", "partner-aggregatable"),
    (0x08, "sync", "partner-sync"),
    (0x10, "coll", "partner-coll"),
    (0x20, "dist", "partner-dist"),
    (0x40, "defaulted", "partner-defaulted"),
    (0x80, "expired", "partner-expired"),
];

/// What a link has as one of its kind.
pub fn of_kind(info: &[u8]) -> Vec<KernelFact> {
    let Some(word) = nested(info, IFLA_INFO_KIND).map(string) else { return Vec::new() };
    let data = nested(info, IFLA_INFO_DATA).unwrap_or_default();
    let mut facts = match options(info) {
        Some(options) => told(&options),
        None => vec![KernelFact::text("type", String::from_utf8_lossy(word))],
    };
    facts.extend(attributes(data).flat_map(|(kind, value)| match word {
        b"bridge" => bridge(kind, value),
        b"bond" => bond(kind, value),
        _ => Vec::new(),
    }));
    facts
}

/// What a link has as a port.
pub fn of_port(info: &[u8]) -> Vec<KernelFact> {
    let word = nested(info, IFLA_INFO_SLAVE_KIND).map(string).unwrap_or_default();
    let data = nested(info, IFLA_INFO_SLAVE_DATA).unwrap_or_default();
    let of_attribute = |(kind, value)| match word {
        b"bridge" => bridge_port(kind, value),
        b"bond" => bond_port(kind, value),
        _ => Vec::new(),
    };
    attributes(data).flat_map(of_attribute).collect()
}

/// Of kinds that the kernel calls alike, the first that has what it needs.
fn kind_called(word: &[u8], data: &[u8]) -> Option<&'static LinkKind> {
    let mut alike = KINDS.iter().filter(|kind| kind.kernel.as_bytes() == word);
    let has_all = |kind: &&LinkKind| {
        let mut required = kind.options.iter().filter(|option| option.is_required);
        required.all(|option| said(option, data).is_some())
    };
    let first = alike.clone().next();
    alike.find(has_all).or(first)
}

/// Options as facts, with what the link is called first.
fn told(options: &LinkOptions) -> Vec<KernelFact> {
    let kind = options.kind();
    let has = |option: &OptionSpec| Some(options.get(option.name)?.into_fact(option.name));
    let name_it = KernelFact::text("type", kind.name);
    [name_it].into_iter().chain(kind.options.iter().filter_map(has)).collect()
}

/// The options that a link has as one of its kind; `None` where nobody describes that.
pub fn options(info: &[u8]) -> Option<LinkOptions> {
    let word = string(nested(info, IFLA_INFO_KIND)?);
    let data = nested(info, IFLA_INFO_DATA).unwrap_or_default();
    let kind = kind_called(word, data)?;
    let in_force = kind.options.iter().filter_map(|option| {
        let value = said(option, data)?;
        let holds = |(other, wanted): (&str, &str)| {
            let other = kind.option(other).and_then(|other| said(other, data));
            other.is_none_or(|other| other.to_string() == wanted)
        };
        let value = match value {
            Value::Word(word) if !word.implies.is_none_or(holds) => unsaid(option).unwrap_or(value),
            value => value,
        };
        Some((option, value))
    });
    Some(LinkOptions::found(kind, in_force))
}

/// The word of an option that the kernel has no number for: so it is where another option makes
/// the number that it has mean nothing.
fn unsaid(option: &OptionSpec) -> Option<Value> {
    let ValueType::Words(words) = option.value else { return None };
    words.iter().find(|word| word.number.is_none()).copied().map(Value::Word)
}

/// What a link has for an option; none where it has nothing that means anything.
fn said(option: &OptionSpec, data: &[u8]) -> Option<Value> {
    let mut carriers = option.attributes.iter();
    let is_flagged = carriers.all(|attribute| match (attribute.form, attribute.place) {
        (Form::Flag16(flag), Place::Info(number)) => {
            let flags = nested(data, number).and_then(|value| value.try_into().ok());
            flags.is_some_and(|flags| u16::from_be_bytes(flags) & flag != 0)
        }
        _ => true,
    });
    let value = attributes(data)
        .find_map(|(number, value)| option.decode(Place::Info(number), value))
        .filter(|_| is_flagged);
    value.filter(|value| !matches!(value, Value::Ip(ip) if ip.is_unspecified()))
}

/// How a value is told.
trait IntoFact {
    fn into_fact(self, name: &'static str) -> KernelFact;
}

impl IntoFact for Value {
    fn into_fact(self, name: &'static str) -> KernelFact {
        match self {
            Value::Number(number) => KernelFact::number(name, number),
            other => KernelFact::text(name, other.to_string()),
        }
    }
}

fn bridge(kind: u16, value: &[u8]) -> Vec<KernelFact> {
    let fact = match kind {
        IFLA_BR_ROOT_ID => bridge_id("desroot", value),
        IFLA_BR_BRIDGE_ID => bridge_id("bridge-id", value),
        IFLA_BR_ROOT_PORT => number("rootport", value),
        IFLA_BR_ROOT_PATH_COST => number("rootcost", value),
        IFLA_BR_TOPOLOGY_CHANGE => flag("tchange", value),
        _ => None,
    };
    fact.into_iter().collect()
}

fn bridge_port(kind: u16, value: &[u8]) -> Vec<KernelFact> {
    let fact = match kind {
        IFLA_BRPORT_STATE => word("state", &PORT_STATES, value),
        IFLA_BRPORT_PRIORITY => number("priority", value),
        IFLA_BRPORT_COST => number("opercost", value),
        IFLA_BRPORT_LEARNING => flag("learning", value),
        IFLA_BRPORT_ROOT_ID => bridge_id("desroot", value),
        IFLA_BRPORT_BRIDGE_ID => bridge_id("desbridge", value),
        IFLA_BRPORT_DESIGNATED_PORT => number("desport", value),
        IFLA_BRPORT_DESIGNATED_COST => number("descost", value),
        IFLA_BRPORT_NO => number("index", value),
        IFLA_BRPORT_TOPOLOGY_CHANGE_ACK => flag("tcack", value),
        _ => None,
    };
    fact.into_iter().collect()
}

fn bond(kind: u16, value: &[u8]) -> Vec<KernelFact> {
    match kind {
        IFLA_BOND_ACTIVE_SLAVE => link("active", value).into_iter().collect(),
        IFLA_BOND_AD_INFO => attributes(value)
            .filter_map(|(kind, value)| match kind {
                IFLA_BOND_AD_INFO_AGGREGATOR => number("aggregator", value),
                IFLA_BOND_AD_INFO_PARTNER_MAC => address("partner", value),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn bond_port(kind: u16, value: &[u8]) -> Vec<KernelFact> {
    let fact = match kind {
        IFLA_BOND_SLAVE_STATE => word("portstate", &BOND_STATES, value),
        IFLA_BOND_SLAVE_MII_STATUS => word("carrier", &BOND_CARRIERS, value),
        IFLA_BOND_SLAVE_LINK_FAILURE_COUNT => number("failures", value),
        IFLA_BOND_SLAVE_PERM_HWADDR => address("permanent", value),
        IFLA_BOND_SLAVE_AD_AGGREGATOR_ID => number("aggregator", value),
        IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE => return lacp(value, |(_, ours, _)| ours),
        IFLA_BOND_SLAVE_AD_PARTNER_OPER_PORT_STATE => return lacp(value, |(_, _, theirs)| theirs),
        _ => None,
    };
    fact.into_iter().collect()
}

/// The state of one end of a port; the kernel tells that of the other end in two bytes.
fn lacp(
    value: &[u8],
    name: fn((u8, &'static str, &'static str)) -> &'static str,
) -> Vec<KernelFact> {
    let Some(state) = unsigned(value) else { return Vec::new() };
    let is_set = |bit: u8| state & u64::from(bit) != 0;
    LACP_BITS.into_iter().map(|bit| KernelFact::flag(name(bit), is_set(bit.0))).collect()
}

fn nested(info: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(info).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An unsigned number of the machine's order, as wide as the kernel sends it.
fn unsigned(value: &[u8]) -> Option<u64> {
    match *value {
        [byte] => Some(byte.into()),
        [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        _ => None,
    }
}

fn number(name: &'static str, value: &[u8]) -> Option<KernelFact> {
    Some(KernelFact::number(name, unsigned(value)?))
}

fn flag(name: &'static str, value: &[u8]) -> Option<KernelFact> {
    Some(KernelFact::flag(name, unsigned(value)? != 0))
}

fn word(name: &'static str, words: &[&str], value: &[u8]) -> Option<KernelFact> {
    let word = words.get(usize::try_from(unsigned(value)?).ok()?)?;
    Some(KernelFact::text(name, *word))
}

fn address(name: &'static str, value: &[u8]) -> Option<KernelFact> {
    let address = HwAddr::new(value).ok().filter(|address| !address.is_zero())?;
    Some(KernelFact::text(name, address.to_string()))
}

/// `PRIORITY/ADDRESS`
fn bridge_id(name: &'static str, value: &[u8]) -> Option<KernelFact> {
    let (priority, address) = value.split_first_chunk()?;
    let address = HwAddr::new(address).ok()?;
    Some(KernelFact::text(name, format!("{}/{address}", u16::from_be_bytes(*priority))))
}

/// Another link, by its index.
pub fn link(name: &'static str, value: &[u8]) -> Option<KernelFact> {
    let ifindex = IfIndex::new(u32::try_from(unsigned(value)?).ok()?)?;
    Some(KernelFact { name, value: KernelValue::Link(ifindex) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dlmgmt_proto::FactValue;
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len() as u16;
        let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn data(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect()
    }

    /// The facts as people read them.
    fn shown(facts: Vec<KernelFact>) -> BTreeMap<&'static str, String> {
        let text = |value| match value {
            KernelValue::Plain(value) => FactValue::to_string(&value),
            KernelValue::Link(ifindex) => format!("link {ifindex}"),
        };
        facts.into_iter().map(|fact| (fact.name, text(fact.value))).collect()
    }

    fn kind(word: &str, attributes: &[(u16, &[u8])]) -> BTreeMap<&'static str, String> {
        let info = [
            attribute(IFLA_INFO_KIND, word.as_bytes()),
            attribute(IFLA_INFO_DATA, &data(attributes)),
        ];
        shown(of_kind(&info.concat()))
    }

    fn port(word: &str, attributes: &[(u16, &[u8])]) -> BTreeMap<&'static str, String> {
        let info = [
            attribute(IFLA_INFO_SLAVE_KIND, word.as_bytes()),
            attribute(IFLA_INFO_SLAVE_DATA, &data(attributes)),
        ];
        shown(of_port(&info.concat()))
    }

    #[track_caller]
    fn assert_has(facts: &BTreeMap<&str, String>, expected: &[(&str, &str)]) {
        for (name, value) in expected {
            assert_eq!(facts.get(name).map(String::as_str), Some(*value), "{name} of {facts:?}");
        }
    }

    #[test]
    fn a_vlan_has_its_id_and_how_it_tags() {
        let facts = kind("vlan", &[(1, &7_u16.to_ne_bytes()), (5, &[0x88, 0xa8])]);
        assert_has(&facts, &[("type", "vlan"), ("vid", "7"), ("protocol", "802.1ad")]);
    }

    #[test]
    fn an_aggregation_has_its_mode_its_policy_and_who_is_at_the_other_end() {
        let partner = [2, 0, 0, 0, 0, 9];
        let ad = data(&[(1, &3_u16.to_ne_bytes()), (5, &partner)]);
        let facts = kind(
            "bond",
            &[(1, &[4]), (2, &7_u32.to_ne_bytes()), (14, &[1]), (21, &[1]), (23, &ad), (29, &[1])],
        );
        assert_has(
            &facts,
            &[
                ("mode", "802.3ad"),
                ("policy", "layer3+4"),
                ("lacp", "active"),
                ("lacp-time", "short"),
                ("active", "link 7"),
                ("aggregator", "3"),
                ("partner", "02:00:00:00:00:09"),
            ],
        );
    }

    #[test]
    fn lacp_is_off_where_the_mode_is_another_whatever_the_kernel_keeps_of_it() {
        let facts = kind("bond", &[(1, &[1]), (29, &[1])]);
        assert_has(&facts, &[("mode", "active-backup"), ("lacp", "off")]);
    }

    #[test]
    fn a_port_of_an_aggregation_has_the_state_of_both_ends() {
        let partner = 0x3d_u16.to_ne_bytes();
        let facts =
            port("bond", &[(1, &[0]), (2, &[0]), (6, &[1, 0]), (7, &[0x4d]), (8, &partner)]);
        assert_has(
            &facts,
            &[
                ("portstate", "attached"),
                ("carrier", "up"),
                ("aggregatable", "yes"),
                ("sync", "yes"),
                ("coll", "no"),
                ("dist", "no"),
                ("defaulted", "yes"),
                ("expired", "no"),
                ("partner-coll", "yes"),
                ("partner-dist", "yes"),
                ("partner-defaulted", "no"),
            ],
        );
    }

    #[test]
    fn a_bridge_has_its_options_and_what_stp_came_to() {
        let root = [0x80, 0, 2, 0, 0, 0, 0, 1];
        let facts =
            kind("bridge", &[(1, &1500_u32.to_ne_bytes()), (5, &[1, 0, 0, 0]), (10, &root)]);
        let expected =
            [("forward-delay", "15"), ("protect", "stp"), ("desroot", "32768/02:00:00:00:00:01")];
        assert_has(&facts, &expected);
        let facts = port("bridge", &[(1, &[3]), (3, &100_u32.to_ne_bytes()), (14, &root)]);
        let bridge = "32768/02:00:00:00:00:01";
        assert_has(&facts, &[("state", "forwarding"), ("opercost", "100"), ("desbridge", bridge)]);
    }

    #[test]
    fn a_tunnel_has_the_ends_that_it_was_given() {
        let facts = kind("sit", &[(2, &[192, 0, 2, 1]), (3, &[198, 51, 100, 1])]);
        assert_has(&facts, &[("type", "sit"), ("local", "192.0.2.1"), ("remote", "198.51.100.1")]);
        let facts = kind("sit", &[(2, &[192, 0, 2, 1]), (3, &[0; 4])]);
        assert_has(&facts, &[("type", "6to4"), ("local", "192.0.2.1")]);
        assert!(!facts.contains_key("remote"), "{facts:?}");
    }

    #[test]
    fn a_key_that_no_flag_tells_of_is_none() {
        let ends: [(u16, &[u8]); 3] =
            [(6, &[192, 0, 2, 1]), (7, &[192, 0, 2, 2]), (4, &[0, 0, 0, 7])];
        let flag: &[u8] = &[0x20, 0];
        let keyed = kind("gre", &[&ends[..], &[(2, flag), (3, flag)]].concat());
        assert_has(&keyed, &[("key", "7")]);
        let plain = kind("gre", &[&ends[..], &[(2, &[0, 0]), (3, &[0, 0])]].concat());
        assert!(!plain.contains_key("key"), "{plain:?}");
    }

    #[test]
    fn of_a_kind_that_nobody_describes_there_is_its_name() {
        assert_has(&kind("netdevsim", &[(1, &[1])]), &[("type", "netdevsim")]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            word in 0..KINDS.len(),
            bytes in proptest::collection::vec(
                (0_u16..48, proptest::collection::vec(any::<u8>(), 0..20)), 0..30
            )
        ) {
            let attributes: Vec<(u16, &[u8])> =
                bytes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
            kind(KINDS[word].kernel, &attributes);
            for word in ["bridge", "bond"] {
                port(word, &attributes);
            }
        }
    }
}
