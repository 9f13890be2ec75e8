//! Where zones come from and how they end, by the word of whoever names them: names in watched
//! directories, and what clients register by process, path or descriptor.
//!
//! One thread watches (`watch`), because looking at directories may block; it tells through a
//! bounded queue. A name belongs to one source at a time (`names`), until its end has been told.
//! Nothing here keeps a namespace alive, except the descriptor in an event until the event is
//! taken and dropped. That the kernel lets go of a namespace is heard elsewhere, and told to
//! [`ZoneSources::remove`].

mod names;
mod source;
#[cfg(test)]
mod tests;
mod users;
mod watch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::ZoneName;
use rustix::event::{EventfdFlags, epoll, eventfd};
use tokio::sync::mpsc;

use crate::model::NsCookie;
use crate::sys;
use names::Names;
pub use source::{Opener, Source, SourceError, identify, namespace_of};

/// Events that wait for the engine. Each may hold a descriptor, so there are few; nothing is lost
/// by it, as the watching thread looks again once there is room.
const QUEUE: usize = 64;

/// A zone whose namespace was found.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: ZoneName,
    /// Where its namespace can be opened again, and what ends it.
    pub source: Source,
    /// Which namespace it is.
    pub cookie: NsCookie,
    /// The namespace. It lives at least as long as this is open.
    pub ns: OwnedFd,
}

/// Why a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its name was taken away, or now stands for another namespace.
    NameRemoved,
    /// The directory with its name is watched no longer.
    NotWatched,
    /// The process that it was registered by has exited.
    ProcessExited,
    /// [`ZoneSources::remove`] was called.
    Unregistered,
    /// Nobody but this process has its namespace any more.
    Abandoned,
}

/// What happens to the sources of zones.
#[derive(Debug)]
pub enum SourceEvent {
    /// A name with a network namespace appeared in a watched directory.
    Appeared(Found),
    /// A zone of whatever source ended.
    Ended {
        /// Its name, free again for every source once this event is taken.
        name: ZoneName,
        /// Which namespace it was.
        cookie: NsCookie,
        /// Why.
        why: EndReason,
    },
    /// Every zone that was in the directories when watching began has been told. Comes once.
    Settled,
}

/// The sources of all zones.
#[derive(Clone, Debug)]
pub struct ZoneSources {
    shared: Arc<Shared>,
}

/// The events of [`ZoneSources`], in order. Watching ends when this is dropped.
#[derive(Debug)]
pub struct SourceEvents {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<SourceEvent>,
}

impl ZoneSources {
    /// Begins to watch `directories`, which need not exist (yet). Where several have a name, the
    /// first one found has it.
    pub fn start(directories: Vec<PathBuf>) -> io::Result<(Self, SourceEvents)> {
        let own = NsCookie(sys::netns_cookie(UnixDatagram::unbound()?)?);
        let shared = Arc::new(Shared::new(own, directories)?);
        let (sender, queue) = mpsc::channel(QUEUE);
        watch::start(Arc::clone(&shared), sender)?;
        Ok((Self { shared: Arc::clone(&shared) }, SourceEvents { shared, queue }))
    }

    /// Watches these directories instead. The zones of those that are not among them end.
    pub fn set_directories(&self, directories: Vec<PathBuf>) {
        *self.shared.directories() = directories;
        self.shared.wake();
    }

    /// Registers the namespace in which the process `pid` is, as a zone that ends with the process.
    ///
    /// What a client registers is returned and not told as an event; its end is.
    pub fn add_process(&self, name: &ZoneName, pid: i32) -> Result<Found, SourceError> {
        self.add(name, Source::process(pid)?)
    }

    /// Like [`Self::add_process`], for the process of a pidfd: no other process can be meant.
    pub fn add_pidfd(&self, name: &ZoneName, pidfd: OwnedFd) -> Result<Found, SourceError> {
        self.add(name, Source::pidfd(pidfd)?)
    }

    /// Registers the namespace mounted at `path`, as a zone that ends when it no longer is.
    pub fn add_path(&self, name: &ZoneName, path: PathBuf) -> Result<Found, SourceError> {
        self.add(name, Source::path(path)?)
    }

    /// Registers the namespace that a client opened at `path`: like [`Self::add_path`] where the same
    /// one is found there here, and like [`Self::add_descriptor`] where paths mean something else.
    pub fn add_opened(
        &self,
        name: &ZoneName,
        ns: OwnedFd,
        path: PathBuf,
    ) -> Result<Found, SourceError> {
        let (ns, cookie) = source::identify(ns)?;
        let source = Source::path(path).and_then(|source| source.open_as(cookie).map(|_| source));
        let source = source.or_else(|_| Source::descriptor(&ns))?;
        self.claim(Found { name: name.clone(), source, cookie, ns })
    }

