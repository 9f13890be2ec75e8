//! The kernel behind a small trait, with a real implementation and a simulated one.

mod hints;
pub mod rtnetlink;
pub mod sim;

use std::fmt;

use async_trait::async_trait;
use dlmgmt_proto::IfIndex;

use crate::model::{KernelLink, NsCookie, Step};

pub use hints::{Hint, HintBatch, HintQueue};

/// A refusal by the kernel: its errno and, where it gave one, its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct KernelError {
    /// The (positive) errno.
    pub errno: i32,
    /// The extended-ack text.
    pub text: Option<String>,
}

impl KernelError {
    /// The refusal of a request about a namespace that this kernel does not reach.
    pub fn no_namespace(ns: NsCookie) -> Self {
        let text = format!("the namespace of cookie {ns} is not a known namespace");
        Self { errno: libc::ESRCH, text: Some(text) }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno);
        match &self.text {
            Some(text) => write!(f, "{reason}: {text}"),
            None => reason.fmt(f),
        }
    }
}

/// The links of a namespace, as one look at all of them shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The links in the order of their indexes.
    pub links: Vec<KernelLink>,
    /// Whether this is the picture of one moment. Otherwise links came or went under the look:
    /// some that are there may be missing, and some may be shown twice, the newer one last.
    pub is_consistent: bool,
}

/// What the daemon asks of the kernel.
///
/// Reads show the kernel as it is when they run. What happens in the kernel, also by the daemon's
/// own hand, is told through the [`HintQueue`]: hints say only *where* to look.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// The namespace in which the daemon was started.
    fn home(&self) -> NsCookie;

    /// Every link of a namespace. Where links keep coming and going, no look is of one moment:
    /// after a few attempts the last one is answered as it is.
    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError>;

    /// One link, or `None` where the namespace has none of that index.
    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError>;

    /// Changes one link. On an error nothing has changed.
    async fn apply(&self, step: &Step) -> Result<(), KernelError>;

    /// Where this kernel tells what happens.
    fn hints(&self) -> &HintQueue;
}
