//! What callers send: options by name, each of its type, none that is not known.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use dlmgmt_proto::door::LinkOption;
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

    /// Whether an option was given; absent is false.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// What nothing took, in words: the options of a kind of links may be texts, numbers or truths.
    pub fn into_texts(self) -> Result<Vec<LinkOption>> {
        let told = self.0.into_iter().map(|(name, value)| {
            let bad = || invalid(format!("option {} is of no fitting type", name.escape_debug()));
            let value = in_words(value.into()).ok_or_else(bad)?;
            Ok(LinkOption { name, value })
        });
        let mut told = told.collect::<Result<Vec<_>>>()?;
        told.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(told)
    }

    /// Refuses options that nothing took.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().min() {
            Some(name) => Err(invalid(format!("no option {}", name.escape_debug()))),
            None => Ok(()),
        }
    }
}

fn in_words(value: Variant<'static>) -> Option<String> {
    Some(match value {
        Variant::Str(text) => text.to_string(),
        Variant::Bool(true) => "on".to_owned(),
        Variant::Bool(false) => "off".to_owned(),
        Variant::U8(number) => number.to_string(),
        Variant::U16(number) => number.to_string(),
        Variant::U32(number) => number.to_string(),
        Variant::U64(number) => number.to_string(),
        Variant::I32(number) => number.to_string(),
        Variant::I64(number) => number.to_string(),
        _ => return None,
    })
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
