//! The kinds. The numbers of attributes and of words are those of `linux/if_link.h`,
//! `linux/if_tunnel.h` and the drivers' own headers.

use super::{
    Address, Attribute, Choice, ClassSpec, Form, LinkKind, Lower, LowerRule, Maker, OptionSpec,
    Place, Rule, Selector,
};
use crate::value::{Casting, Family};
use crate::{LinkClass, Media, ValueType, Word};

const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;

const U8: ValueType = ValueType::Number { min: 0, max: 255 };
const U32: ValueType = ValueType::Number { min: 0, max: u32::MAX as u64 };
const PORT: ValueType = ValueType::Number { min: 1, max: 65_535 };
const VID: ValueType = ValueType::Number { min: 1, max: 4094 };
const VNI: ValueType = ValueType::Number { min: 0, max: 16_777_215 };
const HOST: ValueType = ValueType::Ip { family: Family::Any, casting: Casting::Unicast };
const HOST4: ValueType = ValueType::Ip { family: Family::V4, casting: Casting::Unicast };
const HOST6: ValueType = ValueType::Ip { family: Family::V6, casting: Casting::Unicast };
const GROUP: ValueType = ValueType::Ip { family: Family::Any, casting: Casting::Multicast };

const VLAN_PROTOCOLS: ValueType = ValueType::Words(&[
    Word::new("802.1q", 0x8100).or(&["802.1Q"]),
    Word::new("802.1ad", 0x88a8).or(&["802.1AD"]),
]);

const MAC: OptionSpec = OptionSpec::new("mac", ValueType::Mac, "Its hardware address")
    .changeable()
    .carried_by(&[Attribute::link(IFLA_ADDRESS, Form::Mac)]);
const MTU: OptionSpec = OptionSpec::new(
    "mtu",
    ValueType::Number { min: 68, max: 65_535 },
    "Its largest packet, in bytes",
)
.changeable()
.carried_by(&[Attribute::link(IFLA_MTU, Form::U32)]);

const OVER_ETHERNET: LowerRule =
    LowerRule { media: &[Media::Ethernet], place: Place::Link(IFLA_LINK), may_be_elsewhere: true };
/// Tunnels look their lower link up where they are themselves.
const OVER_ANY: LowerRule =
    LowerRule { media: &[], place: Place::Info(1), may_be_elsewhere: false };

/// What most kinds are; an entry says where it differs.
const PLAIN: LinkKind = LinkKind {
    name: "",
    alias: None,
    kernel: "",
    class: LinkClass::Misc,
    media: Media::Ethernet,
    lower: Lower::None,
    has_ports: false,
    is_pair: false,
    chosen_by: None,
    address: Address::Own,
    pinned: None,
    maker: Maker::Rtnetlink,
    options: &[MAC, MTU],
    rules: &[],
};

const fn switch(name: &'static str, doc: &'static str) -> OptionSpec {
    OptionSpec::new(name, ValueType::Switch, doc)
}

// Shares of a lower link.

const MACVLAN: LinkKind = LinkKind {
    name: "macvlan",
    kernel: "macvlan",
    class: LinkClass::Vnic,
    lower: Lower::Required(OVER_ETHERNET),
    options: &[
        MAC.letter('m'),
        MTU,
        OptionSpec::new(
            "mode",
            ValueType::Words(&[
                Word::new("bridge", 4),
                Word::new("private", 1),
                Word::new("vepa", 2),
                Word::new("passthru", 8),
            ]),
            "Who of the links over one lower link hear each other",
        )
        .default("bridge")
        .changeable()
        .carried_by(&[Attribute::info(1, Form::U32)]),
        OptionSpec::new("bc-queue", U32, "How many broadcast packets may wait")
            .by_itself("1000")
            .changeable()
            .carried_by(&[Attribute::info(7, Form::U32)]),
    ],
    ..PLAIN
};

