//! The one thread that writes: it takes all batches that wait as one group, and makes it durable
//! with one transaction, one flush and one fdatasync.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dlmgmt_proto::{LinkId, LinkName};

use super::Options;
use super::database::{Database, DatabaseError};
use super::directory::StateDir;
use super::high_water::HighWater;
use super::journal::Entry;
use super::queue::{Durable, Queue, Turn, Waiting};
use super::recovery;
use super::snapshot::{self, Reserve};
use super::state::{Changes, EncodedBatch, State};
use crate::crash;
use crate::store::StoreError;
use crate::store::codec::CodecError;

/// What the writer owns.
pub struct Writer {
    pub dir: StateDir,
    pub options: Options,
    pub queue: Arc<Queue>,
    pub flushes: Arc<AtomicU64>,
    /// Absent after a failure, until it can be opened again.
    pub database: Option<Database>,
    pub durable: State,
    /// The disk refused a part of the database's log, which must not be written on.
    pub has_hole: bool,
    pub high_water: HighWater,
    pub snapshot: SnapshotState,
}

/// What is known of the snapshot on the disk.
pub struct SnapshotState {
    /// What it reserves.
    pub reserve: Reserve,
    /// The commit that it shows; none when that is not known.
    pub commit: Option<u64>,
    /// When it was written or tried to be.
    pub at: Instant,
    /// The names of hardware that are durable.
    pub hardware: BTreeMap<LinkId, LinkName>,
}

impl Writer {
    /// Makes durable what the life before left: what only its journal has, and that ids may have
    /// been given, up to `given`, of which nothing is known any more. The journal is empty then.
    pub fn take_over(&mut self, journal: &[Entry], given: Reserve) -> Result<(), DatabaseError> {
        let durable = &self.durable.meta;
        let missing = || journal.iter().filter(|(commit, _)| *commit > durable.commit);
        let mut changes = self.durable.changes(missing().flat_map(|(_, batches)| batches));
        changes.meta = given.raise(changes.meta);
        if missing().next().is_some() || changes.meta.next_link_id > durable.next_link_id {
            // Where a snapshot was restored, the journal can be several commits ahead.
            let last = missing().map(|(commit, _)| *commit).max().unwrap_or_default();
            changes.meta.commit = changes.meta.commit.max(last);
            self.make_durable(&changes)?;
            self.conclude(changes);
        }
        Ok(())
    }

    /// Writes until the queue ends.
    pub fn run(mut self) {
        let _told_on_panic = AbandonOnDrop(Arc::clone(&self.queue));
        let mut is_all_written = true;
        loop {
            match self.queue.next_turn(self.idle_at()) {
                Turn::Write(group) => is_all_written = self.write_group(group),
                Turn::Idle => self.save_snapshot(),
                Turn::End => break,
            }
        }
        self.save_last_snapshot(is_all_written);
        self.close();
    }

    /// Ends without writing anything more.
    pub fn close(&mut self) {
        if let Some(database) = self.database.take() {
            database.close();
        }
    }

    fn is_snapshot_old(&self) -> bool {
        self.snapshot.commit != Some(self.durable.meta.commit)
    }

    fn idle_at(&self) -> Option<Instant> {
        self.is_snapshot_old().then(|| self.snapshot.at + self.options.snapshot)
    }

    /// Whether it could be written.
    fn write_group(&mut self, group: Vec<Waiting>) -> bool {
        let batches: Vec<_> = group.iter().filter_map(encoded).collect();
        let changes = self.durable.changes(batches.iter().map(Cow::as_ref));
        let written = self.make_durable(&changes);
        match &written {
            Ok(()) => {
                self.conclude(changes);
                self.keep_names(&batches);
                group.into_iter().for_each(|waiting| waiting.tell(Ok(())));
            }
            Err(why) => self.refuse_group(group, why),
        }
        written.is_ok()
    }

    /// The changes are durable.
    fn conclude(&mut self, changes: Changes) {
        self.durable.apply(changes);
        self.raise_high_water();
        crash::point("journal.before_clear");
        let commit = self.durable.meta.commit;
        self.queue.written(Durable { commit, reserve: self.snapshot.reserve });
    }

    /// At the next boot udev asks for the names of hardware before the daemon runs, and gets those
    /// of the snapshot: it must not be older than a name that was acknowledged. Hardware that was
    /// only just found nobody has named yet, and udev, which may be about to, is not told otherwise.
    fn keep_names(&mut self, batches: &[Cow<'_, EncodedBatch>]) {
        let mut is_renamed = false;
        for (id, name) in batches.iter().flat_map(|batch| batch.hardware()) {
            let known = self.snapshot.hardware.insert(id, name);
            is_renamed |= known.is_some_and(|known| known != name);
        }
        if is_renamed {
            self.save_snapshot();
        }
    }

    fn refuse_group(&self, group: Vec<Waiting>, why: &DatabaseError) {
        tracing::error!("a change could not be stored: {why}");
        let (awaited, unawaited): (Vec<_>, Vec<_>) =
            group.into_iter().partition(Waiting::is_awaited);
        self.queue.put_back(unawaited, self.database.is_none());
        for waiting in awaited {
            waiting.tell(Err(StoreError::Write(why.to_string())));
        }
    }

    fn make_durable(&mut self, changes: &Changes) -> Result<(), DatabaseError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        if let Err(why) = self.reserve_for(changes) {
            self.database = Some(database);
            return Err(why);
        }
        let written = self.write(&database, changes);
        self.has_hole = is_hole(&written);
        if written.is_ok() {
            self.database = Some(database);
        } else {
            self.take_back(database);
        }
        written
    }

