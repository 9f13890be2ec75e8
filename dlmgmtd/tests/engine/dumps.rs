//! SPEC.md rule 3.5 where no dump of the kernel is of one moment, or there is none.

use crate::machine::{Machine, card, outcome, settle, virtual_link};

#[tokio::test(start_paused = true)]
async fn a_link_that_a_torn_dump_lacks_is_not_taken_for_gone() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.create("v0");
        let daemon = machine.start().await;
        let before = daemon.links();
        let mut events = daemon.events();

        machine.world.set_inconsistent_dumps(100);
        daemon.hear_that_hints_were_lost();
        settle().await;
        assert_eq!(daemon.links(), before);
        assert_eq!(events.waiting().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_torn_dumps_keeps_every_linkid() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.create("v0");
        let before = machine.start().await.links();

        machine.world.set_inconsistent_dumps(100);
        let daemon = machine.start().await;
        assert_eq!(daemon.links(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_went_while_hints_and_dumps_failed_is_gone() {
    let machine = Machine::new(0);
    machine.create("v0");
    let daemon = machine.start().await;
    machine.world.set_inconsistent_dumps(100);
    machine.world.hold_hints();
    machine.world.delete(machine.at("v0")).unwrap();
    daemon.hear_that_hints_were_lost();
    settle().await;
    assert_eq!(daemon.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_torn_dumps_hid_is_found_when_the_storm_is_over() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.create("v0");
        machine.world.set_inconsistent_dumps(100);
        let daemon = machine.start().await;
        machine.world.set_inconsistent_dumps(0);
        settle().await;
        assert_eq!(daemon.names(), ["v0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_made_since_a_dump_that_is_answered_late_is_not_taken_for_gone() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    machine.world.hold_dumps();
    daemon.hear_that_hints_were_lost();
    settle().await;
    daemon.make_veth("one", "other", None, true).await.unwrap();
    let made = daemon.links();

    machine.world.release_dumps();
    settle().await;
    assert_eq!(daemon.links(), made);
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_cannot_be_read_holds_up_no_other_and_is_followed_when_it_can() {
    let machine = Machine::new(0);
    let [good, bad] = [(); 2].map(|()| machine.world.add_namespace());
    machine.world.create(bad, virtual_link("found")).unwrap();
    machine.world.refuse_dumps_of(Some(bad));
    let daemon = machine.start().await;
    for (called, ns) in [("bad", bad), ("good", good)] {
        assert!(outcome(machine.named(&daemon, called, ns)).await.is_some(), "{called} comes up");
    }

    machine.create("v0");
    machine.world.create(good, virtual_link("v1")).unwrap();
    daemon.hear_that_hints_were_lost();
    settle().await;
    let names = || daemon.all_links().iter().map(|link| link.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["v0", "v1"]);

    machine.world.refuse_dumps_of(None);
    settle().await;
    assert_eq!(names(), ["v0", "v1", "found"]);
}
