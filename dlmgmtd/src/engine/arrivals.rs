//! Where links are about to appear that this daemon makes or moves: a look at that moment would take
//! them for links that nobody knows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::LinkName;

use crate::model::NsCookie;

/// A name in a namespace.
pub type Seat = (NsCookie, LinkName);

/// What is expected at this moment, by number.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    expected: Vec<(u64, Vec<Seat>)>,
    last: u64,
}

/// Links are expected until this is dropped.
#[derive(Debug)]
pub struct Expected {
    number: u64,
    arrivals: Arrivals,
}

impl Arrivals {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves the state whole, so a poisoned lock does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links may appear at these seats from now on.
    pub fn expect(&self, seats: Vec<Seat>) -> Expected {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.expected.push((number, seats));
        Expected { number, arrivals: self.clone() }
    }

    /// Where links may appear in a namespace.
    pub fn names_in(&self, ns: NsCookie) -> BTreeSet<LinkName> {
        let state = self.state();
        let seats = state.expected.iter().flat_map(|(_, seats)| seats);
        seats.filter(|(at, _)| *at == ns).map(|(_, name)| *name).collect()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.arrivals.state().expected.retain(|(number, _)| *number != self.number);
    }
}
