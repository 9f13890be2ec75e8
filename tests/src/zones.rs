//! The zones of a host: network namespaces with a name, and without.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use libdlmgmt::Client;

use crate::{Host, Monitor, Namespace, Output, bin, eventually};

/// A process that ends with this value; mostly one in a network namespace of its own that has no
/// name.
pub struct Guest {
    child: Child,
}

impl From<Child> for Guest {
    fn from(child: Child) -> Self {
        Self { child }
    }
}

impl Guest {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its network namespace, for threads of the test that are to work inside.
    pub fn namespace(&self) -> Namespace {
        Namespace::of_process(self.pid())
    }

    /// Kills the process, which is the last in its namespace.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

impl Host {
    /// A host with a pair of veths, `a` and `b`, a daemon, and these zones, which are up.
    #[track_caller]
    pub fn with_zones(zones: &[&str]) -> Self {
        let mut host = Self::new();
        host.ip("link add name a type veth peer name b");
        host.start_daemon();
        zones.iter().for_each(|zone| host.add_zone(zone));
        host
    }

    /// Makes a namespace as `ip netns add` does, and waits until it is a zone.
    #[track_caller]
    pub fn add_zone(&self, zone: &str) {
        self.ip(&format!("netns add {zone}"));
        self.await_ready(zone);
    }

    /// Takes the namespace's name away as `ip netns delete` does, and waits until the zone ended.
    #[track_caller]
    pub fn end_zone(&self, zone: &str) {
        self.ip(&format!("netns delete {zone}"));
        self.await_down(zone);
    }

    /// Waits until a zone is up.
    #[track_caller]
    pub fn await_ready(&self, zone: &str) {
        eventually(&format!("zone {zone} is up"), || self.is_ready(zone));
    }

    /// Waits until a zone is not there, and its loans are home.
    #[track_caller]
    pub fn await_down(&self, zone: &str) {
        eventually(&format!("zone {zone} is down"), || {
            self.zones().get(zone).is_none_or(|state| state == "down")
        });
    }

    /// Whether a zone is up.
    #[track_caller]
    pub fn is_ready(&self, zone: &str) -> bool {
        self.zones().get(zone).is_some_and(|state| state == "ready")
    }

    /// Every zone that `dladm` lists, with its state.
    ///
    /// # Panics
    /// When it lists none.
    #[track_caller]
    pub fn zones(&self) -> BTreeMap<String, String> {
        let listed = self.dladm("show-zone -p -o zone,state").ok();
        let pair =
            |line: &str| line.split_once(':').map(|(zone, state)| (zone.into(), state.into()));
        listed.lines().map(|line| pair(line).expect("two fields")).collect()
    }

    /// One field of a zone, as `dladm` shows it.
    #[track_caller]
    pub fn zone_field(&self, field: &str, zone: &str) -> String {
        self.dladm(&format!("show-zone -p -o {field} {zone}")).ok().trim_end().to_owned()
    }

    /// Every link of every zone as `ZONE/NAME`, with its linkid.
    ///
    /// # Panics
    /// When `dladm` lists none.
    #[track_caller]
    pub fn everywhere(&self) -> BTreeMap<String, u32> {
        let listed = self.dladm("show-link -Z -p -o zone,linkid,link").ok();
        let entry = |line: &str| {
            let mut fields = line.splitn(3, ':');
            let mut field = || fields.next().expect("three fields").to_owned();
            let (zone, id, name) = (field(), field(), field());
            (format!("{zone}/{name}"), id.parse().expect("a number"))
        };
        listed.lines().map(entry).collect()
    }

    /// Waits until `ZONE/NAME` is the link with this id.
    #[track_caller]
    pub fn await_at(&self, place: &str, id: u32) {
        eventually(&format!("@{id} is {place}"), || self.everywhere().get(place) == Some(&id));
    }

    /// Runs `ip` with these words in a namespace that has a name.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip_in(&self, zone: &str, words: &str) -> String {
        self.ip(&format!("-n {zone} {words}"))
    }

    /// The names of the kernel's links in a namespace, without the loopback.
    ///
    /// # Panics
    /// When `ip` says what cannot be read.
    #[track_caller]
    pub fn kernel_in(&self, zone: &str) -> Vec<String> {
        names(&self.ip_in(zone, "-json link show"))
    }

    /// The names of the kernel's links in a guest's namespace, without the loopback.
    ///
    /// # Panics
    /// When `ip` says what cannot be read.
    #[track_caller]
    pub fn kernel_of(&self, guest: &Guest) -> Vec<String> {
        names(&self.in_guest(guest, "ip -json link show"))
    }

