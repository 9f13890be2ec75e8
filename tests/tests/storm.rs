//! Many zones at once: issue 3, what it must withstand.

use std::collections::BTreeSet;

use dlmgmt_tests::{Host, Output, eventually};

const ZONES: usize = 60;
const WORKERS: usize = 12;

/// A request that races with zone ends may be refused, but never for the daemon's own trouble.
fn attempt(host: &Host, words: &str) {
    let Output { status, stderr, .. } = host.dladm(words);
    assert!(status == 0 || status == 1, "{words}: {stderr}");
    assert!(!stderr.contains("(store)"), "{words}: {stderr}");
}

/// One zone's life: loans and transient links, and a sudden end. For every fourth zone nothing is
/// waited for, so that requests meet zones that are only about to come.
fn live_and_die(host: &Host, number: usize) {
    let zone = format!("z{number}");
    let requests = [
        format!("set-zone -t -n eth0 v{number} {zone}"),
        format!("create-veth -t -z {zone} t0 t{number}"),
        format!("create-vnic -t -z {zone} -l under m0"),
    ];
    if number % 4 == 3 {
        host.ip(&format!("netns add {zone}"));
        requests.iter().for_each(|words| attempt(host, words));
    } else {
        host.add_zone(&zone);
        requests.iter().for_each(|words| drop(host.dladm(words).ok()));
        assert_eq!(host.kernel_in(&zone), ["eth0", "m0", "t0"]);
    }
    if number.is_multiple_of(2) {
        attempt(host, &format!("set-zone -t -n eth1 w{number} {zone}"));
    }
    host.ip(&format!("netns delete {zone}"));
}

#[test]
fn after_a_storm_of_zones_nothing_is_left_over_and_no_loan_is_lost() {
    let mut host = Host::new();
    host.ip("link add name under type bridge");
    host.sh(&format!(
        "for i in $(seq 0 {}); do echo link add name v$i type veth peer name w$i; done | ip -batch -",
        ZONES - 1
    ));
    host.start_daemon();
    let before = host.agreed();
    let ids: BTreeSet<u32> = before.values().map(|(id, _)| *id).collect();
    let fds = host.daemon_fds();

    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let host = &host;
            scope.spawn(move || {
                (worker..ZONES).step_by(WORKERS).for_each(|number| live_and_die(host, number));
            });
        }
        let host = &host;
        scope.spawn(move || {
            for number in (1..ZONES).step_by(2) {
                attempt(host, &format!("rename-link w{number} r{number}"));
            }
        });
    });

    eventually("all zones ended", || {
        host.zones().iter().all(|(zone, state)| zone == "global" || state == "down")
    });
    eventually("every link is home, and no other is left", || {
        let here = host.everywhere();
        here.keys().all(|place| place.starts_with("global/"))
            && here.into_values().collect::<BTreeSet<_>>() == ids
    });
    eventually("the kernel has nothing else", || host.kernel().len() == before.len());
    let after = host.agreed();
    for (name, (id, _)) in &before {
        let renamed = name.replacen('w', "r", 1);
        let now = after.get(name).or(after.get(&renamed));
        assert_eq!(now.map(|(id, _)| id), Some(id), "{name}");
    }
    eventually("no descriptor is left", || host.daemon_fds() <= fds);
}
