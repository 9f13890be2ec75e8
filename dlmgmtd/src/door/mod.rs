//! The door: the daemon's own socket. `docs/door.md` describes what travels over it.

mod connection;
mod listener;
mod outbox;
mod pages;
mod presence;
mod socket;
mod subscriptions;
mod transfer;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dlmgmt_proto::door::{Kind, encode};
use dlmgmt_proto::{Error, ErrorCode, ZoneId};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::auth::Process;
use crate::engine::{Caller, Service};
use crate::files::Imports;
use crate::model::NsCookie;
use crate::seats::{Bounds, Seat, Seats};
use crate::sys;

use connection::{Connection, End, Served};
use listener::Listener;
use presence::{Presence, Stay};
use socket::Socket;

/// Which zone a network namespace is, if any.
pub type ZoneOf = Arc<dyn Fn(NsCookie) -> Option<ZoneId> + Send + Sync>;

/// How a door serves.
#[derive(Clone)]
pub struct DoorOptions {
    /// Which zone a caller's namespace is; asked once for a connection.
    pub zone_of: ZoneOf,
    /// What clients may use up.
    pub limits: Limits,
}

/// What clients may use up before they are refused, made to wait or disconnected.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// How many of these are kept for root in zone `global`.
    pub connections_for_root: usize,
    /// Connections of one user at one time; root counts for each zone but `global`, which is not
    /// bounded.
    pub connections_per_user: usize,
    /// Changes of one connection under way; its next packets wait.
    pub calls: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Holds of one connection.
    pub holds: usize,
    /// Replies that wait for one client to read; one more and it is disconnected.
    pub queued_packets: usize,
    /// Bytes of such replies; more and the client is disconnected.
    pub queued_bytes: usize,
    /// How long a client may take to say hello.
    pub hello_within: Duration,
    /// How long a client whose zone has ended may take to read what it is told of that.
    pub farewell_within: Duration,
    /// How long, at the end, changes under way and unread replies may take.
    pub drain_within: Duration,
}

impl Limits {
    fn seats(&self) -> Bounds {
        Bounds {
            all: self.connections,
            for_root: self.connections_for_root,
            per_user: self.connections_per_user,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_for_root: 64,
            connections_per_user: 256,
            calls: 64,
            subscriptions: 16,
            holds: 1024,
            queued_packets: 256,
            queued_bytes: 512 * 1024,
            hello_within: Duration::from_secs(10),
            farewell_within: Duration::from_secs(2),
            drain_within: Duration::from_secs(3),
        }
    }
}

/// A listening door. Dropping it removes its socket file.
pub struct Door {
    listener: Listener,
    reception: Reception,
}

/// Ends connections of a door while that is served.
#[derive(Clone)]
pub struct DoorHandle {
    presence: Arc<Presence>,
}

impl DoorHandle {
    /// Closes every connection whose client's socket was made in this namespace, which is no longer
    /// the zone that it was. Takes no further call of them from now on; changes under way go on to
    /// their end. A connection with subscriptions stays until each of them was told that the zone
    /// is gone, for [`Limits::farewell_within`] at most.
    ///
    /// [`DoorOptions::zone_of`] must have forgotten the namespace before: a connection that is let
    /// in meanwhile is then either closed too or belongs to no zone.
    pub fn close_namespace(&self, ns: NsCookie) {
        self.presence.end(ns);
    }
}

/// Where new connections are let in.
struct Reception {
    desk: Arc<Desk>,
    seats: Arc<Seats>,
    presence: Arc<Presence>,
    zone_of: ZoneOf,
}

/// A client that was let in, and what its connection takes up.
struct Guest {
    caller: Caller,
    seat: Seat,
    stay: Stay,
    /// Closes when the connection is to end with its zone.
    ended: oneshot::Receiver<()>,
}

/// What all connections of a door share.
struct Desk {
    service: Arc<dyn Service>,
    limits: Limits,
    imports: Imports,
}

/// Where and how long connections are served.
#[derive(Clone)]
struct Terms {
    /// Serves a connection from its first change on.
    changes_on: Handle,
    /// Closes when the door is to.
    stop: watch::Receiver<()>,
}

impl Door {
    /// Listens at `path`. A socket file that a dead daemon left there is replaced; one that is
    /// served, or a file that is no socket, is an error that says so.
    pub fn bind(path: &Path, service: Arc<dyn Service>, options: DoorOptions) -> io::Result<Self> {
        Ok(Self::new(Listener::bind(path)?, service, options))
    }

    /// Serves a socket that somebody else made to listen; its file stays when the door ends.
    pub fn from_listener(
        socket: OwnedFd,
        service: Arc<dyn Service>,
        options: DoorOptions,
    ) -> io::Result<Self> {
        Ok(Self::new(Listener::inherit(socket)?, service, options))
    }

    fn new(listener: Listener, service: Arc<dyn Service>, options: DoorOptions) -> Self {
        Self { listener, reception: Reception::new(service, options) }
    }

    /// What ends connections while the door is served.
    pub fn handle(&self) -> DoorHandle {
        DoorHandle { presence: Arc::clone(&self.reception.presence) }
    }

