//! Every kind of virtual link that can be made, as data.
//!
//! One [`LinkKind`] says what a kind is: its class, what it may lie over, its options, and how the
//! kernel is told of them. Checks, kernel messages, records, the command's options and the
//! simulated kernel are all read off it, so a kind is added by adding it to [`KINDS`].

mod change;
mod option;
mod options;
mod table;

pub use option::{Attribute, Form, OptionSpec, Place};
pub use options::{LinkOptions, OptionError};
pub use table::{CLASSES, KINDS};

use crate::property::Property;
use crate::{LinkClass, Media};

/// A kind of virtual link.
#[derive(Debug)]
pub struct LinkKind {
    /// What users and records call it.
    pub name: &'static str,
    /// Another word that users may say.
    pub alias: Option<&'static str>,
    /// The kernel's word for it (`IFLA_INFO_KIND`).
    pub kernel: &'static str,
    /// Its class.
    pub class: LinkClass,
    /// The medium that it has.
    pub media: Media,
    /// What it lies over.
    pub lower: Lower,
    /// Whether other links can be its ports.
    pub has_ports: bool,
    /// Whether it is one end of a pair.
    pub is_pair: bool,
    /// The option that chooses it among the kinds of its class; none where its name does.
    pub chosen_by: Option<&'static str>,
    /// Where its hardware address comes from.
    pub address: Address,
    /// Why it cannot be lent to a zone, if it cannot.
    pub pinned: Option<&'static str>,
    /// How it is made.
    pub maker: Maker,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// What its options ask of each other.
    pub rules: &'static [Rule],
}

/// What a link of a kind lies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// Nothing.
    None,
    /// Another link, if one is named.
    Optional(LowerRule),
    /// Another link.
    Required(LowerRule),
}

/// Which lower links will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerRule {
    /// Their media; none named means all but the loopback's.
    pub media: &'static [Media],
    /// The attribute that takes the lower link's index.
    pub place: Place,
    /// Whether it may be in another zone.
    pub may_be_elsewhere: bool,
}

/// Where the hardware address of a link comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// It has one of its own: the one that is asked for, or one by chance that it then keeps.
    Own,
    /// The one that is asked for, or what the kernel makes of the links below.
    Inherited,
    /// None can be asked for.
    None,
}

/// How the kernel is asked for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// By rtnetlink.
    Rtnetlink,
    /// By `/dev/net/tun`.
    Tun,
}

/// What options ask of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Not both.
    NotBoth(&'static str, &'static str),
    /// Two numbers of which one at most is more than 0: while the first is, the kernel is not told
    /// the default of the second.
    Either(&'static str, &'static str),
    /// Addresses of one family.
    SameFamily(&'static str, &'static str),
    /// An option is given only with a lower link.
    NeedsLower(&'static str),
    /// An option is given only where another one has one of these values, by itself or because it
    /// was given.
    OnlyWhere(&'static str, &'static str, &'static [&'static str]),
}

impl PartialEq for LinkKind {
    /// Kinds are entries of one table, where each has another name.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for LinkKind {}

impl LinkClass {
    /// The class of a kernel link type (`IFLA_INFO_KIND`), or of a device that has none.
    pub fn of_kind(kind: Option<&str>) -> Self {
        match kind {
            None => Self::Phys,
            // Nobody asks us to make these.
            Some("netdevsim") => Self::Simnet,
            Some("tap") => Self::Tap,
            Some(kind) => LinkKind::of_kernel(kind).map_or(Self::Misc, |known| known.class),
        }
    }
}

impl LinkKind {
    /// The kind of that name, or of that other word for it.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name || kind.alias == Some(name))
    }

    /// The first kind that the kernel calls so: links that were found are described by it.
    pub fn of_kernel(kernel: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.kernel == kernel)
    }

    /// The option of that name.
    pub fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// The option that is a property of this name of its links. Where every link has a property of
    /// the name, that is meant.
    pub fn property(&self, name: &str) -> Option<&'static OptionSpec> {
        self.properties().find(|option| option.is_called(name))
    }

    /// The options that are properties of its links.
    pub fn properties(&self) -> impl Iterator<Item = &'static OptionSpec> + use<> {
        let told = self.options.iter().filter(|option| !option.attributes.is_empty());
        told.filter(|option| Property::named(option.name).is_none())
    }

    /// What a lower link must be, if there may be one.
    pub fn lower_rule(&self) -> Option<&LowerRule> {
        match &self.lower {
            Lower::None => None,
            Lower::Optional(rule) | Lower::Required(rule) => Some(rule),
        }
    }
}

/// A class of links as commands speak of it.
#[derive(Debug)]
pub struct ClassSpec {
    /// The class.
    pub class: LinkClass,
    /// What its links are, as in "Make ...".
    pub about: &'static str,
    /// How one of its kinds is chosen.
    pub choice: Choice,
    /// Options that are also written as `-a NAME=VALUE,...`, as illumos has it.
    pub in_list: &'static [&'static str],
}

/// How a kind is chosen among those of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// There is only one.
    Only,
    /// By an option; without it, the first one.
    FirstUnless(Selector),
    /// By an option, which must be given.
    Required(Selector),
}

/// The option that chooses a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Its name.
    pub name: &'static str,
    /// Its letter, if it has one.
    pub letter: Option<char>,
}

impl ClassSpec {
    /// What is known of a class; `None` for one whose links cannot be made.
    pub fn of(class: LinkClass) -> Option<&'static Self> {
        CLASSES.iter().find(|spec| spec.class == class)
    }

    /// The kinds of the class, in the order of the table.
    pub fn kinds(&self) -> impl Iterator<Item = &'static LinkKind> + use<> {
        let class = self.class;
        KINDS.iter().filter(move |kind| kind.class == class)
    }

    /// The kind that is meant where none is named.
    pub fn default_kind(&self) -> Option<&'static LinkKind> {
        match self.choice {
            Choice::Required(_) => None,
            Choice::Only | Choice::FirstUnless(_) => self.kinds().next(),
        }
    }

    /// The kind that an option chooses.
    pub fn chosen_by(&self, option: &str) -> Option<&'static LinkKind> {
        self.kinds().find(|kind| kind.chosen_by == Some(option))
    }

    /// How one of several kinds is chosen.
    pub fn selector(&self) -> Option<Selector> {
        match self.choice {
            Choice::Only => None,
            Choice::FirstUnless(selector) | Choice::Required(selector) => Some(selector),
        }
    }

    /// The options of all kinds of the class, each once.
    pub fn options(&self) -> Vec<&'static OptionSpec> {
        let mut options: Vec<&'static OptionSpec> = Vec::new();
        for option in self.kinds().flat_map(|kind| kind.options) {
            if options.iter().all(|known| known.name != option.name) {
                options.push(option);
            }
        }
        options
    }
}

#[cfg(test)]
mod tests;
