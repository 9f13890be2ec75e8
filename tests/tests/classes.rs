//! Every class of link is made, shown, changed and ended: SPEC.md section 10.

use dlmgmt_tests::{Host, Output};

/// A host with a daemon and the pairs of links `a` and `a1`, `b` and `b1`, `c` and `c1`.
fn host() -> Host {
    let mut host = Host::new();
    for end in ["a", "b", "c"] {
        host.ip(&format!("link add name {end} type veth peer name {end}1"));
    }
    host.start_daemon();
    host
}

/// Asserts that a command was refused, by the command line or by the daemon, in one line that says
/// this.
#[track_caller]
fn assert_refused(output: Output, why: &str) {
    let status = output.status;
    assert!([1, 2].contains(&status), "{output:?}");
    let line = output.error_line(status);
    assert!(line.contains(why), "{why}: {line}");
}

/// The names of the kernel's links that have this one as their master.
fn ports_of(host: &Host, master: &str) -> Vec<String> {
    let told = host.ip(&format!("-o link show master {master}"));
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    told.lines().filter_map(name).collect()
}

/// What the kernel tells of a link, its options included.
fn details(host: &Host, link: &str) -> String {
    host.ip(&format!("-d link show {link}"))
}

/// Whether this kernel makes links of that kind; says so where it does not.
fn has_kind(host: &Host, kind: &str) -> bool {
    let made = host.command("ip").args(["link", "add", "probe", "type", kind]).output().unwrap();
    if made.status.success() {
        host.ip("link delete probe");
        return true;
    }
    let why = String::from_utf8_lossy(&made.stderr);
    let is_unknown = why.contains("Unknown device type") || why.contains("not supported");
    if is_unknown {
        println!("skipped: this kernel has no {kind}");
    }
    !is_unknown
}

#[test]
fn a_bridge_has_the_ports_and_options_that_were_asked_for() {
    let host = host();
    host.dladm("create-bridge -P stp -p 4096 -d 4 -m 6 -h 1 -l a -l b br0").ok();
    assert_eq!(
        host.field("class,kind,media,flags", "br0"),
        "bridge:bridge:Ethernet:active,persistent"
    );
    assert_eq!(ports_of(&host, "br0"), ["a", "b"]);
    let told = details(&host, "br0");
    for option in ["stp_state 1", "priority 4096", "forward_delay 400", "hello_time 100"] {
        assert!(told.contains(option), "{option}: {told}");
    }
    host.dladm("remove-bridge -l a br0").ok();
    assert_eq!(ports_of(&host, "br0"), ["b"]);
    host.dladm("add-bridge -l a br0").ok();
    assert_eq!(ports_of(&host, "br0"), ["a", "b"]);
    host.dladm("delete-bridge br0").ok();
    assert!(!host.kernel().contains_key("br0"));
    assert!(host.kernel().contains_key("a"), "ports stay");
    host.agreed();
}

#[test]
fn the_bus_makes_what_the_command_makes() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name a1");
    let bus = host.start_bus("");
    host.start_daemon_on(&bus);
    let manager = |words: &str| host.manager(&bus, &words.split(' ').collect::<Vec<_>>());
    manager("CreateLink ssa{sv} bridge br0 3 ports as 1 a protect s stp priority u 4096").ok();
    assert_eq!(ports_of(&host, "br0"), ["a"]);
    let told = details(&host, "br0");
    assert!(told.contains("stp_state 1") && told.contains("priority 4096"), "{told}");
    manager("ChangePorts sasas br0 0 1 a").ok();
    assert_eq!(ports_of(&host, "br0"), [""; 0]);
    manager("CreateLink ssa{sv} vnic n0 3 kind s macvtap over s a mode s private").ok();
    assert_eq!(host.field("kind,over", "n0"), "macvtap:a");
    for bad in [
        "CreateLink ssa{sv} vnic n1 2 kind s bridge over s a",
        "CreateLink ssa{sv} vnic n1 2 colour s red over s a",
        "CreateLink ssa{sv} phys n1 0",
    ] {
        host.unchanged_by(|| assert_ne!(manager(bad).status, 0, "{bad}"));
    }
}

