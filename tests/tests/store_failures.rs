//! The disk fails, or what lies on it is damaged: nothing acknowledged is lost without a word, and
//! no start is worse than the one before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dlmgmt_tests::{Host, Output, eventually};

/// Every file below a directory with its content, but not the daemon's own log.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

fn state(host: &Host) -> PathBuf {
    host.dir().join("state")
}

/// Zeros all of a file.
fn wipe(file: &Path) {
    let len = fs::metadata(file).unwrap().len() as usize;
    fs::write(file, vec![0; len]).unwrap();
}

/// A host whose daemon has ended, with a persistent link `v0`.
fn written() -> (Host, u32) {
    let mut host = Host::with_links(&[]);
    host.dladm("create-veth v0 p0").ok();
    let id = host.ids()["v0"];
    host.stop_daemon();
    (host, id)
}

#[test]
fn a_damaged_database_is_restored_loudly_and_once() {
    let (mut host, id) = written();
    wipe(&state(&host).join("db/db"));
    for _ in 0..3 {
        host.start_daemon();
        assert_eq!(host.ids()["v0"], id);
        host.stop_daemon();
    }
    let told = host.log().lines().filter(|line| line.contains("the database was damaged")).count();
    assert_eq!(told, 1, "{}", host.log());
    assert!(state(&host).join("damaged-1/db").exists());
    assert!(!state(&host).join("damaged-2").exists());
}

#[test]
fn what_cannot_be_restored_is_refused_in_one_line_and_stays_as_it_is() {
    let (host, _) = written();
    wipe(&state(&host).join("db/db"));
    fs::remove_file(state(&host).join("snapshot.json")).unwrap();
    let found = contents(&state(&host));
    for _ in 0..3 {
        let output = Output::from(host.daemon_command().output().unwrap());
        assert_eq!(output.status, 1, "{output:?}");
        let told = output.stderr.lines().filter(|line| line.starts_with("dlmgmtd: "));
        let told: Vec<&str> = told.collect();
        assert!(matches!(told[..], [line] if line.contains("there is no snapshot")), "{output:?}");
        assert_eq!(contents(&state(&host)), found, "something was changed");
    }
}

/// As a disk does that was filled up and then repaired by somebody, while the daemon writes.
#[test]
fn a_log_that_is_cut_under_the_daemon_is_never_a_silent_loss() {
    let mut host = Host::with_links(&[]);
    host.dladm("create-veth v0 p0").ok();
    let log = fs::File::options().write(true).open(state(&host).join("db/db")).unwrap();
    log.set_len(0).unwrap();
    // Whether the daemon notices at once is open, but an answer must come.
    let renamed = host.dladm("rename-link p0 p1").status == 0;
    host.kill9();
    let before = host.log().len();
    let output = match start(&mut host) {
        Ok(()) => {
            let ids = host.ids();
            let kept =
                ids.contains_key("v0") && ids.contains_key(if renamed { "p1" } else { "p0" });
            assert!(kept || host.log()[before..].contains("the database was damaged"));
            return;
        }
        Err(output) => output,
    };
    assert!(output.lines().any(|line| line.starts_with("dlmgmtd: ")), "{output}");
}

/// Starts the daemon; what it said when it ended instead.
fn start(host: &mut Host) -> Result<(), String> {
    let mut probe = host.daemon_command();
    let log = host.dir().join("probe");
    let mut daemon = probe.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut ended = None;
    eventually("the daemon answers or ends", || {
        ended = daemon.try_wait().unwrap();
        ended.is_some() || host.dladm("show-link").status == 0
    });
    if ended.is_some() {
        return Err(fs::read_to_string(log).unwrap());
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    host.start_daemon();
    Ok(())
}

/// A library that makes flushes to the disk fail while the file that `SYNC_FAILS` names is there,
/// writes while the one that `WRITE_FAILS` names is, and what a write left behind to be written while
/// the one that `WRITE_BACK_FAILS` names is.
const FAILING_DISK: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int fails(const char *variable, int error) {
    const char *flag = getenv(variable);
    if (!flag || access(flag, F_OK) != 0) return 0;
    errno = error;
    return 1;
}
int fdatasync(int fd) { return fails("SYNC_FAILS", EIO) ? -1 : syscall(SYS_fdatasync, fd); }
int fsync(int fd) { return fails("SYNC_FAILS", EIO) ? -1 : syscall(SYS_fsync, fd); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    return fails("WRITE_FAILS", EROFS) ? -1 : syscall(SYS_pwrite64, fd, bytes, len, at);
}
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    return fails("WRITE_BACK_FAILS", EIO) ? -1 : syscall(SYS_sync_file_range, fd, at, len, flags);
}
"#;

fn failing_disk(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("disk.c"), dir.join("disk.so"));
    fs::write(&source, FAILING_DISK).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    Output::from(compiler.output().unwrap()).ok();
    library
}

