//! Rules 3.1, 3.2, 3.5 and 3.8: the registry follows the kernel.

use dlmgmt_proto::{ErrorCode, Event, Flags};

use super::*;
use crate::model::Link;

#[test]
fn a_link_that_others_made_is_foreign_and_lasts_while_it_does() {
    let mut world = World::with([veth(2, "v0")]);
    assert_eq!(world.link("v0").flags, Flags::ACTIVE | Flags::FOREIGN);
    world.vanish(2);
    assert_eq!(world.registry.links().count(), 0);
}

#[test]
fn a_rename_by_others_keeps_the_linkid() {
    let mut world = World::with([veth(2, "v0"), card(3, "eth0", 1, 1)]);
    let (v0, eth0) = (world.id("v0"), world.id("eth0"));
    world.by_others(2, |link| link.name = name("v1"));
    world.by_others(3, |link| link.name = name("lan"));
    assert_eq!((world.id("v1"), world.id("lan")), (v0, eth0));
}

#[test]
fn a_linkid_is_never_given_again() {
    let mut world = World::with([veth(2, "v0")]);
    let first = world.id("v0");
    world.vanish(2);
    world.appear(veth(2, "v0"));
    assert!(world.id("v0") > first);
}

#[test]
fn a_link_that_was_deleted_and_made_again_in_its_place_is_another_one() {
    let mut world = World::with([veth(2, "v0")]);
    let first = world.id("v0");
    let seen = vec![Sighting { was_deleted: true, ..Sighting::of(veth(2, "v0")) }];
    world.follow(&glance(seen));
    assert!(world.id("v0") > first);
}

#[test]
fn a_restart_knows_virtual_links_again_and_a_reboot_does_not() {
    let mut world = World::with([veth(2, "v0"), veth(3, "v1")]);
    let v0 = world.id("v0");
    world.kernel.remove(&IfIndex::new(3).unwrap());
    world.restart(true);
    assert_eq!(world.id("v0"), v0);
    assert_eq!(world.id("v1"), None);
    world.restart(false);
    assert!(world.id("v0") > v0);
}

#[test]
fn an_unsettled_rename_is_completed_by_a_restart() {
    let mut world = World::with([veth(2, "a"), veth(3, "b")]);
    let ids = [world.id("a").unwrap(), world.id("b").unwrap()];
    let plan = plan_rename(&world.registry, &[(ids[0], name("b")), (ids[1], name("a"))]).unwrap();
    let first = &plan.steps[0].forward;
    world.apply(first.at.ifindex, &first.action);
    world.registry = world.registry.with(&unsettled(plan.changes));
    world.restart(true);
    assert_eq!((world.id("b"), world.id("a")), (Some(ids[0]), Some(ids[1])));
    assert_eq!((world.kernel_name(2), world.kernel_name(3)), ("b".into(), "a".into()));
}

fn unsettled(changes: Vec<LinkChange>) -> Vec<LinkChange> {
    let mark = |mut change: LinkChange| {
        if let Some(link) = &mut change.after {
            link.record_mut().unsettled = true;
        }
        change
    };
    changes.into_iter().map(mark).collect()
}

#[test]
fn a_record_whose_name_others_took_is_shown_as_dl_linkid_until_it_is_free() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0").unwrap();
    world.vanish(2);
    world.appear(veth(3, "eth0"));
    assert_eq!(
        world.link(&format!("dl{id}")).flags,
        Flags::PERSISTENT | Flags::REMOVED | Flags::CONFLICT
    );
    assert_ne!(world.id("eth0"), Some(id));
    world.vanish(3);
    assert_eq!(world.id("eth0"), Some(id));
    assert_eq!(world.id(&format!("dl{id}")), None);
}

#[test]
fn a_link_in_a_namespace_that_is_no_zone_is_shown_under_its_name_at_home() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0").unwrap();
    for called in ["eth0", "nic"] {
        let card = Some(card(7, called, 1, 1));
        let there = Sighting { known_as: Some(id), ..Sighting::at(IfIndex::new(7).unwrap(), card) };
        let before = world.registry.clone();
        world.follow(&Look { ns: NsCookie(9), ..glance(vec![there]) });
        let told = events_between(&before, &world.registry, [id]);
        assert!(matches!(&told[..], [Event::Changed(_)]), "{told:?}");
    }
    world.vanish(2);
    let shown = world.link("eth0");
    assert_eq!((shown.id, shown.name, shown.device), (id, name("eth0"), Some(name("nic"))));
    assert_eq!(shown.flags, Flags::ACTIVE | Flags::PERSISTENT);
    world.appear(veth(3, "eth0"));
    assert_ne!(world.id("eth0"), Some(id));
    let shown = world.link(&format!("dl{id}"));
    assert_eq!((shown.id, shown.name), (id, name(&format!("dl{id}"))));
    assert!(shown.flags.contains(Flags::CONFLICT));
}

