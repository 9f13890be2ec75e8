use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dlmgmt_proto::{Generation, LinkClass, LinkId, LinkName, Media, ZoneId, ZoneName};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::model::{BootId, Lifetime, LinkRecord, Location, Origin, PhysIdentity, ZoneRecord};

const LONG: Duration = Duration::from_secs(3600);

/// Nothing is put off, and nothing happens by itself.
const PROMPT: Options = Options { linger: Duration::ZERO, lazy: LONG, snapshot: LONG };

fn id(number: u32) -> LinkId {
    LinkId::new(number).unwrap()
}

pub(super) fn link(number: u32, name: &str) -> LinkRecord {
    LinkRecord {
        id: id(number),
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
        properties: Default::default(),
    }
}

fn put(number: u32, name: &str) -> Batch {
    Batch { put: vec![Arc::new(link(number, name))], ..Batch::default() }
}

fn delete(number: u32) -> Batch {
    Batch { delete: vec![id(number)], ..Batch::default() }
}

fn open(dir: &Path) -> (SledStore, Loaded) {
    SledStore::open(dir, PROMPT).unwrap()
}

fn names(loaded: &Loaded) -> Vec<(u32, String)> {
    loaded.links.iter().map(|link| (link.id.get(), link.name.to_string())).collect()
}

/// What a daemon finds that starts now.
fn reopened(dir: &Path) -> Loaded {
    open(dir).1
}

fn named(links: &[(u32, &str)]) -> Vec<(u32, String)> {
    links.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| files_in(dir)));
    files.sort();
    files
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files_in(dir).into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// This test binary, to play `role` on `dir` in a process of its own.
fn child(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["store::sled::tests::play_a_role", "--exact", "--ignored", "--nocapture"])
        .env("STORE_TEST_ROLE", role)
        .env("STORE_TEST_DIR", dir);
    command
}

#[test]
#[ignore = "is run by other tests, in a process of its own"]
fn play_a_role() {
    let Ok(role) = std::env::var("STORE_TEST_ROLE") else { return };
    let dir = PathBuf::from(std::env::var_os("STORE_TEST_DIR").unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match role.as_str() {
        "crash" => runtime.block_on(commit_until_crashed(&dir)),
        "writers" => runtime.block_on(write_until_killed(&dir)),
        "full disk" => runtime.block_on(fill_the_disk(&dir)),
        "full disk and a journal" => runtime.block_on(fill_the_disk_beside_a_journal(&dir)),
        "journal writers" => runtime.block_on(journal_until_killed(&dir)),
        "journal crash" => runtime.block_on(journal_until_crashed(&dir)),
        other => panic!("no role {other}"),
    }
}

/// A fresh store keeps nothing; what is committed is all there after it is opened again.
fn zone() -> ZoneRecord {
    ZoneRecord { id: ZoneId(3), name: ZoneName::new("web").unwrap(), attached: None }
}

#[tokio::test]
async fn what_was_committed_is_found_again() {
    let dir = TempDir::new().unwrap();
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded, Loaded { next_link_id: 1, ..Loaded::default() });

    let boot = Some(BootId("boot-1".to_owned()));
    let batch = Batch {
        put: vec![Arc::new(link(2, "b")), Arc::new(link(300, "c")), Arc::new(link(1, "a"))],
        zones: vec![zone()],
        delete: vec![],
        next_link_id: Some(301),
        boot: boot.clone(),
        epoch: Some(7),
    };
    store.commit(batch).await.unwrap();
    store.commit(delete(2)).await.unwrap();
    drop(store);

    let expected = Loaded {
        links: vec![link(1, "a"), link(300, "c")],
        zones: vec![zone()],
        boot,
        next_link_id: 301,
        epoch: 7,
    };
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded, expected);
    assert_eq!(store.recovery(), None);
}

#[tokio::test]
async fn the_highest_id_ever_told_is_kept() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for next in [5, 3] {
        store.commit(Batch { next_link_id: Some(next), ..Batch::default() }).await.unwrap();
    }
    drop(store);
    assert_eq!(reopened(dir.path()).next_link_id, 5);
}

#[tokio::test]
async fn batches_keep_their_order_lazy_or_not() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for round in 0..20 {
        store.commit_lazily(put(1, &format!("lazy{round}"))).await.unwrap();
        store.commit_lazily(put(2, "gone")).await.unwrap();
        store.commit_lazily(delete(2)).await.unwrap();
        store.commit(put(3, &format!("now{round}"))).await.unwrap();
    }
    store.commit_lazily(put(3, "last")).await.unwrap();
    drop(store);
    assert_eq!(names(&reopened(dir.path())), named(&[(1, "lazy19"), (3, "last")]));
}