/// A host whose disk fails in this way while the file is there.
fn host_with_failing_disk(way: &str) -> (Host, PathBuf) {
    let mut host = Host::new();
    let flag = host.dir().join("fails");
    let mut daemon = host.daemon_command();
    daemon.env("LD_PRELOAD", failing_disk(host.dir())).env(way, &flag);
    host.start_daemon_as(daemon);
    host.dladm("create-veth v0 p0").ok();
    (host, flag)
}

/// While the disk fails each change is refused and none is made; once it works they are taken
/// again, and a restart finds all that was acknowledged.
fn assert_refused_while_failing(host: &mut Host, flag: &Path, why: &str) {
    let ids = host.ids();
    fs::write(flag, "").unwrap();
    for _ in 0..3 {
        let line = host.unchanged_by(|| host.dladm("rename-link v0 v1")).refused("store");
        assert!(line.contains(why), "{line}");
        host.unchanged_by(|| host.dladm("create-veth v2 p2")).refused("store");
    }
    fs::remove_file(flag).unwrap();
    eventually("changes are taken again", || host.dladm("rename-link v0 v1").status == 0);

    host.kill9_and_restart();
    assert_eq!(host.ids()["v1"], ids["v0"]);
    assert_eq!(host.ids()["p0"], ids["p0"]);
    assert!(!host.log().contains("the database was damaged"), "{}", host.log());
}

/// The kernel may have dropped what it could not write: nothing is to follow such a hole.
fn assert_log_replaced_after(way: &str) {
    let (mut host, flag) = host_with_failing_disk(way);
    let log = |host: &Host| fs::metadata(state(host).join("db/db")).unwrap().ino();
    let refused_log = log(&host);
    assert_refused_while_failing(&mut host, &flag, "Input/output error");
    assert_ne!(log(&host), refused_log, "the log that the disk refused is written on");
}

#[test]
fn a_disk_that_cannot_sync_refuses_changes_until_it_can_again() {
    assert_log_replaced_after("SYNC_FAILS");
}

#[test]
fn a_disk_that_loses_what_was_written_refuses_changes_until_it_does_so_no_more() {
    assert_log_replaced_after("WRITE_BACK_FAILS");
}

/// As when the file system was made read-only after an error.
#[test]
fn a_disk_that_cannot_be_written_refuses_changes_until_it_can_again() {
    let (mut host, flag) = host_with_failing_disk("WRITE_FAILS");
    assert_refused_while_failing(&mut host, &flag, "Read-only file system");
}

#[test]
fn a_zone_that_appears_while_the_disk_fails_is_one_when_it_works_again() {
    let (host, flag) = host_with_failing_disk("SYNC_FAILS");
    fs::write(&flag, "").unwrap();
    host.ip("netns add web");
    eventually("the zone is not taken", || host.log().contains("zone web is not taken"));
    assert!(!host.zones().contains_key("web"));
    fs::remove_file(&flag).unwrap();
    host.await_ready("web");
}

/// The kernel's name for its run, as the daemon sees it.
fn set_boot_id(host: &Host, id: &str) {
    let file = host.dir().join("boot-id");
    let place = "/proc/sys/kernel/random/boot_id";
    if !file.exists() {
        fs::write(&file, id).unwrap();
        host.sh(&format!("mount --bind {} {place}", file.display()));
    }
    fs::write(&file, id).unwrap();
    assert_eq!(host.sh(&format!("cat {place}")).trim(), id);
}

/// All links and namespaces end with a boot; their names in directories do too.
#[test]
fn a_new_boot_keeps_what_is_persistent_and_nothing_else() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    set_boot_id(&host, "11111111-1111-1111-1111-111111111111");
    host.start_daemon();
    host.add_zone("web");
    for words in [
        "create-veth v0 p0",
        "create-veth v1 p1",
        "create-veth -t t0 t1",
        "create-vnic -t -l a -z web inside",
        "set-zone -n up0 v0 web",
        "set-zone -t v1 web",
    ] {
        host.dladm(words).ok();
    }
    let before = host.everywhere();
    let highest = before.values().max().copied().unwrap();

    host.kill9();
    host.sh("ip netns delete web; for l in a p0 p1 t0; do ip link delete dev $l 2>/dev/null || true; done");
    set_boot_id(&host, "22222222-2222-2222-2222-222222222222");
    host.start_daemon();
    let ids = host.ids();
    let persistent =
        [("v0", "web/up0"), ("p0", "global/p0"), ("v1", "web/v1"), ("p1", "global/p1")];
    for (now, then) in persistent {
        assert_eq!(ids.get(now), before.get(then), "{now}: {ids:?} {before:?}");
    }
    assert_eq!(ids.len(), persistent.len(), "{ids:?}");

    host.add_zone("web");
    eventually("the persistent loan goes back", || host.kernel_in("web") == ["up0"]);
    host.dladm("create-veth n0 n1").ok();
    assert!(host.ids()["n0"] > highest, "a linkid was given again");
}
