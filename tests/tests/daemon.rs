//! What the daemon must withstand when it starts, and while it runs.

use std::fs;
use std::process::Command;

use dlmgmt_tests::{Host, Output, bin};

/// Runs a daemon that is expected to end by itself, and gives what it said.
#[track_caller]
fn refused_start(mut command: Command) -> String {
    let output = Output::from(command.output().unwrap());
    assert!(output.status > 0 && output.status < 128, "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    output.stderr
}

#[test]
fn a_second_daemon_on_the_same_state_directory_is_refused_and_the_first_goes_on() {
    let host = Host::with_links(&["a"]);
    let state = host.dir().join("state");
    let mut second = host.command(bin("dlmgmtd"));
    second.arg("--state-dir").arg(&state);
    second.arg("--runtime-dir").arg(host.dir().join("run2"));
    second.args(["--bus", "none", "--foreground"]);
    let said = host.unchanged_by(|| refused_start(second));
    assert!(said.contains(state.to_str().unwrap()), "{said}");
    host.dladm("rename-link a b").ok();
}

#[test]
fn several_daemons_run_in_different_namespaces_with_different_directories() {
    let (one, other) = (Host::with_links(&["a"]), Host::with_links(&["a", "b"]));
    one.dladm("rename-link a net0").ok();
    assert_eq!(one.agreed().len(), 1);
    assert_eq!(other.agreed().len(), 2);
}

#[test]
fn an_unwritable_state_directory_is_a_clear_error() {
    let host = Host::new();
    let state = host.dir().join("state");
    host.sh(&format!("mount -t tmpfs -o ro tmpfs {}", state.display()));
    let said = refused_start(host.daemon_command());
    assert!(said.contains(state.to_str().unwrap()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_state_directory_that_is_none_is_a_clear_error() {
    let host = Host::new();
    let state = host.dir().join("state");
    fs::remove_dir(&state).unwrap();
    fs::write(&state, "a file").unwrap();
    let said = refused_start(host.daemon_command());
    assert!(said.contains(state.to_str().unwrap()), "{said}");
}

#[test]
fn without_cap_net_admin_there_is_a_read_only_service_with_a_warning() {
    let mut host = Host::new();
    host.ip("link add name a type bridge");
    let mut weak = host.command("setpriv");
    weak.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]).arg(bin("dlmgmtd"));
    host.add_daemon_args(&mut weak);
    host.start_daemon_as(weak);
    assert!(host.log().contains("CAP_NET_ADMIN"), "{}", host.log());
    assert_eq!(host.ids().len(), 1);
    host.unchanged_by(|| host.dladm("rename-link a b")).error_line(1);
}

#[test]
fn a_full_disk_is_a_clear_error_that_changes_nothing_and_passes() {
    let mut host = Host::new();
    host.ip("link add name a type bridge");
    let state = host.dir().join("state");
    host.sh(&format!("mount -t tmpfs -o size=16m tmpfs {}", state.display()));
    host.start_daemon();
    let id = host.ids()["a"];
    let filler = format!("{}/filler", state.display());
    host.sh(&format!("dd if=/dev/zero of={filler} bs=4k 2>/dev/null || true"));

    // What the database has room for already is still taken.
    let mut name = "a".to_owned();
    let refusal = (0..5_000).find_map(|turn| {
        let next = format!("n{turn}");
        let output = host.dladm(&format!("rename-link {name} {next}"));
        if output.status == 0 {
            name = next;
            return None;
        }
        Some(output)
    });
    let line = refusal.expect("the disk is full at last").refused("store");
    assert!(line.contains("No space left on device"), "{line}");
    assert_eq!(host.agreed()[&name].0, id);

    host.sh(&format!("rm {filler}"));
    host.kill9_and_restart();
    assert_eq!(host.agreed()[&name].0, id);
    host.dladm(&format!("rename-link {name} roomy")).ok();
}

#[test]
fn sigterm_is_an_orderly_stop_that_leaves_links_as_they_are() {
    let mut host = Host::with_links(&["a"]);
    host.dladm("rename-link a b").ok();
    host.stop_daemon();
    assert_eq!(host.kernel().into_keys().collect::<Vec<_>>(), ["b"]);
    assert!(!host.door().exists(), "the door is taken away");
}

#[test]
fn a_door_that_a_killed_daemon_left_behind_is_no_obstacle() {
    let mut host = Host::with_links(&["a"]);
    host.kill9();
    assert!(host.door().exists());
    host.start_daemon();
    assert_eq!(host.ids().len(), 1);
}
