//! `dlmgmtd check`: examines a state directory offline.

use std::fmt;
use std::panic;
use std::path::Path;

use crate::store::StoreError;
use crate::store::sled::{Inspection, inspect};

/// What `dlmgmtd check` tells. Its text is for people; whether all is well is in
/// [`Report::is_sound`].
#[derive(Debug)]
pub struct Report {
    dir: String,
    found: Inspection,
}

/// Examines the state directory `dir`, which no daemon may be using, and leaves it as it is.
///
/// While it runs, panics of the process are not told: sled has them over damaged files, and they
/// come out as problems.
pub fn check(dir: &Path) -> Result<Report, StoreError> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let found = inspect(dir);
    panic::set_hook(usual);
    Ok(Report { dir: dir.display().to_string(), found: found? })
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.found.problems.is_empty()
    }

    /// What is wrong, one line each.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.found.problems.iter().map(|problem| format!("{}: {problem}", self.dir))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { versions, links, zones, commit, next_link_id, epoch, .. } = &self.found;
        let versions: Vec<String> = versions.iter().map(u8::to_string).collect();
        let versions = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
        writeln!(f, "record versions: {versions}")?;
        writeln!(f, "links: {links}")?;
        writeln!(f, "zones: {zones}")?;
        writeln!(f, "commit: {commit}")?;
        match self.found.acknowledged {
            Some(acknowledged) => writeln!(f, "acknowledged: {acknowledged}")?,
            None => writeln!(f, "acknowledged: unknown")?,
        }
        match self.found.snapshot {
            Some((commit, links)) => writeln!(f, "snapshot: commit {commit}, {links} links")?,
            None => writeln!(f, "snapshot: none")?,
        }
        writeln!(f, "journal: {} entries", self.found.journal)?;
        writeln!(f, "next linkid: {next_link_id}")?;
        writeln!(f, "starts: {epoch}")?;
        for (one, other, name) in &self.found.conflicts {
            writeln!(f, "conflict: links {one} and {other} both have the name {name}")?;
        }
        for kept in &self.found.evidence {
            writeln!(f, "kept: {kept}, a database that was damaged")?;
        }
        write!(f, "problems: {}", self.found.problems.len())
    }
}
