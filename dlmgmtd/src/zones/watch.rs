//! The watching thread.
//!
//! A name becomes a zone, and ceases to be one, by a mount: so the thread sleeps until the table
//! of mounts changes, or the directories do, and then compares all that is there with all that is
//! known. No single notification matters, so none can be missed: a full queue of the kernel, a
//! directory that comes later or is mounted over, a name not yet mounted are no special cases.

use std::collections::{HashMap, HashSet};
use std::fs::DirEntry;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use dlmgmt_proto::{NameError, ZoneName};
use rustix::event::{Timespec, epoll};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, inotify, statx};
use rustix::path::Arg;
use tokio::sync::mpsc;

use super::names::{End, MOST};
use super::source::{SourceError, check_type, locate, open_located};
use super::users::is_used;
use super::{Found, Shared, Source, SourceEvent, token};
use crate::model::NsCookie;

/// How long to wait before looking again, when this process lacked something to look with.
const RETRY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How often to look who has the namespaces that only descriptors were passed of.
const CENSUS: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// `STATX_MNT_ID_UNIQUE` (since Linux 6.8): numbers of mounts that are never given again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Starts the thread, which ends when the events' receiver is gone.
pub(super) fn start(shared: Arc<Shared>, events: mpsc::Sender<SourceEvent>) -> io::Result<()> {
    let watcher = Watcher::new(shared, events)?;
    thread::Builder::new().name("zone-sources".into()).spawn(move || watcher.run())?;
    Ok(())
}

struct Watcher {
    directories: Vec<PathBuf>,
    shared: Arc<Shared>,
    events: mpsc::Sender<SourceEvent>,
    inotify: OwnedFd,
    /// The table of mounts, never read: it is ready when it has changed.
    mounts: OwnedFd,
    watches: HashSet<i32>,
    identified: HashMap<PathBuf, Identified>,
    ignored: HashMap<PathBuf, String>,
    /// Namespaces, by their inodes, that nobody had when last looked for.
    unused: HashSet<u64>,
    last_census: Instant,
    /// Whether [`SourceEvent::Settled`] was told.
    settled: bool,
}

/// Which namespace is behind one mount. It never changes, so it is asked for once.
#[derive(Clone, Copy)]
struct Identified {
    mount: u64,
    cookie: NsCookie,
}

/// Why the thread stops looking for now.
enum Interrupt {
    /// Nobody receives any more.
    Closed,
    /// This process lacks something that it may have again soon.
    Shortage(SourceError),
}

/// What is found in one round.
#[derive(Default)]
struct Round {
    /// Known mounts of namespaces that are no more.
    unmounted: Vec<(PathBuf, NsCookie)>,
    /// The new names in the directories, in their order.
    candidates: Vec<(ZoneName, PathBuf, NsCookie)>,
    identified: HashMap<PathBuf, Identified>,
    ignored: HashMap<PathBuf, String>,
}

impl Watcher {
    fn new(shared: Arc<Shared>, events: mpsc::Sender<SourceEvent>) -> io::Result<Self> {
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = rustix::fs::open("/proc/thread-self/mountinfo", flags, Mode::empty())?;
        for (source, flags) in [
            (&shared.wake, epoll::EventFlags::IN),
            (&inotify, epoll::EventFlags::IN),
            (&mounts, epoll::EventFlags::PRI),
        ] {
            epoll::add(&shared.epoll, source, epoll::EventData::new_u64(token(source)), flags)?;
        }
        Ok(Self {
            directories: Vec::new(),
            shared,
            events,
            inotify,
            mounts,
            watches: HashSet::new(),
            identified: HashMap::new(),
            ignored: HashMap::new(),
            unused: HashSet::new(),
            last_census: Instant::now(),
            settled: false,
        })
    }

    fn run(mut self) {
        loop {
            let timeout = match self.look() {
                Ok(()) => self.until_census(),
                Err(Interrupt::Closed) => return,
                Err(Interrupt::Shortage(error)) => {
                    tracing::error!(%error, "zones cannot be looked for; trying again");
                    Some(&RETRY)
                }
            };
            if let Err(error) = self.sleep(timeout) {
                tracing::error!(%error, "zones are no longer watched");
                return;
            }
        }
    }

    /// Waits until something may have changed.
    fn sleep(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        let mut ready = Vec::with_capacity(64);
        let buffer = rustix::buffer::spare_capacity(&mut ready);
        match epoll::wait(&self.shared.epoll, buffer, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let own = [token(&self.shared.wake), token(&self.inotify), token(&self.mounts)];
        for event in ready {
            let data = event.data.u64();
            if !own.contains(&data) {
                self.shared.names().end_exited(data);
            }
        }
        drain(&self.shared.wake)?;
        drain(&self.inotify)
    }

    fn until_census(&self) -> Option<&'static Timespec> {
        (!self.shared.names().to_look_for_users_of().is_empty()).then_some(&CENSUS)
    }

