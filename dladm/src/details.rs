//! Links with what is known of them only when somebody asks.

use std::borrow::Cow;
use std::collections::HashMap;

use dlmgmt_proto::{Fact, FactValue, LinkDetails, LinkId, LinkInfo, Topic};
use libdlmgmt::Client;

use crate::failure::Failure;
use crate::fields::Value;

/// A link with facts about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detailed {
    /// The link.
    pub link: LinkInfo,
    facts: HashMap<String, FactValue>,
}

impl Detailed {
    /// Asks the daemon about links.
    pub fn ask(
        client: &Client,
        links: Vec<LinkInfo>,
        topics: &[Topic],
    ) -> Result<Vec<Self>, Failure> {
        let told = told(client, &links, topics)?;
        let rows = links.into_iter().zip(told);
        Ok(rows.map(|(link, told)| Self::new(link, told.facts)).collect())
    }

    fn new(link: LinkInfo, facts: Vec<Fact>) -> Self {
        Self { link, facts: facts.into_iter().map(|fact| (fact.name, fact.value)).collect() }
    }

    /// A fact, to be shown.
    pub fn fact(&self, name: &str) -> Value<'_> {
        match self.facts.get(name) {
            None => Value::Absent,
            Some(FactValue::Number(number)) => Value::Number(*number),
            Some(FactValue::Text(text)) => Value::word(text),
            Some(flag @ FactValue::Flag(_)) => Value::Text(Cow::Owned(flag.to_string())),
        }
    }

    /// The same with its numbers as what they have grown by. A counter that is lower than before
    /// has begun anew.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(name, value): (&String, &FactValue)| {
            let grown = match (value, before.facts.get(name)) {
                (FactValue::Number(now), Some(FactValue::Number(before))) => {
                    FactValue::Number(now.checked_sub(*before).unwrap_or(*now))
                }
                _ => value.clone(),
            };
            (name.clone(), grown)
        };
        Self { link: self.link.clone(), facts: self.facts.iter().map(grown).collect() }
    }
}

/// A port of a link, or that link itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// The bridge or the aggregation.
    pub of: LinkInfo,
    /// The port, or the same link.
    pub shown: Detailed,
}

impl PortRow {
    /// Whether it is a port that is shown.
    pub fn is_port(&self) -> bool {
        self.shown.link.id != self.of.id
    }

    /// A fact about what is shown.
    pub fn fact(&self, name: &str) -> Value<'_> {
        self.shown.fact(name)
    }
}

/// Adds to links how fast they are.
pub fn add_speed(client: &Client, links: &mut [LinkInfo]) -> Result<(), Failure> {
    let told = told(client, links, &[Topic::Speed])?;
    for (link, told) in links.iter_mut().zip(told) {
        for Fact { name, value } in told.facts {
            match (name.as_str(), value) {
                ("speed", FactValue::Number(speed)) => link.speed = speed.try_into().ok(),
                ("duplex", FactValue::Text(word)) => link.duplex = word.parse().ok(),
                _ => {}
            }
        }
    }
    Ok(())
}

fn told(
    client: &Client,
    links: &[LinkInfo],
    topics: &[Topic],
) -> Result<Vec<LinkDetails>, Failure> {
    let ids: Vec<LinkId> = links.iter().map(|link| link.id).collect();
    Ok(client.details(&ids, topics)?)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::fields::tests::full;

    /// A link of which this is told.
    pub fn told(name: &[u8], facts: &[(&str, FactValue)]) -> Detailed {
        let fact = |(name, value): &(&str, FactValue)| Fact {
            name: (*name).to_owned(),
            value: value.clone(),
        };
        Detailed::new(full(name), facts.iter().map(fact).collect())
    }

    /// A link with these counters.
    pub fn counted(name: &[u8], counters: &[(&str, u64)]) -> Detailed {
        let counters: Vec<_> =
            counters.iter().map(|(name, number)| (*name, FactValue::Number(*number))).collect();
        told(name, &counters)
    }

    #[test]
    fn a_counter_is_shown_as_what_it_has_grown_by_unless_it_began_anew() {
        let before = counted(b"a", &[("ipackets", 10), ("opackets", 10)]);
        let now = counted(b"a", &[("ipackets", 12), ("opackets", 3), ("ierrors", 1)]);
        let grown = counted(b"a", &[("ipackets", 2), ("opackets", 3), ("ierrors", 1)]);
        assert_eq!(now.since(&before), grown);
    }

    #[test]
    fn what_is_not_told_is_absent_and_flags_are_words() {
        let row = told(b"a", &[("synchronized", FactValue::Flag(true))]);
        assert!(matches!(row.fact("speed"), Value::Absent));
        assert!(matches!(row.fact("synchronized"), Value::Text(word) if word == "yes"));
    }
}
