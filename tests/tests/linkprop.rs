//! Properties of links: SPEC.md section 10, `show-linkprop`, `set-linkprop` and `reset-linkprop`.

use dlmgmt_tests::{Host, eventually};
use serde_json::Value;

/// A host with a pair of veths of ours, `a` and `b`, and a bridge of somebody else.
fn host() -> Host {
    let mut host = Host::new();
    host.ip("link add name br0 type bridge");
    host.start_daemon();
    host.dladm("create-veth a b").ok();
    host
}

/// One field of one property, as `dladm` shows it.
#[track_caller]
fn shown(host: &Host, field: &str, property: &str, link: &str) -> String {
    let words = format!("show-linkprop -c -o {field} -p {property} {link}");
    host.dladm(&words).ok().trim_end().to_owned()
}

/// What the kernel has of a link.
#[track_caller]
fn kernel(host: &Host, link: &str) -> Value {
    let listed = host.ip(&format!("-json link show dev {link}"));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed[0].clone()
}

fn is_up(link: &Value) -> bool {
    link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
}

#[test]
fn every_property_is_set_in_the_kernel_and_shown_as_it_is_there() {
    let host = host();
    host.dladm("set-linkprop -p mtu=1400,mac=02:00:00:00:00:0a,txqueuelen=77 a").ok();
    host.dladm("set-linkprop -p state=up,promisc=on,allmulti=on,altnames=one,two a").ok();
    host.dladm_args(["set-linkprop", "-p", "alias=up, to the rack", "a"]).ok();
    let link = kernel(&host, "a");
    assert_eq!((&link["mtu"], &link["txqlen"]), (&1400.into(), &77.into()));
    assert_eq!(link["address"], "02:00:00:00:00:0a");
    assert_eq!(link["ifalias"], "up, to the rack");
    assert_eq!(link["altnames"], serde_json::json!(["one", "two"]));
    let flags = link["flags"].to_string();
    assert!(["UP", "PROMISC", "ALLMULTI"].iter().all(|flag| flags.contains(flag)), "{flags}");
    for (property, value) in [
        ("mtu", "1400"),
        ("mac", "02:00:00:00:00:0a"),
        ("txqueuelen", "77"),
        ("state", "up"),
        ("promisc", "on"),
        ("allmulti", "on"),
        ("altnames", "one,two"),
        ("alias", "up, to the rack"),
    ] {
        assert_eq!(shown(&host, "value", property, "a"), value);
        assert_eq!(shown(&host, "effective", property, "a"), value);
    }
}

#[test]
fn a_table_says_what_is_wanted_what_is_there_and_what_could_be() {
    let host = host();
    host.dladm("set-linkprop -p mtu=9000 a").ok();
    let words =
        "show-linkprop -c -o link,property,perm,value,effective,default,possible -p mtu,state a";
    assert_eq!(
        host.dladm(words).ok(),
        "a:mtu:rw:9000:9000:1500:68-65535\na:state:rw:down:down:down:up,down\n"
    );
    let table = host.dladm("show-linkprop -p alias,zone a").ok();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    let header = ["LINK", "PROPERTY", "PERM", "VALUE", "EFFECTIVE", "DEFAULT", "POSSIBLE"];
    assert_eq!(lines[0], header);
    assert_eq!(lines[1], ["a", "alias", "rw", "--", "--", "--", "--"]);
    assert_eq!(lines[2], ["a", "zone", "rw", "global", "global", "global", "--"]);
}

#[test]
fn without_a_link_the_properties_of_all_are_shown() {
    let host = host();
    let all = host.dladm("show-linkprop -c -o link,value -p mtu").ok();
    assert_eq!(all, "a:1500\nb:1500\nbr0:1500\n");
    let json: Value =
        serde_json::from_str(&host.dladm("show-linkprop --json -p mtu,alias").ok()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 6);
    assert_eq!(json[0]["value"], 1500);
    assert_eq!(json[1]["value"], Value::Null);
}

