//! Options of bridges in random lives: what is wanted of them for good, and what the kernel has.

use std::collections::BTreeMap;

use dlmgmt_proto::door::{MakeLink, ResetProperties, SetProperties};
use dlmgmt_proto::kind::LinkKind;
use dlmgmt_proto::property::Assignment;
use dlmgmt_proto::{LinkClass, LinkId, LinkInfo, LinkRef, ZoneName};
use dlmgmtd::engine::Service;
use dlmgmtd::model::{Action, OptionSetting, Step};
use proptest::prelude::*;

use super::{Known, Life, Model, Wish, a_name};
use crate::classes::made;
use crate::machine::root;

/// Options with some of their values, the first one what a bridge has by itself.
const OPTIONS: [(&str, &[&str]); 3] = [
    ("protect", &["none", "stp"]),
    ("ageing-time", &["300", "77", "44"]),
    ("priority", &["32768", "4096"]),
];

/// Values of options, by their names.
pub type Options = BTreeMap<&'static str, String>;

/// What is known of the options of a bridge.
#[derive(Clone, Debug, Default)]
pub struct KnownOptions {
    /// What is wanted for good.
    pub for_good: Options,
    /// What is wanted instead for as long as the link lasts.
    pub for_now: BTreeMap<String, String>,
    /// What the kernel has.
    pub effective: Options,
}

/// Something that happens to a bridge. Bridges, options and values are chosen by numbers, counted
/// round.
#[derive(Clone, Debug)]
pub enum OfBridge {
    Make { name: usize, value: usize, temporary: bool },
    Set { bridge: usize, first: (usize, usize), second: Option<(usize, usize)>, temporary: bool },
    Reset { bridge: usize, option: usize, temporary: bool },
    OthersSet { bridge: usize, option: usize, value: usize },
}

pub fn of_bridge() -> impl Strategy<Value = OfBridge> {
    use OfBridge::*;
    let any = || 0..64usize;
    let both = || (any(), any());
    let yes = proptest::bool::weighted;
    prop_oneof![
        3 => (any(), any(), yes(0.3))
            .prop_map(|(name, value, temporary)| Make { name, value, temporary }),
        6 => (any(), both(), proptest::option::of(both()), yes(0.4)).prop_map(
            |(bridge, first, second, temporary)| Set { bridge, first, second, temporary }
        ),
        2 => (any(), any(), yes(0.4))
            .prop_map(|(bridge, option, temporary)| Reset { bridge, option, temporary }),
        2 => (any(), any(), any())
            .prop_map(|(bridge, option, value)| OthersSet { bridge, option, value }),
    ]
}

/// An option by its number.
fn named(option: usize) -> &'static str {
    OPTIONS[option % OPTIONS.len()].0
}

/// An option and one of its values.
fn valued((option, value): (usize, usize)) -> (&'static str, &'static str) {
    let (name, values) = OPTIONS[option % OPTIONS.len()];
    (name, values[value % values.len()])
}

/// What a bridge has that was made with these options.
pub fn made_with(given: &BTreeMap<String, String>) -> Options {
    let value = |(name, values): &(&'static str, &[&str])| {
        (*name, given.get(*name).cloned().unwrap_or_else(|| values[0].to_owned()))
    };
    OPTIONS.iter().map(value).collect()
}

impl Life {
    fn bridge(&self, which: usize) -> Option<LinkInfo> {
        let links = self.daemon().all_links().into_iter();
        let bridges: Vec<LinkInfo> = links.filter(|link| link.class == LinkClass::Bridge).collect();
        (!bridges.is_empty()).then(|| bridges[which % bridges.len()].clone())
    }

    pub fn happen_to_bridge(&mut self, happening: OfBridge) {
        match happening {
            OfBridge::Make { name, value, temporary } => self.make_bridge(name, value, temporary),
            OfBridge::Set { bridge, first, second, temporary } => {
                let mut values: Options = Options::new();
                for (name, value) in [Some(first), second].into_iter().flatten().map(valued) {
                    values.insert(name, value.to_owned());
                }
                self.set_options(bridge, values, temporary);
            }
            OfBridge::Reset { bridge, option, temporary } => {
                self.reset_option(bridge, named(option), temporary);
            }
            OfBridge::OthersSet { bridge, option, value } => {
                self.others_set_option(bridge, valued((option, value)));
            }
        }
    }

    fn make_bridge(&mut self, called: usize, value: usize, temporary: bool) {
        let (name, value) = valued((0, value));
        let call = made(&a_name(called).to_string(), "bridge", &[(name, value)]);
        let options = made_with(&[(name.to_owned(), value.to_owned())].into());
        let known = Known {
            own_name: a_name(called),
            loan: None,
            owner: ZoneName::global(),
            is_persistent: !temporary,
            class: LinkClass::Bridge,
            card: None,
            alias: String::new(),
            options: KnownOptions {
                effective: options.clone(),
                for_good: options,
                ..KnownOptions::default()
            },
        };
        self.made.insert(self.requests + 1, (known, None));
        let engine = self.daemon().engine.clone();
        let call = MakeLink { temporary, ..call };
        self.ask(Vec::new(), async move { engine.make_link(&root(), call).await.map(Some) });
    }

