//! The service manager (systemd): what it passes at the start, what it is told, and what it keeps
//! while the daemon is not there. Without one, nothing of this happens.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dlmgmt_proto::ZoneName;
use rustix::fs::FileType;
use sd_notify::NotifyState;

use crate::engine::Custody;
use crate::sys;

/// What the service manager passed.
#[derive(Debug, Default)]
pub struct Passed {
    /// The socket of the door, if that was opened before the daemon.
    pub door: Option<OwnedFd>,
    /// Namespaces that an earlier run of the daemon gave it to keep.
    pub namespaces: Vec<(ZoneName, OwnedFd)>,
}

impl Passed {
    /// Takes what was passed to this process. Only the first call answers anything.
    pub fn take() -> io::Result<Self> {
        let mut passed = Self::default();
        for (name, fd) in sys::passed_descriptors()? {
            if is_socket(&fd)? {
                passed.door.get_or_insert(fd);
            } else if let Ok(zone) = ZoneName::new(&name) {
                passed.namespaces.push((zone, fd));
            } else {
                tracing::warn!("a descriptor {name:?} was passed that is nothing known");
            }
        }
        Ok(passed)
    }
}

fn is_socket(fd: &OwnedFd) -> io::Result<bool> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Socket)
}

/// Whether there is a service manager that wants to be told.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The first start-up work is done.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The configuration is being read again, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(why) => tracing::warn!("the clock cannot be read: {why}"),
    }
}

/// The daemon does what it is there for.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be told, if the service manager watches: often enough that one that is
/// late does no harm.
pub fn heartbeat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 3)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {why}");
    }
}

/// The service manager's store of descriptors, where each namespace has the name of its zone.
#[derive(Debug)]
pub struct FdStore {
    passed: Mutex<Vec<(ZoneName, OwnedFd)>>,
    kept: Mutex<BTreeSet<ZoneName>>,
}

impl FdStore {
    /// The store, of which `passed` is what was in it at the start.
    pub fn new(passed: Vec<(ZoneName, OwnedFd)>) -> Self {
        let kept = passed.iter().map(|(zone, _)| zone.clone()).collect();
        Self { passed: Mutex::new(passed), kept: Mutex::new(kept) }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeSet<ZoneName>> {
        // Every statement leaves the set whole, so a poisoned lock does no harm.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Custody for FdStore {
    fn take_back(&self) -> Vec<(ZoneName, OwnedFd)> {
        std::mem::take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has(&self, zone: &ZoneName) -> bool {
        self.kept().contains(zone)
    }

    fn keep(&self, zone: &ZoneName, ns: OwnedFd) {
        // The lock is kept until it is told, so that what is told comes in the order of the changes.
        let mut kept = self.kept();
        if !kept.insert(zone.clone()) {
            return;
        }
        let states = [NotifyState::FdStore, NotifyState::FdName(zone.as_str())];
        if let Err(why) = sd_notify::notify_with_fds(&states, &[ns.as_fd()]) {
            kept.remove(zone);
            tracing::warn!(ZONE = zone.as_str(), "the service manager cannot keep {zone}: {why}");
        }
    }

    fn let_go(&self, zone: &ZoneName) {
        let mut kept = self.kept();
        if kept.remove(zone) {
            tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(zone.as_str())]);
        }
    }
}
