use std::collections::BTreeSet;

use super::*;
use crate::{Value, ValueType};

/// The attributes that the kernel is told for these options, by their numbers.
fn told(kind: &str, options: &[(&str, &str)]) -> Vec<(u16, Vec<u8>)> {
    let kind = LinkKind::named(kind).unwrap();
    let mut told =
        LinkOptions::parse(kind, options.iter().copied(), true).unwrap().info_attributes();
    told.sort();
    told
}

fn refused(kind: &str, options: &[(&str, &str)]) -> String {
    let kind = LinkKind::named(kind).unwrap();
    LinkOptions::parse(kind, options.iter().copied(), false).unwrap_err().to_string()
}

fn u32_of(number: u32) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

fn u16_of(number: u16) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

/// The numbers are those of `linux/if_link.h` and `linux/if_tunnel.h`.
#[test]
fn each_kind_tells_the_kernel_its_options_by_the_kernels_numbers() {
    let (a, b) = ([192, 0, 2, 1].to_vec(), [192, 0, 2, 2].to_vec());
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].to_vec();
    let ends = [("local", "192.0.2.1"), ("remote", "192.0.2.2")];
    let ends6 = [("local", "2001:db8::1"), ("remote", "2001:db8::1")];
    let key = [("key", "1")];
    assert_eq!(told("macvlan", &[]), [(1, u32_of(4))]);
    assert_eq!(told("macvtap", &[("mode", "private")]), [(1, u32_of(1))]);
    assert_eq!(told("ipvlan", &[("isolation", "vepa")]), [(1, u16_of(0)), (2, u16_of(2))]);
    assert_eq!(told("ipvtap", &[("mode", "l3s")]), [(1, u16_of(2))]);
    assert_eq!(told("vlan", &[("vid", "7")]), [(1, u16_of(7)), (5, vec![0x81, 0])]);
    assert_eq!(
        told("vlan", &[("vid", "4094"), ("protocol", "802.1ad")]),
        [(1, u16_of(4094)), (5, vec![0x88, 0xa8])]
    );
    assert_eq!(
        told(
            "bridge",
            &[
                ("protect", "stp"),
                ("priority", "4096"),
                ("forward-delay", "4"),
                ("vlan-filtering", "on"),
                ("default-pvid", "9"),
                ("mcast-snooping", "off"),
            ]
        ),
        [
            (1, u32_of(400)),
            (5, u32_of(1)),
            (6, u16_of(4096)),
            (7, vec![1]),
            (23, vec![0]),
            (39, u16_of(9)),
        ]
    );
    assert_eq!(
        told("bond", &[("lacp", "passive"), ("lacp-time", "short"), ("policy", "L2")]),
        [(1, vec![4]), (3, u32_of(100)), (14, vec![0]), (21, vec![1]), (29, vec![0])]
    );
    assert_eq!(
        told("bond", &[("lacp", "off"), ("min-links", "2")]),
        [(1, vec![2]), (3, u32_of(100)), (14, vec![1]), (18, u32_of(2))]
    );
    let arp = [("mode", "active-backup"), ("arp-interval", "9"), ("arp-validate", "all")];
    let targets = [("arp-ip-target", "192.0.2.1,192.0.2.2"), ("fail-over-mac", "follow")];
    let target = |number: u16, ip: &[u8]| [&u16_of(8)[..], &u16_of(number), ip].concat();
    assert_eq!(
        told("bond", &[&arp[..], &targets, &[("ad-select", "count")]].concat()),
        [
            (1, vec![1]),
            (7, u32_of(9)),
            (8, [target(0, &a), target(1, &b)].concat()),
            (9, u32_of(3)),
            (13, vec![2]),
            (14, vec![1]),
            (22, vec![2]),
        ]
    );
    assert_eq!(
        told("vxlan", &[("vni", "42"), ends[0], ends[1]]),
        [(1, u32_of(42)), (2, b.clone()), (4, a.clone()), (15, vec![0x12, 0xb5])]
    );
    assert_eq!(
        told("vxlan", &[("vni", "42"), ("group", "ff02::1"), ends6[0], ("port", "1")])
            .into_iter()
            .map(|(number, _)| number)
            .collect::<Vec<_>>(),
        [1, 15, 16, 17]
    );
    assert_eq!(
        told("geneve", &[("vni", "1"), ends[1]]),
        [(1, u32_of(1)), (2, b.clone()), (5, vec![0x17, 0xc1])]
    );
    assert_eq!(
        told("geneve", &[("vni", "1"), ends6[1]]),
        [(1, u32_of(1)), (5, vec![0x17, 0xc1]), (7, v6.clone())]
    );
    for kind in ["ipip", "ipv4", "sit"] {
        assert_eq!(told(kind, &ends), [(2, a.clone()), (3, b.clone())], "{kind}");
    }
    assert_eq!(told("6to4", &ends[..1]), [(2, a.clone()), (4, vec![64])]);
    assert_eq!(told("ip6tnl", &ends6), [(2, v6.clone()), (3, v6.clone()), (9, vec![0])]);
    for kind in ["gre", "gretap"] {
        let flag = vec![0x20, 0];
        let number = vec![0, 0, 0, 1];
        assert_eq!(
            told(kind, &[ends[0], ends[1], key[0], ("ttl", "3")]),
            [
                (2, flag.clone()),
                (3, flag),
                (4, number.clone()),
                (5, number),
                (6, a.clone()),
                (7, b.clone()),
                (8, vec![3]),
            ],
            "{kind}"
        );
    }
    for kind in ["ip6gre", "ip6gretap"] {
        assert_eq!(told(kind, &ends6), [(6, v6.clone()), (7, v6.clone())], "{kind}");
    }
    let number = vec![0, 0, 0, 1];
    assert_eq!(
        told("vti", &[ends[0], ends[1], key[0]]),
        [(2, number.clone()), (3, number.clone()), (4, a), (5, b)]
    );
    assert_eq!(
        told("vti6", &[ends6[0], ends6[1], key[0]]),
        [(2, number.clone()), (3, number), (4, v6.clone()), (5, v6)]
    );
}

