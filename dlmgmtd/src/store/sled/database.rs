//! The sled database itself, treated as a part that can fail: a panic inside it is an error here.
//!
//! In the database's directory sled 0.34 keeps `db` (the log, in segments of 512 KiB), `conf`,
//! `snap.*` (an index of the log, written when it is opened) and `blobs/` (values of more than
//! 128 KiB, which this daemon does not write).
//!
//! sled's own flusher thread is kept although every commit flushes: it is the only one that cleans
//! segments, and without it the file would grow for ever. What it flushes early does no harm, for
//! a transaction is in the log wholly or not at all.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dlmgmt_proto::LinkId;
use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::state::{Changes, State};
use crate::store::codec::{CodecError, decode_link, decode_meta, decode_zone, encode_meta};

/// Room enough for tens of thousands of links; sled's default of 1 GiB is for other uses.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// sled frees its file, and with it its lock, only some time after it was dropped. The state
/// directory's own lock tells that nobody else has it.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// sled's drop waits for its flusher thread, for ever if that one died.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The file in which sled keeps its log, and so everything.
pub const LOG: &str = "db";

const META_KEY: &[u8] = b"meta";

/// Why the database does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// The operating system refuses. What is stored may be perfectly well.
    #[error("{0}")]
    Refused(String),
    /// The disk did not take what was written. Trying again proves nothing: the kernel may have
    /// dropped it, and a log with a hole ends there.
    #[error("{0}")]
    NotSynced(String),
    /// What is stored cannot be read, or sled itself fails.
    #[error("{0}")]
    Damaged(String),
}

