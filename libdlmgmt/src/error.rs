use std::io;
use std::path::PathBuf;

use dlmgmt_proto::door::CodecError;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the door.
    #[error("the daemon is not reachable at {}: {source}", path.display())]
    Unreachable {
        /// The door.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The daemon refused the call, which changed nothing.
    #[error(transparent)]
    Refused(dlmgmt_proto::Error),
    /// What came or was to be sent is not of the protocol.
    #[error("the door's protocol is broken: {0}")]
    Protocol(String),
    /// The system refused to send, to receive or to read.
    #[error("the connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
    /// The daemon ended the connection; a change that was asked for may have been made or not.
    #[error("the daemon closed the connection")]
    Closed,
}

impl From<CodecError> for ClientError {
    fn from(why: CodecError) -> Self {
        Self::Protocol(why.to_string())
    }
}
