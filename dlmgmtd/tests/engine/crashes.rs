//! SPEC.md rule 3.3: what was acknowledged is there after a crash at any instant, and what was not
//! is wholly there or wholly not.

use std::fmt;
use std::sync::Arc;

use dlmgmt_proto::door::Changed;
use dlmgmt_proto::{ErrorCode, Flags, IfIndex, LinkId, LinkName, Result};
use dlmgmtd::engine::{Engine, Service};
use dlmgmtd::kernel::sim::SimKernel;
use dlmgmtd::model::{Action, AltName, BootId, Step};
use dlmgmtd::store::sim::Hang;

use crate::machine::{Daemon, Machine, card, name, outcome, parts, root, settle};

/// Where the daemon crashes.
#[derive(Clone, Copy, Debug)]
enum Point {
    BeforeStep(u64),
    WithinStep(u64),
    Commit(usize, Hang),
}

impl Point {
    /// The points of every kind, each as often as the daemon passes it.
    const KINDS: [fn(usize) -> Self; 4] = [
        |n| Self::BeforeStep(n as u64),
        |n| Self::WithinStep(n as u64 + 1),
        |n| Self::Commit(n, Hang::BeforeDurable),
        |n| Self::Commit(n, Hang::AfterDurable),
    ];

    fn arm(self, machine: &Machine, kernel: &SimKernel) {
        match self {
            Self::BeforeStep(n) => kernel.crash_after_steps(n),
            Self::WithinStep(n) => kernel.crash_within_step(n),
            Self::Commit(n, hang) => machine.disk.hang_at(n, hang),
        }
    }
}