#[tokio::test]
async fn a_lazy_batch_costs_no_flush_and_goes_with_the_next_commit() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for number in 1..=10 {
        store.commit_lazily(put(number, "lazy")).await.unwrap();
    }
    assert_eq!(store.flushes(), 0);
    store.commit(put(11, "now")).await.unwrap();
    assert_eq!(store.flushes(), 1);
}

#[tokio::test]
async fn a_lazy_batch_becomes_durable_by_itself() {
    let dir = TempDir::new().unwrap();
    let options = Options { lazy: Duration::from_millis(1), ..PROMPT };
    let (store, _) = SledStore::open(dir.path(), options).unwrap();
    store.commit_lazily(put(1, "lazy")).await.unwrap();
    while store.flushes() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Each flush takes at least half of the changes that are under way, so 64 need at most 7.
#[tokio::test]
async fn concurrent_commits_share_flushes() {
    let dir = TempDir::new().unwrap();
    let options = Options { linger: LONG, ..PROMPT };
    let (store, _) = SledStore::open(dir.path(), options).unwrap();
    let store = Arc::new(store);
    let begun: Vec<ChangeGuard> = (0..64).map(|_| store.begin()).collect();
    let mut commits = JoinSet::new();
    for (number, change) in (1..).zip(begun) {
        let store = Arc::clone(&store);
        commits.spawn(async move {
            let outcome = store.commit(put(number, "net0")).await;
            drop(change);
            outcome
        });
    }
    assert!(commits.join_all().await.iter().all(Result::is_ok));
    assert!(store.flushes() <= 7, "{} flushes", store.flushes());
}

/// With an endless linger this test ends only if a caller that is alone does not wait.
#[tokio::test]
async fn a_single_client_never_waits_for_others() {
    let dir = TempDir::new().unwrap();
    let options = Options { linger: LONG, ..PROMPT };
    let (store, _) = SledStore::open(dir.path(), options).unwrap();
    for number in 1..=3 {
        let _change = store.begin();
        store.commit(put(number, "net0")).await.unwrap();
    }
    assert_eq!(store.flushes(), 3);
}

#[tokio::test]
async fn a_change_that_never_comes_is_not_waited_for_longer_than_the_linger() {
    let dir = TempDir::new().unwrap();
    let options = Options { linger: Duration::from_millis(5), ..PROMPT };
    let (store, _) = SledStore::open(dir.path(), options).unwrap();
    let _others: Vec<ChangeGuard> = (0..10).map(|_| store.begin()).collect();
    store.commit(put(1, "net0")).await.unwrap();
}

#[test]
fn a_second_store_on_the_same_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let (_first, _) = open(dir.path());
    let second = SledStore::open(dir.path(), PROMPT).err();
    assert_eq!(second, Some(StoreError::InUse(dir.path().display().to_string())));
}

#[test]
fn the_directory_is_made_and_private() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("state");
    let _store = open(&dir);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_place_that_is_no_directory_is_unusable() {
    let parent = TempDir::new().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for (place, why) in [
        (file.clone(), "Not a directory"),
        (file.join("below"), "Not a directory"),
        (parent.path().join("missing/state"), "No such file"),
        (PathBuf::from("/proc/self"), "No such file"),
    ] {
        let error = SledStore::open(&place, PROMPT).err().unwrap();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Writes records of falling and rising size, and tells on its output of each that is durable.
async fn write_until_killed(dir: &Path) {
    let (store, loaded) = SledStore::open(dir, Options::default()).unwrap();
    let store = Arc::new(store);
    let first = loaded.next_link_id;
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in (first + writer..).step_by(4) {
                let mut batch = put(number, "one");
                batch.put.push(Arc::new(link(1_000_000 + number, "two")));
                batch.next_link_id = Some(number + 1);
                let _change = store.begin();
                store.commit(batch).await.unwrap();
                writeln!(std::io::stdout(), "durable {number}").unwrap();
            }
        });
    }
    writers.join_all().await;
}