#[test]
fn what_is_not_possible_is_refused_with_what_is_and_changes_nothing() {
    let host = host();
    for (values, why) in [
        ("mtu=70000", "68-65535"),
        ("mtu=x", "68-65535"),
        ("state=sideways", "up,down"),
        ("mac=01:00:5e:00:00:01", "unicast"),
        ("mac=00:00:00:00:00:00", "unicast"),
        ("colour=red", "txqueuelen"),
        ("altnames=a/b", "a/b"),
        ("mtu=1400,mtu=1300", "twice"),
        ("mtu=1400,zone=web", "by itself"),
    ] {
        let words = format!("set-linkprop -p {values} a");
        let line = host.unchanged_by(|| host.dladm(&words)).refused("invalid");
        assert!(line.contains(why), "{line}");
        assert!(line.starts_with("dladm: set-linkprop a: "), "{line}");
    }
    let line = host.unchanged_by(|| host.dladm("set-linkprop -p altnames=b a")).refused("exists");
    assert!(line.contains("the name of b"), "{line}");
    host.dladm("set-linkprop -p mtu=1400 nothing").refused("not-found");
    assert_eq!(host.dladm("set-linkprop -p mtu a").status, 2);
    assert_eq!(host.dladm("show-linkprop -c a").status, 2);
}

#[test]
fn several_are_set_all_or_none() {
    let host = host();
    host.ip("link set dev br0 mtu 1500");
    let before = kernel(&host, "br0");
    // The kernel itself refuses an alternative name of this length, after all else is done.
    let values = format!("mtu=1400,alias=x,altnames={}", "n".repeat(127));
    host.dladm("set-linkprop -p mtu=1300,state=up,altnames=b br0").refused("exists");
    assert_eq!(kernel(&host, "br0"), before);
    host.dladm(&format!("set-linkprop -p {values} br0"));
    assert_eq!(shown(&host, "effective", "mtu", "br0"), kernel(&host, "br0")["mtu"].to_string());
}

#[test]
fn a_vnic_takes_no_larger_packets_than_what_it_lies_over() {
    let host = host();
    host.dladm("create-vnic -l a v0").ok();
    let line = host.unchanged_by(|| host.dladm("set-linkprop -p mtu=9000 v0")).refused("invalid");
    assert!(line.contains("68-1500"), "{line}");
    host.dladm("set-linkprop -p mtu=9000 a").ok();
    host.dladm("set-linkprop -p mtu=9000 v0").ok();
    assert_eq!(kernel(&host, "v0")["mtu"], 9000);
}

#[test]
fn a_reset_comes_to_what_was_there_before() {
    let host = host();
    let mac = shown(&host, "effective", "mac", "a");
    host.ip("link property add dev a altname found");
    host.dladm("set-linkprop -p mtu=1400,promisc=on,altnames=x a").ok();
    host.dladm("set-linkprop -t -p mtu=1300,mac=02:00:00:00:00:0b a").ok();
    host.dladm("reset-linkprop -p promisc a").ok();
    assert_eq!(shown(&host, "value", "promisc", "a"), "off");
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1400:1300");
    host.dladm("reset-linkprop a").ok();
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1500:1500");
    assert_eq!(shown(&host, "effective", "mac", "a"), mac);
    assert_eq!(shown(&host, "effective", "altnames", "a"), "found");
    host.dladm("reset-linkprop -p colour a").refused("invalid");
}

#[test]
fn a_temporary_reset_lasts_as_long_as_the_link() {
    let mut host = host();
    host.dladm("set-linkprop -p mtu=1400 a").ok();
    host.dladm("reset-linkprop -t -p mtu a").ok();
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1400:1500");
    host.stop_daemon();
    host.ip("link delete dev a");
    host.start_daemon();
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1400:1400");
}

