//! The daemon as a service: what it asks of the service manager and gets back. The manager is
//! played by the test, by the protocols that systemd documents.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dlmgmt_proto::ZoneName;
use dlmgmt_proto::door::AttachZone;
use dlmgmt_tests::{Guest, Host, Output, ServiceManager, eventually};
use rustix::process::Signal;

/// A host with a pair of veths, `a` and `b`, these zones, and a daemon that is a service.
fn service(zones: &[&str]) -> (Host, ServiceManager) {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    let manager = ServiceManager::new(&host);
    host.start_daemon_as(manager.command(&host));
    zones.iter().for_each(|zone| host.add_zone(zone));
    (host, manager)
}

fn restart(host: &mut Host, manager: &ServiceManager) {
    host.stop_daemon();
    host.start_daemon_as(manager.command(host));
}

/// Registers a guest's namespace as a zone by nothing but a descriptor.
fn attach_descriptor(host: &Host, guest: &Guest, zone: &str) {
    let namespace = fs::File::open(format!("/proc/{}/ns/net", guest.pid())).unwrap();
    let call = AttachZone { zone: ZoneName::new(zone).unwrap(), pid: None, path: None };
    host.with_client(|door| door.attach_zone(call, Some(namespace.as_fd()))).unwrap();
}

/// Somebody who has a guest's namespace open, and is not in it.
fn keeper_of(host: &Host, guest: &Guest) -> Guest {
    let script = format!("exec 7</proc/{}/ns/net; echo ready; exec sleep infinity", guest.pid());
    host.saying_ready(&["sh", "-c", &script])
}

#[test]
fn the_service_manager_hears_of_the_start_the_reload_and_the_end() {
    let (mut host, manager) = service(&[]);
    eventually("it is ready", || manager.times("READY=1") == 1);
    reload(&host);
    eventually("it is ready again", || manager.times("READY=1") == 2);
    host.stop_daemon();
    eventually("it stopped", || manager.times("STOPPING=1") == 1);
    let said = manager.said();
    let at = |line: &str| said.iter().position(|said| said.starts_with(line)).unwrap();
    assert!(at("READY=1") < at("RELOADING=1") && at("RELOADING=1") < at("MONOTONIC_USEC="));
}

#[test]
fn life_is_told_again_and_again_where_the_service_manager_wants_to_hear_of_it() {
    let mut host = Host::new();
    let mut manager = ServiceManager::new(&host);
    manager.watch(Duration::from_millis(30));
    host.start_daemon_as(manager.command(&host));
    eventually("it tells of life", || manager.times("WATCHDOG=1") > 3);
}

#[test]
fn a_namespace_with_a_loan_is_kept_until_the_loan_is_home() {
    let (host, manager) = service(&["web", "db"]);
    assert!(manager.kept().is_empty());
    host.dladm("set-zone -t a web").ok();
    manager.await_kept(&["web"]);
    host.dladm("set-zone -t b db").ok();
    manager.await_kept(&["db", "web"]);
    host.dladm("reset-zone web/a").ok();
    manager.await_kept(&["db"]);
    host.end_zone("db");
    manager.await_kept(&[]);
}

#[test]
fn a_restart_keeps_zones_loans_and_transient_links() {
    let (mut host, manager) = service(&["web"]);
    let guest = host.guest_zone("box");
    host.dladm("set-zone -n eth0 a web").ok();
    host.dladm("set-zone -t b box").ok();
    host.dladm("create-veth -t -z box eth1 box1").ok();
    let (before, zones) = (host.everywhere(), host.zones());
    restart(&mut host, &manager);
    assert_eq!((host.everywhere(), host.zones()), (before, zones));
    manager.await_kept(&["box", "web"]);
    drop(guest);
    host.await_down("box");
    eventually("what was transient is gone", || !host.kernel().contains_key("box1"));
    host.dladm("reset-zone web/eth0").ok();
    manager.await_kept(&[]);
    host.agreed();
}

