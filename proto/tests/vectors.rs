//! The test vectors of `docs/door.md`: what every packet is, byte by byte.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;

use dlmgmt_proto::door::{
    Acknowledge, Acknowledged, AttachZone, Call, ChangePorts, Changed, Command, CreateLink,
    Created, DeleteLink, DeletePhys, DetachZone, Details, Export, Exported, GetAttribute,
    GetDetails, GetLink, GetLinkId, GetName, GetNext, Hello, HelloReply, Hold, HoldId, Import,
    Kind, LinkFilter, LinkOption, List, ListCursor, ListProperties, ListZones, MakeLink, Named,
    NextLink, Page, Peer, Properties, Reclaim, Release, Released, Rename, RenameItem,
    ResetProperties, ResetZone, SetProperties, SetZone, Subscribe, Subscribed, Unsubscribe,
    Unsubscribed, View, Where, Zones, decode_body, encode, split,
};
use dlmgmt_proto::property::{Assignment, PropertyInfo};
use dlmgmt_proto::{
    DevicePath, Duplex, Error, ErrorCode, Event, Fact, FactValue, Flags, Generation, HwAddr,
    IfIndex, LinkClass, LinkDetails, LinkId, LinkInfo, LinkName, LinkRef, LinkSpec, LinkState,
    LowerLink, MacvlanMode, Media, Seq, SequencedEvent, Topic, Whereabouts, ZoneId, ZoneInfo,
    ZoneName, ZoneState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const VECTORS: &str = include_str!("vectors.txt");
const DOCUMENT: &str = include_str!("../../docs/door.md");

/// Checks packets against the lines of the file, `NAME HEX`, one after the other.
struct Lines(std::str::Lines<'static>);

impl Lines {
    fn check<T>(&mut self, name: &str, kind: Kind, command: u16, body: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let serial = 7;
        let packet = encode(kind, command, serial, body).unwrap();
        assert_eq!(self.0.next(), Some(&*format!("{name} {}", hex(&packet))));
        let (header, found) = split(&packet).unwrap();
        assert_eq!((header.kind, header.command, header.serial), (kind, command, serial));
        assert_eq!(&decode_body::<T>(command, found).unwrap(), body);
    }

    fn call<C>(&mut self, name: &str, call: C)
    where
        C: Command + PartialEq + Debug + Clone + Into<Call>,
    {
        self.check(&format!("{name}.call"), Kind::Call, C::NUMBER, &call);
        let packet = encode(Kind::Call, C::NUMBER, 7, &call).unwrap();
        let body = split(&packet).unwrap().1;
        assert_eq!(Call::decode(C::NUMBER, body), Ok(call.into()), "{name}");
    }

    fn both<C>(&mut self, call: C, reply: &C::Reply)
    where
        C: Command + PartialEq + Debug + Clone + Into<Call>,
        C::Reply: PartialEq + Debug,
    {
        self.call(C::NAME, call);
        self.check(&format!("{}.reply", C::NAME), Kind::Reply, C::NUMBER, reply);
    }

    fn event(&mut self, event: Event) {
        let name = format!("event.{}", event.kind().as_str());
        let body = SequencedEvent { seq: Seq(1 << 32), event };
        self.check(&name, Kind::Event, Subscribe::NUMBER, &body);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(number: u32) -> LinkId {
    LinkId::new(number).unwrap()
}

fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

fn zone(text: &str) -> ZoneName {
    ZoneName::new(text).unwrap()
}

/// A link of which everything is known.
fn full() -> LinkInfo {
    LinkInfo {
        id: id(300),
        name: name("net0"),
        class: LinkClass::Vlan,
        kind: Some("vlan".to_owned()),
        media: Media::Ethernet,
        flags: Flags::ACTIVE | Flags::PERSISTENT | Flags::HELD | Flags::CONFLICT,
        state: LinkState::Up,
        mtu: Some(1500),
        ifindex: IfIndex::new(2),
        zone: zone("web"),
        owner: zone("global"),
        mac: Some(HwAddr::new(&[2, 0, 0, 0xab, 0xcd, 0xef]).unwrap()),
        permanent_mac: Some(HwAddr::new(&[2, 0, 0, 0, 0, 1]).unwrap()),
        path: Some(DevicePath("pci-0000:00:03.0".to_owned())),
        device: Some(name("eth0")),
        over: vec![
            LowerLink { name: name("net1"), zone: Some(zone("global")) },
            LowerLink { name: name("net2"), zone: None },
        ],
        speed: Some(10_000),
        duplex: Some(Duplex::Full),
        generation: Generation(3),
    }
}

/// A link of which as little is known as may be.
fn bare() -> LinkInfo {
    LinkInfo {
        id: id(1),
        name: LinkName::found(b"\xffx").unwrap(),
        class: LinkClass::Phys,
        kind: None,
        media: Media::Other,
        flags: Flags::PERSISTENT | Flags::REMOVED,
        state: LinkState::Unknown,
        mtu: None,
        ifindex: None,
        zone: zone("global"),
        owner: zone("global"),
        mac: None,
        permanent_mac: None,
        path: None,
        device: None,
        over: Vec::new(),
        speed: None,
        duplex: None,
        generation: Generation(0),
    }
}

/// A zone of which everything is known.
fn full_zone() -> ZoneInfo {
    ZoneInfo {
        id: ZoneId(300),
        name: zone("web"),
        state: ZoneState::ShuttingDown,
        links: 2,
        pid: Some(1000),
        netns: Some("/run/netns/web".to_owned()),
    }
}

/// A zone of which as little is known as may be.
fn bare_zone() -> ZoneInfo {
    let (id, name, state) = (ZoneId(1), zone("db"), ZoneState::Down);
    ZoneInfo { id, name, state, links: 0, pid: None, netns: None }
}

fn check_reads(lines: &mut Lines) {
    let hello = Hello { oldest: 1, newest: 1, client: "dladm".to_owned() };
    let greeting = HelloReply {
        version: 1,
        daemon: "0.1.0".to_owned(),
        zone: Some(zone("global")),
        seq: Seq(1 << 32),
    };
    lines.both(hello, &greeting);
    lines.both(GetLinkId { link: LinkRef::Name(name("net0")) }, &id(300));
    let in_zone = LinkRef::InZone(zone("web"), name("net0"));
    lines.call("get-linkid.in-zone", GetLinkId { link: in_zone });
    lines.call("get-linkid.by-id", GetLinkId { link: LinkRef::Id(id(300)) });
    lines.both(GetName { id: id(300) }, &Named { zone: zone("web"), name: name("net0") });
    lines.both(GetLink { link: LinkRef::Id(id(300)) }, &full());
    let all = LinkFilter { view: View::All, all_zones: true, ..LinkFilter::default() };
    lines.both(GetNext { after: Some(id(1)), filter: all }, &NextLink { link: None });
    let attribute = "mtu".to_owned();
    let link = LinkRef::Name(name("net0"));
    lines.both(GetAttribute { link, attribute }, &"1500".to_owned());
    let some = LinkFilter {
        view: View::Persistent,
        classes: vec![LinkClass::Phys, LinkClass::Vlan],
        zone: Some(zone("web")),
        all_zones: false,
    };
    let cursor = ListCursor { seq: Seq(1 << 32), after: id(300) };
    let page = Page { seq: Seq(1 << 32), links: vec![bare()], next: Some(cursor) };
    lines.both(List { filter: some.clone(), cursor: None }, &page);
    lines.call("list.next", List { filter: some, cursor: Some(cursor) });
    let topics = vec![Topic::Statistics, Topic::Kind];
    let fact = |name: &str, value| Fact { name: name.to_owned(), value };
    let facts = vec![
        fact("ipackets", FactValue::Number(300)),
        fact("protocol", FactValue::Text("802.1Q".to_owned())),
        fact("gvrp", FactValue::Flag(true)),
    ];
    let details = Details { links: vec![LinkDetails { id: id(300), facts }] };
    lines.both(GetDetails { links: vec![id(300), id(1)], topics }, &details);
}

fn check_changes(lines: &mut Lines) {
    let changed = Changed { seq: Seq((1 << 32) + 1) };
    let item = |link: &str, to: &str| RenameItem { link: LinkRef::Name(name(link)), to: to.into() };
    lines.both(Rename { items: vec![item("a", "b"), item("b", "a")] }, &changed);
    lines.both(DeletePhys { link: LinkRef::Id(id(1)) }, &changed);
    lines.both(Hold { link: LinkRef::Name(name("net0")) }, &HoldId(1));
    lines.both(Release { hold: HoldId(1) }, &Released {});
    let from_now = Subscribe { snapshot: true, since: None, participant: false };
    lines.both(from_now, &Subscribed { seq: Seq(1 << 32) });
    let since = Subscribe { snapshot: false, since: Some(Seq(1 << 32)), participant: true };
    lines.call("subscribe.since", since);
    lines.both(Unsubscribe { serial: 7 }, &Unsubscribed {});
    lines.both(Acknowledge { serial: 7, zone: ZoneId(300) }, &Acknowledged {});
    lines.both(Export {}, &Exported { len: 1000 });
    lines.both(Import {}, &changed);
}

fn check_links_in_zones(lines: &mut Lines) {
    let changed = Changed { seq: Seq((1 << 32) + 1) };
    let net0 = || LinkRef::Name(name("net0"));
    let lend = SetZone {
        link: net0(),
        zone: zone("web"),
        name_inside: Some("eth0".to_owned()),
        temporary: true,
        force: false,
        generation: Some(Generation(3)),
    };
    lines.both(lend, &changed);
    let back = ResetZone { link: net0(), temporary: false, force: true, generation: None };
    lines.both(back, &changed);
    let create = |zone, spec| CreateLink { name: "v0".to_owned(), zone, temporary: true, spec };
    let veth = LinkSpec::Veth { peer: "p0".to_owned(), peer_zone: None };
    let pair = Created { id: id(300), peer: Some(id(301)), seq: Seq((1 << 32) + 1) };
    lines.both(create(Some(zone("web")), veth), &pair);
    let mac = HwAddr::new(&[2, 0, 0, 0, 0, 1]).ok();
    let vnic = LinkSpec::Vnic { over: net0(), mac, mode: MacvlanMode::Passthru };
    lines.call("create-link.vnic", create(None, vnic));
    let bridge = MakeLink {
        name: "br0".to_owned(),
        kind: "bridge".to_owned(),
        ports: vec![net0(), LinkRef::Id(id(300))],
        options: vec![LinkOption::new("protect", "stp")],
        ..MakeLink::default()
    };
    lines.both(bridge, &Created { peer: None, ..pair });
    let peer = Some(Peer { name: "p0".to_owned(), zone: Some(zone("web")) });
    let simnet =
        MakeLink { name: "v0".to_owned(), kind: "simnet".to_owned(), peer, ..MakeLink::default() };
    lines.call("make-link.pair", simnet);
    let vlan = MakeLink {
        name: "v7".to_owned(),
        zone: Some(zone("web")),
        temporary: true,
        kind: "vlan".to_owned(),
        over: Some(net0()),
        options: vec![LinkOption::new("vid", 7), LinkOption::new("protocol", "802.1ad")],
        ..MakeLink::default()
    };
    lines.call("make-link.over", vlan);
    let ports = ChangePorts {
        link: net0(),
        class: LinkClass::Bridge,
        add: vec![LinkRef::Id(id(300))],
        remove: Vec::new(),
    };
    lines.both(ports, &changed);
    lines.both(DeleteLink { link: net0(), class: LinkClass::Veth }, &changed);
    lines.both(Reclaim { link: net0() }, &changed);
    let whereabouts = Whereabouts {
        link: bare(),
        own_name: name("net0"),
        zone: Some(zone("web")),
        nsid: Some(-1),
        pid: Some(1000),
        assigned: None,
    };
    lines.both(Where { link: net0() }, &whereabouts);
}

fn check_zones(lines: &mut Lines) {
    let changed = Changed { seq: Seq((1 << 32) + 1) };
    let page = Zones { zones: vec![bare_zone(), full_zone()], next: Some(ZoneId(300)) };
    lines.both(ListZones { after: None }, &page);
    lines.call("list-zones.next", ListZones { after: Some(ZoneId(300)) });
    let path = Some("/run/netns/web".to_owned());
    lines.both(AttachZone { zone: zone("web"), pid: Some(1000), path }, &changed);
    lines.both(DetachZone { zone: zone("web") }, &changed);
}

fn check_properties(lines: &mut Lines) {
    let changed = Changed { seq: Seq((1 << 32) + 1) };
    let net0 = || LinkRef::Name(name("net0"));
    let some = |text: &str| Some(text.to_owned());
    let mtu = PropertyInfo {
        name: "mtu".to_owned(),
        is_writable: true,
        value: some("9000"),
        effective: some("1500"),
        default: None,
        possible: some("68-9000"),
    };
    let asked = ListProperties { link: net0(), names: vec!["mtu".to_owned()] };
    lines.both(asked, &Properties { properties: vec![mtu] });
    let value = |of: &str, is: &str| Assignment { property: of.to_owned(), value: is.to_owned() };
    let values = vec![value("mtu", "9000"), value("alias", "up")];
    lines.both(SetProperties { link: net0(), values, temporary: true }, &changed);
    let names = vec!["mtu".to_owned()];
    lines.both(ResetProperties { link: net0(), names, temporary: false }, &changed);
}

fn check_errors(lines: &mut Lines) {
    let busy = Error::new(ErrorCode::Busy, "net0 is held");
    lines.check("error.busy", Kind::Error, Rename::NUMBER, &busy);
    let kernel = Error::kernel(16, "Device or resource busy");
    lines.check("error.kernel", Kind::Error, Rename::NUMBER, &kernel);
}

fn check_events(lines: &mut Lines) {
    let (name, global) = (name("net0"), zone("global"));
    lines.event(Event::Snapshot(bare()));
    lines.event(Event::SnapshotEnd);
    lines.event(Event::Added(bare()));
    lines.event(Event::Renamed { from: name, link: bare() });
    lines.event(Event::Moved { from: zone("web"), link: bare() });
    lines.event(Event::Changed(bare()));
    let state = LinkState::Down;
    lines.event(Event::State { id: id(300), name, zone: global.clone(), state });
    lines.event(Event::Removed(bare()));
    lines.event(Event::Gone { id: id(300), name, zone: global });
    lines.event(Event::Lost { count: 5, went_down: vec![id(1), id(300)] });
    lines.event(Event::Resync);
    lines.event(Event::ZoneReady(bare_zone()));
    lines.event(Event::ZoneShuttingDown(full_zone()));
    lines.event(Event::ZoneGone { id: ZoneId(300), name: zone("web") });
    lines.event(Event::HoldBroken { id: id(300), name, zone: zone("web") });
    lines.event(Event::Detaching { id: id(300), name, zone: zone("web") });
}

#[test]
fn every_packet_is_the_bytes_that_the_vectors_say() {
    let mut lines = Lines(VECTORS.lines());
    check_reads(&mut lines);
    check_changes(&mut lines);
    check_links_in_zones(&mut lines);
    check_zones(&mut lines);
    check_properties(&mut lines);
    check_errors(&mut lines);
    check_events(&mut lines);
    assert_eq!(lines.0.next(), None, "the file has vectors that nothing checks");
}

#[test]
fn the_document_has_every_vector() {
    for vector in VECTORS.lines() {
        assert!(DOCUMENT.lines().any(|line| line == vector), "not in docs/door.md: {vector}");
    }
}

#[test]
fn the_document_has_every_error_code_and_every_word_with_its_number() {
    for code in ErrorCode::ALL {
        let row = format!("| {} | `{code}` | {} |", u16::from(*code), code.errno());
        assert!(DOCUMENT.contains(&row), "not in docs/door.md: {row}");
    }
    let words = |all: Vec<&str>| -> String {
        let numbered = all.iter().enumerate().map(|(number, word)| format!("{number} `{word}`"));
        numbered.collect::<Vec<_>>().join(", ")
    };
    for row in [
        words(LinkClass::ALL.iter().map(|value| value.as_str()).collect()),
        words(Media::ALL.iter().map(|value| value.as_str()).collect()),
        words(LinkState::ALL.iter().map(|value| value.as_str()).collect()),
        words(ZoneState::ALL.iter().map(|value| value.as_str()).collect()),
        words(Duplex::ALL.iter().map(|value| value.as_str()).collect()),
    ] {
        assert!(DOCUMENT.contains(&row), "not in docs/door.md: {row}");
    }
}
