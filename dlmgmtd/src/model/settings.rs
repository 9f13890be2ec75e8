//! The values of a link's properties, as they are wanted and as the kernel has them.

use std::collections::BTreeMap;

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{Duplex, HwAddr, LinkName};
use serde::{Deserialize, Serialize};

use super::{AltName, KernelLink, LinkMode};

/// Values of properties, at most one of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<Property, Value>);

impl Settings {
    /// What of a link is put back as it was when it comes home from a loan.
    pub fn at_home(kernel: &KernelLink) -> Self {
        // A link that comes home is no port of anything, and its queue stays where it was.
        let others = &kernel.tunables.others;
        let own = Property::ALL.iter().filter(|property| others.get(**property).is_none());
        own.filter_map(|property| Some((*property, kernel.setting(*property)?))).collect()
    }

    /// The value of a property, if there is one.
    pub fn get(&self, property: Property) -> Option<&Value> {
        self.0.get(&property)
    }

    /// Gives a property this value.
    pub fn insert(&mut self, property: Property, value: Value) {
        self.0.insert(property, value);
    }

    /// Takes a property out.
    pub fn remove(&mut self, property: Property) -> Option<Value> {
        self.0.remove(&property)
    }

    /// Whether nothing has a value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each property that has a value, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Property, &Value)> {
        self.0.iter().map(|(property, value)| (*property, value))
    }

    /// These values, and those of `below` where these say nothing.
    pub fn over(mut self, below: &Self) -> Self {
        for (property, value) in &below.0 {
            self.0.entry(*property).or_insert_with(|| value.clone());
        }
        self
    }

    /// Leaves out the alternative names that do not pass.
    pub fn keep_altnames(&mut self, passes: impl Fn(&AltName) -> bool) {
        if let Some(Value::Names(names)) = self.0.get_mut(&Property::AltNames) {
            names.retain(|name| passes(&AltName(name.clone())));
        }
    }

    /// The link's address, where it is among them.
    pub fn mac(&self) -> Option<HwAddr> {
        match self.get(Property::Mac) {
            Some(Value::Mac(mac)) => Some(*mac),
            _ => None,
        }
    }
}

impl FromIterator<(Property, Value)> for Settings {
    fn from_iter<T: IntoIterator<Item = (Property, Value)>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// What was set of a link's properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkProperties {
    /// What is wanted for as long as the record is kept: set again whenever the link appears.
    pub persistent: Settings,
    /// What is wanted instead, for as long as the kernel has the link.
    pub temporary: Settings,
    /// What the link had before anything was set: what a reset comes to.
    pub found: Settings,
    /// Options of its kind that it is to have, for as long as the kernel has the link, instead of
    /// those that it was made with: texts, as in a [`Recipe`](super::Recipe).
    pub options: BTreeMap<String, String>,
}

impl LinkProperties {
    /// What the link is to have now.
    pub fn wanted(&self) -> Settings {
        self.temporary.clone().over(&self.persistent)
    }

    /// What the link is to have of one property now.
    fn wanted_of(&self, property: Property) -> Option<&Value> {
        self.temporary.get(property).or(self.persistent.get(property))
    }

    /// Whether anything was set.
    pub fn wants_any(&self) -> bool {
        !(self.persistent.is_empty() && self.temporary.is_empty() && self.options.is_empty())
    }

    /// Whether rules keep the link from sending something.
    pub fn wants_rules(&self) -> bool {
        let is_any = |value: &Value| matches!(value, Value::Names(names) if !names.is_empty());
        let rules = [Property::Protection, Property::AllowedIps];
        rules.into_iter().any(|property| self.wanted_of(property).is_some_and(is_any))
    }

    /// The kernel has the link no more: what appears later under its record is as it is made then.
    pub fn forget_the_link(&mut self) {
        self.temporary = Settings::default();
        self.found = Settings::default();
        self.options.clear();
    }

    /// An alternative name has become the link's own, and is none any more.
    pub fn forget_altname(&mut self, name: &LinkName) {
        for settings in [&mut self.persistent, &mut self.temporary, &mut self.found] {
            settings.keep_altnames(|altname| !altname.is(name));
        }
    }
}

/// What is known of a link's properties only when it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// What they are.
    pub values: Settings,
    /// The highest numbers that the driver takes.
    pub limits: Settings,
    /// The options of its kind, where that is known.
    pub options: Option<LinkOptions>,
}

