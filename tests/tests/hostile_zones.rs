//! Callers inside zones, who see and touch their own links alone: SPEC.md rule 3.6.

use dlmgmt_tests::{Host, eventually};

/// `web` has `a`, `db` has `b`, and `home` is nobody's but the global zone's.
fn divided() -> Host {
    let host = Host::with_zones(&["web", "db"]);
    host.ip("link add name home type bridge");
    host.id_when_known("home");
    host.dladm("set-zone a web").ok();
    host.dladm("set-zone b db").ok();
    host
}

/// The stable name in an error line.
fn reason(line: &str) -> &str {
    line.rsplit_once('(').map_or("", |(_, reason)| reason)
}

#[test]
fn a_caller_inside_a_zone_sees_its_own_links_alone() {
    let host = divided();
    for words in ["", "-Z", "-P -Z", "-z web"] {
        let shown = host.dladm_in("web", &format!("show-link {words} -p -o link")).ok();
        assert!(["", "a\n"].contains(&shown.as_str()), "{words}: {shown}");
    }
    assert_eq!(host.dladm_in("web", "show-link -p -o link").ok(), "a\n");
    assert_eq!(host.dladm_in("web", "show-zone -p -o zone").ok(), "web\n");
}

#[test]
fn what_a_caller_may_not_see_is_answered_like_what_is_not_there() {
    let host = divided();
    let ids = host.everywhere();
    let (hidden, home) = (ids["db/b"], ids["global/home"]);
    let ids = [format!("@{hidden}"), format!("@{home}")];
    let there = ["b", "db/b", "home", "global/home", &ids[0], &ids[1]];
    let absent = ["nosuch", "no/such", "nosuch", "no/such", "@4000000", "@4000000"];
    for (there, absent) in there.into_iter().zip(absent) {
        for command in ["show-link", "where"] {
            let answer = |link| host.dladm_in("web", &format!("{command} {link}")).error_line(1);
            assert_eq!(reason(&answer(there)), reason(&answer(absent)), "{there}");
        }
    }
    let other = host.dladm_in("web", "show-link -z db").error_line(1);
    let absent = host.dladm_in("web", "show-link -z nosuch").error_line(1);
    assert_eq!(reason(&other), reason(&absent));
    host.dladm_in("web", "show-zone db").error_line(1);
}

#[test]
fn a_caller_inside_a_zone_changes_nothing_of_others() {
    let host = divided();
    let everything = host.everywhere();
    let hidden = everything["db/b"];
    for words in [
        "rename-link b c".to_owned(),
        "rename-link a c".to_owned(),
        format!("rename-link @{hidden} c"),
        "rename-link db/b c".to_owned(),
        format!("set-zone @{hidden} web"),
        "set-zone a db".to_owned(),
        "reset-zone a".to_owned(),
        format!("reclaim @{hidden}"),
        "delete-veth db/b".to_owned(),
        "delete-veth a".to_owned(),
        "detach-zone db".to_owned(),
        "detach-zone web".to_owned(),
        "attach-zone --netns /run/netns/web mine".to_owned(),
        "attach-zone --netns /proc/self/ns/net mine".to_owned(),
        "attach-zone --pid 1 mine".to_owned(),
        "hold db/b -- true".to_owned(),
        "export".to_owned(),
    ] {
        let line = host.dladm_in("web", &words).error_line(1);
        let reasons = ["denied)", "not-found)", "no-zone)"];
        assert!(reasons.contains(&reason(&line)), "{words}: {line}");
    }
    assert_eq!(host.everywhere(), everything);
    assert_eq!(host.dladm("show-zone -p -o zone").ok(), "global\nweb\ndb\n");
}

#[test]
fn a_caller_inside_a_zone_is_told_of_its_own_links_alone() {
    let host = divided();
    let monitor = host.monitor_in("web", "");
    eventually("the monitor tells changes", || {
        host.ip_in("web", "link add name marker type bridge");
        host.ip_in("web", "link delete dev marker");
        !monitor.so_far().is_empty()
    });
    host.dladm("rename-link home house").ok();
    host.ip_in("db", "link set dev b mtu 1300");
    eventually("dladm knows it", || host.field("mtu", "db/b") == "1300");
    host.add_zone("late");
    host.ip_in("web", "link set dev a mtu 1200");
    loop {
        let line = monitor.wait_for("anything", |_| true);
        assert!(line.contains(" marker ") || line.contains(" a "), "{line}");
        if line.contains(" mtu=1200 ") {
            return;
        }
    }
}

#[test]
fn a_caller_whose_namespace_is_no_zone_gets_nothing() {
    let host = divided();
    let guest = host.guest();
    let mut command = host.command("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", guest.pid()));
    command.arg(dlmgmt_tests::bin("dladm")).arg("--door").arg(host.door()).arg("show-link");
    dlmgmt_tests::Output::from(command.output().unwrap()).refused("no-zone");
}

#[test]
fn an_open_connection_keeps_no_zone_alive() {
    let host = Host::with_zones(&[]);
    let guest = host.guest();
    let pid = guest.pid();
    host.ip(&format!("link add name probe type veth peer name inside netns {pid}"));
    host.dladm(&format!("attach-zone --pid {pid} guest")).ok();
    let mut inside = host.command("nsenter");
    inside.arg(format!("--net=/proc/{pid}/ns/net"));
    inside.arg(dlmgmt_tests::bin("dladm")).arg("--door").arg(host.door()).arg("monitor");
    let mut inside = inside.stderr(std::process::Stdio::null()).spawn().unwrap();
    guest.kill();
    host.await_down("guest");
    inside.wait().unwrap();
    eventually("the namespace died", || !host.kernel().contains_key("probe"));
}
