//! The durable form of what the store keeps: a version byte, a postcard body, a CRC-32 of both.
//!
//! The body is the in-memory record as serde sees it. A change of [`LinkRecord`] therefore needs a
//! new version here, with the old shape kept for reading; the fixtures of the tests notice one that
//! was forgotten.

mod v1;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{BootId, LinkRecord, ZoneRecord};

const VERSION: u8 = 2;
pub(crate) const CHECKSUM_LEN: usize = 4;

/// Most of what is written is shorter than this many bytes, and is not copied while it grows. The
/// writer keeps every record, so it is not much more.
const USUAL_LEN: usize = 128;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There are not even a version and a checksum.
    #[error("{0} bytes are too few for a record")]
    Short(usize),
    /// Some byte is not the one that was written.
    #[error("the checksum does not match")]
    Checksum,
    /// A later dlmgmtd wrote it.
    #[error("version {0} was written by a newer dlmgmtd: this one reads up to {VERSION}")]
    Newer(u8),
    /// The body does not have the shape of its version.
    #[error("the body has not the shape of version {version}: {why}")]
    Body {
        /// The version.
        version: u8,
        /// What the decoder says.
        why: String,
    },
}

/// What the store keeps beside the links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Counts the flushes that changed something: what the database holds can be told from what it
    /// should hold.
    pub commit: u64,
    /// The lowest id that was never given.
    pub next_link_id: u32,
    /// How often a daemon was started.
    pub epoch: u32,
    /// The boot of the last write.
    pub boot: Option<BootId>,
}

impl Default for Meta {
    fn default() -> Self {
        Self { commit: 0, next_link_id: 1, epoch: 0, boot: None }
    }
}

/// The durable form of a link.
pub fn encode_link(link: &LinkRecord) -> Result<Vec<u8>, CodecError> {
    encode(link)
}

/// The link of this durable form.
pub fn decode_link(bytes: &[u8]) -> Result<LinkRecord, CodecError> {
    match open(bytes)? {
        (1, body) => decode_body(1, body).map(|old: v1::LinkV1| old.into()),
        (2, body) => decode_body(2, body),
        (version, _) => Err(CodecError::Newer(version)),
    }
}

/// The durable form of a zone.
pub fn encode_zone(zone: &ZoneRecord) -> Result<Vec<u8>, CodecError> {
    encode(zone)
}

/// The zone of this durable form.
pub fn decode_zone(bytes: &[u8]) -> Result<ZoneRecord, CodecError> {
    match open(bytes)? {
        (version @ 1..=VERSION, body) => decode_body(version, body),
        (version, _) => Err(CodecError::Newer(version)),
    }
}

/// The durable form of what is kept beside the links.
pub fn encode_meta(meta: &Meta) -> Result<Vec<u8>, CodecError> {
    encode(meta)
}

/// What is kept beside the links, from its durable form.
pub fn decode_meta(bytes: &[u8]) -> Result<Meta, CodecError> {
    match open(bytes)? {
        (version @ 1..=VERSION, body) => decode_body(version, body),
        (version, _) => Err(CodecError::Newer(version)),
    }
}

/// The durable form of an entry of the journal, whose shape is the journal's business.
pub fn encode_entry(entry: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    encode(entry)
}

