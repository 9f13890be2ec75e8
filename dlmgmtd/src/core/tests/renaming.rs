//! SPEC.md section 5: renames.

use dlmgmt_proto::{ErrorCode, Flags};
use proptest::prelude::*;

use super::*;

#[test]
fn case_1_a_link_keeps_its_linkid() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0");
    world.rename(&[("eth0", "lan")]).unwrap();
    assert_eq!(world.id("lan"), id);
    assert_eq!(world.id("eth0"), None);
    assert_eq!(world.kernel_name(2), "lan");
}

#[test]
fn case_2_a_device_takes_over_a_removed_link() {
    let mut world = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 2, 2)]);
    let old = world.id("eth0");
    world.vanish(2);
    world.rename(&[("eth1", "eth0")]).unwrap();
    assert_eq!(world.id("eth0"), old);
    assert_eq!(world.link("eth0").permanent_mac, Some(mac(2)));
    assert_eq!(world.link("eth0").flags, Flags::ACTIVE | Flags::PERSISTENT);
    assert_eq!(world.registry.links().count(), 1);
    assert_eq!(world.kernel_name(3), "eth0");
}

/// A bridge and a vlan that are to be made when their lower link is there.
const OVER_A_CARD: &str = r#"{"format":3,"links":[
    {"linkid":40,"link":"br0","class":"bridge","media":"Ethernet","ports":["eth1"]},
    {"linkid":41,"link":"v7","class":"vlan","media":"Ethernet","over":"eth1",
     "options":{"vid":"7"}}]}"#;

#[test]
fn case_2_what_lies_over_the_device_lies_over_the_link_that_it_becomes() {
    let mut world = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 2, 2)]);
    let taken_over = world.id("eth0").unwrap();
    transferring::imported(&mut world, OVER_A_CARD.as_bytes()).unwrap();
    world.vanish(2);
    world.rename(&[("eth1", "eth0")]).unwrap();
    let below = |upper: &str| {
        let link = world.registry.link(world.id(upper).unwrap()).unwrap();
        link.record.recipe.as_ref().unwrap().below().collect::<Vec<_>>()
    };
    assert_eq!((below("br0"), below("v7")), (vec![taken_over], vec![taken_over]));
    assert_eq!(world.registry.made_over(taken_over).count(), 2);
}

#[test]
fn case_2_what_lay_over_several_devices_lies_over_all_that_they_become() {
    let mut world = World::with((1..5).map(|n| card(n + 1, &format!("eth{n}"), n as u8, n as u8)));
    let text = OVER_A_CARD.replacen(r#"["eth1"]"#, r#"["eth1","eth2"]"#, 1);
    transferring::imported(&mut world, text.as_bytes()).unwrap();
    let removed = ["eth3", "eth4"].map(|called| world.id(called).unwrap());
    world.vanish(4);
    world.vanish(5);
    world.rename(&[("eth1", "eth3"), ("eth2", "eth4")]).unwrap();
    let br0 = world.registry.link(world.id("br0").unwrap()).unwrap();
    assert_eq!(br0.record.recipe.as_ref().unwrap().ports, removed);
}

#[test]
fn case_2_a_bridge_that_had_both_has_one_port() {
    let mut world = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 2, 2)]);
    let text = OVER_A_CARD.replacen(r#"["eth1"]"#, r#"["eth0","eth1"]"#, 1);
    transferring::imported(&mut world, text.as_bytes()).unwrap();
    let removed = world.id("eth0").unwrap();
    world.vanish(2);
    world.rename(&[("eth1", "eth0")]).unwrap();
    let br0 = world.registry.link(world.id("br0").unwrap()).unwrap();
    assert_eq!(br0.record.recipe.as_ref().unwrap().ports, [removed]);
}

#[test]
fn case_2_of_another_media_is_refused_naming_both() {
    let ib = KernelLink { media: Media::Infiniband, ..card(3, "ib0", 2, 2) };
    let mut world = World::with([card(2, "eth0", 1, 1), ib]);
    world.vanish(2);
    let refused = world.rename(&[("ib0", "eth0")]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Exists);
    assert!(refused.message.contains("Infiniband") && refused.message.contains("Ethernet"));
    assert!(world.link("eth0").flags.contains(Flags::REMOVED));
}

#[test]
fn a_virtual_link_takes_no_removed_link_over() {
    let mut world = World::with([card(2, "eth0", 1, 1), veth(3, "v0")]);
    world.vanish(2);
    assert_eq!(world.rename(&[("v0", "eth0")]).unwrap_err().code, ErrorCode::Exists);
}

