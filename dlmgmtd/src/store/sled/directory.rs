//! The state directory: who may use it, and what lies where in it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::database::{LOG, sync_all_in};
use crate::store::StoreError;

/// The state directory, which nobody else uses while this lives.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Takes the directory, made when absent and then private.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let unusable = |why: io::Error| unusable(path, why);
        match DirBuilder::new().mode(0o700).create(path) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(why)),
            _ => {}
        }
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(path.display().to_string())),
            Err(why) => Err(unusable(why.into())),
        }
    }

    /// The directory of the database.
    pub fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where the database is rebuilt.
    pub fn rebuilt(&self) -> PathBuf {
        self.path.join("db.rebuilt")
    }

    /// The snapshot.
    pub fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot.json")
    }

    /// The number of the last acknowledged commit.
    pub fn high_water(&self) -> PathBuf {
        self.path.join("acknowledged")
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
        let copy = self.copy();
        remove_dir(&copy)?;
        match copy_dir(&self.database(), &copy) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
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
        let evidence = self.free_evidence_dir();
        let (rebuilt, database, copy) = (self.rebuilt(), self.database(), self.copy());
        if database.exists() {
            let kept = if copy.exists() { &copy } else { &rebuilt };
            exchange(&rebuilt, &database)?;
            fs::rename(kept, &evidence)?;
            remove_dir(&rebuilt)?;
        } else {
            fs::rename(&rebuilt, &database)?;
        }
        sync_all_in(&self.path)?;
        Ok(evidence)
    }

    fn copy(&self) -> PathBuf {
        self.path.join("db.copy")
    }

    fn free_evidence_dir(&self) -> PathBuf {
        let mut number = 1;
        loop {
            let dir = self.path.join(format!("damaged-{number}"));
            if !dir.exists() {
                return dir;
            }
            number += 1;
        }
    }
}

fn unusable(dir: &Path, why: impl ToString) -> StoreError {
    StoreError::Unusable { dir: dir.display().to_string(), why: why.to_string() }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Removes a directory that need not be there.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    let entries = fs::read_dir(from)?;
    fs::create_dir(to)?;
    for entry in entries {
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
