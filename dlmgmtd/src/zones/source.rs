//! One source of a zone: how its namespace is opened, without being fooled or blocked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use dlmgmt_proto::{NameError, ZoneName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::users::is_used;
use crate::model::NsCookie;
use crate::sys;

/// Opens a zone's namespace again, or fails if it cannot be that namespace any more.
///
/// The descriptor keeps the namespace alive, and no mount busy. It may block for a moment.
pub type Opener = Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>;

/// Where a zone's namespace can be opened again, and what ends it.
#[derive(Clone, Debug)]
pub enum Source {
    /// A name in a watched directory: the zone ends when the namespace is no longer mounted there.
    Directory(PathBuf),
    /// A process in the namespace: the zone ends when the process exits.
    Process {
        /// Its number, which names it only as long as `pidfd` has not ended.
        pid: i32,
        /// The process itself.
        pidfd: Arc<OwnedFd>,
    },
    /// A place that a client named: like `Directory`, for this one name.
    Path(PathBuf),
    /// A descriptor that a client passed: there is nothing to open the namespace again by. The zone
    /// ends when nobody but this process has the namespace any more.
    Descriptor {
        /// The namespace's inode, by which its users are found. It names the namespace as long as
        /// that lives; none where its users cannot be seen from here.
        inode: Option<u64>,
    },
}

/// Why something is no source of a zone.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel refuses.
    #[error("the namespace cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("{0} is there, not a mounted network namespace")]
    NotANamespace(&'static str),
    /// It is what `ip netns add` makes to mount a namespace on.
    #[error("no namespace is mounted there")]
    NotMounted,
    /// The place is given relative to who knows what.
    #[error("the path of a namespace starts with `/`")]
    NotAbsolute,
    /// The descriptor is none of a process.
    #[error("the descriptor is not a pidfd")]
    NotAPidfd,
    /// There is no such process, or no longer.
    #[error("the process does not exist, or has exited")]
    NoProcess,
    /// Another namespace is found where the zone's was.
    #[error("another namespace has taken the place of the zone's")]
    Replaced,
    /// The name is none for a zone.
    #[error("this is no name for a zone: {0}")]
    Name(#[from] NameError),
    /// Another source has the name.
    #[error("there is a zone {0} already")]
    NameTaken(ZoneName),
    /// The zone that has the name, or the namespace, is about to give it up.
    #[error("zone {0} is just ending")]
    Ending(ZoneName),
    /// Another name has the namespace.
    #[error("the namespace is that of zone {0}")]
    SameNamespace(ZoneName),
    /// There are more than are kept.
    #[error("there are too many zones: at most {0} are kept")]
    TooMany(usize),
    /// No source has this name.
    #[error("there is no zone {0}")]
    Unknown(ZoneName),
    /// The zone ends by its name.
    #[error("the zone ends when {} is removed", .0.display())]
    FromDirectory(PathBuf),
}

impl SourceError {
    /// Whether it says nothing about the source, only that this process lacks something just now.
    pub(super) fn is_shortage(&self) -> bool {
        const SHORTAGES: [i32; 5] =
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN];
        matches!(self, Self::Io(e) if e.raw_os_error().is_some_and(|n| SHORTAGES.contains(&n)))
    }
}

impl From<rustix::io::Errno> for SourceError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<SourceError> for io::Error {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

impl Source {
    /// What opens the namespace `cookie` again, if anything does.
    pub fn opener(&self, cookie: NsCookie) -> Option<Opener> {
        if matches!(self, Self::Descriptor { .. }) {
            return None;
        }
        let source = self.clone();
        Some(Arc::new(move || Ok(source.open_as(cookie)?)))
    }

    pub(super) fn process(pid: i32) -> Result<Self, SourceError> {
        let number = u32::try_from(pid).ok().and_then(|_| Pid::from_raw(pid));
        let number = number.ok_or(SourceError::NoProcess)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|error| match error {
            rustix::io::Errno::SRCH => SourceError::NoProcess,
            other => other.into(),
        })?;
        Ok(Self::Process { pid, pidfd: Arc::new(pidfd) })
    }

    pub(super) fn pidfd(pidfd: OwnedFd) -> Result<Self, SourceError> {
        let pid = pid_of(&pidfd)?;
        Ok(Self::Process { pid, pidfd: Arc::new(pidfd) })
    }

    pub(super) fn descriptor(ns: &OwnedFd) -> Result<Self, SourceError> {
        let inode = rustix::fs::fstat(ns)?.st_ino;
        // Who passed it still has it: if not even that is seen, nobody's leaving will be.
        Ok(Self::Descriptor { inode: Some(inode).filter(|inode| is_used(*inode)) })
    }

