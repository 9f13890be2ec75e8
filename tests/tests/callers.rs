//! Who the daemon says a caller is: SPEC.md section 8.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use dlmgmt_tests::{Host, eventually};
use libdlmgmt::Client;
use rustix::io::{FdFlags, fcntl_setfd};

/// No test of its own, but what the test below has another process do: it holds a link, leaves its
/// connection to a child that lives as long as the standard input, and waits to be killed.
#[test]
#[ignore = "another test runs it"]
fn leaves_a_hold_to_a_child() {
    let door = std::env::var_os("DLMGMT_DOOR").unwrap();
    let hold = Client::connect(door).unwrap().hold("a".parse().unwrap()).unwrap();
    fcntl_setfd(hold.as_fd(), FdFlags::empty()).unwrap();
    let mut child = Command::new("cat").spawn().unwrap();
    println!("\nheld");
    child.wait().unwrap();
}

#[test]
fn a_holder_is_told_by_its_pid_only_while_that_is_the_process_that_connected() {
    let host = Host::with_zones(&[]);
    let mut command = host.command(std::env::current_exe().unwrap());
    command.args(["--exact", "leaves_a_hold_to_a_child", "--ignored", "--nocapture"]);
    command.env("DLMGMT_DOOR", host.door()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().unwrap();
    let heirs_life = holder.stdin.take();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "held"));

    let refused = || host.dladm("rename-link a c").refused("busy");
    let pid = format!("pid {}", holder.id());
    assert!(refused().contains(&pid), "not `{pid}`: {}", refused());
    holder.kill().unwrap();
    eventually("the process is told no longer", || !refused().contains("pid"));
    assert!(refused().contains("uid 0"), "{}", refused());
    holder.wait().unwrap();
    drop(heirs_life);
    eventually("the hold has ended", || host.dladm("rename-link a c").status == 0);
}
