//! The words that dlmgmt's daemon, library and command share, and the wire format of the door.
//!
//! Nothing here does I/O. SPEC.md section 2 defines the words; `docs/door.md` describes the wire
//! format byte by byte, with the test vectors that this crate's tests check.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod addr;
mod attribute;
mod class;
mod details;
pub mod door;
mod error;
mod event;
mod id;
pub mod kind;
mod link;
mod name;
pub mod property;
pub mod value;
mod zone;

pub use addr::{HwAddr, HwAddrError};
pub use class::{Duplex, Flags, LinkClass, LinkState, Media, ZoneState};
pub use details::{Fact, FactValue, LinkDetails, Topic, TopicError};
pub use error::{Error, ErrorCode, Result};
pub use event::{Event, EventKind, SequencedEvent};
pub use id::{Generation, IfIndex, LinkId, Seq, ZoneId};
pub use link::{
    DevicePath, LinkInfo, LinkRef, LinkRefError, LinkSpec, LowerLink, MacvlanMode, Whereabouts,
};
pub use name::{KERNEL_NAME_MAX, LinkName, NameError, ZONE_NAME_MAX, ZoneName};
pub use value::{Value, ValueError, ValueType, Word};
pub use zone::ZoneInfo;
