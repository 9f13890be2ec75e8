//! Which source has which name: the rules, without any look at the system.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use dlmgmt_proto::{NameError, ZoneName};

use super::source::has_exited;
use super::{EndReason, Source, SourceError, token};
use crate::model::NsCookie;

/// Zones that are kept at most.
pub(super) const MOST: usize = 65_536;

/// The zones of all sources. A name and a namespace each belong to one of them.
#[derive(Debug)]
pub(super) struct Names {
    entries: BTreeMap<ZoneName, Entry>,
    by_cookie: HashMap<NsCookie, ZoneName>,
}

#[derive(Debug)]
struct Entry {
    source: Source,
    cookie: NsCookie,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Ending(EndReason),
    /// The end is in the queue; the name is not free before it is taken from there.
    Told,
}

/// An end that is to be told.
#[derive(Debug)]
pub(super) struct End {
    pub name: ZoneName,
    pub source: Source,
    pub cookie: NsCookie,
    pub why: EndReason,
}

impl Names {
    /// No names, in a daemon whose own namespace is `own`.
    pub fn new(own: NsCookie) -> Self {
        Self { entries: BTreeMap::new(), by_cookie: HashMap::from([(own, ZoneName::global())]) }
    }

    /// Gives a free name, with a namespace that has none, to a source.
    pub fn claim(
        &mut self,
        name: &ZoneName,
        source: &Source,
        cookie: NsCookie,
    ) -> Result<(), SourceError> {
        if name.is_global() {
            return Err(NameError::Reserved(name.to_string()).into());
        }
        if self.entries.contains_key(name) {
            return Err(self.unless_ending(name, SourceError::NameTaken));
        }
        if let Some(other) = self.by_cookie.get(&cookie) {
            return Err(self.unless_ending(other, SourceError::SameNamespace));
        }
        if self.entries.len() >= MOST {
            return Err(SourceError::TooMany(MOST));
        }
        let entry = Entry { source: source.clone(), cookie, state: State::Up };
        self.entries.insert(name.clone(), entry);
        self.by_cookie.insert(cookie, name.clone());
        Ok(())
    }

    fn unless_ending(&self, name: &ZoneName, error: fn(ZoneName) -> SourceError) -> SourceError {
        let ends = self.entries.get(name).is_some_and(|entry| entry.state != State::Up);
        if ends { SourceError::Ending(name.clone()) } else { error(name.clone()) }
    }

    /// The namespaces that are mounted somewhere, as far as is known.
    pub fn mounted(&self) -> HashMap<PathBuf, NsCookie> {
        let mounted = self.entries.values().filter_map(|entry| {
            let path = entry.source.mounted_at()?;
            Some((path.to_owned(), entry.cookie))
        });
        mounted.collect()
    }

    /// Ends the zone of a namespace that is no longer where it was mounted.
    pub fn end_unmounted(&mut self, path: &Path, cookie: NsCookie) {
        let name = self.by_cookie.get(&cookie);
        if let Some(entry) = name.and_then(|name| self.entries.get_mut(name))
            && entry.source.mounted_at() == Some(path)
        {
            entry.end(EndReason::NameRemoved);
        }
    }

    /// Ends the zones of names in other directories than these.
    pub fn end_outside(&mut self, directories: &[PathBuf]) {
        let is_outside = |path: &Path| !directories.iter().any(|dir| path.parent() == Some(dir));
        for entry in self.entries.values_mut() {
            if matches!(&entry.source, Source::Directory(path) if is_outside(path)) {
                entry.end(EndReason::NotWatched);
            }
        }
    }

    /// Ends the zones of the process whose pidfd has this [`token`], if it has exited.
    pub fn end_exited(&mut self, exited: u64) {
        for entry in self.entries.values_mut() {
            if let Source::Process { pidfd, .. } = &entry.source
                && token(pidfd.as_ref()) == exited
                && has_exited(pidfd.as_fd()).is_ok_and(|exited| exited)
            {
                entry.end(EndReason::ProcessExited);
            }
        }
    }

    /// Whether a name stands for this namespace, and its end has not begun.
    pub fn is_up(&self, name: &ZoneName, cookie: NsCookie) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| entry.cookie == cookie && entry.state == State::Up)
    }

    /// The namespaces whose users are to be looked for, by their inodes.
    pub fn to_look_for_users_of(&self) -> HashSet<u64> {
        let up = self.entries.values().filter(|entry| entry.state == State::Up);
        up.filter_map(|entry| entry.source.inode()).collect()
    }

    /// Ends the zone of a namespace that nobody has any more.
    pub fn end_abandoned(&mut self, inode: u64) {
        let of_it = |entry: &&mut Entry| entry.source.inode() == Some(inode);
        self.entries.values_mut().filter(of_it).for_each(|entry| entry.end(EndReason::Abandoned));
    }

    /// Ends a zone that a client registered.
    pub fn unregister(&mut self, name: &ZoneName) -> Result<(), SourceError> {
        let entry = self.entries.get_mut(name);
        let entry = entry.ok_or_else(|| SourceError::Unknown(name.clone()))?;
        if let Source::Directory(path) = &entry.source {
            return Err(SourceError::FromDirectory(path.clone()));
        }
        entry.end(EndReason::Unregistered);
        Ok(())
    }

    /// The ends that have not been told.
    pub fn take_ends(&mut self) -> Vec<End> {
        let ends = self.entries.iter_mut().filter_map(|(name, entry)| {
            let State::Ending(why) = entry.state else { return None };
            entry.state = State::Told;
            let (source, cookie) = (entry.source.clone(), entry.cookie);
            Some(End { name: name.clone(), source, cookie, why })
        });
        ends.collect()
    }

    /// Frees a name.
    pub fn forget(&mut self, name: &ZoneName) {
        if let Some(entry) = self.entries.remove(name) {
            self.by_cookie.remove(&entry.cookie);
        }
    }
}

impl Entry {
    fn end(&mut self, why: EndReason) {
        if self.state == State::Up {
            self.state = State::Ending(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_bound_and_an_end_makes_room() {
        let mut names = Names::new(NsCookie(0));
        let claim = |names: &mut Names, n: usize| {
            let name = ZoneName::new(&format!("z{n}")).unwrap();
            names
                .claim(&name, &Source::Descriptor { inode: None }, NsCookie(n as u64))
                .map(|()| name)
        };
        let last = (1..=MOST).map(|n| claim(&mut names, n).unwrap()).last().unwrap();
        assert!(matches!(claim(&mut names, MOST + 1), Err(SourceError::TooMany(MOST))));
        names.forget(&last);
        claim(&mut names, MOST + 1).unwrap();
    }
}
