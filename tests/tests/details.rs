//! What is read from the kernel for who asks: statistics, speed, and what links of a kind have.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use dlmgmt_proto::{FactValue, LinkId, Topic};
use dlmgmt_tests::{Host, Monitor, Output, eventually};
use serde_json::Value;

const COUNTERS: [&str; 6] = ["ipackets", "rbytes", "ierrors", "opackets", "obytes", "oerrors"];

/// A host with a pair of veths, `a` and `b`, that are up and have addresses.
fn busy_host() -> Host {
    let host = Host::with_zones(&["web"]);
    host.ip("link set dev a up");
    host.ip("link set dev b up");
    host.ip("address add 192.0.2.1/24 brd 192.0.2.255 dev a");
    host
}

/// Sends something over `a`.
fn send(host: &Host) {
    let namespace = host.namespace();
    let inside = move || {
        namespace.enter();
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"x", "192.0.2.255:9").unwrap();
    };
    std::thread::spawn(inside).join().unwrap();
}

fn parsed(output: Output) -> Vec<Value> {
    serde_json::from_str(&output.ok()).unwrap()
}

/// What the kernel has counted of a link, in the words of dladm.
fn counted_by_kernel(host: &Host, ip: impl Fn(&Host, &str) -> String, link: &str) -> Vec<u64> {
    let shown: Value =
        serde_json::from_str(&ip(host, &format!("-json -s link show {link}"))).unwrap();
    let counters = |way: &str| {
        ["packets", "bytes", "errors"].map(|what| shown[0]["stats64"][way][what].as_u64().unwrap())
    };
    [counters("rx"), counters("tx")].concat()
}

fn counted_by_dladm(output: Output) -> Vec<u64> {
    let shown = parsed(output);
    COUNTERS.map(|counter| shown[0][counter].as_u64().unwrap()).to_vec()
}

#[test]
fn statistics_are_those_of_the_kernel() {
    let host = busy_host();
    send(&host);
    eventually("dladm has counted what the kernel has", || {
        let before = counted_by_kernel(&host, Host::ip, "b");
        let told = counted_by_dladm(host.dladm("show-link -s --json b"));
        assert!(
            told.iter().zip(&before).all(|(told, before)| told >= before),
            "{told:?} {before:?}"
        );
        told == before && told[0] > 0
    });
    let shown = host.dladm("show-link -s").ok();
    let header = "LINK IPACKETS RBYTES IERRORS OPACKETS OBYTES OERRORS";
    assert_eq!(
        shown.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        header
    );
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert_eq!(host.dladm("show-link -s -p -o link,ierrors,oerrors a").ok(), "a:0:0\n");
    host.dladm("show-link -s nosuch").refused("not-found");
}

#[test]
fn statistics_of_a_link_in_a_zone_are_those_that_the_zone_sees() {
    let host = busy_host();
    host.ip_in("web", "link add name x type veth peer name y");
    host.ip_in("web", "link set dev x up");
    host.ip_in("web", "link set dev y up");
    eventually("the links of the zone are known", || host.everywhere().contains_key("web/y"));
    let in_web = |host: &Host, words: &str| host.ip_in("web", words);
    eventually("dladm has counted what the kernel has", || {
        let before = counted_by_kernel(&host, in_web, "y");
        counted_by_dladm(host.dladm("show-link -s --json web/y")) == before && before[0] > 0
    });
    let shown = host.dladm("show-link -s -Z -p -o zone,link").ok();
    assert_eq!(shown, "global:a\nglobal:b\nweb:x\nweb:y\n");
    let shown = host.dladm_in("web", "show-link -s -Z -p -o zone,link").ok();
    assert_eq!(shown, "web:x\nweb:y\n", "a caller in a zone sees its own links alone");
}

#[test]
fn statistics_are_shown_again_as_what_passed_meanwhile() {
    let host = busy_host();
    send(&host);
    let mut command = host.dladm_command();
    command.args(["show-link", "-s", "-i", "1", "-p", "-o", "link,opackets", "a"]);
    let rounds = Monitor::start(command);
    let all = rounds.wait_for("a first round", |line| line.starts_with("a:"));
    assert_ne!(all, "a:0");
    // What the kernel sends by itself, it ends to send.
    rounds.wait_for("a round in which nothing passed", |line| line == "a:0");
    host.dladm("rename-link a c").ok();
    send(&host);
    let meanwhile = |line: &str| line.starts_with("c:") && line != "c:0";
    rounds.wait_for("a round with what passed under the new name", meanwhile);
}

