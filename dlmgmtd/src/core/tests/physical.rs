//! SPEC.md section 5: which link a device is.

use dlmgmt_proto::{ErrorCode, Flags, LinkClass};

use super::*;
use crate::model::ZoneUp;

#[test]
fn a_link_without_a_kernel_type_is_phys_and_persistent() {
    let world = World::with([card(2, "eth0", 1, 1)]);
    let eth0 = world.link("eth0");
    assert_eq!(eth0.class, LinkClass::Phys);
    assert_eq!(eth0.flags, Flags::ACTIVE | Flags::PERSISTENT);
    assert_eq!((eth0.permanent_mac, eth0.path), (Some(mac(1)), Some(slot(1))));
}

#[test]
fn same_mac_anywhere_is_the_same_link_with_its_name() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    world.rename(&[("eth0", "lan")]).unwrap();
    let id = world.id("lan");
    world.vanish(2);
    world.appear(card(3, "eth0", 1, 9));
    assert_eq!(world.id("lan"), id);
    assert_eq!(world.kernel_name(3), "lan");
    assert_eq!(world.link("lan").path, Some(slot(9)));
}

#[test]
fn an_unknown_mac_in_the_slot_of_a_removed_link_is_that_link() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    world.rename(&[("eth0", "lan")]).unwrap();
    let id = world.id("lan");
    world.vanish(2);
    world.appear(card(3, "eth0", 7, 1));
    assert_eq!(world.id("lan"), id);
    assert_eq!(world.link("lan").permanent_mac, Some(mac(7)));
    assert_eq!(world.kernel_name(3), "lan");
}

#[test]
fn an_unknown_mac_of_another_media_in_that_slot_is_a_new_link() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let old = world.id("eth0");
    world.vanish(2);
    world.appear(KernelLink { media: Media::Infiniband, ..card(3, "ib0", 7, 1) });
    assert_ne!(world.id("ib0"), old);
    assert!(world.link("eth0").flags.contains(Flags::REMOVED));
}

#[test]
fn an_unknown_mac_in_another_slot_is_a_new_link() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let old = world.id("eth0");
    world.vanish(2);
    world.appear(card(3, "eth1", 7, 2));
    assert_ne!(world.id("eth1"), old);
}

#[test]
fn the_slot_of_a_link_that_is_there_replaces_nothing() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    world.appear(card(3, "eth1", 7, 1));
    assert_eq!(world.registry.links().count(), 2);
}

#[test]
fn a_card_that_moves_into_the_slot_of_another_stays_itself() {
    let mut world = World::with([card(2, "a", 1, 1), card(3, "b", 2, 2)]);
    let (a, b) = (world.id("a"), world.id("b"));
    world.vanish(2);
    world.vanish(3);
    world.kernel.insert(IfIndex::new(4).unwrap(), card(4, "a", 2, 1));
    world.kernel.insert(IfIndex::new(5).unwrap(), card(5, "b", 1, 2));
    world.look_at_all();
    assert_eq!((world.id("a"), world.id("b")), (a, b));
    assert_eq!((world.kernel_name(4), world.kernel_name(5)), ("b".into(), "a".into()));
}

#[test]
fn a_new_link_whose_name_is_taken_is_net_n() {
    let mut world = World::with([card(2, "eth0", 1, 1), veth(3, "net0")]);
    world.vanish(2);
    world.appear(card(4, "eth0", 7, 2));
    assert_eq!(world.kernel_name(4), "net1");
    assert!(world.link("eth0").flags.contains(Flags::REMOVED));
}

#[test]
fn the_record_of_absent_hardware_stays_until_delete_phys() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0").unwrap();
    let refused = plan_delete_phys(&world.registry, id).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    world.vanish(2);
    world.restart(false);
    assert_eq!(world.link("eth0").flags, Flags::PERSISTENT | Flags::REMOVED);
    world.carry_out(plan_delete_phys(&world.registry, id).unwrap());
    assert_eq!(world.registry.links().count(), 0);
}

#[test]
fn absent_hardware_is_not_deleted_while_others_wait_for_it() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0").unwrap();
    let vlan = r#"{"format":3,"links":[{"linkid":9,"link":"v7","class":"vlan",
        "media":"Ethernet","over":"eth0","options":{"vid":"7"}}]}"#;
    transferring::imported(&mut world, vlan.as_bytes()).unwrap();
    world.vanish(2);
    let refused = plan_delete_phys(&world.registry, id).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.ends_with("is in use: lower link of v7"), "{refused}");
}

#[test]
fn a_restart_tells_devices_of_one_identity_apart_by_their_places() {
    let mut world = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 1, 1)]);
    let ids = (world.id("eth0"), world.id("eth1"));
    let seen: Vec<_> = world.kernel.values().rev().cloned().collect();
    let records = world.registry.links().map(|link| (*link.record).clone()).collect();
    world.registry = restore(records, Vec::new(), true, HOME, Seq(0)).0;
    world.follow(&Look::whole(HOME, seen));
    assert_eq!((world.id("eth0"), world.id("eth1")), ids);
    assert_eq!(world.kernel_name(2), "eth0");
}

#[test]
fn a_reboot_keeps_linkids_and_names_of_hardware() {
    let mut world = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 2, 2)]);
    let ids = (world.id("eth0"), world.id("eth1"));
    world.rename(&[("eth0", "eth1"), ("eth1", "eth0")]).unwrap();
    world.kernel.clear();
    world.kernel.insert(IfIndex::new(2).unwrap(), card(2, "eth0", 1, 1));
    world.kernel.insert(IfIndex::new(3).unwrap(), card(3, "eth1", 2, 2));
    world.restart(false);
    assert_eq!((world.id("eth1"), world.id("eth0")), ids);
    assert_eq!((world.kernel_name(2), world.kernel_name(3)), ("eth1".into(), "eth0".into()));
}

#[test]
fn a_known_address_is_the_same_link_though_its_medium_was_told_otherwise() {
    let mut world = World::with([card(2, "wlan0", 1, 1)]);
    let id = world.id("wlan0");
    world.vanish(2);
    world.appear(KernelLink { media: Media::WiFi, ..card(3, "wlan0", 1, 1) });
    assert_eq!(world.id("wlan0"), id);
    assert_eq!(world.link("wlan0").media, Media::WiFi);
}

#[test]
fn wifi_is_wifi_though_it_is_seen_in_a_zone_where_it_looks_like_ethernet() {
    let mut world = World::with([KernelLink { media: Media::WiFi, ..card(2, "wlan0", 1, 1) }]);
    let id = world.id("wlan0").unwrap();
    let inside = NsCookie(2);
    let up = ZoneUp { ns: inside, is_ending: false, pid: None, path: None };
    world.carry_out(plan_zone_up(&world.registry, &"web".parse().unwrap(), up, None));
    let seen = Sighting { known_as: Some(id), ..Sighting::of(card(2, "wlan0", 1, 1)) };
    world.follow(&Look { ns: inside, ..glance(vec![seen]) });
    let lent = world.registry.link(id).unwrap();
    assert_eq!(lent.binding().unwrap().ns, inside);
    assert_eq!(lent.record.media, Media::WiFi);
}
