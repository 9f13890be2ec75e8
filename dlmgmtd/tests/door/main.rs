//! The door, end to end, before an engine of plain values.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod calls;
mod clients;
mod fake;
mod files;
mod hostile;
mod raw;
mod socket_file;
mod zones;
