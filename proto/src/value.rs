//! Values of options and properties: how they are written by users, and which ones there are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::HwAddr;

/// What a value can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `on` or `off`.
    Switch,
    /// A whole number of this range, both ends included.
    Number {
        /// The lowest one.
        min: u64,
        /// The highest one.
        max: u64,
    },
    /// One of a few words.
    Words(&'static [Word]),
    /// The address of a single Ethernet link.
    Mac,
    /// An IP address.
    Ip {
        /// Of which family.
        family: Family,
        /// Of whom.
        casting: Casting,
    },
    /// IPv4 addresses, separated by commas; there may be none.
    Hosts4,
}

/// A few IPv4 addresses of single hosts, each once, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts4 {
    addresses: [Ipv4Addr; Self::MOST],
    len: usize,
}

impl Hosts4 {
    /// As many as a bond asks (`BOND_MAX_ARP_TARGETS`).
    pub const MOST: usize = 16;

    /// These addresses; `None` where they are too many, one is there twice, or is none of a host.
    pub fn new(all: impl IntoIterator<Item = Ipv4Addr>) -> Option<Self> {
        let mut hosts = Self { addresses: [Ipv4Addr::UNSPECIFIED; Self::MOST], len: 0 };
        for address in all {
            let is_host = !address.is_unspecified() && !address.is_multicast();
            if !is_host || hosts.as_slice().contains(&address) {
                return None;
            }
            *hosts.addresses.get_mut(hosts.len)? = address;
            hosts.len += 1;
        }
        Some(hosts)
    }

    /// The addresses.
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        &self.addresses[..self.len]
    }

    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        Self::new(parts.map(|part| part.parse().ok()).collect::<Option<Vec<_>>>()?)
    }
}

impl fmt::Display for Hosts4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.as_slice().iter().map(Ipv4Addr::to_string).collect();
        f.pad(&texts.join(","))
    }
}

/// A word that stands for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub name: &'static str,
    /// Other words for it, which are taken and never shown.
    pub aliases: &'static [&'static str],
    /// The number that the kernel has for it; `None` where it is said by leaving it out.
    pub number: Option<u64>,
    /// The value that another option must have with it, and has by itself: its name, and that.
    pub implies: Option<(&'static str, &'static str)>,
}

impl Word {
    /// A word for a number.
    pub const fn new(name: &'static str, number: u64) -> Self {
        Self { name, aliases: &[], number: Some(number), implies: None }
    }

    /// The same, with other words for it.
    pub const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// The same, with what it says of another option.
    pub const fn implying(self, option: &'static str, value: &'static str) -> Self {
        Self { implies: Some((option, value)), ..self }
    }

    /// The same, said to the kernel by leaving it out.
    pub const fn unsaid(self) -> Self {
        Self { number: None, ..self }
    }

    fn is(&self, text: &str) -> bool {
        self.name == text || self.aliases.contains(&text)
    }
}

/// Which IP addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Both.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whose address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Casting {
    /// That of one host.
    Unicast,
    /// That of a group of hosts.
    Multicast,
}

/// A value of some [`ValueType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`ValueType::Switch`].
    Switch(bool),
    /// Of [`ValueType::Number`].
    Number(u64),
    /// Of [`ValueType::Words`].
    Word(Word),
    /// Of [`ValueType::Mac`].
    Mac(HwAddr),
    /// Of [`ValueType::Ip`].
    Ip(IpAddr),
    /// Of [`ValueType::Hosts4`].
    Hosts4(Hosts4),
}

/// A text is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not possible: {possible} is")]
pub struct ValueError {
    /// The text, as it can be shown.
    pub text: String,
    /// What is possible.
    pub possible: String,
}

impl ValueType {
    /// The value that a text says.
    pub fn parse(&self, text: &str) -> Result<Value, ValueError> {
        let value = match self {
            Self::Switch => match text {
                "on" | "true" | "1" => Some(Value::Switch(true)),
                "off" | "false" | "0" => Some(Value::Switch(false)),
                _ => None,
            },
            Self::Number { .. } => number(text).map(Value::Number),
            Self::Words(words) => words.iter().find(|word| word.is(text)).copied().map(Value::Word),
            Self::Mac => text.parse().ok().map(Value::Mac),
            Self::Ip { .. } => text.parse().ok().map(Value::Ip),
            Self::Hosts4 => Hosts4::parse(text).map(Value::Hosts4),
        };
        let bad = || ValueError { text: shown(text), possible: self.possible() };
        value.filter(|value| self.has(value)).ok_or_else(bad)
    }

