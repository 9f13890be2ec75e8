//! Looks at a state directory that no daemon uses, and leaves it as it is.
//!
//! To open a database changes it, so a copy is opened. What the daemon would do about a problem at
//! its next start is not done here, only foretold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use dlmgmt_proto::{LinkId, LinkName, ZoneId, ZoneName};
use tempfile::TempDir;

use super::database::{Database, Records, key_of};
use super::directory::{
    DATABASE, EVIDENCE, HIGH_WATER, JOURNAL, SNAPSHOT, copy_dir, keep_out, unusable,
};
use super::high_water::HighWater;
use super::journal::Journal;
use super::snapshot;
use crate::model::{Lifetime, LinkRecord, Location, Origin, ZoneRecord};
use crate::store::StoreError;
use crate::store::codec::{CodecError, Meta, decode_link, decode_meta, decode_zone};

/// What a state directory holds, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The versions of the records.
    pub versions: BTreeSet<u8>,
    /// How many links can be read.
    pub links: usize,
    /// How many zones can be read.
    pub zones: usize,
    /// The number of the last commit in the database; 0 for an empty one.
    pub commit: u64,
    /// The lowest linkid that was never given.
    pub next_link_id: u32,
    /// How often a daemon was started.
    pub epoch: u32,
    /// The number of the last acknowledged commit, where it is known.
    pub acknowledged: Option<u64>,
    /// The commit of the snapshot, if there is one, and how many links it has.
    pub snapshot: Option<(u64, usize)>,
    /// Entries of the journal that the database does not have yet: the next start brings them in.
    pub journal: usize,
    /// Damaged databases and journals that were kept.
    pub evidence: Vec<String>,
    /// Two links of ours with one name at home. That is no damage: somebody else gave one of them
    /// the name while the other was away or absent, which is then shown as in conflict.
    pub conflicts: Vec<(LinkId, LinkId, LinkName)>,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// Something that is wrong with a state directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// sled cannot read it.
    #[error("the database cannot be read: {0}")]
    Database(String),
    /// Somebody removed it.
    #[error("the database is missing")]
    NoDatabase,
    /// What was acknowledged is not there.
    #[error("the database ends at commit {commit}, and commit {acknowledged} was acknowledged")]
    Behind {
        /// The last commit in the database.
        commit: u64,
        /// The last one that was acknowledged.
        acknowledged: u64,
    },
    /// Whether something is missing cannot be told.
    #[error("the number of the last acknowledged commit cannot be read")]
    NoHighWater,
    /// There would be nothing to restore.
    #[error("there is no snapshot")]
    NoSnapshot,
    /// There would be nothing to restore.
    #[error("the snapshot cannot be read: {0}")]
    Snapshot(String),
    /// What was acknowledged in this boot may be lost.
    #[error("the journal ends with {0} bytes that cannot be read")]
    Journal(usize),
    /// A record is damaged, or of a newer version.
    #[error("{what} cannot be read: {why}")]
    Record {
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: CodecError,
    },
    /// The meta record is gone.
    #[error("there are records, but none that says which linkids were given")]
    NoMeta,
    /// A record lies where that of another belongs.
    #[error("the record of link {0} lies in another's place")]
    Misplaced(LinkId),
    /// Two zones have one name.
    #[error("zones {0} and {1} both have the name {2}")]
    SameZoneName(ZoneId, ZoneId, ZoneName),
    /// The linkid could be given a second time.
    #[error("link {0} has a linkid that counts as never given: the next one is {1}")]
    NotGiven(LinkId, u32),
    /// A record speaks of a zone that is not there.
    #[error("link {0} speaks of zone {1}, which is not known")]
    Dangling(LinkId, ZoneId),
}

/// Looks at the state directory `dir`, which is refused while a daemon uses it.
pub fn inspect(dir: &Path) -> Result<Inspection, StoreError> {
    let refused = |why: io::Error| unusable(dir, why);
    if !fs::metadata(dir).map_err(refused)?.is_dir() {
        return Err(unusable(dir, "it is no directory"));
    }
    let lock = keep_out(dir)?;
    let copy = TempDir::with_prefix("dlmgmtd-check-").map_err(refused)?;
    let mut inspection =
        Inspection { evidence: evidence(dir).map_err(refused)?, ..Inspection::default() };
    copy_what_matters(dir, copy.path()).map_err(refused)?;
    drop(lock);
    inspection.look_beside_the_database(copy.path());
    inspection.look_into_the_database(&copy.path().join(DATABASE));
    inspection.look_into_the_journal(&copy.path().join(JOURNAL)).map_err(refused)?;
    inspection.compare();
    Ok(inspection)
}

fn copy_what_matters(from: &Path, to: &Path) -> io::Result<()> {
    for file in [SNAPSHOT, HIGH_WATER, JOURNAL] {
        allow_absence(fs::copy(from.join(file), to.join(file)).map(drop))?;
    }
    let database = from.join(DATABASE);
    if database.is_dir() { copy_dir(&database, &to.join(DATABASE)) } else { Ok(()) }
}

