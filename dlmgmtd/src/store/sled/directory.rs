//! The state directory: who may use it, and what lies where in it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::database::{LOG, sync_all_in};
use crate::store::StoreError;

/// What lies in a state directory: the database,
pub const DATABASE: &str = "db";
/// the snapshot,
pub const SNAPSHOT: &str = "snapshot.json";
/// the number of the last acknowledged commit,
pub const HIGH_WATER: &str = "acknowledged";
/// the batches that the database does not have yet,
pub const JOURNAL: &str = "journal";
/// and, with a number behind it, each damaged database or journal that was kept.
pub const EVIDENCE: &str = "damaged-";

/// Damaged databases and journals that are kept.
const EVIDENCE_MAX: u32 = 8;

/// The state directory, which nobody else uses while this lives.
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

impl Drop for StateDir {
    /// To close the descriptor is not enough: a process that is being forked off at this moment
    /// has a copy of it.
    fn drop(&mut self) {
        if let Err(why) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!("the state directory cannot be unlocked: {why}");
        }
    }
}

impl StateDir {
    /// Takes the directory, made when absent and then private.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let unusable = |why: io::Error| unusable(path, why);
        make_private(path).map_err(unusable)?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(path.display().to_string())),
            Err(why) => Err(unusable(why.into())),
        }
    }

    /// Makes what lies in the directory survive a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        sync_all_in(&self.path).map_err(|why| self.unusable(why))
    }

    /// The directory of the database.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Where the database is rebuilt.
    pub fn rebuilt(&self) -> PathBuf {
        self.path.join("db.rebuilt")
    }

    /// The snapshot.
    pub fn snapshot(&self) -> PathBuf {
        self.path.join(SNAPSHOT)
    }

    /// The number of the last acknowledged commit.
    pub fn high_water(&self) -> PathBuf {
        self.path.join(HIGH_WATER)
    }

    /// The batches that need not outlive the boot.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The error of something refused in this directory.
    pub fn unusable(&self, why: impl ToString) -> StoreError {
        unusable(&self.path, why)
    }

    /// The error of a database that cannot be read.
    pub fn damaged(&self, why: impl ToString) -> StoreError {
        StoreError::Damaged { dir: self.path.display().to_string(), why: why.to_string() }
    }

    /// Copies the database as it is now. To open a damaged one changes it: sled cuts off the part
    /// of its log that it cannot read.
    pub fn keep_copy(&self) -> io::Result<()> {
        self.drop_copy()?;
        if !self.database().exists() {
            return Ok(());
        }
        // Half a copy is worse than none: it must never take the database's place.
        copy_dir(&self.database(), &self.copy()).inspect_err(|_| drop(self.drop_copy()))
    }

    /// Makes a database of the copy's log alone, in the place for rebuilt ones. What else sled
    /// keeps only helps it to read the log.
    pub fn rebuild_from_log(&self) -> io::Result<()> {
        remove_dir(&self.rebuilt())?;
        fs::create_dir(self.rebuilt())?;
        fs::copy(self.copy().join(LOG), self.rebuilt().join(LOG)).map(drop)
    }

    /// Ends the copy.
    pub fn drop_copy(&self) -> io::Result<()> {
        remove_dir(&self.copy())
    }

    /// Puts the copy back in the place of the database.
    pub fn put_copy_back(&self) -> io::Result<()> {
        exchange(&self.copy(), &self.database())?;
        self.drop_copy()
    }

    /// Puts the rebuilt database in the place of the damaged one, whose copy stays as evidence in
    /// the directory returned. A crash in between leaves one of the two in place.
    pub fn replace_damaged(&self) -> io::Result<PathBuf> {
        let evidence = self.evidence_dir()?;
        let (rebuilt, database, copy) = (self.rebuilt(), self.database(), self.copy());
        if database.exists() {
            let has_copy = copy.exists();
            if has_copy {
                fs::rename(&copy, &evidence)?;
            }
            exchange(&rebuilt, &database)?;
            if !has_copy {
                fs::rename(&rebuilt, &evidence)?;
            }
            remove_dir(&rebuilt)?;
        } else {
            fs::rename(&rebuilt, &database)?;
        }
        Ok(evidence)
    }

    /// Puts the rebuilt database in the place of the one that is there, and ends that.
    pub fn replace_database(&self) -> io::Result<()> {
        exchange(&self.rebuilt(), &self.database())?;
        sync_all_in(&self.path)?;
        remove_dir(&self.rebuilt())
    }

    /// Keeps a copy of the journal, of which not everything can be read, in the directory returned.
    pub fn keep_journal(&self) -> io::Result<PathBuf> {
        let evidence = self.evidence_dir()?;
        fs::create_dir(&evidence)?;
        fs::copy(self.journal(), evidence.join(JOURNAL))?;
        Ok(evidence)
    }

    fn copy(&self) -> PathBuf {
        self.path.join("db.copy")
    }

    /// Where the next evidence goes. A disk that damages each database must not be filled up by
    /// them, so of many the first ones are kept, and the last.
    fn evidence_dir(&self) -> io::Result<PathBuf> {
        let dir = |number: u32| self.path.join(format!("{EVIDENCE}{number}"));
        let last = dir(EVIDENCE_MAX);
        if let Some(free) = (1..=EVIDENCE_MAX).map(dir).find(|dir| !dir.exists()) {
            return Ok(free);
        }
        remove_dir(&last)?;
        Ok(last)
    }
}

/// The error of a state directory that cannot be used.
pub fn unusable(dir: &Path, why: impl ToString) -> StoreError {
    StoreError::Unusable { dir: dir.display().to_string(), why: why.to_string() }
}

/// Makes a directory for its owner alone; one that is there already stays as it is.
fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => Err(why),
        Ok(()) => dir.parent().map_or(Ok(()), sync_parent),
    }
}

fn sync_parent(parent: &Path) -> io::Result<()> {
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Lets no daemon begin to use the directory while what is returned lives, and changes nothing in
/// it. `None` where none was ever used.
pub fn keep_out(path: &Path) -> Result<Option<File>, StoreError> {
    let lock = match File::open(path.join("lock")) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        lock => lock.map_err(|why| unusable(path, why))?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(path.display().to_string())),
        Err(why) => Err(unusable(path, io::Error::from(why))),
    }
}

/// Removes a directory that need not be there.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Copies a directory with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