    /// Whether a value is one of this type.
    pub fn has(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Switch, Value::Switch(_)) => true,
            (Self::Number { min, max }, Value::Number(number)) => (min..=max).contains(&number),
            (Self::Hosts4, Value::Hosts4(_)) => true,
            (Self::Words(words), Value::Word(word)) => words.contains(word),
            (Self::Mac, Value::Mac(mac)) => mac.is_unicast_ethernet(),
            (Self::Ip { family, casting }, Value::Ip(ip)) => {
                family.has(ip) && (*casting == Casting::Multicast) == ip.is_multicast()
            }
            _ => false,
        }
    }

    /// What is possible, as users read it: `1-4094`, `on,off`, `an IPv4 address`.
    pub fn possible(&self) -> String {
        match self {
            Self::Switch => "on,off".to_owned(),
            Self::Number { min, max } => format!("{min}-{max}"),
            Self::Words(words) => {
                let words: Vec<&str> = words.iter().map(|word| word.name).collect();
                words.join(",")
            }
            Self::Mac => "a unicast Ethernet address".to_owned(),
            Self::Hosts4 => format!("up to {} IPv4 addresses", Hosts4::MOST),
            Self::Ip { family, casting } => {
                let cast = match casting {
                    Casting::Unicast => "",
                    Casting::Multicast => " multicast",
                };
                format!("an {}{cast} address", family.name())
            }
        }
    }

    /// The words that can be written, where there are only a few.
    pub fn words(&self) -> Vec<&'static str> {
        match self {
            Self::Switch => vec!["on", "off"],
            Self::Words(words) => words.iter().map(|word| word.name).collect(),
            _ => Vec::new(),
        }
    }
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "IP",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(true) => f.pad("on"),
            Self::Switch(false) => f.pad("off"),
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => f.pad(word.name),
            Self::Mac(mac) => mac.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
            Self::Hosts4(hosts) => hosts.fmt(f),
        }
    }
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_plain = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| is_plain)
}

/// A caller's text as a message can hold it: printable, and not longer than a line.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURS: ValueType =
        ValueType::Words(&[Word::new("red", 1).or(&["r"]), Word::new("blue", 2)]);
    const VID: ValueType = ValueType::Number { min: 1, max: 4094 };
    const HOST: ValueType = ValueType::Ip { family: Family::V4, casting: Casting::Unicast };

    #[test]
    fn what_is_written_is_read_and_shown_in_one_way() {
        for (of, text, shown) in [
            (ValueType::Switch, "true", "on"),
            (ValueType::Switch, "off", "off"),
            (VID, "0x10", "16"),
            (COLOURS, "r", "red"),
            (ValueType::Mac, "02:00:00:00:00:0A", "02:00:00:00:00:0a"),
            (HOST, "192.0.2.1", "192.0.2.1"),
            (ValueType::Hosts4, "192.0.2.9,192.0.2.1", "192.0.2.9,192.0.2.1"),
            (ValueType::Hosts4, "", ""),
        ] {
            let value = of.parse(text).unwrap();
            assert_eq!(value.to_string(), shown);
            assert_eq!(of.parse(shown), Ok(value), "{shown}");
        }
    }

    #[test]
    fn what_is_not_possible_is_refused_with_what_is() {
        for (of, text, possible) in [
            (ValueType::Switch, "maybe", "on,off"),
            (VID, "0", "1-4094"),
            (VID, "4095", "1-4094"),
            (VID, "+1", "1-4094"),
            (VID, "-1", "1-4094"),
            (VID, "0x+1", "1-4094"),
            (COLOURS, "green", "red,blue"),
            (ValueType::Mac, "01:00:00:00:00:01", "unicast"),
            (ValueType::Mac, "00:00:00:00:00:00", "unicast"),
            (ValueType::Mac, "02:00", "unicast"),
            (HOST, "2001:db8::1", "an IPv4 address"),
            (HOST, "224.0.0.1", "an IPv4 address"),
            (HOST, "localhost", "an IPv4 address"),
            (ValueType::Hosts4, "192.0.2.1,192.0.2.1", "16 IPv4 addresses"),
            (ValueType::Hosts4, "192.0.2.1,224.0.0.1", "16 IPv4 addresses"),
        ] {
            let why = of.parse(text).unwrap_err().to_string();
            assert!(why.contains(text) && why.contains(possible), "{why}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_shown_is_told_so_that_it_can() {
        let why = VID.parse("1\n2").unwrap_err();
        assert_eq!(why.text, "1\\n2");
    }
}
