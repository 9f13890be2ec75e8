//! Every file of a small state directory, cut at each length and with each byte changed: the
//! store opens and has all, or restores and says so, or refuses; and the next start is no worse.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod records;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dlmgmtd::store::sled::{Options, Recovery, SledStore};
use dlmgmtd::store::{Batch, Loaded, Store, StoreError};
use tempfile::TempDir;

use records::link;

/// Links that are acknowledged, each in a commit of its own.
const ACKNOWLEDGED: u32 = 4;

/// Bytes at the beginning of a file that are all tried; of the rest, which is sled's padding, some.
const DENSE: usize = 1500;
const SPARSE_STEP: usize = 20_011;

/// Of the dense part, every so manyth byte is tried, so that the test is quick.
const STEP: usize = 5;

/// Nothing is put off, and nothing happens by itself.
const PROMPT: Options = Options {
    linger: Duration::ZERO,
    lazy: Duration::from_secs(3600),
    snapshot: Duration::from_secs(3600),
};

async fn add(store: &SledStore, number: u32) {
    let put = vec![Arc::new(link(number, &format!("net{number}")))];
    let next_link_id = Some(number + 1);
    store.commit(Batch { put, next_link_id, ..Batch::default() }).await.unwrap();
}

/// In memory: hundreds of stores are opened here.
fn fresh_dir() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

/// What a daemon leaves that was killed: the snapshot is older than the last commits.
async fn written() -> TempDir {
    let (live, dir) = (fresh_dir(), fresh_dir());
    let (store, _) = SledStore::open(live.path(), PROMPT).unwrap();
    for number in 1..=2 {
        add(&store, number).await;
    }
    drop(store);
    let (store, _) = SledStore::open(live.path(), PROMPT).unwrap();
    for number in 3..=ACKNOWLEDGED {
        add(&store, number).await;
    }
    copy_dir(live.path(), dir.path());
    dir
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

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// One way to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Change(usize),
    Cut(usize),
}

impl Damage {
    fn all(len: usize) -> impl Iterator<Item = Self> {
        let places =
            move || (0..len.min(DENSE)).step_by(STEP).chain((DENSE..len).step_by(SPARSE_STEP));
        places().map(Self::Change).chain(places().map(Self::Cut))
    }

    fn strike(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Change(at) => bytes[at] ^= 0x41,
            Self::Cut(len) => bytes.truncate(len),
        }
        fs::write(file, bytes).unwrap();
    }
}

/// What became of damaged directories.
#[derive(Debug, Default)]
struct Outcomes {
    whole: u32,
    restored: u32,
    refused: u32,
}

/// Opens a damaged directory, and then once more, as a daemon does that is started again.
fn open_twice(dir: &Path, case: &str, outcomes: &mut Outcomes) {
    let found = contents(dir);
    match open(dir) {
        Ok((loaded, recovery)) => {
            let kept = loaded.links.len() as u32;
            assert!(
                loaded.links.iter().map(|link| link.id.get()).eq(1..=kept),
                "{case}: {loaded:?}"
            );
            assert!(loaded.next_link_id > ACKNOWLEDGED, "{case}: an id will be given again");
            match recovery {
                None => outcomes.whole += 1,
                Some(_) => outcomes.restored += 1,
            }
            if recovery.is_none() {
                assert_eq!(kept, ACKNOWLEDGED, "{case}: a silent loss");
            }
            let (again, recovery) = open(dir).unwrap_or_else(|why| panic!("{case}: {why}"));
            assert_eq!((again.links, recovery), (loaded.links, None), "{case}: the second start");
        }
        Err(why @ StoreError::Damaged { .. }) => {
            outcomes.refused += 1;
            assert_eq!(contents(dir), found, "{case}: refused, and touched");
            assert_eq!(open(dir).err(), Some(why), "{case}: the second start");
            assert_eq!(contents(dir), found, "{case}: the second start touched it");
        }
        Err(why) => panic!("{case}: {why}"),
    }
    assert!(!dir.join("damaged-2").exists(), "{case}: evidence piles up");
}

fn open(dir: &Path) -> Result<(Loaded, Option<Recovery>), StoreError> {
    let (store, loaded) = SledStore::open(dir, PROMPT)?;
    Ok((loaded, store.recovery().cloned()))
}

/// Strikes every file; `also` is done to each damaged directory beside that.
async fn strike_everywhere(step: usize, also: impl Fn(&Path)) -> Outcomes {
    std::panic::set_hook(Box::new(quiet_about_sled));
    let original = written().await;
    let mut outcomes = Outcomes::default();
    for (file, bytes) in contents(original.path()) {
        let name = file.strip_prefix(original.path()).unwrap();
        for damage in Damage::all(bytes.len()).step_by(step) {
            let dir = fresh_dir();
            copy_dir(original.path(), dir.path());
            damage.strike(&dir.path().join(name));
            also(dir.path());
            let case = format!("{damage:?} of {}", name.display());
            open_twice(dir.path(), &case, &mut outcomes);
        }
    }
    outcomes
}

/// sled panics over damaged files, which is what the store must live through.
fn quiet_about_sled(panic: &std::panic::PanicHookInfo<'_>) {
    if !panic.location().is_some_and(|at| at.file().contains("sled-")) {
        eprintln!("{panic}");
    }
}

#[tokio::test]
async fn damage_of_one_file_is_repaired_or_told() {
    let outcomes = strike_everywhere(1, |_| ()).await;
    println!("{outcomes:?}");
    assert!(outcomes.whole > 0 && outcomes.restored > 0, "{outcomes:?}");
}

#[tokio::test]
async fn damage_where_the_snapshot_is_damaged_too_is_refused_and_nothing_is_touched() {
    let outcomes =
        strike_everywhere(4, |dir| fs::write(dir.join("snapshot.json"), "{}\n").unwrap()).await;
    println!("{outcomes:?}");
    assert!(outcomes.whole > 0 && outcomes.refused > 0, "{outcomes:?}");
}

#[tokio::test]
async fn evidence_does_not_pile_up_without_bound() {
    let dir = written().await;
    for _ in 0..12 {
        let log = dir.path().join("db/db");
        let len = fs::metadata(&log).unwrap().len() as usize;
        fs::write(log, vec![0; len]).unwrap();
        assert!(open(dir.path()).unwrap().1.is_some());
    }
    let kept = fs::read_dir(dir.path()).unwrap();
    let kept = kept.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("damaged-")
    });
    assert_eq!(kept.count(), 8);
}