/// Kills a writing process once it has told of `count` batches; returns all it told of.
fn kill_after(role: &str, dir: &Path, count: usize) -> Vec<u32> {
    let mut writers = child(role, dir).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(writers.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in lines.map_while(Result::ok) {
        if let Some((_, number)) = line.split_once("durable ") {
            told.push(number.parse().unwrap());
        }
        if told.len() == count {
            writers.kill().unwrap();
        }
    }
    writers.wait().unwrap();
    told
}

#[test]
fn after_kill_9_every_acknowledged_batch_is_there_and_each_is_whole() {
    let dir = TempDir::new().unwrap();
    let mut told = Vec::new();
    for count in [1, 50, 400] {
        told.extend(kill_after("writers", dir.path(), count));
        let (store, loaded) = open(dir.path());
        assert_eq!(store.recovery(), None);
        let found: Vec<u32> = loaded.links.iter().map(|link| link.id.get()).collect();
        for number in &told {
            assert!(found.contains(number), "{number} was acknowledged and is lost");
        }
        for number in found.iter().filter(|number| **number < 1_000_000) {
            assert!(found.contains(&(1_000_000 + number)), "{number} is there by half");
        }
    }
}

/// A file that leaves no room beside it.
fn fill(dir: &Path) -> PathBuf {
    let ballast = dir.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    ballast
}

/// Commits links from `first` on until three were refused; returns those that were not.
async fn commit_until_refused(store: &SledStore, first: u32) -> Vec<u32> {
    let (mut kept, mut refused) = (Vec::new(), 0);
    for number in (first..).take_while(|number| *number < first + 20_000) {
        match store.commit(put(number, "net0")).await {
            Ok(()) => kept.push(number),
            Err(StoreError::Write(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        if refused == 3 {
            return kept;
        }
    }
    panic!("the disk was never full");
}

/// Commits a link once the store has got over its failure: sled, closed after it, lets go of its
/// file in its own time, and refuses until then.
async fn commit_at_last(store: &SledStore, number: u32) {
    for _ in 0..100 {
        if store.commit(put(number, "net0")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the store never works again");
}

/// Goes on after there is room again, and then starts again while there is none. What was lazily
/// committed outlives the refusal of those that it was written with.
async fn fill_the_disk(dir: &Path) {
    let (store, _) = open(dir);
    let ballast = fill(dir);
    let mut kept = commit_until_refused(&store, 1).await;
    store.commit_lazily(put(39_999, "net0")).await.unwrap();
    kept.extend(commit_until_refused(&store, 30_000).await);
    fs::remove_file(&ballast).unwrap();
    commit_at_last(&store, 40_000).await;
    kept.extend([39_999, 40_000]);

    let ballast = fill(dir);
    kept.extend(commit_until_refused(&store, 50_000).await);
    drop(store);
    match SledStore::open(dir, PROMPT) {
        Ok(_) | Err(StoreError::Unusable { .. }) => {}
        Err(other) => panic!("{other}"),
    }

    fs::remove_file(&ballast).unwrap();
    let (store, loaded) = open(dir);
    assert_eq!(store.recovery(), None);
    assert!(loaded.links.iter().map(|link| link.id.get()).eq(kept));
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room_again() {
    on_a_small_disk("full disk");
}

/// Plays a role on a file system that is mounted in a mount namespace that ends with the process.
fn on_a_small_disk(role: &str) {
    let dir = TempDir::new().unwrap();
    let role = child(role, dir.path());
    let outcome = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o size=4m none \"$STORE_TEST_DIR\" && exec \"$0\" \"$@\"")
        .arg(role.get_program())
        .args(role.get_args())
        .envs(role.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
}

/// How many links [`written_store`] acknowledges: one with each commit.
const ACKNOWLEDGED: u32 = 5;

/// A state directory in which links 1 to 5 were acknowledged one by one, as a daemon leaves it that
/// ends in order or is killed.
async fn written_store(dir: &Path, killed: bool) {
    let live = TempDir::new().unwrap();
    drop(open(live.path()));
    let (store, _) = open(live.path());
    for number in 1..=ACKNOWLEDGED {
        let next_link_id = Some(number + 1);
        store.commit(Batch { next_link_id, ..put(number, "net0") }).await.unwrap();
    }
    if killed {
        copy_dir(live.path(), dir);
    } else {
        drop(store);
        copy_dir(live.path(), dir);
    }
}

/// What may go wrong with a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Zero,
    Missing,
}

impl Damage {
    fn all(len: usize) -> impl Iterator<Item = Self> {
        // Beyond its log sled's file is only padding, of which some samples do.
        let positions = || (0..len.min(48)).chain((48..len.min(6000)).step_by(67));
        let sparse = || (6000..len).step_by(70_001);
        positions()
            .map(Self::Flip)
            .chain(sparse().map(Self::Flip))
            .chain(positions().step_by(5).map(Self::Cut))
            .chain(sparse().map(Self::Cut))
            .chain([Self::Zero, Self::Missing])
    }

    fn strike(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Flip(at) => bytes[at] ^= 0x10,
            Self::Cut(len) => bytes.truncate(len),
            Self::Zero => bytes.fill(0),
            Self::Missing => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Whether all is there, or the loss is told and what was given is not given again, or the store
/// is refused and left as it is.
fn assert_no_silent_loss(dir: &Path, case: &str) {
    let found = contents(dir);
    match SledStore::open(dir, PROMPT) {
        Ok((store, loaded)) => {
            let links: Vec<u32> = loaded.links.iter().map(|link| link.id.get()).collect();
            assert!(links.iter().copied().eq(1..=links.len() as u32), "{case}: {links:?}");
            assert!(loaded.next_link_id > ACKNOWLEDGED, "{case}: an id will be given again");
            match store.recovery() {
                None => assert_eq!(links.len(), ACKNOWLEDGED as usize, "{case}: silent loss"),
                Some(recovery) => assert_is_evidence(recovery, dir, &found, case),
            }
        }
        Err(StoreError::Damaged { .. }) => assert_eq!(contents(dir), found, "{case}: touched"),
        Err(other) => panic!("{case}: {other}"),
    }
}

fn assert_is_evidence(recovery: &Recovery, dir: &Path, found: &[(PathBuf, Vec<u8>)], case: &str) {
    let kept = contents(&recovery.evidence);
    let database = dir.join("db");
    let found: Vec<_> = found
        .iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(&database).ok()?, bytes)))
        .collect();
    let kept: Vec<_> = kept
        .iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(&recovery.evidence).ok()?, bytes)))
        .collect();
    assert_eq!(kept, found, "{case}: the evidence is not what was found");
}

/// Hundreds of stores are opened here, and a disk would make each wait for it many times.
fn dir_in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

async fn strike_everywhere(killed: bool) {
    let original = dir_in_memory();
    written_store(original.path(), killed).await;
    for file in files_in(original.path()) {
        let name = file.strip_prefix(original.path()).unwrap();
        for damage in Damage::all(fs::metadata(&file).unwrap().len() as usize) {
            let dir = dir_in_memory();
            copy_dir(original.path(), dir.path());
            damage.strike(&dir.path().join(name));
            assert_no_silent_loss(dir.path(), &format!("{damage:?} of {}", name.display()));
        }
    }
}

#[tokio::test]
async fn damage_after_an_orderly_end_is_never_silent_loss() {
    strike_everywhere(false).await;
}

#[tokio::test]
async fn damage_after_kill_9_is_never_silent_loss() {
    strike_everywhere(true).await;
}

#[tokio::test]
async fn damage_without_a_snapshot_is_refused_and_nothing_is_touched() {
    let dir = TempDir::new().unwrap();
    written_store(dir.path(), false).await;
    fs::remove_file(dir.path().join("snapshot.json")).unwrap();
    Damage::Flip(100).strike(&dir.path().join("db/db"));
    let found = contents(dir.path());
    for _ in 0..2 {
        let error = SledStore::open(dir.path(), PROMPT).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("there is no snapshot to restore"), "{error}");
        assert_eq!(contents(dir.path()), found);
    }
}

#[tokio::test]
async fn a_database_that_somebody_removed_is_restored_and_told_of() {
    let dir = TempDir::new().unwrap();
    written_store(dir.path(), false).await;
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded.links.len(), ACKNOWLEDGED as usize);
    assert_eq!(store.recovery().map(|recovery| recovery.why.as_str()), Some("it is missing"));
}

