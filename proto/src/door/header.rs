//! The fixed part of every packet.

/// The first four bytes of every packet: `DLDR`.
pub const MAGIC: [u8; 4] = *b"DLDR";

/// Bytes in a header.
pub const HEADER_LEN: usize = 24;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client asks.
    Call,
    /// The daemon answers.
    Reply,
    /// The daemon refuses; the body is an [`crate::Error`].
    Error,
    /// The daemon tells a subscriber; the body is a [`crate::SequencedEvent`].
    Event,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Reply => 2,
            Self::Error => 3,
            Self::Event => 4,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        [Self::Call, Self::Reply, Self::Error, Self::Event]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// Why the first bytes of a packet are no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The packet is shorter than a header.
    #[error("a packet of {0} bytes is shorter than a header of {HEADER_LEN}")]
    Short(usize),
    /// It does not start with [`MAGIC`].
    #[error("the packet is not of this protocol")]
    Magic,
    /// Its version is not spoken here.
    #[error("protocol version {0} is not spoken here")]
    Version(u16),
    /// Its kind is none of [`Kind`].
    #[error("{0} is no kind of packet")]
    Kind(u8),
    /// A byte that must be 0 is not.
    #[error("a reserved byte is not 0")]
    Reserved,
}

/// The fixed part of every packet; all numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The protocol version.
    pub version: u16,
    /// What the packet is.
    pub kind: Kind,
    /// The command's number; in a reply, an error or an event, that of the call it belongs to.
    pub command: u16,
    /// Bytes of body that follow.
    pub body_len: u32,
    /// The caller's number for its call, given back with all that answers it.
    pub serial: u64,
}

impl Header {
    /// The header as it travels.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.to_le_bytes());
        bytes[6] = self.kind.number();
        bytes[8..10].copy_from_slice(&self.command.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.serial.to_le_bytes());
        bytes
    }

    /// The command and serial of a packet of this protocol, whatever else of it is wrong: what an
    /// error needs to reach its call. `None` for a packet of some other protocol.
    pub fn address(packet: &[u8]) -> Option<(u16, u64)> {
        let bytes = packet.first_chunk::<HEADER_LEN>()?;
        let [m0, m1, m2, m3, _, _, _, _, c0, c1, _, _, _, _, _, _, serial @ ..] = *bytes;
        ([m0, m1, m2, m3] == MAGIC)
            .then(|| (u16::from_le_bytes([c0, c1]), u64::from_le_bytes(serial)))
    }

    /// Reads the header at the start of `packet`.
    pub fn decode(packet: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = packet.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Short(packet.len()));
        };
        let [m0, m1, m2, m3, v0, v1, kind, r0, c0, c1, r1, r2, rest @ ..] = *bytes;
        let [l0, l1, l2, l3, s @ ..] = rest;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != super::VERSION {
            return Err(HeaderError::Version(version));
        }
        if [r0, r1, r2] != [0; 3] {
            return Err(HeaderError::Reserved);
        }
        Ok(Self {
            version,
            kind: Kind::of_number(kind).ok_or(HeaderError::Kind(kind))?,
            command: u16::from_le_bytes([c0, c1]),
            body_len: u32::from_le_bytes([l0, l1, l2, l3]),
            serial: u64::from_le_bytes(s),
        })
    }
}
