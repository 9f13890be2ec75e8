//! What the operating system offers and no library wraps: the one place of `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::thread::CapabilitySet;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// `SO_NETNS_COOKIE`, which the libc crate does not have yet.
const SO_NETNS_COOKIE: c_int = 71;

/// The cookie of the network namespace in which a socket was made. It needs no privilege.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel writes at
    // most `len` bytes to `cookie`, which `len` is the size of and for which every bit pattern is
    // a value. Both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast::<c_void>(),
            &raw mut len,
        )
    };
    if status == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process may change links (CAP_NET_ADMIN is effective).
pub fn may_change_links() -> io::Result<bool> {
    let held = rustix::thread::capabilities(None)?;
    Ok(held.effective.contains(CapabilitySet::NET_ADMIN))
}

/// A non-blocking descriptor that tasks can wait for.
///
/// It is tokio's [`AsyncFd`] for descriptors of every kind, reduced to what is sound.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Watches `fd`, which must be non-blocking. Needs a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor stays the same one, and open, until the `AsyncFd` is dropped: an
        // `OwnedFd` owns it, and nothing here lends it out mutably or takes it back.
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }

    /// Waits until there is room to write.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.writable().await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Moves the calling thread, and what it starts from now on, into a new network namespace.
#[cfg(test)]
pub(crate) fn enter_new_network_namespace() -> io::Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only unsharing the table of file descriptors endangers memory safety (a thread could
    // use a descriptor of another table); a network namespace is no part of it.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Which kind of namespace a file of the nsfs file system stands for: one of the `CLONE_NEW*` flags.
pub fn namespace_kind(namespace: impl AsFd) -> io::Result<c_int> {
    // SAFETY: the descriptor is open for as long as `namespace` is borrowed; the request has no
    // argument and makes the kernel touch no memory of this process.
    let kind = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// Gives the calling thread, and what it starts from now on, a mount table of its own.
#[cfg(test)]
pub(crate) fn enter_new_mount_namespace() -> io::Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only unsharing the table of file descriptors endangers memory safety (a thread could
    // use a descriptor of another table); mounts are no part of it.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn sockets_of_one_namespace_tell_one_cookie() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixDatagram::unbound().unwrap();
        assert_eq!(netns_cookie(&udp).unwrap(), netns_cookie(&unix).unwrap());
    }

    #[test]
    fn what_is_no_socket_has_no_cookie() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = netns_cookie(&file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn the_capability_is_the_one_that_proc_shows() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let shown = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        let bits = u64::from_str_radix(shown, 16).unwrap();
        assert_eq!(may_change_links().unwrap(), bits & (1 << 12) != 0);
    }

    #[test]
    fn a_namespace_tells_its_kind() {
        let network = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let mounts = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap();
        assert_eq!(namespace_kind(&network).unwrap(), libc::CLONE_NEWNET);
        assert_eq!(namespace_kind(&mounts).unwrap(), libc::CLONE_NEWNS);
    }
}
