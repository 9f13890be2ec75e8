//! Where the daemon and its floor do their work: each on a host of its own, so that neither hears
//! of what the other does.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use dlmgmt_proto::ZoneName;
use dlmgmt_proto::door::AttachZone;
use dlmgmt_tests::Host;
use libdlmgmt::Client;
use tempfile::TempDir;

/// Starts a daemon that has its state on a disk, until the directory that is answered is dropped:
/// of the tests' own directories, those of cargo are the ones that surely lie on one.
pub fn start_daemon_on_disk(host: &mut Host) -> TempDir {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let mut daemon = host.command(dlmgmt_tests::bin("dlmgmtd"));
    daemon.arg("--state-dir").arg(state.path());
    daemon.arg("--runtime-dir").arg(host.dir().join("run"));
    daemon.arg("--netns-dir").arg(host.dir().join("netns"));
    daemon.args(["--bus", "none", "--foreground"]);
    host.start_daemon_as(daemon);
    state
}

/// A namespace that lives as long as its one process.
pub struct Space {
    process: Child,
}

impl Space {
    pub fn new() -> Self {
        let mut process = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut said = String::new();
        let stdout = process.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut said).expect("its output can be read");
        assert_eq!(said, "ready\n", "no namespace: the benches need root");
        Self { process }
    }

    pub fn open(&self) -> File {
        let path = PathBuf::from(format!("/proc/{}/ns/net", self.process.id()));
        File::open(path).expect("the namespace is there")
    }

    /// Makes it a zone.
    pub fn attach(&self, client: &Client, name: &ZoneName) {
        let pid = i32::try_from(self.process.id()).expect("a process id");
        let call = AttachZone { zone: name.clone(), pid: Some(pid), path: None };
        client.attach_zone(call, None).expect("the zone is taken");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