fn allow_absence(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn evidence(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(EVIDENCE) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Inspection {
    fn look_beside_the_database(&mut self, dir: &Path) {
        let acknowledged = dir.join(HIGH_WATER);
        if acknowledged.exists() {
            self.acknowledged = HighWater::open(&acknowledged).ok().and_then(|file| file.read());
            self.problems.extend(self.acknowledged.is_none().then_some(Problem::NoHighWater));
        }
        match snapshot::read(&dir.join(SNAPSHOT)) {
            Ok(state) => {
                self.snapshot = state.map(|state| (state.meta.commit, state.links.len()));
            }
            Err(why) => self.problems.push(Problem::Snapshot(why)),
        }
    }

    fn look_into_the_database(&mut self, dir: &Path) {
        if !dir.exists() {
            let was_there = self.acknowledged.is_some() || self.snapshot.is_some();
            return self.problems.extend(was_there.then_some(Problem::NoDatabase));
        }
        match Database::records(dir) {
            Ok(records) => self.read(&records),
            Err(why) => self.problems.push(Problem::Database(why.to_string())),
        }
    }

    fn look_into_the_journal(&mut self, journal: &Path) -> io::Result<()> {
        let (_, entries, unread) = Journal::open(journal)?;
        self.problems.extend((unread > 0).then_some(Problem::Journal(unread)));
        self.journal = entries.iter().filter(|(commit, _)| *commit > self.commit).count();
        Ok(())
    }

    fn read(&mut self, records: &Records) {
        let mut links = Vec::new();
        for (key, value) in &records.links {
            let link = self.record(|| format!("the link of key {key:?}"), value, decode_link);
            match link {
                Some(link) if key_of(link.id) != **key => {
                    self.problems.push(Problem::Misplaced(link.id));
                }
                link => links.extend(link),
            }
        }
        let mut zones = Vec::new();
        for (key, value) in &records.zones {
            zones.extend(self.record(|| format!("the zone of key {key:?}"), value, decode_zone));
        }
        let meta = records.meta.as_ref();
        let meta = meta.map(|meta| self.record(|| "the meta record".to_owned(), meta, decode_meta));
        (self.links, self.zones) = (links.len(), zones.len());
        match meta {
            Some(Some(meta)) => self.check_ids(&meta, &links),
            Some(None) => {}
            None if links.is_empty() && zones.is_empty() => {}
            None => self.problems.push(Problem::NoMeta),
        }
        self.check_names(&links, &zones);
        self.check_zones(&links, &zones);
    }

    fn record<T>(
        &mut self,
        what: impl FnOnce() -> String,
        bytes: &[u8],
        decode: fn(&[u8]) -> Result<T, CodecError>,
    ) -> Option<T> {
        match decode(bytes) {
            Ok(record) => {
                self.versions.extend(bytes.first());
                Some(record)
            }
            Err(why) => {
                self.problems.push(Problem::Record { what: what(), why });
                None
            }
        }
    }

    fn check_ids(&mut self, meta: &Meta, links: &[LinkRecord]) {
        (self.commit, self.next_link_id, self.epoch) = (meta.commit, meta.next_link_id, meta.epoch);
        let not_given = links.iter().filter(|link| link.id.get() >= meta.next_link_id);
        let problems = not_given.map(|link| Problem::NotGiven(link.id, meta.next_link_id));
        self.problems.extend(problems);
    }

    fn check_names(&mut self, links: &[LinkRecord], zones: &[ZoneRecord]) {
        let is_ours = |link: &&LinkRecord| {
            (link.origin, link.lifetime) == (Origin::Own, Lifetime::Persistent)
        };
        let mut names = BTreeMap::new();
        for link in links.iter().filter(is_ours) {
            if let Some(other) = names.insert((link.owner, link.name), link.id) {
                self.conflicts.push((other, link.id, link.name));
            }
        }
        let mut names = BTreeMap::new();
        for zone in zones {
            if let Some(other) = names.insert(&zone.name, zone.id) {
                self.problems.push(Problem::SameZoneName(other, zone.id, zone.name.clone()));
            }
        }
    }

    fn check_zones(&mut self, links: &[LinkRecord], zones: &[ZoneRecord]) {
        let zones_known: BTreeSet<ZoneId> =
            zones.iter().map(|zone| zone.id).chain([ZoneId::GLOBAL]).collect();
        for link in links {
            let lent_to = match &link.location {
                Location::Home => None,
                Location::OnLoan(loan) | Location::Recalled { loan, .. } => Some(&loan.zone),
            };
            let zones = [Some(&link.owner), lent_to];
            let lost = zones.into_iter().flatten().filter(|zone| !zones_known.contains(zone));
            self.problems.extend(lost.map(|zone| Problem::Dangling(link.id, *zone)));
        }
    }

    fn compare(&mut self) {
        let known = self.acknowledged.into_iter().chain(self.snapshot.map(|(commit, _)| commit));
        let is_readable = !self.problems.iter().any(|problem| {
            matches!(problem, Problem::Database(_) | Problem::NoDatabase | Problem::Record { .. })
        });
        let acknowledged = known.max().unwrap_or_default();
        if is_readable && self.commit < acknowledged {
            self.problems.push(Problem::Behind { commit: self.commit, acknowledged });
        }
        let is_lost = self.problems.iter().any(|problem| matches!(problem, Problem::Snapshot(_)));
        if self.snapshot.is_none() && !is_lost && self.commit > 0 {
            self.problems.push(Problem::NoSnapshot);
        }
    }
}