#[test]
fn a_bridge_whose_ports_cannot_all_join_is_not_made() {
    let host = host();
    host.dladm("create-bridge -l c old").ok();
    for (command, why) in [
        ("create-bridge -l a -l c br0", "port of old"),
        ("create-bridge -l a -l old br0", "bridge itself"),
        ("create-bridge -l a -l a br0", "twice"),
        ("create-bridge -l a -l nothing br0", "not-found"),
        ("create-bridge -l lo br0", "Loopback"),
        ("create-bridge -p 4096 --colour red br0", "--colour"),
        ("add-bridge -l old old", "itself"),
        ("add-bridge -l a a", "no bridge"),
        ("remove-bridge -l a old", "no port"),
    ] {
        host.unchanged_by(|| assert_refused(host.dladm(command), why));
        assert!(ports_of(&host, "old").contains(&"c".to_owned()), "{command}");
    }
}

#[test]
fn persistent_links_are_made_again_in_the_order_in_which_they_lie_over_each_other() {
    let mut host = host();
    host.dladm("create-bridge br0").ok();
    host.dladm("create-veth v0 v1").ok();
    host.dladm("create-vnic -l br0 -m 02:00:00:00:00:11 n0").ok();
    host.dladm("add-bridge -l v1 br0").ok();
    let ids = host.ids();
    host.stop_daemon();
    host.ip("link delete br0");
    host.ip("link delete v0");
    host.start_daemon();
    assert_eq!(host.ids(), ids);
    assert_eq!(host.field("over", "n0"), "br0");
    assert_eq!(ports_of(&host, "br0"), ["v1"]);
    host.agreed();
}

#[test]
fn a_link_under_others_is_not_deleted_and_says_under_which() {
    let host = Host::with_links(&[]);
    host.dladm("create-veth v0 v1").ok();
    host.dladm("create-vnic -l v0 n0").ok();
    host.dladm("create-bridge -l v1 br0").ok();
    host.unchanged_by(|| assert_refused(host.dladm("delete-veth v0"), "n0"));
    host.unchanged_by(|| assert_refused(host.dladm("delete-veth v0"), "busy"));
    host.dladm("delete-vnic n0").ok();
    host.unchanged_by(|| assert_refused(host.dladm("delete-veth v0"), "port of br0"));
    host.dladm("remove-bridge -l v1 br0").ok();
    host.dladm("delete-veth v0").ok();
}

#[test]
fn renaming_a_lower_link_keeps_the_records_of_the_upper_ones() {
    let mut host = Host::with_links(&[]);
    host.dladm("create-veth v0 v1").ok();
    host.dladm("create-vnic -l v0 n0").ok();
    host.dladm("create-bridge -l v1 br0").ok();
    host.dladm("rename-link v0 w0 v1 w1").ok();
    assert_eq!(host.field("over", "n0"), "w0");
    host.stop_daemon();
    host.ip("link delete w0");
    host.start_daemon();
    assert_eq!(host.field("over", "n0"), "w0");
    assert_eq!(ports_of(&host, "br0"), ["w1"]);
}

#[test]
fn a_lower_link_of_another_zone_is_shown_with_its_zone() {
    let host = Host::with_zones(&["web"]);
    host.dladm("create-vnic -l a n0").ok();
    host.dladm("set-zone n0 web").ok();
    assert_eq!(host.field("over", "web/n0"), "global/a");
    host.dladm("create-vnic -t -z web -l b t0").ok();
    assert_eq!(host.field("over", "web/t0"), "global/b");
    host.dladm("reset-zone web/n0").ok();
    assert_eq!(host.field("over", "n0"), "a");
}

#[test]
fn a_macvtap_is_a_vnic_and_has_its_mode() {
    let host = host();
    host.dladm("create-vnic --kind macvtap --mode private -l a -m 02:00:00:00:00:22 t0").ok();
    assert_eq!(host.field("class,kind,over,mac", "t0"), r"vnic:macvtap:a:02\:00\:00\:00\:00\:22");
    assert!(details(&host, "t0").contains("macvtap mode private"));
    host.dladm("delete-vnic t0").ok();
    host.agreed();
}

