//! How zones appear and end: SPEC.md section 6.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::time::Duration;

use dlmgmt_proto::ZoneName;
use dlmgmt_proto::door::AttachZone;
use dlmgmt_tests::{Host, eventually};
use libdlmgmt::Client;

fn attach(zone: &str) -> AttachZone {
    AttachZone { zone: ZoneName::new(zone).unwrap(), pid: None, path: None }
}

#[test]
fn a_zone_appears_and_ends_with_its_name_in_a_watched_directory() {
    let host = Host::with_zones(&["web"]);
    assert_eq!(host.zone_field("netns", "web"), "/run/netns/web");
    host.end_zone("web");
}

#[test]
fn several_directories_are_watched() {
    let host = Host::with_zones(&["web"]);
    let (guest, name) = (host.guest(), host.netns_dir().join("db"));
    fs::write(&name, "").unwrap();
    host.sh(&format!("mount --bind /proc/{}/ns/net {}", guest.pid(), name.display()));
    host.await_ready("db");
    assert!(host.is_ready("web"));
    host.sh(&format!("umount {}", name.display()));
    host.await_down("db");
    assert!(host.is_ready("web"));
}

#[test]
fn an_empty_file_is_no_zone_until_a_namespace_is_mounted_on_it() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    host.sh("touch /run/netns/half");
    host.add_zone("later");
    assert!(!host.zones().contains_key("half"));
    host.sh(&format!("mount --bind /proc/{}/ns/net /run/netns/half", guest.pid()));
    host.await_ready("half");
}

#[test]
fn a_zone_is_attached_by_path_and_detached_while_its_namespace_lives_on() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    let id = host.ids()["a"];
    host.dladm(&format!("attach-zone --netns /proc/{}/ns/net guest", guest.pid())).ok();
    host.await_ready("guest");
    host.dladm("set-zone a guest").ok();
    assert_eq!(host.everywhere()["guest/a"], id);
    host.dladm("detach-zone guest").ok();
    host.await_down("guest");
    assert_eq!(host.agreed()["a"].0, id);
    host.ip(&format!("link set dev b netns {}", guest.pid()));
}

#[test]
fn a_zone_attached_by_pid_ends_with_the_process() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    host.dladm(&format!("attach-zone --pid {} guest", guest.pid())).ok();
    host.await_ready("guest");
    assert_eq!(host.zone_field("pid", "guest"), guest.pid().to_string());
    guest.kill();
    host.await_down("guest");
}

#[test]
fn a_process_that_ends_while_it_is_attached_leaves_no_zone() {
    let host = Host::with_zones(&[]);
    host.with_client(|door| {
        for round in 0..60 {
            let guest = host.guest();
            // The namespace lives on, so that nobody but the process tells the end.
            let _open = File::open(format!("/proc/{}/ns/net", guest.pid())).unwrap();
            let pid = Some(guest.pid().cast_signed());
            let call = AttachZone { pid, ..attach(&format!("guest{round}")) };
            std::thread::scope(|scope| {
                // Refused or not, nothing is to be left.
                scope.spawn(|| door.attach_zone(call, None));
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(200 * round));
                    guest.kill();
                });
            });
        }
    });
    eventually("no zone is left", || host.zones().into_keys().eq(["global".to_owned()]));
}

#[test]
fn a_zone_attached_by_a_descriptor_ends_when_the_kernel_says_that_its_namespace_is_gone() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    let namespace = File::open(format!("/proc/{}/ns/net", guest.pid())).unwrap();
    host.with_client(|door| door.attach_zone(attach("guest"), Some(namespace.as_fd()))).unwrap();
    host.await_ready("guest");
    drop(namespace);
    guest.kill();
    host.await_down("guest");
}

#[test]
fn a_descriptor_that_is_no_namespace_is_refused() {
    let host = Host::with_zones(&[]);
    let zones = host.zones();
    for path in ["/dev/null", "/proc/self/ns/mnt", "/run", "/proc/self/exe"] {
        let descriptor = File::open(path).unwrap();
        let call = |door: &Client| door.attach_zone(attach("bad"), Some(descriptor.as_fd()));
        let refusal = host.with_client(call).unwrap_err().to_string();
        assert!(refusal.contains("bad"), "{path}: {refusal}");
    }
    assert_eq!(host.zones(), zones);
}

