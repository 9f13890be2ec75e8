//! Options of a kind, and the bytes by which the kernel is told of their values.

use std::net::{IpAddr, Ipv4Addr};

use crate::value::Hosts4;
use crate::{HwAddr, Value, ValueType};

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name, as in `--NAME` and as records have it.
    pub name: &'static str,
    /// Its letter, if it has one: illumos' where illumos has one.
    pub letter: Option<char>,
    /// Another word for it, as `ip link` has it.
    pub alias: Option<&'static str>,
    /// What it is, in a line.
    pub doc: &'static str,
    /// What it can be.
    pub value: ValueType,
    /// What the kernel is told where it is not given; `None` leaves it to the kernel.
    pub default: Option<&'static str>,
    /// What the kernel takes where it is told nothing, as far as that is always the same.
    pub by_itself: Option<&'static str>,
    /// Whether it must be given.
    pub is_required: bool,
    /// Whether the kernel takes another value later.
    pub is_changeable: bool,
    /// The attributes that carry it.
    pub attributes: &'static [Attribute],
}

impl OptionSpec {
    /// An option that need not be given, and never changes.
    pub const fn new(name: &'static str, value: ValueType, doc: &'static str) -> Self {
        Self {
            name,
            letter: None,
            alias: None,
            doc,
            value,
            default: None,
            by_itself: None,
            is_required: false,
            is_changeable: false,
            attributes: &[],
        }
    }

    /// The same, with a letter.
    pub const fn letter(self, letter: char) -> Self {
        Self { letter: Some(letter), ..self }
    }

    /// The same, with another word for it.
    pub const fn or(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    /// The same, with what the kernel is told where it is not given.
    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The same, that must be given.
    pub const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// The same, with what the kernel takes by itself.
    pub const fn by_itself(self, value: &'static str) -> Self {
        Self { by_itself: Some(value), ..self }
    }

    /// The same, that can be changed later.
    pub const fn changeable(self) -> Self {
        Self { is_changeable: true, ..self }
    }

    /// The same, carried by these attributes.
    pub const fn carried_by(self, attributes: &'static [Attribute]) -> Self {
        Self { attributes, ..self }
    }

    /// Whether this is a name of it: in whatever case, and with `_` for `-`.
    pub fn is_called(&self, name: &str) -> bool {
        let is = |own: &str| {
            own.len() == name.len()
                && own.chars().zip(name.chars()).all(|(a, b)| plain(a) == plain(b))
        };
        is(self.name) || self.alias.is_some_and(is)
    }

    /// What a link of its kind has where it is not given, as far as that is known.
    pub fn standard(&self) -> Option<Value> {
        self.default.or(self.by_itself).and_then(|text| self.value.parse(text).ok())
    }

    /// The attributes that say this value, with their bytes.
    pub fn encode(&self, value: &Value) -> Vec<(Place, Vec<u8>)> {
        let told = self.attributes.iter();
        told.filter_map(|attribute| Some((attribute.place, attribute.form.encode(value)?)))
            .collect()
    }

    /// The value that an attribute says, if it is one of this option's.
    pub fn decode(&self, place: Place, bytes: &[u8]) -> Option<Value> {
        let mut carriers = self.attributes.iter().filter(|attribute| attribute.place == place);
        carriers.find_map(|attribute| attribute.form.decode(&self.value, bytes))
    }
}

fn plain(letter: char) -> char {
    if letter == '_' { '-' } else { letter.to_ascii_lowercase() }
}

/// One attribute of a message about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Where it is.
    pub place: Place,
    /// How it carries a value.
    pub form: Form,
}

impl Attribute {
    /// An attribute inside `IFLA_INFO_DATA`.
    pub const fn info(number: u16, form: Form) -> Self {
        Self { place: Place::Info(number), form }
    }

    /// An attribute of the message itself.
    pub const fn link(number: u16, form: Form) -> Self {
        Self { place: Place::Link(number), form }
    }
}

/// Where an attribute is, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the message itself (`IFLA_*`).
    Link(u16),
    /// Inside `IFLA_INFO_DATA`.
    Info(u16),
}

/// How an attribute carries a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A byte.
    U8,
    /// Two bytes of the machine's order.
    U16,
    /// Four bytes of the machine's order.
    U32,
    /// Seconds, told as hundredths in four bytes of the machine's order.
    Centiseconds,
    /// Two bytes, the higher one first.
    Be16,
    /// Four bytes, the highest one first.
    Be32,
    /// The four bytes of an IPv4 address; it is left out for another one.
    Ip4,
    /// The sixteen bytes of an IPv6 address; it is left out for another one.
    Ip6,
    /// The bytes of a hardware address.
    Mac,
    /// This number in two bytes, the higher one first, whatever the value: a flag that it is there.
    Flag16(u16),
    /// IPv4 addresses, each in an attribute of its own inside, by their numbers in the list.
    Hosts4,
    /// One bit of several that share the attribute: four bytes with those that are on, and four with
    /// those that are said, of the machine's order.
    Bit(u32),
}