    fn write(&self, database: &Database, changes: &Changes) -> Result<(), DatabaseError> {
        crash::point("store.before_apply");
        database.write(changes)?;
        crash::point("store.before_flush");
        database.flush()?;
        crash::point("store.before_sync");
        database.sync()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        crash::point("store.after_sync");
        Ok(())
    }

    /// Ids and epochs that the snapshot does not know of must not become durable before it does.
    fn reserve_for(&mut self, changes: &Changes) -> Result<(), DatabaseError> {
        if self.snapshot.reserve.covers(&changes.meta) {
            return Ok(());
        }
        Ok(self.write_snapshot(Reserve::ahead_of(&changes.meta))?)
    }

    /// Makes a failed group have no effect. Once a write failed sled refuses everything, and how
    /// much of the group is in its file is not known: only a look at it tells.
    fn take_back(&mut self, failed: Database) {
        failed.close();
        match self.reopen() {
            Ok(database) => self.database = Some(database),
            Err(why) => tracing::error!("the database is unusable until it can be opened: {why}"),
        }
    }

    /// Opens the database again and makes it hold what is durable, no more and no less.
    fn reopen(&mut self) -> Result<Database, DatabaseError> {
        let reopened = self.try_to_reopen();
        self.has_hole |= is_hole(&reopened);
        reopened
    }

    fn try_to_reopen(&mut self) -> Result<Database, DatabaseError> {
        if self.has_hole {
            recovery::rebuild(&self.dir, &self.durable)?;
            self.dir.replace_database()?;
            self.has_hole = false;
        }
        let (database, found) = Database::open(&self.dir.database())?;
        let repaired = self.repair(&database, &found);
        if let Err(why) = repaired {
            database.close();
            return Err(why);
        }
        Ok(database)
    }

    fn repair(&self, database: &Database, found: &State) -> Result<(), DatabaseError> {
        if *found == self.durable {
            return Ok(());
        }
        database.write(&found.changes_to(&self.durable))?;
        database.flush()?;
        database.sync()
    }

    /// A failure is no reason to refuse the change, which is durable: only damage of the database
    /// may then go unnoticed.
    fn raise_high_water(&self) {
        if let Err(why) = self.high_water.set(self.durable.meta.commit) {
            tracing::warn!("the number of the last commit cannot be written: {why}");
        }
    }

    /// Writes the snapshot; without one the store goes on.
    pub fn save_snapshot(&mut self) {
        self.save_snapshot_reserving(Reserve::ahead_of(&self.durable.meta));
    }

    /// Nothing is given any more, so the next life need not leave out what is reserved, unless the
    /// database lacks something.
    fn save_last_snapshot(&mut self, is_all_written: bool) {
        if is_all_written {
            self.save_snapshot_reserving(Reserve::said_by(&self.durable.meta));
        } else if self.is_snapshot_old() {
            self.save_snapshot();
        }
    }

    fn save_snapshot_reserving(&mut self, reserve: Reserve) {
        // Also when this fails: it is not tried again at once.
        self.snapshot.at = Instant::now();
        let synced = self.high_water.sync();
        if let Err(why) = synced.and_then(|()| self.write_snapshot(reserve)) {
            tracing::warn!("the snapshot cannot be written: {why}");
        }
    }

    fn write_snapshot(&mut self, reserve: Reserve) -> std::io::Result<()> {
        snapshot::write(&self.dir.snapshot(), &self.durable, reserve)?;
        self.snapshot.reserve = reserve;
        self.snapshot.commit = Some(self.durable.meta.commit);
        self.queue.reserved(reserve);
        Ok(())
    }
}

/// A lazy batch without a durable form is given up, as a crash would give it up.
fn encoded(waiting: &Waiting) -> Option<Cow<'_, EncodedBatch>> {
    let told = |why: &CodecError| tracing::error!("a lazy change cannot be stored: {why}");
    waiting.encoded().inspect_err(told).ok()
}

/// Whether something may be missing in the log, behind which nothing more is found.
fn is_hole<T>(written: &Result<T, DatabaseError>) -> bool {
    matches!(written, Err(DatabaseError::NotSynced(_)))
}

struct AbandonOnDrop(Arc<Queue>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