#[test]
fn what_a_client_opened_is_the_zone_whatever_lies_at_its_path_for_the_daemon() {
    let host = Host::with_zones(&[]);
    let (meant, other) = (host.guest(), host.guest());
    let place = host.dir().join("place").display().to_string();
    host.sh(&format!("touch {place} && mount --bind /proc/{}/ns/net {place}", other.pid()));
    let namespace = File::open(format!("/proc/{}/ns/net", meant.pid())).unwrap();
    let call = AttachZone { path: Some(place), ..attach("guest") };
    host.with_client(|door| door.attach_zone(call, Some(namespace.as_fd()))).unwrap();
    host.dladm("set-zone a guest").ok();
    assert_eq!(host.kernel_of(&meant), ["a"]);
    assert!(host.kernel_of(&other).is_empty());
}

#[test]
fn a_namespace_with_two_names_is_a_zone_by_the_second_when_the_first_is_taken_away() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    host.sh("cd /run/netns; touch other; mount --bind web other");
    host.end_zone("web");
    host.await_ready("other");
    host.await_at("global/a", id);
    host.dladm("set-zone a other").ok();
    assert_eq!(host.kernel_in("other"), ["a"]);
}

#[test]
fn a_place_that_is_no_namespace_is_refused() {
    let host = Host::with_zones(&["web"]);
    let zones = host.zones();
    symlink("/run/netns/web", host.dir().join("link")).unwrap();
    let link = host.dir().join("link").display().to_string();
    for place in ["/dev/null", "/run/netns", "/no/such", "/proc/self/ns/uts", &link] {
        host.dladm_args(["attach-zone", "--netns", place, "bad"]).error_line(1);
    }
    for name in ["../x", ".x", "-x", "a/b", "global", "a b"] {
        host.dladm_args(["attach-zone", "--netns", "/run/netns/web", "--", name]).error_line(1);
    }
    assert_eq!(host.zones(), zones);
}

#[test]
fn a_namespace_is_one_zone_and_a_zone_one_namespace() {
    let host = Host::with_zones(&["web"]);
    let guest = host.guest();
    let by_path = host.dladm("attach-zone --netns /run/netns/web other").refused("exists");
    assert!(by_path.contains("zone web"), "{by_path}");
    let by_pid = host.dladm(&format!("attach-zone --pid {} web", guest.pid())).refused("exists");
    assert!(by_pid.contains("zone web"), "{by_pid}");
    let own = host.dladm("attach-zone --netns /proc/self/ns/net other").refused("exists");
    assert!(own.contains("zone global"), "{own}");
    assert_eq!(host.dladm("show-zone -p -o zone").ok(), "global\nweb\n");
}

#[test]
fn a_zone_keeps_its_zoneid_for_its_name() {
    let mut host = Host::with_zones(&["web", "db"]);
    let web = host.zone_field("zoneid", "web");
    assert_ne!(web, host.zone_field("zoneid", "db"));
    host.end_zone("web");
    host.add_zone("other");
    host.add_zone("web");
    assert_eq!(host.zone_field("zoneid", "web"), web);
    host.kill9_and_restart();
    host.await_ready("web");
    assert_eq!(host.zone_field("zoneid", "web"), web);
    host.stop_daemon();
    host.ip("netns delete web");
    host.start_daemon();
    host.await_down("web");
    host.add_zone("web");
    assert_eq!(host.zone_field("zoneid", "web"), web);
}

#[test]
fn links_of_a_zone_are_shown_as_asked_for() {
    let host = Host::with_zones(&["web"]);
    host.ip_in("web", "link add name inside type bridge");
    eventually("dladm lists it", || host.everywhere().contains_key("web/inside"));
    let shown = |words: &str| host.dladm(&format!("show-link -p -o link {words}")).ok();
    assert_eq!(shown("-z web"), "inside\n");
    assert_eq!(shown("web/inside"), "inside\n");
    assert_eq!(shown(""), "a\nb\n");
    assert_eq!(shown("-Z"), "a\nb\ninside\n");
    assert_eq!(host.field("zone", "web/inside"), "web");
    host.dladm("show-link inside").refused("not-found");
    host.dladm("show-link -z nosuch").refused("no-zone");
    assert_eq!(host.zone_field("links", "web"), "1");
}

