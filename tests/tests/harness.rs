//! The tests' own world: that it is apart from the host's, and that nothing of it stays.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;

use dlmgmt_tests::{Host, eventually};

#[test]
fn every_host_has_links_of_its_own() {
    let (one, other) = (Host::new(), Host::new());
    one.ip("link add name apart type bridge");
    assert!(one.kernel().contains_key("apart"));
    assert!(other.kernel().is_empty());
    assert!(one.command("test").args(["-e", "/sys/class/net/apart"]).status().unwrap().success());
}

#[test]
fn a_host_leaves_nothing_behind_even_when_its_test_fails() {
    let mut left = None;
    let failure = catch_unwind(AssertUnwindSafe(|| {
        let host = Host::new();
        let mut daemon = host.command("sh");
        daemon.args(["-c", "echo $$; exec sleep infinity"]).stdout(Stdio::piped());
        left = Some((host.dir().to_owned(), daemon.spawn().unwrap()));
        panic!("on purpose");
    }));
    assert!(failure.is_err());
    let (dir, mut daemon) = left.unwrap();
    assert!(!dir.exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn what_runs_in_a_host_ends_with_the_thread_that_started_it() {
    let host = Host::new();
    let status = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let start = || {
        let pid = host.command("sleep").arg("infinity").spawn().unwrap().id();
        eventually("the program runs", || status(pid).starts_with("Name:\tsleep"));
        pid
    };
    let pid = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    eventually("the process ends", || {
        let status = status(pid);
        status.is_empty() || status.contains("State:\tZ")
    });
}
