//! Properties of links are set, taken back and shown: `docs/architecture.md`, "Properties".

use std::collections::BTreeSet;

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::property::{
    Assignment, Description, Kind, Property, PropertyInfo, Standard, TABLE, Teller, Value,
};
use dlmgmt_proto::{Error, ErrorCode, LinkId, LinkName, Result};

use super::lookup::{known, title};
use super::options;
use super::plan::{Plan, PlannedStep};
use super::registry::Registry;
use crate::model::{
    Action, AltName, Binding, Bound, KernelLink, Link, LinkMode, LinkProperties, MODE, Readings,
    Settings, Step, small,
};

/// Properties that are to have these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Of which link.
    pub id: LinkId,
    /// What somebody wrote.
    pub values: Vec<Assignment>,
    /// Only while the kernel has the link.
    pub is_temporary: bool,
}

/// Properties that are to be as they were before anything was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resetting {
    /// Of which link.
    pub id: LinkId,
    /// What somebody wrote; nothing means all that were set.
    pub names: Vec<String>,
    /// Only while the kernel has the link.
    pub is_temporary: bool,
}

/// Sets properties: all of them or none. `asked` is what the link is not followed by.
pub fn plan_set_properties(registry: &Registry, wish: &Setting, asked: &Readings) -> Result<Plan> {
    let link = &settable(registry, wish.id, wish.is_temporary)?.knowing(asked);
    if wish.values.is_empty() {
        return Err(invalid(registry, link, "no property is named"));
    }
    let (options, others) = options::apart(link, &wish.values, |one| &one.property);
    let values = parsed(registry, link, &others)?;
    let options = options::wished(registry, link, &options)?;
    refuse_taken_altnames(registry, link, &values)?;
    let mut next = link.clone();
    let properties = &mut next.record_mut().properties;
    for (property, value) in values.iter() {
        if let Some(kernel) = &link.kernel {
            properties.note_found(property, kernel);
        }
        properties.want(property, Some(value.clone()), wish.is_temporary);
    }
    if let Some(wished) = &options {
        options::want(registry, link, &mut next, wished, wish.is_temporary)?;
    }
    Ok(plan_bringing(link, next, &values, options.as_ref()))
}

/// Takes properties back: all of them or none. `asked` is what the link is not followed by.
pub fn plan_reset_properties(
    registry: &Registry,
    wish: &Resetting,
    asked: &Readings,
) -> Result<Plan> {
    let link = &settable(registry, wish.id, wish.is_temporary)?.knowing(asked);
    let mut next = link.clone();
    let properties = &mut next.record_mut().properties;
    let mut values = Settings::default();
    let (options, others) = options::apart(link, &wish.names, String::as_str);
    let options = options::standards(registry, link, &options)?;
    for described in to_reset(registry, link, &wish.names, &others)? {
        let property = described.property;
        let standard = standard(described, properties);
        if !wish.is_temporary {
            properties.want(property, None, false);
        }
        if link.kernel.is_some() {
            // As a wish like others it is fulfilled also after a crash.
            properties.want(property, standard.clone(), true);
        }
        standard.into_iter().for_each(|value| values.insert(property, value));
    }
    if let Some(standards) = &options {
        options::want_standards(registry, link, &mut next, standards, wish.is_temporary)?;
    }
    Ok(plan_bringing(link, next, &values, options.as_ref()))
}

/// The properties of a link that are named, or all that it has.
pub fn describe_properties(
    registry: &Registry,
    link: &Link,
    names: &[String],
) -> Result<Vec<PropertyInfo>> {
    if names.is_empty() {
        let others = all_of(link).map(|one| describe(registry, link, one));
        let of_kind = options::all_of(link).map(|option| options::describe(link, option));
        return Ok(others.chain(of_kind).collect());
    }
    let of_name = |name: &String| match options::named(link, name) {
        Some(option) => Ok(options::describe(link, option)),
        None => named(registry, link, name).map(|one| describe(registry, link, one)),
    };
    names.iter().map(of_name).collect()
}

