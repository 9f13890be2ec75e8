//! The client of dlmgmt's door: what other programs use to ask the daemon and to be told by it.
//!
//! ```no_run
//! # fn main() -> Result<(), libdlmgmt::ClientError> {
//! use dlmgmt_proto::door::LinkFilter;
//!
//! let client = libdlmgmt::Client::connect(libdlmgmt::DOOR)?;
//! for link in client.list(LinkFilter::default())? {
//!     println!("{} {}", link.id, link.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] blocks. With the feature `async`, the module `aio` has the same for tokio.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "async")]
pub mod aio;
mod blocking;
mod error;
mod wire;

pub use blocking::{Client, Hold, Subscription};
pub use error::ClientError;

/// Where the daemon of this host listens, unless it was told otherwise.
pub const DOOR: &str = "/run/dlmgmt/door";
