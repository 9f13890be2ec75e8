//! Transient links: SPEC.md section 6.

use std::fs;

use dlmgmt_tests::{Host, eventually};

/// Nothing of the host is left but what every host has.
#[track_caller]
fn assert_no_trace(host: &Host) {
    eventually("nothing is left", || host.everywhere().into_keys().eq(["global/a", "global/b"]));
    host.agreed();
}

#[test]
fn a_transient_link_is_gone_with_its_zone_and_so_is_its_peer() {
    let host = Host::with_zones(&["web"]);
    let before = host.dladm("export").ok();
    host.dladm("create-veth -t -z web eth0 web0").ok();
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    assert_eq!(host.kernel_in("web"), ["eth0", "vnic0"]);
    assert!(host.field("flags", "web/eth0").contains("transient"));
    assert_eq!(host.dladm("export").ok(), before, "there is no record of them");
    host.end_zone("web");
    assert_no_trace(&host);
}

#[test]
fn a_transient_link_is_gone_with_its_own_zone_wherever_it_was_lent() {
    let host = Host::with_zones(&["web", "db"]);
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    host.dladm("set-zone -t web/vnic0 db").ok();
    assert_eq!(host.kernel_in("db"), ["vnic0"]);
    host.end_zone("web");
    assert!(host.kernel_in("db").is_empty());
    assert_no_trace(&host);
}

#[test]
fn a_transient_link_is_gone_with_a_zone_whose_last_process_was_killed() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    host.dladm(&format!("attach-zone --pid {} guest", guest.pid())).ok();
    host.dladm("create-veth -t -z guest eth0 guest0").ok();
    guest.kill();
    host.await_down("guest");
    assert_no_trace(&host);
}

#[test]
fn a_transient_link_is_gone_with_a_zone_that_ended_without_the_daemon() {
    let mut host = Host::with_zones(&["web"]);
    host.dladm("create-veth -t -z web eth0 web0").ok();
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    host.stop_daemon();
    host.ip("netns delete web");
    eventually("the namespace died", || !host.kernel().contains_key("web0"));
    host.start_daemon();
    assert_no_trace(&host);
}

#[test]
fn a_transient_link_is_gone_with_a_detached_zone_whose_namespace_lives_on() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    host.dladm(&format!("attach-zone --pid {} guest", guest.pid())).ok();
    host.dladm("create-veth -t -z guest eth0 guest0").ok();
    host.dladm("detach-zone guest").ok();
    host.await_down("guest");
    assert_no_trace(&host);
    drop(guest);
}

#[test]
fn a_transient_link_survives_the_daemon() {
    let mut host = Host::with_zones(&["web"]);
    host.dladm("create-veth -t -z web eth0 web0").ok();
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    let before = host.everywhere();
    host.kill9_and_restart();
    assert_eq!(host.everywhere(), before);
    for link in ["web/eth0", "web/vnic0", "web0"] {
        assert!(host.field("flags", link).contains("transient"), "{link}");
    }
    host.end_zone("web");
    assert_no_trace(&host);
}

#[test]
fn a_transient_link_is_never_visible_outside_its_zone() {
    let host = Host::with_zones(&["web", "db"]);
    let log = host.dir().join("heard");
    let heard = || fs::read_to_string(&log).unwrap_or_default();
    let mut listener = host.command("ip");
    listener.args(["-o", "monitor", "link"]).stdout(fs::File::create(&log).unwrap());
    let mut listener = listener.spawn().unwrap();
    eventually("ip listens", || {
        host.ip("link add name first type bridge");
        host.ip("link delete dev first");
        heard().contains("first")
    });
    host.dladm("create-veth -t -z web -Z db eth0 eth1").ok();
    host.dladm("create-vnic -t -z web -l a vnic0").ok();
    host.ip("link add name last type bridge");
    eventually("ip heard the last", || heard().contains(": last"));
    listener.kill().unwrap();
    listener.wait().unwrap();
    assert_eq!(host.kernel_in("db"), ["eth1"]);
    let name = |line: &str| {
        let line = line.strip_prefix("Deleted ").unwrap_or(line).to_owned();
        line.split([':', '@']).nth(1).map(|name| name.trim().to_owned())
    };
    let heard = heard();
    let others: Vec<_> = heard
        .lines()
        .filter_map(name)
        .filter(|name| !["first", "last", "a", "b"].contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?} in {heard}");
}

