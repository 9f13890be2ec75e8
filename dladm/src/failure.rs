//! Why a command did not do what it was asked, and how that is told.

use std::fmt;
use std::process::ExitCode;

use dlmgmt_proto::{LinkRefError, NameError};
use libdlmgmt::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The daemon refused, with the stable name of its reason for scripts to look for.
    #[error("{} ({})", .0.message, .0.code)]
    Refused(dlmgmt_proto::Error),
    /// The daemon cannot be talked to.
    #[error(transparent)]
    Client(ClientError),
    /// An operand cannot name a link.
    #[error("{0} (invalid)")]
    BadLink(#[from] LinkRefError),
    /// An operand cannot name a zone.
    #[error("zone `{0}`: {1} (invalid)")]
    BadZone(String, NameError),
    /// An operand is not text.
    #[error("`{0}` is not valid UTF-8 (invalid)")]
    NotUtf8(String),
    /// The daemon knows no such zone.
    #[error("there is no zone {0} (no-zone)")]
    NoZone(String),
    /// The link is there, but not one that the command is about.
    #[error("{0}")]
    OtherLink(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Nobody reads the output any more: no reason to complain.
    #[error("nobody reads the output")]
    NobodyReads,
}

impl Failure {
    /// Wraps what the system said of `what`.
    pub fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    fn status(&self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::Usage(_) => 2,
            Self::Client(ClientError::Unreachable { .. } | ClientError::Closed) => 3,
            _ => 1,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => Self::Refused(refusal),
            other => Self::Client(other),
        }
    }
}

/// A failure and what was being done: the one line that the user sees.
#[derive(Debug)]
pub struct Report {
    what: String,
    failure: Failure,
}

impl Report {
    /// `failure` stopped `what`.
    pub fn new(what: impl Into<String>, failure: Failure) -> Self {
        Self { what: what.into(), failure }
    }

    /// The exit status: 1 refused or failed, 2 usage, 3 the daemon is not reachable.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.failure.status())
    }

    /// Whether the user is to be told.
    pub fn is_worth_telling(&self) -> bool {
        !matches!(self.failure, Failure::NobodyReads)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("dladm: {}: {}", self.what, self.failure);
        f.write_str(&one_line(&line))
    }
}

/// The text with every control character escaped: names and messages from anywhere can neither
/// break the line nor command the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlmgmt_proto::ErrorCode;

    fn refused(code: ErrorCode, message: &str) -> Failure {
        ClientError::Refused(dlmgmt_proto::Error::new(code, message)).into()
    }

    #[test]
    fn an_error_is_one_line_with_what_why_and_the_stable_name() {
        let report = Report::new("show-link net9", refused(ErrorCode::NotFound, "no link net9"));
        assert_eq!(report.to_string(), "dladm: show-link net9: no link net9 (not-found)");
    }

    #[test]
    fn control_characters_cannot_break_the_line() {
        let report = Report::new("show-link a\nb", refused(ErrorCode::Invalid, "\x1b[31mred"));
        assert_eq!(report.to_string(), "dladm: show-link a\\nb: \\u{1b}[31mred (invalid)");
    }

    #[test]
    fn the_exit_status_tells_refusal_from_usage_from_no_daemon() {
        let unreachable = ClientError::Unreachable {
            path: "/nowhere".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(refused(ErrorCode::Busy, "held").status(), 1);
        assert_eq!(Failure::NotUtf8(String::new()).status(), 1);
        assert_eq!(Failure::Usage(String::new()).status(), 2);
        assert_eq!(Failure::from(unreachable).status(), 3);
        assert_eq!(Failure::from(ClientError::Closed).status(), 3);
        assert_eq!(Failure::NobodyReads.status(), 0);
    }
}
