//! The real kernel, over rtnetlink.

mod connection;
mod device;
mod frame;
mod link;
mod listener;
mod namespace;
mod request;
#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::IfIndex;

use crate::kernel::{Applied, Dump, Hint, HintQueue, Kernel, KernelError, NsOpener};
use crate::model::{Action, Binding, KernelLink, NewLink, NsCookie, Step};

use listener::Listener;
use namespace::Namespace;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

/// The connection to the kernel cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot talk to the kernel about links: {0}")]
pub struct OpenError(#[from] io::Error);

/// How to listen to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many bytes of notifications can wait to be heard; more are lost, which is noticed and
    /// costs a dump. A link takes about 2 KiB.
    pub notification_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { notification_buffer: 16 << 20 }
    }
}

/// The kernel, seen from the namespace of the thread that opened this.
pub struct RtnetlinkKernel {
    home: Namespace,
    hints: Arc<HintQueue>,
    _listener: Listener,
}

impl RtnetlinkKernel {
    /// Connects to the kernel in the namespace of the calling thread.
    ///
    /// Needs a tokio runtime. Everything that happens after this returns is in the hints.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_with(Options::default())
    }

    /// As [`RtnetlinkKernel::open`].
    pub fn open_with(options: Options) -> Result<Self, OpenError> {
        let home = Namespace::of_this_thread()?;
        let hints = Arc::new(HintQueue::default());
        let listener =
            Listener::open(home.cookie(), Arc::clone(&hints), options.notification_buffer)?;
        Ok(Self { home, hints, _listener: listener })
    }

    fn namespace(&self, ns: NsCookie) -> Result<&Namespace, KernelError> {
        if ns == self.home.cookie() { Ok(&self.home) } else { Err(KernelError::no_namespace(ns)) }
    }
}

#[async_trait]
impl Kernel for RtnetlinkKernel {
    fn home(&self) -> NsCookie {
        self.home.cookie()
    }

    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError> {
        self.namespace(ns)?.request(|connection| connection.dump()).await
    }

    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError> {
        self.namespace(ns)?.request(move |connection| connection.get(ifindex)).await
    }

    async fn addresses(&self, _: Binding) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    async fn create(&self, _: &NewLink) -> Result<Vec<Binding>, KernelError> {
        Err(KernelError { errno: libc::ENOSYS, text: None })
    }

    async fn watch(&self, _: OwnedFd, _: NsOpener) -> Result<NsCookie, KernelError> {
        Err(KernelError { errno: libc::ENOSYS, text: None })
    }

    async fn unwatch(&self, _: NsCookie) {}

    async fn pin(&self, ns: NsCookie) -> Result<(), KernelError> {
        Err(KernelError::no_namespace(ns))
    }

    fn unpin(&self, _: NsCookie) {}

    async fn apply(&self, step: &Step) -> Result<Applied, KernelError> {
        let namespace = self.namespace(step.at.ns)?;
        let step = step.clone();
        let hints = Arc::clone(&self.hints);
        namespace
            .request(move |connection| {
                connection.apply(&step)?;
                // The kernel tells of the alternative names of a link only while that is up.
                if matches!(step.action, Action::AddAltName(_) | Action::DropAltName(_)) {
                    hints.push(step.at, Hint::default());
                }
                Ok(Applied { at: step.at })
            })
            .await
    }

    fn hints(&self) -> &HintQueue {
        &self.hints
    }
}