    fn set_options(&mut self, bridge: usize, values: Options, temporary: bool) {
        let Some(link) = self.bridge(bridge) else { return };
        let wishes = wishes(link.id, &values, temporary);
        let values = values.into_iter();
        let values = values.map(|(name, value)| Assignment { property: name.to_owned(), value });
        let values = values.collect();
        let call = SetProperties { link: LinkRef::Id(link.id), values, temporary };
        let engine = self.daemon().engine.clone();
        self.ask(wishes, async move { engine.set_properties(&root(), call).await.map(|_| None) });
    }

    fn reset_option(&mut self, bridge: usize, option: &'static str, temporary: bool) {
        let Some(link) = self.bridge(bridge) else { return };
        let mut standard = made_with(&BTreeMap::new());
        standard.retain(|name, _| *name == option);
        let names = vec![option.to_owned()];
        let call = ResetProperties { link: LinkRef::Id(link.id), names, temporary };
        let engine = self.daemon().engine.clone();
        let wishes = wishes(link.id, &standard, temporary);
        self.ask(wishes, async move { engine.reset_properties(&root(), call).await.map(|_| None) });
    }

    fn others_set_option(&mut self, bridge: usize, (name, text): (&'static str, &'static str)) {
        let Some(link) = self.bridge(bridge) else { return };
        let Some(at) = self.binding(&link) else { return };
        let kind = LinkKind::named("bridge").unwrap();
        let option = kind.option(name).unwrap();
        let value = option.value.parse(text).unwrap();
        let action = Action::SetOption(OptionSetting { kind, option, value });
        if self.machine.world.by_others(&Step { at, action }).is_ok() {
            self.model.by_others(link.id, Wish::Effective(name, text.to_owned()));
            self.meddled_with.insert(link.id);
        }
    }

    /// The options of a bridge; none of what is no bridge.
    pub fn options(&self, link: &LinkInfo) -> KnownOptions {
        let record = self.machine.records().into_iter().find(|record| record.id == link.id);
        let of_bridge = record.filter(|_| link.class == LinkClass::Bridge);
        let of_bridge = of_bridge.and_then(|record| Some((record.recipe?, record.properties)));
        let Some((recipe, properties)) = of_bridge else { return KnownOptions::default() };
        let effective = self.binding(link).and_then(|at| {
            let has = self.machine.world.link(at)?.tunables.options?;
            let value = |(name, _): &(&'static str, _)| Some((*name, has.get(name)?.to_string()));
            OPTIONS.iter().map(value).collect()
        });
        KnownOptions {
            for_good: made_with(&recipe.options),
            for_now: properties.options,
            effective: effective.unwrap_or_default(),
        }
    }

    /// The kernel has what the records say, where nobody else set anything and nothing was refused.
    /// What was wanted for as long as the link lasted may be on the disk when another has been made.
    pub fn check_options(&self) {
        let is_as_left = |link: &LinkInfo| self.has_refused || self.meddled_with.contains(&link.id);
        for link in self.daemon().all_links().iter().filter(|link| !is_as_left(link)) {
            let KnownOptions { for_good, for_now, effective } = self.options(link);
            for (name, value) in &effective {
                let is_wanted =
                    for_good.get(name) == Some(value) || for_now.get(*name) == Some(value);
                assert!(is_wanted, "{link:?}: {name} is {value}, not {for_good:?} or {for_now:?}");
            }
        }
    }
}

/// What somebody wants who sets these options.
fn wishes(link: LinkId, values: &Options, temporary: bool) -> Vec<(LinkId, Wish)> {
    let effective = values.iter().map(|(name, value)| Wish::Effective(name, value.clone()));
    let lasting = values.iter().map(|(name, value)| Wish::Option(name, value.clone()));
    let lasting = lasting.filter(|_| !temporary);
    effective.chain(lasting).map(|wish| (link, wish)).collect()
}

impl Model {
    /// An import may bring a bridge these options.
    pub fn options_may_come(&mut self, link: LinkId, given: &BTreeMap<String, String>) {
        for (_, wish) in wishes(link, &made_with(given), false) {
            self.may_come(link, wish);
        }
    }

    /// Options are as somebody wanted them. A bridge that was made again is as is wanted for good, and
    /// one of which an option was being changed when the daemon died is as its record says.
    pub fn check_options(&self, id: LinkId, known: &KnownOptions, is: &KnownOptions) {
        let is_doubted = self.was_cut_short(id, |wish| matches!(wish, Wish::Effective(..)));
        for (name, value) in &is.for_good {
            let was = known.for_good.get(name).cloned().unwrap_or_default();
            let possible = self.possible(id, &was, |wish| match wish {
                Wish::Option(of, value) if of == name => Some(value.clone()),
                _ => None,
            });
            assert!(possible.contains(value), "@{id}: {name} is {value}, not of {possible:?}");
        }
        for (name, value) in &is.effective {
            let was = known.effective.get(name).or(known.for_good.get(name)).cloned();
            let mut possible = self.possible(id, &was.unwrap_or_default(), |wish| match wish {
                Wish::Effective(of, value) if of == name => Some(value.clone()),
                _ => None,
            });
            possible.extend(is.for_good.get(name).cloned());
            possible.extend(is.for_now.get(*name).filter(|_| is_doubted).cloned());
            let why = "not of what was wanted or others set";
            assert!(possible.contains(value), "@{id}: {name} is {value} {why}: {possible:?}");
        }
    }
}
