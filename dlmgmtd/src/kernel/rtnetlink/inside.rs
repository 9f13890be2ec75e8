//! Entering a namespace for the moment of a request.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::connection::Connection;
use super::ethtool::Ethtool;
use super::nftables::Nftables;
use crate::kernel::KernelError;
use crate::model::NsCookie;
use crate::sys;

/// A namespace that is open: as long as this is kept, it lives, and requests can be made in it.
pub struct Inside {
    /// Its identity.
    pub cookie: NsCookie,
    /// What opened it.
    pub fd: Arc<OwnedFd>,
    /// A connection that was opened in it.
    pub connection: Connection,
}

impl Inside {
    /// Enters the namespace of a descriptor. Blocks.
    pub fn enter(fd: Arc<OwnedFd>) -> io::Result<Self> {
        let (connection, cookie) = within(&fd, || {
            let connection = Connection::open()?;
            let cookie = NsCookie(sys::netns_cookie(connection.socket())?);
            Ok((connection, cookie))
        })?;
        Ok(Self { cookie, fd, connection })
    }

    /// Opens a connection to the drivers of its links.
    pub fn ethtool(&self) -> Result<Ethtool, KernelError> {
        within(&self.fd, || Ok(Ethtool::open()))?
    }

    /// Opens a connection to its rules.
    pub fn nftables(&self) -> Result<Nftables, KernelError> {
        within(&self.fd, || Ok(Nftables::open()))?
    }
}

/// Does something in the namespace of a descriptor, on a thread that does nothing else: one that
/// enters a namespace must not do other work there by mistake, and a socket works from anywhere.
pub(super) fn within<T: Send>(
    fd: &OwnedFd,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("entering".to_owned());
        let entered = thread.spawn_scoped(scope, || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })?;
        entered.join().map_err(|_| io::Error::other("the thread that entered panicked"))?
    })
}