#[test]
fn two_links_swap_their_names() {
    let mut world = World::with([veth(2, "a"), veth(3, "b")]);
    let (a, b) = (world.id("a"), world.id("b"));
    world.rename(&[("a", "b"), ("b", "a")]).unwrap();
    assert_eq!((world.id("a"), world.id("b")), (b, a));
    assert_eq!((world.kernel_name(2), world.kernel_name(3)), ("b".into(), "a".into()));
}

#[test]
fn a_taken_name_is_refused_naming_who_has_it() {
    let mut world = World::with([veth(2, "a"), veth(3, "b")]);
    let refused = world.rename(&[("a", "b")]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Exists);
    assert_eq!(
        refused.message,
        "a in zone global cannot be named b: it is the name of b in zone global"
    );
}

#[test]
fn an_alternative_name_counts_as_taken_except_by_the_link_itself() {
    let mut a = veth(2, "a");
    a.altnames.push(altname("alt"));
    let mut world = World::with([a, veth(3, "b")]);
    assert_eq!(world.rename(&[("b", "alt")]).unwrap_err().code, ErrorCode::Exists);
    world.rename(&[("a", "alt")]).unwrap();
    assert_eq!(world.kernel_name(2), "alt");
    assert!(world.kernel[&IfIndex::new(2).unwrap()].altnames.is_empty());
    assert_eq!(world.registry.by_altname(ZoneId::GLOBAL, &name("alt")), None);
}

#[test]
fn a_held_link_is_busy_naming_who_holds_it() {
    let mut world = World::with([veth(2, "a")]);
    let id = world.id("a").unwrap();
    world.registry = world.registry.with_hold(id, 1, Holder::new("dladm (pid 7)"));
    let refused = world.rename(&[("a", "b")]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert_eq!(refused.message, "a in zone global is held by dladm (pid 7)");
    world.registry = world.registry.without_hold(id, 1);
    world.rename(&[("a", "b")]).unwrap();
}

#[test]
fn a_set_names_each_link_and_each_name_once() {
    let mut world = World::with([veth(2, "a"), veth(3, "b")]);
    assert_eq!(world.rename(&[("a", "x"), ("a", "y")]).unwrap_err().code, ErrorCode::Invalid);
    assert_eq!(world.rename(&[("a", "x"), ("b", "x")]).unwrap_err().code, ErrorCode::Exists);
    assert_eq!(world.rename(&[]).unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn the_loopback_device_keeps_its_name() {
    let lo = KernelLink { media: Media::Loopback, kind: None, ..veth(1, "lo") };
    let mut world = World::with([lo]);
    assert_eq!(world.rename(&[("lo", "x")]).unwrap_err().code, ErrorCode::NotSupported);
}

proptest! {
    /// Whatever the permutation, and with links that leave the set's names: the kernel is never
    /// asked for a name that is taken, and everybody ends where it should.
    #[test]
    fn any_permutation_is_one_change(
        order in Just((0..8u32).collect::<Vec<_>>()).prop_shuffle(),
        fresh in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let called = |number: u32| format!("n{number}");
        let mut world = World::with((0..8).map(|number| veth(number + 2, &called(number))));
        let ids: Vec<_> = (0..8).map(|number| world.id(&called(number)).unwrap()).collect();
        let target = |from: u32| {
            let to = order[from as usize];
            if fresh[to as usize] { format!("new{to}") } else { called(to) }
        };
        let wishes: Vec<_> = (0..8).map(|from| (ids[from as usize], name(&target(from)))).collect();
        let plan = plan_rename(&world.registry, &wishes).unwrap();
        world.carry_out(plan);
        for from in 0..8 {
            prop_assert_eq!(world.id(&target(from)), Some(ids[from as usize]));
            prop_assert_eq!(world.kernel_name(from + 2), target(from));
        }
    }

    /// Steps undone in reverse lead back to where they began.
    #[test]
    fn what_a_set_does_can_be_undone(order in Just((0..6u32).collect::<Vec<_>>()).prop_shuffle(), done in 0..9usize) {
        let mut world = World::with((0..6).map(|number| veth(number + 2, &format!("n{number}"))));
        let before = world.kernel.clone();
        let wishes: Vec<_> = order
            .iter()
            .enumerate()
            .map(|(from, to)| (world.id(&format!("n{from}")).unwrap(), name(&format!("n{to}"))))
            .collect();
        let plan = plan_rename(&world.registry, &wishes).unwrap();
        let done = &plan.steps[..done.min(plan.steps.len())];
        for step in done {
            world.apply(step.forward.at.ifindex, &step.forward.action);
        }
        for step in done.iter().rev() {
            let backward = step.backward.as_ref().unwrap();
            world.apply(backward.at.ifindex, &backward.action);
        }
        prop_assert_eq!(world.kernel, before);
    }
}
