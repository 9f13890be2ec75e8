//! The daemon's engine over a simulated kernel and a simulated disk: every promise that needs more
//! than one part to keep it.
//!
//! Each test runs on one thread and in a time of its own, which advances when nothing else can
//! happen. So nothing depends on the machine's speed, and `settle` means just that.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod classes;
#[cfg(debug_assertions)]
mod crash_points;
mod crashes;
mod detaching;
mod details;
mod dumps;
mod events;
mod hints;
mod holds;
mod identity;
mod journal;
mod machine;
#[cfg(debug_assertions)]
mod model;
mod options;
mod perimeters;
mod properties;
mod pulse;
mod random;
mod refusals;
mod zones;
