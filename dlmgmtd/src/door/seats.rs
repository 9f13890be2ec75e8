//! How many connections there may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{Error, ErrorCode, Result};

const ROOT: u32 = 0;

/// Counts connections, in all and by user.
pub(super) struct Seats {
    most: usize,
    most_per_user: usize,
    taken: Mutex<HashMap<u32, usize>>,
}

/// One connection's place; dropping it gives it back.
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
}

impl Seats {
    pub(super) fn new(most: usize, most_per_user: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_user, taken: Mutex::default() })
    }

    /// A place for one more connection of `uid`.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Result<Seat> {
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= self.most {
            let why = format!("the door has {} connections, which is all it takes", self.most);
            return Err(Error::new(ErrorCode::Quota, why));
        }
        let own = taken.get(&uid).copied().unwrap_or(0);
        if uid != ROOT && own >= self.most_per_user {
            let why = format!("user {uid} has {own} connections, which is all it may have");
            return Err(Error::new(ErrorCode::Quota, why));
        }
        taken.insert(uid, own + 1);
        Ok(Seat { seats: Arc::clone(self), uid })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_no_more_than_its_share_and_root_no_more_than_all() {
        let seats = Seats::new(4, 2);
        let mut held = vec![seats.take(1000).unwrap(), seats.take(1000).unwrap()];
        assert_eq!(seats.take(1000).err().unwrap().code, ErrorCode::Quota);
        held.extend([seats.take(ROOT).unwrap(), seats.take(ROOT).unwrap()]);
        assert_eq!(seats.take(ROOT).err().unwrap().code, ErrorCode::Quota);
    }

    #[test]
    fn a_seat_is_given_back_when_its_connection_ends() {
        let seats = Seats::new(1, 1);
        drop(seats.take(1000).unwrap());
        assert!(seats.take(1000).is_ok());
        assert!(seats.lock().is_empty());
    }
}
