//! What `dladm` shows, in which form, and how it ends: SPEC.md section 10.

use std::fs::File;
use std::process::Stdio;

use dlmgmt_tests::{Host, Output};
use serde_json::Value;

const LINK_FIELDS: &str =
    "link,class,mtu,state,over,zone,owner,linkid,mac,ifindex,kind,media,flags";
const PHYS_FIELDS: &str = "link,media,state,speed,duplex,device,mac,path,zone,flags";

/// A host with a link of nearly every class that the kernel makes of nothing.
fn zoo() -> Host {
    let mut host = Host::new();
    host.ip("link add name br0 type bridge");
    host.ip("link add name veth0 type veth peer name veth1");
    host.ip("link set dev veth1 master br0");
    host.ip("link add name mv0 link veth0 type macvlan");
    host.ip("link add name vx0 type vxlan id 7 dstport 4789");
    host.ip("tuntap add dev tap0 mode tap");
    host.start_daemon();
    host
}

#[test]
fn show_link_tells_class_mtu_state_and_what_a_link_lies_over() {
    let host = zoo();
    let shown = host.dladm("show-link -p -o link,class,mtu").ok();
    let expected = [
        "br0:bridge:1500",
        "mv0:vnic:1500",
        "tap0:tap:1500",
        "veth0:veth:1500",
        "veth1:veth:1500",
        "vx0:overlay:1500",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert_eq!(host.dladm("show-link -p -o state,over mv0").ok(), "down:veth0\n");
}

#[test]
fn every_field_says_what_the_kernel_says() {
    let host = Host::with_links(&["br0"]);
    host.sh("ip link set dev br0 address 02:00:00:00:00:07");
    dlmgmt_tests::eventually("the new address shows", || {
        host.field("mac", "br0") == "02:00:00:00:00:07"
    });
    let (id, index) = host.agreed()["br0"];
    let shown = host.dladm(&format!("show-link -p -o {LINK_FIELDS} br0")).ok();
    let expected = format!(
        "br0:bridge:1500:down::global:global:{id}:02\\:00\\:00\\:00\\:00\\:07:{index}:\
         bridge:Ethernet:active,foreign\n"
    );
    assert_eq!(shown, expected);
}

#[test]
fn output_for_people_is_aligned_and_plain_when_piped() {
    let host = zoo();
    let shown = host.dladm("show-link").ok();
    assert_eq!(host.dladm("").ok(), shown, "no command means show-link");
    assert!(shown.is_ascii() && !shown.contains('\x1b'), "{shown}");

    let mut lines = shown.lines();
    let header = lines.next().unwrap();
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>(),
        ["LINK", "CLASS", "MTU", "STATE", "OVER"]
    );
    let columns: Vec<usize> = ["LINK", "CLASS", "MTU", "STATE", "OVER"]
        .iter()
        .map(|name| header.find(name).unwrap())
        .collect();
    for line in lines {
        assert_eq!(line, line.trim_end());
        for column in &columns {
            assert_ne!(&line[*column..=*column], " ", "{line}");
            assert!(*column == 0 || &line[column - 1..*column] == " ", "{line}");
        }
    }
    assert!(shown.contains("br0 ") && shown.contains(" --\n"), "{shown}");
}

#[test]
fn a_zone_column_comes_with_z() {
    let host = Host::with_links(&["br0"]);
    for command in ["show-link -Z", "show-link -Z -z global", "show-link -Z br0"] {
        let shown = host.dladm(command).ok();
        let mut lines = shown.lines();
        assert!(lines.next().unwrap().ends_with("ZONE"), "{shown}");
        assert!(lines.next().unwrap().ends_with("global"), "{shown}");
    }
    assert_eq!(host.dladm("show-link -p -o link -z global").ok(), "br0\n");
    assert_eq!(host.dladm("show-link -p -o link -z global br0").ok(), "br0\n");
    host.dladm("show-link -z nosuch").refused("no-zone");
}

#[test]
fn of_several_parsable_fields_colons_and_backslashes_are_escaped_and_a_single_one_is_not() {
    let mut host = Host::new();
    host.sh(r"ip link add name 'a\b' type bridge");
    host.start_daemon();
    assert_eq!(host.dladm("show-link -p -o link").ok(), "a\\b\n");
    assert_eq!(host.dladm("show-link -p -o LINK,Class").ok(), "a\\\\b:bridge\n");
    assert_eq!(host.field("mac", r"a\b").matches(':').count(), 5);
    assert_eq!(host.field("mac,kind", r"a\b").matches("\\:").count(), 5);
}

