//! A simulated store: a disk in memory whose volatile part a crash takes away. What was committed
//! for this boot alone survives a crash of the daemon, and as much of it a power cut as chance has
//! it.
//!
//! A test keeps the [`SimDisk`] and opens a [`SimStore`] on it for each life of the daemon. The
//! disk can be told to fail or never to answer, and a seed decides how often a commit lets others
//! go first.

use std::collections::{BTreeMap, VecDeque};
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dlmgmt_proto::{LinkId, ZoneId};

use super::{Batch, Loaded, Store, StoreError};
use crate::crash;
use crate::model::{BootId, LinkRecord, ZoneRecord};

/// Most times that a commit lets others go first, before it is applied and before it is durable.
const YIELDS_MAX: u64 = 3;

/// Where a commit stops for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Before anything of it is written: a crash loses it.
    BeforeDurable,
    /// After it is durable, before its caller is told: a crash keeps it.
    AfterDurable,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    durable: Records,
    /// What a crash of the daemon leaves: later and later states, of which a power cut leaves one,
    /// or what is durable.
    journalled: Vec<Records>,
    /// What is durable, with what was applied since that is to outlive a crash.
    kept: Records,
    volatile: Records,
    /// Batches applied, and of these how many a crash leaves, and a power cut.
    applied: u64,
    journalled_up_to: u64,
    durable_up_to: u64,
    flushes: u64,
    /// Which life of the daemon has the disk; earlier ones have crashed.
    life: u64,
    seed: Option<u64>,
    /// What happens to the commits to come, the next one first.
    armed: VecDeque<Option<Fault>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Fail,
    Hang(Hang),
}

#[derive(Clone, Default)]
struct Records {
    links: BTreeMap<LinkId, Arc<LinkRecord>>,
    zones: BTreeMap<ZoneId, ZoneRecord>,
    next_link_id: u32,
    boot: Option<BootId>,
    epoch: u32,
}

impl SimDisk {
    /// An empty disk on which commits let others go first as `seed` decides.
    pub fn with_seed(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock().seed = Some(seed);
        disk
    }

    /// Opens the disk for a new life of the daemon; one that still has it crashes.
    pub fn open(&self) -> (SimStore, Loaded) {
        self.crash();
        let disk = self.lock();
        (SimStore { disk: self.clone(), life: disk.life }, disk.durable.loaded())
    }

    /// Takes away what does not survive the daemon, and the disk from the daemon that has it: none
    /// of its calls returns any more.
    pub fn crash(&self) {
        let mut disk = self.lock();
        let left = disk.journalled.len();
        disk.lose(left);
    }

    /// As [`SimDisk::crash`], with the whole machine.
    pub fn cut_power(&self) {
        let mut disk = self.lock();
        let journalled = disk.journalled.len() as u64;
        let left = disk.seed.as_mut().map_or(0, |seed| split_mix(seed) % (journalled + 1));
        disk.lose(left as usize);
    }

    /// Lets the next commit that has nothing else armed fail.
    pub fn fail_next(&self) {
        let mut disk = self.lock();
        let free = disk.armed.iter().position(Option::is_none).unwrap_or(disk.armed.len());
        disk.arm(free, Fault::Fail);
    }

    /// Lets the `nth` commit from now fail; 0 is the next one.
    pub fn fail_at(&self, nth: usize) {
        self.lock().arm(nth, Fault::Fail);
    }

    /// Forgets every fault that is still to come.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// Lets the `nth` commit from now stop for ever; 0 is the next one.
    pub fn hang_at(&self, nth: usize, hang: Hang) {
        self.lock().arm(nth, Fault::Hang(hang));
    }

    /// Writes what need not be durable yet, as the real one does after a while.
    pub fn write_all(&self) {
        self.lock().flush_all();
    }

    /// What a daemon would find after a crash now.
    pub fn durable(&self) -> Loaded {
        let disk = self.lock();
        disk.journalled.last().unwrap_or(&disk.durable).loaded()
    }

    /// How many flushes there have been in all lives.
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn arm(&mut self, nth: usize, fault: Fault) {
        if self.armed.len() <= nth {
            self.armed.resize(nth + 1, None);
        }
        self.armed[nth] = Some(fault);
    }

