//! Options of links' kinds as properties: `docs/architecture.md`, "Properties".
//!
//! Which ones there are is said by the table of kinds alone. What is set for good is kept in the
//! recipe, by which the link is made again; what is set for now, in its properties.

use std::collections::BTreeMap;

use dlmgmt_proto::kind::{LinkKind, LinkOptions, OptionSpec};
use dlmgmt_proto::property::{Assignment, Property, PropertyInfo};
use dlmgmt_proto::{Error, Result, Value};

use super::properties::{Change, invalid};
use super::registry::Registry;
use crate::model::{Action, KernelLink, Link, LinkRecord, OptionSetting};

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

/// What somebody wrote, apart: options of the link's kind, and other properties.
pub(super) fn apart<'a>(
    link: &Link,
    values: &'a [Assignment],
) -> (Vec<(&'static OptionSpec, &'a str)>, Vec<&'a Assignment>) {
    let (mut options, mut others) = (Vec::new(), Vec::new());
    for assignment in values {
        match named(link, &assignment.property) {
            Some(option) => options.push((option, assignment.value.as_str())),
            None => others.push(assignment),
        }
    }
    (options, others)
}

/// The values that options are to have, with what follows from them; `None` where none is.
pub(super) fn wished(
    registry: &Registry,
    link: &Link,
    values: &[(&'static OptionSpec, &str)],
) -> Result<Option<LinkOptions>> {
    let mut wishes: Vec<(&'static OptionSpec, Value)> = Vec::new();
    for (option, text) in values {
        refuse_unchangeable(registry, link, option)?;
        let value = option.value.parse(text).map_err(|why| told(registry, link, option, &why))?;
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
    options: &[&'static OptionSpec],
) -> Result<Option<LinkOptions>> {
    options.iter().try_for_each(|option| refuse_unchangeable(registry, link, option))?;
    let standard = |option: &&'static OptionSpec| Some((*option, option.standard()?));
    brought(registry, link, options.iter().filter_map(standard).collect())
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
    match &mut next.record.recipe {
        Some(recipe) if !is_temporary => {
            let unknown = || refused("it was made by a later dlmgmtd".to_owned());
            let made_with = recipe.settings().ok_or_else(unknown)?;
            recipe.options = texts(&changed(made_with, recipe.over.is_some())?);
            for (name, _) in wished.given() {
                next.record.properties.options.remove(name);
            }
        }
        _ => {
            let unknown = || refused("what the kernel has of its options is not known".to_owned());
            let has_lower = link.kernel.as_ref().is_some_and(|bound| bound.lower.is_some());
            changed(now(link).cloned().ok_or_else(unknown)?, has_lower)?;
            next.record.properties.options.extend(texts(wished));
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
    if let Some(recipe) = next.record.recipe.as_mut().filter(|_| !is_temporary) {
        recipe.options.retain(|name, _| standards.get(name).is_none());
        if next.kernel.is_some() {
            next.record.properties.options.extend(texts(standards));
        }
    }
    Ok(())
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
