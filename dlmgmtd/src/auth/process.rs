//! The process of a caller.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::sys;

/// The process that made a connection, whoever has the connection by now.
#[derive(Clone, Debug)]
pub struct Process {
    pid: i32,
    /// None where the kernel (before Linux 6.5) tells no more than the number.
    pidfd: Option<Arc<OwnedFd>>,
}

impl Process {
    /// What is known of a process by its number alone.
    pub fn numbered(pid: i32) -> Self {
        Self { pid, pidfd: None }
    }

    /// The process of a pidfd, whose number is `pid`.
    pub fn of_pidfd(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd: Some(Arc::new(pidfd)) }
    }

    /// The process that connected the other end of a socket and that has the number `pid` by what
    /// the kernel says of that end; none if it has gone already.
    pub fn behind(socket: impl AsFd, pid: i32) -> io::Result<Option<Self>> {
        match sys::peer_pidfd(socket) {
            Ok(pidfd) => Ok(Some(Self::of_pidfd(pid, pidfd))),
            Err(why) => match Errno::from_io_error(&why) {
                Some(Errno::NOPROTOOPT) => Ok(Some(Self::numbered(pid))),
                Some(Errno::SRCH | Errno::INVAL | Errno::NODATA) => Ok(None),
                _ => Err(why),
            },
        }
    }

    /// Its number, unless it has ended: then the number may be another's.
    pub fn pid(&self) -> Option<i32> {
        let has_ended = self.pidfd.as_ref().is_some_and(has_ended);
        (!has_ended).then_some(self.pid)
    }
}

/// A process is the same by its number as far as equal callers go; how long it lives is no part
/// of that.
impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid
    }
}

impl Eq for Process {}

fn has_ended(pidfd: &Arc<OwnedFd>) -> bool {
    let mut waiting = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // One that cannot be asked for is not to be named.
    poll(&mut waiting, Some(&at_once)).map_or(true, |ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_process_that_is_there_has_its_number() {
        let (here, _there) = UnixStream::pair().unwrap();
        let process = Process::behind(&here, 7).unwrap().unwrap();
        assert!(process.pidfd.is_some(), "this kernel has no SO_PEERPIDFD");
        assert_eq!(process.pid(), Some(7));
    }

    #[test]
    fn callers_are_the_same_by_number_whatever_is_known_beside() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(Process::behind(&here, 7).unwrap(), Some(Process::numbered(7)));
        assert_ne!(Process::numbered(7), Process::numbered(8));
    }
}
