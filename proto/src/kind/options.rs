//! The options that a link is made with.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{LinkKind, Lower, OptionSpec, Place, Rule};
use crate::{HwAddr, Value, ValueError};

/// Options of one kind with their values, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    pub(super) kind: &'static LinkKind,
    pub(super) given: BTreeMap<&'static str, Value>,
}

/// Why options make no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The kind has no such option.
    #[error("a {kind} has no option {option}")]
    Unknown {
        /// The kind.
        kind: &'static str,
        /// What was asked for, as it can be shown.
        option: String,
    },
    /// An option is there twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// The value is none of the option's.
    #[error("{option}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with the value.
        why: ValueError,
    },
    /// An option is not there that must be.
    #[error("a {kind} needs {option} ({possible})")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// The option.
        option: &'static str,
        /// What it can be.
        possible: String,
    },
    /// Two options contradict each other.
    #[error("{0} and {1} cannot both be given")]
    NotBoth(&'static str, &'static str),
    /// Two addresses are of different families.
    #[error("{0} and {1} are addresses of different families")]
    Families(&'static str, &'static str),
    /// An option is given without a lower link.
    #[error("{0} needs a lower link")]
    NeedsLower(&'static str),
    /// An option is given where another one does not have the value that it needs.
    #[error("{option} needs {other} to be {values}")]
    OnlyWhere {
        /// The option.
        option: &'static str,
        /// The other one.
        other: &'static str,
        /// What that must be.
        values: String,
    },
}

impl LinkOptions {
    /// No option given.
    pub fn none(kind: &'static LinkKind) -> Self {
        Self { kind, given: BTreeMap::new() }
    }

    /// What a link has, as it was found: nothing is checked.
    pub fn found(
        kind: &'static LinkKind,
        values: impl IntoIterator<Item = (&'static OptionSpec, Value)>,
    ) -> Self {
        let given = values.into_iter().map(|(option, value)| (option.name, value)).collect();
        Self { kind, given }
    }

    /// Reads options that were written as text, and checks them all.
    pub fn parse<'a>(
        kind: &'static LinkKind,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
        has_lower: bool,
    ) -> Result<Self, OptionError> {
        let mut settings = Self::none(kind);
        for (name, text) in options {
            let option = settings.option(name)?;
            let value = option
                .value
                .parse(text)
                .map_err(|why| OptionError::Value { option: option.name, why })?;
            if settings.given.insert(option.name, value).is_some() {
                return Err(OptionError::Twice(option.name));
            }
        }
        settings.take_what_is_implied()?;
        settings.checked(has_lower)
    }

    /// These options, if they make a link together.
    pub(super) fn checked(self, has_lower: bool) -> Result<Self, OptionError> {
        self.refuse_missing()?;
        self.kind.rules.iter().try_for_each(|rule| self.obey(rule, has_lower))?;
        Ok(self)
    }