#[test]
fn bad_options_are_refused_with_what_is_wrong() {
    for (kind, options, parts) in [
        ("vlan", &[][..], &["vlan needs vid", "1-4094"][..]),
        ("vlan", &[("vid", "0")], &["vid", "`0`", "1-4094"]),
        ("vlan", &[("vid", "4095")], &["vid", "`4095`", "1-4094"]),
        ("vlan", &[("vid", "1"), ("vid", "2")], &["vid is given twice"]),
        ("vlan", &[("vid", "1"), ("colour", "red")], &["vlan has no option colour"]),
        ("vlan", &[("vid", "1"), ("mtu", "99999")], &["mtu", "68-65535"]),
        ("macvlan", &[("mac", "01:00:00:00:00:00")], &["mac", "unicast"]),
        ("macvlan", &[("vid", "7")], &["macvlan has no option vid"]),
        ("bond", &[("lacp", "active"), ("mode", "balance-rr")], &["lacp needs mode to be 802.3ad"]),
        ("bond", &[("arp-interval", "9"), ("miimon", "9")], &["arp-interval and miimon"]),
        ("bond", &[("arp-interval", "9"), ("mode", "802.3ad")], &["arp-interval needs mode"]),
        ("bond", &[("lacp-time", "short")], &["lacp-time needs mode to be 802.3ad"]),
        ("vxlan", &[("vni", "1"), ("group", "239.0.0.1")], &["group needs a lower link"]),
        ("vxlan", &[("vni", "1"), ("remote", "239.0.0.1")], &["remote", "an IP address"]),
        ("vxlan", &[("vni", "16777216")], &["vni", "0-16777215"]),
        (
            "vxlan",
            &[("vni", "1"), ("remote", "::1"), ("local", "127.0.0.1")],
            &["local and remote", "families"],
        ),
        ("6to4", &[("local", "192.0.2.1"), ("remote", "192.0.2.2")], &["no option remote"]),
        ("gre", &[("local", "192.0.2.1")], &["gre needs remote", "IPv4"]),
        ("ip6tnl", &[("remote", "192.0.2.1")], &["remote", "an IPv6 address"]),
    ] {
        let why = refused(kind, options);
        assert!(parts.iter().all(|part| why.contains(part)), "{kind} {options:?}: {why}");
    }
}

