//! The door's codec, both directions.

use std::fmt::Debug;

use dlmgmt_proto::door::{
    Acknowledge, AttachZone, Call, ChangePorts, CodecError, Command, CreateLink, DeleteLink,
    DeletePhys, DetachZone, Export, GetAttribute, GetDetails, GetLink, GetLinkId, GetName, GetNext,
    HEADER_LEN, Header, Hello, Hold, Import, Kind, List, ListProperties, ListZones, MakeLink,
    PACKET_MAX, Reclaim, Release, Rename, ResetProperties, ResetZone, SetProperties, SetZone,
    Subscribe, Unsubscribe, Where, body_len, decode_body, encode, split,
};
use dlmgmt_proto::{Error, SequencedEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads the bytes as a packet. Of one that can be read, the header and the body say the same
/// when they are written and read again.
pub fn codec(bytes: &[u8]) {
    if let Ok((header, body)) = split(bytes) {
        assert_eq!(header.encode()[..], bytes[..HEADER_LEN]);
        assert_eq!(header.body_len as usize, body.len());
    }
    if let (Some((command, serial)), Some(body)) = (Header::address(bytes), bytes.get(HEADER_LEN..))
    {
        assert_reads_alike(command, serial, body);
    }
}

/// Declares what is tried for each command.
macro_rules! commands {
    ($($call:ident)+) => {
        /// Checks `body` as what the command takes, as what it answers, as an event and as an
        /// error.
        fn assert_reads_alike(command: u16, serial: u64, body: &[u8]) {
            match command {
                $(<$call as Command>::NUMBER => {
                    assert_is_command::<$call>(body);
                    assert_survives::<<$call as Command>::Reply>(Kind::Reply, command, serial, body);
                })+
                other => {
                    let unknown = Err(CodecError::UnknownCommand(other));
                    assert_eq!(Call::decode(other, body), unknown, "it is not tried here");
                }
            }
            assert_survives::<SequencedEvent>(Kind::Event, command, serial, body);
            assert_survives::<Error>(Kind::Error, command, serial, body);
        }
    };
}

commands! {
    Hello GetLinkId GetName GetLink GetNext GetAttribute GetDetails List Rename DeletePhys SetZone
    ResetZone CreateLink MakeLink ChangePorts DeleteLink Reclaim Where Hold Release Subscribe
    Unsubscribe Acknowledge Export Import ListZones AttachZone DetachZone ListProperties
    SetProperties ResetProperties
}

fn assert_is_command<C>(body: &[u8])
where
    C: Command + PartialEq + Debug + Into<Call>,
{
    let call = decode_body::<C>(C::NUMBER, body);
    assert_eq!(Call::decode(C::NUMBER, body), call.map(C::into));
    assert_survives::<C>(Kind::Call, C::NUMBER, 0, body);
}

fn assert_survives<T>(kind: Kind, command: u16, serial: u64, body: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Ok(value) = decode_body::<T>(command, body) else { return };
    let packet = match encode(kind, command, serial, &value) {
        Err(CodecError::TooLong(len)) => return assert!(len > PACKET_MAX),
        packet => packet,
    };
    let again = packet.as_deref().map(split);
    let Ok(Ok((header, body))) = again else { panic!("what was written is no packet: {again:?}") };
    assert_eq!((header.kind, header.command, header.serial), (kind, command, serial));
    assert_eq!(body.len(), body_len(&value));
    assert_eq!(decode_body::<T>(command, body), Ok(value));
}