    fn option(&self, name: &str) -> Result<&'static OptionSpec, OptionError> {
        self.kind.option(name).ok_or_else(|| OptionError::Unknown {
            kind: self.kind.name,
            option: name.chars().take(64).flat_map(char::escape_debug).collect(),
        })
    }

    pub(super) fn take_what_is_implied(&mut self) -> Result<(), OptionError> {
        for (option, value) in self.given.clone() {
            let Value::Word(word) = value else { continue };
            let Some((other, text)) = word.implies else { continue };
            let known = self.given.get(other).map(Value::to_string);
            if known.is_some_and(|known| known != text) {
                let values = text.to_owned();
                return Err(OptionError::OnlyWhere { option, other, values });
            }
            let spec = self.option(other)?;
            let value = spec.value.parse(text);
            let value = value.map_err(|why| OptionError::Value { option: spec.name, why })?;
            self.given.insert(spec.name, value);
        }
        Ok(())
    }

    fn refuse_missing(&self) -> Result<(), OptionError> {
        let required = self.kind.options.iter().filter(|option| option.is_required);
        let missing = required.into_iter().find(|option| !self.given.contains_key(option.name));
        missing.map_or(Ok(()), |option| {
            Err(OptionError::Missing {
                kind: self.kind.name,
                option: option.name,
                possible: option.value.possible(),
            })
        })
    }

    fn obey(&self, rule: &Rule, has_lower: bool) -> Result<(), OptionError> {
        let has = |name: &str| self.given.contains_key(name);
        match *rule {
            Rule::NotBoth(one, other) if has(one) && has(other) => {
                Err(OptionError::NotBoth(one, other))
            }
            Rule::Either(one, other) if self.is_positive(one) && self.is_positive(other) => {
                Err(OptionError::NotBoth(one, other))
            }
            Rule::SameFamily(one, other) => match (self.given.get(one), self.given.get(other)) {
                (Some(Value::Ip(a)), Some(Value::Ip(b))) if a.is_ipv4() != b.is_ipv4() => {
                    Err(OptionError::Families(one, other))
                }
                _ => Ok(()),
            },
            Rule::NeedsLower(option) if has(option) && !has_lower => {
                Err(OptionError::NeedsLower(option))
            }
            Rule::OnlyWhere(option, other, values) if has(option) => {
                let is = self.value(other).map(|value| value.to_string());
                match is.is_some_and(|is| values.contains(&is.as_str())) {
                    true => Ok(()),
                    false => {
                        Err(OptionError::OnlyWhere { option, other, values: values.join(" or ") })
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// The kind whose options they are.
    pub fn kind(&self) -> &'static LinkKind {
        self.kind
    }

    /// The options that were given, or follow from one that was, in the order of their names.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Value)> + '_ {
        self.given.iter().map(|(name, value)| (*name, *value))
    }

    /// The value that an option was given.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.given.get(name).copied()
    }

    /// The value of an option: the one given, or its default.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.given.get(name).copied().or_else(|| default_of(self.kind.option(name)?))
    }

    /// The hardware address that is asked for, if one is.
    pub fn mac(&self) -> Option<HwAddr> {
        match self.given.get("mac") {
            Some(Value::Mac(mac)) => Some(*mac),
            _ => None,
        }
    }

    /// The largest packet that is asked for, in bytes, if it is.
    pub fn mtu(&self) -> Option<u32> {
        match self.given.get("mtu") {
            Some(Value::Number(mtu)) => u32::try_from(*mtu).ok(),
            _ => None,
        }
    }

    /// The attributes inside `IFLA_INFO_DATA` that say all this, each with its number there.
    pub fn info_attributes(&self) -> Vec<(u16, Vec<u8>)> {
        let told = self.kind.options.iter().filter_map(|option| {
            let value = self.get(option.name).or_else(|| self.default_beside(option))?;
            Some(option.info_attributes(&value))
        });
        let mut attributes: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        for (number, bytes) in told.flatten() {
            match attributes.entry(number) {
                Entry::Vacant(place) => drop(place.insert(bytes)),
                // Several options are bits of one attribute.
                Entry::Occupied(place) => {
                    place.into_mut().iter_mut().zip(bytes).for_each(|(had, more)| *had |= more);
                }
            }
        }
        attributes.into_iter().collect()
    }
}

impl LinkOptions {
    /// What is told for an option that was not given.
    fn default_beside(&self, option: &OptionSpec) -> Option<Value> {
        let is_replaced = |rule: &Rule| match rule {
            Rule::Either(one, other) => *other == option.name && self.is_positive(one),
            _ => false,
        };
        default_of(option).filter(|_| !self.kind.rules.iter().any(is_replaced))
    }

    /// Whether an option was given a number above 0.
    pub(super) fn is_positive(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Number(1..)))
    }
}

impl OptionSpec {
    /// The attributes inside `IFLA_INFO_DATA` that say this value, each with its number there.
    pub fn info_attributes(&self, value: &Value) -> Vec<(u16, Vec<u8>)> {
        let inside = |(place, bytes)| match place {
            Place::Info(number) => Some((number, bytes)),
            Place::Link(_) => None,
        };
        self.encode(value).into_iter().filter_map(inside).collect()
    }
}

impl LinkKind {
    /// Whether a link of this kind always lies over another.
    pub fn needs_lower(&self) -> bool {
        matches!(self.lower, Lower::Required(_))
    }
}

fn default_of(option: &OptionSpec) -> Option<Value> {
    option.default.and_then(|text| option.value.parse(text).ok())
}
