//! `monitor`.

use std::borrow::Cow;

use dlmgmt_proto::door::Subscribe;
use dlmgmt_proto::{Event, LinkId, LinkInfo, LinkName, Seq, SequencedEvent, ZoneInfo, ZoneName};
use rustix::event::{PollFd, PollFlags, poll};

use super::Connect;
use crate::failure::Failure;
use crate::fields::{LINK_FIELDS, Value, ZONE_FIELDS};
use crate::{cli, output};

/// Tells every event, a line each, until the reader or the daemon goes away.
pub fn run(args: &cli::Monitor, connect: impl Connect) -> Result<(), Failure> {
    let client = connect()?;
    let since = args.since.map(Seq);
    let events = client.subscribe(Subscribe { snapshot: false, since, participant: false })?;
    std::thread::spawn(leave_with_the_reader);
    for event in events {
        let mut line = if args.json { json_line(&event?)? } else { text_line(&event?) };
        line.push('\n');
        output::print(line.as_bytes())?;
    }
    Err(Failure::Client(libdlmgmt::ClientError::Closed))
}

/// Ends the program when nobody reads its output any more: the next line, which would tell, may
/// be far off.
fn leave_with_the_reader() {
    let stdout = rustix::stdio::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    while let Err(rustix::io::Errno::INTR) = poll(&mut watched, None) {}
    if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        std::process::exit(0);
    }
}

/// What is told of an event beside its number and its kind.
type Details<'a> = Vec<(&'static str, Value<'a>)>;

fn details(event: &Event) -> Details<'_> {
    match event {
        Event::Snapshot(link) | Event::Added(link) | Event::Changed(link) => of_link(link, None),
        Event::Removed(link) => of_link(link, None),
        Event::Renamed { from, link } => of_link(link, Some(Value::name(from))),
        Event::Moved { from, link } => of_link(link, Some(Value::word(from.as_str()))),
        Event::State { id, name, zone, state } => {
            let mut details = of_id(*id, name, zone);
            details.push(("state", Value::word(state.as_str())));
            details
        }
        Event::Gone { id, name, zone }
        | Event::HoldBroken { id, name, zone }
        | Event::Detaching { id, name, zone } => of_id(*id, name, zone),
        Event::ZoneReady(zone) | Event::ZoneShuttingDown(zone) => of_zone(zone),
        Event::ZoneGone { id, name } => {
            vec![("zone", Value::word(name.as_str())), ("zoneid", Value::Number(id.0.into()))]
        }
        Event::Lost { count, went_down } => {
            let ids = went_down.iter().map(|id| Cow::Owned(format!("@{id}"))).collect();
            vec![("count", Value::Number(*count)), ("went-down", Value::List(ids))]
        }
        Event::SnapshotEnd | Event::Resync => Vec::new(),
    }
}

fn of_link<'a>(link: &'a LinkInfo, from: Option<Value<'a>>) -> Details<'a> {
    let all: Vec<_> = LINK_FIELDS.iter().collect();
    let mut details = output::values(&all, link);
    if let Some(from) = from {
        details.insert(1, ("from", from));
    }
    details
}

fn of_zone(zone: &ZoneInfo) -> Details<'_> {
    let all: Vec<_> = ZONE_FIELDS.iter().collect();
    output::values(&all, zone)
}

fn of_id<'a>(id: LinkId, name: &'a LinkName, zone: &'a ZoneName) -> Details<'a> {
    vec![
        ("link", Value::name(name)),
        ("linkid", Value::Number(id.get().into())),
        ("zone", Value::word(zone.as_str())),
    ]
}

/// `SEQ EVENT LINK NAME=VALUE...`: what the event is about, the first detail, stands bare.
fn text_line(event: &SequencedEvent) -> String {
    let mut line = format!("{} {}", event.seq, event.event.kind().as_str());
    let details = details(&event.event);
    if let Some(((_, subject), rest)) = details.split_first() {
        line.push(' ');
        subject.write_to(&mut line);
        rest.iter().for_each(|(name, value)| output::push_pair(&mut line, name, value));
    }
    line
}

fn json_line(event: &SequencedEvent) -> Result<String, Failure> {
    let mut pairs = vec![
        ("seq", Value::Number(event.seq.0)),
        ("event", Value::word(event.event.kind().as_str())),
    ];
    pairs.extend(details(&event.event));
    output::json_object(&pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{full, zone};
    use dlmgmt_proto::LinkState;

    fn lines(event: Event) -> (String, String) {
        let event = SequencedEvent { seq: Seq(9), event };
        (text_line(&event), json_line(&event).unwrap())
    }

    #[test]
    fn a_rename_tells_both_names_and_the_linkid() {
        let from = LinkName::found(b"eth0").unwrap();
        let (text, json) = lines(Event::Renamed { from, link: full(b"net0") });
        assert!(text.starts_with("9 renamed net0 from=eth0 class=vlan "), "{text}");
        assert!(text.contains(" linkid=7 "), "{text}");
        let start = r#"{"seq":9,"event":"renamed","link":"net0","from":"eth0","class":"vlan""#;
        assert!(json.starts_with(start), "{json}");
    }

    #[test]
    fn a_state_tells_link_zone_and_state() {
        let (id, name) = (LinkId::new(7).unwrap(), LinkName::found(b"net0").unwrap());
        let zone = ZoneName::global();
        let (text, _) = lines(Event::State { id, name, zone, state: LinkState::Down });
        assert_eq!(text, "9 state net0 linkid=7 zone=global state=down");
    }

    #[test]
    fn what_was_lost_is_counted_with_the_links_that_went_down() {
        let went_down = vec![LinkId::new(3).unwrap(), LinkId::new(4).unwrap()];
        let (text, json) = lines(Event::Lost { count: 12, went_down });
        assert_eq!(text, "9 lost 12 went-down=@3,@4");
        assert_eq!(json, r#"{"seq":9,"event":"lost","count":12,"went-down":["@3","@4"]}"#);
    }

    #[test]
    fn a_zone_is_told_with_its_number_and_where_it_is() {
        let zone = zone("web");
        let (text, json) = lines(Event::ZoneShuttingDown(zone.clone()));
        let told = "zoneid=5 state=ready links=2 netns=/run/netns/web";
        assert_eq!(text, format!("9 zone-shutting-down web {told}"));
        let start = r#"{"seq":9,"event":"zone-shutting-down","zone":"web","zoneid":5,"#;
        assert!(json.starts_with(start), "{json}");
        let (text, _) = lines(Event::ZoneGone { id: zone.id, name: zone.name });
        assert_eq!(text, "9 zone-gone web zoneid=5");
    }

    #[test]
    fn a_hold_that_broke_is_told_with_the_zone_that_ended() {
        let (id, name) = (LinkId::new(7).unwrap(), LinkName::found(b"net0").unwrap());
        let zone = ZoneName::new("web").unwrap();
        let (text, _) = lines(Event::HoldBroken { id, name, zone });
        assert_eq!(text, "9 hold-broken net0 linkid=7 zone=web");
    }

    #[test]
    fn resync_stands_alone() {
        let (text, json) = lines(Event::Resync);
        assert_eq!(text, "9 resync");
        assert_eq!(json, r#"{"seq":9,"event":"resync"}"#);
    }
}