    /// Ends zones that nobody has. Who hands a namespace on may be missed once, so that counts only
    /// if it is so twice in a row.
    fn end_abandoned(&mut self) {
        if self.last_census.elapsed().as_secs() < CENSUS.tv_sec.unsigned_abs() {
            return;
        }
        self.last_census = Instant::now();
        let mut unused = self.shared.names().to_look_for_users_of();
        unused.retain(|inode| !is_used(*inode));
        let mut names = self.shared.names();
        unused.intersection(&self.unused).for_each(|inode| names.end_abandoned(*inode));
        drop(names);
        self.unused = unused;
    }

    /// Compares what is there with what is known, and tells the difference.
    fn look(&mut self) -> Result<(), Interrupt> {
        if self.events.is_closed() {
            return Err(Interrupt::Closed);
        }
        self.take_directories();
        self.renew_watches();
        self.end_abandoned();
        let round = self.look_around();
        // The ends of processes do not wait for a shortage to pass.
        if let Ok(round) = &round {
            self.end_unmounted(round);
        }
        self.tell_ends()?;
        let mut round = round.map_err(Interrupt::Shortage)?;
        let announced = self.announce(&mut round);
        self.identified = round.identified;
        self.note_ignored(round.ignored);
        announced?;
        if !self.settled {
            self.tell(SourceEvent::Settled)?;
            self.settled = true;
        }
        Ok(())
    }

    fn end_unmounted(&self, round: &Round) {
        let mut names = self.shared.names();
        for (path, cookie) in &round.unmounted {
            names.end_unmounted(path, *cookie);
        }
    }

    fn tell(&self, event: SourceEvent) -> Result<(), Interrupt> {
        self.events.blocking_send(event).map_err(|_| Interrupt::Closed)
    }

    fn tell_ends(&self) -> Result<(), Interrupt> {
        let ends = self.shared.names().take_ends();
        for End { name, source, cookie, why } in ends {
            self.shared.unwatch_process(&source);
            self.tell(SourceEvent::Ended { name, cookie, why })?;
        }
        Ok(())
    }

    fn announce(&self, round: &mut Round) -> Result<(), Interrupt> {
        for (name, path, cookie) in std::mem::take(&mut round.candidates) {
            match self.appear(name, &path, cookie) {
                Ok(found) => self.tell(SourceEvent::Appeared(found))?,
                Err(error) if error.is_shortage() => return Err(Interrupt::Shortage(error)),
                // Its end being taken brings the next look.
                Err(SourceError::Ending(_)) => {}
                Err(error) => round.ignore(path, &error),
            }
        }
        Ok(())
    }

    fn appear(&self, name: ZoneName, path: &Path, cookie: NsCookie) -> Result<Found, SourceError> {
        let source = Source::Directory(path.to_owned());
        self.shared.names().claim(&name, &source, cookie)?;
        match source.open_as(cookie) {
            Ok(ns) => Ok(Found { name, source, cookie, ns }),
            Err(error) => {
                self.shared.names().forget(&name);
                Err(error)
            }
        }
    }

    /// Logs what is ignored, once for each reason.
    fn note_ignored(&mut self, ignored: HashMap<PathBuf, String>) {
        for (path, reason) in &ignored {
            if self.ignored.get(path) != Some(reason) {
                tracing::warn!(path = %path.display(), %reason, "ignored as a zone");
            }
        }
        self.ignored = ignored;
    }

    /// Finds what became of the known mounts, and every namespace in the directories.
    fn look_around(&self) -> Result<Round, SourceError> {
        let mut round = Round::default();
        let known = self.shared.names().mounted();
        for (path, cookie) in &known {
            if self.look_at(path, &mut round)? != Some(*cookie) {
                round.unmounted.push((path.clone(), *cookie));
            }
        }
        for directory in &self.directories {
            self.look_into(directory, &known, &mut round)?;
        }
        Ok(round)
    }

