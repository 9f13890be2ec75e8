//! SPEC.md section 7: a link is told to be detaching before it leaves where it is for good.

use std::time::Duration;

use dlmgmt_proto::door::SetZone;
use dlmgmt_proto::{Event, ZoneId};
use dlmgmtd::engine::Service;

use crate::events::Subscriber;
use crate::machine::{Machine, card, outcome, root, settle, virtual_link};
use crate::zones::lend;

impl Subscriber {
    /// What was told, as the kind of each event and the name of what it is about.
    async fn told(&mut self) -> Vec<String> {
        let told = self.waiting().await.into_iter().map(|told| match told.event {
            Event::ZoneShuttingDown(zone) => format!("zone-shutting-down {}", zone.name),
            Event::ZoneGone { name, .. } => format!("zone-gone {name}"),
            Event::Detaching { name, zone, .. } => format!("detaching {zone}/{name}"),
            Event::HoldBroken { name, .. } => format!("hold-broken {name}"),
            Event::Gone { name, .. } => format!("gone {name}"),
            Event::Moved { link, .. } => format!("moved {}", link.name),
            Event::Changed(link) => format!("changed {}", link.name),
            other => format!("{other:?}"),
        });
        told.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_a_zone_is_detaching_before_its_holds_are_broken_and_it_leaves() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    machine.world.create(web, virtual_link("foreign")).unwrap();
    settle().await;
    let _hold = daemon.engine.hold(&root(), "web/eth0".parse().unwrap()).await.unwrap();
    let mut events = daemon.events();
    daemon.engine.end_zone(ZoneId(1)).await;
    let told = events.told().await;
    let when = |what: &str| {
        let at = told.iter().position(|told| told == what);
        at.unwrap_or_else(|| panic!("{what} was not told, but {told:?}"))
    };
    let begun = when("zone-shutting-down web");
    let detaching = [when("detaching web/eth0"), when("detaching web/foreign")];
    let left = [when("hold-broken eth0"), when("moved eth0"), when("gone foreign")];
    assert!(detaching.iter().all(|at| begun < *at), "{told:?}");
    assert!(detaching.iter().max() < left.iter().min(), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.starts_with("detaching")).count(), 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transient_link_is_detaching_with_its_zone_wherever_it_is() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    machine.zone_up(&daemon, "db").await;
    daemon.make_veth("v0", "v1", Some("web"), true).await.unwrap();
    daemon.lend(SetZone { temporary: true, ..lend("web/v0", "db") }).await.unwrap();
    settle().await;
    let mut events = daemon.events();
    daemon.engine.end_zone(ZoneId(1)).await;
    let told = events.told().await;
    assert!(told.contains(&"detaching db/v0".to_owned()), "{told:?}");
}

/// It ended in no zone, and was shown in none, where the loan came between.
#[tokio::test(start_paused = true)]
async fn a_transient_link_that_is_just_being_lent_on_ends_with_its_zone() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        let daemon = machine.start().await;
        machine.zone_up(&daemon, "web").await;
        let db = machine.zone_up(&daemon, "db").await;
        daemon.make_veth("v0", "v1", Some("web"), true).await.unwrap();
        settle().await;
        let call = SetZone { temporary: true, ..lend("web/v0", "db") };
        // Either may come first.
        let (_, ()) = tokio::join!(daemon.lend(call), daemon.engine.end_zone(ZoneId(1)));
        settle().await;
        assert!(machine.names_in(db).is_empty(), "seed {seed}");
        assert!(daemon.all_links().is_empty(), "seed {seed}");
    }
}

/// The word of the move comes before that of the zone's end, and is looked into first.
#[tokio::test(start_paused = true)]
async fn a_transient_link_that_others_move_out_at_the_end_of_its_zone_ends_with_it() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        let home = machine.world.home();
        machine.world.plug(card("eth0", 1, 1));
        let daemon = machine.start().await;
        let web = machine.zone_up(&daemon, "web").await;
        daemon.make_veth("v0", "v1", Some("web"), true).await.unwrap();
        machine.brought_by_others(&daemon, "eth0", web).await;
        machine.world.by_others(&machine.moving("v0", web, home)).unwrap();
        machine.world.end_users(web).unwrap();
        settle().await;
        assert_eq!(machine.kernel_names(), ["eth0"], "seed {seed}");
        assert_eq!(daemon.names(), ["eth0"], "seed {seed}");
    }
}

/// Its deletion is refused, since it is elsewhere, and that becomes known before the zone is down.
#[tokio::test(start_paused = true)]
async fn a_transient_link_that_others_move_out_while_it_is_deleted_is_known_where_it_is() {
    for early in 490..500 {
        let machine = Machine::new(0);
        let home = machine.world.home();
        let daemon = machine.start().await;
        let web = machine.zone_up(&daemon, "web").await;
        for pair in 0..8 {
            let (inside, outside) = (format!("in{pair}"), format!("out{pair}"));
            daemon.make_veth(&inside, &outside, Some("web"), true).await.unwrap();
        }
        settle().await;
        let theirs = machine.moving("in0", web, home);
        let watch = machine.by_others_at("zone_end.before_delete", theirs);
        let looked = async {
            tokio::time::sleep(Duration::from_millis(early)).await;
            machine.rename_by_others("out7", "other");
        };
        tokio::join!(daemon.engine.end_zone(ZoneId(1)), looked);
        drop(watch);
        settle().await;
        machine.assert_agrees(&daemon);
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_of_a_pair_are_detaching_before_the_kernel_deletes_them() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, true).await.unwrap();
    settle().await;
    let mut events = daemon.events();
    machine.world.hang_next();
    assert_eq!(outcome(daemon.delete("v0")).await, None);
    assert_eq!(events.told().await, ["detaching global/v0", "detaching global/v1"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_kernel_refuses_is_told_to_be_over() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, true).await.unwrap();
    settle().await;
    let links = daemon.links();
    let mut events = daemon.events();
    machine.world.fail_next(libc::EBUSY, None);
    daemon.delete("v0").await.unwrap_err();
    let told = events.told().await;
    let begun = ["detaching global/v0", "detaching global/v1"];
    assert_eq!(told, [&begun[..], &["changed v0", "changed v1"]].concat());
    assert_eq!(daemon.links(), links);
}
