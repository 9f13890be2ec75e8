//! The door leaks no descriptor. A file of its own: it counts those of the whole process.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "door/fake.rs"]
#[allow(dead_code)]
mod fake;
#[path = "door/raw.rs"]
#[allow(dead_code)]
mod raw;

use std::os::fd::AsFd;
use std::time::Duration;

use dlmgmt_proto::ZoneName;
use dlmgmt_proto::door::{AttachZone, Command, GetLinkId, Hold, Import, Kind, encode};
use libdlmgmt::Client;

use fake::{Fake, Served};
use raw::Raw;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn attach() -> AttachZone {
    AttachZone { zone: ZoneName::new("web").unwrap(), pid: None, path: None }
}

/// Everything that passes descriptors, in the right number and in a wrong one.
fn storm(fake: &Fake, served: &Served) {
    let file = tempfile::tempfile().unwrap();
    let packets = [
        encode(Kind::Call, Import::NUMBER, 1, &Import {}).unwrap(),
        encode(Kind::Call, AttachZone::NUMBER, 1, &attach()).unwrap(),
        encode(Kind::Call, GetLinkId::NUMBER, 1, "garbage").unwrap(),
        encode(Kind::Event, 0, 1, "").unwrap(),
        b"no packet at all".to_vec(),
    ];
    for packet in &packets {
        for count in [1, 2, 4, 16] {
            let raw = Raw::greeted(&served.path());
            raw.send_fds(packet, &vec![file.as_fd(); count]);
            raw.receive();
        }
    }
    let client = Client::connect(served.path()).unwrap();
    client.import(&file).unwrap();
    client.export().unwrap();
    let unread = Raw::greeted(&served.path());
    unread.call(2, &dlmgmt_proto::door::Export {});
    unread.call(3, &Hold { link: "net1".parse().unwrap() });
    fake.attached.lock().unwrap().clear();
}

#[test]
fn no_descriptor_is_left_behind() {
    let fake = Fake::new(1);
    let served = Served::new(&fake);
    storm(&fake, &served);
    let settled = || {
        std::thread::sleep(Duration::from_millis(20));
        open_descriptors()
    };
    let before = (0..20).map(|_| settled()).min();
    (0..10).for_each(|_| storm(&fake, &served));
    let after = (0..20).map(|_| settled()).min();
    assert_eq!(before, after);
}
