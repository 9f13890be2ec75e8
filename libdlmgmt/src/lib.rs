//! A stub of the client library, with the calls that the command makes.

use std::path::{Path, PathBuf};

use dlmgmt_proto::door::{Changed, Command, LinkFilter, Subscribe};
use dlmgmt_proto::{LinkInfo, LinkRef, SequencedEvent};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the door.
    #[error("the daemon is not reachable at {}: {source}", .path.display())]
    Unreachable {
        /// The door.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] dlmgmt_proto::Error),
    /// The daemon does not speak the protocol.
    #[error("{0}")]
    Protocol(String),
    /// The daemon closed the connection.
    #[error("the daemon closed the connection")]
    Closed,
}

/// A connection.
pub struct Client(());

/// A claim on a link.
pub struct Hold<'a>(#[allow(dead_code)] &'a Client);

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Hold<'_> {
    pub fn release(self) -> Result<(), ClientError> {
        Ok(())
    }
}

/// A stream of events.
pub struct Events<'a>(#[allow(dead_code)] &'a Client);

impl Iterator for Events<'_> {
    type Item = Result<SequencedEvent, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Client {
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        Err(ClientError::Unreachable { path: path.as_ref().to_owned(), source })
    }
    pub fn call<C: Command>(&self, _call: &C) -> Result<C::Reply, ClientError> {
        Err(ClientError::Closed)
    }
    pub fn list(&self, _filter: LinkFilter) -> Result<Vec<LinkInfo>, ClientError> {
        Err(ClientError::Closed)
    }
    pub fn export(&self) -> Result<Vec<u8>, ClientError> {
        Err(ClientError::Closed)
    }
    pub fn import(&self, _file: &std::fs::File) -> Result<Changed, ClientError> {
        Err(ClientError::Closed)
    }
    pub fn hold(&self, _link: LinkRef) -> Result<Hold<'_>, ClientError> {
        Ok(Hold(self))
    }
    pub fn subscribe(&self, _call: Subscribe) -> Result<Events<'_>, ClientError> {
        Ok(Events(self))
    }
}
