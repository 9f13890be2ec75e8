//! The number of the last acknowledged commit, kept outside the database.
//!
//! sled takes a damaged end of its log for a write that a crash cut short, and drops it without a
//! word. This number tells one from the other. It is written after the commit is durable, never
//! before, so it is never ahead of the database; it is not synced with every commit, so after a
//! power cut it may be some commits behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NUMBER_LEN: usize = 8;
const LEN: usize = NUMBER_LEN + 4;

/// The open file.
pub struct HighWater {
    file: File,
}

impl HighWater {
    /// Opens the file, made when absent.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file })
    }

    /// The number; `None` where there is none that can be relied on.
    pub fn read(&self) -> Option<u64> {
        let mut bytes = [0; LEN];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (number, checksum) = bytes.split_first_chunk::<NUMBER_LEN>()?;
        (crc32fast::hash(number).to_le_bytes() == *checksum).then(|| u64::from_le_bytes(*number))
    }

    /// Sets the number. It survives the process at once, and a power cut after
    /// [`HighWater::sync`].
    pub fn set(&self, commit: u64) -> io::Result<()> {
        let mut bytes = commit.to_le_bytes().to_vec();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Makes the number survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
