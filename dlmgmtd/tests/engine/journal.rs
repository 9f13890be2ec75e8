//! What ends with the boot need not outlive it: such links are stored for this boot alone, and no
//! more may depend on that than they.

use std::collections::BTreeSet;

use dlmgmt_proto::LinkId;

use crate::machine::{Daemon, Machine, card, name, settle};

impl Daemon {
    async fn make_temporary_pair(&self, called: &str, peer: &str) {
        self.make_veth(called, peer, None, true).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn temporary_links_are_made_renamed_by_others_and_ended_without_a_flush() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let before = machine.disk.flushes();
    daemon.make_temporary_pair("v0", "v1").await;
    machine.rename_by_others("v0", "v2");
    machine.create("foreign");
    settle().await;
    assert_eq!(daemon.names(), ["eth0", "v2", "v1", "foreign"]);
    daemon.delete("v2").await.unwrap();
    assert_eq!(machine.disk.flushes(), before);
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    assert_eq!(machine.disk.flushes(), before + 1);
}

/// Nor may it be lost with a power cut that it was refused.
#[tokio::test(start_paused = true)]
async fn a_change_of_a_persistent_link_is_durable_with_all_that_it_changes() {
    for (seed, refused) in (0..8).flat_map(|seed| [(seed, false), (seed, true)]) {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.create("v0");
        let daemon = machine.start().await;
        if refused {
            machine.world.fail_step(1, libc::EBUSY);
        }
        let reply = daemon.rename(&[("eth0", "lan"), ("v0", "wan")]).await;
        assert_eq!(reply.is_err(), refused);
        machine.disk.cut_power();
        let is_recorded = |called| machine.records().iter().any(|link| link.name == name(called));
        let recorded = ["eth0", "v0", "lan", "wan"].map(is_recorded);
        assert_eq!(recorded, [refused, refused, !refused, !refused], "seed {seed}");
    }
}

/// Of what is of this boot a power cut leaves what chance has it.
#[tokio::test(start_paused = true)]
async fn no_linkid_is_given_again_over_crashes_and_power_cuts() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed);
        let mut given: BTreeSet<LinkId> = BTreeSet::new();
        for life in 0..6 {
            let daemon = machine.start().await;
            let known: BTreeSet<LinkId> = daemon.links().iter().map(|link| link.id).collect();
            for n in 0..3 {
                daemon.make_temporary_pair(&format!("a{life}{n}"), &format!("b{life}{n}")).await;
            }
            let now: BTreeSet<LinkId> = daemon.links().iter().map(|link| link.id).collect();
            let new: BTreeSet<LinkId> = now.difference(&known).copied().collect();
            assert!(new.is_disjoint(&given), "seed {seed}, life {life}: {new:?} of {given:?}");
            given.extend(new);
            drop(daemon);
            if life % 2 == 0 {
                machine.reboot([]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_of_the_daemon_temporary_links_are_as_they_were_acknowledged() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    daemon.make_temporary_pair("v0", "v1").await;
    daemon.make_temporary_pair("w0", "w1").await;
    daemon.delete("v0").await.unwrap();
    let links = daemon.links();
    machine.disk.crash();
    drop(daemon);

    let daemon = machine.start().await;
    assert_eq!(daemon.links(), links);
    machine.assert_agrees(&daemon);
}
