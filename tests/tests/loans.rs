//! Links that are lent to zones, and come home: SPEC.md section 6.

use dlmgmt_tests::{Attire, Host, eventually};
use rustix::process::Signal;

/// A link that has all that a loan must bring back.
fn dress(host: &Host, link: &str) -> Attire {
    host.ip(&format!("link set dev {link} mtu 1400 address 02:00:00:00:00:aa up"));
    host.ip(&format!("link property add dev {link} altname long-name-of-{link}"));
    eventually("dladm knows the MTU", || host.field("mtu", link) == "1400");
    host.attire(link)
}

/// What a zone may do to its loan.
fn maltreat(host: &Host, zone: &str, link: &str) {
    host.ip_in(zone, &format!("link set dev {link} down"));
    host.ip_in(zone, &format!("link property del dev {link} altname long-name-of-{link}"));
    host.ip_in(zone, &format!("link set dev {link} mtu 9000 address 02:00:00:00:00:bb name eth7"));
}

#[test]
fn a_link_is_lent_and_taken_home() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    assert_eq!(host.kernel_in("web"), ["a"]);
    assert_eq!(host.everywhere()["web/a"], id);
    assert_eq!(host.field("zone,owner", "web/a"), "web:global");
    host.dladm("reset-zone web/a").ok();
    assert!(host.kernel_in("web").is_empty());
    assert_eq!(host.agreed()["a"].0, id);
}

#[test]
fn a_loan_has_the_name_inside_that_it_was_given() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone -n eth0 a web").ok();
    assert_eq!(host.kernel_in("web"), ["eth0"]);
    assert_eq!(host.everywhere()["web/eth0"], id);
    host.end_zone("web");
    assert_eq!(host.agreed()["a"].0, id);
}

#[test]
fn the_name_of_a_lent_link_stays_reserved_at_home() {
    let host = Host::with_zones(&["web"]);
    host.dladm("set-zone -n eth0 a web").ok();
    host.dladm("rename-link b a").refused("exists");
}

#[test]
fn a_link_in_use_is_lent_only_by_force() {
    let host = Host::with_zones(&["web"]);
    host.ip("address add 192.0.2.1/24 dev a");
    host.ip("link add name up0 link b type macvlan");
    eventually("dladm lists it", || host.ids().contains_key("up0"));
    let line = host.unchanged_by(|| host.dladm("set-zone a web")).refused("busy");
    assert!(line.contains("192.0.2.1"), "{line}");
    let line = host.unchanged_by(|| host.dladm("set-zone b web")).refused("busy");
    assert!(line.contains("up0"), "{line}");
    host.dladm("set-zone -f a web").ok();
    host.dladm("set-zone -f b web").ok();
    assert_eq!(host.kernel_in("web"), ["a", "b"]);
}

#[test]
fn a_link_under_one_of_another_zone_is_lent_only_by_force() {
    let host = Host::with_zones(&["web", "db"]);
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    let line = host.unchanged_by(|| host.dladm("set-zone a db")).refused("busy");
    assert!(line.contains("web/vnic0"), "{line}");
    host.dladm("set-zone -f a db").ok();
    assert_eq!(
        (host.kernel_in("db"), host.kernel_in("web")),
        (vec!["a".into()], vec!["vnic0".into()])
    );
}

#[test]
fn a_link_keeps_its_linkid_when_its_owner_ends_while_it_is_lent() {
    let mut host = Host::with_zones(&["web", "db"]);
    host.ip("link add link a name own netns web type macvlan");
    eventually("dladm lists it", || host.everywhere().contains_key("web/own"));
    let id = host.everywhere()["web/own"];
    host.dladm("set-zone -n lent web/own db").ok();
    host.end_zone("web");
    assert_eq!(host.everywhere()["db/lent"], id);
    assert_eq!(host.field("zone,owner", "db/lent"), "db:db");
    host.kill9_and_restart();
    host.await_at("db/lent", id);
}

#[test]
fn what_cannot_be_lent_is_refused_with_the_reason() {
    let host = Host::with_zones(&["web"]);
    host.ip("link add name br0 type bridge");
    host.id_when_known("br0");
    let line = host.unchanged_by(|| host.dladm("set-zone br0 web")).error_line(1);
    assert!(line.contains("bridge"), "{line}");
}

