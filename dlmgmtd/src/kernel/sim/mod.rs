//! A simulated kernel, for tests: the same rules, and every trouble at will.
//!
//! [`SimWorld`] is the machine: its namespaces, its hardware, and what others do to its links.
//! [`SimKernel`] is one daemon's view of it; a restarted daemon gets a new view of the same world.
//! A seed drives everything left to chance, so under a current-thread runtime a seed that fails
//! once fails always.

mod namespace;
mod random;
#[cfg(test)]
mod tests;
mod view;
mod world;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dlmgmt_proto::{DevicePath, HwAddr, IfIndex, LinkName, LinkState, Media, Topic};
use rustix::fs::MemfdFlags;

use crate::kernel::{
    Applied, Doorway, Dump, HintQueue, Kernel, KernelError, KernelFact, Made, NsOpener,
};
use crate::model::{Action, Binding, KernelLink, LinkMode, NewLink, NsCookie, Readings, Step};

use namespace::{readings, refusal};
use view::{Life, View};
use world::World;

/// Every call lets other tasks run at most this often before it acts, and again after.
const YIELDS_MAX: u64 = 3;

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysDevice {
    /// Its permanent address, if it tells one; the present one when it is plugged in.
    pub mac: Option<HwAddr>,
    /// Its place on the bus, if it has one.
    pub path: Option<DevicePath>,
    /// Its medium.
    pub media: Media,
    /// The name that the kernel gives it if that is free.
    pub name: LinkName,
}

/// A link that somebody makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualLink {
    /// Its name.
    pub name: LinkName,
    /// The kernel's link type.
    pub kind: String,
    /// Its address.
    pub mac: Option<HwAddr>,
    /// The link it lies over.
    pub lower: Option<IfIndex>,
}

/// What can go wrong with hints, each so many times of 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintFaults {
    /// A hint never comes; the daemon is told that some were lost.
    pub lost: u8,
    /// A hint comes twice, the second time late.
    pub duplicated: u8,
    /// A hint comes late, after others: [`SimWorld::release_hints`] delivers it at the latest.
    pub delayed: u8,
    /// Losses are not even told. The real kernel always tells.
    pub losses_untold: bool,
}

/// The machine. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct SimWorld(Arc<Mutex<World>>);

impl SimWorld {
    /// A machine with one namespace, in which there is only the loopback.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World::new(seed))))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A test that fails must not hide its reason behind the poison it leaves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon starts: it hears of what happens from now on.
    pub fn kernel(&self) -> SimKernel {
        let view = Arc::new(View::default());
        let mut world = self.world();
        world.views.push(Arc::downgrade(&view));
        SimKernel { home: world.home, world: self.clone(), view }
    }

    /// The namespace of the daemon, into which hardware falls from those that die.
    pub fn home(&self) -> NsCookie {
        self.world().home
    }

    /// Somebody makes a namespace. Its cookie was never given before.
    pub fn add_namespace(&self) -> NsCookie {
        self.world().add_namespace()
    }

    /// All users of a namespace end. It dies at once, or with the last pin of a daemon.
    ///
    /// Its virtual links end then, and what lies over them elsewhere; its hardware falls home.
    pub fn end_users(&self, ns: NsCookie) -> Result<(), KernelError> {
        self.world().end_users(ns)
    }

    /// Every namespace that has not died.
    pub fn namespaces(&self) -> Vec<NsCookie> {
        self.world().namespaces()
    }

    /// Whether a namespace has not died.
    pub fn is_alive(&self, ns: NsCookie) -> bool {
        self.world().namespace(ns).is_ok()
    }

