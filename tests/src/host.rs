//! A world of its own for one test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::{Monitor, Output, eventually};

/// The path of one of the project's binaries: beside the test itself, or in `DLMGMT_BIN_DIR`.
///
/// # Panics
/// When it was not built.
pub fn bin(name: &str) -> PathBuf {
    let dir = std::env::var_os("DLMGMT_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/PROFILE/deps/TEST
        test.ancestors().nth(2).expect("a test lies in deps").to_owned()
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: `cargo build` comes first", path.display());
    path
}

/// The path of one of the project's release binaries: beside the directory of [`bin`]'s, or in
/// `DLMGMT_RELEASE_BIN_DIR`.
///
/// # Panics
/// When it was not built.
pub fn release_bin(name: &str) -> PathBuf {
    let dir = std::env::var_os("DLMGMT_RELEASE_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/PROFILE/deps/TEST
        test.ancestors().nth(3).expect("a test lies in deps").join("release")
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: `cargo build --release` comes first", path.display());
    path
}

/// A network namespace that a thread can enter.
#[derive(Clone, Debug)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// The namespace that a process is in.
    pub(crate) fn of_process(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Moves the calling thread, and no other, into the namespace for the rest of its life.
    ///
    /// # Panics
    /// When the namespace is gone.
    pub fn enter(&self) {
        let namespace = File::open(&self.0).expect("the namespace is there");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace can be entered");
    }
}

/// A network namespace with a mount tree of its own, directories for a daemon, and the daemon that
/// runs there. All of it ends with this value, and with the test however that ends.
pub struct Host {
    dir: TempDir,
    holder: Child,
    daemon: Option<Child>,
}

impl Host {
    /// A host with no link but the loopback, and no daemon yet.
    ///
    /// # Panics
    /// When the system does not allow it: the tests need root, if only in a user namespace.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["state", "run", "netns"] {
            fs::create_dir(dir.path().join(name)).expect("a directory for the daemon");
        }
        // `cat` ends when its input does, and the input ends with this process: the namespaces
        // outlive no test. /sys is mounted again to show the devices of the new namespace, and
        // /run so that `ip netns` has names of its own here.
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c"])
            .arg(
                "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir /run/netns \
                 && ip link set dev lo up && echo ready && exec cat",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut said).expect("its output can be read");
        assert_eq!(said, "ready\n", "no namespaces: these tests need root");
        Self { dir, holder, daemon: None }
    }

    /// A host with these bridges and a daemon that knows them.
    pub fn with_links(names: &[&str]) -> Self {
        let mut host = Self::new();
        for name in names {
            host.ip(&format!("link add name {name} type bridge"));
        }
        host.start_daemon();
        host
    }

    /// A directory of this host's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The second directory that the daemon watches for the names of zones; the first is where
    /// `ip netns` has its own.
    pub fn netns_dir(&self) -> PathBuf {
        self.dir().join("netns")
    }

    /// The daemon's door.
    pub fn door(&self) -> PathBuf {
        self.dir().join("run/door")
    }

    /// A command that will run inside; it ends with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let of_holder = |kind: &str| format!("/proc/{}/ns/{kind}", self.holder.id());
        command.arg(format!("--net={}", of_holder("net")));
        command.arg(format!("--mount={}", of_holder("mnt")));
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Runs `script` in a shell inside.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.command("sh").args(["-ec", script]).output().expect("sh runs");
        Output::from(output).ok()
    }

    /// Runs `ip` with these words inside.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.sh(&format!("ip {words}"))
    }

    /// The network namespace, for threads of the test that are to work inside.
    pub fn namespace(&self) -> Namespace {
        Namespace::of_process(self.holder.id())
    }

    /// The network namespace of a zone that `ip netns` made, or of `global`.
    pub fn namespace_of(&self, zone: &str) -> Namespace {
        match zone {
            "global" => self.namespace(),
            // /run is this host's own, which only its processes see by that name.
            _ => Namespace(format!("/proc/{}/root/run/netns/{zone}", self.holder.id()).into()),
        }
    }

    /// The daemon's command with this host's directories.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.command(bin("dlmgmtd"));
        self.add_daemon_args(&mut command);
        command
    }

    /// Gives the daemon this host's directories, and no bus.
    pub fn add_daemon_args(&self, command: &mut Command) {
        self.add_daemon_args_with_bus(command, "none");
    }

    /// Gives the daemon this host's directories and a bus.
    pub fn add_daemon_args_with_bus(&self, command: &mut Command, bus: &str) {
        command.arg("--state-dir").arg(self.dir().join("state"));
        command.arg("--runtime-dir").arg(self.dir().join("run"));
        command.args(["--netns-dir", "/run/netns"]);
        command.arg("--netns-dir").arg(self.netns_dir());
        command.args(["--bus", bus, "--foreground"]);
    }

    /// Writes this host's configuration file, `dlmgmtd.toml` in its directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, text: &str) {
        fs::write(self.dir().join("dlmgmtd.toml"), text).expect("the file can be written");
    }

    /// Starts the daemon, and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn start_daemon(&mut self) {
        self.start_daemon_as(self.daemon_command());
    }

    /// Starts a daemon by a command of the caller's own, and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn start_daemon_as(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("the log can be written");
        let mut daemon = command.stderr(log).spawn().expect("the daemon starts");
        eventually("the daemon answers", || {
            let ended = daemon.try_wait().expect("the daemon can be waited for");
            assert!(ended.is_none(), "the daemon ended: {}", self.log());
            self.dladm("show-link").status == 0
        });
        self.daemon = Some(daemon);
    }

    /// Starts a daemon that dies when it passes this crash point (`NAME` or `NAME:N`), and waits
    /// until it answers or has died.
    ///
    /// # Panics
    /// When it does neither.
    #[track_caller]
    pub fn start_daemon_to_die_at(&mut self, point: &str) {
        let log = File::options().create(true).append(true).open(self.log_path());
        let mut command = self.daemon_command();
        command.env("DLMGMT_CRASH_POINT", point).stderr(log.expect("the log can be written"));
        self.daemon = Some(command.spawn().expect("the daemon starts"));
        eventually("the daemon answers or dies", || {
            self.has_daemon_died() || self.dladm("show-link").status == 0
        });
    }

    /// Whether the daemon has ended by itself.
    ///
    /// # Panics
    /// When none was started.
    pub fn has_daemon_died(&mut self) -> bool {
        let daemon = self.daemon.as_mut().expect("a daemon was started");
        daemon.try_wait().expect("the daemon can be waited for").is_some()
    }

    fn log_path(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When none runs.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// When none runs.
    pub fn signal_daemon(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().expect("a daemon runs");
        kill_process(Pid::from_child(daemon), signal).expect("the daemon takes signals");
    }

    /// Ends the daemon by SIGTERM.
    ///
    /// # Panics
    /// When it does not end in order.
    #[track_caller]
    pub fn stop_daemon(&mut self) {
        self.signal_daemon(Signal::TERM);
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let status = daemon.wait().expect("the daemon can be waited for");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Ends the daemon by SIGKILL.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    pub fn kill9(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().expect("the daemon takes signals");
        daemon.wait().expect("the daemon can be waited for");
    }

    /// Kills the daemon and starts it again.
    #[track_caller]
    pub fn kill9_and_restart(&mut self) {
        self.kill9();
        self.start_daemon();
    }

    /// `dladm`, about to run inside.
    pub fn dladm_command(&self) -> Command {
        let mut command = self.command(bin("dladm"));
        command.env("DLMGMT_DOOR", self.door());
        command
    }

    /// Runs `dladm` with these words.
    pub fn dladm(&self, words: &str) -> Output {
        self.dladm_args(words.split_whitespace())
    }

    /// Runs `dladm` with these arguments, whatever bytes are in them.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn dladm_args<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.dladm_command().args(args).output().expect("dladm runs").into()
    }

    /// Starts `dladm monitor` with these words; it tells changes already when this returns, of
    /// which those of links named `marker` and `last-marker` came before.
    ///
    /// # Panics
    /// When it tells nothing.
    #[track_caller]
    pub fn monitor(&self, words: &str) -> Monitor {
        let monitor = self.monitor_unmarked(words);
        eventually("the monitor tells changes", || {
            self.ip("link add name marker type bridge");
            self.ip("link delete dev marker");
            !monitor.so_far().is_empty()
        });
        // What else the markers left is told before this.
        self.ip("link add name last-marker type bridge");
        self.id_when_known("last-marker");
        self.ip("link delete dev last-marker");
        monitor.wait_for("the last marker's end", |line| {
            line.contains("gone") && line.contains("last-marker")
        });
        monitor
    }

    /// Starts `dladm monitor` with these words, and waits for nothing.
    pub fn monitor_unmarked(&self, words: &str) -> Monitor {
        let mut command = self.dladm_command();
        command.arg("monitor").args(words.split_whitespace());
        Monitor::start(command)
    }

    /// One field of a link, as `dladm` shows it.
    #[track_caller]
    pub fn field(&self, field: &str, link: &str) -> String {
        self.dladm(&format!("show-link -p -o {field} {link}")).ok().trim_end().to_owned()
    }

    /// Every link that `dladm` lists, with its linkid.
    ///
    /// # Panics
    /// When it lists none.
    #[track_caller]
    pub fn ids(&self) -> BTreeMap<String, u32> {
        let listed = self.dladm("show-link -p -o linkid,link").ok();
        listed.lines().map(|line| split_pair(line, ':')).map(|(id, name)| (name, id)).collect()
    }

    /// The linkid of a link that was made just now, as soon as `dladm` lists it.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn id_when_known(&self, name: &str) -> u32 {
        let mut id = None;
        eventually(&format!("dladm lists {name}"), || {
            id = self.ids().get(name).copied();
            id.is_some()
        });
        id.expect("it was listed")
    }

    /// Every link that the kernel has, with its index; the loopback is not among them.
    ///
    /// # Panics
    /// When `ip` says what cannot be read.
    #[track_caller]
    pub fn kernel(&self) -> BTreeMap<String, u32> {
        let listed = self.ip("-json link show");
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("ip speaks JSON");
        let listed = listed.as_array().expect("an array of links");
        let pair = |link: &serde_json::Value| {
            let name = link["ifname"].as_str().expect("a name").to_owned();
            (name, link["ifindex"].as_u64().expect("an index") as u32)
        };
        listed.iter().map(pair).filter(|(name, _)| name != "lo").collect()
    }

    /// Every link with its linkid and its index, where `dladm` and the kernel agree on its name.
    ///
    /// # Panics
    /// When they do not agree.
    #[track_caller]
    pub fn agreed(&self) -> BTreeMap<String, (u32, u32)> {
        let listed = self.dladm("show-link -p -o ifindex,link").ok();
        let shown: BTreeMap<String, u32> =
            listed.lines().map(|line| split_pair(line, ':')).map(|(i, name)| (name, i)).collect();
        assert_eq!(shown, self.kernel(), "dladm and the kernel do not agree");
        let ids = self.ids();
        shown.into_iter().map(|(name, index)| (name.clone(), (ids[&name], index))).collect()
    }

    /// Asserts that `attempt` changes neither what `dladm` shows, nor the store, nor the kernel.
    ///
    /// # Panics
    /// When it does.
    #[track_caller]
    pub fn unchanged_by<T>(&self, attempt: impl FnOnce() -> T) -> T {
        let state = || {
            let shown = self.dladm("show-link --json").ok();
            (shown, self.dladm("export").ok(), self.ip("link show"))
        };
        let before = state();
        let result = attempt();
        assert_eq!(state(), before, "something changed");
        result
    }
}

fn split_pair(line: &str, separator: char) -> (u32, String) {
    let (number, name) = line.split_once(separator).expect("two fields");
    (number.parse().expect("a number"), name.to_owned())
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.holder]) {
            // Both fail only where it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}
