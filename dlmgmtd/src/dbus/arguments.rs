//! What callers send: options by name, each of its type, none that is not known.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use dlmgmt_proto::{Error, ErrorCode, Result};
use zbus::{OwnedVariant, Variant};

/// The options of a call. Each is taken once; what is left over is refused.
pub struct Options(HashMap<String, OwnedVariant>);

impl Options {
    /// The options that a caller gave.
    pub fn new(given: HashMap<String, OwnedVariant>) -> Self {
        Self(given)
    }

    /// Takes an option that need not be there.
    pub fn take<T: FromOption>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        T::from_option(value.into())
            .map(Some)
            .ok_or_else(|| invalid(format!("option {name} is not of type `{}`", T::SIGNATURE)))
    }

    /// Takes an option that must be there.
    pub fn need<T: FromOption>(&mut self, name: &str) -> Result<T> {
        self.take(name)?.ok_or_else(|| invalid(format!("option {name} is missing")))
    }

    /// Whether an option was given; absent is false.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// Refuses options that nothing took.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().min() {
            Some(name) => Err(invalid(format!("no option {}", name.escape_debug()))),
            None => Ok(()),
        }
    }
}

/// An argument that makes no sense.
pub fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorCode::Invalid, why)
}

/// A type that an option can have.
pub trait FromOption: Sized {
    /// Its D-Bus signature.
    const SIGNATURE: &'static str;

    /// The value, if it is of this type.
    fn from_option(value: Variant<'static>) -> Option<Self>;
}

/// Declares the types with their signatures.
macro_rules! options {
    ($($type:ty, $signature:literal, $pattern:pat => $value:expr;)+) => {$(
        impl FromOption for $type {
            const SIGNATURE: &'static str = $signature;

            fn from_option(value: Variant<'static>) -> Option<Self> {
                match value {
                    $pattern => $value,
                    _ => None,
                }
            }
        }
    )+};
}

options! {
    bool, "b", Variant::Bool(value) => Some(value);
    i32, "i", Variant::I32(value) => Some(value);
    u32, "u", Variant::U32(value) => Some(value);
    u64, "t", Variant::U64(value) => Some(value);
    String, "s", Variant::Str(value) => Some(value.to_string());
    Vec<String>, "as", Variant::Array(value) => value.try_into().ok();
    OwnedFd, "h", Variant::Fd(value) => value.try_into().ok();
}