/// What the daemon tells of a link at the door.
fn facts(host: &Host, place: &str, topic: Topic) -> BTreeMap<String, FactValue> {
    let id = LinkId::new(host.everywhere()[place]).unwrap();
    let mut told = host.with_client(|client| client.details(&[id], &[topic])).unwrap();
    let told = told.remove(0);
    assert_eq!(told.id, id);
    told.facts.into_iter().map(|fact| (fact.name, fact.value)).collect()
}

#[test]
fn the_speed_of_a_link_is_what_its_driver_says_wherever_it_is() {
    let host = busy_host();
    host.dladm("set-zone -f b web").ok();
    let full = BTreeMap::from([
        ("speed".to_owned(), FactValue::Number(10_000)),
        ("duplex".to_owned(), FactValue::Text("full".to_owned())),
        ("autoneg".to_owned(), FactValue::Flag(false)),
    ]);
    assert_eq!(facts(&host, "global/a", Topic::Speed), full);
    assert_eq!(facts(&host, "web/b", Topic::Speed), full);
}

#[test]
fn of_more_links_than_one_answer_holds_every_one_is_told() {
    let mut host = Host::new();
    host.sh("for i in $(seq 300); do echo link add name v$i type bridge; done | ip -batch -");
    host.start_daemon();
    let shown = host.dladm("show-link -s -p -o link,ipackets").ok();
    let expected: String = (1..=300).map(|i| format!("v{i}:0\n")).collect();
    assert_eq!(shown, expected);
}

/// Whether the kernel makes such a link; the test that asks for it says so where it does not.
fn can_make(host: &Host, link: &str) -> bool {
    let made = host.command("ip").args(["link", "add"]).args(link.split(' ')).output().unwrap();
    if !made.status.success() {
        println!("skipped: the kernel makes no {link}: {}", made.stderr.escape_ascii());
    }
    made.status.success()
}

#[test]
fn a_bridge_is_shown_with_its_settings_and_lies_over_its_ports() {
    let mut host = Host::new();
    host.ip("link add name br0 address 02:00:00:00:00:01 type bridge stp_state 1 priority 4096");
    host.ip("link add name a type veth peer name b");
    host.start_daemon();
    assert_eq!(host.field("over", "br0"), "");
    let shown = "show-bridge -p -o bridge,protect,address,priority,desroot,fwddelay,over br0";
    let told = |over: &str| {
        let mac = r"02\:00\:00\:00\:00\:01";
        format!("br0:stp:{mac}:4096:4096/{mac}:15:{over}\n")
    };
    assert_eq!(host.dladm(shown).ok(), told(""));
    let events = host.monitor("");
    host.ip("link set dev b master br0");
    host.ip("link set dev a master br0");
    eventually("the bridge lies over its ports", || host.field("over", "br0") == "a,b");
    events.wait_for("the bridge with both ports", |line| {
        line.contains(" changed br0 ") && line.contains(" over=a,b")
    });
    assert_eq!(host.dladm(shown).ok(), told("a,b"));
    host.dladm("rename-link a c").ok();
    events.wait_for("the bridge with the new name", |line| {
        line.contains(" changed br0 ") && line.contains(" over=b,c")
    });
    host.dladm("show-bridge b").error_line(1);
    let header = host.dladm("show-bridge").ok();
    let header: Vec<&str> = header.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["BRIDGE", "PROTECT", "ADDRESS", "PRIORITY", "DESROOT"]);
}

#[test]
fn ports_of_bridges_are_shown_with_their_forwarding_state() {
    let mut host = Host::new();
    for (bridge, priority) in [("br0", 4096), ("br1", 8192)] {
        host.ip(&format!("link add name {bridge} type bridge priority {priority}"));
    }
    host.ip("link add name a master br0 type veth peer name b");
    host.ip("link set dev b master br1");
    host.start_daemon();
    let shown = host.dladm("show-bridge -l -p -o bridge,link,state,opercost").ok();
    assert_eq!(shown, "br0:a:disabled:2\nbr1:b:disabled:2\n");
    for link in ["br0", "a", "b"] {
        host.ip(&format!("link set dev {link} up"));
    }
    eventually("the port forwards", || {
        host.dladm("show-bridge -l -p -o state br0").ok() == "forwarding\n"
    });
    let root = host.dladm("show-bridge -l -p -o desroot br0").ok();
    assert!(root.starts_with("4096/"), "{root}");
    let shown = parsed(host.dladm("show-bridge -l --json br0"));
    assert_eq!((&shown[0]["link"], &shown[0]["index"]), (&"a".into(), &1.into()));
    host.dladm("show-bridge -l a").error_line(1);
}

