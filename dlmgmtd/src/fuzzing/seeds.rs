//! Where the seed corpora come from.

use dlmgmt_proto::door::{HEADER_LEN, Kind, split};

use crate::store::codec;

const VECTORS: &str = include_str!("../../../proto/tests/vectors.txt");

type Seed = (&'static str, String, Vec<u8>);

pub fn all() -> Vec<Seed> {
    packets()
        .into_iter()
        .chain(conversation())
        .chain(records())
        .chain(datagrams())
        .chain(imports())
        .chain(bus_calls())
        .collect()
}

fn vectors() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    VECTORS.lines().map(|line| {
        let (name, hex) = line.split_once(' ').unwrap();
        let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        (name, digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
    })
}

fn packets() -> Vec<Seed> {
    vectors().map(|(name, bytes)| ("codec", name.to_owned(), bytes)).collect()
}

/// As the door's target reads it: a length, what travels with it, the packet.
fn framed(packet: &[u8], with: u8) -> Vec<u8> {
    let len = u16::try_from(packet.len()).unwrap().to_le_bytes();
    [&len[..], &[with], packet].concat()
}

fn conversation() -> Vec<Seed> {
    let calls = || {
        vectors()
            .filter(|(_, packet)| split(packet).is_ok_and(|(header, _)| header.kind == Kind::Call))
    };
    let mut seeds: Vec<Seed> = calls()
        .map(|(name, packet)| {
            let with =
                u8::from(name.starts_with("attach")) | u8::from(name.starts_with("import")) << 3;
            ("door", name.to_owned(), [&[0][..], &framed(&packet, with)].concat())
        })
        .collect();
    let all = calls().take(20).flat_map(|(_, packet)| framed(&packet, 0));
    seeds.push(("door", "many".to_owned(), std::iter::once(0).chain(all).collect()));
    let cut = calls().next().map(|(_, packet)| framed(&packet[..HEADER_LEN], 2)).unwrap();
    seeds.push(("door", "cut".to_owned(), [&[1][..], &cut].concat()));
    seeds.push((
        "door",
        "alien".to_owned(),
        [&[0][..], &framed(b"GET / HTTP/1.1\r\n", 7)].concat(),
    ));
    seeds
}

/// Records as they are on disks, and without their checksums.
fn records() -> Vec<Seed> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
    let mut seeds: Vec<Seed> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            let body = bytes[..bytes.len() - codec::CHECKSUM_LEN].to_vec();
            ("records", entry.file_name().into_string().unwrap(), body)
        })
        .collect();
    let journal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal.v1");
    let journal = std::fs::read(journal).unwrap();
    let entry = journal[4..journal.len() - codec::CHECKSUM_LEN].to_vec();
    seeds.push(("records", "journal-entry".to_owned(), entry));
    seeds.push(("records", "journal".to_owned(), journal));
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state/snapshot.json");
    let text = std::fs::read_to_string(snapshot).unwrap();
    let body = &text[..text.trim_end().rfind('\n').unwrap() + 1];
    seeds.push(("records", "snapshot".to_owned(), body.as_bytes().to_vec()));
    seeds
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message of a kind, answering request 7.
fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + payload.len()).unwrap();
    let header = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
    let mut bytes = [&header[..], &7_u32.to_ne_bytes(), &[0; 4], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let header = [0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    message(kind, 0, &[&header[..], &attributes.concat()].concat())
}

fn datagrams() -> Vec<Seed> {
    let card = link_message(
        16,
        &[
            attribute(3, b"eth0\0"),
            attribute(1, &[2, 0, 0, 0, 0, 1]),
            attribute(54, &[2, 0, 0, 0, 0, 1]),
            attribute(4, &1500_u32.to_ne_bytes()),
            attribute(16, &[6]),
            attribute(52 | 0x8000, &attribute(53, b"enp0s3\0")),
            attribute(56, b"0000:00:03.0\0"),
            attribute(57, b"pci\0"),
        ],
    );
    let info = attribute(1, b"macvlan\0");
    let upper = [
        attribute(3, b"mv0\0"),
        attribute(18, &info),
        attribute(5, &2_u32.to_ne_bytes()),
        attribute(37, &0_u32.to_ne_bytes()),
    ];
    let away = [attribute(45, &1_u32.to_ne_bytes()), attribute(49, &9_u32.to_ne_bytes())];
    let text = attribute(1, b"no such device\0");
    let refused = [&(-19_i32).to_ne_bytes()[..], &[0; 16], &text].concat();
    let address = [&[2, 24, 0, 0, 1, 0, 0, 0][..], &attribute(1, &[10, 0, 0, 1])].concat();
    let messages = [
        ("card", card.clone()),
        ("upper", link_message(16, &upper)),
        ("moved", link_message(17, &away)),
        ("many", [card, link_message(17, &upper)].concat()),
        ("namespace-ended", message(89, 0, &[&[0; 4][..], &attribute(1, &[1, 0, 0, 0])].concat())),
        ("refused", message(2, 0x200, &refused)),
        ("done", message(3, 0x10, &[0; 4])),
        ("address", message(20, 0, &address)),
    ];
    let with_request = |bytes: Vec<u8>| [&7_u32.to_ne_bytes()[..], &bytes].concat();
    messages.map(|(name, bytes)| ("netlink", name.to_owned(), with_request(bytes))).into()
}

fn imports() -> Vec<Seed> {
    let entry = |linkid: u32, link: &str, card: u8| {
        format!(
            r#"{{"linkid":{linkid},"link":"{link}","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:{card:02x}","path":"pci-0000:00:{card:02x}.0"}}"#
        )
    };
    let document = |links: &[String]| format!(r#"{{"format":1,"links":[{}]}}"#, links.join(","));
    let everything = concat!(
        r#"{"format":2,"zones":[{"zoneid":7,"zone":"web"}],"links":["#,
        r#"{"linkid":4,"link":"lan","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:09","#,
        r#""path":"pci-0000:00:09.0","loan":{"zone":"web","name":"up0"}},"#,
        r#"{"linkid":6,"link":"v0","class":"veth","media":"Ethernet","peer":5},"#,
        r#"{"linkid":5,"link":"p0","class":"veth","media":"Ethernet","peer":6},"#,
        r#"{"linkid":8,"link":"vn0","class":"vnic","media":"Ethernet","over":"eth0"},"#,
        r#"{"linkid":9,"link":"vn1","class":"vnic","media":"Ethernet","over":8,"mode":"Bridge"}]}"#,
    );
    let seeds = [
        ("format-2", everything.to_owned()),
        ("format-1", document(&[entry(9, "lan", 9)])),
        ("format-1-known", document(&[entry(1, "lan", 1), entry(2, "wan", 2)])),
        ("format-1-swap", document(&[entry(1, "eth1", 1), entry(2, "eth0", 2)])),
    ];
    seeds.map(|(name, text)| ("import", name.to_owned(), text.into_bytes())).into()
}

/// A call of a method by its name, with this body, as the bus's target reads it.
fn bus_call(path: &str, method: &str, body: &(impl serde::Serialize + zbus::DynamicType)) -> Seed {
    let at = super::dbus::PATHS.iter().position(|known| *known == path).unwrap();
    let methods = crate::dbus::methods_at(path);
    let which = methods.iter().position(|(_, name, _)| *name == method).unwrap();
    let message = zbus::Message::method_call("/", method).build(body).unwrap();
    let body = message.body();
    let body = body.data().bytes();
    let len = u16::try_from(body.len()).unwrap().to_le_bytes();
    let bytes = [&[at as u8, which as u8, 0], &len[..], body].concat();
    ("dbus", method.to_lowercase(), bytes)
}

fn bus_calls() -> Vec<Seed> {
    use std::collections::HashMap;
    use zbus::Variant;
    let (manager, link) = ("/org/dlmgmt1", "/org/dlmgmt1/link/_1");
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    let lend = HashMap::from([("temporary", Variant::from(true)), ("name-inside", "up0".into())]);
    let view = HashMap::from([("view", Variant::from("all")), ("max", 2_u32.into())]);
    let pair = HashMap::from([("peer", Variant::from("p0")), ("temporary", true.into())]);
    let vnic = HashMap::from([("over", Variant::from("net1")), ("mode", "bridge".into())]);
    let seeds = [
        bus_call(manager, "GetLink", &"net1"),
        bus_call(manager, "ListLinks", &view),
        bus_call(manager, "Rename", &vec![("net1", "lan"), ("net2", "wan")]),
        bus_call(manager, "SetZone", &("net1", "web", lend)),
        bus_call(manager, "CreateLink", &("veth", "v0", pair)),
        bus_call(manager, "CreateLink", &("vnic", "v0", vnic)),
        bus_call(manager, "EventsSince", &0_u64),
        bus_call(manager, "TakePart", &()),
        bus_call(manager, "GetManagedObjects", &()),
        bus_call(link, "Rename", &"lan"),
        bus_call(link, "Hold", &()),
        bus_call(link, "ResetZone", &none),
        bus_call(link, "GetAll", &"org.dlmgmt1.Link"),
        bus_call("/org/dlmgmt1/zone/_0", "Detach", &()),
        bus_call(
            "/org/freedesktop/LogControl1",
            "Set",
            &("org.freedesktop.LogControl1", "LogLevel", Variant::from("debug")),
        ),
    ];
    let named = seeds.into_iter().enumerate();
    named.map(|(n, (target, name, bytes))| (target, format!("{n}-{name}"), bytes)).collect()
}
