//! The namespaces that are watched.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::IfIndex;

use super::connection::Connection;
use super::inside::Inside;
use super::numbers::Numbers;
use super::request::Target;
use super::search::{self, Inode};
use crate::kernel::{KernelError, MovedTo, NsOpener};
use crate::model::NsCookie;

/// A namespace that is watched. What is kept of it keeps it alive only if it is pinned.
#[derive(Clone)]
pub struct Zone {
    /// Its identity.
    pub cookie: NsCookie,
    /// Its number at home.
    pub nsid: i32,
    inode: Inode,
    opener: NsOpener,
    pin: Option<Arc<OwnedFd>>,
}

impl Zone {
    /// Opens the namespace and enters it. Blocks.
    pub fn enter(&self) -> Result<Inside, KernelError> {
        self.descriptors()
            .filter_map(|fd| Inside::enter(fd).ok())
            .find(|inside| inside.cookie == self.cookie)
            .ok_or_else(|| KernelError::no_namespace(self.cookie))
    }

    /// What may be open doors to it, the surest first. Each may lead elsewhere by now.
    fn descriptors(&self) -> impl Iterator<Item = Arc<OwnedFd>> {
        let opened = std::iter::once_with(|| (self.opener)().ok()).flatten();
        let found = std::iter::once_with(|| search::descriptors(self.inode)).flatten();
        self.pin.clone().into_iter().chain(opened.chain(found).map(Arc::new))
    }

    /// Whether its number cannot mean another namespace by now.
    pub fn has_sure_number(&self) -> bool {
        self.pin.is_some() || Numbers::is_lasting(self.nsid)
    }

    /// How a request at home names it, if it can be named without opening it.
    pub fn by_number(&self) -> Option<Target> {
        self.has_sure_number().then_some(Target::Number(self.nsid))
    }
}