fn describe(registry: &Registry, link: &Link, described: &Description) -> PropertyInfo {
    let property = described.property;
    let kind = kind_for(registry, link, described);
    if property == Property::Zone {
        return describe_zone(registry, link, described);
    }
    let properties = &link.record.properties;
    let effective = link.kernel.as_ref().and_then(|kernel| kernel.setting(property));
    let wanted = properties.persistent.get(property).or(effective.as_ref());
    let default = standard(described, properties).or_else(|| effective.clone());
    let show = |value: &Value| kind.show(value);
    let is_there = |text: &String| !text.is_empty();
    PropertyInfo {
        name: property.as_str().to_owned(),
        is_writable: described.is_writable,
        value: wanted.map(show).filter(is_there),
        effective: effective.as_ref().map(show).filter(is_there),
        default: default.as_ref().map(show).filter(is_there),
        possible: kind.possible(),
    }
}

fn describe_zone(registry: &Registry, link: &Link, described: &Description) -> PropertyInfo {
    let label = |zone| Some(registry.zone_label(zone).to_string());
    let owner = link.record.owner;
    PropertyInfo {
        name: described.property.as_str().to_owned(),
        is_writable: described.is_writable,
        value: label(link.loan().map_or(owner, |loan| loan.zone)),
        effective: link.place().and_then(label),
        default: label(owner),
        possible: None,
    }
}

/// What a link needs once it is there: the steps that give it what its record wants, and the
/// properties with what was found before.
///
/// Options of its kind are among them where it may not have been made with them.
pub fn equipment(
    link: &Link,
    now: &KernelLink,
    options: Option<&LinkOptions>,
) -> (LinkProperties, Vec<Action>) {
    let mut properties = link.record.properties.clone();
    let wanted = properties.wanted();
    for (property, _) in wanted.iter() {
        properties.note_found(property, now);
    }
    let changes = all_changes(now, &wanted, options);
    (properties, changes.into_iter().map(|change| change.forward).collect())
}

/// One step on the way to other values, and the way back.
pub(super) struct Change {
    pub forward: Action,
    pub backward: Action,
}

/// Some options are changed only while their link is down: so a link that is put down is that
/// first.
fn all_changes(now: &KernelLink, wanted: &Settings, options: Option<&LinkOptions>) -> Vec<Change> {
    let others = changes_to(now, wanted);
    let options = options.map(|wished| options::changes_to(now, wished)).unwrap_or_default();
    match wanted.get(Property::State) {
        Some(Value::Switch(false)) => others.into_iter().chain(options).collect(),
        _ => options.into_iter().chain(others).collect(),
    }
}

/// What brings a link to these values, in an order that works: it is put up last.
pub(super) fn changes_to(now: &KernelLink, wanted: &Settings) -> Vec<Change> {
    let differs = |(property, value): &(Property, &Value)| {
        let is_for_ports = property.description().applies.told_by == Teller::Bridge;
        let can_be = !is_for_ports || now.is_bridge_port();
        can_be && now.setting(*property).is_none_or(|has| has != **value)
    };
    let (mode, others): (Vec<_>, Vec<_>) =
        wanted.iter().filter(differs).partition(|(property, _)| MODE.contains(property));
    let (last, first): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(property, _)| *property == Property::State);
    let changes = |(of, value)| changes_of(now, of, value);
    let mode = (!mode.is_empty()).then(|| other_mode(now, wanted));
    first
        .into_iter()
        .flat_map(changes)
        .chain(mode)
        .chain(last.into_iter().flat_map(changes))
        .collect()
}

fn other_mode(now: &KernelLink, wanted: &Settings) -> Change {
    let was = now.tunables.others.mode();
    let back = match was.autoneg {
        // It had agreed on speed and duplex, and may agree on others.
        Some(true) => LinkMode { autoneg: was.autoneg, ..LinkMode::default() },
        _ => was,
    };
    Change { forward: Action::SetMode(wanted.mode()), backward: Action::SetMode(back) }
}

