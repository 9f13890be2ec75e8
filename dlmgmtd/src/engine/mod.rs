//! The one pipeline: request → authorise → plan → persist → apply → publish → reply.

mod service;

pub use service::{Caller, EventStream, HoldGuard, Service, Snapshot};
