//! The numbers (nsid) that namespaces have in this one: how requests and notifications name them.
//!
//! A number is no identity. The kernel gives the lowest free one by itself, so one that belonged to
//! a namespace that died soon belongs to another. So the daemon gives numbers of its own, from a
//! range where the kernel does not come and none twice: such a number means one namespace or none.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};

use super::connection::Connection;
use super::frame::{Message, attributes};
use super::request;
use crate::kernel::KernelError;

/// An RTM_NEWNSID message.
const RTM_NEWNSID: u16 = 88;

/// Bytes of `struct rtgenmsg`, padded, which the attributes follow.
const HEADER_LEN: usize = 4;

const NETNSA_NSID: u16 = 1;
const NETNSA_CURRENT_NSID: u16 = 5;

/// The first number that the daemon gives: for the kernel to come here by itself, there would have
/// to be as many namespaces.
const FIRST: i32 = 1 << 20;

/// How many numbers are tried in a row. Those of an earlier run of the daemon are taken.
const ATTEMPTS: u32 = 1 << 16;

/// Gives numbers.
#[derive(Debug)]
pub struct Numbers {
    next: AtomicI32,
}

impl Numbers {
    /// Numbers from the first on.
    pub fn new() -> Self {
        Self { next: AtomicI32::new(FIRST) }
    }

    /// Whether a number is never given again while this daemon lives.
    pub fn is_lasting(nsid: i32) -> bool {
        nsid >= FIRST
    }

    /// The number of an open namespace, which gets one if it has none.
    pub fn number(
        &self,
        connection: &mut Connection,
        ns: BorrowedFd<'_>,
    ) -> Result<i32, KernelError> {
        for _ in 0..ATTEMPTS {
            if let Some(nsid) = connection.number_of(ns)? {
                // One of an earlier run must not be given again either.
                self.next.fetch_max(nsid.saturating_add(1), Ordering::Relaxed);
                return Ok(nsid);
            }
            let nsid = self.next.fetch_add(1, Ordering::Relaxed);
            match connection.give_number(ns, nsid) {
                Err(error) if error.errno != libc::EEXIST => return Err(error),
                _ => {}
            }
        }
        let text = "no number for a namespace is free".to_owned();
        Err(KernelError { errno: libc::ENOSPC, text: Some(text) })
    }
}

impl Connection {
    /// The number of an open namespace, if it has one.
    pub fn number_of(&mut self, ns: BorrowedFd<'_>) -> Result<Option<i32>, KernelError> {
        let mut number = None;
        self.exchange(request::number_of(ns), NLM_F_ACK, |message| {
            number = number_in(message, NETNSA_NSID);
        })?;
        Ok(number)
    }

    fn give_number(&mut self, ns: BorrowedFd<'_>, nsid: i32) -> Result<(), KernelError> {
        self.exchange(request::give_number(ns, nsid), NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Whether a namespace has this number.
    pub fn has_number(&mut self, nsid: i32) -> Result<bool, KernelError> {
        match self.exchange(request::has_number(nsid), NLM_F_ACK, |_| ()) {
            Err(error) if error.errno == libc::ENOENT => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Ok(true),
        }
    }

    /// The number here of the namespace that has the number `there` in the one of the number
    /// `nsid`.
    pub fn number_from(&mut self, nsid: i32, there: i32) -> Result<Option<i32>, KernelError> {
        let mut number = None;
        self.exchange(request::numbers_of(nsid), NLM_F_DUMP, |message| {
            if number_in(message, NETNSA_NSID) == Some(there) {
                number = number_in(message, NETNSA_CURRENT_NSID);
            }
        })?;
        Ok(number)
    }
}

/// The number that a message about a namespace tells; none where the namespace has none.
pub fn number_told(message: Message<'_>) -> Option<i32> {
    let attributes = attributes(message.payload.get(HEADER_LEN..)?);
    number_among(attributes, NETNSA_NSID)
}

fn number_in(message: Message<'_>, kind: u16) -> Option<i32> {
    if message.kind != RTM_NEWNSID {
        return None;
    }
    number_among(attributes(message.payload.get(HEADER_LEN..)?), kind)
}

fn number_among<'a>(
    mut attributes: impl Iterator<Item = (u16, &'a [u8])>,
    kind: u16,
) -> Option<i32> {
    let (_, value) = attributes.find(|(found, _)| *found == kind)?;
    value.try_into().ok().map(i32::from_ne_bytes).filter(|nsid| *nsid >= 0)
}
