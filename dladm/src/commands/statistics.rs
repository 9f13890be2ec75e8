//! `show-link -s`.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use dlmgmt_proto::{LinkId, LinkRef, Topic};
use libdlmgmt::Client;

use super::Connect;
use super::show::{EVERY_CLASS, Question, with_zone};
use crate::cli::ShowLink;
use crate::details::Detailed;
use crate::failure::Failure;
use crate::fields::STATISTICS_FIELDS;
use crate::output::Table;
use crate::shape::Shape;

const COLUMNS: &str = "link,ipackets,rbytes,ierrors,opackets,obytes,oerrors";

/// Shows what passed through links: once, or again and again until the reader goes away.
pub fn show(args: &ShowLink, connect: impl Connect) -> Result<(), Failure> {
    let columns = with_zone(COLUMNS, args.which.show_zone);
    let shape = Shape::new(&args.form, STATISTICS_FIELDS, &columns)?;
    let mut question = Question::new(&args.which, EVERY_CLASS)?;
    let client = connect()?;
    let mut before = counted(&client, &question)?;
    if let (Question::One { link, .. }, Some(row)) = (&mut question, before.first()) {
        // Whatever becomes of its name, it is the same link.
        *link = LinkRef::Id(row.link.id);
    }
    let mut table = Table::default();
    shape.print_more(&before, &mut table)?;
    let Some(seconds) = args.interval else { return Ok(()) };
    loop {
        sleep(Duration::from_secs(seconds.into()));
        let now = counted(&client, &question)?;
        shape.print_more(&growth(&before, &now), &mut table)?;
        before = now;
    }
}

fn counted(client: &Client, question: &Question) -> Result<Vec<Detailed>, Failure> {
    Detailed::ask(client, question.clone().ask(client)?, &[Topic::Statistics])
}

/// What passed through links meanwhile; all of it for one that was not there before.
fn growth(before: &[Detailed], now: &[Detailed]) -> Vec<Detailed> {
    let before: HashMap<LinkId, &Detailed> = before.iter().map(|row| (row.link.id, row)).collect();
    let grown = |row: &Detailed| match before.get(&row.link.id) {
        Some(before) => row.since(before),
        None => row.clone(),
    };
    now.iter().map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::tests::counted;

    #[test]
    fn a_link_that_came_meanwhile_is_shown_with_all_and_one_that_went_is_not() {
        let mut came = counted(b"b", &[("ipackets", 5)]);
        came.link.id = LinkId::new(8).unwrap();
        let (old, new) = (counted(b"a", &[("ipackets", 5)]), counted(b"a", &[("ipackets", 7)]));
        let grown = growth(&[old], &[new, came.clone()]);
        assert_eq!(grown, [counted(b"a", &[("ipackets", 2)]), came.clone()]);
        assert_eq!(growth(&[came], &[]), []);
    }
}
