//! `set-zone`, `reset-zone`, `where` and `reclaim`: links that are away, and how they come home.

use dlmgmt_proto::door::{ResetZone, SetZone};
use dlmgmt_proto::{Generation, Whereabouts};

use super::{Connect, link_ref, text, zone_name};
use crate::cli;
use crate::failure::Failure;
use crate::fields::WHERE_FIELDS;
use crate::output;
use crate::shape::Shape;

/// Lends a link to a zone.
pub fn set(args: &cli::SetZone, connect: impl Connect) -> Result<(), Failure> {
    let call = SetZone {
        link: link_ref(&args.link)?,
        zone: zone_name(text(&args.zone)?)?,
        name_inside: args.name.clone(),
        temporary: args.temporary,
        force: args.force,
        generation: args.generation.map(Generation),
    };
    connect()?.set_zone(call)?;
    Ok(())
}

/// Takes a lent link home.
pub fn reset(args: &cli::ResetZone, connect: impl Connect) -> Result<(), Failure> {
    let call = ResetZone {
        link: link_ref(&args.link)?,
        temporary: args.temporary,
        force: args.force,
        generation: args.generation.map(Generation),
    };
    connect()?.reset_zone(call)?;
    Ok(())
}

/// Brings a link home that somebody moved away.
pub fn reclaim(args: &cli::Reclaim, connect: impl Connect) -> Result<(), Failure> {
    let link = link_ref(&args.link)?;
    connect()?.reclaim(link)?;
    Ok(())
}

/// Tells where a link is: people in a sentence, unless they name fields.
pub fn whereabouts(args: &cli::Where, connect: impl Connect) -> Result<(), Failure> {
    let link = link_ref(&args.link)?;
    let form = &args.form;
    let shape = Shape::new(form, WHERE_FIELDS, "link,zone,device")?;
    let found = connect()?.whereabouts(link)?;
    if form.fields.is_none() && !form.json {
        return output::print(format!("{}\n", sentence(&found)).as_bytes());
    }
    shape.print(&[found])
}

fn sentence(found: &Whereabouts) -> String {
    let (own, signs) = (found.own_name, signs(found));
    let there = found.link.device.unwrap_or(found.link.name);
    let mut said = match &found.zone {
        Some(zone) if *zone == found.link.owner && there == own => {
            format!("{own} is at home in zone {zone}")
        }
        Some(zone) => format!("{own} is in zone {zone} as {there}"),
        None if signs.is_empty() => format!("{own} is nowhere: the kernel does not have it"),
        None => format!("{own} is in a network namespace that is no zone, as {there}"),
    };
    if !signs.is_empty() {
        said.push_str(&format!(" ({})", signs.join(", ")));
    }
    if let Some(zone) = found.assigned.as_ref().filter(|zone| found.zone.as_ref() != Some(zone)) {
        said.push_str(&format!(", assigned to zone {zone}"));
    }
    said
}

/// What the namespace of a link can be found by. The kernel's numbers are negative for none.
fn signs(found: &Whereabouts) -> Vec<String> {
    let numbers = [("nsid", found.nsid), ("pid", found.pid)];
    let known = numbers.into_iter().filter_map(|(name, number)| Some((name, number?)));
    known.filter(|(_, number)| *number >= 0).map(|(name, n)| format!("{name} {n}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{away, full};
    use dlmgmt_proto::ZoneName;

    #[test]
    fn a_link_on_loan_is_told_with_its_zone_and_its_name_there() {
        assert_eq!(sentence(&away()), "net0 is in zone web as eth0 (nsid 3, pid 77)");
    }

    #[test]
    fn a_link_at_home_is_told_so_and_that_a_zone_awaits_it() {
        let home = Whereabouts {
            link: full(b"net0"),
            zone: Some(ZoneName::global()),
            nsid: None,
            pid: None,
            ..away()
        };
        assert_eq!(sentence(&home), "net0 is at home in zone global, assigned to zone web");
        let home = Whereabouts { assigned: None, ..home };
        assert_eq!(sentence(&home), "net0 is at home in zone global");
    }

    #[test]
    fn a_link_that_somebody_took_away_is_told_by_what_its_namespace_is_found_by() {
        let taken = Whereabouts { zone: None, pid: None, assigned: None, ..away() };
        let place = "a network namespace that is no zone";
        assert_eq!(sentence(&taken), format!("net0 is in {place}, as eth0 (nsid 3)"));
        let lost = Whereabouts { nsid: Some(-1), ..taken };
        assert_eq!(sentence(&lost), "net0 is nowhere: the kernel does not have it");
    }
}
