//! The thread on which what is changed is changed.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime of one thread.
///
/// A change goes through the engine, the journal and the kernel within some hundred microseconds.
/// To wake another thread on the way, on a processor that sleeps, can take as long: so all who have
/// to do with a change are here, from the client's call to the kernel's notification of what was
/// done. Whoever only reads is served elsewhere, and waits for none of it. Dropping this ends it, and
/// what was begun there and waits.
pub struct EngineThread {
    handle: Handle,
    /// It is never sent to: its end is the signal.
    open: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (open, closed) = oneshot::channel();
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let _closed = runtime.block_on(closed);
        })?;
        Ok(Self { handle, open: Some(open), thread: Some(thread) })
    }

    /// What runs futures there.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.open.take();
        if let Some(thread) = self.thread.take() {
            // It fails only where the runtime panics, which has told why.
            let _ = thread.join();
        }
    }
}
