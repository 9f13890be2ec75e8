//! What the store reads back: records, and the snapshot and the journal beside the database.

use std::fmt::Debug;

use crate::store::codec::{
    CodecError, decode_link, decode_meta, decode_zone, encode_link, encode_meta, encode_zone,
};
use crate::store::sled::{assert_journal_reads_orderly, assert_snapshot_reads_orderly};

/// Reads the bytes as a record of each type, as a journal and as a snapshot: as they are, and once more with the
/// checksum that would be right, which no fuzzer guesses.
pub fn records(bytes: &[u8]) {
    let sealed = [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat();
    for record in [bytes, &sealed] {
        assert_survives(record, decode_link, encode_link);
        assert_survives(record, decode_zone, encode_zone);
        assert_survives(record, decode_meta, encode_meta);
    }
    assert_journal_reads_orderly(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return };
    assert_snapshot_reads_orderly(text);
    let checksum = crc32fast::hash(bytes);
    assert_snapshot_reads_orderly(&format!("{text}{{\"crc32\":{checksum}}}\n"));
}

/// What can be read is of this version once it is written again, and is still the same.
fn assert_survives<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, CodecError>,
    encode: fn(&T) -> Result<Vec<u8>, CodecError>,
) {
    let Ok(value) = decode(bytes) else { return };
    let again = encode(&value).and_then(|bytes| decode(&bytes));
    assert_eq!(again, Ok(value));
}
