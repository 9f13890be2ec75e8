//! The values of properties: read from what people write, and written for people.

use serde::{Deserialize, Serialize};

use super::{Kind, protection};
use crate::HwAddr;

/// Bytes of an alternative name (`ALTIFNAMSIZ` without its terminator).
const ALT_NAME_MAX: usize = 127;

/// The value of a property, of the form that its [`Kind`] says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Yes or no.
    Switch(bool),
    /// An address.
    Mac(HwAddr),
    /// A text.
    Text(String),
    /// Names, or other words, as bytes, in their order, each once.
    Names(Vec<Vec<u8>>),
}

/// Why a text is no value of a property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is none of those that there are.
    #[error("`{text}` is none of {possible}")]
    NotPossible {
        /// The text.
        text: String,
        /// What it can be.
        possible: String,
    },
    /// It is no address of a single Ethernet station.
    #[error("`{0}` is no unicast Ethernet address")]
    NotUnicast(String),
    /// It is no bandwidth.
    #[error("`{0}` is no bandwidth: 8K to 4000G is, or 0 for no bound")]
    NoBandwidth(String),
    /// It is longer than can be kept.
    #[error("a text of {len} bytes is longer than {most}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// Most bytes.
        most: usize,
    },
    /// A character that is not for display.
    #[error("control characters are not for display")]
    Control,
    /// The kernel takes no such name.
    #[error("`{0}` is no alternative name: 1 to {ALT_NAME_MAX} bytes without spaces, `/` and `:`")]
    BadName(String),
    /// There is no such guard on Linux.
    #[error(
        "dhcp-nospoof is not to be had on Linux: rules of nf_tables find no client identifier in \
         a packet"
    )]
    NoDhcpGuard,
    /// It is neither an IP address nor a network.
    #[error("`{0}` is no IP address, as 192.0.2.1 is, and no network, as 192.0.2.0/24 is")]
    NoNetwork(String),
    /// There are more than can be kept.
    #[error("{count} are more than {most}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there can be.
        most: usize,
    },
}

impl Kind {
    /// Reads what somebody wrote.
    pub fn parse(&self, text: &str) -> Result<Value, ValueError> {
        let impossible = || ValueError::NotPossible {
            text: text.escape_debug().to_string(),
            possible: self.possible().unwrap_or_default(),
        };
        match self {
            Self::Number { least, most } => {
                let number = text.parse().ok().filter(|number| (least..=most).contains(&number));
                number.map(Value::Number).ok_or_else(impossible)
            }
            Self::Switch { on, .. } if text == *on => Ok(Value::Switch(true)),
            Self::Switch { off, .. } if text == *off => Ok(Value::Switch(false)),
            Self::Switch { .. } => Err(impossible()),
            Self::Mac => mac(text),
            Self::Text { most } => plain_text(text, *most),
            Self::Names => names(text),
            Self::Zone => Ok(Value::Text(text.to_owned())),
            Self::Bandwidth => bandwidth(text),
            Self::Guards => protection::guards(text),
            Self::Networks => protection::networks(text),
        }
    }

