//! What is told of a link only when somebody asks: facts that are read from the kernel at that
//! moment, each with a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::LinkId;

/// What somebody wants to know of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Topic {
    /// What passed through since the link was made: packets, bytes, errors.
    Statistics,
    /// How fast it is: `speed` in megabits per second, `duplex`, `autoneg`.
    Speed,
    /// What links of its kind have: the id of a VLAN, the mode of an aggregation.
    Kind,
    /// What it has as a port of a bridge or an aggregation.
    Port,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 4] = [Self::Statistics, Self::Speed, Self::Kind, Self::Port];

    /// The topic in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statistics => "statistics",
            Self::Speed => "speed",
            Self::Kind => "kind",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no topic: statistics, speed, kind and port are")]
pub struct TopicError(String);

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(word: &str) -> Result<Self, TopicError> {
        let found = Self::ALL.into_iter().find(|topic| topic.as_str() == word);
        found.ok_or_else(|| TopicError(word.escape_debug().to_string()))
    }
}

/// One thing that is told of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, in small letters: `ipackets`, `vid`.
    pub name: String,
    /// How it is.
    pub value: FactValue,
}

/// The value of a [`Fact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactValue {
    /// A number.
    Number(u64),
    /// A text: a word, an address, the name of a link.
    Text(String),
    /// Whether something is so.
    Flag(bool),
}

impl fmt::Display for FactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Flag(flag) => f.pad(if *flag { "yes" } else { "no" }),
        }
    }
}

/// What is told of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDetails {
    /// Which link.
    pub id: LinkId,
    /// Its facts, those of one topic in the order that the kernel has; none of a link that the
    /// kernel does not have or that the caller may not see.
    pub facts: Vec<Fact>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_known_by_its_word() {
        for topic in Topic::ALL {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
        assert!("Speed".parse::<Topic>().is_err());
    }
}