#[test]
fn a_device_that_returns_to_a_taken_name_is_dl_linkid_and_gets_its_name_when_it_is_free() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let id = world.id("eth0").unwrap();
    world.vanish(2);
    world.appear(veth(3, "eth0"));
    world.appear(card(4, "eth9", 1, 1));
    assert_eq!(world.kernel_name(4), format!("dl{id}"));
    assert!(world.info(id).flags.contains(Flags::CONFLICT));
    world.vanish(3);
    let settleable: Vec<_> = world.registry.settleable().map(|at| at.ifindex).collect();
    assert_eq!(settleable, [IfIndex::new(4).unwrap()]);
    world.look_at(settleable);
    assert_eq!(world.kernel_name(4), "eth0");
    assert_eq!(world.info(id).flags, Flags::ACTIVE | Flags::PERSISTENT);
}

#[test]
fn a_foreign_link_is_never_renamed() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    world.vanish(2);
    world.appear(veth(3, "eth0"));
    world.restart(true);
    assert_eq!(world.kernel_name(3), "eth0");
}

#[test]
fn a_link_that_lost_its_name_to_another_is_out_of_date() {
    let world = World::with([veth(2, "a"), veth(3, "b")]);
    let seen = vec![Sighting::of(veth(2, "b"))];
    let mut ids = world.ids;
    let look = glance(seen);
    let plan = observe(&world.registry, &mut ids, &look, true).unwrap().plan;
    let after = world.registry.with(&plan.changes);
    let outdated = after.outdated(world.id("b"));
    assert_eq!(outdated.iter().map(|at| at.ifindex.get()).collect::<Vec<_>>(), [3]);
}

#[test]
fn who_has_a_name_keeps_it_when_one_that_was_thought_to_have_it_has_gone() {
    let mut world = World::with([card(2, "a", 1, 1), veth(3, "b")]);
    let (gone, has_it) = (world.id("a").unwrap(), world.id("b").unwrap());
    let known = world.registry.link(gone).unwrap().clone();
    world.by_others(3, |link| link.name = name("a"));
    // A request that had read the first link before now shows it as it was.
    world.registry = world.registry.with(&[Link::clone(&known).into()]);
    world.vanish(2);
    assert_eq!(world.id("a"), Some(has_it));
    assert_eq!(world.info(gone).name, name(&format!("dl{gone}")));
}

#[test]
fn a_late_word_of_a_move_takes_no_other_card_for_the_one_that_moved() {
    let mut world = World::with([card(2, "eth0", 1, 1)]);
    let eth0 = world.id("eth0").unwrap();
    let moved = card(3, "eth1", 2, 2);
    world.kernel.insert(moved.ifindex, moved.clone());
    let seen = vec![Sighting { known_as: Some(eth0), ..Sighting::of(moved) }];
    world.follow(&glance(seen));
    assert_eq!(world.id("eth0"), Some(eth0));
    assert_ne!(world.id("eth1").unwrap(), eth0);
}

#[test]
fn a_short_down_is_noticed() {
    let up = KernelLink { state: LinkState::Up, ..veth(2, "a") };
    let world = World::with([up.clone()]);
    let seen = vec![Sighting { went_down: true, ..Sighting::of(up) }];
    let mut ids = world.ids;
    let look = glance(seen);
    let observed = observe(&world.registry, &mut ids, &look, true).unwrap();
    assert_eq!(observed.dipped, [world.id("a").unwrap()]);
}

#[test]
fn events_tell_what_differs() {
    let mut world = World::with([veth(2, "a")]);
    let id = world.id("a").unwrap();
    let before = world.registry.clone();
    world.by_others(2, |link| {
        link.name = name("b");
        link.state = LinkState::Up;
    });
    let events = events_between(&before, &world.registry, [id]);
    let [Event::Renamed { from, link }, Event::State { state, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*from, link.name, *state), (name("a"), name("b"), LinkState::Up));
}

#[test]
fn a_bridge_lies_over_its_ports_and_is_told_of_when_they_or_their_names_change() {
    let bridge = KernelLink { kind: Some("bridge".to_owned()), ..veth(2, "br0") };
    let mut world = World::with([bridge, veth(3, "a")]);
    let (bridge, port) = (world.id("br0").unwrap(), world.id("a").unwrap());
    let over = |world: &World| {
        let info = describe(&world.registry, world.registry.link(bridge).unwrap());
        info.over.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    type Change = fn(&mut KernelLink);
    let steps: [(Change, &str, bool); 4] = [
        (|link| link.master = IfIndex::new(2), "a", true),
        (|link| link.state = LinkState::Up, "a", false),
        (|link| link.name = name("b"), "b", true),
        (|link| link.master = None, "", true),
    ];
    for (change, ports, is_told) in steps {
        let before = world.registry.clone();
        world.by_others(3, change);
        assert_eq!(over(&world), ports);
        let told = before.whose_ports_differ(&world.registry, &[port].into());
        assert_eq!(told, is_told.then_some(bridge).into_iter().collect());
    }
}

#[test]
fn what_a_caller_may_not_see_is_not_there() {
    let world = World::with([veth(2, "a")]);
    let id = world.id("a").unwrap();
    let inside = Scope { zone: ZoneId(1) };
    let refused = resolve(&world.registry, inside, &dlmgmt_proto::LinkRef::Id(id)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}
