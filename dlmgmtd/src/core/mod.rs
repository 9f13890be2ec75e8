//! The rules of SPEC.md as pure functions over plain values: no clock, no I/O, no async.
//!
//! A [`Registry`] is an immutable value. Planning functions read one and answer a [`Plan`]; what
//! comes of carrying it out is a new registry. Who carries plans out, and when, is the engine's
//! business.

mod events;
mod import;
mod likeness;
mod loans;
mod lookup;
mod making;
mod observe;
mod options;
mod phys;
mod plan;
mod properties;
mod registry;
mod rename;
mod restore;
mod retire;
mod stacking;
mod transfer;
mod zones;

pub use events::{changed, detaching, events_between};
pub use import::{Asked, known_virtual_links, links_to_change, links_to_lend, plan_import};
pub use loans::{Lend, Recall, is_overdue, plan_home_coming, plan_lend, plan_recall, refuse_stale};
pub use lookup::{Scope, describe_to, resolve, veiled, visible_zone};
pub use making::{
    Make, PortChange, plan_change_ports, plan_delete, plan_end, plan_make, plan_remake,
};
pub use observe::{Look, Observed, Sighting, observe};
pub use options::wanted_options;
pub use plan::{Creation, LinkChange, LinkIds, Plan, PlannedStep, Stored};
pub use properties::{
    Resetting, Setting, describe_properties, equipment, plan_reset_properties, plan_set_properties,
};
pub use registry::{HoldNumber, Holder, Registry};
pub use rename::plan_rename;
pub use restore::restore;
pub use retire::plan_delete_phys;
pub use stacking::is_incomplete;
pub use transfer::{Document, export};
pub use zones::{
    describe_zone, is_shown, plan_forget_lost, plan_space_lost, plan_zone_down, plan_zone_ending,
    plan_zone_up, refuse_ending, zone_events, zone_named,
};

#[cfg(test)]
mod tests;