fn changes_of(now: &KernelLink, property: Property, wanted: &Value) -> Vec<Change> {
    let change = |forward, backward| vec![Change { forward, backward }];
    match (property, wanted, now.setting(property)) {
        (Property::AltNames, Value::Names(names), _) => other_altnames(now, names),
        (_, wanted, Some(was)) => change(action(property, wanted), action(property, &was)),
        (_, wanted, None) => change(action(property, wanted), action(property, wanted)),
    }
}

fn action(property: Property, value: &Value) -> Action {
    match (property, value) {
        (Property::Mtu, Value::Number(mtu)) => Action::SetMtu(small(*mtu)),
        (Property::State, Value::Switch(up)) => Action::SetUp(*up),
        (Property::Mac, Value::Mac(mac)) => Action::SetMac(*mac),
        _ => Action::Set(property, value.clone()),
    }
}

fn other_altnames(now: &KernelLink, wanted: &[Vec<u8>]) -> Vec<Change> {
    let dropped = now.altnames.iter().filter(|name| !wanted.contains(&name.0)).map(|name| Change {
        forward: Action::DropAltName(name.clone()),
        backward: Action::AddAltName(name.clone()),
    });
    let wanted = wanted.iter().cloned().map(AltName);
    let added = wanted.filter(|name| !now.altnames.contains(name)).map(|name| Change {
        forward: Action::AddAltName(name.clone()),
        backward: Action::DropAltName(name),
    });
    dropped.chain(added).collect()
}

/// The steps of changes of a link that is there when the plan is made.
pub(super) fn steps(id: LinkId, at: Binding, changes: Vec<Change>) -> Vec<PlannedStep> {
    let step = |action| Step { at, action };
    let planned = |change: Change| PlannedStep {
        id,
        forward: step(change.forward),
        backward: Some(step(change.backward)),
    };
    changes.into_iter().map(planned).collect()
}

/// `next` is the link as it will be known; the kernel is brought to these values.
pub(super) fn plan_bringing(
    link: &Link,
    mut next: Link,
    values: &Settings,
    options: Option<&LinkOptions>,
) -> Plan {
    let mut plan = Plan::default();
    if let Some(bound) = &link.kernel {
        plan.steps = steps(link.record.id, bound.at(), all_changes(bound, values, options));
        next.kernel = Some(bound.with(|kernel| {
            values.iter().for_each(|(property, value)| kernel.take_setting(property, value));
            if let (Some(now), Some(wished)) = (&mut kernel.tunables.options, options) {
                now.take(wished);
            }
        }));
        if let (Some(anchor), Some(mac)) = (&mut next.record_mut().anchor, values.mac()) {
            anchor.mac = Some(mac);
        }
    }
    if let Some(left) = next.record_mut().location.left_mut() {
        for (property, value) in values.iter() {
            // Nothing else is put back at home.
            if left.get(property).is_none() {
                continue;
            }
            left.insert(property, value.clone());
        }
    }
    plan.changes.push(next.into());
    plan
}

impl Link {
    pub(super) fn knowing(&self, asked: &Readings) -> Self {
        let know = |bound: Bound| {
            let link = KernelLink::clone(&bound.link).knowing(asked.clone());
            Bound { link: link.into(), ..bound }
        };
        Self { kernel: self.kernel.clone().map(know), ..self.clone() }
    }
}

impl LinkProperties {
    /// Before a property is set for the first time, it has what a reset comes to.
    fn note_found(&mut self, property: Property, kernel: &KernelLink) {
        if let (None, Some(found)) = (self.found.get(property), kernel.setting(property)) {
            self.found.insert(property, found);
        }
    }

    /// The link is to have these values for as long as the kernel has it.
    pub(super) fn want_for_now(&mut self, values: &Settings, kernel: &KernelLink) {
        for (property, value) in values.iter() {
            self.note_found(property, kernel);
            self.want(property, Some(value.clone()), true);
        }
    }

