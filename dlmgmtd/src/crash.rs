//! Named points at which a test build of the daemon can be made to die.
//!
//! With the cargo feature `crash-points`, `DLMGMT_CRASH_POINT=NAME[:N]` aborts the process when it
//! passes the point `NAME` for the `N`-th time (the first, without `N`). Without the feature a
//! point costs nothing and the variable means nothing.

/// Every point there is, so that a test can go through all of them.
pub const POINTS: &[&str] = &[
    "store.before_apply",
    "store.before_flush",
    "store.before_sync",
    "store.after_sync",
    "journal.before_write",
    "journal.after_write",
    "journal.before_clear",
];

/// Passes the point `name`, which is one of [`POINTS`].
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Passes the point `name`, which is one of [`POINTS`], or dies there.
#[cfg(feature = "crash-points")]
pub fn point(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let armed = std::env::var("DLMGMT_CRASH_POINT").ok()?;
        let (name, passage) = armed.split_once(':').unwrap_or((&armed, "1"));
        Some((name.to_owned(), AtomicU32::new(passage.parse().ok()?)))
    });

    debug_assert!(POINTS.contains(&name), "{name} is not in the list of points");
    if let Some((armed, passages_left)) = &*ARMED
        && armed == name
        && passages_left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
