//! Work that is begun at once.

use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt;

/// How far work came before it had to wait for the first time.
pub(crate) enum Begun<F: Future> {
    /// To its end.
    Ended(F::Output),
    /// This is left of it.
    Waits(Pin<Box<F>>),
}

/// Begins work on the calling task. To hand it to a task of its own takes long beside work that
/// hardly ever waits, so only what is left of it is for such a one.
pub(crate) fn begin<F: Future>(work: F) -> Begun<F> {
    let mut work = Box::pin(work);
    match work.as_mut().now_or_never() {
        Some(output) => Begun::Ended(output),
        None => Begun::Waits(work),
    }
}
