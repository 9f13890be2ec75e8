//! Callers inside zones, who see and touch their own links alone: SPEC.md rule 3.6.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use dlmgmt_proto::door::{
    AttachZone, Command, CreateLink, GetLink, Hello, Kind, RenameItem, Subscribe, VERSION, encode,
};
use dlmgmt_proto::{ErrorCode, LinkSpec, ZoneName};
use dlmgmt_tests::{Guest, Host, Output, bin, eventually};
use libdlmgmt::{Client, ClientError};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

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

/// The kernel moves no link to where one of its alternative names is taken.
#[test]
fn a_zone_cannot_keep_a_loan_by_giving_it_names_that_are_taken_at_home() {
    let host = divided();
    let id = host.everywhere()["web/a"];
    let long = "longer-than-any-name-of-its-own";
    host.ip(&format!("link property add dev home altname {long}"));
    for name in ["home", long] {
        host.ip_in("web", &format!("link property add dev a altname {name}"));
    }
    host.end_zone("web");
    assert_eq!(host.everywhere()["global/a"], id);
    assert!(host.kernel().contains_key("a"));
}

#[test]
fn a_caller_whose_namespace_is_no_zone_gets_nothing() {
    let host = divided();
    let guest = host.guest();
    let mut command = host.command("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", guest.pid()));
    command.arg(bin("dladm")).arg("--door").arg(host.door()).arg("show-link");
    Output::from(command.output().unwrap()).refused("no-zone");
}

/// In a pid namespace of its own, where numbers are used again at will. The daemon stands still, or
/// is dead, while the process of its zone ends and another one gets its number.
const NUMBERS_USED_AGAIN: &str = r#"
    start() { "$@" & daemon=$!; until dladm show-link > /dev/null 2>&1; do sleep 0.01; done; }
    same_number_again() {
        kill -KILL $guest; wait $guest || true
        echo $((guest - 1)) > /proc/sys/kernel/ns_last_pid; unshare --net sleep infinity & other=$!
        test $other = $guest
    }
    attach() { until dladm attach-zone --pid $guest guest 2> /dev/null; do sleep 0.01; done; }
    is_there() { dladm show-zone -p -o zone,state | grep -qx guest:ready; }
    start "$@"
    unshare --net sleep infinity & guest=$!
    attach
    dladm set-zone a guest
    kill -STOP $daemon
    same_number_again
    kill -CONT $daemon
    while is_there; do sleep 0.01; done
    until dladm show-link a > /dev/null 2>&1; do sleep 0.01; done
    echo 'the running daemon is not misled'
    attach
    kill -KILL $daemon; wait $daemon || true
    same_number_again
    start "$@"
    ! is_there
    echo 'the next daemon is not misled'
"#;

#[test]
fn a_process_that_gets_the_number_of_a_zones_process_is_no_zone() {
    let host = Host::new();
    host.ip("link add name a type veth peer name b");
    let mut command = host.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-ec"]);
    command.arg(NUMBERS_USED_AGAIN).arg("sh").arg(bin("dlmgmtd"));
    host.add_daemon_args(&mut command);
    let path = std::env::var("PATH").unwrap();
    let bins = bin("dladm").parent().unwrap().display().to_string();
    command.env("PATH", format!("{bins}:{path}")).env("DLMGMT_DOOR", host.door());
    let output = Output::from(command.output().unwrap());
    let told = "the running daemon is not misled\nthe next daemon is not misled\n";
    assert_eq!(output.stdout, told, "{}", output.stderr);
}

/// Somebody else, who is to be served whatever a hostile zone does.
fn assert_others_are_served(host: &Host) {
    assert_eq!(host.dladm("show-link -p -o link b").ok(), "b\n");
}

/// A host with a guest that is a zone with a link `inside`, and `b` at home.
fn with_guest() -> (Host, Guest) {
    let host = Host::with_zones(&[]);
    let guest = host.guest_zone("guest");
    host.dladm("set-zone -n inside a guest").ok();
    (host, guest)
}

