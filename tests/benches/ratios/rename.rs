//! Renames that are durable when they are answered: of many clients at once, against one alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dlmgmt_proto::LinkSpec;
use dlmgmt_proto::door::{CreateLink, RenameItem};
use dlmgmt_tests::Host;
use libdlmgmt::Client;

use crate::figure::{Figure, Goal, in_turn, median};

const CLIENTS: usize = 64;
const TURNS: usize = 3;
const TURN: Duration = Duration::from_secs(2);

/// What one life of the daemon came to.
struct Turn {
    renames: f64,
    flushes: f64,
    seconds: f64,
}

impl Turn {
    fn per_flush(&self) -> f64 {
        self.renames / self.flushes
    }

    fn per_second(&self) -> f64 {
        self.renames / self.seconds
    }
}

pub fn figures() -> Vec<Figure> {
    // Of the tests' own directories, those of cargo are the ones that surely lie on a disk.
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let mut world = World { host: Host::new(), state };
    world.make_links();
    let world = std::cell::RefCell::new(world);
    let run = |clients| world.borrow_mut().run(clients);
    let (many, one) = in_turn(TURNS, || run(CLIENTS), || run(1));

    let rates = [&many, &one].map(|turns| median(turns.iter().map(Turn::per_second)));
    let [many_per_flush, one_per_flush] =
        [&many, &one].map(|turns| median(turns.iter().map(Turn::per_flush)));
    vec![
        Figure {
            what: "durable renames per disk flush",
            value: many_per_flush,
            unit: " with 64 clients at once",
            goal: Goal::AtLeast(10.0),
            behind: format!("{one_per_flush:.2} with one client"),
        },
        Figure {
            what: "durable renames of 64 clients",
            value: rates[0] / rates[1],
            unit: "x those of one client",
            goal: Goal::None,
            behind: format!("{:.0} against {:.0} a second", rates[0], rates[1]),
        },
    ]
}

struct World {
    host: Host,
    state: tempfile::TempDir,
}

impl World {
    /// Renames for a while with this many clients, each its own link. The daemon lives for this
    /// alone: it tells at its end how often it flushed.
    fn run(&mut self, clients: usize) -> Turn {
        self.start_daemon();
        let (renames, seconds) = self.rename_at_once(clients);
        self.host.stop_daemon();
        Turn { renames, seconds, flushes: flushes(&self.host.log()) }
    }

    /// Makes links that outlive a reboot: a rename of others need not reach the disk.
    fn make_links(&mut self) {
        self.start_daemon();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.host.namespace().enter();
                let client = Client::connect(self.host.door()).expect("the daemon answers");
                for n in 0..CLIENTS / 2 {
                    let spec = LinkSpec::Veth { peer: format!("right{n}"), peer_zone: None };
                    let name = format!("left{n}");
                    let call = CreateLink { name, zone: None, temporary: false, spec };
                    client.create_link(call).expect("the names are free");
                }
            });
        });
        self.host.stop_daemon();
    }

    fn start_daemon(&mut self) {
        let mut daemon = self.host.command(dlmgmt_tests::bin("dlmgmtd"));
        daemon.env("DLMGMT_LOG", "info,dlmgmtd::store=debug");
        daemon.arg("--state-dir").arg(self.state.path());
        daemon.arg("--runtime-dir").arg(self.host.dir().join("run"));
        daemon.arg("--netns-dir").arg(self.host.dir().join("netns"));
        daemon.args(["--bus", "none", "--foreground"]);
        self.host.start_daemon_as(daemon);
    }

    fn rename_at_once(&self, clients: usize) -> (f64, f64) {
        let ids: Vec<u32> = self.host.ids().into_values().collect();
        let (renames, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for id in &ids[..clients] {
                scope.spawn(|| {
                    self.host.namespace().enter();
                    let client = Client::connect(self.host.door()).expect("the daemon answers");
                    for turn in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        rename(&client, *id, turn);
                        renames.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(TURN);
            is_over.store(true, Ordering::Relaxed);
        });
        (renames.into_inner() as f64, start.elapsed().as_secs_f64())
    }
}

fn rename(client: &Client, id: u32, turn: u64) {
    let link = format!("@{id}").parse().expect("a linkid");
    let to = format!("net{id}-{turn}");
    client.rename(vec![RenameItem { link, to }]).expect("the name is free");
}

/// How often the daemon that ended last flushed in all its life.
fn flushes(log: &str) -> f64 {
    let told = log.rsplit_once("flushes=").and_then(|(_, rest)| rest.split_whitespace().next());
    told.and_then(|number| number.parse().ok()).expect("the daemon tells of its flushes")
}