#[test]
fn a_held_link_is_not_lent() {
    let host = Host::with_zones(&["web"]);
    let hold = host.with_client(|door| door.hold("a".parse().unwrap())).unwrap();
    host.dladm("set-zone a web").refused("busy");
    hold.release().unwrap();
    host.dladm("set-zone a web").ok();
}

#[test]
fn a_persistent_assignment_waits_for_its_zone() {
    let host = Host::with_zones(&[]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    assert_eq!(host.agreed()["a"].0, id);
    host.add_zone("web");
    host.await_at("web/a", id);
    host.end_zone("web");
    host.await_at("global/a", id);
    host.add_zone("web");
    host.await_at("web/a", id);
}

#[test]
fn a_persistent_assignment_waits_for_its_zone_over_a_restart_of_the_daemon_too() {
    let mut host = Host::with_zones(&[]);
    let id = host.ids()["a"];
    host.dladm("set-zone -n eth0 a web").ok();
    host.kill9_and_restart();
    host.add_zone("web");
    host.await_at("web/eth0", id);
    host.end_zone("web");
    host.stop_daemon();
    host.ip("netns add web");
    host.start_daemon();
    host.await_at("web/eth0", id);
}

#[test]
fn a_temporary_loan_ends_with_its_zone() {
    let host = Host::with_zones(&["web"]);
    let ids = host.ids();
    host.dladm("set-zone -t a web").ok();
    host.dladm("set-zone b web").ok();
    host.end_zone("web");
    host.add_zone("web");
    host.await_at("web/b", ids["b"]);
    host.await_at("global/a", ids["a"]);
}

#[test]
fn a_temporary_return_lasts_until_the_zone_comes_up_anew() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    host.dladm("reset-zone -t web/a").ok();
    host.await_at("global/a", id);
    host.end_zone("web");
    host.add_zone("web");
    host.await_at("web/a", id);
}

#[test]
fn a_loan_survives_the_daemon() {
    let mut host = Host::with_zones(&["web"]);
    let attire = dress(&host, "a");
    let id = host.ids()["a"];
    host.dladm("set-zone -f -n eth0 a web").ok();
    host.kill9_and_restart();
    host.await_at("web/eth0", id);
    host.end_zone("web");
    assert_eq!((host.agreed()["a"].0, host.attire("a")), (id, attire));
}

#[test]
fn a_loan_survives_the_daemon_however_its_zone_was_attached() {
    let mut host = Host::with_zones(&[]);
    let ids = host.ids();
    let (by_pid, by_descriptor) = (host.guest_zone("pid"), host.guest());
    let path = format!("/proc/{}/ns/net", by_descriptor.pid());
    host.dladm(&format!("attach-zone --netns {path} descriptor")).ok();
    host.dladm("set-zone -n eth0 a pid").ok();
    host.dladm("set-zone -n eth0 b descriptor").ok();
    host.kill9_and_restart();
    host.await_at("pid/eth0", ids["a"]);
    host.await_at("descriptor/eth0", ids["b"]);
    by_pid.kill();
    by_descriptor.kill();
    eventually("both are home", || host.ids() == ids);
    host.agreed();
}

#[test]
fn a_loan_comes_home_as_it_was_when_its_zone_is_deleted() {
    let host = Host::with_zones(&["web"]);
    let attire = dress(&host, "a");
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    maltreat(&host, "web", "a");
    host.end_zone("web");
    host.await_at("global/a", id);
    assert_eq!(host.attire("a"), attire);
    assert_eq!(host.agreed().len(), 2);
}

/// Kills the only process of a zone with a loan; `by` is the option that registers the zone, for the
/// process id.
#[track_caller]
fn assert_comes_home_from_a_killed_guest(by: impl Fn(u32) -> String) {
    let host = Host::with_zones(&[]);
    let attire = dress(&host, "a");
    let (id, guest) = (host.ids()["a"], host.guest());
    host.dladm(&format!("attach-zone {} guest", by(guest.pid()))).ok();
    host.dladm("set-zone -n eth0 a guest").ok();
    guest.kill();
    host.await_down("guest");
    host.await_at("global/a", id);
    assert_eq!(host.attire("a"), attire);
}

