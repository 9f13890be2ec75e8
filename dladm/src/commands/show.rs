//! `show-link` and `show-phys`.

use dlmgmt_proto::door::{LinkFilter, View};
use dlmgmt_proto::{Flags, LinkClass, LinkInfo, LinkRef, ZoneName};
use libdlmgmt::Client;

use super::{Connect, link_ref, zone_name};
use crate::cli::{ShowLink, ShowPhys, Which};
use crate::details;
use crate::failure::Failure;
use crate::fields::{LINK_FIELDS, PHYS_FIELDS};
use crate::order;
use crate::shape::Shape;

/// Shows links of any class.
pub fn links(args: &ShowLink, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone("link,class,mtu,state,over", args.which.show_zone);
    let shape = Shape::new(&args.form, LINK_FIELDS, &default)?;
    let question = Question::new(&args.which, EVERY_CLASS)?;
    shape.print(&question.ask(&connect()?)?)
}

/// Shows physical links.
pub fn phys(args: &ShowPhys, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone(phys_fields(args), args.show_zone);
    let shape = Shape::new(&args.form, PHYS_FIELDS, &default)?;
    let which = Which {
        persistent: args.persistent,
        zone: None,
        show_zone: args.show_zone,
        link: args.link.clone(),
    };
    let question = Question::new(&which, &[LinkClass::Phys])?;
    let client = connect()?;
    let mut links = question.ask(&client)?;
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

/// Any class will do.
pub(super) const EVERY_CLASS: &[LinkClass] = &[];

/// Which links are to be shown.
#[derive(Clone)]
pub(super) enum Question {
    /// This one.
    One { link: LinkRef, is_persistent: bool, class: Option<LinkClass> },
    /// All that pass.
    Many(LinkFilter),
}

impl Question {
    /// One link, if one is named, or else all those in a zone, in every zone, or in the caller's
    /// own; of one of these classes.
    pub(super) fn new(which: &Which, classes: &[LinkClass]) -> Result<Self, Failure> {
        let zone = which.zone.as_deref().map(zone_name).transpose()?;
        Ok(match &which.link {
            Some(link) => Self::One {
                link: in_zone(link_ref(link)?, zone)?,
                is_persistent: which.persistent,
                class: classes.first().copied(),
            },
            None => Self::Many(LinkFilter {
                view: if which.persistent { View::Persistent } else { View::Active },
                classes: classes.to_vec(),
                all_zones: which.show_zone && zone.is_none(),
                zone,
            }),
        })
    }

    /// The links, by zone and then by name.
    pub(super) fn ask(self, client: &Client) -> Result<Vec<LinkInfo>, Failure> {
        match self {
            Self::One { link, is_persistent, class } => {
                let link = client.link(link)?;
                require_class(&link, class)?;
                require_persistent(&link, is_persistent)?;
                Ok(vec![link])
            }
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

fn require_class(link: &LinkInfo, class: Option<LinkClass>) -> Result<(), Failure> {
    let Some(class) = class.filter(|class| *class != link.class) else { return Ok(()) };
    let called = if class == LinkClass::Phys { "a physical link" } else { class.as_str() };
    let text = format!("{} is not {called} but of class {}", link.name, link.class);
    Err(Failure::OtherLink(text))
}

fn require_persistent(link: &LinkInfo, is_asked: bool) -> Result<(), Failure> {
    if is_asked && !link.flags.contains(Flags::PERSISTENT) {
        return Err(Failure::OtherLink(format!("{} is not persistent", link.name)));
    }
    Ok(())
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