const IPVLAN: LinkKind = LinkKind {
    name: "ipvlan",
    kernel: "ipvlan",
    class: LinkClass::Vnic,
    lower: Lower::Required(OVER_ETHERNET),
    address: Address::None,
    options: &[
        MTU,
        OptionSpec::new(
            "mode",
            ValueType::Words(&[Word::new("l2", 0), Word::new("l3", 1), Word::new("l3s", 2)]),
            "Which layer of packets is passed on",
        )
        .default("l2")
        .changeable()
        .carried_by(&[Attribute::info(1, Form::U16)]),
        OptionSpec::new(
            "isolation",
            ValueType::Words(&[
                Word::new("bridge", 0),
                Word::new("private", 1),
                Word::new("vepa", 2),
            ]),
            "Who of the links over one lower link hear each other",
        )
        .by_itself("bridge")
        .changeable()
        .carried_by(&[Attribute::info(2, Form::U16)]),
    ],
    ..PLAIN
};

const VLAN: LinkKind = LinkKind {
    name: "vlan",
    kernel: "vlan",
    class: LinkClass::Vlan,
    lower: Lower::Required(OVER_ETHERNET),
    address: Address::Inherited,
    options: &[
        OptionSpec::new("vid", VID, "Its VLAN")
            .letter('v')
            .required()
            .carried_by(&at(1, Form::U16)),
        OptionSpec::new("protocol", VLAN_PROTOCOLS, "How frames are tagged")
            .default("802.1q")
            .carried_by(&at(5, Form::Be16)),
        switch("reorder-hdr", "Take the tag out of received frames")
            .by_itself("on")
            .changeable()
            .carried_by(&at(2, Form::Bit(0x1))),
        switch("gvrp", "Tell the switch of the VLAN by GVRP")
            .by_itself("off")
            .changeable()
            .carried_by(&at(2, Form::Bit(0x2))),
        switch("loose-binding", "Be up whatever the lower link is")
            .by_itself("off")
            .changeable()
            .carried_by(&at(2, Form::Bit(0x4))),
        switch("mvrp", "Tell the switch of the VLAN by MVRP")
            .by_itself("off")
            .changeable()
            .carried_by(&at(2, Form::Bit(0x8))),
        MAC.letter('m'),
        MTU,
    ],
    ..PLAIN
};

/// With an address of its own, a vlan has of the VLAN's frames those for that address and for many,
/// and the kernel lets the lower link hear them.
const VLAN_VNIC: LinkKind = LinkKind {
    name: "vlan-vnic",
    class: LinkClass::Vnic,
    address: Address::Own,
    chosen_by: Some("vid"),
    ..VLAN
};

// Tunnels.

const LOCAL: OptionSpec = OptionSpec::new("local", HOST4, "The address of this end");
const REMOTE: OptionSpec = OptionSpec::new("remote", HOST4, "The address of the other end");
const TTL: OptionSpec = OptionSpec::new("ttl", U8, "The TTL of outer packets; 0 for the inner's");
const TOS: OptionSpec = OptionSpec::new("tos", U8, "The TOS of outer packets; 1 for the inner's");
const KEY: OptionSpec = OptionSpec::new("key", U32, "Tells tunnels between the same ends apart");

const fn at(number: u16, form: Form) -> [Attribute; 1] {
    [Attribute::info(number, form)]
}

const IPTUN_LOCAL4: &[Attribute] = &at(2, Form::Ip4);
const IPTUN_REMOTE4: &[Attribute] = &at(3, Form::Ip4);
const IPTUN_TTL: &[Attribute] = &at(4, Form::U8);
const IPTUN_TOS: &[Attribute] = &at(5, Form::U8);