#[test]
fn what_was_set_for_good_is_set_again_when_the_link_is_made_again() {
    let mut host = host();
    host.dladm("set-linkprop -p mtu=1400,state=up,mac=02:00:00:00:00:0a,alias=kept a").ok();
    host.dladm("set-linkprop -t -p txqueuelen=7 a").ok();
    let id = host.ids()["a"];
    host.kill9();
    host.ip("link delete dev a");
    host.start_daemon();
    let link = kernel(&host, "a");
    assert_eq!((&link["mtu"], &link["ifalias"]), (&1400.into(), &"kept".into()));
    assert_eq!(link["address"], "02:00:00:00:00:0a");
    assert!(is_up(&link), "{link}");
    assert_eq!(link["txqlen"], 1000, "that was temporary");
    assert_eq!(host.ids()["a"], id);
}

#[test]
fn a_restart_leaves_what_others_changed_and_what_is_temporary() {
    let mut host = host();
    host.dladm("set-linkprop -p mtu=1400 a").ok();
    host.dladm("set-linkprop -t -p txqueuelen=7 a").ok();
    host.ip("link set dev a mtu 1300");
    eventually("dladm knows the MTU", || host.field("mtu", "a") == "1300");
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1400:1300");
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(shown(&host, "value,effective", "mtu", "a"), "1400:1300");
    assert_eq!(kernel(&host, "a")["txqlen"], 7);
    host.dladm("reset-linkprop a").ok();
    assert_eq!(kernel(&host, "a")["txqlen"], 1000, "what was found is kept over a restart");
}

#[test]
fn properties_stay_with_a_link_over_a_rename_and_a_loan() {
    let host = host();
    host.dladm("set-linkprop -p mtu=1400,state=up,alias=kept a").ok();
    host.dladm("rename-link a lan").ok();
    host.add_zone("web");
    host.dladm("set-linkprop -p zone=web lan").ok();
    assert_eq!(shown(&host, "value,effective", "zone", "web/lan"), "web:web");
    assert_eq!(host.field("zone", "web/lan"), "web");
    host.ip_in("web", "link set dev lan mtu 1300 alias other txqueuelen 5");
    host.dladm("set-linkprop -p promisc=on web/lan").ok();
    host.end_zone("web");
    let link = kernel(&host, "lan");
    assert_eq!((&link["mtu"], &link["ifalias"]), (&1400.into(), &"kept".into()));
    assert_eq!(link["txqlen"], 1000, "as it was at home");
    assert!(is_up(&link), "{link}");
    assert!(link["flags"].to_string().contains("PROMISC"), "it was set while it was away");
}