    /// What [`Kernel::watch`] takes for a namespace. Unlike a real descriptor it keeps nothing
    /// alive.
    pub fn open(&self, ns: NsCookie) -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("simulated namespace", MemfdFlags::CLOEXEC)?;
        rustix::io::pwrite(&fd, &ns.0.to_ne_bytes(), 0)?;
        Ok(fd)
    }

    /// An opener that works while the namespace lives.
    pub fn opener(&self, ns: NsCookie) -> NsOpener {
        let world = self.clone();
        Arc::new(move || match world.is_alive(ns) {
            true => world.open(ns),
            false => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// How fast a link is from now on.
    pub fn set_link_mode(&self, at: Binding, mode: LinkMode) {
        self.world().link_modes.insert(at, mode);
    }

    /// What the kernel tells of a link from now on about a topic.
    pub fn set_facts(&self, at: Binding, topic: Topic, facts: Vec<KernelFact>) {
        self.world().facts.insert((at, topic), facts);
    }

    /// A card is plugged in, at home. It is down.
    pub fn plug(&self, device: PhysDevice) -> Binding {
        self.world().plug(device)
    }

    /// A card is pulled out, and with it what lies over it. Its index is not given again.
    pub fn unplug(&self, at: Binding) -> Result<(), KernelError> {
        self.world().remove(at)
    }

    /// Somebody makes a virtual link. It is down.
    pub fn create(&self, ns: NsCookie, link: VirtualLink) -> Result<Binding, KernelError> {
        self.world().create_virtual(ns, link)
    }

    /// Somebody else than the daemon makes a link. It is not in [`SimWorld::created`].
    pub fn create_by_others(&self, new: &NewLink) -> Result<Vec<Binding>, KernelError> {
        self.world().create(new)
    }

    /// Somebody deletes a virtual link, and with it what lies over it. Hardware is not deleted.
    pub fn delete(&self, at: Binding) -> Result<(), KernelError> {
        self.by_others(&Step { at, action: Action::Delete }).map(|_| ())
    }

    /// Somebody else than the daemon takes a step. It is not in [`SimWorld::applied`].
    ///
    /// The kernel tells of a change of alternative names only while the link is up.
    pub fn by_others(&self, step: &Step) -> Result<Applied, KernelError> {
        let mut world = self.world();
        let renames = matches!(step.action, Action::AddAltName(_) | Action::DropAltName(_));
        let link = world.namespace(step.at.ns)?.existing(step.at.ifindex)?;
        let is_told = !renames || link.admin_up;
        world.act(step, is_told)
    }

    /// The cable is pulled or plugged in, or the driver no longer knows.
    pub fn set_state(&self, at: Binding, state: LinkState) -> Result<(), KernelError> {
        let mut world = self.world();
        world.namespace(at.ns)?.existing(at.ifindex)?.state = state;
        world.happened(at);
        Ok(())
    }

    /// Somebody gives a link another address; the permanent one stays.
    pub fn set_mac(&self, at: Binding, mac: Option<HwAddr>) -> Result<(), KernelError> {
        let mut world = self.world();
        world.namespace(at.ns)?.existing(at.ifindex)?.mac = mac;
        world.happened(at);
        Ok(())
    }

    /// The links of a namespace as they truly are, without any fault; none of one that is unknown.
    pub fn links(&self, ns: NsCookie) -> Vec<KernelLink> {
        self.world().links(ns).unwrap_or_default()
    }

    /// The link that is there, as it truly is.
    pub fn link(&self, at: Binding) -> Option<KernelLink> {
        self.links(at.ns).into_iter().find(|link| link.ifindex == at.ifindex)
    }

    /// Where the link of this name is in a namespace.
    pub fn find(&self, ns: NsCookie, name: &LinkName) -> Option<Binding> {
        let links = self.links(ns);
        let link = links.iter().find(|link| link.name == *name)?;
        Some(Binding { ns, ifindex: link.ifindex })
    }

    /// How hints go wrong from now on.
    pub fn set_hint_faults(&self, faults: HintFaults) {
        self.world().hint_faults = faults;
    }

    /// From now on hints wait for [`SimWorld::release_hints`].
    pub fn hold_hints(&self) {
        self.world().holding_hints = true;
    }

    /// Delivers all hints that are late, in an order of chance, and holds none from now on.
    pub fn release_hints(&self) {
        let mut world = self.world();
        world.holding_hints = false;
        while world.deliver_late_news() {}
    }

    /// The daemon's next step is refused; called again, the one after it too.
    pub fn fail_next(&self, errno: i32, text: Option<&str>) {
        let error = KernelError { errno, text: text.map(str::to_owned) };
        self.world().armed.push_back(Some(error));
    }

    /// The daemon's `nth` step from now is refused; 0 is the next one.
    pub fn fail_step(&self, nth: usize, errno: i32) {
        let mut world = self.world();
        if world.armed.len() <= nth {
            world.armed.resize(nth + 1, None);
        }
        world.armed[nth] = Some(refusal(errno));
    }

    /// The daemon's next step never returns, and has no effect; later ones are as ever.
    pub fn hang_next(&self) {
        self.world().hangs_next = true;
    }

    /// As [`SimWorld::fail_next`], and then the next look at a single link is refused too.
    pub fn fail_next_and_hide(&self, errno: i32) {
        let mut world = self.world();
        world.armed.push_back(Some(refusal(errno)));
        world.hides_after_refusal = Some(refusal(errno));
    }

    /// Forgets every refusal that is still to come.
    pub fn disarm(&self) {
        let mut world = self.world();
        world.armed.clear();
        world.refusal_percent = 0;
        world.stubborn = None;
    }

    /// As [`SimWorld::fail_next`], for the next dump.
    pub fn fail_next_dump(&self, errno: i32) {
        self.world().armed_dumps.push_back(refusal(errno));
    }

    /// Every dump of this namespace is refused from now on; of none, where that is `None`.
    pub fn refuse_dumps_of(&self, ns: Option<NsCookie>) {
        self.world().unreadable = ns;
    }

    /// So many of 100 dumps are of no one moment from now on: each link in them may be missing or
    /// be there twice.
    pub fn set_inconsistent_dumps(&self, percent: u8) {
        self.world().inconsistent_dumps_percent = percent;
    }

    /// From now on the answers of dumps wait for [`SimWorld::release_dumps`]: they tell of the past.
    pub fn hold_dumps(&self) {
        self.world().dumps_are_held.send_replace(true);
    }

    /// Answers the dumps that were made, and holds none from now on.
    pub fn release_dumps(&self) {
        self.world().dumps_are_held.send_replace(false);
    }

    /// So many of 100 steps of the daemon are refused with EBUSY from now on.
    pub fn refuse_randomly(&self, percent: u8) {
        self.world().refusal_percent = percent;
    }

    /// Every step of the daemon for this link is refused with EBUSY from now on.
    pub fn refuse_all_of(&self, at: Binding) {
        self.world().stubborn = Some(at);
    }

    /// Every step of a daemon that took effect, oldest first.
    pub fn applied(&self) -> Vec<Step> {
        self.world().applied.clone()
    }

    /// How often daemons looked at a single link.
    pub fn looks(&self) -> usize {
        self.world().looks
    }

    /// Every link that a daemon made, oldest first.
    pub fn created(&self) -> Vec<NewLink> {
        self.world().created.clone()
    }
}

/// One daemon's view of a [`SimWorld`].
pub struct SimKernel {
    home: NsCookie,
    world: SimWorld,
    view: Arc<View>,
}

impl SimKernel {
    /// The machine that it is a view of.
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// The daemon crashes before its `steps + 1`-th step from now: that has no effect, and neither
    /// it nor any later call ever returns. Refused steps do not count.
    pub fn crash_after_steps(&self, steps: u64) {
        *self.life() = Life { steps_left: Some(steps), last_answer_lost: false };
    }

    /// The daemon crashes in its `steps`-th step from now (at least 1): that takes effect, and
    /// neither it nor any later call ever returns. Refused steps do not count.
    pub fn crash_within_step(&self, steps: u64) {
        *self.life() = Life { steps_left: Some(steps), last_answer_lost: true };
    }

    /// The daemon crashes at this moment: no call of it returns any more, and it holds nothing open.
    pub fn crash(&self) {
        self.die(&mut self.world.world());
    }

    /// Whether the daemon has crashed.
    pub fn has_crashed(&self) -> bool {
        *self.view.crashed.borrow()
    }

    /// Namespaces that the daemon keeps alive.
    pub fn pinned(&self) -> BTreeSet<NsCookie> {
        self.view.pinned()
    }

    /// Waits until the daemon has crashed.
    pub async fn crashed(&self) {
        // The sender lives as long as this, so the wait cannot fail.
        let _ = self.view.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.view.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the world among other tasks that run; never returns once the daemon has crashed.
    async fn among_others<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.let_others_run().await;
        let done = act(&mut self.world.world());
        self.let_others_run().await;
        done
    }

    async fn let_others_run(&self) {
        let times = self.world.world().random.below(YIELDS_MAX + 1);
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
        self.while_alive().await;
    }

    /// Never returns once the daemon has crashed.
    async fn while_alive(&self) {
        if self.has_crashed() {
            std::future::pending().await
        }
    }

    /// One change by the daemon. The answer of a step in which it crashes reaches nobody.
    async fn step<T>(
        &self,
        act: impl FnOnce(&mut World) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        match self.among_others(|world| self.take_step(world, act)).await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// `None` where it hangs, or the daemon has crashed before it.
    fn take_step<T>(
        &self,
        world: &mut World,
        act: impl FnOnce(&mut World) -> Result<T, KernelError>,
    ) -> Option<Result<T, KernelError>> {
        let mut life = self.life();
        if std::mem::take(&mut world.hangs_next) {
            return None;
        }
        if life.steps_left == Some(0) {
            self.die(world);
            return None;
        }
        let answer = act(world);
        if answer.is_ok() {
            life.steps_left = life.steps_left.map(|left| left - 1);
            if life.steps_left == Some(0) && life.last_answer_lost {
                self.die(world);
            }
        }
        Some(answer)
    }

    fn die(&self, world: &mut World) {
        self.view.crashed.send_replace(true);
        self.view.forget_all();
        world.bury_the_dead();
    }

    /// Refuses namespaces that the daemon does not watch.
    async fn check_known(&self, ns: NsCookie) -> Result<(), KernelError> {
        self.while_alive().await;
        let is_known = ns == self.home || self.view.watches(ns);
        if is_known { Ok(()) } else { Err(KernelError::no_namespace(ns)) }
    }

    /// Refuses namespaces that the daemon cannot open: it needs that for all but looking, making
    /// and deleting.
    ///
    /// Called with nothing locked, because an opener may do what it likes.
    fn check_enterable(&self, ns: NsCookie) -> Result<(), KernelError> {
        if ns == self.home || self.view.is_pinned(ns) {
            return Ok(());
        }
        let opener = self.view.opener(ns).ok_or_else(|| KernelError::no_namespace(ns))?;
        let opened = opener().ok().and_then(|fd| cookie_of(&fd));
        if opened == Some(ns) { Ok(()) } else { Err(KernelError::no_namespace(ns)) }
    }
}

/// The namespace that a descriptor of [`SimWorld::open`] stands for.
fn cookie_of(fd: impl AsFd) -> Option<NsCookie> {
    let mut cookie = [0; 8];
    let len = rustix::io::pread(fd, &mut cookie, 0).ok()?;
    (len == cookie.len()).then(|| NsCookie(u64::from_ne_bytes(cookie)))
}

impl Drop for SimKernel {
    /// A daemon that is gone holds nothing open.
    fn drop(&mut self) {
        self.view.forget_all();
        self.world.world().bury_the_dead();
    }
}

#[async_trait]
impl Kernel for SimKernel {
    fn home(&self) -> NsCookie {
        self.home
    }

    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError> {
        self.check_known(ns).await?;
        let dump = self.among_others(|world| world.dump(ns)).await;
        let mut held = self.world.world().dumps_are_held.subscribe();
        // It fails only where the machine is no more.
        let _released = held.wait_for(|are_held| !are_held).await;
        dump
    }

    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError> {
        self.check_known(ns).await?;
        self.among_others(|world| {
            world.looks += 1;
            world.get(ns, ifindex)
        })
        .await
    }

    /// Nobody here gives links addresses.
    async fn addresses(&self, at: Binding) -> Result<Vec<String>, KernelError> {
        self.check_known(at.ns).await?;
        Ok(Vec::new())
    }

    /// A link here tells by itself what was set.
    async fn readings(&self, at: Binding) -> Result<Readings, KernelError> {
        self.check_known(at.ns).await?;
        self.check_enterable(at.ns)?;
        self.among_others(|world| {
            world.get(at.ns, at.ifindex)?;
            let found = world.namespace(at.ns)?.link(at.ifindex);
            Ok(found.map(readings).unwrap_or_default())
        })
        .await
    }

    /// A link's rules go with it here, whatever becomes of its name.
    async fn renew_rules(&self, at: Binding) -> Result<(), KernelError> {
        self.check_known(at.ns).await
    }

    /// Nor does a link leave any behind.
    async fn clear_rules(&self, at: Binding) -> Result<(), KernelError> {
        self.check_known(at.ns).await
    }

    async fn inspect(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
        topics: &[Topic],
    ) -> Result<Vec<Vec<KernelFact>>, KernelError> {
        self.check_known(ns).await?;
        let world = self.world.world();
        Ok(links
            .iter()
            .map(|ifindex| world.facts(Binding { ns, ifindex: *ifindex }, topics))
            .collect())
    }

    async fn link_modes(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
    ) -> Result<Vec<LinkMode>, KernelError> {
        self.check_known(ns).await?;
        self.check_enterable(ns)?;
        let world = self.world.world();
        let mode = |ifindex| world.link_mode(Binding { ns, ifindex });
        Ok(links.iter().copied().map(mode).collect())
    }

    async fn apply(&self, step: &Step) -> Result<Applied, KernelError> {
        self.check_known(step.at.ns).await?;
        if step.action != Action::Delete {
            self.check_enterable(step.at.ns)?;
        }
        if let Action::Move { to, .. } = &step.action {
            self.check_enterable(*to)?;
        }
        self.step(|world| world.apply(step)).await
    }

    async fn create(&self, new: &NewLink) -> Result<Vec<Made>, KernelError> {
        self.check_known(new.ns).await?;
        self.check_known(new.other_side()).await?;
        self.step(|world| world.create_for_daemon(new)).await
    }

    async fn watch(&self, ns: OwnedFd, opener: NsOpener) -> Result<NsCookie, KernelError> {
        let cookie = cookie_of(&ns).ok_or_else(|| refusal(libc::EINVAL))?;
        self.among_others(|world| {
            world.namespace(cookie)?;
            self.view.watch(cookie, opener);
            Ok(cookie)
        })
        .await
    }

    async fn unwatch(&self, ns: NsCookie) {
        self.among_others(|world| {
            self.view.unwatch(ns);
            world.bury_the_dead();
        })
        .await;
    }

    async fn open(&self, ns: NsCookie) -> Result<OwnedFd, KernelError> {
        self.check_known(ns).await?;
        self.check_enterable(ns)?;
        Ok(self.world.open(ns)?)
    }

    async fn pin(&self, ns: NsCookie) -> Result<(), KernelError> {
        self.check_known(ns).await?;
        self.check_enterable(ns)?;
        self.among_others(|world| {
            world.namespace(ns)?;
            self.view.set_pinned(ns, true);
            Ok(())
        })
        .await
    }

    fn unpin(&self, ns: NsCookie) {
        self.view.set_pinned(ns, false);
        self.world.world().bury_the_dead();
    }

    async fn find(&self, nsid: i32) -> Result<Option<Doorway>, KernelError> {
        let ns = NsCookie(nsid.unsigned_abs().into());
        let world = self.world();
        let Ok(open) = world.open(ns) else { return Ok(None) };
        Ok(Some(Doorway { ns: open, opener: world.opener(ns), pid: None }))
    }

    fn hints(&self) -> &HintQueue {
        &self.view.hints
    }
}
