//! The datalink management daemon, as a library: `docs/architecture.md` tells how it is built.

pub mod engine;
pub mod kernel;
pub mod model;
pub mod store;
pub mod sys;