#[test]
fn a_port_of_a_bridge_has_properties_of_its_own() {
    let host = host();
    let line = host.dladm("set-linkprop -p learning=off a").refused("invalid");
    assert!(line.contains("only a port of a bridge"), "{line}");
    host.ip("link set dev a master br0");
    eventually("it is a port", || host.dladm("show-linkprop -p learning a").status == 0);
    assert_eq!(shown(&host, "value,effective,default", "learning", "a"), "on:on:on");
    let values = "learning=off,isolated=on,stp_cost=7,stp_priority=3,hairpin=on,bpdu_guard=on";
    host.dladm(&format!("set-linkprop -p {values} a")).ok();
    let told = host.ip("-d link show dev a");
    for part in ["learning off", "isolated on", "cost 7", "hairpin on", "guard on"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(shown(&host, "effective", "stp_priority", "a"), "3");
    let line = host.dladm("set-linkprop -p stp_priority=64 a").refused("invalid");
    assert!(line.contains("0-63"), "{line}");
    // All before the daemon looks.
    let leave_and_return = "ip link set dev a nomaster; ip link set dev a master br0";
    let daemon = host.daemon_pid();
    host.sh(&format!("kill -STOP {daemon}; {leave_and_return}; kill -CONT {daemon}"));
    eventually("it is again what it was as a port", || {
        host.ip("-d link show dev a").contains("learning off")
    });
    host.dladm("reset-linkprop a").ok();
    assert!(host.ip("-d link show dev a").contains("learning on"));
}

#[test]
fn what_a_driver_can_is_switched_and_what_it_cannot_is_told() {
    let host = host();
    if host.dladm("show-linkprop -p gso a").status != 0 {
        return eprintln!("skipped: this kernel has no ethtool netlink");
    }
    host.dladm("set-linkprop -p gso=off,gro=on,tso=off a").ok();
    assert_eq!(host.dladm("show-linkprop -c -o effective -p gso,gro,tso a").ok(), "off\non\noff\n");
    host.dladm("reset-linkprop a").ok();
    assert_eq!(shown(&host, "value,effective,default,possible", "gso", "a"), "on:on:on:on,off");
    let line = host.dladm("set-linkprop -p rx_ring=256 a").refused("not-supported");
    assert!(line.contains("its driver has no rx_ring"), "{line}");
    host.dladm("set-linkprop -p speed=1000 a").refused("invalid");
}

/// Whether this kernel has the queue that bounds what is sent.
fn has_tbf(host: &Host) -> bool {
    let script = "tc qdisc add dev b root tbf rate 1mbit burst 10k latency 50ms && \
                  tc qdisc del dev b root";
    host.command("sh").args(["-ec", script]).output().is_ok_and(|done| done.status.success())
}

#[test]
fn what_a_link_sends_is_bounded() {
    let host = host();
    if !has_tbf(&host) {
        return eprintln!("skipped: this kernel has no tbf");
    }
    host.dladm("set-linkprop -p maxbw=10M a").ok();
    let told = host.sh("tc qdisc show dev a");
    assert!(told.contains("tbf") && told.contains("rate 10Mbit"), "{told}");
    assert_eq!(shown(&host, "value,effective,default", "maxbw", "a"), "10M:10M:");
    host.add_zone("web");
    host.dladm("set-zone a web").ok();
    assert_eq!(shown(&host, "effective", "maxbw", "web/a"), "10M");
    host.end_zone("web");
    assert_eq!(shown(&host, "effective", "maxbw", "a"), "10M");
    host.dladm("reset-linkprop -p maxbw a").ok();
    assert!(!host.sh("tc qdisc show dev a").contains("tbf"));
    host.dladm("set-linkprop -p maxbw=fast a").refused("invalid");
}

#[test]
fn a_link_is_not_told_to_be_active_before_its_properties_are_set() {
    let host = host();
    host.dladm("set-linkprop -p mtu=1400 a").ok();
    host.add_zone("dying");
    host.ip("link set dev a netns dying");
    eventually("dladm follows it", || host.everywhere().contains_key("dying/a"));
    let monitor = host.monitor("--json");
    host.end_zone("dying");
    let added = monitor.wait_for("the link made again", |line| {
        line.contains("\"added\"") && line.contains("\"a\"")
    });
    assert!(added.contains("1400"), "{added}");
}

#[test]
fn callers_in_a_zone_see_properties_and_set_none() {
    let host = Host::with_zones(&["web"]);
    host.dladm("set-zone a web").ok();
    assert_eq!(host.dladm_in("web", "show-linkprop -c -o value -p mtu a").ok(), "1500\n");
    host.dladm_in("web", "show-linkprop b").refused("not-found");
    let line = host.dladm_in("web", "set-linkprop -p mtu=1400 a").refused("denied");
    assert!(line.contains("set properties of links"), "{line}");
}

#[test]
fn an_import_brings_the_properties() {
    let host = host();
    host.dladm("set-linkprop -p mtu=1400,altnames=x,y a").ok();
    host.dladm("set-linkprop -t -p txqueuelen=7 a").ok();
    let exported = host.dladm("export").ok();
    assert!(!exported.contains("txqueuelen"), "that is temporary: {exported}");
    let mut other = Host::new();
    other.start_daemon();
    let file = other.dir().join("registry.json");
    std::fs::write(&file, exported).unwrap();
    other.dladm(&format!("import {}", file.display())).ok();
    assert_eq!(kernel(&other, "a")["mtu"], 1400);
    assert_eq!(shown(&other, "value", "altnames", "a"), "x,y");
}

/// What the kernel has of a link as one of its kind.
#[track_caller]
fn of_kind(host: &Host, link: &str) -> Value {
    let listed = host.ip(&format!("-d -json link show dev {link}"));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed[0]["linkinfo"]["info_data"].clone()
}

#[test]
fn what_a_bridge_was_made_with_is_read_and_changed() {
    let host = host();
    host.dladm("create-bridge -P stp mine").ok();
    assert_eq!(shown(&host, "property,perm,value,effective,default,possible", "stp", "mine"), {
        "protect:rw:stp:stp:none:none,stp"
    });
    host.dladm("set-linkprop -p stp=off,ageing=77,mcast_snooping=off mine").ok();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&0.into(), &7700.into()));
    assert_eq!(shown(&host, "effective", "mcast_snooping", "mine"), "off");
    host.dladm("set-linkprop -p stp=on mine").ok();
    assert_eq!(of_kind(&host, "mine")["stp_state"], 1);
    host.dladm("reset-linkprop -p stp,ageing-time mine").ok();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&0.into(), &30000.into()));
    let all = host.dladm("show-linkprop -c -o property mine").ok();
    let named = |name: &str| all.lines().filter(|line| *line == name).count();
    assert_eq!((named("vlan-filtering"), named("priority"), named("mtu")), (1, 1, 1));
    let line = host.dladm("set-linkprop -p max-age=99 mine").refused("invalid");
    assert!(line.contains("max-age: `99` is not possible: 6-40 is"), "{line}");
}

