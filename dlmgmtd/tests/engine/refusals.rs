//! SPEC.md rule 3.4: a refused request changes nothing, whoever refuses it.

use std::time::Duration;

use dlmgmt_proto::ErrorCode;
use dlmgmtd::engine::Service;
use dlmgmtd::model::{Action, AltName, Step};

use crate::machine::{Daemon, Machine, card, name, outcome, root, settle};

/// Everything that a refused request must leave as it is.
fn everything(machine: &Machine, daemon: &Daemon) -> impl PartialEq + std::fmt::Debug + use<> {
    (daemon.links(), machine.records(), machine.world.links(machine.world.home()))
}

async fn three_cards() -> (Machine, Daemon) {
    let cards = [card("eth0", 1, 1), card("eth1", 2, 2), card("eth2", 3, 3)];
    let machine = Machine::with_cards(cards);
    let daemon = machine.start().await;
    settle().await;
    (machine, daemon)
}

const RING: [(&str, &str); 3] = [("eth0", "eth1"), ("eth1", "eth2"), ("eth2", "eth0")];

#[tokio::test(start_paused = true)]
async fn the_kernel_refusing_is_told_with_its_own_text_and_nothing_changed() {
    let (machine, daemon) = three_cards().await;
    let before = everything(&machine, &daemon);
    let mut events = daemon.events();
    machine.world.fail_next(libc::EBUSY, Some("the card is on fire"));
    let refused = daemon.rename(&[("eth0", "lan")]).await.unwrap_err();
    assert_eq!((refused.code, refused.errno), (ErrorCode::Kernel, libc::EBUSY));
    for told in ["eth0", "global", "the card is on fire"] {
        assert!(refused.message.contains(told), "{refused}");
    }
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
    assert_eq!(events.waiting().await, []);
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rename_set_that_is_refused_half_way_is_taken_back() {
    for good_steps in 0..4 {
        let (machine, daemon) = three_cards().await;
        let before = everything(&machine, &daemon);
        let mut events = daemon.events();
        machine.world.fail_step(good_steps, libc::EBUSY);
        let refused = daemon.rename(&RING).await.unwrap_err();
        assert_eq!(refused.errno, libc::EBUSY);
        settle().await;
        assert_eq!(everything(&machine, &daemon), before, "after {good_steps} steps");
        assert_eq!(events.waiting().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn an_alternative_name_that_was_given_up_for_nothing_is_given_back() {
    let (machine, daemon) = three_cards().await;
    let altname = Action::AddAltName(AltName(b"lan".to_vec()));
    machine.world.by_others(&Step { at: machine.at("eth0"), action: altname }).unwrap();
    daemon.hear_that_hints_were_lost();
    settle().await;
    let before = everything(&machine, &daemon);
    machine.world.fail_step(1, libc::EBUSY);
    daemon.rename(&[("eth0", "lan")]).await.unwrap_err();
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    assert_eq!(machine.kernel_names(), ["lan", "eth1", "eth2"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_at_once_is_taken_back_later() {
    for foreign in [false, true] {
        let (machine, daemon) = three_cards().await;
        if foreign {
            for (from, to) in [("eth0", "v0"), ("eth1", "v1"), ("eth2", "v2")] {
                machine.world.unplug(machine.at(from)).unwrap();
                machine.create(to);
            }
            settle().await;
        }
        let before = (daemon.links(), machine.kernel_names());
        let ring = if foreign { [("v0", "v1"), ("v1", "v2"), ("v2", "v0")] } else { RING };
        machine.world.fail_step(2, libc::EBUSY);
        machine.world.fail_step(3, libc::EBUSY);
        daemon.rename(&ring).await.unwrap_err();
        settle().await;
        assert_eq!((daemon.links(), machine.kernel_names()), before, "foreign: {foreign}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_told_changes_nothing_and_works_again_later() {
    let (machine, daemon) = three_cards().await;
    let before = everything(&machine, &daemon);
    machine.disk.fail_next();
    let refused = daemon.rename(&RING).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Store);
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
    assert_eq!(machine.world.applied(), []);
    daemon.rename(&RING).await.unwrap();
    assert_eq!(machine.kernel_names(), ["eth1", "eth2", "eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_when_a_refused_change_is_taken_back_is_put_right_later() {
    let (machine, daemon) = three_cards().await;
    let before = everything(&machine, &daemon);
    machine.world.fail_next(libc::EBUSY, None);
    machine.disk.fail_at(1);
    daemon.rename(&RING).await.unwrap_err();
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
}

/// A ring of renames was refused by the kernel, and the store, which has it, fails ever since.
async fn ring_that_the_store_keeps(machine: &Machine, daemon: &Daemon) {
    machine.world.fail_step(2, libc::EBUSY);
    (1..1000).for_each(|nth| machine.disk.fail_at(nth));
    let refused = outcome(daemon.rename(&RING)).await.expect("an answer").unwrap_err();
    assert_eq!(refused.code, ErrorCode::Store);
    for told in ["the kernel refused to change eth", "its next start may make all of it"] {
        assert!(refused.message.contains(told), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_store_that_does_not_give_a_refused_change_up() {
    let (machine, daemon) = three_cards().await;
    let before = everything(&machine, &daemon);
    let links = daemon.links();
    ring_that_the_store_keeps(&machine, &daemon).await;
    assert_eq!(daemon.links(), links);
    let next = outcome(daemon.rename(&[("eth0", "lan")])).await.expect("an answer");
    assert_eq!(next.unwrap_err().code, ErrorCode::Store);
    machine.disk.disarm();
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
    daemon.rename(&RING).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_that_the_store_did_not_give_up_is_made_wholly_by_a_restart() {
    let (machine, daemon) = three_cards().await;
    ring_that_the_store_keeps(&machine, &daemon).await;
    drop(daemon);
    machine.disk.disarm();
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(machine.kernel_names(), ["eth1", "eth2", "eth0"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_while_the_store_fails_is_stored_when_it_works_again() {
    let (machine, daemon) = three_cards().await;
    machine.disk.fail_next();
    machine.rename_by_others("eth0", "lan");
    settle().await;
    let stored: Vec<String> =
        machine.records().iter().map(|record| record.name.to_string()).skip(1).collect();
    // The first is the loopback's.
    assert_eq!((stored, daemon.names()), (machine.kernel_names(), machine.kernel_names()));
    assert_eq!(daemon.names(), ["lan", "eth1", "eth2"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_link_is_not_shown_before_it_is_stored() {
    let (machine, daemon) = three_cards().await;
    machine.disk.fail_next();
    machine.create("v0");
    let shown = || daemon.link("v0").is_ok();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!shown());
    settle().await;
    assert!(shown());
    assert!(machine.records().iter().any(|record| record.name == name("v0")));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_kernel_keeps_refusing_is_asked_for_again_but_not_without_pause() {
    let (machine, daemon) = three_cards().await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    machine.create("eth0");
    machine.world.plug(card("back", 1, 1));
    settle().await;
    machine.world.refuse_randomly(100);
    machine.rename_by_others("eth0", "other");
    let quiet = outcome(settle_a_little()).await;
    assert!(quiet.is_some());
    assert!(daemon.link("eth0").is_err());
    machine.world.refuse_randomly(0);
    settle().await;
    assert_eq!(daemon.link("eth0").unwrap().mac, Some(crate::machine::mac(1)));
}

#[tokio::test(start_paused = true)]
async fn a_link_keeps_its_own_name_though_the_kernel_refuses_it_and_then_to_be_read() {
    let (machine, daemon) = three_cards().await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    machine.create("eth0");
    machine.world.plug(card("back", 1, 1));
    settle().await;
    machine.world.fail_next_and_hide(libc::EBUSY);
    machine.rename_by_others("eth0", "other");
    settle().await;
    assert_eq!(daemon.link("eth0").unwrap().mac, Some(crate::machine::mac(1)));
    machine.assert_agrees(&daemon);
}

/// Time goes on only when nobody is busy.
async fn settle_a_little() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rename_to_a_taken_name_is_refused_and_nothing_changed() {
    let (machine, daemon) = three_cards().await;
    let before = everything(&machine, &daemon);
    let refused = daemon.rename(&[("eth0", "eth1")]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Exists);
    let refused = daemon.rename(&[("eth0", "lan"), ("eth1", "eth2")]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Exists);
    let refused = daemon.delete_phys("eth0").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    let refused = daemon.engine.import(&root(), b"{}".to_vec()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    settle().await;
    assert_eq!(everything(&machine, &daemon), before);
    assert_eq!(machine.world.applied(), []);
}
