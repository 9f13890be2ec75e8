//! From whatever lies in the state directory to an open database, or a clear refusal.

use std::path::PathBuf;

use super::database::{Database, DatabaseError};
use super::directory::{StateDir, remove_dir};
use super::snapshot::{self, Reserve};
use super::state::State;
use crate::store::StoreError;

/// What happened when the database was found damaged and could be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What was wrong with the database.
    pub why: String,
    /// Where the damaged database is kept; nothing is there when the database was missing.
    pub evidence: PathBuf,
    /// Commits that were acknowledged once and are lost, at least.
    pub lost_commits: u64,
}

/// An open database and what it holds.
pub struct Opened {
    pub database: Database,
    pub state: State,
    /// What the snapshot on the disk reserves; nothing where there is none.
    pub reserve: Reserve,
    /// What may have been given, though the database does not know of it.
    pub given: Reserve,
    pub recovery: Option<Recovery>,
}

/// Opens the database, which should hold `acknowledged` commits at least. A damaged one is
/// restored from the snapshot, or from its own readable part where that is later.
pub fn open(dir: &StateDir, acknowledged: u64) -> Result<Opened, StoreError> {
    let snapshot = snapshot::read(&dir.snapshot());
    let known = snapshot.as_ref().ok().and_then(Option::as_ref);
    let acknowledged = acknowledged.max(known.map_or(0, |state| state.meta.commit));
    if let Err(why) = dir.keep_copy() {
        tracing::warn!("no copy of the database is kept while it is opened: {why}");
    }
    match read_database(dir, acknowledged)? {
        Readable::Wholly(database, state) => {
            if let Err(why) = &snapshot {
                tracing::warn!("the snapshot is unreadable and will be replaced: {why}");
            }
            drop_copy(dir);
            let reserve = known.map(|state| Reserve::said_by(&state.meta));
            let given = reserve.unwrap_or_else(|| Reserve::of_lost_snapshot(&state.meta));
            let reserve = reserve.unwrap_or_default();
            Ok(Opened { database, state, reserve, given, recovery: None })
        }
        Readable::Partly { part, why } => match snapshot {
            Ok(Some(snapshot)) => restore(dir, snapshot, part, &why, acknowledged),
            Ok(None) => Err(refuse(dir, &format!("{why}; there is no snapshot to restore"))),
            Err(bad) => Err(refuse(dir, &format!("{why}; the snapshot cannot be read: {bad}"))),
        },
    }
}

/// What could be read of the database.
enum Readable {
    Wholly(Database, State),
    Partly { part: Option<State>, why: String },
}

fn read_database(dir: &StateDir, acknowledged: u64) -> Result<Readable, StoreError> {
    let path = dir.database();
    if acknowledged > 0 && !path.exists() {
        return Ok(Readable::Partly { part: None, why: "it is missing".to_owned() });
    }
    match Database::open(&path) {
        Ok((database, state)) if state.meta.commit >= acknowledged => {
            Ok(Readable::Wholly(database, state))
        }
        Ok((database, part)) => {
            database.close();
            let why = format!("it ends at commit {} of {acknowledged}", part.meta.commit);
            Ok(Readable::Partly { part: Some(part), why })
        }
        Err(DatabaseError::Damaged(why)) => Ok(Readable::Partly { part: read_log(dir), why }),
        Err(DatabaseError::Refused(why) | DatabaseError::NotSynced(why)) => Err(dir.unusable(why)),
    }
}

/// What the log of the damaged database tells without the files that sled keeps beside it.
fn read_log(dir: &StateDir) -> Option<State> {
    dir.rebuild_from_log().ok()?;
    let (database, state) = Database::open(&dir.rebuilt()).ok()?;
    database.close();
    Some(state)
}

fn restore(
    dir: &StateDir,
    snapshot: State,
    part: Option<State>,
    why: &str,
    acknowledged: u64,
) -> Result<Opened, StoreError> {
    let reserve = Reserve::said_by(&snapshot.meta);
    let mut state = latest(snapshot, part);
    state.meta = reserve.raise(state.meta);
    rebuild(dir, &state)
        .map_err(|error| refuse(dir, &format!("{why}; it cannot be restored: {error}")))?;
    let evidence = dir.replace_damaged().map_err(|error| dir.unusable(error))?;
    tracing::error!(
        "the database was damaged ({why}) and is restored as of commit {} of {acknowledged}; the \
         damaged one is kept in {}",
        state.meta.commit,
        evidence.display(),
    );
    let lost_commits = acknowledged.saturating_sub(state.meta.commit);
    let (database, state) = Database::open(&dir.database()).map_err(|error| dir.unusable(error))?;
    let recovery = Some(Recovery { why: why.to_owned(), evidence, lost_commits });
    Ok(Opened { database, state, reserve, given: reserve, recovery })
}

fn latest(snapshot: State, part: Option<State>) -> State {
    match part {
        Some(part) if part.meta.commit > snapshot.meta.commit => part,
        _ => snapshot,
    }
}

/// Makes a database that holds this, in the place for rebuilt ones.
pub fn rebuild(dir: &StateDir, state: &State) -> Result<(), DatabaseError> {
    remove_dir(&dir.rebuilt())?;
    let (database, empty) = Database::open(&dir.rebuilt())?;
    let written = database
        .write(&empty.changes_to(state))
        .and_then(|()| database.flush())
        .and_then(|()| database.sync());
    database.close();
    written
}

/// Leaves everything as it was found.
fn refuse(dir: &StateDir, why: &str) -> StoreError {
    if let Err(error) = remove_dir(&dir.rebuilt()) {
        tracing::warn!("what could not be restored cannot be removed: {error}");
    }
    if dir.database().exists()
        && let Err(error) = dir.put_copy_back()
    {
        tracing::warn!("the damaged database was changed by opening it: {error}");
    }
    dir.damaged(why)
}

fn drop_copy(dir: &StateDir) {
    if let Err(why) = dir.drop_copy() {
        tracing::warn!("the copy of the database cannot be removed: {why}");
    }
}
