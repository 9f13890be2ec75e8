//! What is read from the kernel for who asks: whose links, and of what moment.

use dlmgmt_proto::door::{GetDetails, Subscribe};
use dlmgmt_proto::{Duplex, Event, Fact, FactValue, LinkId, Topic, ZoneId};
use dlmgmtd::engine::{Caller, Service};
use dlmgmtd::kernel::{KernelFact, KernelValue};
use dlmgmtd::model::{Action, LinkMode, Step};

use crate::machine::{Daemon, Machine, card, root, settle, virtual_link};

async fn told(daemon: &Daemon, caller: &Caller, links: &[LinkId], topics: &[Topic]) -> Vec<Fact> {
    let call = GetDetails { links: links.to_vec(), topics: topics.to_vec() };
    let told = daemon.engine.get_details(caller, call).await.unwrap().links;
    assert_eq!(told.iter().map(|link| link.id).collect::<Vec<_>>(), links);
    told.into_iter().flat_map(|link| link.facts).collect()
}

fn fact(name: &str, number: u64) -> Fact {
    Fact { name: name.to_owned(), value: FactValue::Number(number) }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_of_the_moment_and_of_what_was_asked() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let (at, ids) = (machine.at("eth0"), [daemon.id("eth1"), daemon.id("eth0")]);
    let count = |number: u64| {
        machine.world.set_facts(
            at,
            Topic::Statistics,
            vec![KernelFact::number("ipackets", number)],
        );
    };
    machine.world.set_link_mode(at, LinkMode { speed: Some(1000), ..LinkMode::default() });
    count(1);
    assert_eq!(told(&daemon, &root(), &ids, &[Topic::Statistics]).await, [fact("ipackets", 1)]);
    count(2);
    let both = [Topic::Statistics, Topic::Speed];
    let expected = [fact("ipackets", 2), fact("speed", 1000)];
    assert_eq!(told(&daemon, &root(), &ids, &both).await, expected);
    machine.world.unplug(at).unwrap();
    assert_eq!(told(&daemon, &root(), &ids, &both).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_zone_is_told_nothing_of_links_that_it_does_not_see() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let web = machine.world.add_namespace();
    let inside = machine.world.create(web, virtual_link("inside")).unwrap();
    let daemon = machine.start_with_zones(vec![("web", web)]).await;
    let (ours, theirs) = (daemon.id("eth0"), daemon.id("web/inside"));
    for (at, number) in [(machine.at("eth0"), 1_u64), (inside, 2)] {
        let counter = KernelFact::number("ipackets", number);
        machine.world.set_facts(at, Topic::Statistics, vec![counter]);
    }
    let caller = Caller { zone: Some(ZoneId(1)), uid: 1000, ..root() };
    let links = [ours, theirs];
    let topics = [Topic::Statistics];
    assert_eq!(told(&daemon, &caller, &links, &topics).await, [fact("ipackets", 2)]);
    assert_eq!(
        told(&daemon, &root(), &links, &topics).await,
        [fact("ipackets", 1), fact("ipackets", 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn another_link_is_told_by_its_name() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let active = |ifindex| KernelFact { name: "active", value: KernelValue::Link(ifindex) };
    let facts =
        vec![active(machine.at("eth1").ifindex), active(dlmgmt_proto::IfIndex::new(999).unwrap())];
    machine.world.set_facts(machine.at("eth0"), Topic::Kind, facts);
    let eth1 = Fact { name: "active".to_owned(), value: FactValue::Text("eth1".to_owned()) };
    assert_eq!(told(&daemon, &root(), &[daemon.id("eth0")], &[Topic::Kind]).await, [eth1]);
}

#[tokio::test(start_paused = true)]
async fn a_card_is_listed_with_the_speed_that_its_driver_told_when_its_carrier_changed() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let at = machine.at("eth0");
    let mode = |speed| LinkMode { speed, duplex: Some(Duplex::Full), autoneg: Some(true) };
    machine.world.set_link_mode(at, mode(Some(100)));
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(daemon.link("eth0").unwrap().speed, Some(100));
    let call = Subscribe { snapshot: false, since: None, participant: false };
    let (_, mut events) = daemon.engine.subscribe(&root(), &call).unwrap();
    machine.world.set_link_mode(at, mode(Some(1000)));
    machine.world.by_others(&Step { at, action: Action::SetUp(true) }).unwrap();
    let told = loop {
        if let Event::Changed(link) = events.next().await.unwrap().event {
            break link;
        }
    };
    assert_eq!((told.speed, told.duplex), (Some(1000), Some(Duplex::Full)));
    machine.world.unplug(at).unwrap();
    settle().await;
    let removed = daemon.all_links().remove(0);
    assert_eq!((removed.speed, removed.duplex), (None, None));
}
