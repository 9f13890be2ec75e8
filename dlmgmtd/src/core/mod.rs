//! The rules of SPEC.md as pure functions over plain values: no clock, no I/O, no async.
//!
//! A [`Registry`] is an immutable value. Planning functions read one and answer a [`Plan`]; what
//! comes of carrying it out is a new registry. Who carries plans out, and when, is the engine's
//! business.

mod events;
mod lookup;
mod observe;
mod phys;
mod plan;
mod registry;
mod rename;
mod restore;
mod retire;
mod transfer;

pub use events::events_between;
pub use lookup::{Scope, describe, resolve};
pub use observe::{Look, Observed, Sighting, observe};
pub use plan::{LinkChange, LinkIds, Plan, PlannedStep};
pub use registry::{HoldNumber, Holder, Registry};
pub use rename::plan_rename;
pub use restore::restore;
pub use retire::plan_delete_phys;
pub use transfer::{export, plan_import};

#[cfg(test)]
mod tests;
