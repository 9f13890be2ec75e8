//! The messages by which links are made, against the numbers of the kernel's own headers.

use std::collections::BTreeMap;

use dlmgmt_proto::kind::{KINDS, LinkKind, LinkOptions, Lower};
use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::RouteNetlinkMessage;

use super::frame::attributes;
use super::request;
use super::tests::name;
use crate::model::{Action, Binding, NewKind, NewLink, NsCookie, OptionSetting, Step};
use dlmgmt_proto::IfIndex;

/// Bytes of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// The marks of an attribute that has others inside, or whose bytes are the network's.
const MARKS: u16 = 0xc000;

type Attributes = BTreeMap<u16, Vec<u8>>;
type Options<'a> = &'a [(&'a str, &'a str)];

fn read(bytes: &[u8]) -> Attributes {
    attributes(bytes).map(|(kind, value)| (kind & !MARKS, value.to_vec())).collect()
}

/// What is asked of the kernel for a link: the attributes of the message, and those of its kind.
fn sent(kind: &str, options: Options<'_>, over: Option<u32>) -> (Attributes, Attributes) {
    let kind = LinkKind::named(kind).unwrap();
    let settings = LinkOptions::parse(kind, options.iter().copied(), over.is_some()).unwrap();
    let over =
        over.map(|number| Binding { ns: NsCookie(1), ifindex: IfIndex::new(number).unwrap() });
    let new = NewLink {
        ns: NsCookie(1),
        name: name("x0"),
        mac: settings.mac(),
        mtu: settings.mtu(),
        kind: NewKind::Single { settings, over },
    };
    let message = request::create(&new, None, None).unwrap();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let told = read(&bytes[HEADER_LEN..]);
    let info = read(&told[&IFLA_LINKINFO]);
    let named = [kind.kernel.as_bytes(), &[0]].concat();
    assert_eq!(info[&IFLA_INFO_KIND], named, "{}", kind.name);
    let data = info.get(&IFLA_INFO_DATA).map(|data| read(data)).unwrap_or_default();
    (told, data)
}

#[test]
fn every_kind_is_named_by_the_kernels_word_under_its_name() {
    for kind in KINDS.iter().filter(|kind| !kind.is_pair) {
        let options = kind.options.iter().filter(|option| option.is_required).map(|option| {
            let texts = ["7", "192.0.2.1", "2001:db8::1"];
            (option.name, *texts.iter().find(|text| option.value.parse(text).is_ok()).unwrap())
        });
        let over = (kind.lower != Lower::None).then_some(9);
        let (told, _) = sent(kind.name, &options.collect::<Vec<_>>(), over);
        assert_eq!(told[&IFLA_IFNAME], b"x0\0", "{}", kind.name);
    }
}

