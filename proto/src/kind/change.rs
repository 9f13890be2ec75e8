//! Options of a link that is there are changed.

use std::collections::BTreeMap;

use super::{LinkOptions, OptionError, OptionSpec, Rule};
use crate::Value;

impl LinkOptions {
    /// Only these options, with what follows from them.
    pub fn wished(
        kind: &'static super::LinkKind,
        wishes: impl IntoIterator<Item = (&'static OptionSpec, Value)>,
    ) -> Result<Self, OptionError> {
        let mut wished = Self::found(kind, wishes);
        wished.take_what_is_implied()?;
        Ok(wished)
    }

    /// These options, changed as `wished`.
    ///
    /// Those that mean nothing beside what is wished are given no more.
    pub fn changed(&self, wished: &Self, has_lower: bool) -> Result<Self, OptionError> {
        let others = self.given.iter().filter(|(name, _)| wished.get(name).is_none());
        let given: BTreeMap<_, _> =
            others.chain(&wished.given).map(|(name, value)| (*name, *value)).collect();
        let mut changed = Self { kind: self.kind, given };
        let lost: Vec<&'static str> = changed
            .given()
            .filter(|(name, value)| wished.get(name).is_none() && !changed.means(name, value))
            .map(|(name, _)| name)
            .collect();
        changed.given.retain(|name, _| !lost.contains(name));
        changed.checked(has_lower)
    }

    /// Takes the values of others for its own, where they are given: nothing is checked.
    pub fn take(&mut self, others: &Self) {
        self.given.extend(others.given());
    }

    /// Whether an option says anything beside the others.
    fn means(&self, name: &str, value: &Value) -> bool {
        let has = |other: &str, wanted: &[&str]| {
            let value = self.value(other).map(|value| value.to_string());
            value.is_none_or(|value| wanted.contains(&value.as_str()))
        };
        let implied = match value {
            Value::Word(word) => word.implies.is_none_or(|(other, text)| has(other, &[text])),
            _ => true,
        };
        implied
            && self.kind.rules.iter().all(|rule| match rule {
                Rule::OnlyWhere(option, other, values) if *option == name => has(other, values),
                Rule::Either(one, other) if [*one, *other].contains(&name) => {
                    !(self.is_positive(one) && self.is_positive(other))
                }
                _ => true,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::LinkKind;

    fn bond(options: &[(&str, &str)]) -> LinkOptions {
        let kind = LinkKind::named("bond").unwrap();
        LinkOptions::parse(kind, options.iter().copied(), false).unwrap()
    }

    fn wish(options: &[(&str, &str)]) -> Result<LinkOptions, OptionError> {
        let kind = LinkKind::named("bond").unwrap();
        let read = |(name, text): &(&str, &str)| {
            let option = kind.property(name).unwrap();
            (option, option.value.parse(text).unwrap())
        };
        LinkOptions::wished(kind, options.iter().map(read))
    }

    fn texts(options: &LinkOptions) -> Vec<(&'static str, String)> {
        options.given().map(|(name, value)| (name, value.to_string())).collect()
    }

    fn pairs(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_wished_brings_what_follows_from_it() {
        let was = bond(&[("mode", "balance-rr"), ("miimon", "50")]);
        let changed = was.changed(&wish(&[("lacp", "passive")]).unwrap(), false).unwrap();
        let expected = [("lacp", "passive"), ("miimon", "50"), ("mode", "802.3ad")];
        assert_eq!(texts(&changed), pairs(&expected));
        let contradiction = wish(&[("lacp", "active"), ("mode", "balance-rr")]).unwrap_err();
        assert_eq!(contradiction.to_string(), "lacp needs mode to be 802.3ad");
    }

    #[test]
    fn what_means_nothing_any_more_is_given_no_more() {
        let was = bond(&[("lacp", "active"), ("lacp-time", "short"), ("miimon", "50")]);
        let changed = was.changed(&wish(&[("mode", "active-backup")]).unwrap(), false).unwrap();
        assert_eq!(texts(&changed), pairs(&[("miimon", "50"), ("mode", "active-backup")]));
    }

    #[test]
    fn of_two_of_which_one_counts_the_wished_one_does() {
        let was = bond(&[("mode", "active-backup"), ("miimon", "50")]);
        let arp = [("arp-interval", "9"), ("arp-ip-target", "192.0.2.1")];
        let changed = was.changed(&wish(&arp).unwrap(), false).unwrap();
        assert_eq!(changed.get("miimon"), None);
        assert!(changed.info_attributes().iter().all(|(number, _)| *number != 3), "nor by default");
        let back = changed.changed(&wish(&[("miimon", "50")]).unwrap(), false).unwrap();
        assert_eq!(back.get("arp-interval"), None);
        let none = changed.changed(&wish(&[("arp-interval", "0")]).unwrap(), false).unwrap();
        assert!(none.info_attributes().iter().any(|(number, _)| *number == 3));
    }

    #[test]
    fn what_is_wished_must_mean_something() {
        let was = bond(&[("mode", "balance-rr")]);
        let refused = was.changed(&wish(&[("lacp-time", "short")]).unwrap(), false).unwrap_err();
        assert_eq!(refused.to_string(), "lacp-time needs mode to be 802.3ad");
    }
}
