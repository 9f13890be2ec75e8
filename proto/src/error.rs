//! Errors as callers see them: SPEC.md section 12.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What every call of the project's interfaces answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Declares the codes with their numbers on the wire, stable names and errnos, in one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $errno:literal;)+) => {
        /// The stable kind of an error. `Kernel` errors carry the kernel's own errno beside it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "u16", from = "u16")]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, as users and scripts see it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The errno (Linux numbers) that goes with the name.
            pub fn errno(self) -> i32 {
                match self { $(Self::$variant => $errno,)+ }
            }
        }

        impl From<ErrorCode> for u16 {
            fn from(code: ErrorCode) -> u16 {
                match code { $(ErrorCode::$variant => $number,)+ }
            }
        }

        impl From<u16> for ErrorCode {
            /// A number of a newer version is read as `invalid`; its message still tells all.
            fn from(number: u16) -> Self {
                match number { $($number => Self::$variant,)+ _ => Self::Invalid }
            }
        }
    };
}

codes! {
    /// No such link, or none that the caller may see.
    NotFound = 1, "not-found", 2;
    /// The name is taken, or the media differ.
    Exists = 2, "exists", 17;
    /// Somebody uses it.
    Busy = 3, "busy", 16;
    /// The request makes no sense.
    Invalid = 4, "invalid", 22;
    /// The caller may not.
    Denied = 5, "denied", 13;
    /// The daemon or the kernel cannot.
    NotSupported = 6, "not-supported", 95;
    /// No such zone.
    NoZone = 7, "no-zone", 3;
    /// The caller's zone has used up what it may have.
    Quota = 8, "quota", 122;
    /// The kernel refused.
    Kernel = 9, "kernel", 5;
    /// The store failed.
    Store = 10, "store", 5;
    /// The daemon or the zone is going down.
    ShuttingDown = 11, "shutting-down", 108;
    /// Not now; the same request may succeed later.
    Again = 12, "again", 11;
    /// The request names an older generation of the link.
    Stale = 13, "stale", 116;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An error as it reaches a user: one clear line that says which link, which zone, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable kind.
    pub code: ErrorCode,
    /// The errno: the code's own, or for `kernel` the one the kernel gave.
    pub errno: i32,
    /// One line for people.
    pub message: String,
}

impl Error {
    /// An error with its code's own errno.
    // Most requests succeed: what makes errors is kept out of the way of their code.
    #[cold]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, errno: code.errno(), message: message.into() }
    }

    /// A refusal by the kernel, with the kernel's own errno.
    #[cold]
    pub fn kernel(errno: i32, message: impl Into<String>) -> Self {
        Self { code: ErrorCode::Kernel, errno, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number_name_and_errno() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from(u16::from(*code)), *code);
        }
        assert_eq!(ErrorCode::Stale.name(), "stale");
        assert_eq!(ErrorCode::Quota.errno(), 122);
        assert_eq!(ErrorCode::from(999), ErrorCode::Invalid);
    }
}