#[test]
fn what_the_kernel_is_told_can_be_read_again() {
    let told = |option: &&OptionSpec| !option.attributes.is_empty();
    for option in KINDS.iter().flat_map(|kind| kind.options).filter(told) {
        let texts = match option.value {
            ValueType::Ip { .. } => vec!["192.0.2.1", "2001:db8::1", "239.0.0.1"],
            ValueType::Mac => vec!["02:00:00:00:00:01"],
            ValueType::Number { .. } => vec!["9", "100"],
            ValueType::Hosts4 => vec!["192.0.2.1,192.0.2.2", ""],
            _ => option.value.words(),
        };
        for value in texts.iter().filter_map(|text| option.value.parse(text).ok()) {
            let read: BTreeSet<String> = option
                .encode(&value)
                .iter()
                .filter_map(|(place, bytes)| option.decode(*place, bytes))
                .map(|value| value.to_string())
                .collect();
            let is_said = !matches!(value, Value::Word(word) if word.number.is_none());
            let wanted = is_said.then(|| value.to_string());
            assert_eq!(read.into_iter().next(), wanted, "{} {value}", option.name);
        }
    }
}

#[test]
fn the_class_of_what_others_made_follows_from_its_kernel_type() {
    let classes = [
        (LinkClass::Vlan, &["vlan"][..]),
        (LinkClass::Aggr, &["bond"]),
        (LinkClass::Vnic, &["macvlan", "macvtap", "ipvlan", "ipvtap"]),
        (LinkClass::Etherstub, &["dummy"]),
        (LinkClass::Bridge, &["bridge"]),
        (LinkClass::Iptun, &["ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "ip6gretap"]),
        (LinkClass::Iptun, &["vti", "vti6"]),
        (LinkClass::Overlay, &["vxlan", "geneve"]),
        (LinkClass::Simnet, &["netdevsim"]),
        (LinkClass::Veth, &["veth"]),
        (LinkClass::Tap, &["tun", "tap"]),
        (LinkClass::Misc, &["wireguard"]),
    ];
    for (class, kinds) in classes {
        for kind in kinds {
            assert_eq!(LinkClass::of_kind(Some(kind)), class, "{kind}");
        }
    }
    assert_eq!(LinkClass::of_kind(None), LinkClass::Phys);
}

#[test]
fn the_table_contradicts_itself_nowhere() {
    let names: Vec<&str> =
        KINDS.iter().flat_map(|kind| [Some(kind.name), kind.alias]).flatten().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for kind in KINDS {
        assert!(ClassSpec::of(kind.class).is_some(), "{}: its class is in no table", kind.name);
        for option in kind.options {
            let default = option.default.map(|text| option.value.parse(text));
            assert!(default.is_none_or(|value| value.is_ok()), "{} {}", kind.name, option.name);
        }
        let option = |name: &str| kind.option(name).unwrap();
        for rule in kind.rules {
            match rule {
                Rule::NotBoth(one, other)
                | Rule::Either(one, other)
                | Rule::SameFamily(one, other) => {
                    assert_ne!(option(one).name, option(other).name);
                }
                Rule::NeedsLower(name) => assert!(!option(name).is_required),
                Rule::OnlyWhere(name, other, values) => {
                    assert!(!option(name).is_required);
                    assert!(values.iter().all(|text| option(other).value.parse(text).is_ok()));
                }
            }
        }
    }
}

#[test]
fn an_option_of_several_kinds_of_a_class_is_written_in_one_way() {
    for class in CLASSES {
        let mut letters = BTreeSet::from(['t', 'z', 'Z']);
        let free = |letter: Option<char>, letters: &mut BTreeSet<char>| {
            letter.is_none_or(|letter| letters.insert(letter))
        };
        assert!(class.kinds().next().is_some(), "{} has no kind", class.class);
        assert!(free(class.selector().and_then(|selector| selector.letter), &mut letters));
        for option in class.options() {
            assert!(free(option.letter, &mut letters), "{} -{:?}", class.class, option.letter);
            for kind in class.kinds() {
                let same = kind.option(option.name).is_none_or(|own| own.letter == option.letter);
                assert!(same, "{} --{}", kind.name, option.name);
            }
        }
        for name in class.in_list {
            assert!(class.options().iter().any(|option| option.name == *name));
        }
    }
}

#[test]
fn an_option_that_chooses_a_kind_is_of_that_kind_alone_which_needs_it() {
    for kind in KINDS {
        let Some(chooser) = kind.chosen_by else { continue };
        let class = ClassSpec::of(kind.class).unwrap();
        assert!(kind.option(chooser).unwrap().is_required, "{}", kind.name);
        assert_eq!(class.kinds().filter(|kind| kind.option(chooser).is_some()).count(), 1);
        assert_ne!(class.default_kind(), Some(kind));
    }
}

#[test]
fn a_vnic_on_a_vlan_is_told_to_the_kernel_as_a_vlan_and_one_that_was_found_is_a_vlan() {
    let options = [("vid", "7"), ("protocol", "802.1ad"), ("gvrp", "on")];
    assert_eq!(told("vlan-vnic", &options), told("vlan", &options));
    assert_eq!(LinkKind::of_kernel("vlan").unwrap().class, LinkClass::Vlan);
    let vnic = LinkKind::named("vlan-vnic").unwrap();
    assert_eq!((vnic.class, vnic.address), (LinkClass::Vnic, Address::Own));
    assert_eq!(refused("vlan-vnic", &[]), "a vlan-vnic needs vid (1-4094)");
}

#[test]
fn what_can_be_changed_can_also_be_reset() {
    for kind in KINDS {
        for option in kind.properties().filter(|option| option.is_changeable) {
            assert!(option.standard().is_some(), "{} {}", kind.name, option.name);
        }
    }
}

#[test]
fn a_property_of_a_kind_is_named_as_ip_link_has_it_too() {
    let property = |kind: &str, name: &str| {
        LinkKind::named(kind).unwrap().property(name).map(|option| option.name)
    };
    for (kind, name, option) in [
        ("bridge", "stp", "protect"),
        ("bridge", "STP", "protect"),
        ("bridge", "vlan_filtering", "vlan-filtering"),
        ("bridge", "ageing", "ageing-time"),
        ("bond", "xmit_hash_policy", "policy"),
        ("bond", "lacp_rate", "lacp-time"),
    ] {
        assert_eq!(property(kind, name), Some(option), "{name}");
    }
    assert_eq!(property("bridge", "mtu"), None, "that is every link's");
    assert_eq!(property("vxlan", "learning"), None, "that is a port's");
    assert_eq!(property("macvlan", "vid"), None, "it has none");
}

#[test]
fn no_two_properties_of_a_kind_share_a_name() {
    for kind in KINDS {
        for option in kind.properties() {
            for name in [Some(option.name), option.alias].into_iter().flatten() {
                assert_eq!(kind.properties().filter(|other| other.is_called(name)).count(), 1);
                assert!(crate::property::Property::named(name).is_none(), "{} {name}", kind.name);
            }
        }
    }
}

#[test]
fn flags_that_share_an_attribute_are_told_together() {
    let flags = |on: u32, said: u32| [u32_of(on), u32_of(said)].concat();
    let one = told("vlan", &[("vid", "7"), ("gvrp", "on")]);
    assert!(one.contains(&(2, flags(2, 2))), "{one:?}");
    let all = [("gvrp", "on"), ("mvrp", "on"), ("loose-binding", "on"), ("reorder-hdr", "off")];
    let told = told("vlan", &[&[("vid", "7")], &all[..]].concat());
    assert!(told.contains(&(2, flags(0xe, 0xf))), "{told:?}");
}
