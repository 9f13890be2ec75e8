//! Files that travel with a packet.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use dlmgmt_proto::door::{Command, Import, Kind, encode};
use dlmgmt_proto::{ErrorCode, ZoneId};
use dlmgmtd::door::{DoorOptions, Limits};
use libdlmgmt::{Client, ClientError};

use crate::fake::{Fake, Served};
use crate::raw::Raw;

fn refusal<T>(result: Result<T, ClientError>) -> ErrorCode {
    match result {
        Err(ClientError::Refused(error)) => error.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn what_was_imported_is_exported_wherever_the_file_stands() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"the registry").unwrap();
    client.import(&file).unwrap();
    assert_eq!(client.export().unwrap(), b"the registry");
    assert_eq!(file.stream_position().unwrap(), 12);
}

#[test]
fn an_empty_registry_is_exported_too() {
    let served = Served::new(&Fake::new(1));
    assert_eq!(Client::connect(served.path()).unwrap().export().unwrap(), b"");
}

#[test]
fn import_takes_a_regular_file_of_bounded_size_that_can_be_read() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    let client = Client::connect(served.path()).unwrap();
    assert_eq!(refusal(client.import(&File::open("/dev/zero").unwrap())), ErrorCode::Invalid);
    assert_eq!(refusal(client.import(&File::open(served.dir()).unwrap())), ErrorCode::Invalid);
    let mut huge = tempfile::tempfile().unwrap();
    huge.seek(SeekFrom::Start(64 * 1024 * 1024)).unwrap();
    huge.write_all(b"x").unwrap();
    assert_eq!(refusal(client.import(&huge)), ErrorCode::Invalid);
    let unreadable = File::create(served.dir().join("unreadable")).unwrap();
    assert_eq!(refusal(client.import(&unreadable)), ErrorCode::Invalid);
    assert!(fake.imported.lock().unwrap().is_empty());
}

#[test]
fn the_file_of_who_may_not_import_is_not_even_looked_at() {
    let fake = Fake::new(1);
    let zone_of = Arc::new(|_| Some(ZoneId(5)));
    let options = DoorOptions { zone_of, limits: Limits::default() };
    let served = Served::with_options(&fake, options);
    let client = Client::connect(served.path()).unwrap();
    let not_regular = File::open(served.dir()).unwrap();
    assert_eq!(refusal(client.import(&not_regular)), ErrorCode::Denied);
}

#[test]
fn import_takes_exactly_one_descriptor() {
    let served = Served::new(&Fake::new(1));
    let raw = Raw::greeted(&served.path());
    let packet = encode(Kind::Call, Import::NUMBER, 4, &Import {}).unwrap();
    raw.send(&packet).unwrap();
    assert_eq!(raw.error(), (4, ErrorCode::Invalid));
    let file = tempfile::tempfile().unwrap();
    raw.send_fds(&packet, &[file.as_fd(), file.as_fd()]);
    assert_eq!(raw.error(), (4, ErrorCode::Invalid));
}
