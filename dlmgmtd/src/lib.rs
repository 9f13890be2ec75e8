//! The datalink management daemon, as a library: `docs/architecture.md` tells how it is built.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod auth;
mod begun;
pub mod check;
pub mod config;
pub mod core;
pub mod crash;
pub mod daemon;
pub mod dbus;
pub mod door;
pub mod engine;
pub mod engine_thread;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
pub mod model;
mod seats;
pub mod service_manager;
pub mod store;
pub mod sys;
pub mod udev;
pub mod zones;