    fn apply(&mut self, batch: &Batch) -> u64 {
        self.kept.apply(batch);
        self.apply_lazily(batch);
        self.applied
    }

    fn apply_lazily(&mut self, batch: &Batch) {
        self.volatile.apply(batch);
        self.applied += 1;
    }

    /// Makes the `number`-th batch durable, with all before it and those that came since.
    fn flush(&mut self, number: u64) {
        if self.durable_up_to < number {
            self.durable = self.volatile.clone();
            self.kept = self.durable.clone();
            self.durable_up_to = self.applied;
            self.journalled.clear();
            self.journalled_up_to = self.applied;
            self.flushes += 1;
        }
    }

    fn flush_all(&mut self) {
        self.flush(self.applied);
    }

    /// As [`Disk::flush`], but only a crash leaves it.
    fn journal(&mut self, number: u64) {
        if self.journalled_up_to < number {
            self.journalled.push(self.kept.clone());
            self.journalled_up_to = self.applied;
        }
    }

    /// Ends a life of the daemon that leaves so many states that are not durable. Ids that were
    /// given are never given again, whatever became of the links.
    fn lose(&mut self, left: usize) {
        let given = self.journalled.last().map_or(0, |latest| latest.next_link_id);
        if let Some(state) = self.journalled.drain(..left).next_back() {
            self.durable = state;
        }
        self.journalled.clear();
        self.durable.next_link_id = self.durable.next_link_id.max(given);
        self.kept = self.durable.clone();
        self.volatile = self.durable.clone();
        self.journalled_up_to = self.applied;
        self.durable_up_to = self.applied;
        self.armed.clear();
        self.life += 1;
    }

    fn yields(&mut self) -> u64 {
        self.seed.as_mut().map_or(0, |seed| split_mix(seed) % (YIELDS_MAX + 1))
    }
}

impl Records {
    fn apply(&mut self, batch: &Batch) {
        self.links.extend(batch.put.iter().map(|link| (link.id, Arc::clone(link))));
        for id in &batch.delete {
            self.links.remove(id);
        }
        self.zones.extend(batch.zones.iter().map(|zone| (zone.id, zone.clone())));
        self.next_link_id = self.next_link_id.max(batch.next_link_id.unwrap_or(0));
        self.epoch = batch.epoch.unwrap_or(self.epoch);
        if batch.boot.is_some() {
            self.boot.clone_from(&batch.boot);
        }
    }

    fn loaded(&self) -> Loaded {
        Loaded {
            links: self.links.values().map(|link| LinkRecord::clone(link)).collect(),
            zones: self.zones.values().cloned().collect(),
            boot: self.boot.clone(),
            next_link_id: self.next_link_id.max(1),
            epoch: self.epoch,
        }
    }
}

/// The store of one life of the daemon. Dropping it closes it in order: all that it was given
/// becomes durable.
pub struct SimStore {
    disk: SimDisk,
    life: u64,
}

impl SimStore {
    /// Does something to the disk as long as this life of the daemon has it; a dead one stops here
    /// for ever.
    async fn with_disk<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        match self.if_alive(act) {
            Some(value) => value,
            None => future::pending().await,
        }
    }

    fn if_alive<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        let mut disk = self.disk.lock();
        (disk.life == self.life).then(|| act(&mut disk))
    }

    async fn let_others_go_first(&self) {
        let yields = self.with_disk(Disk::yields).await;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    }
}

impl SimStore {
    /// Applies a batch, and then has the disk `keep` it.
    async fn commit_as(
        &self,
        batch: &Batch,
        keep: impl FnOnce(&mut Disk, u64) + Send,
    ) -> Result<(), StoreError> {
        let fault = self.with_disk(|disk| disk.armed.pop_front().flatten()).await;
        self.let_others_go_first().await;
        match fault {
            Some(Fault::Fail) => return Err(StoreError::Write("as the test wants it".to_owned())),
            Some(Fault::Hang(Hang::BeforeDurable)) => future::pending().await,
            Some(Fault::Hang(Hang::AfterDurable)) | None => {}
        }
        crash::point("store.before_apply");
        let number = self.with_disk(|disk| disk.apply(batch)).await;
        crash::point("store.before_flush");
        self.let_others_go_first().await;
        crash::point("store.before_sync");
        self.with_disk(|disk| keep(disk, number)).await;
        crash::point("store.after_sync");
        match fault {
            Some(Fault::Hang(_)) => future::pending().await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for SimStore {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit_as(&batch, Disk::flush).await
    }

    async fn commit_for_this_boot(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit_as(&batch, Disk::journal).await
    }

    async fn commit_lazily(&self, batch: Batch) -> Result<(), StoreError> {
        self.with_disk(|disk| disk.apply_lazily(&batch)).await;
        Ok(())
    }

    fn flushes(&self) -> u64 {
        self.disk.flushes()
    }
}

impl Drop for SimStore {
    fn drop(&mut self) {
        self.if_alive(Disk::flush_all);
    }
}

/// SplitMix64: the next number of the sequence that `state` stands in.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    fn ids_below(next: u32) -> Batch {
        Batch { next_link_id: Some(next), ..Batch::default() }
    }

