//! Links whose other side is a program: rtnetlink does not make them, `/dev/net/tun` does.

use std::os::fd::OwnedFd;

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::{LinkName, Value};

use super::inside::within;
use crate::kernel::KernelError;
use crate::sys::{self, Tun};

/// Makes a link that stays when nobody has it open, in the namespace of a descriptor. Blocks.
pub fn make(ns: &OwnedFd, name: LinkName, options: &LinkOptions) -> Result<(), KernelError> {
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
    // The device belongs to the namespace of the thread that opens it.
    Ok(within(ns, || sys::make_tun(name.as_bytes(), &tun))?)
}
