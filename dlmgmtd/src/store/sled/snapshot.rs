//! A plain export beside the database, from which the store is restored when that is damaged.
//!
//! JSON lines: a head with the zones, then one line per link, then a checksum of everything before it. A record
//! is there in its durable form, in hexadecimal; its name stands beside it only for people.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dlmgmt_proto::LinkId;
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::model::ZoneRecord;
use crate::store::codec::{Meta, decode_link, decode_zone, encode_zone};

const FORMAT: u32 = 1;

/// Ids are reserved in blocks: a snapshot need not be written again for each new link.
const ID_BLOCK: u32 = 4096;

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    meta: Meta,
    links: usize,
    zones: Vec<ZoneRecord>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: LinkId,
    name: String,
    record: String,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    crc32: u32,
}

/// What a snapshot says was given already. A restored store goes on from there, so nothing that
/// the lost one gave after the snapshot is given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    next_link_id: u32,
    epoch: u32,
}

impl Reserve {
    /// What the snapshot of `meta` says.
    pub fn said_by(meta: &Meta) -> Self {
        Self { next_link_id: meta.next_link_id, epoch: meta.epoch }
    }

    /// Whether ids below `next_link_id` may be given while this is what the snapshot says.
    pub fn covers_ids(&self, next_link_id: u32) -> bool {
        next_link_id <= self.next_link_id
    }

    /// Enough for a store at `meta`, and for some ids to come.
    pub fn ahead_of(meta: &Meta) -> Self {
        Self { next_link_id: meta.next_link_id.saturating_add(ID_BLOCK), epoch: meta.epoch }
    }

    /// The most that a snapshot can have said that is lost, when the database is at `meta`: there
    /// was none before the first commit.
    pub fn of_lost_snapshot(meta: &Meta) -> Self {
        if meta.commit == 0 { Self::default() } else { Self::ahead_of(meta) }
    }

    /// Meta with nothing lower than this.
    pub fn raise(&self, meta: Meta) -> Meta {
        Meta {
            next_link_id: meta.next_link_id.max(self.next_link_id),
            epoch: meta.epoch.max(self.epoch),
            ..meta
        }
    }

    /// Whether a store may go on to `meta` while this is what the snapshot says.
    pub fn covers(&self, meta: &Meta) -> bool {
        self.covers_ids(meta.next_link_id) && meta.epoch <= self.epoch
    }
}

/// Replaces the snapshot at `path`, durably and at one stroke.
pub fn write(path: &Path, state: &State, reserve: Reserve) -> io::Result<()> {
    let Reserve { next_link_id, epoch } = reserve;
    let meta = Meta { next_link_id, epoch, ..state.meta.clone() };
    let text = render(meta, state)?;
    let new = path.with_extension("new");
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Half a file only takes room, which may be what there is too little of.
        let _ = fs::remove_file(&new);
    }
    written?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn render(meta: Meta, state: &State) -> io::Result<String> {
    let zones = state.zones.values().map(|zone| decode_zone(zone).map_err(io::Error::other));
    let zones = zones.collect::<io::Result<_>>()?;
    let head = Head { format: FORMAT, meta, links: state.links.len(), zones };
    let mut text = serde_json::to_string(&head)? + "\n";
    for (id, record) in &state.links {
        let name = decode_link(record).map_err(io::Error::other)?.name.to_string();
        text += &serde_json::to_string(&Line { id: *id, name, record: to_hex(record) })?;
        text += "\n";
    }
    let tail = Tail { crc32: crc32fast::hash(text.as_bytes()) };
    Ok(text + &serde_json::to_string(&tail)? + "\n")
}

/// The snapshot at `path`, if there is one.
pub fn read(path: &Path) -> Result<Option<State>, String> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// Reads a text as a snapshot, and if it is one, writes and reads it again: it says the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn assert_reads_orderly(text: &str) {
    let Ok(state) = parse(text) else { return };
    let again = render(state.meta.clone(), &state).map(|text| parse(&text));
    assert_eq!(again.ok(), Some(Ok(state)));
}

fn parse(text: &str) -> Result<State, String> {
    let text = text.strip_suffix('\n').ok_or("it is cut short")?;
    let at = text.rfind('\n').ok_or("it is cut short")? + 1;
    let (body, tail) = text.split_at(at);
    let tail: Tail = serde_json::from_str(tail).map_err(|why| why.to_string())?;
    if crc32fast::hash(body.as_bytes()) != tail.crc32 {
        return Err("its checksum does not match".to_owned());
    }
    let mut lines = body.lines();
    let head: Head = parse_line(lines.next().unwrap_or_default())?;
    if head.format != FORMAT {
        return Err(format!("format {} is not known here", head.format));
    }
    let links = lines.map(parse_link).collect::<Result<_, String>>()?;
    let encoded = |zone: &ZoneRecord| Ok((zone.id, encode_zone(zone).map_err(|e| e.to_string())?));
    let zones = head.zones.iter().map(encoded).collect::<Result<_, String>>()?;
    Ok(State { meta: head.meta, links, zones })
}

fn parse_line<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|why| why.to_string())
}

fn parse_link(line: &str) -> Result<(LinkId, Vec<u8>), String> {
    let line: Line = parse_line(line)?;
    let record = from_hex(&line.record).ok_or("a record is not hexadecimal")?;
    decode_link(&record).map_err(|why| format!("link {}: {why}", line.id))?;
    Ok((line.id, record))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, []) = digits.as_deref()?.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
