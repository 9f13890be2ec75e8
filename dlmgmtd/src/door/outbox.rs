//! What waits for a client to read.

use std::collections::VecDeque;

use super::Limits;
use super::socket::Packet;

/// The client does not read, and no more is kept for it.
pub(super) struct Overflow;

/// Packets that the socket did not take yet, in order.
#[derive(Default)]
pub(super) struct Outbox {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Packet> {
        self.packets.front()
    }

    pub(super) fn push(&mut self, packet: Packet, limits: &Limits) -> Result<(), Overflow> {
        let bytes = self.bytes + packet.bytes.len();
        if self.packets.len() == limits.queued_packets || bytes > limits.queued_bytes {
            return Err(Overflow);
        }
        self.bytes = bytes;
        self.packets.push_back(packet);
        Ok(())
    }

    pub(super) fn pop(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.bytes -= packet.bytes.len();
        }
    }
}
