//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest address the kernel keeps, in bytes (MAX_ADDR_LEN).
const HW_ADDR_MAX: usize = 32;

/// Why a text or a byte string is not a hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HwAddrError {
    /// No bytes, or more than the kernel keeps.
    #[error("a hardware address has 1 to 32 bytes, not {0}")]
    BadLength(usize),
    /// A part between colons is not a pair of hexadecimal digits.
    #[error("`{0}` is not a hardware address: pairs of hexadecimal digits between colons are")]
    BadText(String),
}

/// A link-layer address: 6 bytes for Ethernet, 20 for Infiniband, 4 or 16 for tunnels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HwAddr {
    len: u8,
    bytes: [u8; HW_ADDR_MAX],
}

impl HwAddr {
    /// The address of these bytes.
    pub fn new(address: &[u8]) -> Result<Self, HwAddrError> {
        if address.is_empty() || address.len() > HW_ADDR_MAX {
            return Err(HwAddrError::BadLength(address.len()));
        }
        let mut bytes = [0; HW_ADDR_MAX];
        bytes[..address.len()].copy_from_slice(address);
        // The cast keeps the value: the length is at most HW_ADDR_MAX.
        Ok(Self { len: address.len() as u8, bytes })
    }

    /// The address' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it can be the address of a single Ethernet link.
    pub fn is_unicast_ethernet(&self) -> bool {
        const GROUP_BIT: u8 = 1;
        let address = self.as_bytes();
        address.len() == 6 && address[0] & GROUP_BIT == 0 && !self.is_zero()
    }

    /// Whether every byte is 0, which the kernel uses for "no address".
    pub fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl fmt::Display for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        f.pad(&parts.join(":"))
    }
}

impl fmt::Debug for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HwAddr({self})")
    }
}

impl FromStr for HwAddr {
    type Err = HwAddrError;

    fn from_str(text: &str) -> Result<Self, HwAddrError> {
        let bad = || HwAddrError::BadText(text.to_owned());
        let bytes: Vec<u8> = text
            .split(':')
            .map(|part| {
                let is_pair = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
                if is_pair { u8::from_str_radix(part, 16).map_err(|_| bad()) } else { Err(bad()) }
            })
            .collect::<Result<_, _>>()?;
        Self::new(&bytes)
    }
}

impl Serialize for HwAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_string())
        } else {
            serializer.serialize_bytes(self.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for HwAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = HwAddr;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hardware address of 1 to 32 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<HwAddr, E> {
                HwAddr::new(bytes).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HwAddr, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_say_the_same() {
        let address: HwAddr = "02:00:00:Ab:cd:ef".parse().unwrap();
        assert_eq!(address.to_string(), "02:00:00:ab:cd:ef");
        assert_eq!(address.as_bytes(), [2, 0, 0, 0xab, 0xcd, 0xef]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", ":", "1:2", "02:00:00:00:00:0g", "020000000000", "+1:00"] {
            assert!(bad.parse::<HwAddr>().is_err(), "{bad}");
        }
        assert_eq!(HwAddr::new(&[0; 33]), Err(HwAddrError::BadLength(33)));
    }
}