#[test]
fn a_loan_comes_home_as_it_was_when_a_containers_init_is_killed() {
    assert_comes_home_from_a_killed_guest(|pid| format!("--pid {pid}"));
}

#[test]
fn a_loan_comes_home_as_it_was_when_the_last_process_of_its_namespace_exits() {
    assert_comes_home_from_a_killed_guest(|pid| format!("--netns /proc/{pid}/ns/net"));
}

#[test]
fn a_move_that_the_kernel_refuses_half_way_leaves_the_link_where_and_as_it_was() {
    let host = Host::with_zones(&["web"]);
    host.ip_in("web", "link add name taker type bridge");
    let attire = dress(&host, "a");
    // The kernel tells nobody of an alternative name of a link that is down.
    host.ip_in("web", "link property add dev taker altname eth0");
    host.unchanged_by(|| host.dladm("set-zone -n eth0 a web").error_line(1));
    assert_eq!((host.kernel_in("web"), host.attire("a")), (vec!["taker".to_owned()], attire));
    host.agreed();
    host.dladm("set-zone -n eth1 a web").ok();
    assert_eq!(host.kernel_in("web"), ["eth1", "taker"]);
}

#[test]
fn a_namespace_that_dies_while_links_are_moved_there_takes_none_along() {
    let host = Host::with_zones(&[]);
    let ids = host.ids();
    for round in 0..20 {
        let zone = format!("zone{round}");
        let guest = host.guest_zone(&zone);
        std::thread::scope(|scope| {
            for link in ["a", "b"] {
                // Refused or not, the link is not to be lost.
                let words = format!("set-zone -t -n in-{link} {link} {zone}");
                let host = &host;
                scope.spawn(move || host.dladm(&words));
            }
            scope.spawn(|| guest.kill());
        });
        host.await_down(&zone);
        eventually("both are home", || host.ids() == ids);
        host.agreed();
    }
}

#[test]
fn loans_come_home_while_everybody_else_is_killed_too() {
    let host = Host::with_zones(&[]);
    let ids = host.ids();
    let guests = [host.guest(), host.guest()];
    for (guest, link) in guests.iter().zip(["a", "b"]) {
        host.dladm(&format!("attach-zone --pid {} {link}zone", guest.pid())).ok();
        host.dladm(&format!("set-zone -f -n eth0 {link} {link}zone")).ok();
    }
    guests.into_iter().for_each(dlmgmt_tests::Guest::kill);
    host.await_down("azone");
    host.await_down("bzone");
    eventually("both are home", || host.ids() == ids);
    host.agreed();
}

#[test]
fn a_loan_whose_name_is_taken_at_home_gets_it_back_when_it_is_free() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    host.ip("link add name a type bridge");
    host.end_zone("web");
    let substitute = format!("dl{id}");
    host.await_at(&format!("global/{substitute}"), id);
    assert!(host.kernel().contains_key(&substitute));
    assert!(host.field("flags", &format!("@{id}")).contains("conflict"));
    host.ip("link delete dev a");
    host.await_at("global/a", id);
    assert!(!host.field("flags", "a").contains("conflict"));
    assert_eq!(host.agreed()["a"].0, id);
}

#[test]
fn virtual_persistent_links_are_made_again_when_their_zone_ended_without_the_daemon() {
    let mut host = Host::with_zones(&["web"]);
    host.dladm("create-vnic -l a -m 02:00:00:00:00:01 vnic0").ok();
    host.dladm("create-veth veth0 veth1").ok();
    let ids = host.ids();
    host.dladm("set-zone vnic0 web").ok();
    host.dladm("set-zone -n eth1 veth0 web").ok();
    host.stop_daemon();
    host.ip("netns delete web");
    eventually("the namespace died", || !host.kernel().contains_key("veth1"));
    host.start_daemon();
    eventually("they are made again", || host.ids() == ids);
    host.agreed();
    assert_eq!(host.field("mac", "vnic0"), "02:00:00:00:00:01");
    host.add_zone("web");
    host.await_at("web/eth1", ids["veth0"]);
    host.await_at("web/vnic0", ids["vnic0"]);
}