/// The entry of this durable form.
pub fn decode_entry<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match open(bytes)? {
        (version @ 1..=VERSION, body) => decode_body(version, body),
        (version, _) => Err(CodecError::Newer(version)),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bad = |why: postcard::Error| CodecError::Body { version: VERSION, why: why.to_string() };
    let mut bytes = Vec::with_capacity(USUAL_LEN);
    bytes.push(VERSION);
    let mut bytes = postcard::to_extend(value, bytes).map_err(bad)?;
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

fn open(bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    let (sealed, checksum) =
        bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(CodecError::Short(bytes.len()))?;
    let (version, body) = sealed.split_first().ok_or(CodecError::Short(bytes.len()))?;
    if crc32fast::hash(sealed) == u32::from_le_bytes(*checksum) {
        Ok((*version, body))
    } else {
        Err(CodecError::Checksum)
    }
}

fn decode_body<T: DeserializeOwned>(version: u8, body: &[u8]) -> Result<T, CodecError> {
    let bad = |why: String| CodecError::Body { version, why };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(bad(format!("{} bytes too many", rest.len()))),
        Err(why) => Err(bad(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::model::{
        Anchor, AttachedBy, Attachment, Binding, Lifetime, LinkProperties, Loan, Location,
        NsCookie, Origin, PhysIdentity, Recipe, Settings,
    };
    use dlmgmt_proto::kind::{LinkKind, LinkOptions};
    use dlmgmt_proto::property::{Property, Value};
    use dlmgmt_proto::{
        DevicePath, Generation, HwAddr, IfIndex, LinkClass, LinkId, LinkName, Media, ZoneId,
        ZoneName,
    };

    fn link() -> LinkRecord {
        let mac = HwAddr::new(&[2, 0, 0, 0, 0, 7]).unwrap();
        LinkRecord {
            id: LinkId::new(300).unwrap(),
            name: LinkName::given("net0").unwrap(),
            owner: ZoneId::GLOBAL,
            location: Location::OnLoan(Loan {
                zone: ZoneId(5),
                name_inside: LinkName::given("up0").unwrap(),
                is_persistent: true,
                left: Some(settings(&[
                    (Property::Mtu, Value::Number(1500)),
                    (Property::State, Value::Switch(true)),
                    (Property::Mac, Value::Mac(mac)),
                    (Property::Alias, Value::Text("up".to_owned())),
                    (Property::AltNames, Value::Names(vec![b"alt".to_vec()])),
                    (Property::TxQueueLen, Value::Number(1000)),
                    (Property::Promisc, Value::Switch(false)),
                    (Property::AllMulti, Value::Switch(false)),
                ])),
            }),
            class: LinkClass::Phys,
            kind: Some("dummy".to_owned()),
            media: Media::Ethernet,
            lifetime: Lifetime::Persistent,
            origin: Origin::Own,
            phys: Some(PhysIdentity {
                mac: Some(mac),
                path: Some(DevicePath("pci-0000:00:03.0".to_owned())),
            }),
            anchor: Some(Anchor {
                at: Binding { ns: NsCookie(4096), ifindex: IfIndex::new(2).unwrap() },
                mac: None,
            }),
            recipe: Some(Recipe {
                over: LinkId::new(3),
                ..recipe("macvlan", &[("mode", "bridge")])
            }),
            unsettled: true,
            generation: Generation(9),
            properties: LinkProperties {
                persistent: settings(&[(Property::Mtu, Value::Number(9000))]),
                temporary: settings(&[(Property::Promisc, Value::Switch(true))]),
                found: settings(&[(Property::Mtu, Value::Number(1500))]),
                options: [("mode".to_owned(), "vepa".to_owned())].into(),
            },
        }
    }

    fn settings(values: &[(Property, Value)]) -> Settings {
        values.iter().cloned().collect()
    }

    fn recipe(kind: &str, options: &[(&str, &str)]) -> Recipe {
        let kind = LinkKind::named(kind).unwrap();
        Recipe::new(&LinkOptions::parse(kind, options.iter().copied(), true).unwrap())
    }

    fn meta() -> Meta {
        Meta { commit: 1000, next_link_id: 301, epoch: 4, boot: Some(BootId("b-1".to_owned())) }
    }

    fn zone() -> ZoneRecord {
        let by = AttachedBy::Process(77);
        ZoneRecord {
            id: ZoneId(5),
            name: ZoneName::new("web").unwrap(),
            attached: Some(Attachment { ns: NsCookie(4097), by }),
        }
    }

    fn home(name: &str, recipe: Option<Recipe>, lifetime: Lifetime, origin: Origin) -> LinkRecord {
        LinkRecord {
            name: LinkName::given(name).unwrap(),
            location: Location::Home,
            class: LinkClass::Veth,
            phys: None,
            recipe,
            lifetime,
            origin,
            unsettled: false,
            properties: LinkProperties::default(),
            ..link()
        }
    }

    /// Records that have every shape which a record can have, in their durable form and under the
    /// names of their fixtures.
    fn canonical() -> Vec<(String, Vec<u8>)> {
        let (own, foreign) = (Origin::Own, Origin::Foreign);
        let pair = Some(Recipe { peer: LinkId::new(301), ..recipe("veth", &[]) });
        let ports = [7, 300].into_iter().filter_map(LinkId::new).collect();
        let bridge = Some(Recipe { ports, ..recipe("bridge", &[("protect", "stp")]) });
        let links = [
            ("lent", link()),
            ("pair", home("v0", pair.clone(), Lifetime::Persistent, own)),
            ("ports", home("br0", bridge, Lifetime::Persistent, own)),
            ("temporary", home("v1", pair, Lifetime::Temporary, own)),
            ("transient", home("v2", None, Lifetime::Transient, own)),
            ("foreign", home("v3", None, Lifetime::Temporary, foreign)),
        ];
        let by_path = Attachment { ns: NsCookie(9), by: AttachedBy::Path("/run/x".to_owned()) };
        let zones = [
            ("process", zone()),
            ("path", ZoneRecord { attached: Some(by_path), ..zone() }),
            ("found", ZoneRecord { attached: None, ..zone() }),
        ];
        let metas = [("boot", meta()), ("fresh", Meta::default())];
        let link = links.map(|(name, link)| (format!("link-{name}"), encode_link(&link).unwrap()));
        let zone = zones.map(|(name, zone)| (format!("zone-{name}"), encode_zone(&zone).unwrap()));
        let meta = metas.map(|(name, meta)| (format!("meta-{name}"), encode_meta(&meta).unwrap()));
        link.into_iter().chain(zone).chain(meta).collect()
    }

    /// Bytes that were once written to disks, a file for each record and version. They never
    /// change, and none is ever removed.
    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records")
    }

    fn fixture(name: &str, version: u8) -> PathBuf {
        fixtures().join(format!("{name}.v{version}"))
    }

    /// A failure here means that a new version is due, not new bytes.
    #[test]
    fn what_is_written_now_is_what_the_newest_fixtures_say() {
        for (name, bytes) in canonical() {
            let path = fixture(&name, VERSION);
            assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
        }
    }

    #[test]
    fn records_of_every_version_are_read() {
        let mut versions = BTreeSet::new();
        for entry in fs::read_dir(fixtures()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (record, version) = name.rsplit_once(".v").unwrap();
            let bytes = fs::read(fixture(record, version.parse().unwrap())).unwrap();
            assert_eq!(bytes[0].to_string(), version, "{name}");
            let found = match record.split_once('-').unwrap().0 {
                "link" => decode_link(&bytes).map(drop),
                "zone" => decode_zone(&bytes).map(drop),
                "meta" => decode_meta(&bytes).map(drop),
                other => panic!("no record is a {other}"),
            };
            assert_eq!(found, Ok(()), "{name}");
            versions.insert(bytes[0]);
        }
        assert!(versions.into_iter().eq(1..=VERSION));
    }

    /// For whoever raises [`VERSION`]: `cargo test -p dlmgmtd writes_the_fixtures -- --ignored`.
    #[test]
    #[ignore = "writes into the source tree"]
    fn writes_the_fixtures() {
        for (name, bytes) in canonical() {
            let path = fixture(&name, VERSION);
            if !path.exists() {
                fs::write(path, bytes).unwrap();
            }
        }
    }

    #[test]
    fn a_macvlan_and_a_pair_of_earlier_versions_are_made_as_ever() {
        for version in 1..=VERSION {
            let read = |name: &str| {
                decode_link(&fs::read(fixture(name, version)).unwrap()).unwrap().recipe
            };
            assert_eq!(read("link-lent"), link().recipe, "version {version}");
            let pair = Recipe { peer: LinkId::new(301), ..recipe("veth", &[]) };
            assert_eq!(read("link-pair"), Some(pair), "version {version}");
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        assert_eq!(decode_link(&encode_link(&link()).unwrap()), Ok(link()));
        assert_eq!(decode_meta(&encode_meta(&meta()).unwrap()), Ok(meta()));
        assert_eq!(decode_zone(&encode_zone(&zone()).unwrap()), Ok(zone()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = encode_link(&link()).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_link(&bad), Err(CodecError::Checksum), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(decode_link(&good[..len]).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_told_as_such() {
        let mut bytes = encode_link(&link()).unwrap();
        bytes[0] = VERSION + 1;
        let sealed = bytes.len() - CHECKSUM_LEN;
        let checksum = crc32fast::hash(&bytes[..sealed]);
        bytes[sealed..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode_link(&bytes), Err(CodecError::Newer(VERSION + 1)));
    }
}