impl Form {
    fn encode(self, value: &Value) -> Option<Vec<u8>> {
        match (self, value) {
            (Self::Ip4, Value::Ip(IpAddr::V4(ip))) => Some(ip.octets().to_vec()),
            (Self::Ip6, Value::Ip(IpAddr::V6(ip))) => Some(ip.octets().to_vec()),
            (Self::Mac, Value::Mac(mac)) => Some(mac.as_bytes().to_vec()),
            (Self::Flag16(flag), _) => Some(flag.to_be_bytes().to_vec()),
            (Self::Bit(bit), Value::Switch(is_on)) => {
                let on = if *is_on { bit } else { 0 };
                Some([on.to_ne_bytes(), bit.to_ne_bytes()].concat())
            }
            (Self::Hosts4, Value::Hosts4(hosts)) => Some(nested_hosts(hosts)),
            (_, Value::Ip(_) | Value::Mac(_) | Value::Hosts4(_)) => None,
            (_, Value::Switch(is_on)) => self.encode_number(u64::from(*is_on)),
            (_, Value::Number(number)) => self.encode_number(*number),
            (_, Value::Word(word)) => word.number.and_then(|number| self.encode_number(number)),
        }
    }

    fn encode_number(self, number: u64) -> Option<Vec<u8>> {
        Some(match self {
            Self::U8 => vec![u8::try_from(number).ok()?],
            Self::U16 => u16::try_from(number).ok()?.to_ne_bytes().to_vec(),
            Self::U32 => u32::try_from(number).ok()?.to_ne_bytes().to_vec(),
            Self::Centiseconds => {
                u32::try_from(number.checked_mul(100)?).ok()?.to_ne_bytes().to_vec()
            }
            Self::Be16 => u16::try_from(number).ok()?.to_be_bytes().to_vec(),
            Self::Be32 => u32::try_from(number).ok()?.to_be_bytes().to_vec(),
            Self::Ip4 | Self::Ip6 | Self::Mac | Self::Flag16(_) | Self::Bit(_) | Self::Hosts4 => {
                return None;
            }
        })
    }

    fn decode(self, of: &ValueType, bytes: &[u8]) -> Option<Value> {
        let value = match self {
            Self::Ip4 => Value::Ip(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            Self::Ip6 => Value::Ip(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            Self::Mac => Value::Mac(HwAddr::new(bytes).ok()?),
            Self::Hosts4 => Value::Hosts4(hosts_inside(bytes)?),
            Self::Bit(bit) => Value::Switch(u32::from_ne_bytes(*bytes.first_chunk()?) & bit != 0),
            _ => of_number(of, self.decode_number(bytes)?)?,
        };
        of.has(&value).then_some(value)
    }

    fn decode_number(self, bytes: &[u8]) -> Option<u64> {
        Some(match self {
            Self::U8 => u64::from(*bytes.first()?),
            Self::U16 => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
            Self::U32 => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::Centiseconds => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)) / 100,
            Self::Be16 => u64::from(u16::from_be_bytes(bytes.try_into().ok()?)),
            Self::Be32 => u64::from(u32::from_be_bytes(bytes.try_into().ok()?)),
            Self::Ip4 | Self::Ip6 | Self::Mac | Self::Flag16(_) | Self::Bit(_) | Self::Hosts4 => {
                return None;
            }
        })
    }
}

/// Bytes of the length and the number of an attribute.
const ATTRIBUTE_HEADER_LEN: u16 = 4;

fn nested_hosts(hosts: &Hosts4) -> Vec<u8> {
    let len = ATTRIBUTE_HEADER_LEN + 4;
    let numbered = (0_u16..).zip(hosts.as_slice());
    numbered
        .flat_map(|(number, host)| {
            [&len.to_ne_bytes()[..], &number.to_ne_bytes(), &host.octets()].concat()
        })
        .collect()
}

fn hosts_inside(bytes: &[u8]) -> Option<Hosts4> {
    let (attributes, []) = bytes.as_chunks::<8>() else { return None };
    Hosts4::new(attributes.iter().map(|[.., a, b, c, d]| Ipv4Addr::new(*a, *b, *c, *d)))
}

fn of_number(of: &ValueType, number: u64) -> Option<Value> {
    match of {
        ValueType::Switch => Some(Value::Switch(number != 0)),
        ValueType::Number { .. } => Some(Value::Number(number)),
        ValueType::Words(words) => {
            words.iter().find(|word| word.number == Some(number)).copied().map(Value::Word)
        }
        ValueType::Mac | ValueType::Ip { .. } | ValueType::Hosts4 => None,
    }
}
