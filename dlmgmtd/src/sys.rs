//! What the operating system offers and no library wraps: the one place of `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The process that connected the other end of an `AF_UNIX` socket, as a pidfd. The kernel knows
/// the option since Linux 6.5, and refuses (`ESRCH`, `EINVAL`) where that process is gone and it
/// keeps no pidfd of it.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut fd: c_int = -1;
    let mut len = size_of_val(&fd) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel writes at
    // most `len` bytes to `fd`, which `len` is the size of and for which every bit pattern is a
    // value. Both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast::<c_void>(),
            &raw mut len,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: where it succeeds, this option makes a new descriptor (with close-on-exec) in this
    // process and tells its number, which nobody else has or closes.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a netlink socket hear what is multicast in every namespace that has a number (nsid) in the
/// socket's own. Needs CAP_NET_BROADCAST.
pub fn listen_to_all_namespaces(socket: impl AsFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads from
    // `on` as many bytes as `on` has. It outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_LISTEN_ALL_NSID,
            (&raw const on).cast::<c_void>(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a link is to be whose other side is a program.
#[derive(Clone, Copy, Debug)]
pub struct Tun {
    /// Whether Ethernet frames come and go, not IP packets.
    pub carries_frames: bool,
    /// Whether it can be opened more than once at a time.
    pub has_many_queues: bool,
    /// The user that may open it, beside root.
    pub user: Option<u32>,
    /// The group that may open it.
    pub group: Option<u32>,
}

/// Makes a link whose other side is a program, in the namespace of the calling thread; it stays
/// when nobody has it open. The name must be free (`EBUSY` where it is not).
pub fn make_tun(name: &[u8], tun: &Tun) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let layer = if tun.carries_frames { libc::IFF_TAP } else { libc::IFF_TUN };
    let queues = if tun.has_many_queues { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = layer | queues | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        // The kernel reads the flags as 16 bits, of which `IFF_TUN_EXCL` is the highest.
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as u16 as i16 },
    };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name) {
        *place = byte.cast_signed();
    }
    // SAFETY: the descriptor is open for as long as `device` lives, and the kernel reads and writes
    // an `ifreq` at the pointer, which is one that outlives the call.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let owners = [(libc::TUNSETOWNER, tun.user), (libc::TUNSETGROUP, tun.group)];
    let owners = owners.into_iter().filter_map(|(what, id)| Some((what, id?)));
    for (what, number) in owners.chain([(libc::TUNSETPERSIST, 1)]) {
        // SAFETY: the descriptor is open for as long as `device` lives, and these take a number in
        // the place of a pointer, which the kernel does not follow.
        let status = unsafe { libc::ioctl(device.as_raw_fd(), what, libc::c_ulong::from(number)) };
        if status != 0 {
            // Not persistent yet, it ends with the descriptor.
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Room for the one control message that [`receive_with_nsid`] looks for, aligned as its header
/// must be.
#[repr(C)]
struct NsidControl {
    header: libc::cmsghdr,
    nsid: c_int,
}

/// Receives one datagram of a netlink socket that listens to all namespaces, without waiting.
/// Answers the datagram's whole length, which may be larger than the buffer, and the number of the
/// namespace that it came from; `None` for the socket's own where that has no number.
pub fn receive_with_nsid(
    socket: impl AsFd,
    datagram: &mut [u8],
) -> io::Result<(usize, Option<i32>)> {
    // SAFETY: all zeros is a value of both of these types of numbers and pointers.
    let (mut control, mut message): (NsidControl, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut part =
        libc::iovec { iov_base: datagram.as_mut_ptr().cast::<c_void>(), iov_len: datagram.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast::<c_void>();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed. `message` names `part`,
    // which names the bytes of `datagram`, and `control`, each with its true length: the kernel
    // writes no further. All of them outlive the call, and any bytes are values of theirs.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let tells_nsid = message.msg_controllen >= size_of_val(&control.header)
        && control.header.cmsg_level == libc::SOL_NETLINK
        && control.header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID;
    Ok((len, tells_nsid.then_some(control.nsid)))
}

/// Whether this process may change links (CAP_NET_ADMIN is effective).
pub fn may_change_links() -> io::Result<bool> {
    let held = rustix::thread::capabilities(None)?;
    Ok(held.effective.contains(CapabilitySet::NET_ADMIN))
}

/// The descriptors that the service manager passed to this process at its start (`LISTEN_FDS`), with
/// their names. Only the first call answers any.
pub fn passed_descriptors() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: by the protocol (`LISTEN_PID` is this process, which was checked, as was that each
    // number is open) these descriptors were open before this process began and are for it alone.
    // Who opens others gets other numbers, so nobody here owns them; and as `TAKEN` lets only one
    // call come here, nobody will but whom they are answered to.
    Ok(passed.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect())
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

/// A socket for whole frames: it sends them over a link, and takes in all that the link has.
#[cfg(test)]
pub(crate) fn frame_socket(ifindex: u32) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let (packet, flags) = (AddressFamily::PACKET, SocketFlags::CLOEXEC);
    let socket = socket_with(packet, SocketType::RAW, flags, None)?;
    // SAFETY: every bit pattern of zeros is a value of this plain structure of integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = ifindex.cast_signed();
    // SAFETY: the descriptor is open, and the kernel reads from `address` as many bytes as it has.
    // Both outlive the call.
    let status = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast::<libc::sockaddr>(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
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
    fn the_other_end_of_a_pair_was_connected_by_this_process() {
        let (here, _there) = UnixDatagram::pair().unwrap();
        let pidfd = peer_pidfd(&here).unwrap();
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
        let pid = format!("Pid:\t{}", std::process::id());
        assert!(told.unwrap().lines().any(|line| line == pid));
    }

    #[test]
    fn a_socket_that_nobody_connected_has_no_other_process() {
        let alone = UnixDatagram::unbound().unwrap();
        assert!(peer_pidfd(&alone).is_err());
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
