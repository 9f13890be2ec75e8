//! The system calls that no safe crate offers: the only `unsafe` code of the project.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's number for the network namespace of a socket (`SO_NETNS_COOKIE`).
///
/// For an accepted `AF_UNIX` connection it is the namespace in which the client made its socket.
pub fn netns_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    // The cast keeps the value: a u64 has 8 bytes.
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `fd` is open for the length of the call, since it is borrowed. `cookie` and `len` are
    // ours alone, and the kernel writes at most the `len` bytes that `cookie` has, any of which
    // make a valid u64.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if status == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn both_ends_of_a_pair_have_one_namespace() {
        let (a, b) = UnixStream::pair().unwrap();
        assert_eq!(netns_cookie(a.as_fd()).unwrap(), netns_cookie(b.as_fd()).unwrap());
    }

    #[test]
    fn what_is_no_socket_has_no_namespace() {
        let (a, _b) = io::pipe().unwrap();
        assert!(netns_cookie(a.as_fd()).is_err());
    }
}
