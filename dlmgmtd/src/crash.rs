//! Named points at which the daemon can be made to die, so that tests can see what it leaves.
//!
//! In a debug build, `DLMGMT_CRASH_POINT=NAME[:N]` aborts the process when it passes the point
//! `NAME` for the `N`-th time (the first, without `N`). A test that runs the daemon's engine in a
//! thread of its own is told of each point instead: [`watch`]. In a release build a point costs
//! nothing and the variable means nothing.

/// Every point there is, so that a test can go through all of them. A point stands where the state
/// on the disk or in the kernel has just changed, or is just about to.
pub const POINTS: &[&str] = &[
    "start.before_epoch",
    "start.before_look",
    "start.before_zones",
    "start.before_finish",
    "pipeline.before_persist",
    "pipeline.after_persist",
    "pipeline.before_read_back",
    "pipeline.before_commit",
    "pipeline.before_settle",
    "pipeline.before_reply",
    "kernel.before_create",
    "kernel.after_create",
    "kernel.before_pin",
    "kernel.before_step",
    "kernel.after_step",
    "take_back.before_step",
    "take_back.after_step",
    "take_back.before_persist",
    "take_back.after_persist",
    "observer.before_persist",
    "observer.after_persist",
    "observer.before_step",
    "observer.after_step",
    "observer.before_commit",
    "observer.before_settle",
    "zone_up.before_persist",
    "zone_up.before_look",
    "zone_up.before_loans",
    "zone_up.before_loan",
    "zone_end.before_participants",
    "zone_end.before_loans",
    "zone_end.before_home_coming",
    "zone_end.before_unpin",
    "zone_end.before_transient_links",
    "zone_end.before_delete",
    "zone_end.before_down",
    "zone_end.before_unwatch",
    "zone_end.before_remake",
    "remake.before_link",
    "store.before_apply",
    "store.before_flush",
    "store.before_sync",
    "store.after_sync",
    "journal.before_write",
    "journal.after_write",
    "journal.before_clear",
];

/// Passes the point `name`, which is one of [`POINTS`].
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) {}

#[cfg(debug_assertions)]
pub use armed::{Watch, point, watch};

#[cfg(debug_assertions)]
mod armed {
    use std::cell::RefCell;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::POINTS;

    type Watcher = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    }

    static ARMED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let armed = std::env::var("DLMGMT_CRASH_POINT").ok()?;
        let (name, passage) = armed.split_once(':').unwrap_or((&armed, "1"));
        Some((name.to_owned(), AtomicU32::new(passage.parse().ok()?)))
    });

    /// Tells a watcher of the points that this thread passes, until it is dropped.
    #[must_use = "dropping it ends the watch"]
    pub struct Watch(());

    /// Has `watcher` told of each point that this thread passes from now on. The watcher itself
    /// must pass none.
    pub fn watch(watcher: impl FnMut(&'static str) + 'static) -> Watch {
        WATCHER.set(Some(Box::new(watcher)));
        Watch(())
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            WATCHER.set(None);
        }
    }

    /// Passes the point `name`, which is one of [`POINTS`], or dies there.
    pub fn point(name: &'static str) {
        debug_assert!(POINTS.contains(&name), "{name} is not in the list of points");
        WATCHER.with_borrow_mut(|watcher| match watcher {
            Some(watcher) => watcher(name),
            None => die_if_armed(name),
        });
    }

    fn die_if_armed(name: &str) {
        if let Some((armed, passages_left)) = &*ARMED
            && armed == name
            && passages_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            std::process::abort();
        }
    }
}