    /// The link is to have these values, whatever was wanted of them before.
    pub(super) fn want_for_good(&mut self, values: &Settings) {
        for (property, value) in values.iter() {
            self.want(property, Some(value.clone()), false);
        }
    }

    fn want(&mut self, property: Property, value: Option<Value>, is_temporary: bool) {
        self.temporary.remove(property);
        let target = if is_temporary { &mut self.temporary } else { &mut self.persistent };
        match value {
            Some(value) => target.insert(property, value),
            None => drop(target.remove(property)),
        }
    }
}

/// What a reset comes to, where that is known.
fn standard(described: &Description, properties: &LinkProperties) -> Option<Value> {
    match described.standard {
        Standard::AsFound => properties.found.get(described.property).cloned(),
        Standard::Off => Some(Value::Switch(false)),
        Standard::Empty => Some(Value::Text(String::new())),
        Standard::Zero => Some(Value::Number(0)),
        Standard::None => Some(Value::Names(Vec::new())),
        Standard::Owner => None,
    }
}

fn settable(registry: &Registry, id: LinkId, is_temporary: bool) -> Result<&Link> {
    let link = known(registry, id)?;
    if link.is_loopback() {
        let text = format!("{}: the loopback device is nobody's to manage", title(registry, link));
        return Err(Error::new(ErrorCode::NotSupported, text));
    }
    if is_temporary && link.kernel.is_none() {
        return Err(invalid(registry, link, "it is not there, and a temporary value needs it"));
    }
    Ok(link)
}

pub(super) fn invalid(registry: &Registry, link: &Link, why: &str) -> Error {
    Error::new(ErrorCode::Invalid, format!("{}: {why}", title(registry, link)))
}

fn parsed(registry: &Registry, link: &Link, values: &[&Assignment]) -> Result<Settings> {
    let mut settings = Settings::default();
    for Assignment { property, value } in values {
        let described = writable(registry, link, property)?;
        let property = described.property;
        let value = kind_for(registry, link, described)
            .parse(value)
            .map_err(|why| invalid(registry, link, &format!("{property}: {why}")))?;
        if settings.get(property).is_some() {
            return Err(invalid(registry, link, &format!("{property} is named twice")));
        }
        settings.insert(property, value);
    }
    Ok(settings)
}

/// The properties among `others`, or where none is named at all, those that were set.
fn to_reset(
    registry: &Registry,
    link: &Link,
    names: &[String],
    others: &[&String],
) -> Result<Vec<&'static Description>> {
    if !names.is_empty() {
        return others.iter().map(|name| writable(registry, link, name)).collect();
    }
    let LinkProperties { persistent, temporary, .. } = &link.record.properties;
    let set: BTreeSet<Property> =
        persistent.iter().chain(temporary.iter()).map(|(property, _)| property).collect();
    Ok(set.into_iter().map(Property::description).collect())
}

fn writable(registry: &Registry, link: &Link, name: &str) -> Result<&'static Description> {
    let described = named(registry, link, name)?;
    if described.is_writable && described.property != Property::Zone {
        return Ok(described);
    }
    let why = match described.property {
        Property::Zone => "is set by itself, with no other property",
        _ => "can only be read",
    };
    Err(invalid(registry, link, &format!("{} {why}", described.property)))
}

fn named(registry: &Registry, link: &Link, name: &str) -> Result<&'static Description> {
    let Some(property) = Property::named(name) else {
        let of_kind = options::all_of(link).map(|option| option.name);
        let known: Vec<&str> =
            all_of(link).map(|one| one.property.as_str()).chain(of_kind).collect();
        let shown = name.escape_debug().to_string();
        let why = format!("no property `{shown:.64}`: there are {}", known.join(", "));
        return Err(invalid(registry, link, &why));
    };
    let described = property.description();
    if has(link, described) {
        return Ok(described);
    }
    let has_none = match described.applies.told_by {
        Teller::Bridge => Some(format!("only a port of a bridge has {property}")),
        Teller::Driver if covers(link, described) => {
            let text = format!("{}: its driver has no {property}", title(registry, link));
            return Err(Error::new(ErrorCode::NotSupported, text));
        }
        _ => None,
    };
    if let Some(why) = has_none {
        return Err(invalid(registry, link, &why));
    }
    let (class, media) = (link.record.class, link.record.media);
    let why = format!("a link of class {class} and media {media} has no property {property}");
    Err(invalid(registry, link, &why))
}