/// The flags say that there is a key, for both ways (`GRE_KEY`).
const GRE_KEY: &[Attribute] = &[
    Attribute::info(4, Form::Be32),
    Attribute::info(5, Form::Be32),
    Attribute::info(2, Form::Flag16(0x2000)),
    Attribute::info(3, Form::Flag16(0x2000)),
];
const GRE_OPTIONS: &[OptionSpec] = &[
    LOCAL.carried_by(&at(6, Form::Ip4)),
    REMOTE.carried_by(&at(7, Form::Ip4)).required(),
    KEY.carried_by(GRE_KEY),
    TTL.carried_by(&at(8, Form::U8)),
    TOS.carried_by(&at(9, Form::U8)),
    MTU,
];
const GRE6_OPTIONS: &[OptionSpec] = &[
    OptionSpec { value: HOST6, ..LOCAL.carried_by(&at(6, Form::Ip6)) },
    OptionSpec { value: HOST6, ..REMOTE.carried_by(&at(7, Form::Ip6)).required() },
    KEY.carried_by(GRE_KEY),
    TTL.carried_by(&at(8, Form::U8)),
    MTU,
];

const TUNNEL: LinkKind = LinkKind {
    class: LinkClass::Iptun,
    media: Media::IPv4,
    lower: Lower::Optional(OVER_ANY),
    address: Address::None,
    ..PLAIN
};

/// The modes of a bond in which it can ask others by ARP.
const ARP_MODES: &[&str] = &["balance-rr", "active-backup", "balance-xor", "broadcast"];