#[test]
fn links_over_others_are_shown_with_their_mode_and_those_of_one_lower_link_alone() {
    let host = Host::with_zones(&["web"]);
    host.ip("link add name va link a address 02:00:00:00:00:0a type macvlan mode vepa");
    host.ip("link add name vb link b type macvlan mode private");
    eventually("dladm knows both", || {
        host.ids().contains_key("va") && host.ids().contains_key("vb")
    });
    let shown = host.dladm("show-vnic -p -o link,over,speed,macaddress,type,mode va").ok();
    assert_eq!(shown, "va:a:10000:02\\:00\\:00\\:00\\:00\\:0a:macvlan:vepa\n");
    assert_eq!(host.dladm("show-vnic -p -o link,mode").ok(), "va:vepa\nvb:private\n");
    assert_eq!(host.dladm("show-vnic -l b -p -o link").ok(), "vb\n");
    host.dladm("set-zone va web").ok();
    assert_eq!(host.dladm("show-vnic -p -o link").ok(), "vb\n");
    assert_eq!(host.dladm("show-vnic -z web -p -o link,zone,mode").ok(), "va:web:vepa\n");
    assert_eq!(host.dladm("show-vnic -Z -p -o zone,link").ok(), "global:vb\nweb:va\n");
    assert_eq!(host.dladm_in("web", "show-vnic -p -o link,mode").ok(), "va:vepa\n");
    host.dladm("show-vnic a").error_line(1);
}

#[test]
fn an_overlay_is_shown_with_its_network_and_its_ends() {
    let mut host = Host::new();
    host.ip("link add name vx4 type vxlan id 7 local 192.0.2.1 remote 192.0.2.2 dstport 4789");
    host.ip("link add name vx6 type vxlan id 8 local 2001:db8::1 dstport 8472 nolearning");
    host.start_daemon();
    let shown = host.dladm("show-overlay -p -o link,type,vni,local,remote,port,learning").ok();
    assert_eq!(
        shown,
        "vx4:vxlan:7:192.0.2.1:192.0.2.2:4789:on\nvx6:vxlan:8:2001\\:db8\\:\\:1::8472:off\n"
    );
    let shown = parsed(host.dladm("show-overlay --json vx4"));
    assert_eq!((&shown[0]["vni"], &shown[0]["port"]), (&7.into(), &4789.into()));
}

#[test]
fn a_vlan_is_shown_with_its_id() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    if !can_make(&host, "name v7 link a type vlan id 7 protocol 802.1ad") {
        return;
    }
    host.start_daemon();
    assert_eq!(host.dladm("show-vlan -p -o link,vid,over,protocol").ok(), "v7:7:a:802.1ad\n");
}

#[test]
fn an_etherstub_is_shown() {
    let mut host = Host::new();
    if !can_make(&host, "name stub0 type dummy") {
        return;
    }
    host.start_daemon();
    assert_eq!(host.dladm("show-etherstub -p -o link").ok(), "stub0\n");
}

#[test]
fn an_aggregation_is_shown_with_its_ports_and_what_lacp_came_to() {
    let mut host = Host::new();
    if !can_make(&host, "name bond0 type bond mode 802.3ad lacp_rate fast") {
        return;
    }
    host.ip("link add name a master bond0 type veth peer name b");
    host.start_daemon();
    let shown = host.dladm("show-aggr -p -o link,mode,lacpactivity,lacptimer,over").ok();
    assert_eq!(shown, "bond0:802.3ad:active:short:a\n");
    let shown = host.dladm("show-aggr -x -p -o link,port bond0").ok();
    assert_eq!(shown, "bond0:\nbond0:a\n");
    let shown = host.dladm("show-aggr -L -p -o link,port,aggregatable,expired").ok();
    assert_eq!(shown, "bond0:a:yes:no\n");
}

#[test]
fn a_tunnel_is_shown_with_its_ends() {
    let mut host = Host::new();
    if !can_make(&host, "name tun1 type ipip local 192.0.2.1 remote 192.0.2.2 ttl 64") {
        return;
    }
    host.start_daemon();
    let shown = host.dladm("show-iptun -p -o link,type,local,remote,ttl tun1").ok();
    assert_eq!(shown, "tun1:ipip:192.0.2.1:192.0.2.2:64\n");
}

#[test]
fn classes_of_which_there_is_no_link_show_none() {
    let host = Host::with_links(&[]);
    for class in ["vnic", "vlan", "aggr", "bridge", "etherstub", "iptun", "overlay"] {
        let shown = host.dladm(&format!("show-{class}")).ok();
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert_eq!(host.dladm(&format!("show-{class} --json")).ok(), "[]\n");
        host.dladm(&format!("show-{class} nosuch")).refused("not-found");
    }
}