/// What can be set of a link beside what everybody asks for, and within which bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunables {
    /// A text for people; empty for none.
    pub alias: String,
    /// Packets that may wait to be sent.
    pub txqueuelen: u32,
    /// Whether somebody asked it to take in packets for everybody (IFF_PROMISC).
    pub promisc: bool,
    /// Whether somebody asked it to take in packets for all groups (IFF_ALLMULTI).
    pub allmulti: bool,
    /// The least MTU, in bytes.
    pub mtu_min: u32,
    /// The largest MTU, in bytes; 0 where the kernel knows no bound.
    pub mtu_max: u32,
    /// The values of other properties, as far as they are known: those of a bridge's port are,
    /// others are asked for where they matter.
    pub others: Settings,
    /// The highest numbers that the driver takes, as far as it was asked.
    pub limits: Settings,
    /// The options of its kind, where they were asked for.
    pub options: Option<LinkOptions>,
}

/// What is set of a driver in one go.
pub const MODE: [Property; 3] = [Property::Speed, Property::Duplex, Property::Autoneg];

impl Settings {
    /// Those of [`MODE`].
    pub fn mode(&self) -> LinkMode {
        let switch = |property| match self.get(property) {
            Some(Value::Switch(is_on)) => Some(*is_on),
            _ => None,
        };
        let speed = match self.get(Property::Speed) {
            Some(Value::Number(speed)) => Some(small(*speed)),
            _ => None,
        };
        let duplex = |is_full| if is_full { Duplex::Full } else { Duplex::Half };
        LinkMode {
            speed,
            duplex: switch(Property::Duplex).map(duplex),
            autoneg: switch(Property::Autoneg),
        }
    }
}

impl From<LinkMode> for Settings {
    fn from(mode: LinkMode) -> Self {
        let values = [
            (Property::Speed, mode.speed.map(|speed| Value::Number(speed.into()))),
            (Property::Duplex, mode.duplex.map(|duplex| Value::Switch(duplex == Duplex::Full))),
            (Property::Autoneg, mode.autoneg.map(Value::Switch)),
        ];
        values.into_iter().filter_map(|(property, value)| Some((property, value?))).collect()
    }
}

impl KernelLink {
    /// The value of a property; `None` where the kernel does not tell it with the link.
    pub fn setting(&self, property: Property) -> Option<Value> {
        let Tunables { alias, txqueuelen, promisc, allmulti, .. } = &self.tunables;
        Some(match property {
            Property::Mtu => Value::Number(self.mtu.into()),
            Property::State => Value::Switch(self.admin_up),
            Property::Mac => Value::Mac(self.mac?),
            Property::Alias => Value::Text(alias.clone()),
            Property::AltNames => {
                Value::Names(self.altnames.iter().map(|name| name.0.clone()).collect())
            }
            Property::TxQueueLen => Value::Number((*txqueuelen).into()),
            Property::Promisc => Value::Switch(*promisc),
            Property::AllMulti => Value::Switch(*allmulti),
            Property::Zone => return None,
            other => return self.tunables.others.get(other).cloned(),
        })
    }

    /// The link as it is once the kernel has taken this value.
    pub fn take_setting(&mut self, property: Property, value: &Value) {
        let tunables = &mut self.tunables;
        match (property, value) {
            (Property::Mtu, Value::Number(mtu)) => self.mtu = small(*mtu),
            (Property::State, Value::Switch(up)) => self.admin_up = *up,
            (Property::Mac, Value::Mac(mac)) => self.mac = Some(*mac),
            (Property::Alias, Value::Text(alias)) => tunables.alias.clone_from(alias),
            (Property::AltNames, Value::Names(names)) => {
                self.altnames = names.iter().cloned().map(AltName).collect();
            }
            (Property::TxQueueLen, Value::Number(len)) => tunables.txqueuelen = small(*len),
            (Property::Promisc, Value::Switch(promisc)) => tunables.promisc = *promisc,
            (Property::AllMulti, Value::Switch(allmulti)) => tunables.allmulti = *allmulti,
            (other, value) => tunables.others.insert(other, value.clone()),
        }
    }

    /// Whether it is a port of a bridge.
    pub fn is_bridge_port(&self) -> bool {
        self.tunables.others.get(Property::Learning).is_some()
    }

    /// The link with what was asked for.
    pub fn knowing(mut self, asked: Readings) -> Self {
        self.tunables.others = asked.values.over(&self.tunables.others);
        self.tunables.limits = asked.limits;
        self.tunables.options = asked.options;
        self
    }
}

/// The table keeps such numbers below this bound.
pub fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_value_stands_before_a_persistent_one() {
        let number = |n| [(Property::Mtu, Value::Number(n))].into_iter().collect::<Settings>();
        let mut properties = LinkProperties {
            persistent: number(9000),
            temporary: number(1400),
            found: number(1),
            ..LinkProperties::default()
        };
        assert_eq!(properties.wanted(), number(1400));
        properties.forget_the_link();
        assert_eq!(properties.wanted(), number(9000));
        assert!(properties.found.is_empty());
    }
}
