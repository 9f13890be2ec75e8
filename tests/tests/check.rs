//! `dlmgmtd check`, as people and scripts run it.

use std::fs;
use std::path::Path;

use dlmgmt_tests::{Host, Output, bin};

fn check(host: &Host, dir: &Path) -> Output {
    let mut command = host.command(bin("dlmgmtd"));
    Output::from(command.arg("check").arg("--state-dir").arg(dir).output().unwrap())
}

#[test]
fn the_exit_status_tells_whether_all_is_well() {
    let mut host = Host::with_links(&["a"]);
    host.dladm("create-veth v0 p0").ok();
    let state = host.dir().join("state");
    let used = check(&host, &state);
    assert!(used.stderr.contains("in use by another dlmgmtd"), "{used:?}");
    assert_eq!((used.status, &*used.stdout), (1, ""));

    host.stop_daemon();
    let sound = check(&host, &state);
    assert_eq!((sound.status, &*sound.stderr), (0, ""), "{sound:?}");
    assert!(sound.stdout.contains("problems: 0\n"), "{sound:?}");

    let log = state.join("db/db");
    fs::write(&log, vec![0; fs::metadata(&log).unwrap().len() as usize]).unwrap();
    let damaged = check(&host, &state);
    assert_eq!(damaged.status, 1);
    assert_eq!(damaged.stderr.lines().count(), 1, "{damaged:?}");
    assert!(damaged.stderr.starts_with("dlmgmtd: "), "{damaged:?}");

    let usage = host.command(bin("dlmgmtd")).args(["check", "--no-such-option"]).output().unwrap();
    assert_eq!(Output::from(usage).status, 2);
}