#[track_caller]
fn refused<T>(outcome: Result<T, ClientError>) -> ErrorCode {
    match outcome {
        Err(ClientError::Refused(why)) => why.code,
        Err(why) => panic!("{why}"),
        Ok(_) => panic!("it was granted"),
    }
}

#[test]
fn a_connection_belongs_to_the_zone_where_its_socket_was_made_whoever_uses_it() {
    let (host, guest) = with_guest();
    let (namespace, door) = (guest.namespace(), host.door());
    let inside = std::thread::spawn(move || {
        namespace.enter();
        Client::connect(door).unwrap()
    });
    let door = inside.join().unwrap();
    assert_eq!(door.greeting().zone, Some(ZoneName::new("guest").unwrap()));
    door.linkid("inside".parse().unwrap()).unwrap();
    assert_eq!(refused(door.linkid("b".parse().unwrap())), ErrorCode::NotFound);
    assert_eq!(refused(door.linkid("global/b".parse().unwrap())), ErrorCode::NoZone);
    assert_eq!(refused(door.export()), ErrorCode::Denied);
}

#[test]
fn a_zone_registers_no_namespace_that_it_has_a_descriptor_of() {
    let (host, guest) = with_guest();
    let other = host.guest();
    let zones = host.zones();
    let own = File::open(format!("/proc/{}/ns/net", guest.pid())).unwrap();
    let foreign = File::open(format!("/proc/{}/ns/net", other.pid())).unwrap();
    for descriptor in [&own, &foreign] {
        let zone = ZoneName::new("mine").unwrap();
        let call = AttachZone { zone, pid: None, path: None };
        let attach = |door: &Client| refused(door.attach_zone(call, Some(descriptor.as_fd())));
        assert_eq!(host.with_client_in(&guest, attach), ErrorCode::Denied);
    }
    assert_eq!(host.zones(), zones);
}

#[test]
fn links_get_no_names_that_cannot_be() {
    let (host, guest) = with_guest();
    let everything = host.everywhere();
    let long = "n".repeat(16);
    let huge = "n".repeat(30_000);
    let names = [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/",
        "a b",
        "a\nb",
        "a\0b",
        "\u{1b}[31m",
        "-a",
        "0a",
        "lo",
        "all",
        "global",
        "default",
        "é",
        "a:b",
        "@1",
        "%d",
        "veth%d",
        &long,
        &huge,
    ];
    for name in names {
        let spec = || LinkSpec::Veth { peer: "t1".to_owned(), peer_zone: None };
        let peer = LinkSpec::Veth { peer: name.to_owned(), peer_zone: None };
        let create = |name: &str, spec| CreateLink {
            name: name.to_owned(),
            zone: None,
            temporary: true,
            spec,
        };
        let calls = [create(name, spec()), create("t0", peer)];
        let refusals =
            host.with_client_in(&guest, |door| calls.map(|c| refused(door.create_link(c))));
        assert_eq!(refusals, [ErrorCode::Invalid; 2], "{name:?}");
        let item = RenameItem { link: "b".parse().unwrap(), to: name.to_owned() };
        let rename = host.with_client(|door| refused(door.rename(vec![item])));
        assert_eq!(rename, ErrorCode::Invalid, "{name:?}");
    }
    assert_eq!(host.everywhere(), everything);
}

#[test]
fn names_without_end_of_a_link_inside_hide_no_link_of_anybody() {
    let mut host = divided();
    let everything = host.everywhere();
    for first in (0..260).step_by(4) {
        let names: Vec<_> = (first..first + 4).map(|n| format!("altname {n:0>127}")).collect();
        host.ip_in("web", &format!("link property add dev lo {}", names.join(" ")));
    }
    host.kill9_and_restart();
    assert_eq!(host.everywhere(), everything);
}

#[test]
fn the_connections_of_a_zone_are_bounded_and_others_have_their_own() {
    let (host, guest) = with_guest();
    let other = host.guest_zone("other");
    let door = host.door();
    let connect_all = |_: &Client| {
        let all: Vec<_> = (0..300).map(|_| Client::connect(&door)).collect();
        let refusals = all.iter().filter_map(|one| one.as_ref().err());
        assert!(refusals.clone().count() >= 300 - 256, "there is no bound");
        for refusal in refusals {
            assert!(matches!(refusal, ClientError::Refused(why) if why.code == ErrorCode::Quota));
        }
        host.with_client_in(&other, |door| assert!(door.zones().is_ok()));
        assert_others_are_served(&host);
    };
    host.with_client_in(&guest, connect_all);
}

