//! `show-link` and `show-phys`.

use std::ffi::OsStr;

use dlmgmt_proto::door::{GetLink, LinkFilter, View};
use dlmgmt_proto::{Flags, LinkClass, LinkInfo, LinkRef, ZoneName};
use libdlmgmt::Client;

use super::{Connect, link_ref, zone_name};
use crate::cli::{ShowLink, ShowPhys};
use crate::failure::Failure;
use crate::fields::{LINK_FIELDS, PHYS_FIELDS};
use crate::order;
use crate::shape::Shape;

/// Shows links of any class.
pub fn links(args: &ShowLink, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone("link,class,mtu,state,over", args.show_zone);
    let shape = Shape::new(&args.form, LINK_FIELDS, &default)?;
    let zone = args.zone.as_deref().map(zone_name).transpose()?;
    let question = match &args.link {
        Some(link) => Question::One(in_zone(link_ref(link)?, zone)?),
        None => Question::Many(LinkFilter {
            view: view(args.persistent),
            classes: Vec::new(),
            all_zones: args.show_zone && zone.is_none(),
            zone,
        }),
    };
    let links = question.ask(&connect()?)?;
    if args.link.is_some() && args.persistent {
        require_persistent(&links)?;
    }
    shape.print(&links)
}

/// Shows physical links.
pub fn phys(args: &ShowPhys, connect: impl Connect) -> Result<(), Failure> {
    let default = with_zone(phys_fields(args), args.show_zone);
    let shape = Shape::new(&args.form, PHYS_FIELDS, &default)?;
    let question = match args.link.as_deref().map(OsStr::new) {
        Some(link) => Question::One(link_ref(link)?),
        None => Question::Many(LinkFilter {
            view: view(args.persistent),
            classes: vec![LinkClass::Phys],
            zone: None,
            all_zones: args.show_zone,
        }),
    };
    let links = question.ask(&connect()?)?;
    require_phys(&links)?;
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

fn with_zone(fields: &str, show_zone: bool) -> String {
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

fn require_persistent(links: &[LinkInfo]) -> Result<(), Failure> {
    match links.iter().find(|link| !link.flags.contains(Flags::PERSISTENT)) {
        Some(link) => Err(Failure::OtherLink(format!("{} is not persistent", link.name))),
        None => Ok(()),
    }
}

fn require_phys(links: &[LinkInfo]) -> Result<(), Failure> {
    match links.iter().find(|link| link.class != LinkClass::Phys) {
        Some(link) => Err(Failure::OtherLink(format!(
            "{} is not a physical link but of class {}",
            link.name, link.class
        ))),
        None => Ok(()),
    }
}

/// Which links are to be shown.
enum Question {
    One(LinkRef),
    Many(LinkFilter),
}

impl Question {
    /// The links, by zone and then by name.
    fn ask(self, client: &Client) -> Result<Vec<LinkInfo>, Failure> {
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