    /// The value as people write it.
    pub fn show(&self, value: &Value) -> String {
        match (value, self) {
            (Value::Number(kilobits), Self::Bandwidth) => shown_bandwidth(*kilobits),
            (Value::Number(number), _) => number.to_string(),
            (Value::Switch(true), Self::Switch { on, .. }) => (*on).to_owned(),
            (Value::Switch(false), Self::Switch { off, .. }) => (*off).to_owned(),
            (Value::Switch(is_on), _) => is_on.to_string(),
            (Value::Mac(mac), _) => mac.to_string(),
            (Value::Text(text), _) => text.clone(),
            (Value::Names(names), _) => {
                let shown = names.iter().map(|name| name.escape_ascii().to_string());
                shown.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// What people can write; none where that is not for listing.
    pub fn possible(&self) -> Option<String> {
        match self {
            Self::Number { least, most } => Some(format!("{least}-{most}")),
            Self::Switch { on, off } => Some(format!("{on},{off}")),
            Self::Bandwidth => Some("0,8K-4000G".to_owned()),
            Self::Guards => Some(protection::possible_guards()),
            Self::Mac | Self::Text { .. } | Self::Names | Self::Zone | Self::Networks => None,
        }
    }
}

fn mac(text: &str) -> Result<Value, ValueError> {
    let address = text.parse().ok().filter(HwAddr::is_unicast_ethernet);
    address.map(Value::Mac).ok_or_else(|| ValueError::NotUnicast(text.escape_debug().to_string()))
}

/// The letters for a thousand kilobits and the like, the largest first.
const UNITS: [(char, u64); 3] = [('G', 1_000_000), ('M', 1000), ('K', 1)];

/// The least and the most kilobits a second that can be asked for.
const BANDWIDTH_MIN: u64 = 8;
const BANDWIDTH_MAX: u64 = 4_000_000_000;

fn bandwidth(text: &str) -> Result<Value, ValueError> {
    let refused = || ValueError::NoBandwidth(text.escape_debug().to_string());
    let upper = text.to_ascii_uppercase();
    let with_unit =
        UNITS.iter().find_map(|(letter, factor)| Some((upper.strip_suffix(*letter)?, *factor)));
    let (digits, factor) = with_unit.unwrap_or((&upper, 1000));
    let number: u64 = digits.parse().map_err(|_| refused())?;
    let is_possible =
        |kilobits: &u64| *kilobits == 0 || (BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(kilobits);
    let kilobits = number.checked_mul(factor).filter(is_possible);
    kilobits.map(Value::Number).ok_or_else(refused)
}

/// In the largest unit that needs no fraction; nothing for no bound.
fn shown_bandwidth(kilobits: u64) -> String {
    let fits = |(_, factor): &&(char, u64)| kilobits.is_multiple_of(*factor);
    match UNITS.iter().find(fits) {
        Some((letter, factor)) if kilobits > 0 => format!("{}{letter}", kilobits / factor),
        _ => String::new(),
    }
}

fn plain_text(text: &str, most: usize) -> Result<Value, ValueError> {
    if text.len() > most {
        return Err(ValueError::TooLong { len: text.len(), most });
    }
    if text.contains(char::is_control) {
        return Err(ValueError::Control);
    }
    Ok(Value::Text(text.to_owned()))
}

fn names(text: &str) -> Result<Value, ValueError> {
    let parts = text.split(',').filter(|name| !name.is_empty());
    let mut names = parts.map(alt_name).collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(Value::Names(names))
}

/// The kernel's `dev_valid_name`, for a name of that length.
fn alt_name(name: &str) -> Result<Vec<u8>, ValueError> {
    let is_bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if name.len() > ALT_NAME_MAX || matches!(name, "." | "..") || name.contains(is_bad) {
        return Err(ValueError::BadName(name.escape_debug().to_string()));
    }
    Ok(name.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: Kind = Kind::Number { least: 68, most: 9000 };
    const STATE: Kind = Kind::Switch { on: "up", off: "down" };

    #[test]
    fn what_is_shown_is_read_as_the_same_value() {
        let kinds = [
            (MTU, "1500"),
            (STATE, "down"),
            (Kind::Mac, "02:00:00:00:00:01"),
            (Kind::Text { most: 9 }, "up, link"),
            (Kind::Text { most: 9 }, ""),
            (Kind::Names, "a,b"),
            (Kind::Names, ""),
        ];
        for (kind, text) in kinds {
            assert_eq!(kind.show(&kind.parse(text).unwrap()), text, "{kind:?}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_told_what_is_possible() {
        for text in ["67", "9001", "-1", "x", ""] {
            let why = MTU.parse(text).unwrap_err().to_string();
            assert_eq!(why, format!("`{text}` is none of 68-9000"));
        }
        assert_eq!(STATE.parse("on").unwrap_err().to_string(), "`on` is none of up,down");
    }

    #[test]
    fn a_bandwidth_is_in_megabits_unless_it_says_otherwise() {
        for (text, shown) in [("10", "10M"), ("512k", "512K"), ("2G", "2G"), ("1000M", "1G")] {
            let value = Kind::Bandwidth.parse(text).unwrap();
            assert_eq!(Kind::Bandwidth.show(&value), shown);
        }
        assert_eq!(Kind::Bandwidth.show(&Kind::Bandwidth.parse("0").unwrap()), "");
        for text in ["", "K", "7K", "5000G", "-1", "1.5M", "10MM"] {
            let refused = Err(ValueError::NoBandwidth(text.to_owned()));
            assert_eq!(Kind::Bandwidth.parse(text), refused, "{text}");
        }
    }

    #[test]
    fn an_address_is_that_of_one_station() {
        for text in ["01:00:00:00:00:01", "00:00:00:00:00:00", "02:00", "x"] {
            assert_eq!(Kind::Mac.parse(text), Err(ValueError::NotUnicast(text.to_owned())));
        }
    }

    #[test]
    fn a_text_fits_and_can_be_displayed() {
        let kind = Kind::Text { most: 3 };
        assert_eq!(kind.parse("abcd"), Err(ValueError::TooLong { len: 4, most: 3 }));
        assert_eq!(kind.parse("a\nb"), Err(ValueError::Control));
    }

    #[test]
    fn alternative_names_are_a_set_of_what_the_kernel_takes() {
        let ab = Value::Names(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(Kind::Names.parse("b,a,b"), Ok(ab));
        let long = "x".repeat(ALT_NAME_MAX + 1);
        for text in ["a/b", "a b", "..", "a:b", &long] {
            assert_eq!(Kind::Names.parse(text), Err(ValueError::BadName(text.to_owned())));
        }
    }
}