#[test]
fn a_caller_inside_a_zone_makes_and_deletes_transient_links_for_its_own_zone() {
    let host = Host::with_zones(&["web"]);
    host.dladm("set-zone a web").ok();
    host.dladm_in("web", "create-vnic -t -l a vnic0").ok();
    host.dladm_in("web", "create-veth -t eth0 eth1").ok();
    assert_eq!(host.kernel_in("web"), ["a", "eth0", "eth1", "vnic0"]);
    host.dladm_in("web", "delete-vnic vnic0").ok();
    assert_eq!(host.kernel_in("web"), ["a", "eth0", "eth1"]);
    assert!(host.kernel().into_keys().eq(["b"]));
    host.end_zone("web");
    assert_no_trace(&host);
}

#[test]
fn a_caller_inside_a_zone_makes_nothing_elsewhere_nothing_lasting_and_nothing_over_foreign_links() {
    let host = Host::with_zones(&["web", "db"]);
    let ids = host.ids();
    host.dladm("set-zone a web").ok();
    host.dladm("set-zone b db").ok();
    let hidden = ids["b"];
    let everything = host.everywhere();
    for words in [
        "create-vnic -t -l b v0".to_owned(),
        format!("create-vnic -t -l @{hidden} v0"),
        "create-vnic -t -l db/b v0".to_owned(),
        "create-vnic -t -z db -l a v0".to_owned(),
        "create-vnic -t -z global -l a v0".to_owned(),
        "create-vnic -l a v0".to_owned(),
        "create-veth v0 v1".to_owned(),
        "create-veth -t -z db v0 v1".to_owned(),
        "create-veth -t -Z db v0 v1".to_owned(),
        "create-veth -t -Z global v0 v1".to_owned(),
        "create-veth -t v0 ../x".to_owned(),
    ] {
        let line = host.dladm_in("web", &words).error_line(1);
        assert!(!line.contains("kernel)"), "{words}: {line}");
    }
    assert_eq!(host.everywhere(), everything);
    assert_eq!((host.kernel_in("web"), host.kernel_in("db")), (vec!["a".into()], vec!["b".into()]));
}

#[test]
fn the_transient_links_of_a_zone_are_within_its_quota() {
    let mut host = Host::new();
    let config = host.dir().join("dlmgmtd.toml");
    fs::write(&config, "transient-links-per-zone = 2\n").unwrap();
    let mut command = host.daemon_command();
    command.arg("--config").arg(&config);
    host.start_daemon_as(command);
    host.add_zone("web");
    host.add_zone("db");
    host.dladm_in("web", "create-veth -t v0 v1").ok();
    host.dladm_in("web", "create-veth -t v2 v3").refused("quota");
    host.dladm_in("web", "create-vnic -t -l v0 m0").refused("quota");
    host.dladm_in("db", "create-veth -t v0 v1").ok();
    host.dladm_in("web", "delete-veth v0").ok();
    host.dladm_in("web", "create-veth -t v2 v3").ok();
    assert_eq!(host.kernel_in("web"), ["v2", "v3"]);
}

#[test]
fn a_taken_name_is_refused() {
    let host = Host::with_zones(&["web"]);
    host.dladm("create-veth -t -z web eth0 web0").ok();
    let everything = host.everywhere();
    host.dladm("create-veth -t -z web eth0 web1").refused("exists");
    host.dladm("create-veth -t -z web eth1 a").refused("exists");
    host.dladm("create-vnic -t -z web -l a eth0").refused("exists");
    host.dladm("create-vnic -t -z nosuch -l a v0").refused("no-zone");
    assert_eq!(host.everywhere(), everything);
    assert_eq!(host.kernel_in("web"), ["eth0"]);
}

#[test]
fn persistent_links_are_made_and_deleted_in_the_global_zone() {
    let mut host = Host::with_zones(&[]);
    host.dladm("create-vnic -l a vnic0").ok();
    host.dladm("create-veth veth0 veth1").ok();
    let made = host.agreed();
    host.kill9_and_restart();
    assert_eq!(host.agreed(), made);
    host.dladm("delete-veth vnic0").error_line(1);
    host.dladm("delete-vnic vnic0").ok();
    host.dladm("delete-veth veth1").ok();
    host.kill9_and_restart();
    assert_no_trace(&host);
}