#[test]
fn the_subscriptions_of_a_connection_are_bounded() {
    let (host, guest) = with_guest();
    let subscribe = Subscribe { snapshot: true, since: None, participant: false };
    let subscribe_all = |door: &Client| {
        let all: Vec<_> = (0..20).map(|_| door.call(&subscribe)).collect();
        let quota = all.into_iter().filter_map(Result::err).map(|why| refused::<()>(Err(why)));
        assert_eq!(quota.collect::<Vec<_>>(), [ErrorCode::Quota; 4]);
        assert_others_are_served(&host);
    };
    host.with_client_in(&guest, subscribe_all);
}

#[test]
fn who_asks_without_end_and_never_reads_disturbs_nobody() {
    let (host, guest) = with_guest();
    let (namespace, door) = (guest.namespace(), host.door());
    let flood = move || {
        namespace.enter();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(&door).unwrap()).unwrap();
        let hello = Hello { oldest: VERSION, newest: VERSION, client: "flood".to_owned() };
        send(&socket, &encode(Kind::Call, Hello::NUMBER, 1, &hello).unwrap(), SendFlags::NOSIGNAL)
            .unwrap();
        let make = |serial: u64| {
            let spec = LinkSpec::Veth { peer: format!("p{serial}"), peer_zone: None };
            let name = format!("v{serial}");
            let call = CreateLink { name, zone: None, temporary: true, spec };
            encode(Kind::Call, CreateLink::NUMBER, serial, &call).unwrap()
        };
        let ask = |serial: u64| {
            let call = GetLink { link: "inside".parse().unwrap() };
            encode(Kind::Call, GetLink::NUMBER, serial, &call).unwrap()
        };
        // Until the door takes no more for a while, or closes.
        let mut waits = 0;
        for serial in 2..100_000 {
            let packet = if serial % 2 == 0 { make(serial) } else { ask(serial) };
            match send(&socket, &packet, SendFlags::NOSIGNAL) {
                Ok(_) => waits = 0,
                Err(Errno::AGAIN) if waits < 100 => {
                    waits += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => break,
            }
        }
        socket
    };
    let flooding = std::thread::spawn(flood);
    for round in 0..10 {
        assert_others_are_served(&host);
        host.dladm(&format!("rename-link b c{round}")).ok();
        host.dladm(&format!("rename-link c{round} b")).ok();
    }
    let socket = flooding.join().unwrap();
    assert_others_are_served(&host);
    assert!(host.everywhere().len() <= 2 + 256, "there is no quota");
    drop(socket);
    guest.kill();
    host.await_down("guest");
    eventually("nothing is left", || host.everywhere().into_keys().eq(["global/a", "global/b"]));
    host.agreed();
}

#[test]
fn a_watched_directory_full_of_other_things_hides_no_zone() {
    let host = Host::with_zones(&["web"]);
    host.sh(
        "cd /run/netns; seq 1 5000 | sed s/^/plain/ | xargs touch; \
         seq 1 5000 | while read i; do echo symlink$i; done | xargs -n 500 ln -s -t . 2>/dev/null || true; \
         touch uts; mount --bind /proc/self/ns/uts uts; mkdir mounted; mount -t tmpfs none mounted; \
         touch web2; mount --bind /run/netns/web web2",
    );
    host.add_zone("after");
    assert_others_are_served(&host);
    let zones: Vec<_> = host.zones().into_keys().collect();
    assert_eq!(zones, ["after", "global", "web"]);
    host.end_zone("after");
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
    inside.arg(bin("dladm")).arg("--door").arg(host.door()).arg("monitor");
    let mut inside = inside.stderr(std::process::Stdio::null()).spawn().unwrap();
    guest.kill();
    host.await_down("guest");
    inside.wait().unwrap();
    eventually("the namespace died", || !host.kernel().contains_key("probe"));
}
