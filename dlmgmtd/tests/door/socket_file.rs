//! Where the door is and who may take its place.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use dlmgmt_proto::ZoneId;
use dlmgmtd::door::{Door, DoorOptions, Limits};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use tokio::runtime::Handle;

use crate::fake::{Fake, Served};
use crate::raw::Raw;

fn open(path: &Path) -> std::io::Result<Door> {
    let options =
        DoorOptions { zone_of: Arc::new(|_| Some(ZoneId::GLOBAL)), limits: Limits::default() };
    Door::bind(path, Fake::new(1), options)
}

#[test]
fn anyone_may_knock_and_the_file_goes_with_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let door = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    drop(door);
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_dead_daemon_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let dead = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&dead, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    drop(dead);
    assert!(open(&path).is_ok());
}

#[test]
fn the_door_of_a_live_daemon_is_left_alone() {
    let served = Served::new(&Fake::new(1));
    let error = open(&served.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another daemon serves it"), "{error}");
    Raw::greeted(&served.path());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    fs::write(&path, "precious").unwrap();
    assert_eq!(open(&path).err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_file_that_another_put_in_place_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let door = open(&path).unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(door);
    assert!(path.exists());
}

#[test]
fn a_socket_that_listens_already_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let listening = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&listening, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listening, 8).unwrap();
    let options = DoorOptions { zone_of: Arc::new(|_| None), limits: Limits::default() };
    let door = Door::from_listener(listening, Fake::new(1), options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = libdlmgmt::aio::Client::connect(&path);
        tokio::select! {
            client = client => assert_eq!(client.unwrap().greeting().zone, None),
            _ = door.serve(Handle::current(), std::future::pending()) => panic!("the door ended"),
        }
    });
    assert!(path.exists(), "the file belongs to whoever made it");
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    let idle = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let options = DoorOptions { zone_of: Arc::new(|_| None), limits: Limits::default() };
    let refused = Door::from_listener(idle, Fake::new(1), options);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidInput);
}