    // Only a shortage fails: what else is wrong with a directory is a reason to ignore it.
    fn look_into(
        &self,
        directory: &Path,
        known: &HashMap<PathBuf, NsCookie>,
        round: &mut Round,
    ) -> Result<(), SourceError> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return round.ignore_unless_shortage(directory, error.into()),
        };
        for entry in entries {
            match entry {
                Ok(entry) if known.contains_key(&entry.path()) => {}
                Ok(entry) => self.look_at_entry(&entry, round)?,
                Err(error) => return round.ignore_unless_shortage(directory, error.into()),
            }
        }
        Ok(())
    }

    fn look_at_entry(&self, entry: &DirEntry, round: &mut Round) -> Result<(), SourceError> {
        let path = entry.path();
        match zone_name(entry) {
            Ok(name) => {
                if let Some(cookie) = self.look_at(&path, round)? {
                    round.candidates.push((name, path, cookie));
                }
            }
            Err(error) => round.ignore(path, &error.into()),
        }
        Ok(())
    }

    fn look_at(&self, path: &Path, round: &mut Round) -> Result<Option<NsCookie>, SourceError> {
        match self.identify(path, round) {
            Ok(cookie) => Ok(Some(cookie)),
            Err(SourceError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error @ SourceError::NotMounted) => {
                tracing::debug!(path = %path.display(), %error, "not a zone yet");
                Ok(None)
            }
            Err(error) => round.ignore_unless_shortage(path, error).map(|()| None),
        }
    }

    fn identify(&self, path: &Path, round: &mut Round) -> Result<NsCookie, SourceError> {
        let mount = mount_of(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(known) = self.identified.get(path)
            && Some(known.mount) == mount
        {
            round.identified.insert(path.to_owned(), *known);
            return Ok(known.cookie);
        }
        // What is mounted may have changed since: what is opened now is asked again.
        let place = locate(path)?;
        let (_, cookie) = open_located(&place)?;
        if let Some(mount) = mount_of(place, "", AtFlags::EMPTY_PATH)? {
            round.identified.insert(path.to_owned(), Identified { mount, cookie });
        }
        Ok(cookie)
    }

    /// Looks where it is to look now.
    fn take_directories(&mut self) {
        let directories = self.shared.directories().clone();
        if directories != self.directories {
            self.directories = directories;
            self.shared.names().end_outside(&self.directories);
        }
    }

    /// Watches the directories as they are now. For one that is missing, all that leads to it.
    fn renew_watches(&mut self) {
        let mut watches = HashSet::new();
        for directory in &self.directories {
            match watch(&self.inotify, directory) {
                Ok(number) => _ = watches.insert(number),
                Err(_) => watches.extend(watch_way_to(&self.inotify, directory)),
            }
        }
        for gone in self.watches.difference(&watches) {
            // The kernel drops a watch by itself when its directory is deleted.
            let _dropped = inotify::remove_watch(&self.inotify, *gone);
        }
        self.watches = watches;
    }
}

impl Round {
    fn ignore(&mut self, path: PathBuf, why: &SourceError) {
        if self.ignored.len() < MOST {
            self.ignored.insert(path, why.to_string());
        }
    }

    fn ignore_unless_shortage(&mut self, path: &Path, why: SourceError) -> Result<(), SourceError> {
        if why.is_shortage() {
            return Err(why);
        }
        self.ignore(path.to_owned(), &why);
        Ok(())
    }
}

fn zone_name(entry: &DirEntry) -> Result<ZoneName, NameError> {
    // A byte that is not UTF-8 becomes a character that no name may have.
    let name = ZoneName::new(&entry.file_name().to_string_lossy())?;
    if name.is_global() { Err(NameError::Reserved(name.to_string())) } else { Ok(name) }
}

/// The mount that a file belongs to, where the kernel has numbers for mounts that last. Opens
/// nothing, and refuses what is certainly no namespace.
fn mount_of(from: impl AsFd, path: impl Arg, how: AtFlags) -> Result<Option<u64>, SourceError> {
    let what = StatxFlags::TYPE | MNT_ID_UNIQUE;
    let status = statx(from, path, how | AtFlags::NO_AUTOMOUNT, what)?;
    check_type(FileType::from_raw_mode(status.stx_mode.into()))?;
    let told = StatxFlags::from_bits_retain(status.stx_mask).contains(MNT_ID_UNIQUE);
    Ok(told.then_some(status.stx_mnt_id))
}

fn watch(inotify: &OwnedFd, directory: &Path) -> rustix::io::Result<i32> {
    use inotify::WatchFlags as On;
    let here = On::DELETE_SELF | On::MOVE_SELF | On::ONLYDIR;
    let inside = On::CREATE | On::DELETE | On::MOVED_FROM | On::MOVED_TO;
    inotify::add_watch(inotify, directory, here | inside)
}

/// Watches what there is of the way to a directory, from its beginning: so whatever comes to be
/// after one step failed is seen by the watch of the step before.
fn watch_way_to(inotify: &OwnedFd, directory: &Path) -> Vec<i32> {
    let mut way: Vec<_> = directory.ancestors().collect();
    way.reverse();
    way.into_iter().map_while(|step| watch(inotify, step).ok()).collect()
}

/// Takes all there is to read; what it says does not matter.
fn drain(descriptor: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(descriptor, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
