//! How much callers may have at one time: connections of the door, and calls on the bus.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{Error, ErrorCode, Result, ZoneId};

use crate::engine::Caller;

const ROOT: u32 = 0;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// At one time.
    pub all: usize,
    /// How many of these are kept for root in zone `global`.
    pub for_root: usize,
    /// Of one user at one time; root counts for each zone but `global`, which is not bounded.
    pub per_user: usize,
}

/// Counts places, in all and by those who share a bound.
pub(crate) struct Seats {
    /// What takes the places, for messages.
    what: &'static str,
    bounds: Bounds,
    taken: Mutex<HashMap<Party, usize>>,
}

/// Who shares a bound: in a container, user 0 may be anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    /// Root in the daemon's own zone, whom nothing but the total bounds.
    HostRoot,
    /// A user, wherever it is.
    User(u32),
    /// Root in a zone, or in the namespaces that are none.
    RootIn(Option<ZoneId>),
}

impl Party {
    fn of(caller: &Caller) -> Self {
        match (caller.uid, caller.zone) {
            (ROOT, Some(ZoneId::GLOBAL)) => Self::HostRoot,
            (ROOT, zone) => Self::RootIn(zone),
            (uid, _) => Self::User(uid),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostRoot => write!(f, "root"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::RootIn(Some(zone)) => write!(f, "root in zone {zone}"),
            Self::RootIn(None) => write!(f, "root outside every zone"),
        }
    }
}

/// Whether a caller can already do to the host what bounds are there to prevent.
pub(crate) fn is_host_root(caller: &Caller) -> bool {
    Party::of(caller) == Party::HostRoot
}

/// One place; dropping it gives it back.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    party: Party,
}

impl Seats {
    pub(crate) fn new(what: &'static str, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { what, bounds, taken: Mutex::default() })
    }

    /// One more place for this caller.
    pub(crate) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Seat> {
        let party = Party::of(caller);
        let mut taken = self.lock();
        let (all, own) = (taken.values().sum(), taken.get(&party).copied().unwrap_or(0));
        self.check(party, all, own)?;
        taken.insert(party, own + 1);
        Ok(Seat { seats: Arc::clone(self), party })
    }

    fn check(&self, party: Party, all: usize, own: usize) -> Result<()> {
        let (what, Bounds { all: most, for_root, per_user }) = (self.what, self.bounds);
        let quota = |why| Err(Error::new(ErrorCode::Quota, why));
        let kept = if party == Party::HostRoot { 0 } else { for_root };
        if all + kept >= most {
            return quota(format!("there are {all} {what}, and {party} gets no more of them"));
        }
        if party != Party::HostRoot && own >= per_user {
            return quota(format!("{party} has {own} {what}, which is all it may have"));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Party, usize>> {
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(own) = taken.get_mut(&self.party) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBAL: Option<ZoneId> = Some(ZoneId::GLOBAL);

    fn seats(all: usize, for_root: usize) -> Arc<Seats> {
        Seats::new("connections", Bounds { all, for_root, per_user: 2 })
    }

    fn caller(zone: Option<ZoneId>, uid: u32) -> Caller {
        Caller { zone, uid, ..Caller::default() }
    }

    fn is_refused(seats: &Arc<Seats>, caller: &Caller) -> bool {
        seats.take(caller).err().is_some_and(|why| why.code == ErrorCode::Quota)
    }

    #[test]
    fn a_user_gets_no_more_than_its_share_and_root_no_more_than_all() {
        let (seats, user, root) = (seats(4, 0), caller(GLOBAL, 1000), caller(GLOBAL, 0));
        let mut held = vec![seats.take(&user).unwrap(), seats.take(&user).unwrap()];
        assert!(is_refused(&seats, &user));
        assert!(is_refused(&seats, &caller(Some(ZoneId(1)), 1000)), "the user is the same");
        held.extend([seats.take(&root).unwrap(), seats.take(&root).unwrap()]);
        assert!(is_refused(&seats, &root));
    }

    #[test]
    fn root_of_a_zone_is_no_more_than_a_user_and_takes_nothing_from_other_zones() {
        let (seats, zone) = (seats(100, 0), |number| caller(Some(ZoneId(number)), 0));
        let _held = [seats.take(&zone(1)).unwrap(), seats.take(&zone(1)).unwrap()];
        assert!(is_refused(&seats, &zone(1)));
        assert!(seats.take(&zone(2)).is_ok());
        assert!(seats.take(&caller(None, 0)).is_ok());
    }

    #[test]
    fn root_finds_a_place_however_many_others_there_are() {
        let seats = seats(3, 1);
        let _held = [1, 2].map(|uid| seats.take(&caller(GLOBAL, uid)).unwrap());
        assert!(is_refused(&seats, &caller(GLOBAL, 3)));
        assert!(seats.take(&caller(GLOBAL, 0)).is_ok());
    }

    #[test]
    fn a_seat_that_is_dropped_is_given_back() {
        let (seats, user) = (seats(1, 0), caller(GLOBAL, 1000));
        drop(seats.take(&user).unwrap());
        assert!(seats.take(&user).is_ok());
        assert!(seats.lock().is_empty());
    }
}
