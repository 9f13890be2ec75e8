//! What a link may not send: the words of `protection` and the networks of `allowed-ips`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::value::{Value, ValueError};
use crate::class::words;

words! {
    /// One kind of frames that a link does not send.
    Guard {
        /// From an address that is not the link's own.
        MacNoSpoof = "mac-nospoof",
        /// From an IP address that is not among those allowed.
        IpNoSpoof = "ip-nospoof",
        /// Of another protocol than IPv4, IPv6 and ARP.
        Restricted = "restricted",
    }
}

/// What illumos has besides: it compares client identifiers, options that are at no fixed place of
/// a packet, where rules of `nf_tables` cannot find them.
const DHCP: &str = "dhcp-nospoof";

/// As many as illumos takes.
const NETWORKS_MAX: usize = 32;

/// IP addresses that begin with the same bits; one address where these are all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits are the same.
    pub prefix: u8,
}

impl Network {
    /// The bytes of its address, and those of the mask that leaves the bits that are the same.
    pub fn with_mask(&self) -> (Vec<u8>, Vec<u8>) {
        let octets = octets(self.address);
        let mask = (0..octets.len()).map(|index| {
            let bits = usize::from(self.prefix).saturating_sub(index * 8).min(8);
            !(0xff_u8.checked_shr(bits as u32).unwrap_or(0))
        });
        let mask = mask.collect();
        (octets, mask)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = usize::from(self.prefix) == octets(self.address).len() * 8;
        match is_one {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

/// The text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let bits = octets(address).len() * 8;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| NoNetwork)?,
            None => bits as u8,
        };
        let network = Self { address, prefix };
        let (octets, mask) = network.with_mask();
        let has_more_bits = octets.iter().zip(mask).any(|(byte, mask)| byte & !mask != 0);
        let is_sound = usize::from(prefix) <= bits && !has_more_bits;
        is_sound.then_some(network).ok_or(NoNetwork)
    }
}

/// Reads the words of `protection`.
pub(super) fn guards(text: &str) -> Result<Value, ValueError> {
    let guard = |word: &str| match word.parse::<Guard>() {
        Ok(guard) => Ok(guard.as_str().as_bytes().to_vec()),
        Err(_) if word == DHCP => Err(ValueError::NoDhcpGuard),
        Err(_) => Err(ValueError::NotPossible {
            text: word.escape_debug().to_string(),
            possible: possible_guards(),
        }),
    };
    set_of(text, guard)
}

/// The words of `protection`, separated by commas.
pub(super) fn possible_guards() -> String {
    let words: Vec<&str> = Guard::ALL.iter().map(|guard| guard.as_str()).collect();
    words.join(",")
}

/// Reads the networks of `allowed-ips`.
pub(super) fn networks(text: &str) -> Result<Value, ValueError> {
    let network = |part: &str| match part.parse::<Network>() {
        Ok(network) => Ok(network.to_string().into_bytes()),
        Err(NoNetwork) => Err(ValueError::NoNetwork(part.escape_debug().to_string())),
    };
    match set_of(text, network)? {
        Value::Names(all) if all.len() > NETWORKS_MAX => {
            Err(ValueError::TooMany { count: all.len(), most: NETWORKS_MAX })
        }
        networks => Ok(networks),
    }
}

fn set_of(
    text: &str,
    read: impl Fn(&str) -> Result<Vec<u8>, ValueError>,
) -> Result<Value, ValueError> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let mut set = parts.map(read).collect::<Result<Vec<_>, _>>()?;
    set.sort_unstable();
    set.dedup();
    Ok(Value::Names(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::property::Kind;

    fn names(names: &[&str]) -> Value {
        Value::Names(names.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    #[test]
    fn words_of_protection_are_a_set() {
        let value = Kind::Guards.parse("restricted,mac-nospoof,restricted").unwrap();
        assert_eq!(value, names(&["mac-nospoof", "restricted"]));
        assert_eq!(Kind::Guards.show(&value), "mac-nospoof,restricted");
        assert_eq!(Kind::Guards.parse(""), Ok(names(&[])));
    }

    #[test]
    fn what_cannot_be_guarded_is_refused_by_its_name() {
        let why = |text| Kind::Guards.parse(text).unwrap_err().to_string();
        assert!(why("mac-nospoof,dhcp-nospoof").contains("dhcp-nospoof"));
        assert_eq!(why("all"), "`all` is none of mac-nospoof,ip-nospoof,restricted");
    }

    #[test]
    fn networks_are_shown_as_they_are_read() {
        for text in ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "fe80::/10", "2001:db8::1", "::/0"] {
            assert_eq!(Kind::Networks.show(&Kind::Networks.parse(text).unwrap()), text);
        }
        assert_eq!(Kind::Networks.parse("10.0.0.1/32"), Ok(names(&["10.0.0.1"])));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.0.0", "10.0.0.1/8", "10.0.0.0/33", "::1/129", "x", "10.0.0.0/"] {
            assert_eq!(Kind::Networks.parse(text), Err(ValueError::NoNetwork(text.to_owned())));
        }
        let many: Vec<String> = (0..33).map(|last| format!("10.0.0.{last}")).collect();
        let refused = Err(ValueError::TooMany { count: 33, most: 32 });
        assert_eq!(Kind::Networks.parse(&many.join(",")), refused);
    }

    #[test]
    fn a_mask_leaves_the_bits_that_are_the_same() {
        let network: Network = "10.128.0.0/9".parse().unwrap();
        assert_eq!(network.with_mask(), (vec![10, 128, 0, 0], vec![255, 128, 0, 0]));
    }
}
