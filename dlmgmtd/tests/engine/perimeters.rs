//! Changes to one link are serial, changes to different links run side by side, and nobody who
//! only reads waits for anybody.

use std::sync::Arc;

use dlmgmt_proto::{ErrorCode, Flags};
use dlmgmtd::engine::Service;
use dlmgmtd::store::sim::Hang;

use crate::machine::{Daemon, Machine, card, outcome, rename, root, settle};
use crate::zones::lend;

/// A daemon with a rename of `eth0` to `slow` that never ends.
async fn with_a_change_that_hangs() -> (Machine, Arc<Daemon>) {
    let cards = [card("eth0", 1, 1), card("eth1", 2, 2), card("eth2", 3, 3)];
    let machine = Machine::with_cards(cards);
    let daemon = Arc::new(machine.start().await);
    machine.disk.hang_at(0, Hang::AfterDurable);
    let asking = daemon.clone();
    tokio::spawn(async move { asking.rename(&[("eth0", "slow")]).await });
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    (machine, daemon)
}

#[tokio::test(start_paused = true)]
async fn changes_to_different_links_run_side_by_side_while_one_hangs() {
    let (machine, daemon) = with_a_change_that_hangs().await;
    let changed = outcome(daemon.rename(&[("eth1", "a"), ("eth2", "b")])).await;
    assert!(changed.unwrap().is_ok());
    assert_eq!(machine.kernel_names(), ["eth0", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_the_link_and_for_the_name_that_another_one_changes() {
    for wishes in [[("eth0", "a")], [("eth1", "slow")], [("eth1", "eth0")]] {
        let (_machine, daemon) = with_a_change_that_hangs().await;
        let changed = outcome(daemon.rename(&wishes)).await;
        let is_refused = matches!(&changed, Some(Err(why)) if why.code == ErrorCode::Exists);
        assert!(changed.is_none() || is_refused, "{wishes:?}: {changed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn others_links_are_followed_while_one_change_hangs() {
    let (machine, daemon) = with_a_change_that_hangs().await;
    machine.rename_by_others("eth1", "a");
    machine.create("v0");
    settle().await;
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_hangs_and_has_news_holds_up_no_other() {
    let (machine, daemon) = with_a_change_that_hangs().await;
    machine.rename_by_others("eth0", "z");
    machine.rename_by_others("eth1", "a");
    settle().await;
    assert!(daemon.link("a").is_ok());
    let changed = outcome(daemon.rename(&[("a", "b")])).await;
    assert!(changed.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn reads_never_wait_for_a_kernel_or_a_store_that_hangs() {
    let (_machine, daemon) = with_a_change_that_hangs().await;
    assert_eq!(daemon.names(), ["eth0", "eth1", "eth2"]);
    assert!(daemon.link("eth0").is_ok());
    assert!(outcome(daemon.engine.export(&root())).await.unwrap().is_ok());
    let mut told = daemon.subscribe(true, None);
    assert!(told.waiting().await.len() > 3);

    daemon.kernel.crash_after_steps(0);
    assert!(outcome(daemon.rename(&[("eth1", "a")])).await.is_none());
    assert_eq!(daemon.names(), ["eth0", "eth1", "eth2"]);
}

#[tokio::test(start_paused = true)]
async fn changes_to_one_link_come_one_after_the_other() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        let daemon = Arc::new(machine.start().await);
        let id = daemon.id("eth0");
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..20 {
            let daemon = daemon.clone();
            asked.spawn(async move {
                let wishes = rename(&[(&format!("@{id}"), &format!("n{number}"))]);
                daemon.engine.rename(&root(), wishes).await.unwrap().seq
            });
        }
        let mut numbers = asked.join_all().await;
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20, "each has a commit of its own");
        assert_eq!(machine.world.applied().len(), 20);
        machine.assert_agrees(&daemon);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_carried_out_to_its_end_though_nobody_waits_for_it() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    {
        let wishes = [("eth0", "lan")];
        let mut asked = std::pin::pin!(daemon.rename(&wishes));
        tokio::select! {
            biased;
            _ = &mut asked => panic!("it did not have to wait"),
            () = tokio::task::yield_now() => {}
        }
    }
    settle().await;
    assert_eq!(machine.kernel_names(), ["lan"]);
    machine.assert_agrees(&daemon);
}

/// Three cards and a zone, and a change of `eth0` that the kernel never answers.
async fn with_a_step_that_hangs(lends: bool) -> (Machine, Arc<Daemon>) {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2), card("eth2", 3, 3)]);
    let daemon = Arc::new(machine.start().await);
    machine.zone_up(&daemon, "web").await;
    machine.world.hang_next();
    let asked = daemon.clone();
    tokio::spawn(async move {
        match lends {
            true => asked.lend(lend("eth0", "web")).await,
            false => asked.rename(&[("eth0", "slow")]).await.map(drop),
        }
    });
    settle().await;
    (machine, daemon)
}

#[tokio::test(start_paused = true)]
async fn a_look_at_everything_waits_for_no_change_that_hangs_and_holds_up_nobody() {
    for lends in [false, true] {
        let (machine, daemon) = with_a_step_that_hangs(lends).await;
        machine.world.hold_hints();
        machine.rename_by_others("eth1", "a");
        machine.create("v0");
        daemon.hear_that_hints_were_lost();
        settle().await;
        assert!(daemon.link("a").is_ok() && daemon.link("v0").is_ok(), "lends: {lends}");
        let changed = outcome(daemon.rename(&[("eth2", "b")])).await;
        assert!(changed.is_some_and(|changed| changed.is_ok()), "lends: {lends}");
        assert!(outcome(daemon.lend(lend("a", "web"))).await.is_some() || lends);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_link_gets_no_name_that_another_one_is_about_to_have() {
    for seed in 0..200 {
        let machine = Machine::new(seed);
        for card in [card("eth0", 1, 1), card("wan", 2, 2)] {
            machine.world.plug(card);
        }
        let daemon = machine.start().await;
        machine.world.unplug(machine.at("wan")).unwrap();
        settle().await;
        let asked = daemon.engine.clone();
        let asked =
            tokio::spawn(async move { asked.rename(&root(), rename(&[("eth0", "net0")])).await });
        for _ in 0..seed % 8 {
            tokio::task::yield_now().await;
        }
        // Its name is that of a removed link, so it is to be called net<N>.
        machine.world.plug(card("wan", 3, 3));
        let _ = asked.await.unwrap();
        settle().await;
        machine.assert_agrees(&daemon);
        let links = daemon.links();
        let conflict = links.iter().find(|link| link.flags.contains(Flags::CONFLICT));
        assert_eq!(conflict, None, "seed {seed}: {links:?}");
    }
}
