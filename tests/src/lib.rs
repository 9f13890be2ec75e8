//! What the end-to-end tests have in common: a world of their own for each, [`Host`], in which the
//! built binaries run.
//!
//! Everything here panics with a clear message when something is not as it must be: this is test
//! code, though it is not inside a `#[test]`.

mod bus;
mod host;
mod monitor;
mod output;
mod service_manager;
mod storm;
mod zones;

pub use bus::Bus;
pub use host::{Host, Namespace, bin, release_bin};
pub use monitor::Monitor;
pub use output::Output;
pub use service_manager::ServiceManager;
pub use storm::Storm;
pub use zones::{Attire, Guest};

use std::time::{Duration, Instant};

/// How long a test waits for what must come: far longer than it ever takes, so that only what
/// never comes fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; `what` says in the failure what was waited for.
///
/// # Panics
/// When it does not hold within a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
