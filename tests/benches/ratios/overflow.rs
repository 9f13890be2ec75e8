//! How soon the registry is right after a storm whose notifications were lost, beside how long `ip`
//! takes to read the same links.

use std::time::{Duration, Instant};

use dlmgmt_proto::door::LinkFilter;
use dlmgmt_tests::Storm;
use libdlmgmt::Client;

use crate::figure::{Figure, Goal};

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn figures() -> Vec<Figure> {
    let storm = Storm::gather();
    let right_after = storm.host.with_client(|client| {
        storm.rage();
        let ended = Instant::now();
        while !is_right(client) {
            assert!(ended.elapsed() < PATIENCE, "the registry is never right");
            std::thread::sleep(Duration::from_millis(5));
        }
        ended.elapsed()
    });
    let read = Instant::now();
    assert_eq!(storm.left_over().len(), Storm::leaves());
    let read = read.elapsed();
    vec![Figure {
        what: "the registry is right again",
        value: right_after.as_secs_f64(),
        unit: " s after 20,000 changes whose notifications were lost",
        goal: Goal::AtMost { aim: 0.5, bound: 1.0 },
        behind: format!("`ip` reads the links that are left in {:.2} s", read.as_secs_f64()),
    }]
}

/// Whether the client is shown as many links as are left, each under its last name.
fn is_right(client: &Client) -> bool {
    let everywhere = LinkFilter { all_zones: true, ..LinkFilter::default() };
    let links = client.list(everywhere).expect("the daemon answers");
    links.len() == Storm::leaves()
        && links.iter().all(|link| link.name.as_bytes().starts_with(b"r"))
}
