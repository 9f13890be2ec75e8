//! What a client is told of a zone.

use serde::{Deserialize, Serialize};

use crate::{ZoneId, ZoneName, ZoneState};

/// One zone as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneInfo {
    /// Its number, stable for its name.
    pub id: ZoneId,
    /// Its name.
    pub name: ZoneName,
    /// What it is doing.
    pub state: ZoneState,
    /// How many links are in it, the loopback device not counted.
    pub links: u32,
    /// The process whose namespace it is, where it was registered by one.
    pub pid: Option<i32>,
    /// Where its namespace can be opened.
    pub netns: Option<String>,
}