#[test]
fn the_vlans_of_a_bridge_are_filtered_where_the_kernel_can() {
    let host = host();
    host.dladm("create-bridge mine").ok();
    if shown(&host, "effective", "vlan-protocol", "mine").is_empty() {
        let line = host.dladm("set-linkprop -p vlan_filtering=on mine").refused("kernel");
        assert!(line.contains("Operation not supported"), "{line}");
        return eprintln!("skipped: this kernel's bridges know no VLANs");
    }
    host.dladm("set-linkprop -p vlan_filtering=on,default-pvid=9 mine").ok();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["vlan_filtering"], &data["vlan_default_pvid"]), (&1.into(), &9.into()));
    host.dladm("reset-linkprop -p vlan_filtering,default-pvid mine").ok();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["vlan_filtering"], &data["vlan_default_pvid"]), (&0.into(), &1.into()));
}

#[test]
fn a_reset_comes_to_what_the_kernel_takes_by_itself() {
    let host = host();
    host.ip("link add name tunnel type vxlan id 7 dstport 4789");
    host.ip("link add link a name share type macvlan");
    for link in ["br0", "tunnel", "share"] {
        let words = format!("show-linkprop -c -o property,perm,effective,default {link}");
        let told = host.dladm(&words).ok();
        let options = told.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let kept = |line: &Vec<&str>| line[1] == "rw" && line[0].contains(['-', 't']);
        let options: Vec<Vec<&str>> = options.filter(kept).collect();
        assert!(options.len() > 1, "{told}");
        // Ours is another mode than the kernel's, and no kernel tells of what it does not have.
        let is_told = |option: &&Vec<&str>| option[0] != "mode" && !option[2].is_empty();
        for option in options.iter().filter(is_told) {
            assert_eq!(option[2], option[3], "{link}: {option:?}");
        }
    }
}

