//! The listening socket and its file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Connections that the kernel keeps while the daemon is busy.
const BACKLOG: i32 = 1024;

/// Anyone may knock: what a caller may do is settled call by call.
const MODE: u32 = 0o666;

/// A socket that listens, and its file if that is ours to remove.
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) file: Option<SocketFile>,
}

impl Listener {
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let about = |why: io::Error| {
            io::Error::new(
                why.kind(),
                format!("the door {} cannot be opened: {why}", path.display()),
            )
        };
        clear(path).map_err(about)?;
        Self::make(path).map_err(about)
    }

    fn make(path: &Path) -> io::Result<Self> {
        let socket = seqpacket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let file = SocketFile::new(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        listen(&socket, BACKLOG)?;
        Ok(Self { socket, file: Some(file) })
    }

    pub(super) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        if socket_type(&socket)? != SocketType::SEQPACKET || !socket_acceptconn(&socket)? {
            let why = "the door is no SOCK_SEQPACKET socket that listens";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, file: None })
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Makes way for a new socket file, unless somebody serves the one that is there.
fn clear(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why),
    };
    if !there.file_type().is_socket() {
        let why = "a file that is no socket is in its place";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match connect(seqpacket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon serves it"))
        }
        Err(why) => Err(why.into()),
    }
}

/// A socket file as it was made: another may be in its place later. Dropping it removes it.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let made = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: made.dev(), inode: made.ino() })
    }

    fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // Nothing is left to do about a file that cannot be removed; the next bind replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
