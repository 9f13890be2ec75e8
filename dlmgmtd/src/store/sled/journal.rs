//! Batches that need not outlive the boot, until the database has them.
//!
//! Each entry is appended with one write and not synced: it survives the daemon, not a power cut.
//! It carries the number of the commit that will bring its batches into the database, and means
//! nothing any more once that is there. So it does no harm if the journal cannot be emptied then,
//! or is read twice.
//!
//! An entry is its length (4 bytes, little-endian) and its durable form, which has a checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::state::EncodedBatch;
use crate::store::codec::{decode_entry, encode_entry};

/// No more than this is put off: a database that takes nothing does not fill the disk from here.
const LEN_MAX: u64 = 16 << 20;

const LENGTH_LEN: usize = 4;

/// The open file.
pub struct Journal {
    file: File,
    /// Where the next entry goes. What lies behind is of no account.
    end: u64,
}

/// What was written at one stroke.
pub type Entry = (u64, Vec<EncodedBatch>);

impl Journal {
    /// Opens the file, made when absent, and reads what is in it up to the first entry that is not
    /// whole. Tells how many bytes that leaves unread.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Entry>, usize)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (entries, rest) = read(&bytes);
        let end = bytes.len() - rest.len();
        Ok((Self { file, end: end as u64 }, entries, rest.len()))
    }

    /// Appends an entry: all of it, or nothing and an error.
    pub fn append(&mut self, commit: u64, batch: &EncodedBatch) -> io::Result<()> {
        let entry = encode(commit, &[batch])?;
        let end = self.end + entry.len() as u64;
        if end > LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Err(why) = self.file.write_all_at(&entry, self.end) {
            self.cut_off();
            return Err(why);
        }
        self.end = end;
        Ok(())
    }

    /// Empties the journal: the database has it all.
    pub fn clear(&mut self) {
        if self.end == 0 {
            return;
        }
        self.end = 0;
        self.cut_off();
    }

    /// Ends the file behind the last whole entry: what lies there the next life takes for damage.
    pub fn cut_off(&self) {
        if let Err(why) = self.file.set_len(self.end) {
            tracing::warn!("the journal cannot be cut off: {why}");
        }
    }
}

fn encode(commit: u64, batches: &[&EncodedBatch]) -> io::Result<Vec<u8>> {
    let sealed = encode_entry(&(commit, batches)).map_err(io::Error::other)?;
    let len = u32::try_from(sealed.len()).map_err(io::Error::other)?;
    Ok([&len.to_le_bytes(), &*sealed].concat())
}

/// Reads bytes as a journal, and as the content of one entry whose length and checksum are right:
/// what can be read says the same when it is written and read again.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used)]
pub(crate) fn assert_reads_orderly(bytes: &[u8]) {
    let sealed = [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat();
    let len = u32::try_from(sealed.len()).expect("a fuzzer's input is short");
    for journal in [bytes, &[&len.to_le_bytes(), &*sealed].concat()] {
        let (entries, _) = read(journal);
        let written = entries.iter().map(|(commit, batches)| {
            encode(*commit, &batches.iter().collect::<Vec<_>>()).expect("what was read is short")
        });
        let again = written.collect::<Vec<_>>().concat();
        assert_eq!(read(&again), (entries, &[][..]));
    }
}

/// The entries, and the bytes after the last one that can be read.
fn read(mut bytes: &[u8]) -> (Vec<Entry>, &[u8]) {
    let mut entries = Vec::new();
    while let Some((entry, rest)) = read_one(bytes) {
        entries.push(entry);
        bytes = rest;
    }
    (entries, bytes)
}

fn read_one(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LENGTH_LEN>()?;
    let (sealed, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((decode_entry(sealed).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use dlmgmt_proto::{LinkId, ZoneId, ZoneName};

    use super::*;
    use crate::model::{BootId, ZoneRecord};
    use crate::store::Batch;
    use crate::store::sled::state::State;
    use crate::store::sled::tests::link;

    const NEWEST: u8 = 2;

    /// A journal as it was once written to disks. It never changes.
    fn fixture(version: u8) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/journal.v{version}"))
    }

    fn canonical() -> Entry {
        let batch = Batch {
            put: vec![Arc::new(link(300, "net0"))],
            zones: vec![ZoneRecord {
                id: ZoneId(5),
                name: ZoneName::new("web").unwrap(),
                attached: None,
            }],
            delete: vec![LinkId::new(7).unwrap()],
            next_link_id: Some(301),
            boot: Some(BootId("b-1".to_owned())),
            epoch: Some(4),
        };
        (1000, vec![(&batch).try_into().unwrap()])
    }

    /// A failure here means that a new version is due, not new bytes.
    #[test]
    fn what_is_written_now_is_what_the_newest_fixture_says_and_that_is_read() {
        let (commit, batches) = canonical();
        let written = encode(commit, &batches.iter().collect::<Vec<_>>()).unwrap();
        let kept = std::fs::read(fixture(NEWEST)).unwrap();
        assert_eq!(written, kept);
        assert_eq!(read(&kept), (vec![canonical()], &[][..]));
    }

    #[test]
    fn a_journal_of_every_version_says_what_it_said() {
        for version in 1..=NEWEST {
            let kept = std::fs::read(fixture(version)).unwrap();
            let (entries, unread) = read(&kept);
            assert!(unread.is_empty(), "version {version}");
            let mut state = State::default();
            for (_, batches) in &entries {
                state.apply(state.changes(batches.iter()));
            }
            assert_eq!(state.loaded().unwrap().links, [link(300, "net0")], "version {version}");
        }
    }

    #[test]
    #[ignore = "writes into the source tree"]
    fn writes_the_fixture() {
        let (commit, batches) = canonical();
        let written = encode(commit, &batches.iter().collect::<Vec<_>>()).unwrap();
        std::fs::write(fixture(NEWEST), written).unwrap();
    }
}
