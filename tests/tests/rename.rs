//! Renames: SPEC.md sections 4 and 5, and what issue 2 asks of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};

use dlmgmt_tests::{Host, Output, eventually};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_renamed_link_keeps_its_linkid_in_dladm_and_the_kernel_and_over_a_restart() {
    let mut host = Host::with_links(&["a", "b"]);
    let before = host.agreed();
    host.dladm("rename-link a net0").ok();
    let after = BTreeMap::from([("b".to_owned(), before["b"]), ("net0".to_owned(), before["a"])]);
    assert_eq!(host.agreed(), after);
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(host.agreed(), after);
    host.kill9_and_restart();
    assert_eq!(host.agreed(), after);
}

#[test]
fn a_link_is_renamed_by_its_id_too() {
    let host = Host::with_links(&["a"]);
    let before = host.agreed();
    host.dladm(&format!("rename-link @{} b", before["a"].0)).ok();
    host.dladm("rename-link global/b c").ok();
    assert_eq!(host.agreed()["c"], before["a"]);
}

#[test]
fn a_rename_set_is_any_permutation_a_swap_too() {
    let host = Host::with_links(&["a", "b", "c", "d", "e"]);
    let before = host.agreed();
    host.dladm("rename-link a b b a").ok();
    let swapped = host.agreed();
    assert_eq!((swapped["a"], swapped["b"]), (before["b"], before["a"]));

    host.dladm("rename-link a b b c c d d e e a").ok();
    let cycled = host.agreed();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")] {
        assert_eq!(cycled[to], swapped[from], "{from} became {to}");
    }

    host.dladm("rename-link a x b a c b").ok();
    let chained = host.agreed();
    for (from, to) in [("a", "x"), ("b", "a"), ("c", "b"), ("d", "d"), ("e", "e")] {
        assert_eq!(chained[to], cycled[from], "{from} became {to}");
    }
}

#[test]
fn a_rename_set_is_all_or_none() {
    let host = Host::with_links(&["a", "b", "c"]);
    for (set, reason) in [
        ("a x nosuch0 y", "not-found"),
        ("a x b c", "exists"),
        ("a x b x", "exists"),
        ("a x b all", "invalid"),
        ("a x b y/z", "invalid"),
    ] {
        let attempt = || host.dladm(&format!("rename-link {set}"));
        host.unchanged_by(attempt).refused(reason);
    }
}

#[test]
fn a_rename_of_one_link_to_two_names_is_refused() {
    let host = Host::with_links(&["a"]);
    host.unchanged_by(|| host.dladm("rename-link a x a y")).refused("invalid");
}

#[test]
fn a_rename_to_a_taken_name_is_refused_with_exists_and_changes_nothing() {
    let host = Host::with_links(&["a", "b"]);
    let line = host.unchanged_by(|| host.dladm("rename-link a b")).refused("exists");
    assert!(line.contains('a') && line.contains('b'), "{line}");
}

#[test]
fn an_alternative_name_counts_as_taken_except_by_the_link_itself_which_gives_it_up() {
    let mut host = Host::new();
    host.ip("link add name a type bridge");
    host.ip("link add name b type bridge");
    host.ip("link property add dev a altname other");
    host.start_daemon();
    let before = host.agreed();
    host.unchanged_by(|| host.dladm("rename-link b other")).refused("exists");
    host.dladm("rename-link a other").ok();
    assert_eq!(host.agreed()["other"], before["a"]);
    assert!(!host.ip("link show other").contains("altname other"));
}

#[test]
fn a_rename_to_the_name_that_a_link_has_changes_nothing() {
    let host = Host::with_links(&["a"]);
    host.unchanged_by(|| host.dladm("rename-link a a")).ok();
}

#[test]
fn bad_names_are_refused_with_a_clear_error_and_change_nothing() {
    let host = Host::with_links(&["a"]);
    let long = [b'n'; 255];
    let names: [&[u8]; 19] = [
        b"",
        &long[..16],
        &long,
        b"no/name",
        b"no:name",
        b"no name",
        b"net%d",
        b"tab\t",
        b"line\nfeed",
        b"\x1b[31mred",
        b"del\x7f",
        b"bad\xff",
        b"na\xc3\xafve",
        b"0net",
        b".",
        b"..",
        b"lo",
        b"all",
        b"default",
    ];
    for name in names.map(OsStr::from_bytes) {
        let args = [OsStr::new("rename-link"), OsStr::new("a"), name];
        host.unchanged_by(|| host.dladm_args(args)).refused("invalid");
    }
    host.dladm(&format!("rename-link a {}", "n".repeat(15))).ok();
}

#[test]
fn bad_link_operands_are_refused_with_a_clear_error() {
    let host = Host::with_links(&["a"]);
    let long = [b'n'; 255];
    let operands: [&[u8]; 8] =
        [b"", &long[..16], &long, b"bad\xff", b"../a", b"@", b"@0", b"@4294967296"];
    for operand in operands.map(OsStr::from_bytes) {
        for command in ["show-link", "delete-phys"] {
            host.dladm_args([OsStr::new(command), operand]).refused("invalid");
        }
        let args = [OsStr::new("rename-link"), operand, OsStr::new("x")];
        host.unchanged_by(|| host.dladm_args(args)).refused("invalid");
    }
}