impl From<sled::Error> for DatabaseError {
    fn from(error: sled::Error) -> Self {
        match &error {
            sled::Error::Io(why) if is_refusal(why) => Self::Refused(why.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

/// Whether the system refused, rather than that a file has not the shape that sled expects: such
/// an error sled makes itself, and a missing file is one that sled had made.
fn is_refusal(why: &io::Error) -> bool {
    why.raw_os_error().is_some() && why.kind() != io::ErrorKind::NotFound
}

/// sled waits until the disk has what it writes, so a failure may be the disk's, unless nothing was
/// written. It has no error number by then.
fn not_written(why: sled::Error) -> DatabaseError {
    match why {
        sled::Error::Io(why) if was_not_begun(&why) => DatabaseError::Refused(why.to_string()),
        why => DatabaseError::NotSynced(why.to_string()),
    }
}

fn was_not_begun(why: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(why.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

impl From<io::Error> for DatabaseError {
    fn from(why: io::Error) -> Self {
        Self::Refused(why.to_string())
    }
}

impl From<CodecError> for DatabaseError {
    fn from(why: CodecError) -> Self {
        Self::Damaged(why.to_string())
    }
}

/// Keys and values as they lie in a database.
pub struct Records {
    pub links: Vec<(sled::IVec, sled::IVec)>,
    pub zones: Vec<(sled::IVec, sled::IVec)>,
    pub meta: Option<sled::IVec>,
}

/// An open database: one tree per record type.
pub struct Database {
    db: sled::Db,
    links: sled::Tree,
    zones: sled::Tree,
    meta: sled::Tree,
    file: File,
}

impl Database {
    /// Opens the database in `dir`, made when absent, and reads all of it.
    pub fn open(dir: &Path) -> Result<(Self, State), DatabaseError> {
        let database = Self::connect(dir)?;
        match guarded(|| database.settle(dir)) {
            Ok(state) => Ok((database, state)),
            Err(why) => {
                database.close();
                Err(why)
            }
        }
    }

    fn connect(dir: &Path) -> Result<Self, DatabaseError> {
        remove_unfinished_indexes(dir)?;
        guarded(|| {
            let db = open_sled(dir)?;
            let links = db.open_tree("links")?;
            let zones = db.open_tree("zones")?;
            let meta = db.open_tree("meta")?;
            let file = File::open(dir.join(LOG))?;
            Ok(Self { db, links, zones, meta, file })
        })
    }

    /// Every record of the database in `dir`, whether or not it makes sense.
    pub fn records(dir: &Path) -> Result<Records, DatabaseError> {
        let database = Self::connect(dir)?;
        let all = |tree: &sled::Tree| tree.iter().collect::<Result<_, sled::Error>>();
        let records = guarded(|| {
            Ok(Records {
                links: all(&database.links)?,
                zones: all(&database.zones)?,
                meta: database.meta.get(META_KEY)?,
            })
        });
        database.close();
        records
    }

    fn settle(&self, dir: &Path) -> Result<State, DatabaseError> {
        let state = self.read()?;
        self.sync()?;
        sync_all_in(dir)?;
        Ok(state)
    }

    fn read(&self) -> Result<State, DatabaseError> {
        let mut state = State::default();
        for entry in self.links.iter() {
            let (key, value) = entry?;
            let id = decode_link(&value)?.id;
            if *key != key_of(id) {
                return Err(DatabaseError::Damaged(format!("link {id} lies in another's place")));
            }
            state.links.insert(id, value.to_vec());
        }
        for entry in self.zones.iter() {
            let (_, value) = entry?;
            state.zones.insert(decode_zone(&value)?.id, value.to_vec());
        }
        match self.meta.get(META_KEY)? {
            Some(meta) => state.meta = decode_meta(&meta)?,
            None if state.links.is_empty() && state.zones.is_empty() => {}
            None => return Err(DatabaseError::Damaged("its meta record is missing".to_owned())),
        }
        Ok(state)
    }

    /// Writes the changes as one transaction over all trees: sled's log has it wholly or not at
    /// all. It is durable after [`Database::flush`] and [`Database::sync`].
    pub fn write(&self, changes: &Changes) -> Result<(), DatabaseError> {
        let new_meta = encode_meta(&changes.meta)?;
        guarded(|| {
            let trees = (&self.links, &self.zones, &self.meta);
            let written = trees.transaction(|(links, zones, meta)| {
                for (id, link) in &changes.links {
                    match link {
                        Some(link) => links.insert(&key_of(*id), link.as_slice())?,
                        None => links.remove(&key_of(*id))?,
                    };
                }
                for (id, zone) in &changes.zones {
                    zones.insert(&id.0.to_be_bytes(), zone.as_slice())?;
                }
                meta.insert(META_KEY, new_meta.as_slice())?;
                Ok::<(), ConflictableTransactionError>(())
            });
            written.map_err(|why| match why {
                TransactionError::Storage(why) | TransactionError::Abort(why) => not_written(why),
            })
        })
    }

    /// Hands everything written to the kernel. sled 0.34 calls this durable, which it is not.
    pub fn flush(&self) -> Result<(), DatabaseError> {
        guarded(|| self.db.flush().map(drop).map_err(not_written))
    }

    /// Makes everything flushed survive a power cut.
    pub fn sync(&self) -> Result<(), DatabaseError> {
        self.file.sync_data().map_err(|why| DatabaseError::NotSynced(why.to_string()))
    }

    /// Closes the database, and waits until that is done or seems never to be.
    pub fn close(self) {
        let (done, closed) = mpsc::channel();
        let closer = thread::Builder::new().name("store-close".to_owned()).spawn(move || {
            drop(self);
            // Nobody waits any more when it took too long.
            let _ = done.send(());
        });
        let outcome = closer.map(|_| closed.recv_timeout(CLOSE_PATIENCE));
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::error!("the database could not be closed in order");
        }
    }
}

/// Where the record of a link lies.
pub fn key_of(id: LinkId) -> [u8; 4] {
    id.get().to_be_bytes()
}

fn open_sled(dir: &Path) -> Result<sled::Db, DatabaseError> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        let opened = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).open();
        match opened {
            Err(sled::Error::Io(why)) if is_locked(&why) && Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(sled::Error::Io(why)) if is_locked(&why) => {
                return Err(DatabaseError::Refused(why.to_string()));
            }
            opened => return Ok(opened?),
        }
    }
}

/// sled takes an index that it could not finish, for want of room or because it was killed, for
/// its last good one, and then refuses the whole database.
fn remove_unfinished_indexes(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_locked(why: &io::Error) -> bool {
    why.to_string().contains("could not acquire lock")
}

/// Makes the files of a directory, and that they are there, survive a power cut.
pub fn sync_all_in(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match File::open(&path) {
            Ok(file) => file.sync_all()?,
            // sled tidies up on threads of its own.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
    }
    File::open(dir)?.sync_all()
}

fn guarded<T>(act: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(DatabaseError::Damaged(format!(
            "sled failed: {}",
            text.unwrap_or("it does not say why")
        )))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::codec::Meta;

    fn state(commit: u64, links: &[u32]) -> State {
        let link = |number: &u32| {
            let link = crate::store::sled::tests::link(*number, "net0");
            (link.id, crate::store::codec::encode_link(&link).unwrap())
        };
        let meta = Meta { commit, ..Meta::default() };
        State { meta, links: links.iter().map(link).collect(), zones: BTreeMap::new() }
    }

    fn reopened(dir: &Path) -> (Database, State) {
        Database::open(dir).unwrap()
    }

    /// This is how a refused group that reached the file all the same is taken back.
    #[test]
    fn what_was_flushed_can_be_taken_back() {
        let dir = tempfile::TempDir::new().unwrap();
        let (wanted, refused) = (state(1, &[1, 2, 3]), state(2, &[2, 4]));
        let (mut database, mut found) = reopened(dir.path());
        for next in [&wanted, &refused, &wanted] {
            database.write(&found.changes_to(next)).unwrap();
            database.flush().unwrap();
            database.close();
            (database, found) = reopened(dir.path());
            assert_eq!(found, *next);
        }
        database.close();
    }

    /// sled is in the middle of a transaction, and its locks are held.
    #[test]
    fn a_panic_inside_sled_is_an_error_and_the_database_opens_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let wanted = state(1, &[1, 2]);
        let (database, found) = reopened(dir.path());
        database.write(&found.changes_to(&wanted)).unwrap();
        database.flush().unwrap();
        let failed = guarded(|| {
            let outcome = database.links.transaction(|links| {
                links.insert(&key_of(LinkId::new(3).unwrap()), b"half".as_slice())?;
                if links.get(b"x")?.is_none() {
                    panic!("a bug of sled");
                }
                Ok::<(), ConflictableTransactionError>(())
            });
            assert!(outcome.is_ok());
            Ok(())
        });
        let told = DatabaseError::Damaged("sled failed: a bug of sled".to_owned());
        assert_eq!(failed, Err(told));
        database.close();
        let (database, found) = reopened(dir.path());
        assert_eq!(found, wanted);
        database.close();
    }
}
