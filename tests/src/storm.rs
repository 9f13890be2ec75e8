//! A storm of changes in several namespaces at once, most of whose notifications are lost.

use std::collections::BTreeSet;
use std::fs;

use crate::Host;

/// Namespaces in which the storm is, besides the daemon's own.
const ZONES: [&str; 3] = ["z0", "z1", "z2"];

/// In each namespace so many links are made, all are renamed, and every other one is deleted: in
/// all four that makes 20,000 changes.
const LINKS: usize = 2_000;

/// A page or so: what `ip -batch` changes while the daemon looks elsewhere is far more.
const SMALL_BUFFER: &str = "notification-buffer = 4096\n";

/// A host over which a storm goes.
pub struct Storm {
    /// The host, with a daemon that hears badly.
    pub host: Host,
}

impl Storm {
    /// Everything before the storm.
    ///
    /// # Panics
    /// When the daemon does not start.
    #[track_caller]
    pub fn gather() -> Self {
        let mut host = Host::new();
        let config = host.dir().join("dlmgmtd.toml");
        fs::write(&config, SMALL_BUFFER).expect("a configuration");
        fs::write(host.dir().join("storm"), batch()).expect("a batch for ip");
        let mut command = host.daemon_command();
        command.arg("--config").arg(config);
        host.start_daemon_as(command);
        ZONES.iter().for_each(|zone| host.add_zone(zone));
        Self { host }
    }

    /// The storm, to its end.
    ///
    /// # Panics
    /// When the kernel refuses a change.
    pub fn rage(&self) {
        let words = format!("-batch {}", self.host.dir().join("storm").display());
        std::thread::scope(|scope| {
            scope.spawn(|| self.host.ip(&words));
            for zone in ZONES {
                let words = &words;
                scope.spawn(move || self.host.ip_in(zone, words));
            }
        });
    }

    /// The kernel's links in every namespace as `ZONE/NAME`.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn left_over(&self) -> BTreeSet<String> {
        let home = self.host.kernel().into_keys().map(|name| format!("global/{name}"));
        let inside = |zone: &&str| {
            let names = self.host.kernel_in(zone).into_iter();
            names.map(|name| format!("{zone}/{name}")).collect::<Vec<_>>()
        };
        home.chain(ZONES.iter().flat_map(inside)).collect()
    }

    /// How many links the storm leaves.
    pub fn leaves() -> usize {
        (ZONES.len() + 1) * LINKS / 2
    }
}

fn batch() -> String {
    // Links of a group are deleted at once, which spares the kernel 4,000 grace periods.
    let make = |n| format!("link add name s{n} group {} type ifb\n", 7 + n % 2);
    let rename = |n| format!("link set dev s{n} name r{n}\n");
    let lines = (0..LINKS).map(make).chain((0..LINKS).map(rename));
    lines.chain(["link delete group 7\n".to_owned()]).collect()
}