#[test]
fn unknown_links_and_ids_are_not_found() {
    let host = Host::with_links(&["a"]);
    for link in ["nosuch0", "no:such", "global/nosuch0", "@4294967295"] {
        for command in [
            format!("show-link {link}"),
            format!("show-phys {link}"),
            format!("delete-phys {link}"),
            format!("rename-link {link} b"),
            format!("hold {link} -- true"),
        ] {
            let line = host.unchanged_by(|| host.dladm(&command)).refused("not-found");
            assert!(line.contains(link), "{line}");
        }
    }
    host.dladm("show-link nosuch/a").refused("no-zone");
}

#[test]
fn a_link_that_is_there_or_is_not_physical_is_not_deleted() {
    let host = Host::with_links(&["a"]);
    let output = host.unchanged_by(|| host.dladm("delete-phys a"));
    assert!(output.error_line(1).contains('a'));
}

#[test]
fn the_loopback_is_not_renamed() {
    let host = Host::with_links(&[]);
    host.unchanged_by(|| host.dladm("rename-link lo net0")).error_line(1);
}

#[test]
fn a_rename_of_a_held_link_is_busy_and_names_who_holds_it() {
    let host = Host::with_links(&["a", "b"]);
    let rename = "\"$0\" show-link -p -o flags a; exec \"$0\" rename-link a net0";
    let dladm = dlmgmt_tests::bin("dladm");
    let mut hold = host.dladm_command();
    hold.args(["hold", "a", "--", "sh", "-c", rename]).arg(dladm);
    let output = Output::from(host.unchanged_by(|| hold.output().unwrap()));
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stdout.contains("held"), "{output:?}");
    let why = output.stderr.strip_prefix("dladm: rename-link a net0: ").expect("an error line");
    assert!(why.contains("(busy)") && why.contains("dladm"), "{why}");
    assert_eq!(why.lines().count(), 1, "{why}");
}

#[test]
fn a_hold_of_one_link_hinders_no_other() {
    let host = Host::with_links(&["a", "b"]);
    let mut hold = host.dladm_command();
    hold.args(["hold", "a", "--"]).arg(dlmgmt_tests::bin("dladm")).args([
        "rename-link",
        "b",
        "net0",
    ]);
    Output::from(hold.output().unwrap()).ok();
}

#[test]
fn a_hold_ends_with_its_command_whose_exit_status_it_gives() {
    let host = Host::with_links(&["a"]);
    let hold = |script: &str| host.dladm_args(["hold", "a", "--", "sh", "-c", script]);
    assert_eq!(hold("exit 77").status, 77);
    assert_eq!(hold("kill -KILL $$").status, 128 + 9);
    assert_eq!(hold("echo said").ok(), "said\n");
    assert!(host.dladm("hold a -- /no/such/command").error_line(1).contains("/no/such/command"));
    host.dladm("rename-link a net0").ok();
}

/// A `dladm hold` of the link `a` for a script that says `holds` first, and that is to end with
/// its standard input.
fn hold_for(host: &Host, script: &str) -> Child {
    let mut hold = host.dladm_command();
    hold.args(["hold", "a", "--", "sh", "-c", script]);
    let mut hold = hold.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 6];
    hold.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"holds\n");
    hold
}

#[test]
fn a_hold_lasts_until_its_command_has_heeded_a_signal() {
    let host = Host::with_links(&["a"]);
    let script = "trap 'exit 9' TERM; exec 3<&0; cat <&3 & echo holds; wait";
    let mut hold = hold_for(&host, script);
    // To wait would close it, and the script could end before the signal is passed on.
    let stdin = hold.stdin.take();
    kill_process(Pid::from_child(&hold), Signal::TERM).unwrap();
    assert_eq!(hold.wait().unwrap().code(), Some(9));
    drop(stdin);
    host.dladm("rename-link a net0").ok();
}

#[test]
fn a_hold_ends_with_a_killed_dladm() {
    let host = Host::with_links(&["a"]);
    let mut hold = hold_for(&host, "echo holds; exec cat");
    host.dladm("rename-link a net0").refused("busy");
    hold.kill().unwrap();
    hold.wait().unwrap();
    eventually("the hold ends", || host.dladm("rename-link a net0").status == 0);
}

#[test]
fn changes_by_many_clients_at_once_are_all_made() {
    let names: Vec<String> = (0..16).map(|i| format!("link{i}")).collect();
    let host = Host::with_links(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = host.agreed();
    let rename = |name: &str| host.dladm(&format!("rename-link {name} new-{name}")).ok();
    let rename = &rename;
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || rename(name));
        }
    });
    let after = host.agreed();
    for name in &names {
        assert_eq!(after[&format!("new-{name}")], before[name]);
    }
}
