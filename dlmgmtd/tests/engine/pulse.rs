//! Whether the daemon is alive, as the service manager's watchdog is told.

use std::sync::Arc;

use dlmgmtd::store::sim::Hang;

use crate::machine::{Machine, card, outcome, settle};

#[tokio::test(start_paused = true)]
async fn there_is_a_pulse_as_long_as_changes_come_to_their_ends() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = Arc::new(machine.start().await);
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    assert!(outcome(daemon.engine.pulse()).await.is_some());
    machine.disk.hang_at(0, Hang::BeforeDurable);
    let changing = daemon.clone();
    let stuck = tokio::spawn(async move { changing.rename(&[("eth1", "wan")]).await });
    settle().await;
    assert!(!stuck.is_finished());
    assert!(outcome(daemon.engine.pulse()).await.is_none());
    stuck.abort();
}