#[test]
fn a_name_with_bytes_that_are_not_text_is_shown_escaped_and_reached_by_its_id() {
    let mut host = Host::new();
    host.sh(r#"ip link add name "$(printf 'a\033\377b')" type bridge"#);
    host.start_daemon();
    assert_eq!(host.dladm("show-link -p -o link").ok(), "a\\x1b\\xffb\n");
    assert_eq!(host.dladm("show-link -p -o link,mtu").ok(), "a\\\\x1b\\\\xffb:1500\n");
    assert!(host.dladm("show-link").ok().contains("a\\x1b\\xffb  bridge"));
    let shown: Value = serde_json::from_str(&host.dladm("show-link --json").ok()).unwrap();
    assert_eq!(shown[0]["link"], "a\\x1b\\xffb");

    host.dladm(&format!("rename-link @{} plain", shown[0]["linkid"])).ok();
    assert_eq!(host.kernel().into_keys().collect::<Vec<_>>(), ["plain"]);
}

#[test]
fn p_needs_o_and_o_needs_fields_that_there_are() {
    let host = Host::with_links(&[]);
    for command in ["show-link -p", "show-link -p -o all", "show-phys -p", "show-phys -p -o all"] {
        assert!(host.dladm(command).error_line(2).contains("-o"));
    }
    assert!(host.dladm("show-link -o link,speed").error_line(2).contains("speed"));
    assert!(host.dladm("show-phys -p -o mtu").error_line(2).contains("mtu"));
    assert!(host.dladm("show-link -o all").ok().starts_with("LINK"));
}

#[test]
fn json_is_one_array_of_objects_with_those_field_names_and_numbers_as_numbers() {
    let host = zoo();
    let shown: Value = serde_json::from_str(&host.dladm("show-link --json").ok()).unwrap();
    let links = shown.as_array().unwrap();
    assert_eq!(links.len(), 6);
    for link in links {
        let link = link.as_object().unwrap();
        let mut names: Vec<&str> = LINK_FIELDS.split(',').collect();
        names.sort_unstable();
        assert_eq!(link.keys().map(String::as_str).collect::<Vec<_>>(), names);
        for number in ["mtu", "linkid", "ifindex"] {
            assert!(link[number].is_u64(), "{number}: {link:?}");
        }
        assert!(link["flags"].as_array().unwrap().contains(&Value::from("active")));
    }
    let chosen: Value =
        serde_json::from_str(&host.dladm("show-link --json -o mtu,over mv0").ok()).unwrap();
    assert_eq!(chosen, serde_json::json!([{ "mtu": 1500, "over": ["veth0"] }]));
}

#[test]
fn show_phys_shows_devices_without_a_kernel_link_type_alone() {
    let host = Host::with_links(&["br0"]);
    for command in ["", " -P", " -L", " -m", " -Z"] {
        let shown = host.dladm(&format!("show-phys{command}")).ok();
        assert!(shown.starts_with("LINK") && shown.lines().count() == 1, "{shown}");
    }
    assert_eq!(host.dladm(&format!("show-phys -p -o {PHYS_FIELDS}")).ok(), "");
    assert_eq!(host.dladm("show-phys --json").ok(), "[]\n");
    assert!(host.dladm("show-phys br0").error_line(1).contains("bridge"));
    host.dladm("show-phys -L -m").error_line(2);
}

#[test]
fn loopback_is_known_but_shown_only_with_show_link_lo() {
    let host = Host::with_links(&["br0"]);
    for all in ["show-link -p -o link", "show-link -Z -p -o link", "show-link -P -p -o link"] {
        assert!(!host.dladm(all).ok().lines().any(|line| line == "lo"), "{all}");
    }
    assert_eq!(host.dladm("show-link -p -o link,media lo").ok(), "lo:Loopback\n");
}

#[test]
fn p_shows_only_what_survives_a_reboot() {
    let host = Host::with_links(&["br0"]);
    assert_eq!(host.dladm("show-link -P -p -o link").ok(), "", "somebody else made the link");
    assert!(host.dladm("show-link -P br0").error_line(1).contains("br0"));
}

#[test]
fn a_link_is_asked_for_by_its_name_its_zone_and_name_or_its_id() {
    let host = Host::with_links(&["br0"]);
    let id = host.ids()["br0"];
    for link in ["br0".to_owned(), "global/br0".to_owned(), format!("@{id}")] {
        assert_eq!(host.field("link", &link), "br0", "{link}");
    }
}

#[test]
fn links_are_listed_in_the_order_of_their_names_with_numbers_by_value() {
    let host = Host::with_links(&["b", "net10", "net2", "a"]);
    assert_eq!(host.dladm("show-link -p -o link").ok(), "a\nb\nnet2\nnet10\n");
}

#[test]
fn the_exit_status_is_3_when_the_daemon_is_not_reachable() {
    let mut host = Host::new();
    let commands = [
        "show-link",
        "show-phys",
        "rename-link a b",
        "delete-phys a",
        "hold a -- true",
        "monitor",
        "export",
        "import /dev/null",
    ];
    for command in commands {
        host.dladm(command).error_line(3);
    }
    host.start_daemon();
    host.dladm("show-link").ok();
    host.dladm("--door /nowhere/door show-link").error_line(3);
    host.kill9();
    host.dladm("show-link").error_line(3);
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_status_2_even_without_a_daemon() {
    let host = Host::new();
    for command in [
        "frob",
        "show-link --frob",
        "show-link a b",
        "rename-link",
        "rename-link a",
        "rename-link a b c",
        "delete-phys",
        "hold a",
        "hold -- true",
        "monitor --since x",
        "import",
        "export x",
        "show-link -p -o link --json",
    ] {
        host.dladm(command).error_line(2);
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_output_that_nobody_reads_is_none() {
    let host = Host::with_links(&["br0"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = host.dladm_command().arg("show-link").stdout(full).output().unwrap();
    Output::from(output).error_line(1);

    let mut unread = host.dladm_command();
    let mut child =
        unread.args(["monitor"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = Output::from(child.wait_with_output().unwrap());
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
}
