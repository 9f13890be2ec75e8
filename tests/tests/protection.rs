//! What links do not send: the properties `protection` and `allowed-ips`, dladm(8).

use dlmgmt_tests::{Host, eventually};

const LLDP: &str = "88cc";
const UNKNOWN: &str = "88b5";
const FOREIGN: &str = "02:00:00:00:00:99";

/// A host with a pair of veths of ours that are up, `a` and `b`; none where the kernel has no rules
/// for what leaves a link.
fn host() -> Option<Host> {
    let mut host = Host::new();
    host.start_daemon();
    host.dladm("create-veth a b").ok();
    host.dladm("set-linkprop -p state=up a").ok();
    host.dladm("set-linkprop -p state=up b").ok();
    let tried = host.dladm("set-linkprop -t -p protection=restricted a");
    if tried.status != 0 {
        let line = tried.refused("kernel");
        assert!(line.contains("NETFILTER_EGRESS"), "{line}");
        eprintln!("skipped: {line}");
        return None;
    }
    host.dladm("reset-linkprop -t -p protection a").ok();
    Some(host)
}

fn script(name: &str) -> String {
    format!("python3 {}/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Whether a frame that is made by hand in the namespace of a file arrives at `b`.
#[track_caller]
fn arrives_from(host: &Host, namespace: &str, link: &str, source: &str, protocol: &str) -> bool {
    let words = format!("{} {namespace} {link} b {source} {protocol}", script("frames.py"));
    match host.sh(&words).trim_end() {
        "arrived" => true,
        "dropped" => false,
        other => panic!("{other}"),
    }
}

/// Whether a frame arrives that is sent at home over this link.
#[track_caller]
fn arrives(host: &Host, link: &str, source: &str, protocol: &str) -> bool {
    arrives_from(host, "/proc/self/ns/net", link, source, protocol)
}

/// The chains of rules at home.
fn chains(host: &Host) -> String {
    host.sh(&script("rules.py"))
}

/// The chains of rules in a zone.
fn chains_in(host: &Host, zone: &str) -> String {
    host.sh(&format!("ip netns exec {zone} {}", script("rules.py")))
}

/// One field of one property of a link, as `dladm` shows it.
#[track_caller]
fn shown(host: &Host, field: &str, property: &str, link: &str) -> String {
    let words = format!("show-linkprop -c -o {field} -p {property} {link}");
    host.dladm(&words).ok().trim_end().to_owned()
}

#[test]
fn a_link_sends_what_is_its_own_until_that_is_taken_back() {
    let Some(host) = host() else { return };
    assert!(arrives(&host, "a", FOREIGN, UNKNOWN));
    host.dladm("set-linkprop -p protection=mac-nospoof a").ok();
    let fields = "value,effective,default,possible";
    let words = "mac-nospoof:mac-nospoof::mac-nospoof,ip-nospoof,restricted";
    assert_eq!(shown(&host, fields, "protection", "a"), words);
    assert!(!arrives(&host, "a", FOREIGN, UNKNOWN));
    assert!(arrives(&host, "a", "own", UNKNOWN));
    host.dladm("set-linkprop -p protection=restricted,mac-nospoof a").ok();
    assert_eq!(shown(&host, "effective", "protection", "a"), "mac-nospoof,restricted");
    assert!(!arrives(&host, "a", "own", LLDP));
    host.dladm("reset-linkprop -p protection a").ok();
    assert_eq!(shown(&host, "value,effective", "protection", "a"), ":");
    assert!(arrives(&host, "a", FOREIGN, LLDP));
    assert_eq!(chains(&host), "", "nothing is left of it");
}

#[test]
fn the_link_follows_the_address_that_dladm_gives_it() {
    let Some(host) = host() else { return };
    host.dladm("set-linkprop -p protection=mac-nospoof,mac=02:00:00:00:00:0a a").ok();
    assert!(arrives(&host, "a", "own", UNKNOWN));
    host.dladm(&format!("set-linkprop -p mac={FOREIGN} a")).ok();
    assert!(arrives(&host, "a", "own", UNKNOWN));
    assert!(!arrives(&host, "a", "02:00:00:00:00:0a", UNKNOWN));
}

#[test]
fn a_lent_link_is_guarded_where_it_is() {
    let Some(host) = host() else { return };
    host.dladm("set-linkprop -p protection=mac-nospoof,allowed-ips=192.0.2.1 a").ok();
    host.add_zone("web");
    host.dladm("set-zone a web").ok();
    assert_eq!(
        shown(&host, "effective", "protection,allowed-ips", "web/a"),
        "mac-nospoof\n192.0.2.1"
    );
    assert_eq!(chains(&host), "", "it is not here");
    let web = "/run/netns/web";
    assert!(!arrives_from(&host, web, "a", FOREIGN, UNKNOWN));
    assert!(arrives_from(&host, web, "a", "own", UNKNOWN));
    host.dladm("reset-zone web/a").ok();
    assert_eq!(chains_in(&host, "web"), "", "it is not there");
    assert!(!arrives(&host, "a", FOREIGN, UNKNOWN));
    host.dladm("set-zone a web").ok();
    host.end_zone("web");
    assert!(!arrives(&host, "a", FOREIGN, UNKNOWN));
    host.dladm("delete-veth a").ok();
    assert_eq!(chains(&host), "");
}

#[test]
fn a_link_stays_guarded_whoever_renames_it() {
    let Some(host) = host() else { return };
    host.dladm("set-linkprop -p protection=mac-nospoof a").ok();
    host.dladm("rename-link a lan").ok();
    assert!(!arrives(&host, "lan", FOREIGN, UNKNOWN));
    host.ip("link set dev lan name wan");
    eventually("its rules follow", || {
        host.dladm("show-linkprop -c -o effective -p protection wan").stdout == "mac-nospoof\n"
    });
    assert!(!arrives(&host, "wan", FOREIGN, UNKNOWN));
    host.ip("link delete dev wan");
    eventually("nothing is left of it", || chains(&host).is_empty());
}

#[test]
fn a_link_that_is_made_again_is_guarded_again() {
    let Some(mut host) = host() else { return };
    host.dladm("set-linkprop -p protection=restricted a").ok();
    host.kill9();
    host.ip("link delete dev a");
    host.start_daemon();
    assert_eq!(shown(&host, "value,effective", "protection", "a"), "restricted:restricted");
    assert!(!arrives(&host, "a", "own", LLDP));
}

#[test]
fn rules_that_others_delete_are_shown_as_gone() {
    let Some(host) = host() else { return };
    host.dladm("set-linkprop -p protection=restricted,allowed-ips=2001:db8::/32 a").ok();
    host.sh(&format!("{} delete", script("rules.py")));
    assert_eq!(shown(&host, "value,effective", "protection", "a"), "restricted:");
    host.dladm("set-linkprop -p protection=restricted a").ok();
    assert_eq!(shown(&host, "effective", "protection", "a"), "restricted");
}

#[test]
fn what_cannot_be_guarded_is_refused() {
    let Some(host) = host() else { return };
    for (value, why) in [
        ("protection=dhcp-nospoof", "dhcp-nospoof is not to be had on Linux"),
        ("protection=mac-nospoof,everything", "mac-nospoof,ip-nospoof,restricted"),
        ("allowed-ips=192.0.2.1,home", "`home`"),
        ("allowed-ips=192.0.2.1/24", "`192.0.2.1/24`"),
    ] {
        let words = format!("set-linkprop -p {value} a");
        let line = host.unchanged_by(|| host.dladm(&words)).refused("invalid");
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(chains(&host), "");
}
