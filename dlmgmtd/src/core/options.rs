//! Options of links' kinds as properties: `docs/architecture.md`, "Properties".
//!
//! Which ones there are is said by the table of kinds alone. What is set for good is kept in the
//! recipe, by which the link is made again; what is set for now, in its properties.

use std::collections::BTreeMap;

use dlmgmt_proto::kind::{LinkKind, LinkOptions, OptionSpec};
use dlmgmt_proto::property::{Assignment, Property, PropertyInfo};
use dlmgmt_proto::{Error, Result, Value};

use super::plan::Plan;
use super::properties::{Change, invalid, plan_bringing};
use super::registry::Registry;
use crate::model::{
    Action, KernelLink, Link, LinkRecord, OptionSetting, Readings, Recipe, Settings,
};

/// The option of a link's kind that a property name means.
pub(super) fn named(link: &Link, name: &str) -> Option<&'static OptionSpec> {
    kind_of(link)?.property(name).filter(|_| Property::named(name).is_none())
}

/// The options of a link's kind that are properties of it.
pub(super) fn all_of(link: &Link) -> impl Iterator<Item = &'static OptionSpec> + use<> {
    kind_of(link).into_iter().flat_map(LinkKind::properties)
}

/// An option of a link as clients see it.
pub(super) fn describe(link: &Link, option: &OptionSpec) -> PropertyInfo {
    let given = link.record.recipe.as_ref().and_then(|recipe| recipe.options.get(option.name));
    let effective = now(link).and_then(|now| now.get(option.name)).map(|value| value.to_string());
    let is_there = |text: &String| !text.is_empty();
    PropertyInfo {
        name: option.name.to_owned(),
        is_writable: option.is_changeable,
        value: given.cloned().or_else(|| effective.clone()).filter(is_there),
        effective: effective.filter(is_there),
        default: option.standard().map(|value| value.to_string()).filter(is_there),
        possible: Some(option.value.possible()),
    }
}

/// What somebody wrote, apart by the property that each names: options of the link's kind, and
/// others.
pub(super) fn apart<'a, T>(
    link: &Link,
    written: &'a [T],
    name: impl Fn(&T) -> &str,
) -> (Vec<(&'static OptionSpec, &'a T)>, Vec<&'a T>) {
    let (mut options, mut others) = (Vec::new(), Vec::new());
    for one in written {
        match named(link, name(one)) {
            Some(option) => options.push((option, one)),
            None => others.push(one),
        }
    }
    (options, others)
}

