//! Bytes from anywhere: read as what they are or refused, never a panic, never a big allocation.

use dlmgmt_proto::door::{
    Call, CodecError, HEADER_LEN, Header, Kind, PACKET_MAX, Page, body_len, decode_body, encode,
    encode_into, split,
};
use dlmgmt_proto::{Error, SequencedEvent};
use proptest::prelude::*;

/// The numbers of all commands, and some that are none.
const COMMANDS: std::ops::Range<u16> = 0..128;

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok((header, body)) = split(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_LEN]);
            prop_assert_eq!(header.body_len as usize, body.len());
        }
        let _ = decode_body::<Page>(0, &bytes);
        let _ = decode_body::<SequencedEvent>(0, &bytes);
        let _ = decode_body::<Error>(0, &bytes);
    }

    #[test]
    fn any_body_is_a_call_or_refused(
        command in COMMANDS,
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Ok(call) = Call::decode(command, &body) {
            prop_assert_eq!(call.number(), command);
        }
    }

    #[test]
    fn a_header_survives_the_way(
        kind in prop::sample::select(vec![Kind::Call, Kind::Reply, Kind::Error, Kind::Event]),
        command: u16,
        body_len: u32,
        serial: u64,
    ) {
        let header = Header { version: 1, kind, command, body_len, serial };
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        prop_assert_eq!(Header::address(&header.encode()), Some((command, serial)));
    }

    #[test]
    fn a_packet_that_is_cut_or_extended_is_refused(text in ".{0,40}", more in 1usize..9) {
        let packet = encode(Kind::Reply, 20, 1, &text).unwrap();
        for len in 0..packet.len() {
            prop_assert!(split(&packet[..len]).is_err());
        }
        let longer = [&packet[..], &vec![0; more]].concat();
        prop_assert!(split(&longer).is_err());
        let body = [&packet[HEADER_LEN..], &vec![0; more]].concat();
        prop_assert!(decode_body::<String>(20, &body).is_err());
    }

    #[test]
    fn the_length_of_a_body_is_known_before_it_is_written(text in ".{0,300}") {
        let packet = encode(Kind::Reply, 20, 1, &text).unwrap();
        prop_assert_eq!(body_len(&text), packet.len() - HEADER_LEN);
    }
}

#[test]
fn a_length_that_promises_gigabytes_allocates_nothing() {
    let body = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(decode_body::<String>(20, &body).is_err());
    assert!(Call::decode(32, &body).is_err());
}

#[test]
fn the_longest_packet_can_be_made_and_a_longer_one_cannot() {
    let mut packet = Vec::new();
    let fits = "x".repeat(PACKET_MAX - HEADER_LEN - 3);
    assert_eq!(encode_into(&mut packet, Kind::Reply, 20, 1, &fits), Ok(()));
    assert_eq!(packet.len(), PACKET_MAX);
    let longer = format!("{fits}x");
    let refused = encode_into(&mut packet, Kind::Reply, 20, 1, &longer);
    assert_eq!(refused, Err(CodecError::TooLong(PACKET_MAX + 1)));
}

#[test]
fn only_a_packet_of_this_protocol_has_an_address() {
    assert_eq!(Header::address(b"DLDR"), None);
    assert_eq!(Header::address(&[0; HEADER_LEN]), None);
}