/// The daemon's own namespace and all that are watched, by their cookies and by their numbers.
pub struct Zones {
    home: NsCookie,
    home_fd: Arc<OwnedFd>,
    /// Without privilege, home has no number, and nothing else can be watched.
    home_nsid: Option<i32>,
    numbers: Numbers,
    connection: Mutex<Connection>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    zones: HashMap<NsCookie, Zone>,
    by_nsid: HashMap<i32, NsCookie>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Neither the maps nor a connection are left half-changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zones {
    /// None are watched; home, of the cookie `home`, is the namespace of the calling thread.
    pub fn of_this_thread(home: NsCookie) -> io::Result<Self> {
        let home_fd = Arc::new(OwnedFd::from(File::open("/proc/thread-self/ns/net")?));
        let mut connection = Connection::open()?;
        let numbers = Numbers::new();
        // The kernel numbers home for itself as soon as it shows a link that lies over one at
        // home, and from then on notifications of home carry the number: better now than then.
        let home_nsid = numbers.number(&mut connection, home_fd.as_fd()).ok();
        Ok(Self {
            home,
            home_fd,
            home_nsid,
            numbers,
            connection: Mutex::new(connection),
            watched: Mutex::default(),
        })
    }

    /// A descriptor of the daemon's own namespace.
    pub fn home_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.home_fd)
    }

    /// Begins to watch a namespace. Blocks.
    pub fn watch(&self, fd: OwnedFd, opener: NsOpener) -> Result<NsCookie, KernelError> {
        // Open until the namespace is in the maps: so its death is not told before.
        let inside = Inside::enter(Arc::new(fd))?;
        let cookie = inside.cookie;
        if cookie == self.home {
            return Ok(cookie);
        }
        let inode = Inode::of(&inside.fd)?;
        let nsid = self.numbers.number(&mut lock(&self.connection), inside.fd.as_fd())?;
        let mut watched = lock(&self.watched);
        let pin = watched.zones.remove(&cookie).and_then(|known| known.pin);
        watched.zones.insert(cookie, Zone { cookie, nsid, inode, opener, pin });
        watched.by_nsid.insert(nsid, cookie);
        Ok(cookie)
    }

    /// Ends that. Whether it was watched.
    pub fn unwatch(&self, ns: NsCookie) -> bool {
        let mut watched = lock(&self.watched);
        let Some(zone) = watched.zones.remove(&ns) else { return false };
        // The number may be that of another namespace by now.
        if watched.by_nsid.get(&zone.nsid) == Some(&ns) {
            watched.by_nsid.remove(&zone.nsid);
        }
        true
    }

    /// A watched namespace.
    pub fn zone(&self, ns: NsCookie) -> Result<Zone, KernelError> {
        let zone = lock(&self.watched).zones.get(&ns).cloned();
        zone.ok_or_else(|| KernelError::no_namespace(ns))
    }

    /// Keeps a watched namespace alive from now on. Blocks.
    pub fn pin(&self, ns: NsCookie) -> Result<(), KernelError> {
        let zone = self.zone(ns)?;
        if zone.pin.is_some() {
            return Ok(());
        }
        let fd = zone.enter()?.fd;
        let mut watched = lock(&self.watched);
        let zone = watched.zones.get_mut(&ns).ok_or_else(|| KernelError::no_namespace(ns))?;
        zone.pin = Some(fd);
        Ok(())
    }

    /// Ends that.
    pub fn unpin(&self, ns: NsCookie) {
        let mut watched = lock(&self.watched);
        let pin = watched.zones.get_mut(&ns).and_then(|zone| zone.pin.take());
        drop(watched);
        // To close the last descriptor of a namespace takes the kernel a moment.
        drop(pin);
    }

    /// The namespace that a notification came from, if it is of interest.
    pub fn of_number(&self, nsid: Option<i32>) -> Option<NsCookie> {
        match nsid {
            None => Some(self.home),
            Some(_) if nsid == self.home_nsid => Some(self.home),
            Some(nsid) => lock(&self.watched).by_nsid.get(&nsid).copied(),
        }
    }

    /// Where a link went that left the namespace `from`, which has the number `there` for where.
    pub fn moved_to(&self, from: NsCookie, there: i32, ifindex: IfIndex) -> MovedTo {
        let nsid = if from == self.home { Some(there) } else { self.number_from(from, there) };
        let ns = nsid.and_then(|nsid| self.of_number(Some(nsid)));
        MovedTo { ns, nsid: nsid.unwrap_or(-1), ifindex }
    }

    fn number_from(&self, from: NsCookie, there: i32) -> Option<i32> {
        let from = self.zone(from).ok()?;
        lock(&self.connection).number_from(from.nsid, there).ok().flatten()
    }

    /// Ends the watch over those that have died, which are the answer: of all, or of those that
    /// had a number. Blocks.
    pub fn bury_the_dead(&self, of_number: Option<i32>) -> Vec<NsCookie> {
        let watched = lock(&self.watched);
        // More than one can have had a number: the kernel gives it again as soon as it is free.
        let asked = watched.zones.values().filter(|zone| of_number.is_none_or(|n| n == zone.nsid));
        let asked: Vec<Zone> = asked.cloned().collect();
        drop(watched);
        asked.iter().filter(|zone| self.has_died(zone)).map(|zone| zone.cookie).collect()
    }

    /// A namespace of which it cannot be said that it lives counts as dead: its number may mean
    /// another one, and nothing must be done there.
    fn has_died(&self, zone: &Zone) -> bool {
        let lives = zone.pin.is_some()
            || (lock(&self.connection).has_number(zone.nsid).unwrap_or(true)
                && (zone.has_sure_number() || zone.enter().is_ok()));
        !lives && self.unwatch(zone.cookie)
    }

    /// The refusal of a request about a namespace by its number, in words that fit if it is dead.
    pub fn explain(&self, zone: &Zone, refusal: KernelError) -> KernelError {
        match lock(&self.connection).has_number(zone.nsid) {
            Ok(false) => KernelError::no_namespace(zone.cookie),
            _ => refusal,
        }
    }
}
