//! SPEC.md rule 3.5: the registry converges on the kernel, however the kernel's hints come.

use dlmgmt_proto::LinkState;
use dlmgmtd::kernel::sim::HintFaults;
use dlmgmtd::model::{Action, Step};

use crate::classes::{made, over};
use crate::machine::{Daemon, Machine, card, name, settle, virtual_link};

/// Others change everything that can be changed.
fn storm(machine: &Machine) {
    let v0 = machine.create("v0");
    machine.create("v1");
    machine.rename_by_others("v0", "x");
    machine.rename_by_others("v1", "v0");
    machine.rename_by_others("x", "v1");
    machine.world.by_others(&Step { at: v0, action: Action::SetMtu(1400) }).unwrap();
    machine.world.set_state(v0, LinkState::Up).unwrap();
    machine.world.unplug(machine.at("eth0")).unwrap();
    machine.world.plug(card("eth7", 1, 3));
    machine.world.plug(card("eth8", 8, 8));
    machine.create("short");
    machine.world.delete(machine.at("short")).unwrap();
    machine.world.delete(machine.at("v0")).unwrap();
    machine.create("v0");
}

async fn before_the_storm(seed: u64) -> (Machine, Daemon) {
    let machine = Machine::new(seed);
    machine.world.plug(card("eth0", 1, 1));
    machine.world.plug(card("eth1", 2, 2));
    let daemon = machine.start().await;
    (machine, daemon)
}

async fn converges(faults: HintFaults) {
    for seed in 0..30 {
        let (machine, daemon) = before_the_storm(seed).await;
        machine.world.set_hint_faults(faults);
        storm(&machine);
        tokio::task::yield_now().await;
        storm_again(&machine);
        machine.world.release_hints();
        settle().await;
        machine.assert_agrees(&daemon);
        let kept = daemon.link("eth0").unwrap();
        assert_eq!(kept.permanent_mac, Some(crate::machine::mac(1)), "seed {seed}");
    }
}

fn storm_again(machine: &Machine) {
    machine.rename_by_others("v1", "v2");
    machine.world.delete(machine.at("v0")).unwrap();
    machine.rename_by_others("v2", "v0");
}

