//! Names of links and zones: the rules of SPEC.md section 4.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest name the kernel gives a link, in bytes (IFNAMSIZ without its terminator).
pub const KERNEL_NAME_MAX: usize = 15;

/// Longest zone name, in bytes.
pub const ZONE_NAME_MAX: usize = 63;

const RESERVED_LINK_NAMES: [&str; 4] = ["all", "default", "lo", "global"];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no bytes.
    #[error("a name cannot be empty")]
    Empty,
    /// The name has more bytes than allowed.
    #[error("{len} bytes is too long for a name: at most {max} are allowed")]
    TooLong {
        /// Bytes in the refused name.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A link name starts with something else than an ASCII letter.
    #[error("a link name starts with a letter")]
    FirstNotLetter,
    /// A zone name starts with `-` or `.`.
    #[error("a zone name does not start with `-` or `.`")]
    FirstReserved,
    /// A byte is not among those allowed.
    #[error("{} is not allowed in a name: letters, digits, `_`, `.` and `-` are", show_byte(*.0))]
    BadByte(u8),
    /// The word is set aside.
    #[error("`{0}` is a reserved word")]
    Reserved(String),
}

fn show_byte(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("byte 0x{byte:02x}")
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn check_length(bytes: &[u8], max: usize) -> Result<(), NameError> {
    match bytes.len() {
        0 => Err(NameError::Empty),
        len if len > max => Err(NameError::TooLong { len, max }),
        _ => Ok(()),
    }
}

fn check_bytes(bytes: &[u8]) -> Result<(), NameError> {
    match bytes.iter().find(|byte| !is_name_byte(**byte)) {
        Some(byte) => Err(NameError::BadByte(*byte)),
        None => Ok(()),
    }
}

/// A link's name: 1 to 15 bytes.
///
/// A name that a user gives passes [`LinkName::given`]; one found in the kernel is taken as it is
/// by [`LinkName::found`] and need not even be UTF-8. Shown to people, bytes that are not printable
/// appear as `\xNN`, and so does `\`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkName {
    len: u8,
    bytes: [u8; KERNEL_NAME_MAX],
}

impl LinkName {
    /// A name given by a user, checked by the rules of SPEC.md section 4.
    pub fn given(name: &str) -> Result<Self, NameError> {
        Self::given_bytes(name.as_bytes())
    }

    /// As [`LinkName::given`], for bytes that may not even be UTF-8.
    pub fn given_bytes(name: &[u8]) -> Result<Self, NameError> {
        check_length(name, KERNEL_NAME_MAX)?;
        if !name[0].is_ascii_alphabetic() {
            return Err(NameError::FirstNotLetter);
        }
        check_bytes(name)?;
        match RESERVED_LINK_NAMES.iter().find(|word| word.as_bytes() == name) {
            Some(word) => Err(NameError::Reserved((*word).to_owned())),
            None => Self::found(name),
        }
    }

    /// A name found in the kernel, taken as it is; only its length is checked.
    pub fn found(name: &[u8]) -> Result<Self, NameError> {
        check_length(name, KERNEL_NAME_MAX)?;
        let mut bytes = [0; KERNEL_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name);
        // The cast keeps the value: check_length bounds it by KERNEL_NAME_MAX.
        Ok(Self { len: name.len() as u8, bytes })
    }

    /// `PREFIX<N>`, cut to nothing: `None` when it would be longer than a name may be.
    pub fn numbered(prefix: &str, number: u32) -> Option<Self> {
        Self::found(format!("{prefix}{number}").as_bytes()).ok()
    }

    /// The name's bytes, as the kernel has them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialOrd for LinkName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LinkName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(self.as_bytes()))
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkName({self})")
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| push_hex(&mut shown, b));
            } else {
                shown.push(c);
            }
        }
        chunk.invalid().iter().for_each(|b| push_hex(&mut shown, *b));
    }
    shown
}

fn push_hex(shown: &mut String, byte: u8) {
    shown.push_str(&format!("\\x{byte:02x}"));
}

impl FromStr for LinkName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::given(name)
    }
}

impl Serialize for LinkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_string())
        } else {
            serializer.serialize_bytes(self.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for LinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = LinkName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a link name of 1 to 15 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<LinkName, E> {
                LinkName::found(bytes).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<LinkName, E> {
                let bytes = unescape(name).ok_or_else(|| E::custom("a bad `\\x` escape"))?;
                LinkName::found(&bytes).map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

fn unescape(shown: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?);
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// A zone's name: 1 to 63 bytes of letters, digits, `_`, `.`, `-`, not starting with `-` or `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(Arc<str>);

impl ZoneName {
    /// The name of the zone in which the daemon runs.
    pub fn global() -> Self {
        Self("global".into())
    }

    /// What a zone is called that has no name: its number.
    pub fn numbered(zone: crate::ZoneId) -> Self {
        Self(format!("zone{zone}").into())
    }

    /// A zone name, checked by the rules of SPEC.md section 4. `global` passes: it names a zone,
    /// though nobody may give it to one.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_length(name.as_bytes(), ZONE_NAME_MAX)?;
        if name.starts_with(['-', '.']) {
            return Err(NameError::FirstReserved);
        }
        check_bytes(name.as_bytes())?;
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the daemon's own zone.
    pub fn is_global(&self) -> bool {
        self.as_str() == "global"
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ZoneName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for ZoneName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_given_name_keeps_the_rules_of_section_4() {
        for good in ["a", "net0", "eth-1.5_x", "abcdefghijklmno"] {
            assert_eq!(LinkName::given(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        let long = "a".repeat(16);
        let cases: [(&[u8], NameError); 10] = [
            (b"", NameError::Empty),
            (long.as_bytes(), NameError::TooLong { len: 16, max: 15 }),
            (b"0net", NameError::FirstNotLetter),
            (b"a/b", NameError::BadByte(b'/')),
            (b"a:b", NameError::BadByte(b':')),
            (b"a b", NameError::BadByte(b' ')),
            (b"net%d", NameError::BadByte(b'%')),
            (b"a\n", NameError::BadByte(b'\n')),
            (b"a\xff", NameError::BadByte(0xff)),
            (b"all", NameError::Reserved("all".to_owned())),
        ];
        for (bad, why) in cases {
            assert_eq!(LinkName::given_bytes(bad), Err(why));
        }
    }

    #[test]
    fn a_zone_name_keeps_the_rules_of_section_4() {
        for good in ["z", "9zone", "_a.b-c", &"z".repeat(63)] {
            assert!(ZoneName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-z", ".z", "../x", "a/b", "a b", "ä", &"z".repeat(64)] {
            assert!(ZoneName::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_found_name_survives_being_shown(bytes in proptest::collection::vec(any::<u8>(), 1..=15)) {
            let name = LinkName::found(&bytes).unwrap();
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<LinkName>(&json).unwrap(), name);
            let packed = postcard::to_stdvec(&name).unwrap();
            prop_assert_eq!(postcard::from_bytes::<LinkName>(&packed).unwrap(), name);
        }
    }
}
