//! What the fuzzers do with bytes: the entry functions of every target in `fuzz/`, which this
//! crate's own tests call with the seeds and with what was once found.
//!
//! An entry function takes any bytes and returns, or panics when a rule is broken.

#![allow(clippy::panic, clippy::expect_used)]

mod codec;
mod dbus;
mod door;
pub(crate) mod echo;
mod import;
mod netlink;
mod records;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;

pub use codec::codec;
pub use dbus::dbus;
pub use door::door;
pub use import::import;
pub use netlink::netlink;
pub use records::records;

/// A target's name and its entry function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, as `fuzz/Cargo.toml` lists them.
pub const TARGETS: &[Target] = &[
    ("codec", codec),
    ("dbus", dbus),
    ("door", door),
    ("import", import),
    ("netlink", netlink),
    ("records", records),
];

/// Runs a future on a runtime of the calling thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = runtime();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.max_blocking_threads(1).enable_all().build().expect("a runtime can be made")
}