#[test]
fn a_link_that_somebody_else_moved_to_a_zone_is_followed_and_reclaimed() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.ip("link set dev a netns web");
    host.await_at("web/a", id);
    assert_eq!(host.dladm("where web/a").ok(), "a is in zone web as a\n");
    host.dladm(&format!("reclaim @{id}")).ok();
    assert_eq!(host.agreed()["a"].0, id);
    assert_eq!(host.dladm("where a").ok(), "a is at home in zone global\n");
}

/// The daemon hears at once of all that happens meanwhile.
fn while_it_sleeps(host: &Host, act: impl FnOnce()) {
    host.signal_daemon(Signal::STOP);
    act();
    host.signal_daemon(Signal::CONT);
}

#[test]
fn a_link_that_somebody_else_moves_on_before_it_is_looked_for_is_followed() {
    let host = Host::with_zones(&["web", "db"]);
    let id = host.ids()["a"];
    while_it_sleeps(&host, || {
        host.ip("link set dev a netns web");
        host.ip_in("web", "link set dev a netns db");
    });
    host.await_at("db/a", id);
    host.dladm(&format!("reclaim @{id}")).ok();
    assert_eq!(host.agreed()["a"].0, id);
}

#[test]
fn links_that_somebody_else_moves_to_the_indexes_of_others_are_followed() {
    let host = Host::with_zones(&["web", "db"]);
    host.ip("link add name c index 77 type veth peer name d");
    host.ip("-n db link add name e index 77 type veth peer name f");
    eventually("all are known", || host.everywhere().len() == 6);
    let (c, e) = (host.ids()["c"], host.everywhere()["db/e"]);
    while_it_sleeps(&host, || {
        host.ip("link set dev c netns web");
        host.ip_in("db", &format!("link set dev e netns {}", host.daemon_pid()));
    });
    host.await_at("web/c", c);
    host.await_at("global/e", e);
    assert_eq!(host.agreed()["e"].0, e);
}

#[test]
fn a_request_that_names_an_older_generation_is_stale() {
    let host = Host::with_zones(&["web"]);
    let generation = || {
        let get = |door: &libdlmgmt::Client| door.list(Default::default());
        let links = host.with_client(get).unwrap();
        links.iter().find(|link| link.name.as_bytes() == b"a").unwrap().generation.0
    };
    let first = generation();
    host.dladm(&format!("set-zone --generation {first} a web")).ok();
    host.dladm("reset-zone web/a").ok();
    assert!(generation() > first);
    let late = || host.dladm(&format!("set-zone --generation {first} a web"));
    host.unchanged_by(late).refused("stale");
    host.dladm(&format!("set-zone --generation {} a web", generation())).ok();
    host.dladm(&format!("reset-zone --generation {first} web/a")).refused("stale");
    assert_eq!(host.kernel_in("web"), ["a"]);
}

#[test]
fn a_hold_ends_with_its_zone_and_that_is_told() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    let monitor = host.monitor("");
    let _hold = host.with_client(|door| door.hold("web/a".parse().unwrap())).unwrap();
    host.dladm("reset-zone web/a").refused("busy");
    host.end_zone("web");
    monitor.wait_for("the hold's end", |line| {
        line.contains(&format!(" hold-broken a linkid={id} zone=web"))
    });
    host.await_at("global/a", id);
    host.dladm("rename-link a c").ok();
}

#[test]
fn a_link_that_somebody_else_moved_to_a_nameless_namespace_is_shown_there_and_reclaimed() {
    let host = Host::with_zones(&[]);
    let (id, guest) = (host.ids()["a"], host.guest());
    host.ip(&format!("link set dev a netns {}", guest.pid()));
    let find = || host.dladm(&format!("where @{id}"));
    eventually("dladm tells where it is", || find().stdout.contains("that is no zone"));
    let pid = host.dladm(&format!("where -p -o pid @{id}")).ok();
    assert_eq!(pid.trim_end(), guest.pid().to_string());
    host.dladm(&format!("reclaim @{id}")).ok();
    assert_eq!(host.agreed()["a"].0, id);
}