    fn epoch(epoch: u32) -> Batch {
        Batch { epoch: Some(epoch), ..Batch::default() }
    }

    #[tokio::test]
    async fn a_crash_takes_what_is_not_durable_and_an_orderly_end_nothing() {
        let disk = SimDisk::default();
        let (store, loaded) = disk.open();
        assert_eq!(loaded, Loaded { next_link_id: 1, ..Loaded::default() });
        store.commit(ids_below(5)).await.unwrap();
        store.commit_lazily(ids_below(6)).await.unwrap();
        disk.crash();
        drop(store);

        let (store, loaded) = disk.open();
        assert_eq!(loaded.next_link_id, 5);
        store.commit_lazily(ids_below(7)).await.unwrap();
        drop(store);
        assert_eq!(disk.open().1.next_link_id, 7);
    }

    #[tokio::test]
    async fn a_commit_makes_the_lazy_ones_before_it_durable() {
        let disk = SimDisk::default();
        let (store, _) = disk.open();
        store.commit_lazily(ids_below(6)).await.unwrap();
        store.commit(epoch(1)).await.unwrap();
        assert_eq!(disk.durable().next_link_id, 6);
        assert_eq!(store.flushes(), 1);
    }

    #[tokio::test]
    async fn a_crash_takes_a_lazy_batch_and_leaves_what_came_later_for_this_boot() {
        let disk = SimDisk::default();
        let (store, _) = disk.open();
        store.commit_lazily(ids_below(6)).await.unwrap();
        store.commit_for_this_boot(epoch(1)).await.unwrap();
        let left = disk.durable();
        assert_eq!((left.next_link_id, left.epoch), (1, 1));
    }

    #[tokio::test]
    async fn a_failed_commit_has_no_effect() {
        let disk = SimDisk::default();
        let (store, _) = disk.open();
        disk.fail_next();
        assert!(store.commit(ids_below(5)).await.is_err());
        store.commit(epoch(1)).await.unwrap();
        let expected = Loaded { next_link_id: 1, epoch: 1, ..Loaded::default() };
        assert_eq!(disk.durable(), expected);
    }

    #[tokio::test]
    async fn a_commit_hangs_where_it_is_told_to() {
        for (hang, survives) in [(Hang::BeforeDurable, 1), (Hang::AfterDurable, 5)] {
            let disk = SimDisk::default();
            let (store, _) = disk.open();
            disk.hang_at(1, hang);
            store.commit(epoch(1)).await.unwrap();
            let mut commit = std::pin::pin!(store.commit(ids_below(5)));
            tokio::select! {
                biased;
                _ = &mut commit => panic!("the commit returned"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(disk.open().1.next_link_id, survives, "{hang:?}");
        }
    }

    /// The order in which concurrent commits return.
    async fn order(seed: u64) -> Vec<u32> {
        let (store, _) = SimDisk::with_seed(seed).open();
        let store = Arc::new(store);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut commits = JoinSet::new();
        for number in 0..16 {
            let (store, order) = (Arc::clone(&store), Arc::clone(&order));
            commits.spawn(async move {
                store.commit(epoch(number)).await.unwrap();
                order.lock().unwrap().push(number);
            });
        }
        commits.join_all().await;
        order.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_seed_decides_the_order_of_concurrent_commits() {
        assert_eq!(order(1).await, order(1).await);
        assert_ne!(order(1).await, order(2).await);
    }
}