#[test]
fn a_loan_comes_home_as_it_was_from_a_zone_whose_name_ended_during_a_restart() {
    let (mut host, manager) = service(&["web"]);
    host.ip("link set dev a mtu 1400 up");
    let (id, attire) = (host.ids()["a"], host.attire("a"));
    host.dladm("set-zone -n eth0 a web").ok();
    host.dladm("create-vnic -t -z web -l b vnic0").ok();
    host.stop_daemon();
    host.ip("netns delete web");
    host.start_daemon_as(manager.command(&host));
    assert_eq!((host.ids()["a"], host.attire("a")), (id, attire));
    assert_eq!(host.zones()["web"], "down");
    manager.await_kept(&[]);
    eventually("no link is anywhere else", || host.everywhere().len() == 2);
    host.agreed();
}

#[test]
fn a_loan_goes_on_to_a_zone_that_took_the_name_of_its_own_during_a_restart() {
    let (mut host, manager) = service(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone -n eth0 a web").ok();
    host.stop_daemon();
    host.ip("netns delete web");
    host.ip("netns add web");
    host.start_daemon_as(manager.command(&host));
    host.await_at("web/eth0", id);
    assert_eq!(host.kernel_in("web"), ["eth0"]);
    manager.await_kept(&["web"]);
    host.end_zone("web");
    host.await_at("global/a", id);
}

#[test]
fn a_loan_comes_home_from_a_zone_whose_process_exited_during_a_restart() {
    let (mut host, manager) = service(&[]);
    let (id, guest) = (host.ids()["a"], host.guest_zone("box"));
    host.dladm("set-zone a box").ok();
    host.kill9();
    guest.kill();
    host.start_daemon_as(manager.command(&host));
    assert_eq!(host.ids()["a"], id);
    manager.await_kept(&[]);
    host.agreed();
}

#[test]
fn a_zone_that_only_a_descriptor_was_passed_of_is_found_again_though_no_process_is_in_it() {
    let (mut host, manager) = service(&[]);
    let (id, guest) = (host.ids()["a"], host.guest());
    attach_descriptor(&host, &guest, "box");
    manager.await_kept(&["box"]);
    host.dladm("set-zone a box").ok();
    let keeper = keeper_of(&host, &guest);
    guest.kill();
    restart(&mut host, &manager);
    assert!(host.is_ready("box"));
    assert_eq!(host.everywhere()["box/a"], id);
    keeper.kill();
    host.await_down("box");
    assert_eq!(host.ids()["a"], id);
    manager.await_kept(&[]);
}

#[test]
fn a_zone_that_only_a_descriptor_was_passed_of_ends_during_a_restart_with_who_had_it() {
    let (mut host, manager) = service(&[]);
    let (id, guest) = (host.ids()["a"], host.guest());
    attach_descriptor(&host, &guest, "box");
    host.dladm("set-zone a box").ok();
    host.stop_daemon();
    guest.kill();
    host.start_daemon_as(manager.command(&host));
    // A process that this one just forks has what the manager keeps open as well, until it executes
    // its command: for that long the zone has a user.
    host.await_down("box");
    assert_eq!((host.ids()["a"], host.zones()["box"].as_str()), (id, "down"));
    manager.await_kept(&[]);
}

#[test]
fn the_door_that_the_service_manager_opened_outlives_the_daemon() {
    let mut host = Host::with_links(&[]);
    host.stop_daemon();
    let mut manager = ServiceManager::new(&host);
    manager.open_door(&host);
    // Who knocks before the daemon is there is served as soon as it is.
    let mut early = host.dladm_command().arg("show-zone").stdout(Stdio::null()).spawn().unwrap();
    host.start_daemon_as(manager.command(&host));
    assert!(early.wait().unwrap().success());
    restart(&mut host, &manager);
    host.stop_daemon();
    assert!(host.door().exists());
}

fn reload(host: &Host) {
    host.signal_daemon(Signal::HUP);
}

/// A host whose daemon has a configuration file; its command line says nothing of zones.
fn configured(text: &str) -> Host {
    let mut host = Host::new();
    host.configure(text);
    let mut command = host.command(dlmgmt_tests::bin("dlmgmtd"));
    command.arg("--config").arg(host.dir().join("dlmgmtd.toml"));
    command.arg("--state-dir").arg(host.dir().join("state"));
    command.arg("--runtime-dir").arg(host.dir().join("run"));
    command.args(["--bus", "none", "--foreground"]);
    host.start_daemon_as(command);
    host
}

#[test]
fn a_reload_takes_other_directories_and_limits() {
    let host = configured("netns-dirs = [\"/run/netns\"]");
    host.add_zone("web");
    host.sh("mkdir /run/others && touch /run/others/db && unshare --net=/run/others/db true");
    host.dladm_in("web", "create-veth -t v0 v1").ok();
    host.configure("netns-dirs = [\"/run/netns\", \"/run/others\"]\ntransient-links-per-zone = 2");
    reload(&host);
    host.await_ready("db");
    host.dladm_in("web", "create-veth -t v2 v3").refused("quota");
    host.configure("netns-dirs = [\"/run/others\"]");
    reload(&host);
    host.await_down("web");
    assert!(host.is_ready("db"));
}

#[test]
fn a_wrong_configuration_is_refused_by_name_and_the_one_before_stays() {
    let host = configured("netns-dirs = [\"/run/netns\"]\ntransient-links-per-zone = 0");
    host.add_zone("web");
    for wrong in ["netns-dirs = 3", "netns-dris = []", "transient-links-per-zone = -1", "="] {
        host.configure(wrong);
        let before = host.log().len();
        reload(&host);
        let told = || host.log()[before..].contains("dlmgmtd.toml is wrong: ");
        eventually("the log tells why", told);
    }
    assert!(host.is_ready("web"));
    host.dladm_in("web", "create-veth -t v2 v3").refused("quota");
}

#[test]
fn names_made_on_the_host_appear_and_end_in_a_service_with_a_mount_tree_of_its_own() {
    let mut host = Host::new();
    host.sh("mount --make-rshared /");
    let mut command = host.command("unshare");
    command.args(["--mount", "--propagation", "slave", "--"]).arg(dlmgmt_tests::bin("dlmgmtd"));
    host.add_daemon_args(&mut command);
    host.ip("netns add before");
    host.start_daemon_as(command);
    host.await_ready("before");
    let namespaces = host.numbered_namespaces();
    host.add_zone("web");
    host.end_zone("web");
    eventually("its namespace does not live on", || host.numbered_namespaces() == namespaces);
    host.end_zone("before");
    eventually("nor does the other", || host.numbered_namespaces() == namespaces - 1);
}

/// A unit of the project, and systemd's word on it; nothing where systemd is not there.
fn analyze(words: &[&str], unit: &str) -> Option<Output> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let mut command = Command::new("systemd-analyze");
    command.args(words).arg("--no-pager").arg(units.join(unit));
    match command.output() {
        Ok(output) => Some(output.into()),
        Err(why) => {
            println!("skipped: systemd-analyze: {why}");
            None
        }
    }
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    for unit in ["dlmgmtd.service", "dlmgmtd.socket"] {
        let Some(output) = analyze(&["verify", "--man=no"], unit) else { return };
        // The daemon need not be installed where it is tested.
        let is_absent =
            |line: &&str| line.ends_with("is not executable: No such file or directory");
        let said: Vec<&str> = output.stderr.lines().filter(|line| !is_absent(line)).collect();
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn the_service_is_rated_3_0_or_better() {
    let Some(output) =
        analyze(&["security", "--offline=true", "--threshold=30"], "dlmgmtd.service")
    else {
        return;
    };
    assert_eq!(output.status, 0, "{}", output.stdout);
}
