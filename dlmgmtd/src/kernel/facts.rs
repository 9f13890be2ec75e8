//! What the kernel tells of a link only when it is asked, beside what it is followed by.

use dlmgmt_proto::{FactValue, IfIndex};

use crate::model::LinkMode;

/// One thing that the kernel tells of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFact {
    /// What it is.
    pub name: &'static str,
    /// How it is.
    pub value: KernelValue,
}

impl KernelFact {
    /// A number.
    pub fn number(name: &'static str, number: impl Into<u64>) -> Self {
        Self { name, value: KernelValue::Plain(FactValue::Number(number.into())) }
    }

    /// A text.
    pub fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, value: KernelValue::Plain(FactValue::Text(text.into())) }
    }

    /// Whether something is so.
    pub fn flag(name: &'static str, flag: bool) -> Self {
        Self { name, value: KernelValue::Plain(FactValue::Flag(flag)) }
    }
}

/// The value of a [`KernelFact`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelValue {
    /// What needs nothing of the registry.
    Plain(FactValue),
    /// Another link of the same namespace.
    Link(IfIndex),
}

impl LinkMode {
    /// The same as facts: those that are known.
    pub fn facts(self) -> Vec<KernelFact> {
        let speed = self.speed.map(|speed| KernelFact::number("speed", speed));
        let duplex = self.duplex.map(|duplex| KernelFact::text("duplex", duplex.as_str()));
        let autoneg = self.autoneg.map(|autoneg| KernelFact::flag("autoneg", autoneg));
        [speed, duplex, autoneg].into_iter().flatten().collect()
    }
}
