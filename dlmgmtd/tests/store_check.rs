//! `dlmgmtd check`: every kind of damage has its line, and nothing is touched.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod records;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use dlmgmt_proto::{LinkName, ZoneId, ZoneName};
use dlmgmtd::check::check;
use dlmgmtd::model::{Lifetime, LinkRecord, Loan, Location, Origin, ZoneRecord};
use dlmgmtd::store::sled::{Options, SledStore};
use dlmgmtd::store::{Batch, Store, StoreError};
use tempfile::TempDir;

use records::link;

fn zone(number: u32, name: &str) -> ZoneRecord {
    ZoneRecord { id: ZoneId(number), name: ZoneName::new(name).unwrap(), attached: None }
}

/// A state directory to which a daemon wrote these records, each link in a commit of its own.
async fn written(links: Vec<LinkRecord>, zones: Vec<ZoneRecord>) -> TempDir {
    let dir = TempDir::new().unwrap();
    let (store, _) = SledStore::open(dir.path(), Options::default()).unwrap();
    let batch = Batch { zones, next_link_id: Some(10), epoch: Some(1), ..Batch::default() };
    store.commit(batch).await.unwrap();
    for link in links {
        store.commit(Batch { put: vec![Arc::new(link)], ..Batch::default() }).await.unwrap();
    }
    drop(store);
    dir
}

/// Every file below a directory: its path, its content, and when it was changed.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new(), SystemTime::UNIX_EPOCH));
            found.extend(files(&path));
        } else {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            found.push((path.clone(), fs::read(&path).unwrap(), changed));
        }
    }
    found.sort();
    found
}