#[test]
fn a_vxlan_is_an_overlay_and_is_shown_over_its_link() {
    let host = host();
    host.dladm("create-overlay -v 42 -l a --group 239.0.0.1 --local 192.0.2.1 x0").ok();
    assert_eq!(host.field("class,kind,over", "x0"), "overlay:vxlan:a");
    let told = details(&host, "x0");
    for option in ["id 42", "group 239.0.0.1", "local 192.0.2.1", "dev a", "dstport 4789"] {
        assert!(told.contains(option), "{option}: {told}");
    }
    host.unchanged_by(|| {
        let twin = host.dladm("create-overlay -v 42 -l a --group 239.0.0.1 x1");
        assert_refused(twin, "(kernel)");
    });
    host.dladm("create-overlay -v 43 --remote 2001:db8::1 --port 9 x2").ok();
    assert!(details(&host, "x2").contains("remote 2001:db8::1"));
    host.dladm("delete-overlay x2").ok();
}

#[test]
fn a_tap_stays_when_nobody_has_it_open() {
    let mut host = Host::with_zones(&["web"]);
    host.dladm("create-tap --user 54321 tap0").ok();
    host.dladm("create-tap --kind tun tun0").ok();
    assert_eq!(host.field("class,kind,media", "tap0"), "tap:tun:Ethernet");
    assert_eq!(host.field("class,kind,media", "tun0"), "tap:tun:Other");
    let told = details(&host, "tap0");
    assert!(told.contains("type tap") && told.contains("user 54321"), "{told}");
    let mac = host.field("mac", "tap0");
    host.stop_daemon();
    host.ip("link delete tap0");
    host.start_daemon();
    assert_eq!(host.field("mac", "tap0"), mac);
    assert!(details(&host, "tap0").contains("user 54321"));
    host.unchanged_by(|| assert_refused(host.dladm("create-tap b"), "(exists)"));
    host.dladm("create-tap -t -z web inner").ok();
    assert_eq!(host.kernel_in("web"), ["inner"]);
    host.dladm("delete-tap tap0").ok();
    host.dladm("delete-tap tun0").ok();
    host.agreed();
}

#[test]
fn a_simnet_is_a_pair_of_a_class_of_its_own() {
    let mut host = Host::with_zones(&["web"]);
    host.dladm("create-simnet s0 s1").ok();
    assert_eq!(host.field("class,kind", "s0"), "simnet:veth");
    host.stop_daemon();
    host.ip("link delete s0");
    host.start_daemon();
    assert_eq!(host.field("class,kind", "s1"), "simnet:veth");
    host.unchanged_by(|| assert_refused(host.dladm("delete-veth s0"), "simnet"));
    host.dladm("delete-simnet s1").ok();
    host.dladm("create-simnet -t -z web -Z global t0 t1").ok();
    assert_eq!(host.field("class", "web/t0"), "simnet");
    host.agreed();
}

#[test]
fn bad_requests_are_refused_and_leave_nothing_behind() {
    let host = Host::with_zones(&["web"]);
    host.dladm("create-veth -t -z web e0 e1").ok();
    for (command, why) in [
        ("create-overlay x0", "--vni"),
        ("create-overlay -v 16777216 x0", "0-16777215"),
        ("create-overlay -v 1 --group 239.0.0.1 x0", "needs a lower link"),
        ("create-overlay -v 1 --remote 239.0.0.1 x0", "an IP address"),
        ("create-overlay -e geneve -v 1 x0", "geneve needs remote"),
        ("create-vlan -l a -v 0 v0", "1-4094"),
        ("create-vlan -l a -v 4095 v0", "1-4094"),
        ("create-vlan -v 7 v0", "--link"),
        ("create-vlan -l lo -v 7 v0", "Loopback"),
        ("create-vnic -l a -m 01:00:00:00:00:01 n0", "unicast"),
        ("create-vnic -l a --mtu 9000 n0", "9000"),
        ("create-vnic -l a --kind bridge n0", "bridge"),
        ("create-vnic -l a -v 4095 n0", "1-4094"),
        ("create-vnic -l a -v 7 --kind macvlan n0", "--kind"),
        ("create-vnic -l a -v 7 --mode vepa n0", "--mode"),
        ("create-vnic -l a --protocol 802.1ad n0", "no option protocol"),
        ("create-vnic -l nothing n0", "not-found"),
        ("create-iptun -T gre -a local=192.0.2.1 t0", "gre needs remote"),
        ("create-iptun -T ipv4 -a remote=192.0.2.1,remote=192.0.2.2 t0", "twice"),
        ("create-aggr -L active --mode balance-rr ag0", "802.3ad"),
        ("create-veth a p0", "exists"),
        ("create-bridge -l web/e0 br0", "one zone"),
        ("create-etherstub --mtu 70000 s0", "68-65535"),
    ] {
        host.unchanged_by(|| assert_refused(host.dladm(command), why));
    }
    let inside = host.dladm_in("web", "create-vnic -t -l a n0");
    assert_refused(inside, "(not-found)");
}