    /// Serves until `shutdown` is ready, each connection on the runtime `changes_on` from its first
    /// change on. Changes under way then go on to their end and are answered, for a bounded time,
    /// before the connections close.
    pub async fn serve(
        self,
        changes_on: Handle,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { listener: Listener { socket, file: _file }, reception } = self;
        // As with the connections, tokio's stream type stands in for `SOCK_SEQPACKET`.
        let listening = UnixListener::from_std(socket.into())?;
        let (stopping, stop) = watch::channel(());
        let terms = Terms { changes_on, stop };
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        let result = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some(_) = connections.join_next() => {}
                accepted = listening.accept() => match accepted {
                    Ok((socket, _)) => reception.welcome(socket, &terms, &mut connections),
                    Err(why) if is_passing(&why) => rest(&why).await,
                    Err(why) => break Err(why),
                },
            }
        };
        drop(stopping);
        while connections.join_next().await.is_some() {}
        result
    }
}

/// Serves one connected socket, as a door serves each that it accepts, until that is closed.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn serve_connected(
    socket: UnixStream,
    service: Arc<dyn Service>,
    options: DoorOptions,
) -> Result<(), tokio::task::JoinError> {
    let (_stopping, stop) = watch::channel(());
    let terms = Terms { changes_on: Handle::current(), stop };
    let mut connections = JoinSet::new();
    Reception::new(service, options).welcome(socket, &terms, &mut connections);
    connections.join_next().await.unwrap_or(Ok(()))
}

impl Reception {
    fn new(service: Arc<dyn Service>, options: DoorOptions) -> Self {
        let DoorOptions { zone_of, limits } = options;
        let seats = Seats::new("connections", limits.seats());
        let desk = Arc::new(Desk { service, limits, imports: Imports::default() });
        Self { desk, seats, presence: Arc::default(), zone_of }
    }

    /// Starts to serve a new connection, or tells it why not.
    fn welcome(&self, socket: UnixStream, terms: &Terms, connections: &mut JoinSet<()>) {
        match self.admit(&socket) {
            Ok(guest) => {
                connections.spawn(attend(Arc::clone(&self.desk), socket, guest, terms.clone()));
            }
            Err(error) => turn_away(socket, &error),
        }
    }

    /// Finds out who is at the other end, as the kernel tells it, and whether there is room.
    fn admit(&self, socket: &UnixStream) -> Result<Guest, Error> {
        let unknown = |why: io::Error| {
            Error::new(ErrorCode::Denied, format!("the caller cannot be identified: {why}"))
        };
        let peer = socket.peer_cred().map_err(unknown)?;
        let ns = NsCookie(sys::netns_cookie(socket).map_err(unknown)?);
        // The kernel gives 0 for a process that this pid namespace does not see.
        let pid = peer.pid().filter(|pid| *pid > 0);
        let process = pid.map(|pid| Process::behind(socket, pid)).transpose().map_err(unknown)?;
        // Noted before its zone is looked up: a zone that ends in between finds the connection.
        let (stay, ended) = self.presence.enter(ns);
        let caller = Caller {
            zone: (self.zone_of)(ns),
            uid: peer.uid(),
            gid: peer.gid(),
            process: process.flatten(),
            ..Caller::default()
        };
        let seat = self.seats.take(&caller)?;
        Ok(Guest { caller, seat, stay, ended })
    }
}

async fn attend(desk: Arc<Desk>, socket: UnixStream, guest: Guest, terms: Terms) {
    let Terms { changes_on, stop } = terms;
    let Guest { caller, seat: _seat, stay: _stay, ended } = guest;
    let pid = caller.process.as_ref().and_then(Process::pid);
    let connection = Connection::new(desk, Socket::new(socket), caller, ended);
    let mut served = connection.run(stopped(stop.clone())).await;
    let end = loop {
        served = match served {
            Served::Ended(end) => break end,
            Served::ToChange(connection) => {
                let there = changes_on.spawn(serve_here(*connection, stop.clone()));
                there.await.unwrap_or_else(|why| Served::Ended(why.into()))
            }
        };
    };
    tracing::debug!(pid, %end, "a connection ended");
}

/// Serves a connection that comes from another runtime.
async fn serve_here(connection: Connection, stop: watch::Receiver<()>) -> Served {
    match connection.arrived() {
        Ok(connection) => connection.run(stopped(stop)).await,
        Err(why) => Served::Ended(End::Io(why)),
    }
}

/// Ready when the door is to close.
async fn stopped(mut stop: watch::Receiver<()>) {
    // The sender never sends: the channel's end is the signal.
    while stop.changed().await.is_ok() {}
}

/// Leaves a connection with an error that belongs to no call.
fn turn_away(socket: UnixStream, error: &Error) {
    if let Ok(packet) = encode(Kind::Error, 0, 0, error) {
        // A client that has gone already needs no answer.
        let _ = Socket::new(socket).try_send(&packet, None);
    }
}

/// Whether the next try to accept may succeed.
fn is_passing(why: &io::Error) -> bool {
    let passing =
        [Errno::CONNABORTED, Errno::INTR, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(why).is_some_and(|errno| passing.contains(&errno))
}

/// Waits a little, so that a lack of descriptors or memory is not met by a busy loop.
async fn rest(why: &io::Error) {
    tracing::warn!(%why, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
