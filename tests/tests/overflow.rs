//! SPEC.md rule 3.5 where the kernel's notifications are lost.

use std::collections::BTreeSet;

use dlmgmt_tests::{Storm, eventually};

#[test]
fn after_a_storm_whose_notifications_are_lost_the_registry_is_what_a_dump_shows() {
    let storm = Storm::gather();
    let host = &storm.host;
    host.ip("link add name keep type bridge");
    let keep = host.id_when_known("keep");
    storm.rage();

    let there = storm.left_over();
    assert_eq!(there.len(), Storm::leaves() + 1);
    eventually("the registry is what a dump shows", || {
        host.everywhere().into_keys().collect::<BTreeSet<_>>() == there
    });
    assert_eq!(host.everywhere()["global/keep"], keep);
    assert!(host.log().contains("notifications of the kernel were lost"), "none was lost");
}
