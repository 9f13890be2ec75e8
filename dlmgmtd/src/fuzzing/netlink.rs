//! What the kernel sends, from the datagram to the link.

use std::cell::OnceCell;

use super::block_on;
use crate::kernel::rtnetlink::Intake;

/// Takes the bytes for a datagram of the kernel. The first four are the number of the request
/// that it may answer.
pub fn netlink(bytes: &[u8]) {
    thread_local! {
        static INTAKE: OnceCell<Intake> = const { OnceCell::new() };
    }
    let Some((sequence, datagram)) = bytes.split_first_chunk() else { return };
    INTAKE.with(|intake| {
        let intake = intake.get_or_init(opened);
        block_on(intake.take_in(datagram, u32::from_ne_bytes(*sequence)));
    });
}

fn opened() -> Intake {
    Intake::open().expect("the kernel answers")
}