/// The values that options are to have, with what follows from them; `None` where none is.
pub(super) fn wished(
    registry: &Registry,
    link: &Link,
    values: &[(&'static OptionSpec, &Assignment)],
) -> Result<Option<LinkOptions>> {
    let mut wishes: Vec<(&'static OptionSpec, Value)> = Vec::new();
    for (option, Assignment { value, .. }) in values {
        refuse_unchangeable(registry, link, option)?;
        let value = option.value.parse(value).map_err(|why| told(registry, link, option, &why))?;
        if wishes.iter().any(|(known, _)| known.name == option.name) {
            return Err(invalid(registry, link, &format!("{} is named twice", option.name)));
        }
        wishes.push((option, value));
    }
    brought(registry, link, wishes)
}

/// As [`wished`], for options that are to be as the class has them.
pub(super) fn standards(
    registry: &Registry,
    link: &Link,
    names: &[(&'static OptionSpec, &String)],
) -> Result<Option<LinkOptions>> {
    let mut standards = Vec::new();
    for (option, _) in names {
        refuse_unchangeable(registry, link, option)?;
        standards.extend(option.standard().map(|value| (*option, value)));
    }
    brought(registry, link, standards)
}

fn brought(
    registry: &Registry,
    link: &Link,
    wishes: Vec<(&'static OptionSpec, Value)>,
) -> Result<Option<LinkOptions>> {
    let Some(kind) = kind_of(link).filter(|_| !wishes.is_empty()) else { return Ok(None) };
    let wished = LinkOptions::wished(kind, wishes);
    wished.map(Some).map_err(|why| invalid(registry, link, &why.to_string()))
}

/// Notes in `next` what is wished of `link`: for good, or for as long as the kernel has it.
pub(super) fn want(
    registry: &Registry,
    link: &Link,
    next: &mut Link,
    wished: &LinkOptions,
    is_temporary: bool,
) -> Result<()> {
    let refused = |why: String| invalid(registry, link, &why);
    let changed = |was: LinkOptions, has_lower| {
        was.changed(wished, has_lower).map_err(|why| refused(why.to_string()))
    };
    let record = next.record_mut();
    match &mut record.recipe {
        Some(recipe) if !is_temporary => {
            let unknown = || refused("it was made by a later dlmgmtd".to_owned());
            let made_with = recipe.settings().ok_or_else(unknown)?;
            recipe.options = texts(&changed(made_with, recipe.over.is_some())?);
            for (name, _) in wished.given() {
                record.properties.options.remove(name);
            }
        }
        _ => {
            let unknown = || refused("what the kernel has of its options is not known".to_owned());
            let has_lower = link.kernel.as_ref().is_some_and(|bound| bound.lower.is_some());
            changed(now(link).cloned().ok_or_else(unknown)?, has_lower)?;
            record.properties.options.extend(texts(wished));
        }
    }
    Ok(())
}

/// Notes in `next` that options are as the class has them from now on, also where a crash comes
/// between.
pub(super) fn want_standards(
    registry: &Registry,
    link: &Link,
    next: &mut Link,
    standards: &LinkOptions,
    is_temporary: bool,
) -> Result<()> {
    want(registry, link, next, standards, is_temporary)?;
    let is_there = next.kernel.is_some();
    let record = next.record_mut();
    if let Some(recipe) = record.recipe.as_mut().filter(|_| !is_temporary) {
        recipe.options.retain(|name, _| standards.get(name).is_none());
        if is_there {
            record.properties.options.extend(texts(standards));
        }
    }
    Ok(())
}

/// The value of an option: what was given, or else what the class has, where that is known.
pub(super) fn value_of(options: &LinkOptions, option: &OptionSpec) -> Option<Value> {
    options.get(option.name).or_else(|| option.standard())
}

/// From now on a link of ours is as if it had been made with these options, which differ from its
/// own only in what can be changed; `None` where they are its own. `asked` is what it is not
/// followed by.
pub(super) fn plan_made_with(
    link: &Link,
    made_with: &LinkOptions,
    asked: Option<&Readings>,
) -> Option<Plan> {
    let recipe = link.record.recipe.as_ref()?;
    let options = texts(made_with);
    if recipe.options == options {
        return None;
    }
    let was = recipe.settings()?;
    let link = asked.map_or_else(|| link.clone(), |asked| link.knowing(asked));
    let wished = brought_by(&was, made_with, recipe.over.is_some());
    let values = values_of_every_link(&link.record, &was, made_with);
    let mut next = link.clone();
    let record = next.record_mut();
    record.recipe = Some(Recipe { options, ..recipe.clone() });
    record.properties.options.retain(|name, _| wished.get(name).is_none());
    if let Some(kernel) = &link.kernel {
        // As wishes like others they are fulfilled also after a crash.
        let standards = texts(&wished).into_iter();
        let standards = standards.filter(|(name, _)| made_with.get(name).is_none());
        record.properties.options.extend(standards);
        record.properties.want_for_now(&values, kernel);
    }
    Some(plan_bringing(&link, next, &values, Some(&wished)))
}

/// What differs among the options of a kind alone. What is not said any more comes to what the class
/// has, unless it means nothing beside the others.
fn brought_by(was: &LinkOptions, made_with: &LinkOptions, has_lower: bool) -> LinkOptions {
    let kind = made_with.kind();
    let means_something = |option: &'static OptionSpec, value: Value| {
        let alone = LinkOptions::found(kind, [(option, value)]);
        let changed = made_with.changed(&alone, has_lower);
        changed.is_ok_and(|changed| made_with.given().all(|(name, _)| changed.get(name).is_some()))
    };
    let differing = kind.properties().filter_map(|option| {
        let value = value_of(made_with, option)?;
        let differs = option.is_changeable && value_of(was, option) != Some(value);
        let is_said = || made_with.get(option.name).is_some() || means_something(option, value);
        (differs && is_said()).then_some((option, value))
    });
    LinkOptions::found(kind, differing)
}

/// What is given among the options that every link has as properties, and is neither as it was nor
/// set otherwise: it was made with that, and nothing else takes it there.
fn values_of_every_link(
    record: &LinkRecord,
    was: &LinkOptions,
    made_with: &LinkOptions,
) -> Settings {
    let differing = made_with.given().filter(|(name, value)| was.get(name) != Some(*value));
    let values = differing.filter_map(|(name, value)| {
        let property = Property::named(name)?;
        let value = property.description().kind.parse(&value.to_string()).ok()?;
        record.properties.persistent.get(property).is_none().then_some((property, value))
    });
    values.collect()
}

/// What brings the kernel's link to what is wished, in the order of the table.
pub(super) fn changes_to(kernel: &KernelLink, wished: &LinkOptions) -> Vec<Change> {
    let kind = wished.kind();
    let now = kernel.tunables.options.as_ref();
    let change = |option: &'static OptionSpec| {
        let wanted = wished.get(option.name)?;
        let was = now.and_then(|now| now.get(option.name));
        let is_said = !option.info_attributes(&wanted).is_empty();
        let setting = |value| Action::SetOption(OptionSetting { kind, option, value });
        (is_said && was != Some(wanted))
            .then(|| Change { forward: setting(wanted), backward: setting(was.unwrap_or(wanted)) })
    };
    kind.options.iter().filter_map(change).collect()
}

/// The options that a link is to have, as far as somebody asked for them and they can be changed.
pub fn wanted_options(record: &LinkRecord) -> Option<LinkOptions> {
    let recipe = record.recipe.as_ref();
    if record.properties.options.is_empty() && recipe.is_none_or(|recipe| recipe.options.is_empty())
    {
        return None;
    }
    let found = || LinkKind::of_kernel(record.kind.as_deref()?);
    let kind = recipe.map_or_else(found, |recipe| recipe.kind())?;
    let text = |name: &str| {
        let made_with = || recipe.and_then(|recipe| recipe.options.get(name));
        record.properties.options.get(name).or_else(made_with)
    };
    let wanted = kind.properties().filter(|option| option.is_changeable);
    let wanted = wanted
        .filter_map(|option| Some((option, option.value.parse(text(option.name)?).ok()?)))
        .collect::<Vec<_>>();
    (!wanted.is_empty()).then(|| LinkOptions::found(kind, wanted))
}

fn kind_of(link: &Link) -> Option<&'static LinkKind> {
    let made = link.record.recipe.as_ref().and_then(|recipe| recipe.kind());
    let found = || now(link).map(LinkOptions::kind);
    made.or_else(found).or_else(|| LinkKind::of_kernel(link.record.kind.as_deref()?))
}

fn now(link: &Link) -> Option<&LinkOptions> {
    link.kernel.as_ref()?.tunables.options.as_ref()
}

fn texts(options: &LinkOptions) -> BTreeMap<String, String> {
    options.given().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
}

fn refuse_unchangeable(registry: &Registry, link: &Link, option: &OptionSpec) -> Result<()> {
    if option.is_changeable {
        return Ok(());
    }
    let why = format!("{} can only be read: it is given when the link is made", option.name);
    Err(invalid(registry, link, &why))
}

fn told(
    registry: &Registry,
    link: &Link,
    option: &OptionSpec,
    why: &dlmgmt_proto::ValueError,
) -> Error {
    invalid(registry, link, &format!("{}: {why}", option.name))
}
