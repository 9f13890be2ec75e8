//! A state directory that an earlier daemon left opens, and says what it said.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlmgmt_proto::{Generation, LinkClass, LinkId, LinkName, Media, ZoneId, ZoneName};
use dlmgmtd::model::{BootId, Lifetime, LinkRecord, Location, Origin, ZoneRecord};
use dlmgmtd::store::sled::{Options, SledStore};
use dlmgmtd::store::{Batch, Loaded, Store};
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state")
}

fn link(number: u32, name: &str) -> LinkRecord {
    LinkRecord {
        id: LinkId::new(number).unwrap(),
        name: LinkName::given(name).unwrap(),
        owner: ZoneId::GLOBAL,
        location: Location::Home,
        class: LinkClass::Phys,
        kind: None,
        media: Media::Ethernet,
        lifetime: Lifetime::Persistent,
        origin: Origin::Own,
        phys: None,
        anchor: None,
        recipe: None,
        unsettled: false,
        generation: Generation(0),
    }
}

/// What the directory holds.
fn written() -> Loaded {
    Loaded {
        links: vec![link(1, "lan"), link(7, "wan")],
        zones: vec![ZoneRecord {
            id: ZoneId(3),
            name: ZoneName::new("web").unwrap(),
            attached: None,
        }],
        boot: Some(BootId("boot-1".to_owned())),
        next_link_id: 8,
        epoch: 2,
    }
}

/// Linkids may be left out, up to those that the snapshot reserves.
fn assert_says_what_was_written(loaded: Loaded) {
    assert!(loaded.next_link_id >= written().next_link_id, "an id will be given again");
    assert_eq!(loaded, Loaded { next_link_id: loaded.next_link_id, ..written() });
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = entry.map(|e| (e.path(), to.join(e.file_name()))).unwrap();
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

#[test]
fn a_directory_of_version_1_opens_and_says_what_it_said() {
    let dir = TempDir::new().unwrap();
    copy_dir(&fixture(), dir.path());
    let (store, loaded) = SledStore::open(dir.path(), Options::default()).unwrap();
    assert_says_what_was_written(loaded);
    assert_eq!(store.recovery(), None);
}

#[test]
fn a_snapshot_of_version_1_restores_what_it_said() {
    let dir = TempDir::new().unwrap();
    copy_dir(&fixture(), dir.path());
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let (store, loaded) = SledStore::open(dir.path(), Options::default()).unwrap();
    assert!(store.recovery().is_some());
    assert_says_what_was_written(loaded);
}

/// For whoever changes what lies in a state directory; the old one is to stay beside the new.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn writes_the_fixture() {
    let dir = TempDir::new().unwrap();
    let Loaded { links, zones, boot, next_link_id, epoch } = written();
    let (store, _) = SledStore::open(dir.path(), Options::default()).unwrap();
    let put = links.into_iter().map(Arc::new).collect();
    let (next_link_id, epoch) = (Some(next_link_id), Some(epoch));
    let batch = Batch { put, zones, delete: Vec::new(), next_link_id, boot, epoch };
    store.commit(batch).await.unwrap();
    drop(store);
    copy_dir(dir.path(), &fixture());
}
