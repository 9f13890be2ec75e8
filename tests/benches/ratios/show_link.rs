//! `dladm show-link`, against `ip -o link` in the same namespace of many links.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dlmgmt_proto::door::LinkFilter;
use dlmgmt_tests::{Host, bin};
use libdlmgmt::Client;

use crate::figure::{Figure, Goal, medians_in_turn};

const LINKS: usize = 10_000;
const TURNS: usize = 15;

pub fn figures() -> Vec<Figure> {
    let mut host = Host::new();
    host.start_daemon();
    let inside = host.namespace();
    let measure = || {
        inside.enter();
        let made_in = make_links(&host);
        let noticed_in = time_until_all_are_known(&host.door());
        let dladm = || show(Command::new(bin("dladm")).args(["show-link"]), &host.door());
        let ip = || show(Command::new("ip").args(["-o", "link"]), &host.door());
        (made_in, noticed_in, medians_in_turn(TURNS, dladm, ip))
    };
    let (made_in, noticed_in, (dladm, ip)) =
        std::thread::scope(|scope| scope.spawn(measure).join()).expect("the links are shown");

    vec![
        Figure {
            what: "dladm show-link with 10,000 links",
            value: dladm / ip,
            unit: "x `ip -o link`",
            goal: Goal::AtMost { aim: 0.3, bound: 1.0 },
            behind: format!("{dladm:.1} ms against {ip:.1} ms"),
        },
        Figure {
            what: "10,000 new links all known",
            value: noticed_in.as_secs_f64(),
            unit: " s after the last was made",
            goal: Goal::None,
            behind: format!("they were made in {:.1} s", made_in.as_secs_f64()),
        },
    ]
}

/// Makes the links as pairs, which is the fastest way; tells how long it took.
fn make_links(host: &Host) -> Duration {
    let pair = |n| format!("link add name many{n}a type veth peer name many{n}b\n");
    let batch = host.dir().join("links");
    std::fs::write(&batch, (0..LINKS / 2).map(pair).collect::<String>()).expect("a batch for ip");
    let start = Instant::now();
    host.ip(&format!("-batch {}", batch.display()));
    start.elapsed()
}

fn time_until_all_are_known(door: &Path) -> Duration {
    let start = Instant::now();
    let client = Client::connect(door).expect("the daemon answers");
    while client.list(LinkFilter::default()).expect("the daemon answers").len() < LINKS {
        std::thread::sleep(Duration::from_millis(10));
        assert!(start.elapsed() < Duration::from_secs(120), "not all links become known");
    }
    start.elapsed()
}

/// Runs a command that shows all links; tells how many milliseconds the whole process took.
fn show(command: &mut Command, door: &Path) -> f64 {
    let start = Instant::now();
    let output = command.env("DLMGMT_DOOR", door).output().expect("the command runs");
    let took = start.elapsed();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert!(output.status.success() && lines > LINKS, "{command:?} shows {lines} lines");
    took.as_secs_f64() * 1e3
}
