//! What others do to links: SPEC.md rules 3.2 and 3.5.

use dlmgmt_tests::{Host, eventually};
use serde_json::Value;

#[test]
fn a_rename_by_others_shows_in_dladm_and_monitor_with_the_linkid_unchanged() {
    let host = Host::with_links(&["a"]);
    let id = host.ids()["a"];
    let monitor = host.monitor("");
    host.ip("link set dev a name b");
    let line = monitor.wait_for("the rename", |line| line.contains(" renamed "));
    assert!(line.contains(" renamed b from=a "), "{line}");
    assert!(line.contains(&format!(" linkid={id} ")), "{line}");
    eventually("dladm shows the rename", || host.ids().get("b") == Some(&id));
    assert_eq!(host.ids().len(), 1);
}

#[test]
fn links_that_come_and_go_show_in_dladm_and_monitor() {
    let host = Host::with_links(&[]);
    let monitor = host.monitor("");
    host.ip("link add name a type bridge");
    let line = monitor.wait_for("the new link", |line| line.contains(" added a "));
    let id = host.id_when_known("a");
    assert!(line.contains(&format!(" linkid={id} ")), "{line}");
    host.ip("link delete dev a");
    monitor.wait_for("its end", |line| line.contains(&format!(" gone a linkid={id} ")));
    eventually("dladm shows its end", || host.ids().is_empty());
}

#[test]
fn a_linkid_is_never_given_again() {
    let mut host = Host::with_links(&["a"]);
    let first = host.ids()["a"];
    host.ip("link delete dev a");
    eventually("dladm shows its end", || host.ids().is_empty());
    host.ip("link add name a type bridge");
    let second = host.id_when_known("a");
    assert_ne!(first, second);
    host.ip("link delete dev a");
    eventually("dladm shows its end", || host.ids().is_empty());
    host.kill9_and_restart();
    host.ip("link add name a type bridge");
    let third = host.id_when_known("a");
    assert!(third != first && third != second);
}

#[test]
fn state_and_mtu_changes_show_in_dladm_and_monitor() {
    let mut host = Host::new();
    host.ip("link add name v0 type veth peer name v1");
    host.start_daemon();
    let id = host.ids()["v0"];
    let monitor = host.monitor("");
    host.ip("link set dev v0 mtu 1400");
    let line = monitor.wait_for("the MTU", |line| line.contains(" mtu=1400 "));
    assert!(line.contains(" changed v0 "), "{line}");
    eventually("dladm shows the MTU", || host.field("mtu", "v0") == "1400");

    host.ip("link set dev v0 up");
    host.ip("link set dev v1 up");
    monitor.wait_for("that it is up", |line| line.contains(" v0 ") && line.contains(" state=up"));
    eventually("dladm shows that it is up", || host.field("state", "v0") == "up");
    host.ip("link set dev v1 down");
    monitor
        .wait_for("that it is down", |line| line.contains(" v0 ") && line.contains(" state=down"));
    eventually("dladm shows that it is down", || host.field("state", "v0") == "down");
    assert_eq!(host.ids()["v0"], id);
}

#[test]
fn what_happened_while_the_daemon_was_away_shows_when_it_is_back() {
    let mut host = Host::with_links(&["a", "b", "c"]);
    let before = host.agreed();
    host.stop_daemon();
    host.ip("link set dev a name renamed");
    host.ip("link delete dev b");
    host.ip("link add name d type bridge");
    host.ip("link set dev c mtu 1400");
    host.start_daemon();
    let after = host.agreed();
    assert_eq!(after["renamed"], before["a"]);
    assert_eq!(after["c"], before["c"]);
    assert!(before.values().all(|(id, _)| *id != after["d"].0));
    assert_eq!(after.len(), 3);
    assert_eq!(host.field("mtu", "c"), "1400");
}

#[test]
fn links_that_others_swap_keep_their_linkids() {
    let host = Host::with_links(&["a", "b"]);
    let before = host.ids();
    host.sh("ip link set dev a name t; ip link set dev b name a; ip link set dev t name b");
    eventually("dladm shows the swap", || {
        let now = host.ids();
        now.get("a") == before.get("b") && now.get("b") == before.get("a")
    });
}

