//! The door, end to end, before an engine of plain values.

mod calls;
mod clients;
mod fake;
mod files;
mod hostile;
mod raw;
mod socket_file;