    /// Runs `script` in a shell in a guest's namespace.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn in_guest(&self, guest: &Guest, script: &str) -> String {
        self.sh(&format!("nsenter --net=/proc/{}/ns/net sh -ec '{script}'", guest.pid()))
    }

    /// `dladm`, about to run inside a zone.
    pub fn dladm_command_in(&self, zone: &str) -> Command {
        let mut command = self.command("ip");
        command.args(["netns", "exec", zone]).arg(bin("dladm"));
        command.env("DLMGMT_DOOR", self.door());
        command
    }

    /// Runs `dladm` with these words inside a zone.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn dladm_in(&self, zone: &str, words: &str) -> Output {
        let mut command = self.dladm_command_in(zone);
        command.args(words.split_whitespace()).output().expect("dladm runs").into()
    }

    /// Starts `dladm monitor` with these words inside a zone, and waits for nothing.
    pub fn monitor_in(&self, zone: &str, words: &str) -> Monitor {
        let mut command = self.dladm_command_in(zone);
        command.arg("monitor").args(words.split_whitespace());
        Monitor::start(command)
    }

    /// A guest whose namespace is a zone.
    ///
    /// # Panics
    /// When it does not become one.
    #[track_caller]
    pub fn guest_zone(&self, zone: &str) -> Guest {
        let guest = self.guest();
        self.dladm(&format!("attach-zone --pid {} {zone}", guest.pid())).ok();
        guest
    }

    /// Starts a process in a new network namespace without a name.
    ///
    /// # Panics
    /// When it does not start.
    pub fn guest(&self) -> Guest {
        let script = "echo ready && exec sleep infinity";
        self.saying_ready(&["unshare", "--net", "--", "sh", "-c", script])
    }

    /// Starts a process, and waits until it says `ready`.
    ///
    /// # Panics
    /// When it says something else.
    pub fn saying_ready(&self, words: &[&str]) -> Guest {
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let mut said = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut said).expect("its output can be read");
        assert_eq!(said, "ready\n", "{words:?} is not ready");
        Guest { child }
    }

    /// Does something with a connection to the door that was made in this host's namespace.
    ///
    /// # Panics
    /// When the door does not open, or `work` panics.
    pub fn with_client<T: Send>(&self, work: impl FnOnce(&Client) -> T + Send) -> T {
        self.with_client_of(self.namespace(), work)
    }

    fn with_client_of<T: Send>(
        &self,
        namespace: Namespace,
        work: impl FnOnce(&Client) -> T + Send,
    ) -> T {
        let door = self.door();
        // A thread of its own, since it stays in the namespace for good.
        let inside = move || {
            namespace.enter();
            work(&Client::connect(door).expect("the door opens"))
        };
        std::thread::scope(|scope| scope.spawn(inside).join().expect("the client's work is done"))
    }

    /// Does something with a connection to the door that was made in a guest's namespace.
    ///
    /// # Panics
    /// When the door does not open, or `work` panics.
    pub fn with_client_in<T: Send>(
        &self,
        guest: &Guest,
        work: impl FnOnce(&Client) -> T + Send,
    ) -> T {
        self.with_client_of(guest.namespace(), work)
    }

    /// How many living namespaces have a number (nsid) in this host's own; where there are more than
    /// about a hundred, `ip` tells only of that many.
    ///
    /// # Panics
    /// When `ip` does not tell.
    #[track_caller]
    pub fn numbered_namespaces(&self) -> usize {
        self.ip("netns list-id").lines().count()
    }

    /// How many descriptors the daemon has open.
    ///
    /// # Panics
    /// When none runs.
    pub fn daemon_fds(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.daemon_pid()));
        open.expect("the daemon's descriptors can be listed").count()
    }

    /// What the kernel has of a link at home that a loan must bring back.
    ///
    /// # Panics
    /// When it has no such link.
    #[track_caller]
    pub fn attire(&self, link: &str) -> Attire {
        let shown: Vec<serde_json::Value> =
            serde_json::from_str(&self.ip(&format!("-json link show dev {link}")))
                .expect("ip speaks JSON");
        let [link] = &shown[..] else { panic!("not one link: {shown:?}") };
        let is_up = |flags: &serde_json::Value| {
            flags.as_array().expect("flags").iter().any(|flag| flag == "UP")
        };
        Attire {
            name: link["ifname"].clone(),
            mtu: link["mtu"].clone(),
            mac: link["address"].clone(),
            altnames: link["altnames"].clone(),
            is_up: is_up(&link["flags"]),
        }
    }
}

/// The names in a list of `ip -json`, in order, without the loopback's.
fn names(listed: &str) -> Vec<String> {
    let listed: Vec<serde_json::Value> = serde_json::from_str(listed).expect("ip speaks JSON");
    let name = |link: &serde_json::Value| link["ifname"].as_str().expect("a name").to_owned();
    let mut names: Vec<_> = listed.iter().map(name).filter(|name| name != "lo").collect();
    names.sort_unstable();
    names
}

/// What the kernel has of a link that a loan must bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attire {
    /// Its name.
    pub name: serde_json::Value,
    /// Its MTU.
    pub mtu: serde_json::Value,
    /// Its address.
    pub mac: serde_json::Value,
    /// Its alternative names.
    pub altnames: serde_json::Value,
    /// Whether it is administratively up.
    pub is_up: bool,
}