/// A change that is asked for while the daemon crashes.
#[derive(Clone, Copy)]
enum Operation {
    Rename(&'static [(&'static str, &'static str)]),
    DeletePhys(&'static str),
    Import(&'static str),
}

impl Operation {
    async fn ask(self, daemon: &Daemon) -> Result<Changed> {
        match self {
            Self::Rename(wishes) => daemon.rename(wishes).await,
            Self::DeletePhys(link) => daemon.delete_phys(link).await,
            Self::Import(text) => daemon.engine.import(&root(), text.into()).await,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename(wishes) => write!(f, "rename {wishes:?}"),
            Self::DeletePhys(link) => write!(f, "delete-phys {link}"),
            Self::Import(_) => write!(f, "import"),
        }
    }
}

const OPERATIONS: &[Operation] = &[
    // Case 1, also of a link with that alternative name, of a removed one and of a foreign one.
    Operation::Rename(&[("eth0", "lan")]),
    Operation::Rename(&[("eth1", "alt1")]),
    Operation::Rename(&[("gone0", "lan")]),
    Operation::Rename(&[("v0", "lan")]),
    // Case 2.
    Operation::Rename(&[("eth0", "gone0")]),
    // Sets.
    Operation::Rename(&[("eth0", "eth1"), ("eth1", "eth0")]),
    Operation::Rename(&[("eth0", "eth1"), ("eth1", "v0"), ("v0", "v1"), ("v1", "eth0")]),
    Operation::Rename(&[("eth0", "gone0"), ("eth1", "eth0"), ("v0", "eth1")]),
    Operation::DeletePhys("gone0"),
    Operation::Import(IMPORT),
];

/// Swaps two links, renames a removed one, and brings in one with a linkid of its own and one whose
/// linkid is taken.
pub const IMPORT: &str = r#"{ "format": 1, "links": [
    { "linkid": 1, "link": "eth1", "class": "phys", "media": "Ethernet",
      "mac": "02:00:00:00:00:01", "path": "pci-0000:00:01.0" },
    { "linkid": 2, "link": "eth0", "class": "phys", "media": "Ethernet",
      "mac": "02:00:00:00:00:02", "path": "pci-0000:00:02.0" },
    { "linkid": 3, "link": "old", "class": "phys", "media": "Ethernet",
      "mac": "02:00:00:00:00:03", "path": "pci-0000:00:03.0" },
    { "linkid": 77, "link": "new0", "class": "phys", "media": "Ethernet",
      "mac": "02:00:00:00:00:09" },
    { "linkid": 4, "link": "new1", "class": "phys", "media": "Ethernet",
      "mac": "02:00:00:00:00:0a" } ] }"#;

/// Two cards, one that was taken out, and two links of somebody else.
async fn machine() -> (Machine, Daemon) {
    let cards = [card("eth0", 1, 1), card("eth1", 2, 2), card("gone0", 3, 3)];
    let machine = Machine::with_cards(cards);
    let altname = Action::AddAltName(AltName(b"alt1".to_vec()));
    machine.world.by_others(&Step { at: machine.at("eth1"), action: altname }).unwrap();
    machine.create("v0");
    machine.create("v1");
    let daemon = machine.start().await;
    machine.world.unplug(machine.at("gone0")).unwrap();
    settle().await;
    (machine, daemon)
}

/// What a user would call the same state.
type View = Vec<(LinkId, LinkName, Flags, Option<IfIndex>)>;

fn view(daemon: &Daemon) -> View {
    daemon.links().iter().map(|link| (link.id, link.name, link.flags, link.ifindex)).collect()
}

/// The state before and after an operation that nothing disturbs.
async fn undisturbed(operation: Operation) -> (View, View) {
    let (machine, daemon) = machine().await;
    let before = view(&daemon);
    operation.ask(&daemon).await.unwrap();
    settle().await;
    machine.assert_agrees(&daemon);
    (before, view(&daemon))
}

/// What must hold for the daemon after a crash.
async fn check(
    machine: &Machine,
    acknowledged: bool,
    (before, after): &(View, View),
    context: &str,
) {
    let daemon = machine.start().await;
    let found = view(&daemon);
    machine.assert_agrees(&daemon);
    assert!(found == *after || (!acknowledged && found == *before), "{context}: {found:?}");
    settle().await;
    assert_eq!(view(&daemon), found, "{context}: it did not last");
    drop(daemon);

    let daemon = machine.start().await;
    assert_eq!(view(&daemon), found, "{context}: a second restart");
    machine.create("fresh");
    settle().await;
    let known = before.iter().chain(&found).map(|(id, ..)| *id).max();
    assert!(Some(daemon.id("fresh")) > known, "{context}: an id is given again");
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_any_change_leaves_all_of_it_or_nothing() {
    for &operation in OPERATIONS {
        let expected = undisturbed(operation).await;
        for kind in Point::KINDS {
            for point in (0..).map(kind) {
                let (machine, daemon) = machine().await;
                point.arm(&machine, &daemon.kernel);
                let reply = outcome(operation.ask(&daemon)).await.transpose().unwrap();
                drop(daemon);
                check(&machine, reply.is_some(), &expected, &format!("{operation}, {point:?}"))
                    .await;
                if reply.is_some() {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_crash_is_mended_is_mended_too() {
    for &operation in OPERATIONS {
        let expected = undisturbed(operation).await;
        for first in (0..).map(Point::WithinStep).skip(1) {
            let mut reply = None;
            'mending: for kind in Point::KINDS {
                for second in (0..).map(kind) {
                    let (machine, daemon) = machine().await;
                    first.arm(&machine, &daemon.kernel);
                    reply = outcome(operation.ask(&daemon)).await;
                    drop(daemon);
                    let mended = start_with(&machine, second).await;
                    let context = format!("{operation}, {first:?}, {second:?}");
                    check(&machine, reply.is_some(), &expected, &context).await;
                    if reply.is_some() {
                        break 'mending;
                    }
                    if mended {
                        break;
                    }
                }
            }
            if reply.is_some() {
                break;
            }
        }
    }
}

/// Whether the start came to its end before the crash.
async fn start_with(machine: &Machine, point: Point) -> bool {
    machine.disk.crash();
    let kernel = Arc::new(machine.world.kernel());
    let (store, loaded) = machine.disk.open();
    point.arm(machine, &kernel);
    let boot = BootId("boot 1".to_owned());
    outcome(Engine::start(parts(kernel, Arc::new(store), loaded, boot))).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_refused_change_is_taken_back_leaves_all_of_it_or_nothing() {
    let operation = Operation::Rename(&[("eth0", "eth1"), ("eth1", "v0"), ("v0", "eth0")]);
    let expected = undisturbed(operation).await;
    for refused in 0..4 {
        for kind in Point::KINDS {
            for point in (0..).map(kind) {
                let (machine, daemon) = machine().await;
                point.arm(&machine, &daemon.kernel);
                machine.world.fail_step(refused, libc::EBUSY);
                let reply = outcome(operation.ask(&daemon)).await;
                drop(daemon);
                machine.world.disarm();
                let context = format!("step {refused} refused, {point:?}");
                match reply {
                    Some(Ok(_)) => panic!("{context}: it was not refused"),
                    // It says that the store still has the change, and what a restart may do.
                    Some(Err(why)) if why.code == ErrorCode::Store => {
                        check(&machine, false, &expected, &context).await;
                    }
                    Some(Err(_)) => {
                        let (before, _) = expected.clone();
                        check(&machine, true, &(before.clone(), before), &context).await;
                        break;
                    }
                    None => check(&machine, false, &expected, &context).await,
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_imported_link_keeps_the_linkid_that_was_never_given_here() {
    let (_machine, daemon) = machine().await;
    let known = [daemon.id("eth0"), daemon.id("gone0")];
    Operation::Import(IMPORT).ask(&daemon).await.unwrap();
    assert_eq!(daemon.id("new0").get(), 77);
    assert!(daemon.id("new1").get() > 77);
    assert_eq!([daemon.id("eth1"), daemon.id("old")], known);
}

/// A daemon crashed in the middle of a ring of renames, and the kernel refuses every change of one of
/// the links from then on.
async fn crashed_in_a_ring(steps: u64, stubborn: &str) -> Machine {
    let cards = [card("eth0", 1, 1), card("eth1", 2, 2), card("eth2", 3, 3)];
    let machine = Machine::with_cards(cards);
    let daemon = machine.start().await;
    let stubborn = machine.at(stubborn);
    daemon.kernel.crash_after_steps(steps);
    let ring = [("eth0", "eth1"), ("eth1", "eth2"), ("eth2", "eth0")];
    assert!(outcome(daemon.rename(&ring)).await.is_none());
    machine.world.refuse_all_of(stubborn);
    machine
}

#[tokio::test(start_paused = true)]
async fn a_set_that_the_kernel_refuses_to_end_after_a_crash_is_there_with_the_rest_in_conflict() {
    let names = ["eth1", "eth2", "eth0"];
    for (steps, stubborn) in (0..4).flat_map(|steps| names.map(|link| (steps, link))) {
        let context = format!("{steps} steps, and then no more of {stubborn}");
        let machine = crashed_in_a_ring(steps, stubborn).await;
        for _restart in 0..2 {
            let daemon = machine.start().await;
            settle().await;
            machine.assert_agrees(&daemon);
            let records = machine.records();
            let cards = records.iter().filter(|record| record.phys.is_some());
            let own_names: Vec<LinkName> = cards.map(|record| record.name).collect();
            assert_eq!(own_names, names.map(name), "{context}");
            for (link, own_name) in daemon.links().iter().zip(own_names) {
                let is_in_conflict = link.flags.contains(Flags::CONFLICT);
                assert_eq!(is_in_conflict, link.name != own_name, "{context}: {link:?}");
            }
        }
        let daemon = machine.start().await;
        machine.world.disarm();
        settle().await;
        assert_eq!(daemon.names(), names, "{context}");
        machine.assert_agrees(&daemon);
    }
}
