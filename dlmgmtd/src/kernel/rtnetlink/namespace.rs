//! A network namespace: sockets that were opened in it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::connection::Connection;
use crate::kernel::KernelError;
use crate::model::NsCookie;
use crate::sys;

/// Requests that can be under way at once. Changes are serial in the kernel anyway; this many let
/// a look-up pass by a long dump.
const CONNECTIONS: usize = 4;

/// A namespace in which requests can be made. It keeps the namespace alive.
pub struct Namespace {
    cookie: NsCookie,
    connections: Vec<Arc<Mutex<Connection>>>,
    next_in_turn: AtomicUsize,
}

impl Namespace {
    /// The namespace of the calling thread.
    pub fn of_this_thread() -> io::Result<Self> {
        let connections: Vec<_> =
            (0..CONNECTIONS).map(|_| Connection::open()).collect::<io::Result<_>>()?;
        let cookie = NsCookie(sys::netns_cookie(connections[0].socket())?);
        let connections = connections.into_iter().map(|c| Arc::new(Mutex::new(c))).collect();
        Ok(Self { cookie, connections, next_in_turn: AtomicUsize::new(0) })
    }

    /// Its identity.
    pub fn cookie(&self) -> NsCookie {
        self.cookie
    }

    /// Makes a request on a thread that may block.
    ///
    /// Once begun, the request runs to its end, also when this future is dropped.
    pub async fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Connection) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let mut connection = self.free_connection().await;
        super::blocking(move || request(&mut connection)).await
    }

    /// As [`Namespace::request`], on the calling thread where that may block, for what is to be
    /// quick.
    pub async fn request_here<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Connection) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let mut connection = self.free_connection().await;
        super::blocking_here(move || request(&mut connection)).await
    }

    async fn free_connection(&self) -> OwnedMutexGuard<Connection> {
        let free = self.connections.iter().find_map(|one| Arc::clone(one).try_lock_owned().ok());
        if let Some(connection) = free {
            return connection;
        }
        let turn = self.next_in_turn.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        Arc::clone(&self.connections[turn]).lock_owned().await
    }
}