#[test]
fn the_monitor_tells_zones_that_come_and_go() {
    let host = Host::with_zones(&[]);
    let monitor = host.monitor("");
    host.add_zone("web");
    monitor.wait_for("the zone", |line| line.contains(" zone-ready web "));
    host.ip_in("web", "link add name inside type bridge");
    monitor.wait_for("a link in it", |line| line.contains(" added inside "));
    host.ip("netns delete web");
    monitor.wait_for("its last hour", |line| line.contains(" zone-shutting-down web "));
    monitor.wait_for("that of its link", |line| line.contains(" detaching inside "));
    monitor.wait_for("its end", |line| line.contains(" zone-gone web "));
}

/// The namespaces hold one end of a veth each; the other, at home, vanishes with the namespace and
/// not before. The kernel gives up a namespace's number (nsid) when that namespace dies, and not
/// before.
fn watching_pins_nothing_for(count: usize) {
    let mut host = Host::new();
    let for_each = |words: &str| format!("for i in $(seq {count}); do {words}; done");
    host.start_daemon();
    let own = host.numbered_namespaces();
    host.sh(&for_each("ip netns add z$i"));
    let pairs = for_each("echo link add name p$i type veth peer name inside netns z$i");
    host.sh(&format!("{pairs} | ip -batch -"));
    eventually("all are zones", || {
        host.zones().values().filter(|s| *s == "ready").count() == count + 1
    });
    assert_eq!(host.kernel().len(), count);
    assert!(host.numbered_namespaces() > own);
    host.sh(&format!("cd /run/netns; {}", for_each("umount z$i; rm z$i")));
    eventually("all namespaces died", || {
        host.kernel().is_empty() && host.numbered_namespaces() == own
    });
    eventually("dladm knows it", || host.everywhere().is_empty());
}

#[test]
fn watching_does_not_keep_a_namespace_alive() {
    watching_pins_nothing_for(1);
}

#[test]
fn watching_does_not_keep_five_hundred_namespaces_alive() {
    watching_pins_nothing_for(500);
}

#[test]
fn a_namespace_dies_when_its_last_process_exits_however_it_became_a_zone() {
    let host = Host::with_zones(&[]);
    let (by_path, by_pid) = (host.guest(), host.guest());
    for guest in [&by_path, &by_pid] {
        let pid = guest.pid();
        host.ip(&format!("link add name p{pid} type veth peer name inside netns {pid}"));
    }
    host.dladm(&format!("attach-zone --netns /proc/{}/ns/net path", by_path.pid())).ok();
    host.dladm(&format!("attach-zone --pid {} pid", by_pid.pid())).ok();
    host.await_ready("path");
    host.await_ready("pid");
    by_path.kill();
    by_pid.kill();
    host.await_down("path");
    host.await_down("pid");
    eventually("their namespaces died", || host.kernel().keys().eq(["a", "b"]));
}

#[test]
fn what_else_lies_in_a_watched_directory_is_ignored() {
    let host = Host::with_zones(&["web"]);
    let guest = host.guest();
    let long = "n".repeat(64);
    host.sh(&format!(
        "cd /run/netns; ln -s /run/netns/web symlink; ln -s /no/such dangling; ln -s loop loop; \
         ln -s /proc/{pid}/ns/net magic; mkfifo fifo; echo text > plain; mkdir directory; \
         mknod device c 1 3; touch unreadable; chmod 0 unreadable; \
         for bad in .hidden -dash 'a b' {long} global 'new\nline'; do \
         touch ./\"$bad\"; mount --bind /proc/{pid}/ns/net ./\"$bad\"; done",
        pid = guest.pid()
    ));
    host.add_zone("after");
    let zones: Vec<_> = host.zones().into_keys().collect();
    assert_eq!(zones, ["after", "global", "web"]);
}
