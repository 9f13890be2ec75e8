//! What udev is told of the daemon's own links: SPEC.md section 5.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dlmgmt_tests::{Host, eventually};

/// Where this host's daemon writes files for udev.
fn directory(host: &Host) -> PathBuf {
    host.dir().join("network")
}

fn start(host: &mut Host) {
    host.configure(&format!("link-files = \"{}\"", directory(host).display()));
    let mut command = host.daemon_command();
    command.arg("--config").arg(host.dir().join("dlmgmtd.toml"));
    host.start_daemon_as(command);
}

/// A host with a pair of veths that somebody else made, and a daemon that tells udev.
fn host() -> Host {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    start(&mut host);
    host
}

/// All files in the directory, with their texts.
fn files(host: &Host) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory(host)).into_iter().flatten();
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        (entry.file_name().into_string().unwrap(), text)
    };
    entries.map(file).filter(|(name, _)| name.ends_with(".link")).collect()
}

fn file_name(id: u32) -> String {
    format!("10-dlmgmt-{id}.link")
}

#[track_caller]
fn await_files(host: &Host, names: &[String]) {
    eventually(&format!("{names:?} are there"), || files(host).keys().eq(names));
}

#[test]
fn a_virtual_link_of_ours_has_a_file_as_long_as_it_is_there_and_no_other_link_has_one() {
    let host = host();
    host.dladm("create-vnic -l a vnic0").ok();
    let id = host.ids()["vnic0"];
    await_files(&host, &[file_name(id)]);
    assert_eq!(
        files(&host)[&file_name(id)],
        format!(
            "# dlmgmtd keeps this file for its link {id}; do not edit.\n\
             [Match]\nOriginalName=vnic0\nKind=macvlan\n\n\
             [Link]\nNamePolicy=keep\nMACAddressPolicy=none\n"
        )
    );
    host.dladm("delete-vnic vnic0").ok();
    await_files(&host, &[]);
}

#[test]
fn a_file_follows_a_rename() {
    let host = host();
    host.dladm("create-vnic -l a vnic0").ok();
    let id = host.ids()["vnic0"];
    host.dladm("rename-link vnic0 lan").ok();
    eventually("the file has the new name", || {
        files(&host).get(&file_name(id)).is_some_and(|text| text.contains("\nOriginalName=lan\n"))
    });
}

#[test]
fn a_file_stays_while_its_link_is_lent_so_that_udev_leaves_that_alone_when_it_comes_home() {
    let host = host();
    host.add_zone("web");
    host.dladm("create-vnic -l a vnic0").ok();
    let id = host.ids()["vnic0"];
    await_files(&host, &[file_name(id)]);
    let before = files(&host);
    host.dladm("set-zone -n eth0 vnic0 web").ok();
    host.await_at("web/eth0", id);
    assert_eq!(files(&host), before);
    host.end_zone("web");
    host.await_at("global/vnic0", id);
    assert_eq!(files(&host), before);
}

#[test]
fn files_outlive_the_daemon_and_end_with_their_links_at_its_next_start() {
    let mut host = host();
    let others = directory(&host).join("10-lan.link");
    host.dladm("create-vnic -t -l a vnic0").ok();
    host.dladm("create-vnic -t -l a vnic1").ok();
    let ids = host.ids();
    let ours = [file_name(ids["vnic0"]), file_name(ids["vnic1"])];
    await_files(&host, &ours);
    fs::write(&others, "[Match]\n").unwrap();
    host.stop_daemon();
    assert_eq!(files(&host).len(), 3);
    host.ip("link delete dev vnic0");
    start(&mut host);
    await_files(&host, &[ours[1].clone(), "10-lan.link".to_owned()]);
}

#[test]
fn the_addresses_of_links_of_ours_are_none_that_udev_would_replace() {
    let host = host();
    host.dladm("create-vnic -l a vnic0").ok();
    host.dladm("create-veth veth0 veth1").ok();
    for link in ["vnic0", "veth0", "veth1"] {
        // NET_ADDR_SET: userspace gave it.
        let kind = host.sh(&format!("cat /sys/class/net/{link}/addr_assign_type"));
        assert_eq!(kind.trim(), "3", "{link}");
    }
}

