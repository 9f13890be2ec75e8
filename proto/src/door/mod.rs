//! The door's wire format: one `SOCK_SEQPACKET` packet is one [`Header`] and one body.
//!
//! `docs/door.md` describes it byte by byte for clients in other languages.

mod command;
mod header;

pub use command::{
    Acknowledge, Acknowledged, AttachZone, Call, ChangePorts, Changed, Command, CreateLink,
    Created, DeleteLink, DeletePhys, DetachZone, Details, Export, Exported, GetAttribute,
    GetDetails, GetLink, GetLinkId, GetName, GetNext, Hello, HelloReply, Hold, HoldId, Import,
    LinkFilter, LinkOption, List, ListCursor, ListProperties, ListZones, MakeLink, Named, NextLink,
    Page, Peer, Properties, Reclaim, Release, Released, Rename, RenameItem, ResetProperties,
    ResetZone, SetProperties, SetZone, Subscribe, Subscribed, Unsubscribe, Unsubscribed, View,
    Where, Zones,
};
pub use header::{HEADER_LEN, Header, HeaderError, Kind, MAGIC};

use serde::{Serialize, de::DeserializeOwned};

/// The newest protocol version that this crate speaks, and so far the only one.
pub const VERSION: u16 = 1;

/// Longest packet, header included, in bytes.
pub const PACKET_MAX: usize = 64 * 1024;

/// Most file descriptors that travel with one packet.
pub const FDS_MAX: usize = 4;

/// Why a packet cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The header is wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The body's length is not the one its header gives.
    #[error("the header says {said} bytes of body, the packet has {found}")]
    Length {
        /// Bytes the header says.
        said: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The body is not what the command takes.
    #[error("the body of `{command}` cannot be read: {why}")]
    Body {
        /// The command's name.
        command: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Nobody knows this command.
    #[error("command {0} is not known")]
    UnknownCommand(u16),
    /// The packet would be longer than [`PACKET_MAX`].
    #[error("a packet of {0} bytes is longer than {PACKET_MAX}")]
    TooLong(usize),
}

/// Splits a packet into its header and its body, and checks that they agree.
pub fn split(packet: &[u8]) -> Result<(Header, &[u8]), CodecError> {
    let header = Header::decode(packet)?;
    let body = &packet[HEADER_LEN..];
    if body.len() != header.body_len as usize {
        return Err(CodecError::Length { said: header.body_len as usize, found: body.len() });
    }
    Ok((header, body))
}

/// Builds one packet into `packet`, whose earlier content is dropped.
pub fn encode_into<T: Serialize + ?Sized>(
    packet: &mut Vec<u8>,
    kind: Kind,
    command: u16,
    serial: u64,
    body: &T,
) -> Result<(), CodecError> {
    packet.clear();
    packet.resize(HEADER_LEN, 0);
    *packet = postcard::to_extend(body, std::mem::take(packet)).map_err(|why| {
        CodecError::Body { command: command::name_of(command), why: why.to_string() }
    })?;
    if packet.len() > PACKET_MAX {
        return Err(CodecError::TooLong(packet.len()));
    }
    // The cast keeps the value: the packet is at most PACKET_MAX long.
    let body_len = (packet.len() - HEADER_LEN) as u32;
    let header = Header { version: VERSION, kind, command, body_len, serial };
    packet[..HEADER_LEN].copy_from_slice(&header.encode());
    Ok(())
}

/// Builds one packet.
pub fn encode<T: Serialize + ?Sized>(
    kind: Kind,
    command: u16,
    serial: u64,
    body: &T,
) -> Result<Vec<u8>, CodecError> {
    let mut packet = Vec::with_capacity(128);
    encode_into(&mut packet, kind, command, serial, body)?;
    Ok(packet)
}

/// Reads a body in full: bytes left over are an error.
pub fn decode_body<T: DeserializeOwned>(command: u16, body: &[u8]) -> Result<T, CodecError> {
    let bad = |why: String| CodecError::Body { command: command::name_of(command), why };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(bad(format!("{} bytes too many", rest.len()))),
        Err(why) => Err(bad(why.to_string())),
    }
}

/// How many bytes `body` takes in a packet; `usize::MAX` for what cannot be encoded at all.
pub fn body_len<T: Serialize + ?Sized>(body: &T) -> usize {
    let counter = postcard::ser_flavors::Size::default();
    postcard::serialize_with_flavor(body, counter).unwrap_or(usize::MAX)
}