fn all_of(link: &Link) -> impl Iterator<Item = &'static Description> {
    TABLE.iter().filter(|described| has(link, described))
}

/// What was set is there to be taken back also while nobody tells of it.
fn has(link: &Link, described: &Description) -> bool {
    let was_set = || link.record.properties.persistent.get(described.property).is_some();
    covers(link, described) && (is_told(link, described) || was_set())
}

fn covers(link: &Link, described: &Description) -> bool {
    described.applies.covers(link.record.class, link.record.media)
}

fn is_told(link: &Link, described: &Description) -> bool {
    let kernel = link.kernel.as_ref();
    match described.applies.told_by {
        Teller::Kernel => true,
        Teller::Bridge => kernel.is_some_and(|kernel| kernel.is_bridge_port()),
        // Without a carrier there is a speed to be set, though none to be told.
        Teller::Driver if MODE.contains(&described.property) => {
            kernel.is_some_and(|kernel| kernel.setting(Property::Autoneg).is_some())
        }
        Teller::Driver => kernel.is_some_and(|kernel| kernel.setting(described.property).is_some()),
    }
}

/// What values the property can have on this very link.
fn kind_for(registry: &Registry, link: &Link, described: &Description) -> Kind {
    match (described.property, described.kind, &link.kernel) {
        (Property::Mtu, Kind::Number { least, most }, Some(bound)) => {
            let tunables = &bound.tunables;
            let largest = (tunables.mtu_max > 0).then_some(u64::from(tunables.mtu_max));
            let below = lower_mtu(registry, link);
            Kind::Number {
                least: least.max(tunables.mtu_min.into()),
                most: most.min(largest.unwrap_or(most)).min(below.unwrap_or(most)),
            }
        }
        (property, Kind::Number { least, most }, Some(bound)) => {
            let bound = match bound.tunables.limits.get(property) {
                Some(Value::Number(limit)) => *limit,
                _ => most,
            };
            Kind::Number { least, most: most.min(bound) }
        }
        (_, kind, _) => kind,
    }
}

/// A macvlan and a vlan take no larger packets than the link below them.
fn lower_mtu(registry: &Registry, link: &Link) -> Option<u64> {
    let bound = link.kernel.as_ref()?;
    let is_bounded = matches!(bound.kind.as_deref(), Some("macvlan" | "macvtap" | "vlan"));
    let lower = bound.lower.filter(|lower| is_bounded && lower.nsid.is_none())?;
    let below = registry.by_binding(Binding { ns: bound.ns, ifindex: lower.ifindex })?;
    Some(registry.link(below)?.kernel.as_ref()?.mtu.into())
}

/// Names and alternative names of a zone are one name space.
fn refuse_taken_altnames(registry: &Registry, link: &Link, values: &Settings) -> Result<()> {
    let Some(Value::Names(names)) = values.get(Property::AltNames) else { return Ok(()) };
    for name in names.iter().filter_map(|name| LinkName::found(name).ok()) {
        let zone = link.zone();
        let by = registry.by_altname(zone, &name).filter(|by| *by != link.record.id);
        let by = by.or_else(|| registry.by_name(zone, name));
        let by = by.or_else(|| registry.wanting(zone, name));
        let Some(by) = by.and_then(|by| registry.link(by)) else { continue };
        let (what, by) = (title(registry, link), title(registry, by));
        let text =
            format!("{what} cannot have the alternative name {name}: it is the name of {by}");
        return Err(Error::new(ErrorCode::Exists, text));
    }
    Ok(())
}