#[test]
fn udev_itself_leaves_a_link_of_ours_alone() {
    let host = host();
    host.dladm("create-vnic -l a vnic0").ok();
    let id = host.ids()["vnic0"];
    await_files(&host, &[file_name(id)]);
    let attire = host.attire("vnic0");
    // Where udev looks; and somebody who wants another name for every link.
    host.sh("mkdir -p /run/systemd/network");
    host.sh(&format!("cp {}/*.link /run/systemd/network", directory(&host).display()));
    let greedy = "[Match]\\nOriginalName=*\\n[Link]\\nName=greedy\\nMACAddressPolicy=random\\n";
    host.sh(&format!("printf '{greedy}' > /run/systemd/network/50-greedy.link"));
    let mut udev = host.command("udevadm");
    udev.args(["test-builtin", "net_setup_link", "/sys/class/net/vnic0"]);
    let said = udev.output().unwrap();
    if said.status.code() == Some(127) {
        println!("skipped: udevadm is not installed");
        return;
    }
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let file = format!("ID_NET_LINK_FILE=/run/systemd/network/{}", file_name(id));
    assert!(said.lines().any(|line| line == file), "{said}");
    assert!(!said.contains("greedy"), "{said}");
    assert_eq!(host.attire("vnic0"), attire);
}

#[test]
fn udev_gets_no_name_for_what_the_daemon_does_not_keep_a_name_for() {
    let mut host = host();
    host.dladm("create-vnic -l a vnic0").ok();
    let links = host.kernel();
    let name = |host: &Host, ifindex: u32| {
        let mut command = host.daemon_command();
        let output = command.args(["udev-name", &ifindex.to_string(), "eth0"]).output().unwrap();
        (output.status.code(), output.stdout)
    };
    for stop in [false, true] {
        if stop {
            host.stop_daemon();
        }
        for ifindex in [links["a"], links["vnic0"], 12345] {
            assert_eq!(name(&host, ifindex), (Some(1), Vec::new()), "{ifindex}");
        }
    }
}

#[test]
fn the_name_that_our_rule_asks_for_wins_over_that_of_a_link_file_and_nothing_else_does() {
    let host = Host::new();
    host.ip("link add name a type veth peer name b");
    host.sh("mkdir -p /run/udev/rules.d /run/systemd/network");
    // The rule as it is, for a virtual device and with somebody else to ask.
    let rule = include_str!("../../systemd/78-dlmgmt.rules");
    let rule: String = rule
        .split_inclusive('\n')
        .filter(|line| !line.contains("/devices/virtual/"))
        .map(|line| line.replace("/usr/sbin/dlmgmtd udev-name $env{IFINDEX} %k", "/bin/echo lan"))
        .collect();
    // What udev's own 80-net-setup-link.rules does.
    let setup = "SUBSYSTEM==\"net\", IMPORT{builtin}=\"net_setup_link\"\n\
                 NAME==\"\", ENV{ID_NET_NAME}!=\"\", NAME=\"$env{ID_NET_NAME}\"\n";
    let policy = "[Match]\nOriginalName=*\n[Link]\nName=policy\nMTUBytes=1400\n";
    for (text, path) in [
        (rule.as_str(), "/run/udev/rules.d/78-dlmgmt.rules"),
        (setup, "/run/udev/rules.d/80-net-setup-link.rules"),
        (policy, "/run/systemd/network/50-policy.link"),
    ] {
        fs::write(host.dir().join("file"), text).unwrap();
        host.sh(&format!("cp {} {path}", host.dir().join("file").display()));
    }
    let mut udev = host.command("udevadm");
    udev.args(["test", "--action=add", "/sys/class/net/a"]);
    let said = udev.output().unwrap();
    if said.status.code() == Some(127) {
        println!("skipped: udevadm is not installed");
        return;
    }
    assert!(host.kernel().contains_key("lan"), "{said:?}");
    assert_eq!(host.sh("cat /sys/class/net/lan/mtu").trim(), "1400");
}
