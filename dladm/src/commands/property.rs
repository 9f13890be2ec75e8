//! `show-linkprop`, `set-linkprop` and `reset-linkprop`.

use dlmgmt_proto::door::{LinkFilter, ResetProperties, SetProperties};
use dlmgmt_proto::property::{self, Assignment, Kind, Property, PropertyInfo};
use dlmgmt_proto::{ErrorCode, LinkName, LinkRef};
use libdlmgmt::{Client, ClientError};

use super::{Connect, link_ref};
use crate::cli;
use crate::failure::Failure;
use crate::fields::{PROPERTY_FIELDS, PropertyRow};
use crate::order;
use crate::shape::Shape;

/// Shows the properties of a link, or of all links of the caller's zone.
pub fn show(args: &cli::ShowLinkprop, connect: impl Connect) -> Result<(), Failure> {
    let default = "link,property,perm,value,effective,default,possible";
    let shape = Shape::new(&args.form(), PROPERTY_FIELDS, default)?;
    let names = listed(&args.properties);
    let link = args.link.as_deref().map(link_ref).transpose()?;
    let rows = match link {
        Some(link) => of_one(&connect()?, link, names)?,
        None => {
            let wanted = names.iter().map(|name| known(name)).collect::<Result<Vec<_>, _>>()?;
            of_all(&connect()?, &wanted)?
        }
    };
    shape.print(&rows)
}

/// Sets properties, all of them or none.
pub fn set(args: &cli::SetLinkprop, connect: impl Connect) -> Result<(), Failure> {
    let mut values = Vec::new();
    for text in &args.values {
        values.extend(assigned(text)?);
    }
    let call = SetProperties { link: link_ref(&args.link)?, values, temporary: args.temporary };
    connect()?.set_properties(call)?;
    Ok(())
}

/// Takes back what was set, all of it or none.
pub fn reset(args: &cli::ResetLinkprop, connect: impl Connect) -> Result<(), Failure> {
    let (link, names) = (link_ref(&args.link)?, listed(&args.properties));
    connect()?.reset_properties(ResetProperties { link, names, temporary: args.temporary })?;
    Ok(())
}

fn of_one(client: &Client, link: LinkRef, names: Vec<String>) -> Result<Vec<PropertyRow>, Failure> {
    let name = client.link(link.clone())?.name;
    Ok(rows(name, client.properties(link, names)?))
}

/// A link does not have every property, and one that ends meanwhile has none.
fn of_all(client: &Client, wanted: &[&str]) -> Result<Vec<PropertyRow>, Failure> {
    let mut links = client.list(LinkFilter::default())?;
    links.sort_by(|a, b| order::natural(a.name.as_bytes(), b.name.as_bytes()));
    let mut all = Vec::new();
    for link in links {
        let found = match client.properties(LinkRef::Id(link.id), Vec::new()) {
            Err(ClientError::Refused(why)) if why.code == ErrorCode::NotFound => continue,
            found => found?,
        };
        all.extend(rows(link.name, chosen(found, wanted)));
    }
    Ok(all)
}

fn rows(link: LinkName, properties: Vec<PropertyInfo>) -> Vec<PropertyRow> {
    properties.into_iter().map(|property| PropertyRow { link, property }).collect()
}

/// Those that are wanted, in that order; all where none is named.
fn chosen(found: Vec<PropertyInfo>, wanted: &[&str]) -> Vec<PropertyInfo> {
    if wanted.is_empty() {
        return found;
    }
    let one = |of: &&str| found.iter().find(|info| info.name == *of).cloned();
    wanted.iter().filter_map(one).collect()
}

fn known(name: &str) -> Result<&'static str, Failure> {
    property::known(name).ok_or_else(|| {
        let all = property::names().join(", ");
        Failure::Usage(format!("unknown property `{name}`: there are {all}"))
    })
}

/// The names in lists that are separated by commas.
fn listed(lists: &[String]) -> Vec<String> {
    let names = lists.iter().flat_map(|list| list.split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads `PROP=VALUE,...`. A part without a `=` goes on with the value before it, which is then a
/// list; a text takes all that follows.
fn assigned(text: &str) -> Result<Vec<Assignment>, Failure> {
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut rest = Some(text);
    while let Some(unread) = rest {
        let (part, after) = split(unread);
        rest = after;
        match (part.split_once('='), assignments.last_mut()) {
            (Some((property, _)), _) if is_text(property) => {
                let (property, value) = unread.split_once('=').unwrap_or((unread, ""));
                assignments.push(assignment(property, value));
                rest = None;
            }
            (Some((property, value)), _) => assignments.push(assignment(property, value)),
            (None, Some(list)) => list.value = format!("{},{part}", list.value),
            (None, None) => {
                return Err(Failure::Usage(format!("`{part}` has no value: PROP=VALUE has")));
            }
        }
    }
    Ok(assignments)
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(',').map_or((text, None), |(part, after)| (part, Some(after)))
}

fn assignment(property: &str, value: &str) -> Assignment {
    Assignment { property: property.trim().to_owned(), value: value.to_owned() }
}

fn is_text(property: &str) -> bool {
    let property = Property::named(property.trim());
    property.is_some_and(|property| matches!(property.description().kind, Kind::Text { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let all = assigned(text).unwrap().into_iter();
        all.map(|Assignment { property, value }| (property, value)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(of, is)| ((*of).to_owned(), (*is).to_owned())).collect()
    }

    #[test]
    fn properties_are_separated_by_commas() {
        assert_eq!(read("mtu=9000,state=up"), pairs(&[("mtu", "9000"), ("state", "up")]));
        assert_eq!(read("mtu="), pairs(&[("mtu", "")]));
    }

    #[test]
    fn what_has_no_equals_sign_goes_on_with_the_list_before_it() {
        assert_eq!(read("altnames=a,b,mtu=68"), pairs(&[("altnames", "a,b"), ("mtu", "68")]));
        assert!(matches!(assigned("mtu"), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_text_takes_all_that_follows() {
        assert_eq!(read("mtu=68,alias=up, a=b"), pairs(&[("mtu", "68"), ("alias", "up, a=b")]));
    }

    #[test]
    fn only_what_is_wanted_is_shown_in_that_order() {
        let info = |name: &str| PropertyInfo {
            name: name.to_owned(),
            is_writable: true,
            value: None,
            effective: None,
            default: None,
            possible: None,
        };
        let found = vec![info("mtu"), info("state")];
        let wanted = ["state", "mac", "mtu"];
        let names: Vec<String> = chosen(found, &wanted).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["state", "mtu"]);
    }
}