#[test]
fn what_a_link_was_made_with_is_changed_all_or_none() {
    let host = host();
    host.dladm("create-bridge mine").ok();
    let before = (kernel(&host, "mine"), of_kind(&host, "mine")["stp_state"].clone());
    // A link that is over another cannot have a larger MTU; the option is checked before.
    host.dladm("set-linkprop -p stp=on,colour=red mine").refused("invalid");
    host.dladm("set-linkprop -p stp=on,altnames=a mine").refused("exists");
    let after = (kernel(&host, "mine"), of_kind(&host, "mine")["stp_state"].clone());
    assert_eq!(after, before);
    let line = host.dladm("set-linkprop -p protect=stp a").refused("invalid");
    assert!(line.contains("no property `protect`"), "{line}");
}

#[test]
fn a_changed_option_is_kept_over_a_restart_and_when_the_link_is_made_again() {
    let mut host = host();
    host.dladm("create-bridge mine").ok();
    host.dladm("set-linkprop -p stp=on,ageing=77 mine").ok();
    host.dladm("set-linkprop -t -p priority=4096 mine").ok();
    host.kill9();
    host.start_daemon();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&1.into(), &7700.into()));
    assert_eq!(data["priority"], 4096);
    host.stop_daemon();
    host.ip("link delete dev mine");
    host.start_daemon();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&1.into(), &7700.into()));
    assert_eq!(data["priority"], 32768, "that was temporary");
}

#[test]
fn options_of_vnics_and_overlays_are_changed_where_the_kernel_can() {
    let host = host();
    host.dladm("create-vnic -l a v0").ok();
    host.dladm("set-linkprop -p mode=vepa,bc_queue=5 v0").ok();
    assert_eq!(of_kind(&host, "v0")["mode"], "vepa");
    assert!(host.ip("-d link show dev v0").contains("bcqueuelen 5"));
    host.dladm("create-overlay -v 7 --remote 192.0.2.1 o0").ok();
    host.dladm("set-linkprop -p ttl=9,ageing=44 o0").ok();
    let data = of_kind(&host, "o0");
    assert_eq!((&data["ttl"], &data["ageing"]), (&9.into(), &44.into()));
    assert_eq!(data["remote"], "192.0.2.1", "what was not named stays");
    let told = shown(&host, "perm,value", "vni", "o0");
    assert_eq!(told, "r-:7");
    let line = host.dladm("set-linkprop -p vni=8 o0").refused("invalid");
    assert!(line.contains("vni can only be read"), "{line}");
}

#[test]
fn an_import_brings_changed_options() {
    let host = host();
    host.dladm("create-bridge mine").ok();
    host.dladm("set-linkprop -p stp=on mine").ok();
    host.dladm("set-linkprop -t -p ageing=77 mine").ok();
    let exported = host.dladm("export").ok();
    let mut other = Host::new();
    other.start_daemon();
    let file = other.dir().join("registry.json");
    std::fs::write(&file, exported).unwrap();
    other.dladm(&format!("import {}", file.display())).ok();
    let data = of_kind(&other, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&1.into(), &30000.into()));
}

#[test]
fn an_import_onto_the_same_host_brings_options_back() {
    let host = host();
    host.dladm("create-bridge -P stp mine").ok();
    host.dladm("create-overlay -v 7 --remote 192.0.2.1 o0").ok();
    let exported = host.dladm("export").ok();
    let file = host.dir().join("registry.json");
    std::fs::write(&file, &exported).unwrap();
    let import = || host.dladm(&format!("import {}", file.display()));
    host.dladm("set-linkprop -p stp=off,ageing=77 mine").ok();
    import().ok();
    let data = of_kind(&host, "mine");
    assert_eq!((&data["stp_state"], &data["ageing_time"]), (&1.into(), &30000.into()));
    assert_eq!(host.dladm("export").ok(), exported);
    host.unchanged_by(|| import().ok());
    host.dladm("set-linkprop -p stp=off mine").ok();
    std::fs::write(&file, exported.replace("\"vni\": \"7\"", "\"vni\": \"8\"")).unwrap();
    let line = host.unchanged_by(import).refused("exists");
    assert!(line.contains("whose vni is 7, not 8"), "{line}");
    assert_eq!(of_kind(&host, "mine")["stp_state"], 0);
}
