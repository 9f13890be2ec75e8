//! What subscribers are told: SPEC.md section 7.

use serde::{Deserialize, Serialize};

use crate::{LinkId, LinkInfo, LinkName, LinkState, Seq, ZoneId, ZoneInfo, ZoneName};

/// One change, with its place in the order of commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencedEvent {
    /// The commit that it shows.
    pub seq: Seq,
    /// What happened.
    pub event: Event,
}

/// What happened to a link, or to the stream itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Part of the state at the time of subscribing.
    Snapshot(LinkInfo),
    /// The snapshot is told in full; what follows are changes.
    SnapshotEnd,
    /// A link became known, or came back.
    Added(LinkInfo),
    /// A link has a new name; `link` shows it already.
    Renamed {
        /// The name before.
        from: LinkName,
        /// The link now.
        link: LinkInfo,
    },
    /// A link is in another zone; `link` shows it there.
    Moved {
        /// The zone before.
        from: ZoneName,
        /// The link now.
        link: LinkInfo,
    },
    /// Something else of the link changed (MTU, address, flags, ...).
    Changed(LinkInfo),
    /// A link carries traffic, or no longer does.
    State {
        /// Which link.
        id: LinkId,
        /// Its name.
        name: LinkName,
        /// Its zone.
        zone: ZoneName,
        /// Its state now.
        state: LinkState,
    },
    /// A physical link's hardware is absent; the record stays.
    Removed(LinkInfo),
    /// The link and its record ended.
    Gone {
        /// Which link.
        id: LinkId,
        /// Its last name.
        name: LinkName,
        /// Its last zone.
        zone: ZoneName,
    },
    /// The subscriber was too slow: events were dropped here.
    Lost {
        /// How many.
        count: u64,
        /// Links that went down in what was dropped.
        went_down: Vec<LinkId>,
    },
    /// The events asked for are no longer kept: take a new snapshot.
    Resync,
    /// A zone's namespace is there.
    ZoneReady(ZoneInfo),
    /// A zone ends; participants are waited for, for a bounded time.
    ZoneShuttingDown(ZoneInfo),
    /// A zone has ended, and its loans are home.
    ZoneGone {
        /// Which zone.
        id: ZoneId,
        /// Its name.
        name: ZoneName,
    },
    /// A hold ended with the zone of its link.
    HoldBroken {
        /// The link that was held.
        id: LinkId,
        /// Its name.
        name: LinkName,
        /// The zone that ended.
        zone: ZoneName,
    },
    /// A link is about to end where it is: its zone ends, or somebody deletes it. New holds are
    /// refused.
    Detaching {
        /// Which link.
        id: LinkId,
        /// Its name.
        name: LinkName,
        /// Its zone.
        zone: ZoneName,
    },
}

impl Event {
    /// The event's kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Snapshot(_) => EventKind::Snapshot,
            Self::SnapshotEnd => EventKind::SnapshotEnd,
            Self::Added(_) => EventKind::Added,
            Self::Renamed { .. } => EventKind::Renamed,
            Self::Moved { .. } => EventKind::Moved,
            Self::Changed(_) => EventKind::Changed,
            Self::State { .. } => EventKind::State,
            Self::Removed(_) => EventKind::Removed,
            Self::Gone { .. } => EventKind::Gone,
            Self::ZoneReady(_) => EventKind::ZoneReady,
            Self::ZoneShuttingDown(_) => EventKind::ZoneShuttingDown,
            Self::ZoneGone { .. } => EventKind::ZoneGone,
            Self::HoldBroken { .. } => EventKind::HoldBroken,
            Self::Detaching { .. } => EventKind::Detaching,
            Self::Lost { .. } => EventKind::Lost,
            Self::Resync => EventKind::Resync,
        }
    }
}

/// The kind of an [`Event`], with its stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// [`Event::Snapshot`]
    Snapshot,
    /// [`Event::SnapshotEnd`]
    SnapshotEnd,
    /// [`Event::Added`]
    Added,
    /// [`Event::Renamed`]
    Renamed,
    /// [`Event::Moved`]
    Moved,
    /// [`Event::Changed`]
    Changed,
    /// [`Event::State`]
    State,
    /// [`Event::Removed`]
    Removed,
    /// [`Event::Gone`]
    Gone,
    /// [`Event::ZoneReady`]
    ZoneReady,
    /// [`Event::ZoneShuttingDown`]
    ZoneShuttingDown,
    /// [`Event::ZoneGone`]
    ZoneGone,
    /// [`Event::HoldBroken`]
    HoldBroken,
    /// [`Event::Detaching`]
    Detaching,
    /// [`Event::Lost`]
    Lost,
    /// [`Event::Resync`]
    Resync,
}

impl EventKind {
    /// The word that `dladm monitor` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::SnapshotEnd => "snapshot-end",
            Self::Added => "added",
            Self::Renamed => "renamed",
            Self::Moved => "moved",
            Self::Changed => "changed",
            Self::State => "state",
            Self::Removed => "removed",
            Self::Gone => "gone",
            Self::ZoneReady => "zone-ready",
            Self::ZoneShuttingDown => "zone-shutting-down",
            Self::ZoneGone => "zone-gone",
            Self::HoldBroken => "hold-broken",
            Self::Detaching => "detaching",
            Self::Lost => "lost",
            Self::Resync => "resync",
        }
    }
}
