//! SPEC.md section 5: a physical link is the same link wherever its card appears, also over
//! restarts and reboots.

use dlmgmt_proto::{Flags, HwAddr, LinkId, Media};
use dlmgmtd::engine::Service;
use dlmgmtd::kernel::sim::PhysDevice;
use dlmgmtd::kernel::{Hint, Kernel};
use dlmgmtd::model::{Action, Step};

use crate::machine::{Daemon, Machine, card, mac, name, root, settle};
use crate::zones::{lend, recall};

/// A machine in which the card in slot 1 is named `lan`, and the id of that.
async fn machine_with_lan() -> (Machine, LinkId) {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    let id = daemon.id("lan");
    (machine, id)
}

fn mac_of(daemon: &Daemon, link: &str) -> Option<HwAddr> {
    daemon.link(link).unwrap().permanent_mac
}

#[tokio::test(start_paused = true)]
async fn a_card_keeps_linkid_and_name_over_reboots_and_moves_to_another_slot() {
    let (mut machine, id) = machine_with_lan().await;
    for slot in [1, 7] {
        machine.reboot([card("eth0", 9, 9), card("eth0", 1, slot)]);
        let daemon = machine.start().await;
        assert_eq!(daemon.id("lan"), id);
        assert_eq!(mac_of(&daemon, "lan"), Some(mac(1)));
        machine.assert_agrees(&daemon);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_card_becomes_the_link_of_its_slot() {
    let (mut machine, id) = machine_with_lan().await;
    machine.reboot([card("eth0", 2, 1)]);
    let daemon = machine.start().await;
    assert_eq!((daemon.id("lan"), mac_of(&daemon, "lan")), (id, Some(mac(2))));
    machine.assert_agrees(&daemon);
    // The old card is unknown now, and its slot is not that of a removed link.
    machine.world.plug(card("eth0", 1, 2));
    settle().await;
    assert!(daemon.id("eth0") > id);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_is_replaced_while_the_daemon_runs_is_the_link_of_its_slot() {
    let (machine, id) = machine_with_lan().await;
    let daemon = machine.start().await;
    machine.world.unplug(machine.at("lan")).unwrap();
    settle().await;
    let removed = daemon.link("lan").unwrap();
    assert_eq!((removed.id, removed.flags), (id, Flags::PERSISTENT | Flags::REMOVED));
    machine.world.plug(card("eth0", 2, 1));
    settle().await;
    assert_eq!((daemon.id("lan"), mac_of(&daemon, "lan")), (id, Some(mac(2))));
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_card_of_another_media_does_not_become_the_link_of_its_slot() {
    let (mut machine, id) = machine_with_lan().await;
    let other = PhysDevice { media: Media::Infiniband, ..card("ib0", 2, 1) };
    machine.reboot([other]);
    let daemon = machine.start().await;
    assert!(daemon.id("ib0") > id);
    assert!(daemon.link("lan").unwrap().flags.contains(Flags::REMOVED));
}

#[tokio::test(start_paused = true)]
async fn cards_that_swap_their_slots_keep_their_names() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    daemon.rename(&[("eth0", "lan"), ("eth1", "wan")]).await.unwrap();
    let ids = [daemon.id("lan"), daemon.id("wan")];
    let mut machine = machine;
    // The kernel gives each the other's old name, and then the other's new one.
    for names in [["eth1", "eth0"], ["wan", "lan"]] {
        machine.reboot([card(names[0], 1, 2), card(names[1], 2, 1)]);
        let daemon = machine.start().await;
        assert_eq!([daemon.id("lan"), daemon.id("wan")], ids);
        assert_eq!(machine.kernel_names(), ["lan", "wan"]);
        assert_eq!(mac_of(&daemon, "lan"), Some(mac(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_link_stays_over_reboots_until_it_is_deleted() {
    let (mut machine, id) = machine_with_lan().await;
    machine.reboot([]);
    machine.start().await;
    machine.reboot([]);
    let daemon = machine.start().await;
    assert_eq!(daemon.id("lan"), id);
    daemon.delete_phys("lan").await.unwrap();
    assert!(daemon.link("lan").is_err());
    machine.reboot([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    assert!(daemon.id("eth0") > id);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_others_made_keeps_its_linkid_over_a_restart_and_none_over_a_reboot() {
    let mut machine = Machine::new(0);
    machine.create("v0");
    machine.create("v1");
    let first = machine.start().await.links();
    machine.rename_by_others("v1", "other");
    let daemon = machine.start().await;
    assert_eq!([daemon.id("v0"), daemon.id("other")], [first[0].id, first[1].id]);
    machine.reboot([]);
    machine.create("v0");
    assert!(machine.start().await.id("v0") > first[1].id);
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_name_is_taken_comes_as_dl_linkid_and_gets_its_name_when_it_is_free() {
    let (mut machine, id) = machine_with_lan().await;
    machine.reboot([]);
    machine.create("lan");
    let daemon = machine.start().await;
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    let shown = daemon.link(&format!("dl{id}")).unwrap();
    assert_eq!((shown.id, shown.flags.contains(Flags::CONFLICT)), (id, true));
    machine.assert_agrees(&daemon);
    machine.world.delete(machine.at("lan")).unwrap();
    settle().await;
    assert_eq!(daemon.id("lan"), id);
    assert_eq!(machine.kernel_names(), ["lan"]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_is_pulled_and_put_back_between_two_looks_is_the_same_link() {
    let (machine, id) = machine_with_lan().await;
    let daemon = machine.start().await;
    machine.world.unplug(machine.at("lan")).unwrap();
    machine.world.plug(card("eth5", 1, 1));
    settle().await;
    assert_eq!(daemon.id("lan"), id);
    assert_eq!(machine.kernel_names(), ["lan"]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_somebody_moved_is_the_same_though_nobody_was_told_from_where() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let id = daemon.id("eth0");
    let web = machine.zone_up(&daemon, "web").await;
    machine.world.hold_hints();
    let action = Action::Move { to: web, name: name("eth0") };
    machine.world.by_others(&Step { at: machine.at("eth0"), action }).unwrap();
    let there = machine.world.find(web, &name("eth0")).unwrap();
    daemon.kernel.hints().push(there, Hint::default());
    settle().await;
    machine.world.release_hints();
    settle().await;
    assert_eq!(daemon.id("web/eth0"), id);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_was_first_seen_in_a_zone_is_the_same_when_the_zone_has_ended() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let web = machine.world.add_namespace();
    let action = Action::Move { to: web, name: name("eth0") };
    machine.world.by_others(&Step { at: machine.at("eth0"), action }).unwrap();
    let daemon = machine.start().await;
    machine.named(&daemon, "web", web).await;
    let id = daemon.id("web/eth0");
    machine.world.end_users(web).unwrap();
    settle().await;
    assert_eq!(daemon.id("eth0"), id);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_replaces_a_lent_one_comes_home_with_an_address_of_its_own() {
    let (machine, id) = machine_with_lan().await;
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("lan", "web")).await.unwrap();
    machine.world.unplug(machine.world.find(web, &name("lan")).unwrap()).unwrap();
    settle().await;
    machine.world.plug(card("eth0", 7, 1));
    settle().await;
    assert_eq!(daemon.id("web/lan"), id, "it goes where the old one was");
    let at = machine.world.find(web, &name("lan")).unwrap();
    machine.world.by_others(&Step { at, action: Action::SetMac(mac(99)) }).unwrap();
    settle().await;
    daemon.recall(recall("lan")).await.unwrap();
    assert_eq!(machine.world.link(machine.at("lan")).unwrap().mac, Some(mac(7)));
}

#[tokio::test(start_paused = true)]
async fn a_card_that_takes_over_a_link_removed_while_lent_keeps_its_own_address() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 7, 7)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    machine.world.unplug(machine.world.find(web, &name("eth0")).unwrap()).unwrap();
    settle().await;
    daemon.rename(&[("eth1", "eth0")]).await.unwrap();
    settle().await;
    daemon.recall(recall("eth0")).await.unwrap();
    assert_eq!(machine.world.link(machine.at("eth0")).unwrap().mac, Some(mac(7)));
}

/// `net0` and all that is to be with it, for the card with the address 2.
const NET0: &str = r#"{"format":3,"zones":[{"zoneid":9,"zone":"web"}],"links":[
    {"linkid":4,"link":"net0","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:02",
     "path":"pci-0000:00:02.0","properties":{"mtu":"9000"},"loan":{"zone":"web","name":"up0"}},
    {"linkid":6,"link":"v7","class":"vlan","media":"Ethernet","over":4,"options":{"vid":"7"}}]}"#;

#[tokio::test(start_paused = true)]
async fn a_card_that_takes_over_a_removed_link_by_an_import_gets_all_that_the_text_says_of_it() {
    let machine = Machine::with_cards([card("net0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let id = daemon.id("net0");
    let web = machine.zone_up(&daemon, "web").await;
    machine.world.unplug(machine.at("net0")).unwrap();
    settle().await;
    daemon.engine.import(&root(), NET0.into()).await.unwrap();
    settle().await;
    let net0 = daemon.link("web/up0").unwrap();
    assert_eq!((net0.id, net0.permanent_mac, net0.mtu), (id, Some(mac(2)), Some(9000)));
    assert_eq!(machine.names_in(web), ["up0"]);
    assert_eq!(daemon.link("v7").unwrap().over[0].to_string(), "web/up0");
    assert!(machine.kernel_names().contains(&"v7".to_owned()));
    assert!(daemon.link("eth1").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wifi_card_stays_itself_when_the_namespace_dies_in_which_it_looks_like_ethernet() {
    for is_restarted in [false, true] {
        let wifi = PhysDevice { media: Media::WiFi, ..card("wlan0", 1, 1) };
        let machine = Machine::with_cards([wifi]);
        let mut daemon = machine.start().await;
        let id = daemon.id("wlan0");
        let web = machine.zone_up(&daemon, "web").await;
        machine.brought_by_others(&daemon, "wlan0", web).await;
        if is_restarted {
            drop(daemon);
            machine.world.end_users(web).unwrap();
            daemon = machine.start().await;
        } else {
            machine.world.end_users(web).unwrap();
        }
        settle().await;
        let home_again = daemon.link("wlan0").unwrap();
        assert_eq!((home_again.id, home_again.media), (id, Media::WiFi));
        assert_eq!(daemon.links().len(), 1);
    }
}
