//! Namespaces that somebody else keeps open for the daemon, so that they outlive a restart of it.

use std::os::fd::OwnedFd;

use dlmgmt_proto::ZoneName;

/// Who keeps namespaces open while the daemon is not there.
pub trait Custody: Send + Sync + 'static {
    /// What an earlier run gave into custody and did not take back. Only the first call answers any.
    fn take_back(&self) -> Vec<(ZoneName, OwnedFd)>;

    /// Whether the namespace of this zone is kept.
    fn has(&self, zone: &ZoneName) -> bool;

    /// Keeps the namespace of a zone. May block for a moment.
    fn keep(&self, zone: &ZoneName, ns: OwnedFd);

    /// Keeps that of this zone no longer.
    fn let_go(&self, zone: &ZoneName);
}

/// Nobody keeps anything.
#[derive(Clone, Copy, Debug)]
pub struct NoCustody;

impl Custody for NoCustody {
    fn take_back(&self) -> Vec<(ZoneName, OwnedFd)> {
        Vec::new()
    }

    fn has(&self, _: &ZoneName) -> bool {
        // There is nothing to be done about it.
        true
    }

    fn keep(&self, _: &ZoneName, _: OwnedFd) {}

    fn let_go(&self, _: &ZoneName) {}
}
