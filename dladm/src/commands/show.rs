//! `show-link` and `show-phys`.

use std::ffi::OsStr;

use dlmgmt_proto::door::{GetLink, LinkFilter, View};
use dlmgmt_proto::{Flags, LinkClass, LinkInfo, LinkRef, ZoneName};
use libdlmgmt::Client;

use super::{Connect, link_ref, zone_name};
use crate::cli::{ShowLink, ShowPhys};
use crate::details;
use crate::failure::Failure;
use crate::fields::{LINK_FIELDS, PHYS_FIELDS};
use crate::order;
use crate::shape::Shape;

/// Shows links of any class.
pub fn links(args: &ShowLink, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone("link,class,mtu,state,over", args.show_zone);
    let shape = Shape::new(&args.form, LINK_FIELDS, &default)?;
    let links = asked(args)?.ask(&connect()?)?;
    if args.link.is_some() && args.persistent {
        require_persistent(&links)?;
    }
    shape.print(&links)
}

/// The links that `show-link` is asked for.
pub(super) fn asked(args: &ShowLink) -> Result<Question, Failure> {
    let every_class = Vec::new();
    let zone = args.zone.as_deref();
    Question::new(args.link.as_deref(), zone, args.show_zone, args.persistent, every_class)
}

/// Shows physical links.
pub fn phys(args: &ShowPhys, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone(phys_fields(args), args.show_zone);
    let shape = Shape::new(&args.form, PHYS_FIELDS, &default)?;
    let (link, phys) = (args.link.as_deref(), LinkClass::Phys);
    let question = Question::new(link, None, args.show_zone, args.persistent, vec![phys])?;
    let client = connect()?;
    let mut links = question.ask(&client)?;
    require_class(&links, phys)?;
    if shape.has("speed") || shape.has("duplex") {
        details::add_speed(&client, &mut links)?;
    }
    shape.print(&links)
}

fn phys_fields(args: &ShowPhys) -> &'static str {
    if args.locations {
        "link,device,path"
    } else if args.macs {
        "link,mac"
    } else if args.persistent {
        "link,device,media,flags"
    } else {
        "link,media,state,speed,duplex,device"
    }
}

pub(super) fn with_zone(fields: &str, show_zone: bool) -> String {
    if show_zone { format!("{fields},zone") } else { fields.to_owned() }
}

fn view(persistent: bool) -> View {
    if persistent { View::Persistent } else { View::Active }
}

/// `-z ZONE NAME` is `ZONE/NAME`.
fn in_zone(link: LinkRef, zone: Option<ZoneName>) -> Result<LinkRef, Failure> {
    match (link, zone) {
        (link, None) => Ok(link),
        (LinkRef::Name(name), Some(zone)) => Ok(LinkRef::InZone(zone, name)),
        (link, Some(_)) => {
            Err(Failure::Usage(format!("`{link}` says already where it is: it takes no -z")))
        }
    }
}

pub(super) fn require_persistent(links: &[LinkInfo]) -> Result<(), Failure> {
    match links.iter().find(|link| !link.flags.contains(Flags::PERSISTENT)) {
        Some(link) => Err(Failure::OtherLink(format!("{} is not persistent", link.name))),
        None => Ok(()),
    }
}

pub(super) fn require_class(links: &[LinkInfo], class: LinkClass) -> Result<(), Failure> {
    let called = if class == LinkClass::Phys { "a physical link" } else { class.as_str() };
    match links.iter().find(|link| link.class != class) {
        Some(link) => Err(Failure::OtherLink(format!(
            "{} is not {called} but of class {}",
            link.name, link.class
        ))),
        None => Ok(()),
    }
}

/// Which links are to be shown.
#[derive(Clone)]
pub(super) enum Question {
    /// This one.
    One(LinkRef),
    /// All that pass.
    Many(LinkFilter),
}

impl Question {
    /// One link, if one is named, or else the active or persistent ones of some classes (none
    /// named means all) in a zone, in every zone, or in the caller's own.
    pub(super) fn new(
        link: Option<&OsStr>,
        zone: Option<&str>,
        show_zone: bool,
        persistent: bool,
        classes: Vec<LinkClass>,
    ) -> Result<Self, Failure> {
        let zone = zone.map(zone_name).transpose()?;
        Ok(match link {
            Some(link) => Self::One(in_zone(link_ref(link)?, zone)?),
            None => Self::Many(LinkFilter {
                view: view(persistent),
                classes,
                all_zones: show_zone && zone.is_none(),
                zone,
            }),
        })
    }

    /// The links, by zone and then by name.
    pub(super) fn ask(self, client: &Client) -> Result<Vec<LinkInfo>, Failure> {
        match self {
            Self::One(link) => Ok(vec![client.call(&GetLink { link })?]),
            Self::Many(filter) => {
                let mut links = client.list(filter)?;
                links.sort_by(|a, b| {
                    let by_name = || order::natural(a.name.as_bytes(), b.name.as_bytes());
                    a.zone.cmp(&b.zone).then_with(by_name)
                });
                Ok(links)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_given_beside_a_name_is_where_the_link_is_looked_for() {
        let zone = || Some(ZoneName::new("web").unwrap());
        assert_eq!(in_zone("a".parse().unwrap(), zone()).unwrap(), "web/a".parse().unwrap());
        assert_eq!(in_zone("@3".parse().unwrap(), None).unwrap(), "@3".parse().unwrap());
        assert!(matches!(in_zone("@3".parse().unwrap(), zone()), Err(Failure::Usage(_))));
        assert!(matches!(in_zone("x/a".parse().unwrap(), zone()), Err(Failure::Usage(_))));
    }
}