#[test]
fn the_lower_link_is_told_where_the_kind_has_it() {
    let nine = 9_u32.to_ne_bytes().to_vec();
    let remote = [("remote", "192.0.2.1")];
    let remote6 = [("remote", "2001:db8::1")];
    let key = [remote[0], ("key", "1")];
    let cases: [(&str, Options<'_>, Option<u16>); 15] = [
        ("macvlan", &[], None),
        ("macvtap", &[], None),
        ("ipvlan", &[], None),
        ("ipvtap", &[], None),
        ("vlan", &[("vid", "7")], None),
        ("vlan-vnic", &[("vid", "7")], None),
        ("vxlan", &[("vni", "7")], Some(3)),
        ("ipip", &remote, Some(1)),
        ("sit", &remote, Some(1)),
        ("ip6tnl", &remote6, Some(1)),
        ("gre", &remote, Some(1)),
        ("gretap", &remote, Some(1)),
        ("ip6gre", &remote6, Some(1)),
        ("vti", &key, Some(1)),
        ("6to4", &[("local", "192.0.2.1")], Some(1)),
    ];
    for (kind, options, place) in cases {
        let (told, data) = sent(kind, options, Some(9));
        match place {
            None => assert_eq!(told.get(&IFLA_LINK), Some(&nine), "{kind}"),
            Some(number) => {
                assert_eq!(data.get(&number), Some(&nine), "{kind}");
                assert!(!told.contains_key(&IFLA_LINK), "{kind}");
            }
        }
    }
}

#[test]
fn options_travel_in_their_bytes_padded() {
    let (_, data) = sent("vlan", &[("vid", "4094"), ("protocol", "802.1ad")], Some(9));
    let wanted = [(1, 4094_u16.to_ne_bytes().to_vec()), (5, vec![0x88, 0xa8])];
    assert_eq!(data, BTreeMap::from(wanted));
    let (_, data) = sent("bond", &[("lacp", "active")], None);
    assert_eq!(data[&1], [4], "the mode is 802.3ad");
    assert_eq!((&*data[&14], &*data[&29]), (&[1][..], &[1][..]));
    assert_eq!(data[&3], 100_u32.to_ne_bytes());
}

#[test]
fn who_has_an_address_of_its_own_is_told_one_and_others_only_what_was_asked_for() {
    let mac = [("mac", "02:00:00:00:00:07")];
    let address = vec![2, 0, 0, 0, 0, 7];
    assert_eq!(sent("dummy", &mac, None).0[&IFLA_ADDRESS], address);
    let by_chance = &sent("dummy", &[], None).0[&IFLA_ADDRESS];
    assert_eq!((by_chance.len(), by_chance[0] & 3), (6, 2), "local, and of one link");
    assert_eq!(sent("bond", &mac, None).0[&IFLA_ADDRESS], address);
    assert!(!sent("bond", &[], None).0.contains_key(&IFLA_ADDRESS));
    assert!(!sent("ipvlan", &[], Some(9)).0.contains_key(&IFLA_ADDRESS));
    assert!(!sent("gre", &[("remote", "192.0.2.1")], None).0.contains_key(&IFLA_ADDRESS));
}

/// It is a vlan to the kernel, and has an address of its own all the same.
#[test]
fn a_vnic_on_a_vlan_is_a_vlan_with_an_address() {
    let address = vec![2, 0, 0, 0, 0, 7];
    let wanted = [(1, 7_u16.to_ne_bytes().to_vec()), (5, vec![0x81, 0])];
    let (told, data) = sent("vlan-vnic", &[("vid", "7"), ("mac", "02:00:00:00:00:07")], Some(9));
    assert_eq!((&told[&IFLA_ADDRESS], data), (&address, BTreeMap::from(wanted.clone())));
    let (told, data) = sent("vlan-vnic", &[("vid", "7")], Some(9));
    let by_chance = &told[&IFLA_ADDRESS];
    assert_eq!((by_chance.len(), by_chance[0] & 3), (6, 2), "local, and of one link");
    assert_eq!(data, BTreeMap::from(wanted));
    assert!(!sent("vlan", &[("vid", "7")], Some(9)).0.contains_key(&IFLA_ADDRESS));
}

/// What is asked of the kernel for a change of an option of link 7: those of its kind.
fn said(kind: &str, option: &str, value: &str) -> Attributes {
    let kind = LinkKind::named(kind).unwrap();
    let option = kind.property(option).unwrap();
    let value = option.value.parse(value).unwrap();
    let at = Binding { ns: NsCookie(1), ifindex: IfIndex::new(7).unwrap() };
    let action = Action::SetOption(OptionSetting { kind, option, value });
    let message = request::apply(&Step { at, action }).unwrap();
    assert!(matches!(message, RouteNetlinkMessage::NewLink(_)), "only that takes it");
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    assert_eq!(bytes[4..8], 7_u32.to_ne_bytes(), "the index");
    let told = read(&bytes[HEADER_LEN..]);
    assert_eq!(told.keys().collect::<Vec<_>>(), [&IFLA_LINKINFO], "nothing else is touched");
    let info = read(&told[&IFLA_LINKINFO]);
    assert_eq!(info[&IFLA_INFO_KIND], [kind.kernel.as_bytes(), &[0]].concat());
    read(&info[&IFLA_INFO_DATA])
}

/// The numbers are those of `linux/if_link.h`.
#[test]
fn a_change_says_one_option_alone() {
    let number = |number: u32| number.to_ne_bytes().to_vec();
    for (kind, option, value, told, bytes) in [
        ("bridge", "stp", "on", 5, number(1)),
        ("bridge", "ageing", "77", 4, number(7700)),
        ("bond", "mode", "802.3ad", 1, vec![4]),
        ("bond", "lacp_rate", "fast", 21, vec![1]),
        ("bond", "fail_over_mac", "active", 13, vec![1]),
        ("macvlan", "mode", "vepa", 1, number(2)),
        ("vlan", "gvrp", "on", 2, [number(2), number(2)].concat()),
        ("vlan-vnic", "mvrp", "on", 2, [number(8), number(8)].concat()),
        ("vlan", "reorder_hdr", "off", 2, [number(0), number(1)].concat()),
        ("vxlan", "ttl", "9", 5, vec![9]),
        ("geneve", "tos", "9", 4, vec![9]),
    ] {
        assert_eq!(said(kind, option, value), Attributes::from([(told, bytes)]), "{kind} {option}");
    }
}
