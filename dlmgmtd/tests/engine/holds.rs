//! SPEC.md section 2: a hold is a claim on a link by a live client.

use dlmgmt_proto::{ErrorCode, Flags};
use dlmgmtd::engine::Service;

use crate::machine::{Machine, card, root, settle};

#[tokio::test(start_paused = true)]
async fn a_held_link_is_busy_naming_who_holds_it_until_the_hold_ends() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let hold = async || daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    let holds = [hold().await, hold().await];
    assert!(daemon.link("eth0").unwrap().flags.contains(Flags::HELD));
    let [first, second] = holds;
    for held in [first, second] {
        for wishes in [&[("eth0", "lan")][..], &[("eth1", "eth0"), ("eth0", "eth1")]] {
            let refused = daemon.rename(wishes).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Busy);
            assert!(refused.message.contains("test (pid 42, uid 0)"), "{refused}");
        }
        drop(held);
    }
    assert!(!daemon.link("eth0").unwrap().flags.contains(Flags::HELD));
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removed_link_that_is_held_is_neither_deleted_nor_taken_over() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    let hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    assert_eq!(daemon.delete_phys("eth0").await.unwrap_err().code, ErrorCode::Busy);
    assert_eq!(daemon.rename(&[("eth1", "eth0")]).await.unwrap_err().code, ErrorCode::Busy);
    drop(hold);
    daemon.rename(&[("eth1", "eth0")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_comes_before_or_after_a_change_and_never_within() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        let daemon = machine.start().await;
        let id = daemon.id("eth0");
        let caller = root();
        let hold = daemon.engine.hold(&caller, dlmgmt_proto::LinkRef::Id(id));
        let (renamed, hold) = tokio::join!(daemon.rename(&[("eth0", "lan")]), hold);
        let was_held_first = renamed.is_err_and(|why| why.code == ErrorCode::Busy);
        assert_eq!(daemon.link("lan").is_err(), was_held_first, "seed {seed}");
        drop(hold.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_with_the_daemon() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    let daemon = machine.start().await;
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    drop(hold);
}