/// Every kind. Of those that the kernel calls alike, the first is what a link that was found is
/// taken for; of a class, the first is the one that is meant where none is named.
pub static KINDS: &[LinkKind] = &[
    MACVLAN,
    LinkKind { name: "macvtap", kernel: "macvtap", ..MACVLAN },
    IPVLAN,
    LinkKind { name: "ipvtap", kernel: "ipvtap", ..IPVLAN },
    LinkKind {
        name: "veth",
        kernel: "veth",
        class: LinkClass::Veth,
        is_pair: true,
        options: &[],
        ..PLAIN
    },
    LinkKind {
        name: "bridge",
        kernel: "bridge",
        class: LinkClass::Bridge,
        has_ports: true,
        pinned: Some("the kernel pins a bridge to its namespace"),
        options: &[
            OptionSpec::new(
                "protect",
                ValueType::Words(&[
                    Word::new("none", 0).or(&["off"]),
                    Word::new("stp", 1).or(&["on"]),
                ]),
                "How loops are avoided",
            )
            .letter('P')
            .or("stp")
            .by_itself("none")
            .changeable()
            .carried_by(&at(5, Form::U32)),
            OptionSpec::new(
                "priority",
                ValueType::Number { min: 0, max: 65_535 },
                "STP's priority",
            )
            .letter('p')
            .by_itself("32768")
            .changeable()
            .carried_by(&at(6, Form::U16)),
            OptionSpec::new(
                "max-age",
                ValueType::Number { min: 6, max: 40 },
                "STP's max age, in s",
            )
            .letter('m')
            .by_itself("20")
            .changeable()
            .carried_by(&at(3, Form::Centiseconds)),
            OptionSpec::new(
                "hello-time",
                ValueType::Number { min: 1, max: 10 },
                "STP's hello time, in seconds",
            )
            .letter('h')
            .by_itself("2")
            .changeable()
            .carried_by(&at(2, Form::Centiseconds)),
            OptionSpec::new(
                "forward-delay",
                ValueType::Number { min: 2, max: 30 },
                "STP's forward delay, in seconds",
            )
            .letter('d')
            .by_itself("15")
            .changeable()
            .carried_by(&at(1, Form::Centiseconds)),
            OptionSpec::new(
                "ageing-time",
                ValueType::Number { min: 0, max: 1_000_000 },
                "How long an address that is not heard is kept, in seconds",
            )
            .or("ageing")
            .by_itself("300")
            .changeable()
            .carried_by(&at(4, Form::Centiseconds)),
            switch("vlan-filtering", "Look at the VLAN of each frame")
                .by_itself("off")
                .changeable()
                .carried_by(&at(7, Form::U8)),
            OptionSpec::new("vlan-protocol", VLAN_PROTOCOLS, "Whose VLANs are looked at")
                .by_itself("802.1q")
                .changeable()
                .carried_by(&at(8, Form::Be16)),
            OptionSpec::new(
                "default-pvid",
                ValueType::Number { min: 0, max: 4094 },
                "The VLAN of untagged frames; 0 for none",
            )
            .or("vlan-default-pvid")
            .by_itself("1")
            .changeable()
            .carried_by(&at(39, Form::U16)),
            switch("mcast-snooping", "Send multicast only to who listens")
                .by_itself("on")
                .changeable()
                .carried_by(&at(23, Form::U8)),
            MAC,
            MTU,
        ],
        ..PLAIN
    },
    LinkKind { name: "dummy", kernel: "dummy", class: LinkClass::Etherstub, ..PLAIN },
    VLAN,
    VLAN_VNIC,
    LinkKind {
        name: "bond",
        kernel: "bond",
        class: LinkClass::Aggr,
        has_ports: true,
        address: Address::Inherited,
        pinned: Some("the kernel pins a bond to its namespace"),
        options: &[
            // The kernel takes some others only in the right mode, so it is told of that first.
            OptionSpec::new(
                "mode",
                ValueType::Words(&[
                    Word::new("balance-rr", 0),
                    Word::new("active-backup", 1),
                    Word::new("balance-xor", 2),
                    Word::new("broadcast", 3),
                    Word::new("802.3ad", 4),
                    Word::new("balance-tlb", 5),
                    Word::new("balance-alb", 6),
                ]),
                "How the ports share the traffic",
            )
            .default("balance-xor")
            .changeable()
            .carried_by(&at(1, Form::U8)),
            OptionSpec::new(
                "lacp",
                ValueType::Words(&[
                    Word::new("active", 1).implying("mode", "802.3ad"),
                    Word::new("passive", 0).implying("mode", "802.3ad"),
                    Word::new("off", 2).implying("mode", "balance-xor").unsaid(),
                ]),
                "Whether the switch is asked by LACP",
            )
            .letter('L')
            .by_itself("off")
            .changeable()
            .carried_by(&at(29, Form::U8)),
            OptionSpec::new(
                "policy",
                ValueType::Words(&[
                    Word::new("layer3+4", 1).or(&["L4", "L3,L4"]),
                    Word::new("layer2", 0).or(&["L2"]),
                    Word::new("layer2+3", 2).or(&["L3", "L2,L3"]),
                    Word::new("encap2+3", 3),
                    Word::new("encap3+4", 4),
                    Word::new("vlan+srcmac", 5),
                ]),
                "What of a packet chooses its port",
            )
            .letter('P')
            .or("xmit-hash-policy")
            .default("layer3+4")
            .changeable()
            .carried_by(&at(14, Form::U8)),
            OptionSpec::new(
                "lacp-time",
                ValueType::Words(&[
                    Word::new("long", 0).or(&["slow"]),
                    Word::new("short", 1).or(&["fast"]),
                ]),
                "How often the switch is to send LACP packets",
            )
            .letter('T')
            .or("lacp-rate")
            .by_itself("long")
            .changeable()
            .carried_by(&at(21, Form::U8)),
            OptionSpec::new("miimon", U32, "How often the ports' carriers are looked at, in ms")
                .default("100")
                .changeable()
                .carried_by(&at(3, Form::U32)),
            OptionSpec::new("updelay", U32, "How long after a carrier comes a port is used, in ms")
                .by_itself("0")
                .changeable()
                .carried_by(&at(4, Form::U32)),
            OptionSpec::new(
                "downdelay",
                U32,
                "How long after a carrier goes a port is still used, in ms",
            )
            .by_itself("0")
            .changeable()
            .carried_by(&at(5, Form::U32)),
            OptionSpec::new("min-links", U32, "How many ports must be up for the link to be")
                .by_itself("0")
                .changeable()
                .carried_by(&at(18, Form::U32)),
            OptionSpec::new("arp-interval", U32, "How often others are asked by ARP, in ms")
                .by_itself("0")
                .changeable()
                .carried_by(&at(7, Form::U32)),
            OptionSpec::new("arp-ip-target", ValueType::Hosts4, "Who is asked by ARP")
                .by_itself("")
                .changeable()
                .carried_by(&at(8, Form::Hosts4)),
            OptionSpec::new(
                "arp-validate",
                ValueType::Words(&[
                    Word::new("none", 0),
                    Word::new("active", 1),
                    Word::new("backup", 2),
                    Word::new("all", 3),
                    Word::new("filter", 4),
                    Word::new("filter_active", 5),
                    Word::new("filter_backup", 6),
                ]),
                "Of which ports ARP's answers are looked at",
            )
            .by_itself("none")
            .changeable()
            .carried_by(&at(9, Form::U32)),
            OptionSpec::new(
                "ad-select",
                ValueType::Words(&[
                    Word::new("stable", 0),
                    Word::new("bandwidth", 1),
                    Word::new("count", 2),
                ]),
                "When LACP chooses other ports to be used",
            )
            .by_itself("stable")
            .changeable()
            .carried_by(&at(22, Form::U8)),
            OptionSpec::new(
                "fail-over-mac",
                ValueType::Words(&[
                    Word::new("none", 0),
                    Word::new("active", 1),
                    Word::new("follow", 2),
                ]),
                "Whose hardware address is used when another port takes over",
            )
            .by_itself("none")
            .changeable()
            .carried_by(&at(13, Form::U8)),
            MAC.letter('u'),
            MTU,
        ],
        rules: &[
            Rule::OnlyWhere("lacp-time", "mode", &["802.3ad"]),
            Rule::OnlyWhere("arp-interval", "mode", ARP_MODES),
            Rule::Either("arp-interval", "miimon"),
        ],
        ..PLAIN
    },
    LinkKind {
        name: "vxlan",
        kernel: "vxlan",
        class: LinkClass::Overlay,
        lower: Lower::Optional(LowerRule {
            media: &[],
            place: Place::Info(3),
            may_be_elsewhere: true,
        }),
        options: &[
            OptionSpec::new("vni", VNI, "Its network")
                .letter('v')
                .required()
                .carried_by(&at(1, Form::U32)),
            OptionSpec::new("local", HOST, "The address of this end")
                .carried_by(&[Attribute::info(4, Form::Ip4), Attribute::info(17, Form::Ip6)]),
            OptionSpec::new("remote", HOST, "The address of the other end")
                .carried_by(&[Attribute::info(2, Form::Ip4), Attribute::info(16, Form::Ip6)]),
            OptionSpec::new("group", GROUP, "The multicast group of all ends")
                .carried_by(&[Attribute::info(2, Form::Ip4), Attribute::info(16, Form::Ip6)]),
            OptionSpec::new("port", PORT, "The UDP port of the other ends")
                .default("4789")
                .carried_by(&at(15, Form::Be16)),
            TTL.by_itself("0").changeable().carried_by(&at(5, Form::U8)),
            TOS.by_itself("0").changeable().carried_by(&at(6, Form::U8)),
            switch("learning", "Learn who is at which end from packets")
                .by_itself("on")
                .changeable()
                .carried_by(&at(7, Form::U8)),
            OptionSpec::new("ageing", U32, "How long what was learnt is kept, in seconds")
                .by_itself("300")
                .changeable()
                .carried_by(&at(8, Form::U32)),
            OptionSpec::new("limit", U32, "How many addresses are learnt at most; 0 for no limit")
                .carried_by(&at(9, Form::U32)),
            MAC,
            MTU,
        ],
        rules: &[
            Rule::NotBoth("remote", "group"),
            Rule::NeedsLower("group"),
            Rule::SameFamily("local", "remote"),
            Rule::SameFamily("local", "group"),
        ],
        ..PLAIN
    },
    LinkKind {
        name: "geneve",
        kernel: "geneve",
        class: LinkClass::Overlay,
        options: &[
            OptionSpec::new("vni", VNI, "Its network")
                .letter('v')
                .required()
                .carried_by(&at(1, Form::U32)),
            OptionSpec::new("remote", HOST, "The address of the other end")
                .required()
                .carried_by(&[Attribute::info(2, Form::Ip4), Attribute::info(7, Form::Ip6)]),
            OptionSpec::new("port", PORT, "The UDP port of the other ends")
                .default("6081")
                .carried_by(&at(5, Form::Be16)),
            TTL.by_itself("0").changeable().carried_by(&at(3, Form::U8)),
            TOS.by_itself("0").changeable().carried_by(&at(4, Form::U8)),
            MAC,
            MTU,
        ],
        ..PLAIN
    },
    LinkKind {
        name: "ipip",
        alias: Some("ipv4"),
        kernel: "ipip",
        options: &[
            LOCAL.carried_by(IPTUN_LOCAL4),
            REMOTE.carried_by(IPTUN_REMOTE4).required(),
            TTL.carried_by(IPTUN_TTL),
            TOS.carried_by(IPTUN_TOS),
            MTU,
        ],
        ..TUNNEL
    },
    LinkKind {
        name: "ip6tnl",
        alias: Some("ipv6"),
        kernel: "ip6tnl",
        media: Media::IPv6,
        options: &[
            OptionSpec { value: HOST6, ..LOCAL.carried_by(&at(2, Form::Ip6)) },
            OptionSpec { value: HOST6, ..REMOTE.carried_by(&at(3, Form::Ip6)).required() },
            OptionSpec::new(
                "carries",
                ValueType::Words(&[
                    Word::new("any", 0),
                    Word::new("ipip6", 4),
                    Word::new("ip6ip6", 41),
                ]),
                "Which packets are inside: any, IPv4, or IPv6",
            )
            .default("any")
            .carried_by(&at(9, Form::U8)),
            TTL.carried_by(IPTUN_TTL),
            OptionSpec::new("encap-limit", U8, "How many tunnels may follow inside")
                .carried_by(&at(6, Form::U8)),
            MTU,
        ],
        ..TUNNEL
    },
    LinkKind {
        name: "sit",
        kernel: "sit",
        media: Media::SixToFour,
        options: &[
            LOCAL.carried_by(IPTUN_LOCAL4),
            REMOTE.carried_by(IPTUN_REMOTE4).required(),
            TTL.carried_by(IPTUN_TTL),
            TOS.carried_by(IPTUN_TOS),
            MTU,
        ],
        ..TUNNEL
    },
    // Without a remote end, the kernel finds it in each packet's 2002::/16 address.
    LinkKind {
        name: "6to4",
        kernel: "sit",
        media: Media::SixToFour,
        options: &[
            LOCAL.carried_by(IPTUN_LOCAL4).required(),
            TTL.default("64").carried_by(IPTUN_TTL),
            TOS.carried_by(IPTUN_TOS),
            MTU,
        ],
        ..TUNNEL
    },
    LinkKind { name: "gre", kernel: "gre", options: GRE_OPTIONS, ..TUNNEL },
    LinkKind {
        name: "gretap",
        kernel: "gretap",
        media: Media::Ethernet,
        options: GRE_OPTIONS,
        ..TUNNEL
    },
    LinkKind {
        name: "ip6gre",
        kernel: "ip6gre",
        media: Media::IPv6,
        options: GRE6_OPTIONS,
        ..TUNNEL
    },
    LinkKind {
        name: "ip6gretap",
        kernel: "ip6gretap",
        media: Media::Ethernet,
        options: GRE6_OPTIONS,
        ..TUNNEL
    },
    LinkKind {
        name: "vti",
        kernel: "vti",
        options: &[
            LOCAL.carried_by(&at(4, Form::Ip4)),
            REMOTE.carried_by(&at(5, Form::Ip4)).required(),
            KEY.required()
                .carried_by(&[Attribute::info(2, Form::Be32), Attribute::info(3, Form::Be32)]),
            MTU,
        ],
        ..TUNNEL
    },
    LinkKind {
        name: "vti6",
        kernel: "vti6",
        media: Media::IPv6,
        options: &[
            OptionSpec { value: HOST6, ..LOCAL.carried_by(&at(4, Form::Ip6)) },
            OptionSpec { value: HOST6, ..REMOTE.carried_by(&at(5, Form::Ip6)).required() },
            KEY.required()
                .carried_by(&[Attribute::info(2, Form::Be32), Attribute::info(3, Form::Be32)]),
            MTU,
        ],
        ..TUNNEL
    },
    // Linux has nothing that simulates a cable but a pair of veths; netdevsim's devices are made in
    // sysfs, in one namespace alone, and few kernels have them.
    LinkKind {
        name: "simnet",
        kernel: "veth",
        class: LinkClass::Simnet,
        is_pair: true,
        options: &[],
        ..PLAIN
    },
    LinkKind {
        name: "tap",
        kernel: "tun",
        class: LinkClass::Tap,
        maker: Maker::Tun,
        options: TUN_OPTIONS,
        ..PLAIN
    },
    LinkKind {
        name: "tun",
        kernel: "tun",
        class: LinkClass::Tap,
        media: Media::Other,
        address: Address::None,
        maker: Maker::Tun,
        options: TUN_OPTIONS,
        ..PLAIN
    },
];