    /// Registers the namespace behind a descriptor, as a zone that ends by [`Self::remove`], or some
    /// seconds after nobody else has the namespace any more.
    pub fn add_descriptor(&self, name: &ZoneName, ns: OwnedFd) -> Result<Found, SourceError> {
        let (ns, cookie) = source::identify(ns)?;
        let source = Source::descriptor(&ns)?;
        self.claim(Found { name: name.clone(), source, cookie, ns })
    }

    /// As [`Self::add_descriptor`] for a namespace that is known from before, if a process is in it.
    pub fn find_again(&self, name: &ZoneName, cookie: NsCookie) -> Result<Found, SourceError> {
        self.add_descriptor(name, users::find(cookie).ok_or(SourceError::NoProcess)?)
    }

    /// As [`Self::add_descriptor`] for a namespace that was kept open meanwhile, if anybody has it.
    pub fn claim_again(&self, name: &ZoneName, ns: OwnedFd) -> Result<Found, SourceError> {
        let (ns, cookie) = source::identify(ns)?;
        let source = Source::descriptor(&ns)?;
        if source.inode().is_none() {
            return Err(SourceError::NoProcess);
        }
        self.claim(Found { name: name.clone(), source, cookie, ns })
    }

    /// Whether a zone's source is still there, which may end before the zone is up.
    pub fn has(&self, name: &ZoneName, cookie: NsCookie) -> bool {
        self.shared.names().is_up(name, cookie)
    }

    /// Has a zone in a watched directory told once more, if it is still there: it could not be taken.
    pub fn tell_again(&self, name: &ZoneName, cookie: NsCookie) {
        let mut names = self.shared.names();
        if names.is_up(name, cookie) {
            names.forget(name);
            self.shared.wake();
        }
    }

    /// Ends a zone that a client registered. Its [`SourceEvent::Ended`] follows, once.
    pub fn remove(&self, name: &ZoneName) -> Result<(), SourceError> {
        self.shared.names().unregister(name)?;
        self.shared.wake();
        Ok(())
    }

    fn add(&self, name: &ZoneName, source: Source) -> Result<Found, SourceError> {
        let (ns, cookie) = source.open()?;
        self.claim(Found { name: name.clone(), source, cookie, ns })
    }

    fn claim(&self, found: Found) -> Result<Found, SourceError> {
        let mut names = self.shared.names();
        names.claim(&found.name, &found.source, found.cookie)?;
        if let Err(error) = self.shared.watch_process(&found.source) {
            names.forget(&found.name);
            return Err(error.into());
        }
        // A mount may have gone between its opening and now.
        self.shared.wake();
        Ok(found)
    }
}

impl SourceEvents {
    /// The next event, or nothing if watching failed for good (which is logged). Cancel-safe.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        let event = self.queue.recv().await?;
        if let SourceEvent::Ended { name, .. } = &event {
            self.shared.names().forget(name);
            // The name may stand in a directory that could not have it so far.
            self.shared.wake();
        }
        Some(event)
    }
}

impl Drop for SourceEvents {
    fn drop(&mut self) {
        self.queue.close();
        self.shared.wake();
    }
}

/// What the watching thread and those who register share.
#[derive(Debug)]
struct Shared {
    names: Mutex<Names>,
    directories: Mutex<Vec<PathBuf>>,
    /// What the thread sleeps on. A pidfd is in it under its own number.
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Shared {
    fn new(own: NsCookie, directories: Vec<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            names: Mutex::new(Names::new(own)),
            directories: Mutex::new(directories),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// The table of names. It is whole at every point where a holder of the lock can panic.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directories(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the watching thread look.
    fn wake(&self) {
        // It fails only when the counter is full: then the thread has been woken often enough.
        let _full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn watch_process(&self, source: &Source) -> io::Result<()> {
        if let Source::Process { pidfd, .. } = source {
            let number = epoll::EventData::new_u64(token(pidfd.as_ref()));
            epoll::add(&self.epoll, pidfd, number, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn unwatch_process(&self, source: &Source) {
        if let Source::Process { pidfd, .. } = source
            && let Err(error) = epoll::delete(&self.epoll, pidfd)
        {
            tracing::error!(%error, "a process cannot be let out of sight");
        }
    }
}

/// What the watching thread knows a descriptor by.
fn token(descriptor: impl AsFd) -> u64 {
    u64::from(descriptor.as_fd().as_raw_fd().unsigned_abs())
}
