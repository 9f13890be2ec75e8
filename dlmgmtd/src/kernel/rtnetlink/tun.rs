//! Links whose other side is a program: rtnetlink does not make them, `/dev/net/tun` does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::{LinkName, Value};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::kernel::KernelError;
use crate::sys::{self, Tun};

/// Makes a link that stays when nobody has it open, in the namespace of a descriptor. Blocks.
pub fn make(ns: &Arc<OwnedFd>, name: LinkName, options: &LinkOptions) -> Result<(), KernelError> {
    let number = |option: &str| match options.value(option) {
        Some(Value::Number(number)) => u32::try_from(number).ok(),
        _ => None,
    };
    let tun = Tun {
        carries_frames: options.kind().name == "tap",
        has_many_queues: options.value("multi-queue") == Some(Value::Switch(true)),
        user: number("user"),
        group: number("group"),
    };
    Ok(in_namespace(ns, || sys::make_tun(name.as_bytes(), &tun))?)
}

/// The device belongs to the namespace of the thread that opens it.
fn in_namespace(ns: &Arc<OwnedFd>, work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("making-tun".to_owned());
        let made = thread.spawn_scoped(scope, || {
            move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })?;
        made.join().map_err(|_| io::Error::other("the thread that made it panicked"))?
    })
}
