//! The kernel behind a small trait, with a real implementation and a simulated one.

#[cfg(test)]
mod differential;
mod facts;
mod hints;
pub mod rtnetlink;
pub mod sim;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::{IfIndex, Topic};

use crate::model::{Binding, KernelLink, LinkMode, NewLink, NsCookie, Readings, Step};

pub use facts::{KernelFact, KernelValue};
pub use hints::{Hint, HintBatch, HintQueue, MovedTo};

/// Opens a watched namespace again when the daemon needs it open for a moment: by a name in a
/// directory, or by a process. It may fail, may find another namespace in that place by now, and
/// may block.
pub type NsOpener = Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>;

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

    /// Whether a request was refused because there is no such link.
    pub fn is_no_link(&self) -> bool {
        self.errno == libc::ENODEV
    }

    /// Whether a request was refused because its namespace is dead or not watched.
    pub fn is_no_namespace(&self) -> bool {
        self.errno == libc::ESRCH
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

/// How a [`Step`] took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where the link is now. Only [`Action::Move`](crate::model::Action::Move) makes that another
    /// place.
    pub at: Binding,
}

/// A link that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where it is.
    pub at: Binding,
    /// The link as it was found there; `None` where somebody was quick to end or move it.
    pub link: Option<KernelLink>,
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

/// A way into a namespace that is not watched.
pub struct Doorway {
    /// The namespace.
    pub ns: OwnedFd,
    /// How to open it again.
    pub opener: NsOpener,
    /// A process in it, if that is the way.
    pub pid: Option<i32>,
}

/// What the daemon asks of the kernel.
///
/// Reads show the kernel as it is when they run. What happens in the kernel, also by the daemon's
/// own hand, is told through the [`HintQueue`]: hints say only *where* to look.
///
/// Every request is about the daemon's own namespace or one that is watched; about others it is
/// refused with ESRCH, as it is about a watched namespace that has died or cannot be entered.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// The namespace in which the daemon was started.
    fn home(&self) -> NsCookie;

    /// Every link of a namespace. Where links keep coming and going, no look is of one moment:
    /// after a few attempts the last one is answered as it is.
    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError>;

    /// One link, or `None` where the namespace has none of that index.
    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError>;

    /// Those properties of a link that it is not followed by, as they are now.
    async fn readings(&self, at: Binding) -> Result<Readings, KernelError>;

    /// What links of a namespace are like beside what is followed of them, as they are now: for
    /// each its facts, none for one that is not there. Of their speed, [`Kernel::link_modes`] tells.
    async fn inspect(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
        topics: &[Topic],
    ) -> Result<Vec<Vec<KernelFact>>, KernelError>;

    /// How fast links of a namespace are, as far as their drivers tell, which may take their time.
    async fn link_modes(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
    ) -> Result<Vec<LinkMode>, KernelError>;

    /// Changes one link. On an error nothing has changed.
    async fn apply(&self, step: &Step) -> Result<Applied, KernelError>;

    /// Lets the rules that keep a link from sending something follow its name and its address, which
    /// have changed. Without such rules, nothing.
    async fn renew_rules(&self, at: Binding) -> Result<(), KernelError>;

    /// Ends the rules that a link had where it is no more: a kernel may keep them.
    async fn clear_rules(&self, at: Binding) -> Result<(), KernelError>;

    /// The addresses of a link, as `ip address` shows them: those by which others reach it, not
    /// those that IPv6 gives every link by itself.
    async fn addresses(&self, at: Binding) -> Result<Vec<String>, KernelError>;

    /// Makes a link, and its peer if it is one end of a pair, each at once in its namespace and
    /// under its name. Answers both, the link first. On an error nothing has changed.
    async fn create(&self, new: &NewLink) -> Result<Vec<Made>, KernelError>;

    /// Begins to follow a namespace: what happens there becomes hints, and requests about it are
    /// answered. It keeps nothing of it open, so that the namespace dies with its last user: that
    /// is told in [`HintBatch::ended`]. Watching it again only takes the new opener.
    async fn watch(&self, ns: OwnedFd, opener: NsOpener) -> Result<NsCookie, KernelError>;

    /// Ends that, and any pin. The namespace keeps its number (nsid).
    async fn unwatch(&self, ns: NsCookie);

    /// Opens the daemon's own namespace or a watched one, which the descriptor keeps alive.
    async fn open(&self, ns: NsCookie) -> Result<OwnedFd, KernelError>;

    /// Keeps a watched namespace alive until it is unpinned or unwatched, and makes it certain
    /// that it can be entered.
    async fn pin(&self, ns: NsCookie) -> Result<(), KernelError>;

    /// Ends that; of a namespace that is not pinned, nothing.
    fn unpin(&self, ns: NsCookie);

    /// Looks for a way into the namespace that has this number (nsid) in the daemon's own: a name
    /// that it is mounted on, or a process in it. It takes a while where there are many.
    async fn find(&self, nsid: i32) -> Result<Option<Doorway>, KernelError>;

    /// Where this kernel tells what happens.
    fn hints(&self) -> &HintQueue;
}
