//! `show-link` and `show-phys`.

use std::ffi::OsStr;

use dlmgmt_proto::door::{GetLink, LinkFilter, View};
use dlmgmt_proto::{Flags, LinkClass, LinkInfo, LinkRef, ZoneName};
use libdlmgmt::Client;

use super::{Connect, link_ref};
use crate::cli::{Form, ShowLink, ShowPhys};
use crate::failure::Failure;
use crate::fields::{Field, LINK_FIELDS, PHYS_FIELDS, Selection, select};
use crate::{order, output};

/// Shows links of any class.
pub fn links(args: &ShowLink, connect: impl Connect) -> Result<(), Failure> {
    let shape = Shape::new(&args.form, LINK_FIELDS, "link,class,mtu,state,over", args.show_zone)?;
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
    let shape = Shape::new(&args.form, PHYS_FIELDS, phys_fields(args), args.show_zone)?;
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

fn view(persistent: bool) -> View {
    if persistent { View::Persistent } else { View::Active }
}

fn zone_name(name: &str) -> Result<ZoneName, Failure> {
    ZoneName::new(name).map_err(|why| Failure::Usage(format!("zone `{name}`: {why}")))
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

/// What is shown of links, and how.
#[derive(Debug)]
enum Shape {
    Table(Selection),
    Parsable(Selection),
    Json(Selection),
}

impl Shape {
    /// The shape that `form` asks for; where it names no fields, JSON has all and people see those
    /// of `default`, and the zone too with `show_zone`.
    fn new(
        form: &Form,
        table: &'static [Field],
        default: &str,
        show_zone: bool,
    ) -> Result<Self, Failure> {
        let all = || table.iter().collect();
        let asked_for = form.fields.as_deref();
        let is_all = asked_for.is_some_and(|list| list.eq_ignore_ascii_case("all"));
        let chosen = asked_for.map(|list| if is_all { Ok(all()) } else { select(table, list) });
        let chosen = chosen.transpose()?;
        if form.parsable {
            let usable = chosen.filter(|_| !is_all);
            let why = "-p needs -o with the names of fields";
            return usable.map(Self::Parsable).ok_or_else(|| Failure::Usage(why.to_owned()));
        }
        if form.json {
            return Ok(Self::Json(chosen.unwrap_or_else(all)));
        }
        let zone = if show_zone { ",zone" } else { "" };
        chosen.map_or_else(|| select(table, &format!("{default}{zone}")), Ok).map(Self::Table)
    }

    fn print(&self, links: &[LinkInfo]) -> Result<(), Failure> {
        let text = match self {
            Self::Table(fields) => output::table(fields, links),
            Self::Parsable(fields) => output::parsable(fields, links),
            Self::Json(fields) => output::json(fields, links)?,
        };
        output::print(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(parsable: bool, fields: Option<&str>, json: bool) -> Result<Shape, Failure> {
        let form = Form { parsable, fields: fields.map(str::to_owned), json };
        Shape::new(&form, LINK_FIELDS, "link,mtu", true)
    }

    fn names(fields: &Selection) -> String {
        fields.iter().map(|field| field.name).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn parsable_output_needs_named_fields() {
        assert!(matches!(shape(true, None, false), Err(Failure::Usage(_))));
        assert!(matches!(shape(true, Some("all"), false), Err(Failure::Usage(_))));
        let Ok(Shape::Parsable(fields)) = shape(true, Some("mtu"), false) else { panic!() };
        assert_eq!(names(&fields), "mtu");
    }

    #[test]
    fn people_see_the_default_fields_and_json_has_all() {
        let Ok(Shape::Table(fields)) = shape(false, None, false) else { panic!() };
        assert_eq!(names(&fields), "link,mtu,zone");
        let Ok(Shape::Table(fields)) = shape(false, Some("ALL"), false) else { panic!() };
        assert_eq!(fields.len(), LINK_FIELDS.len());
        let Ok(Shape::Json(fields)) = shape(false, None, true) else { panic!() };
        assert_eq!(fields.len(), LINK_FIELDS.len());
        let Ok(Shape::Json(fields)) = shape(false, Some("linkid"), true) else { panic!() };
        assert_eq!(names(&fields), "linkid");
    }

    #[test]
    fn a_zone_given_beside_a_name_is_where_the_link_is_looked_for() {
        let zone = || Some(ZoneName::new("web").unwrap());
        assert_eq!(in_zone("a".parse().unwrap(), zone()).unwrap(), "web/a".parse().unwrap());
        assert_eq!(in_zone("@3".parse().unwrap(), None).unwrap(), "@3".parse().unwrap());
        assert!(matches!(in_zone("@3".parse().unwrap(), zone()), Err(Failure::Usage(_))));
        assert!(matches!(in_zone("x/a".parse().unwrap(), zone()), Err(Failure::Usage(_))));
    }
}
