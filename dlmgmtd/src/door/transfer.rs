//! Descriptors that travel with a packet.

use std::os::fd::OwnedFd;

use dlmgmt_proto::Result;

use super::socket::invalid;

/// The only descriptor that came with a call of `command`.
pub(super) fn only(command: &str, fds: Vec<OwnedFd>) -> Result<OwnedFd> {
    let missing = || invalid(format!("`{command}` takes one descriptor, and none came"));
    at_most_one(command, fds)?.ok_or_else(missing)
}

/// The descriptor that came with a call of `command`, if one did.
pub(super) fn at_most_one(command: &str, mut fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>> {
    match fds.len() {
        0 | 1 => Ok(fds.pop()),
        count => Err(invalid(format!("`{command}` takes one descriptor, and {count} came"))),
    }
}
