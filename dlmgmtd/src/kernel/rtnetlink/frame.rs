//! Netlink's framing: messages in a datagram, attributes in a message.

use netlink_packet_core::{DecodeError, NLA_HEADER_SIZE, NetlinkBuffer, NlasIterator};

/// Messages start at multiples of this many bytes (`NLMSG_ALIGNTO`).
const MESSAGE_ALIGN: usize = 4;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`: the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of a datagram; an error, which is always the last item, where it is malformed.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let unread = std::mem::take(&mut self.rest);
        let found = NetlinkBuffer::new_checked(unread).map(|message| {
            let end = (message.length() as usize).next_multiple_of(MESSAGE_ALIGN);
            self.rest = unread.get(end..).unwrap_or_default();
            Message {
                kind: message.message_type(),
                flags: message.flags(),
                sequence: message.sequence_number(),
                payload: message.payload(),
            }
        });
        Some(found)
    }
}

/// The attributes in `bytes` as their types and values, up to the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        // The iterator has checked that the header and `end` lie within the bytes.
        (kind, &attribute.into_inner()[NLA_HEADER_SIZE..end])
    })
}

/// The value of a string attribute: its bytes without the terminator.
pub fn string(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_follow_each_other_at_aligned_places() {
        let first = [17, 0, 0, 0, 16, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0, 0, 0];
        let second = [16, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
        let datagram = [&first[..], &second[..]].concat();
        let found: Vec<Message> = Messages::new(&datagram).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].sequence, found[0].payload), (16, 7, &[0xaa][..]));
        assert_eq!((found[1].kind, found[1].sequence, found[1].payload), (3, 8, &[][..]));
    }

    #[test]
    fn a_message_longer_than_its_datagram_is_an_error() {
        let datagram = [99, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let found: Vec<bool> = Messages::new(&datagram).map(|message| message.is_ok()).collect();
        assert_eq!(found, [false]);
    }

    #[test]
    fn attributes_before_a_malformed_one_are_kept() {
        let bytes = [5, 0, 1, 0, 0xaa, 0, 0, 0, 2, 0, 9, 9];
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(1, &[0xaa][..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
            prop_assert!(Messages::new(&bytes).count() <= bytes.len() / 16 + 1);
        }
    }
}