    pub(super) fn path(path: PathBuf) -> Result<Self, SourceError> {
        if path.is_absolute() { Ok(Self::Path(path)) } else { Err(SourceError::NotAbsolute) }
    }

    /// Where the namespace is mounted, for the sources whose end is that it no longer is.
    pub(super) fn mounted_at(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Path(path) => Some(path),
            Self::Process { .. } | Self::Descriptor { .. } => None,
        }
    }

    /// The inode of a namespace whose users are to be looked for.
    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Self::Descriptor { inode } => *inode,
            Self::Directory(_) | Self::Path(_) | Self::Process { .. } => None,
        }
    }

    pub(super) fn open(&self) -> Result<(OwnedFd, NsCookie), SourceError> {
        match self {
            Self::Directory(path) | Self::Path(path) => open_located(&locate(path)?),
            Self::Process { pid, pidfd } => open_process(*pid, pidfd.as_fd()),
            Self::Descriptor { .. } => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    /// Opens the namespace if it is still the one with this cookie.
    pub(super) fn open_as(&self, cookie: NsCookie) -> Result<OwnedFd, SourceError> {
        let (ns, found) = self.open()?;
        if found == cookie { Ok(ns) } else { Err(SourceError::Replaced) }
    }
}

/// Finds the namespace mounted at `path`, which may be anything: a link is not followed, and
/// nothing is opened in a way that could block or have an effect.
pub(super) fn locate(path: &Path) -> Result<OwnedFd, SourceError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&place)?;
    check_type(FileType::from_raw_mode(status.st_mode))?;
    match (is_namespace(&place)?, status.st_size) {
        (true, _) => Ok(place),
        (false, 0) => Err(SourceError::NotMounted),
        (false, _) => Err(SourceError::NotANamespace("a plain file")),
    }
}

/// Opens what was located.
///
/// As long as this lasts, the mount is busy for who unmounts without `MNT_DETACH`.
pub(super) fn open_located(place: &OwnedFd) -> Result<(OwnedFd, NsCookie), SourceError> {
    let same_file = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    identify(rustix::fs::open(same_file, flags, Mode::empty())?)
}

/// Refuses every type of file that a mounted namespace is not.
pub(super) fn check_type(found: FileType) -> Result<(), SourceError> {
    let what = match found {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "a file of unknown type",
    };
    Err(SourceError::NotANamespace(what))
}

fn is_namespace(file: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type == libc::NSFS_MAGIC)
}

/// The network namespace of a process, which is the one of the pidfd or an error.
pub fn namespace_of(pid: i32, pidfd: BorrowedFd) -> io::Result<NsCookie> {
    Ok(open_process(pid, pidfd)?.1)
}

/// Opens the namespace of a process. The process is seen alive after that, so its number could not
/// have passed to another one before.
fn open_process(pid: i32, pidfd: BorrowedFd) -> Result<(OwnedFd, NsCookie), SourceError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(format!("/proc/{pid}/ns/net"), flags, Mode::empty());
    if has_exited(pidfd)? {
        return Err(SourceError::NoProcess);
    }
    identify(opened?)
}

/// Whether the process of a pidfd has exited.
pub(super) fn has_exited(pidfd: BorrowedFd) -> io::Result<bool> {
    let mut waiting = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut waiting, Some(&at_once))? > 0)
}

fn pid_of(pidfd: &OwnedFd) -> Result<i32, SourceError> {
    let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = shown.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.and_then(|pid| pid.trim().parse().ok()).ok_or(SourceError::NotAPidfd)?;
    // The kernel shows a process that is gone, or out of sight, as 0 or -1.
    if pid > 0 { Ok(pid) } else { Err(SourceError::NoProcess) }
}

/// Makes sure that a descriptor is a network namespace, and tells which one.
///
/// The descriptor returned is another one: it leaves the mount by which the namespace was found
/// free to be unmounted.
pub fn identify(ns: OwnedFd) -> Result<(OwnedFd, NsCookie), SourceError> {
    if !is_namespace(&ns)? {
        return Err(SourceError::NotANamespace("a plain file"));
    }
    if sys::namespace_kind(&ns)? != libc::CLONE_NEWNET {
        return Err(SourceError::NotANamespace("a namespace of another kind"));
    }
    thread::scope(|scope| {
        let visitor = thread::Builder::new().name("netns-visitor".into());
        let visit = visitor.spawn_scoped(scope, || visit(&ns))?;
        Ok(visit.join().map_err(|_| io::Error::other("the visit to the namespace failed"))??)
    })
}

/// Enters a namespace with the calling thread, which must end after that.
fn visit(ns: &OwnedFd) -> io::Result<(OwnedFd, NsCookie)> {
    move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let cookie = NsCookie(sys::netns_cookie(UnixDatagram::unbound()?)?);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let here = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?;
    Ok((here, cookie))
}
