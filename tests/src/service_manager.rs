//! A stand-in for systemd: the other end of `NOTIFY_SOCKET`, with a store of descriptors.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{Host, bin, eventually};

/// A service manager for the daemons of one host. It is this process, as systemd would be the
/// daemon's parent.
pub struct ServiceManager {
    socket: PathBuf,
    heard: Arc<Mutex<Heard>>,
    listener: Option<JoinHandle<()>>,
    door: Option<OwnedFd>,
    watchdog: Option<Duration>,
}

/// What the daemon said, and what it gave.
#[derive(Default)]
struct Heard {
    said: Vec<String>,
    kept: BTreeMap<String, OwnedFd>,
    has_ended: bool,
}

impl Heard {
    fn take(&mut self, message: &str, descriptors: Vec<OwnedFd>) {
        let lines: Vec<&str> = message.lines().collect();
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if lines.contains(&"FDSTORE=1") {
            self.kept.extend(descriptors.into_iter().map(|fd| (name.to_owned(), fd)));
        }
        if lines.contains(&"FDSTOREREMOVE=1") {
            self.kept.remove(name);
        }
        self.said.extend(lines.into_iter().map(str::to_owned));
    }
}

impl ServiceManager {
    /// One for this host's daemons.
    ///
    /// # Panics
    /// When its socket cannot be made.
    pub fn new(host: &Host) -> Self {
        let socket = host.dir().join("notify");
        let receiver = UnixDatagram::bind(&socket).expect("the socket can be made");
        let heard = Arc::<Mutex<Heard>>::default();
        let listener = std::thread::spawn({
            let heard = heard.clone();
            move || listen(&receiver, &heard)
        });
        Self { socket, heard, listener: Some(listener), door: None, watchdog: None }
    }

    /// Opens the door before the daemon starts, and passes it to each.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open_door(&mut self, host: &Host) {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let door = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
        let door = door.expect("a socket");
        let address = SocketAddrUnix::new(host.door()).expect("a short path");
        rustix::net::bind(&door, &address).expect("the door can be bound");
        rustix::net::listen(&door, 64).expect("the door can listen");
        self.door = Some(door);
    }

    /// Wants to hear of life within this time.
    pub fn watch(&mut self, within: Duration) {
        self.watchdog = Some(within);
    }

    /// The daemon's command, as a service of this manager: it gets the door, if that is open, and
    /// all that is kept.
    pub fn command(&self, host: &Host) -> Command {
        let (mut redirections, mut names) = (String::new(), Vec::new());
        // A descriptor of a namespace can be opened again by way of /proc, a socket not: it comes as
        // the standard input.
        if self.door.is_some() {
            redirections += "exec 3<&0; ";
            names.push("door".to_owned());
        }
        let own = std::process::id();
        for (name, fd) in &self.heard().kept {
            let number = 3 + names.len();
            redirections += &format!("exec {number}</proc/{own}/fd/{}; ", fd.as_raw_fd());
            names.push(name.clone());
        }
        let (count, names) = (names.len(), names.join(":"));
        let mut environment = format!("NOTIFY_SOCKET={}", self.socket.display());
        if count > 0 {
            environment += &format!(" LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}");
        }
        if let Some(within) = self.watchdog {
            environment += &format!(" WATCHDOG_PID=$$ WATCHDOG_USEC={}", within.as_micros());
        }
        let mut command = host.command("sh");
        command
            .arg("-c")
            .arg(format!("{redirections}{environment} exec \"$0\" \"$@\" 0</dev/null"));
        if let Some(door) = &self.door {
            command.stdin(Stdio::from(door.try_clone().expect("room for a descriptor")));
        }
        command.arg(bin("dlmgmtd"));
        host.add_daemon_args(&mut command);
        command
    }

    /// The names of what it keeps, sorted.
    pub fn kept(&self) -> Vec<String> {
        self.heard().kept.keys().cloned().collect()
    }

    /// Waits until it keeps just this.
    #[track_caller]
    pub fn await_kept(&self, names: &[&str]) {
        eventually(&format!("{names:?} is kept"), || self.kept() == names);
    }

    /// How often this was said so far.
    pub fn times(&self, line: &str) -> usize {
        self.heard().said.iter().filter(|said| *said == line).count()
    }

    /// All that was said so far.
    pub fn said(&self) -> Vec<String> {
        self.heard().said.clone()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(socket: &UnixDatagram, heard: &Mutex<Heard>) {
    let mut buffer = [0; 4096];
    while !lock(heard).has_ended {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let got = recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC);
        let Ok(got) = got else { return };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        lock(heard).take(&String::from_utf8_lossy(&buffer[..got.bytes]), descriptors);
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        self.heard().has_ended = true;
        // Wakes the listener. It fails only where that has ended already.
        let _ = UnixDatagram::unbound().and_then(|waker| waker.send_to(b"", &self.socket));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