/// The attributes are those by which the kernel tells them.
const TUN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("user", U32, "The user id that may open it").carried_by(&at(1, Form::U32)),
    OptionSpec::new("group", U32, "The group id that may open it").carried_by(&at(2, Form::U32)),
    switch("multi-queue", "Let it be opened more than once at a time").carried_by(&at(7, Form::U8)),
];

const KIND: Selector = Selector { name: "kind", letter: None };

/// Every class whose links can be made.
pub static CLASSES: &[ClassSpec] = &[
    ClassSpec {
        class: LinkClass::Vnic,
        about: "a share of another link, or of a VLAN on it (macvlan, macvtap, ipvlan, ipvtap)",
        choice: Choice::FirstUnless(KIND),
        in_list: &[],
    },
    ClassSpec {
        class: LinkClass::Veth,
        about: "a pair of links",
        choice: Choice::Only,
        in_list: &[],
    },
    ClassSpec { class: LinkClass::Bridge, about: "a bridge", choice: Choice::Only, in_list: &[] },
    ClassSpec {
        class: LinkClass::Etherstub,
        about: "a link that leads nowhere (a dummy), for others to lie over",
        choice: Choice::Only,
        in_list: &[],
    },
    ClassSpec { class: LinkClass::Vlan, about: "a VLAN", choice: Choice::Only, in_list: &[] },
    ClassSpec {
        class: LinkClass::Aggr,
        about: "an aggregation of links (a bond)",
        choice: Choice::Only,
        in_list: &[],
    },
    ClassSpec {
        class: LinkClass::Overlay,
        about: "an Ethernet over UDP (vxlan, geneve)",
        choice: Choice::FirstUnless(Selector { letter: Some('e'), ..KIND }),
        in_list: &[],
    },
    ClassSpec {
        class: LinkClass::Iptun,
        about: "a tunnel through IP",
        choice: Choice::Required(Selector { letter: Some('T'), ..KIND }),
        in_list: &["local", "remote"],
    },
    ClassSpec {
        class: LinkClass::Simnet,
        about: "a simulated cable with its two ends",
        choice: Choice::Only,
        in_list: &[],
    },
    ClassSpec {
        class: LinkClass::Tap,
        about: "a link whose other side is a program (tap, tun)",
        choice: Choice::FirstUnless(KIND),
        in_list: &[],
    },
];