#[test]
fn after_a_storm_dladm_shows_what_the_kernel_has() {
    let host = Host::with_links(&["keep"]);
    let id = host.ids()["keep"];
    host.sh("for i in $(seq 300); do echo link add name s$i type bridge; done | ip -batch -; \
         for i in $(seq 300); do echo link set dev s$i name r$i mtu 1400; done | ip -batch -; \
         for i in $(seq 1 2 300); do echo link delete dev r$i; done | ip -batch -");
    eventually("dladm shows all of it", || {
        let shown = host.dladm("show-link -p -o link -Z").ok();
        let mut shown: Vec<&str> = shown.lines().collect();
        shown.sort_unstable();
        shown == host.kernel().keys().map(String::as_str).collect::<Vec<_>>()
    });
    assert_eq!(host.agreed()["keep"].0, id);
}

#[test]
fn monitor_tells_a_rename_by_dladm_in_json_lines() {
    let host = Host::with_links(&["a"]);
    let id = host.ids()["a"];
    let monitor = host.monitor("--json");
    host.dladm("rename-link a b").ok();
    let line = monitor.wait_for("the rename", |line| line.contains("renamed"));
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], "renamed");
    assert_eq!((&event["from"], &event["link"]), (&Value::from("a"), &Value::from("b")));
    assert_eq!(event["linkid"], id);
    assert!(event["seq"].is_u64());
}

#[test]
fn monitor_tells_a_rename_once() {
    let host = Host::with_links(&["a"]);
    let monitor = host.monitor("");
    host.dladm("rename-link a b").ok();
    host.dladm("rename-link b c").ok();
    monitor.wait_for("the first rename", |line| line.contains(" renamed b from=a "));
    let next = monitor.wait_for("the second rename", |line| line.contains(" renamed "));
    assert!(next.contains(" renamed c from=b "), "{next}");
}

#[test]
fn events_come_in_the_order_of_their_numbers() {
    let host = Host::with_links(&["a"]);
    let monitor = host.monitor("");
    let seq = |line: &str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let mut last = 0;
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
        host.dladm(&format!("rename-link {from} {to}")).ok();
        let line = monitor.wait_for("the rename", |line| line.contains(&format!("from={from} ")));
        assert!(seq(&line) > last, "{line}");
        last = seq(&line);
    }
}

#[test]
fn monitor_since_tells_all_events_after_that_one() {
    let host = Host::with_links(&["a"]);
    let monitor = host.monitor("");
    host.dladm("rename-link a b").ok();
    let first = monitor.wait_for("the first rename", |line| line.contains(" renamed b "));
    drop(monitor);
    host.dladm("rename-link b c").ok();
    host.dladm("rename-link c d").ok();

    let seq = first.split(' ').next().unwrap();
    let later = host.monitor_unmarked(&format!("--since {seq}"));
    let second = later.wait_for("anything", |_| true);
    assert!(second.contains(" renamed c from=b "), "{second}");
    later.wait_for("the third rename", |line| line.contains(" renamed d from=c "));
}

#[test]
fn monitor_since_what_is_no_longer_kept_tells_to_resynchronise() {
    let mut host = Host::with_links(&["a"]);
    let monitor = host.monitor("");
    host.dladm("rename-link a b").ok();
    let line = monitor.wait_for("the rename", |line| line.contains(" renamed b "));
    let seq = line.split(' ').next().unwrap().to_owned();
    drop(monitor);
    host.kill9_and_restart();
    let later = host.monitor_unmarked(&format!("--since {seq}"));
    let line = later.wait_for("anything", |_| true);
    assert!(line.ends_with(" resync"), "{line}");
}

#[test]
fn monitor_ends_when_the_daemon_does() {
    let mut host = Host::with_links(&[]);
    let monitor = host.monitor("");
    host.stop_daemon();
    assert_eq!(monitor.wait_for_end(), Some(3));
}