#[test]
fn a_lent_bridge_stays_refused_and_one_is_made_in_its_zone() {
    let host = Host::with_zones(&["web"]);
    host.dladm("create-bridge br0").ok();
    host.unchanged_by(|| assert_refused(host.dladm("set-zone br0 web"), "pins a bridge"));
    host.dladm("create-bridge -t -z web inner").ok();
    assert_eq!(host.field("class,zone,flags", "web/inner"), "bridge:web:active,transient");
}

#[test]
fn kinds_that_this_kernel_may_lack_are_made_where_it_has_them() {
    let host = host();
    for (kind, command, link, wanted) in [
        ("dummy", "create-etherstub s0", "s0", "etherstub:dummy"),
        ("vlan", "create-vlan -l a -v 7 v7", "v7", "vlan:vlan"),
        ("bond", "create-aggr -L active -l a -l b ag0", "ag0", "aggr:bond"),
        ("ipvlan", "create-vnic --kind ipvlan -l a i0", "i0", "vnic:ipvlan"),
        ("geneve", "create-overlay -e geneve -v 1 --remote ::1 g0", "g0", "overlay:geneve"),
        ("gre", "create-iptun -T gre -a remote=192.0.2.1 t0", "t0", "iptun:gre"),
    ] {
        if !has_kind(&host, kind) {
            host.unchanged_by(|| assert_refused(host.dladm(command), "(kernel)"));
            continue;
        }
        host.dladm(command).ok();
        assert_eq!(host.field("class,kind", link), wanted);
        let class = wanted.split(':').next().unwrap();
        host.dladm(&format!("delete-{class} {link}")).ok();
    }
    host.agreed();
}

#[test]
fn a_vnic_on_a_vlan_is_one_link_of_class_vnic_or_none_where_the_kernel_has_no_vlan() {
    let mut host = host();
    let create = "create-vnic -l a -v 7 -m 02:00:00:00:00:77 n7";
    if !has_kind(&host, "vlan") {
        host.unchanged_by(|| assert_refused(host.dladm(create), "(kernel)"));
        assert!(!host.kernel().contains_key("n7"));
        assert_eq!(host.dladm("show-vnic -P -p -o link").ok(), "");
        return;
    }
    host.dladm(create).ok();
    let is_as_made = |host: &Host| {
        assert_eq!(host.field("class,kind", "n7"), "vnic:vlan");
        let shown = host.dladm("show-vnic -p -o link,over,vid,macaddress n7").ok();
        assert_eq!(shown, "n7:a:7:02\\:00\\:00\\:00\\:00\\:77\n");
        assert_eq!(host.dladm("show-vlan -p -o link").ok(), "");
    };
    is_as_made(&host);
    host.unchanged_by(|| assert_refused(host.dladm("create-vlan -l a -v 7 v7"), "(kernel)"));
    host.unchanged_by(|| assert_refused(host.dladm("delete-vlan n7"), "no vlan but a vnic"));
    host.kill9_and_restart();
    is_as_made(&host);
    host.dladm("delete-vnic n7").ok();
    host.agreed();
}