#[tokio::test(start_paused = true)]
async fn lost_hints_do_no_harm() {
    converges(HintFaults { lost: 30, ..HintFaults::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn late_and_reordered_hints_do_no_harm() {
    converges(HintFaults { delayed: 60, ..HintFaults::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn doubled_hints_do_no_harm() {
    converges(HintFaults { duplicated: 60, ..HintFaults::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn hints_with_every_trouble_at_once_do_no_harm() {
    converges(HintFaults { lost: 20, duplicated: 40, delayed: 40, losses_untold: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_hint_of_an_end_does_not_end_the_link_that_is_there_now() {
    let (machine, daemon) = before_the_storm(0).await;
    let before = daemon.links();
    machine.world.hold_hints();
    machine.rename_by_others("eth0", "a");
    machine.rename_by_others("a", "eth0");
    daemon.hear_that_hints_were_lost();
    settle().await;
    machine.world.release_hints();
    settle().await;
    assert_eq!(daemon.links(), before);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_cannot_be_read_for_a_while_is_followed_again() {
    let (machine, daemon) = before_the_storm(0).await;
    (0..5).for_each(|_| machine.world.fail_next_dump(libc::ENOBUFS));
    storm(&machine);
    daemon.hear_that_hints_were_lost();
    settle().await;
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_rename_to_the_name_that_others_took_from_a_link_just_now_gives_it_back() {
    let (machine, daemon) = before_the_storm(0).await;
    machine.world.hold_hints();
    let link = format!("@{}", daemon.id("eth0"));
    machine.rename_by_others("eth0", "lan");
    daemon.rename(&[(&link, "eth0")]).await.unwrap();
    machine.world.release_hints();
    settle().await;
    assert_eq!(machine.kernel_names(), ["eth0", "eth1"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_waits_for_one_to_the_same_name_is_done_though_others_come_between() {
    let (machine, daemon) = before_the_storm(0).await;
    machine.world.hold_hints();
    let theirs = Step { at: machine.at("eth0"), action: Action::Rename(name("theirs")) };
    let watch = machine.by_others_at("pipeline.before_commit", theirs);
    let link = format!("@{}", daemon.id("eth0"));
    let wanted = [(link.as_str(), "lan")];
    let (first, second) = tokio::join!(daemon.rename(&wanted), daemon.rename(&wanted));
    drop(watch);
    first.and(second).unwrap();
    machine.world.release_hints();
    settle().await;
    assert_eq!(machine.kernel_names(), ["lan", "eth1"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn hardware_that_was_away_and_fell_home_unheard_gets_its_name_back() {
    let (machine, daemon) = before_the_storm(0).await;
    let web = machine.zone_up(&daemon, "web").await;
    let (id, at) = (daemon.id("eth1"), machine.at("eth1"));
    machine.world.set_hint_faults(HintFaults { lost: 100, ..HintFaults::default() });
    let action = Action::Move { to: web, name: name("eth1") };
    machine.world.by_others(&Step { at, action }).unwrap();
    machine.world.unplug(machine.at("eth0")).unwrap();
    machine.world.plug(card("eth1", 1, 1));
    machine.world.end_users(web).unwrap();
    let fallen = format!("dev{}", at.ifindex);
    assert_eq!(machine.at(&fallen), at, "as if somebody had merely renamed it");
    settle().await;
    assert_eq!(daemon.id("eth1"), id);
    machine.assert_agrees(&daemon);
}

/// Somebody moves a link from the zone `db` home, to the index of one that goes away from there,
/// into a zone or to where nobody looks. Both stay the links they are.
async fn one_comes_where_another_one_was([one, other]: [&str; 2], into_zone: bool, lost: u8) {
    let mut clashes = 0;
    for seed in 0..20 {
        let (machine, daemon) = before_the_storm(seed).await;
        for called in ["v0", "v1"] {
            daemon.make(over("eth0", made(called, "macvlan", &[]))).await.unwrap();
        }
        let home = machine.world.home();
        let db = machine.zone_up(&daemon, "db").await;
        let away = match into_zone {
            true => machine.zone_up(&daemon, "web").await,
            false => machine.world.add_namespace(),
        };
        let place = machine.at(one);
        // The next index there is that of the place.
        for number in 2..place.ifindex.get() {
            machine.world.create(db, virtual_link(&format!("x{number}"))).unwrap();
        }
        machine.world.by_others(&machine.moving(other, home, db)).unwrap();
        settle().await;
        let ids = [daemon.id(one), daemon.id(&format!("db/{other}"))];
        machine.world.set_hint_faults(HintFaults { lost, ..HintFaults::default() });
        machine.world.by_others(&machine.moving(one, home, away)).unwrap();
        machine.world.by_others(&machine.moving(other, db, home)).unwrap();
        clashes += usize::from(machine.at(other) == place);
        settle().await;
        assert_eq!(daemon.id(other), ids[1]);
        assert_eq!(daemon.link(other).unwrap().ifindex, Some(machine.at(other).ifindex));
        if into_zone {
            assert_eq!(daemon.id(&format!("web/{one}")), ids[0]);
            machine.assert_agrees(&daemon);
        }
    }
    assert!(clashes > 0);
}

#[tokio::test(start_paused = true)]
async fn hardware_that_comes_to_the_index_of_other_hardware_stays_the_link_it_is() {
    for (into_zone, lost) in [(true, 0), (false, 0), (true, 100), (false, 100)] {
        one_comes_where_another_one_was(["eth0", "eth1"], into_zone, lost).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_virtual_link_that_comes_to_the_index_of_another_one_stays_the_link_it_is() {
    for into_zone in [true, false] {
        one_comes_where_another_one_was(["v0", "v1"], into_zone, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_virtual_link_that_moves_on_before_it_is_looked_for_stays_the_link_it_is() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        machine.create("v0");
        let daemon = machine.start().await;
        let home = machine.world.home();
        let web = machine.zone_up(&daemon, "web").await;
        let db = machine.zone_up(&daemon, "db").await;
        let id = daemon.id("v0");
        machine.world.by_others(&machine.moving("v0", home, web)).unwrap();
        machine.world.by_others(&machine.moving("v0", web, db)).unwrap();
        settle().await;
        assert_eq!(daemon.id("db/v0"), id);
    }
}