/// What is wrong with a directory, by a look that leaves it as it is.
fn problems(dir: &Path) -> Vec<String> {
    let before = files(dir);
    let report = check(dir).unwrap();
    assert_eq!(files(dir), before, "something was touched");
    let problems: Vec<String> = report.problems().collect();
    assert_eq!(report.is_sound(), problems.is_empty());
    for problem in &problems {
        assert!(problem.contains(dir.to_str().unwrap()), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
    problems
}

#[track_caller]
fn assert_one(problems: &[String], says: &str) {
    assert!(matches!(problems, [only] if only.contains(says)), "{problems:?}");
}

#[tokio::test]
async fn a_sound_directory_has_no_problem_and_is_counted() {
    let dir = written(vec![link(1, "a"), link(2, "b")], vec![zone(1, "web")]).await;
    assert_eq!(problems(dir.path()), [""; 0]);
    let text = check(dir.path()).unwrap().to_string();
    for line in [
        "record versions: 3",
        "links: 2",
        "zones: 1",
        "commit: 3",
        "acknowledged: 3",
        "snapshot: commit 3, 2 links",
        "next linkid: 10",
        "problems: 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

/// What a daemon leaves that was killed before the database had all.
#[tokio::test]
async fn what_only_the_journal_has_is_counted_and_no_damage() {
    let live = written(vec![link(1, "a")], Vec::new()).await;
    let options = Options { lazy: std::time::Duration::from_secs(3600), ..Options::default() };
    let (store, _) = SledStore::open(live.path(), options).unwrap();
    let batch = Batch { put: vec![Arc::new(link(2, "b"))], ..Batch::default() };
    store.commit_for_this_boot(batch).await.unwrap();
    let dir = TempDir::new().unwrap();
    for file in ["journal", "acknowledged", "snapshot.json", "lock"] {
        fs::copy(live.path().join(file), dir.path().join(file)).unwrap();
    }
    fs::create_dir(dir.path().join("db")).unwrap();
    for file in ["db", "conf"] {
        fs::copy(live.path().join("db").join(file), dir.path().join("db").join(file)).unwrap();
    }
    assert_eq!(problems(dir.path()), [""; 0]);
    let text = check(dir.path()).unwrap().to_string();
    assert!(text.lines().any(|line| line == "journal: 1 entries"), "{text}");
}

#[test]
fn an_empty_directory_is_sound_and_one_that_is_not_there_is_refused() {
    let dir = TempDir::new().unwrap();
    assert_eq!(problems(dir.path()), [""; 0]);
    let gone = check(&dir.path().join("gone")).unwrap_err();
    assert!(matches!(gone, StoreError::Unusable { .. }), "{gone}");
}

#[test]
fn a_directory_that_a_daemon_uses_is_refused() {
    let dir = TempDir::new().unwrap();
    let (_store, _) = SledStore::open(dir.path(), Options::default()).unwrap();
    let refused = check(dir.path()).unwrap_err();
    assert_eq!(refused, StoreError::InUse(dir.path().display().to_string()));
}

#[tokio::test]
async fn a_name_that_two_links_of_ours_have_is_told_and_is_no_damage() {
    let foreign =
        LinkRecord { origin: Origin::Foreign, lifetime: Lifetime::Temporary, ..link(3, "a") };
    let dir = written(vec![link(1, "a"), link(2, "a"), foreign], Vec::new()).await;
    assert_eq!(problems(dir.path()), [""; 0]);
    let text = check(dir.path()).unwrap().to_string();
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("conflict")).collect();
    assert_eq!(told, ["conflict: links 1 and 2 both have the name a"]);
}

#[tokio::test]
async fn two_zones_may_not_have_one_name() {
    let dir = written(Vec::new(), vec![zone(1, "web"), zone(2, "web")]).await;
    assert_one(&problems(dir.path()), "zones 1 and 2 both have the name web");
}

#[tokio::test]
async fn a_linkid_must_have_been_given() {
    let dir = written(vec![link(10, "a")], Vec::new()).await;
    assert_one(&problems(dir.path()), "link 10 has a linkid that counts as never given");
}

#[tokio::test]
async fn a_zone_that_a_record_speaks_of_must_be_there() {
    let loan = Loan {
        zone: ZoneId(7),
        name_inside: LinkName::given("up0").unwrap(),
        is_persistent: true,
        left: None,
    };
    let lent = LinkRecord { location: Location::OnLoan(loan), ..link(1, "a") };
    let dir = written(vec![lent], Vec::new()).await;
    assert_one(&problems(dir.path()), "link 1 speaks of zone 7, which is not known");
}

#[tokio::test]
async fn an_acknowledged_commit_must_be_there() {
    let dir = written(vec![link(1, "a")], Vec::new()).await;
    let mut number = 9_u64.to_le_bytes().to_vec();
    number.extend(crc32fast::hash(&number).to_le_bytes());
    fs::write(dir.path().join("acknowledged"), number).unwrap();
    assert_one(&problems(dir.path()), "ends at commit 2, and commit 9 was acknowledged");
    fs::write(dir.path().join("acknowledged"), "?").unwrap();
    assert_one(&problems(dir.path()), "the last acknowledged commit cannot be read");
}

#[tokio::test]
async fn the_snapshot_must_be_there_and_be_readable() {
    let dir = written(vec![link(1, "a")], Vec::new()).await;
    fs::write(dir.path().join("snapshot.json"), "{}\n").unwrap();
    assert_one(&problems(dir.path()), "the snapshot cannot be read");
    fs::remove_file(dir.path().join("snapshot.json")).unwrap();
    assert_one(&problems(dir.path()), "there is no snapshot");
}

#[tokio::test]
async fn every_record_that_cannot_be_read_is_told() {
    let dir = written(vec![link(1, "a"), link(2, "b")], vec![zone(1, "web")]).await;
    let db = sled::open(dir.path().join("db")).unwrap();
    let links = db.open_tree("links").unwrap();
    let [one, two] = [1_u32, 2].map(|number| links.get(number.to_be_bytes()).unwrap().unwrap());
    links.insert(1_u32.to_be_bytes(), [&one[..], b"x"].concat()).unwrap();
    links.insert(5_u32.to_be_bytes(), two).unwrap();
    db.open_tree("zones").unwrap().insert([0, 0, 0, 1], b"no record").unwrap();
    db.flush().unwrap();
    drop((links, db));
    let found = problems(dir.path());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("the link of key [0, 0, 0, 1] cannot be read"), "{found:?}");
    assert!(found[1].contains("the record of link 2 lies in another's place"), "{found:?}");
    assert!(found[2].contains("the zone of key [0, 0, 0, 1] cannot be read"), "{found:?}");
}

#[tokio::test]
async fn a_database_that_sled_cannot_read_or_that_is_missing_is_told() {
    let dir = written(vec![link(1, "a")], Vec::new()).await;
    let log = dir.path().join("db/db");
    let len = fs::metadata(&log).unwrap().len() as usize;
    fs::write(&log, vec![0; len]).unwrap();
    assert_eq!(problems(dir.path()).len(), 1);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    assert_one(&problems(dir.path()), "the database is missing");
}