/// What sled keeps beside its log can be lost without losing anything else.
#[tokio::test]
async fn nothing_is_lost_while_the_log_is_whole() {
    let dir = TempDir::new().unwrap();
    written_store(dir.path(), true).await;
    Damage::Flip(0).strike(&dir.path().join("db/conf"));
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded.links.len(), ACKNOWLEDGED as usize);
    assert_eq!(store.recovery().map(|recovery| recovery.lost_commits), Some(0));
}

/// So sled leaves its index when it is killed while it is opened.
#[tokio::test]
async fn an_unfinished_index_of_sled_does_no_harm() {
    let dir = TempDir::new().unwrap();
    written_store(dir.path(), true).await;
    fs::write(dir.path().join("db/snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded.links.len(), ACKNOWLEDGED as usize);
    assert_eq!(store.recovery(), None);
}

#[tokio::test]
async fn a_restored_store_works_on_and_each_damaged_one_is_kept() {
    let dir = TempDir::new().unwrap();
    written_store(dir.path(), false).await;
    for (number, evidence) in [(10, "damaged-1"), (11, "damaged-2")] {
        Damage::Zero.strike(&dir.path().join("db/db"));
        let (store, _) = open(dir.path());
        let kept = store.recovery().map(|recovery| recovery.evidence.clone());
        assert_eq!(kept, Some(dir.path().join(evidence)));
        store.commit(put(number, "net0")).await.unwrap();
    }
    let (store, loaded) = open(dir.path());
    assert_eq!(store.recovery(), None);
    let links: Vec<u32> = loaded.links.iter().map(|link| link.id.get()).collect();
    assert_eq!(links, [1, 2, 3, 4, 5, 10, 11]);
}

/// The snapshot is older than the ids and the epoch that were given since, and yet knows of them.
#[tokio::test]
async fn a_restored_store_gives_no_id_and_no_epoch_again() {
    let (live, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (store, _) = open(live.path());
    for round in 1..=10 {
        let next_link_id = Some(round * 3000);
        let batch = Batch { next_link_id, epoch: Some(round), ..Batch::default() };
        store.commit(batch).await.unwrap();
    }
    copy_dir(live.path(), dir.path());
    Damage::Zero.strike(&dir.path().join("db/db"));
    let (store, loaded) = open(dir.path());
    assert!(store.recovery().is_some());
    assert!(loaded.next_link_id >= 30_000, "{}", loaded.next_link_id);
    assert_eq!(loaded.epoch, 10);
}

/// 64 clients, each with one change after the other, behind whose store a kernel takes one change
/// at a time.
#[tokio::test]
async fn at_least_ten_of_64_clients_changes_share_a_flush() {
    const CLIENTS: u32 = 64;
    const ROUNDS: u32 = 10;
    let dir = TempDir::new().unwrap();
    let (store, _) = SledStore::open(dir.path(), Options { linger: LONG, ..PROMPT }).unwrap();
    let (store, kernel) = (Arc::new(store), Arc::new(tokio::sync::Mutex::new(())));
    let mut clients = JoinSet::new();
    for client in 1..=CLIENTS {
        let (store, kernel) = (Arc::clone(&store), Arc::clone(&kernel));
        clients.spawn(async move {
            for _ in 0..ROUNDS {
                let _change = store.begin();
                store.commit(put(client, "net0")).await.unwrap();
                let _one_at_a_time = kernel.lock().await;
                tokio::time::sleep(Duration::from_micros(250)).await;
            }
        });
    }
    clients.join_all().await;
    let commits = u64::from(CLIENTS * ROUNDS);
    assert!(commits >= 10 * store.flushes(), "{commits} in {} flushes", store.flushes());
}

async fn commit_until_crashed(dir: &Path) {
    let (store, _) = open(dir);
    for number in 1.. {
        store.commit(put(number, "net0")).await.unwrap();
        writeln!(std::io::stdout(), "durable {number}").unwrap();
    }
}

/// Passing a point for the third time, the process has told of two batches.
#[test]
fn a_crash_at_any_point_keeps_what_was_acknowledged() {
    for point in crate::crash::POINTS.iter().filter(|point| point.starts_with("store.")) {
        let dir = TempDir::new().unwrap();
        let outcome = child("crash", dir.path())
            .env("DLMGMT_CRASH_POINT", format!("{point}:3"))
            .output()
            .unwrap();
        assert!(!outcome.status.success(), "{point} was not passed");
        let told = String::from_utf8_lossy(&outcome.stdout).matches("durable ").count();
        assert_eq!(told, 2, "{point}");
        let found = reopened(dir.path()).links.len();
        let may_be_found = if *point == "store.after_sync" { 3..=3 } else { 2..=3 };
        assert!(may_be_found.contains(&found), "{point}: {found} links");
    }
}

/// What a daemon finds that starts after the one that has `live` was killed just now.
fn found_after_a_kill(live: &Path) -> Loaded {
    let dir = dir_in_memory();
    copy_dir(live, dir.path());
    reopened(dir.path())
}

fn numbers(loaded: &Loaded) -> Vec<u32> {
    loaded.links.iter().map(|link| link.id.get()).collect()
}

#[tokio::test]
async fn what_is_of_this_boot_survives_the_daemon_and_waits_for_no_disk() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store.commit_for_this_boot(put(1, "one")).await.unwrap();
    store.commit_for_this_boot(put(2, "two")).await.unwrap();
    store.commit_for_this_boot(delete(1)).await.unwrap();
    assert_eq!(store.flushes(), 0);
    assert_eq!(names(&found_after_a_kill(dir.path())), named(&[(2, "two")]));
    drop(store);
    assert_eq!(names(&reopened(dir.path())), named(&[(2, "two")]));
}

#[tokio::test]
async fn the_journal_is_empty_when_the_database_has_its_batches() {
    let dir = TempDir::new().unwrap();
    let options = Options { lazy: Duration::from_millis(1), ..PROMPT };
    let (store, _) = SledStore::open(dir.path(), options).unwrap();
    store.commit_for_this_boot(put(1, "one")).await.unwrap();
    while fs::metadata(dir.path().join("journal")).unwrap().len() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(store.flushes() > 0);
    assert_eq!(numbers(&found_after_a_kill(dir.path())), [1]);
}

/// One of the ways to commit.
#[derive(Clone, Copy, Debug)]
enum Way {
    Durably,
    ForThisBoot,
    Lazily,
}

/// After a kill at any moment there is what was awaited, and with the last that is durable all that
/// came before it: of the lazy batches since, none.
#[tokio::test]
async fn batches_keep_their_order_whatever_way_they_take() {
    let dir = dir_in_memory();
    let (store, _) = open(dir.path());
    let ways = [Way::Lazily, Way::ForThisBoot, Way::Lazily, Way::Durably, Way::ForThisBoot];
    let mut all = BTreeMap::new();
    let mut kept = all.clone();
    for round in 0..40_u32 {
        let way = ways[(round * round % 7) as usize % ways.len()];
        let number = round % 5 + 1;
        let name = (round % 3 != 2).then(|| format!("net{round}"));
        let batch = name.as_ref().map_or_else(|| delete(number), |name| put(number, name));
        all.insert(number, name.clone());
        match way {
            Way::Durably => {
                store.commit(batch).await.unwrap();
                kept = all.clone();
            }
            Way::ForThisBoot => {
                store.commit_for_this_boot(batch).await.unwrap();
                kept.insert(number, name);
            }
            Way::Lazily => store.commit_lazily(batch).await.unwrap(),
        }
        let found = names(&found_after_a_kill(dir.path()));
        let left = kept.iter().filter_map(|(number, name)| Some((*number, name.clone()?)));
        assert_eq!(found, left.collect::<Vec<_>>(), "round {round}, {way:?}");
    }
}

/// A state directory with link 1 in the database and links 2 to 5 in the journal, each by itself.
async fn written_journal(dir: &Path) {
    let live = dir_in_memory();
    let (store, _) = open(live.path());
    store.commit(Batch { next_link_id: Some(2), ..put(1, "net0") }).await.unwrap();
    for number in 2..=ACKNOWLEDGED {
        let batch = Batch { next_link_id: Some(number + 1), ..put(number, "net0") };
        store.commit_for_this_boot(batch).await.unwrap();
    }
    copy_dir(live.path(), dir);
}

/// Strikes the journal, and checks that links 1 to some number are found, and that no id is given
/// again. Answers how many are found.
fn found_after(damage: Damage, original: &Path) -> u32 {
    let dir = dir_in_memory();
    copy_dir(original, dir.path());
    damage.strike(&dir.path().join("journal"));
    let (store, loaded) = open(dir.path());
    assert_eq!(store.recovery(), None);
    assert!(loaded.next_link_id > ACKNOWLEDGED, "{damage:?}: an id will be given again");
    let links = numbers(&loaded);
    assert!(links.iter().copied().eq(1..=links.len() as u32), "{damage:?}: {links:?}");
    drop(store);
    assert_eq!(numbers(&reopened(dir.path())), links, "{damage:?}: a second start");
    links.len() as u32
}

#[tokio::test]
async fn a_torn_journal_counts_up_to_its_last_whole_entry() {
    let original = dir_in_memory();
    written_journal(original.path()).await;
    let len = fs::metadata(original.path().join("journal")).unwrap().len() as usize;
    let entry = len / (ACKNOWLEDGED as usize - 1);
    for cut in 0..=len {
        let whole = (cut / entry) as u32;
        assert_eq!(found_after(Damage::Cut(cut), original.path()), 1 + whole, "{cut} of {len}");
    }
    assert_eq!(found_after(Damage::Missing, original.path()), 1);
    assert_eq!(found_after(Damage::Zero, original.path()), 1);
}

#[tokio::test]
async fn a_damaged_journal_counts_up_to_the_damage() {
    let original = dir_in_memory();
    written_journal(original.path()).await;
    let len = fs::metadata(original.path().join("journal")).unwrap().len() as usize;
    let entry = len / (ACKNOWLEDGED as usize - 1);
    for at in 0..len {
        let before = (at / entry) as u32;
        assert_eq!(found_after(Damage::Flip(at), original.path()), 1 + before, "{at} of {len}");
    }
}

#[tokio::test]
async fn a_damaged_journal_is_kept_as_it_was_found_and_a_whole_one_is_not() {
    for (damage, is_damaged) in
        [(Damage::Flip(30), true), (Damage::Cut(30), true), (Damage::Cut(0), false)]
    {
        let dir = dir_in_memory();
        written_journal(dir.path()).await;
        let (journal, kept) = (dir.path().join("journal"), dir.path().join("damaged-1/journal"));
        damage.strike(&journal);
        let found = fs::read(&journal).unwrap();
        let problems = inspect(dir.path()).unwrap().problems;
        assert_eq!(!problems.is_empty(), is_damaged, "{damage:?}: {problems:?}");
        drop(open(dir.path()));
        assert_eq!(fs::read(&kept).ok(), is_damaged.then_some(found), "{damage:?}");
        drop(open(dir.path()));
        assert!(!dir.path().join("damaged-2").exists(), "{damage:?}: a second start");
    }
}

/// The journal of a life that was killed after the database had its batches, and before it was
/// emptied.
#[tokio::test]
async fn a_journal_that_the_database_has_means_nothing() {
    let (live, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (store, _) = open(live.path());
    store.commit_for_this_boot(put(1, "one")).await.unwrap();
    store.commit_for_this_boot(put(2, "two")).await.unwrap();
    let journal = fs::read(live.path().join("journal")).unwrap();
    store.commit(delete(1)).await.unwrap();
    copy_dir(live.path(), dir.path());
    for _ in 0..2 {
        fs::write(dir.path().join("journal"), &journal).unwrap();
        assert_eq!(names(&reopened(dir.path())), named(&[(2, "two")]));
    }
}

/// So it is when the daemon is killed again while it takes the journal over.
#[tokio::test]
async fn a_journal_can_be_read_twice() {
    let (original, dir) = (dir_in_memory(), TempDir::new().unwrap());
    written_journal(original.path()).await;
    copy_dir(original.path(), dir.path());
    for _ in 0..2 {
        assert_eq!(numbers(&reopened(dir.path())), [1, 2, 3, 4, 5]);
        fs::copy(original.path().join("journal"), dir.path().join("journal")).unwrap();
    }
}

/// So a power cut takes the journal away: what was in it is lost, and yet no id is given again.
#[tokio::test]
async fn no_id_is_given_again_though_the_journal_is_lost() {
    let live = TempDir::new().unwrap();
    let (store, _) = open(live.path());
    for round in 1..=10 {
        let next_link_id = Some(round * 1500);
        store.commit_for_this_boot(Batch { next_link_id, ..Batch::default() }).await.unwrap();
        let dir = TempDir::new().unwrap();
        copy_dir(live.path(), dir.path());
        fs::remove_file(dir.path().join("journal")).unwrap();
        for start in 1..=3 {
            let found = reopened(dir.path()).next_link_id;
            assert!(found >= round * 1500, "round {round}, start {start}: {found}");
        }
    }
}

#[tokio::test]
async fn an_orderly_end_leaves_no_ids_out() {
    let dir = TempDir::new().unwrap();
    for next in 2..5 {
        let (store, _) = open(dir.path());
        let batch = Batch { next_link_id: Some(next), ..Batch::default() };
        store.commit_for_this_boot(batch).await.unwrap();
        drop(store);
        assert_eq!(reopened(dir.path()).next_link_id, next);
    }
}

/// The snapshot knows less than the database did, and the journal goes on from where that ended.
#[tokio::test]
async fn a_restored_store_has_what_the_journal_has_and_has_it_once() {
    let (live, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (store, _) = open(live.path());
    for number in [1, 2, 3] {
        store.commit(put(number, "lost")).await.unwrap();
    }
    for number in [4, 5] {
        store.commit_for_this_boot(put(number, "net0")).await.unwrap();
    }
    copy_dir(live.path(), dir.path());
    let journal = fs::read(dir.path().join("journal")).unwrap();
    Damage::Zero.strike(&dir.path().join("db/db"));
    let (store, loaded) = open(dir.path());
    assert!(store.recovery().is_some());
    assert_eq!(numbers(&loaded), [4, 5]);

    store.commit(delete(4)).await.unwrap();
    drop(store);
    fs::write(dir.path().join("journal"), journal).unwrap();
    let (store, loaded) = open(dir.path());
    assert_eq!(store.recovery(), None);
    assert_eq!(numbers(&loaded), [5]);
}

/// Tells on its output of each link that survives a kill; every third commit is a durable one.
async fn journal_until_killed(dir: &Path) {
    let options = Options { lazy: Duration::from_millis(5), ..Options::default() };
    let (store, loaded) = SledStore::open(dir, options).unwrap();
    let store = Arc::new(store);
    let first = loaded.next_link_id;
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in (first + writer..).step_by(4) {
                let batch = Batch { next_link_id: Some(number + 1), ..put(number, "one") };
                let _change = store.begin();
                match number % 3 {
                    0 => store.commit(batch).await.unwrap(),
                    _ => store.commit_for_this_boot(batch).await.unwrap(),
                }
                writeln!(std::io::stdout(), "durable {number}").unwrap();
            }
        });
    }
    writers.join_all().await;
}

#[test]
fn after_kill_9_all_that_is_of_this_boot_is_there() {
    let dir = TempDir::new().unwrap();
    let mut told = Vec::new();
    for count in [1, 50, 1000] {
        let new = kill_after("journal writers", dir.path(), count);
        assert!(new.iter().all(|number| !told.contains(number)), "an id was given again");
        told.extend(new);
        let (store, loaded) = open(dir.path());
        assert_eq!(store.recovery(), None);
        let found = numbers(&loaded);
        for number in &told {
            assert!(found.contains(number), "{number} was acknowledged and is lost");
        }
    }
}

/// The database refuses a group, and what the journal has stays acknowledged: over a kill, and
/// until there is room again.
async fn fill_the_disk_beside_a_journal(dir: &Path) {
    let (store, _) = open(dir);
    store.commit_for_this_boot(put(1, "net0")).await.unwrap();
    let ballast = fill(dir);
    let mut kept = commit_until_refused(&store, 10).await;
    kept.insert(0, 1);
    fs::remove_file(&ballast).unwrap();
    let found = numbers(&found_after_a_kill(dir));
    assert!(kept.iter().all(|number| found.contains(number)), "{kept:?} were kept: {found:?}");

    store.commit_for_this_boot(put(2, "net0")).await.unwrap();
    commit_at_last(&store, 40_000).await;
    kept.insert(1, 2);
    kept.push(40_000);
    drop(store);
    assert_eq!(numbers(&reopened(dir)), kept);
}

#[test]
fn what_the_journal_has_outlives_a_full_disk() {
    on_a_small_disk("full disk and a journal");
}

/// Links of this boot and, after every second one, a durable one.
async fn journal_until_crashed(dir: &Path) {
    let (store, _) = open(dir);
    for number in 1.. {
        store.commit_for_this_boot(put(number, "net0")).await.unwrap();
        writeln!(std::io::stdout(), "durable {number}").unwrap();
        if number % 2 == 0 {
            store.commit(put(1_000_000 + number, "net0")).await.unwrap();
        }
    }
}

#[test]
fn a_crash_at_any_point_of_the_journal_keeps_what_was_acknowledged() {
    for point in crate::crash::POINTS.iter().filter(|point| point.starts_with("journal.")) {
        for passage in 1..=3 {
            let dir = TempDir::new().unwrap();
            let outcome = child("journal crash", dir.path())
                .env("DLMGMT_CRASH_POINT", format!("{point}:{passage}"))
                .output()
                .unwrap();
            assert!(!outcome.status.success(), "{point} was not passed");
            let told = String::from_utf8_lossy(&outcome.stdout).matches("durable ").count() as u32;
            let found = numbers(&reopened(dir.path()));
            let journalled: Vec<u32> = found.into_iter().filter(|id| *id < 1_000_000).collect();
            assert!(
                (told..=told + 1).any(|last| journalled.iter().copied().eq(1..=last)),
                "{point}:{passage}: {told} were acknowledged, found {journalled:?}"
            );
        }
    }
}

/// udev gets it at the next boot, when nobody but the snapshot is there to be asked.
#[tokio::test]
async fn the_name_of_hardware_is_in_the_snapshot_when_it_is_acknowledged() {
    let dir = TempDir::new().unwrap();
    let names = ["eth0", "lan", "wan"];
    for pair in names.windows(2) {
        // Also by a life that did not find the card itself.
        let (store, _) = open(dir.path());
        for name in pair {
            store.commit(card_named(name)).await.unwrap();
        }
        assert!(is_in_snapshot(dir.path(), pair[1]), "{pair:?}");
    }
}

/// udev asks for its name just then: what the daemon found is no answer.
#[tokio::test]
async fn the_name_with_which_hardware_is_found_is_not_in_the_snapshot_at_once() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store.commit(card_named("eth0")).await.unwrap();
    assert!(!is_in_snapshot(dir.path(), "eth0"));
}

fn card_named(name: &str) -> Batch {
    let card = PhysIdentity { mac: Some("02:00:00:00:00:01".parse().unwrap()), path: None };
    let card = LinkRecord { phys: Some(card), ..link(1, name) };
    Batch { put: vec![Arc::new(card)], ..Batch::default() }
}

fn is_in_snapshot(dir: &Path, name: &str) -> bool {
    let kept = fs::read_to_string(dir.join("snapshot.json")).unwrap();
    kept.contains(&format!("\"{name}\""))
}
