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

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use dlmgmt_proto::{DevicePath, HwAddr, IfIndex, LinkName, LinkState, Media};
use tokio::sync::watch;

use crate::kernel::{Dump, Hint, HintQueue, Kernel, KernelError};
use crate::model::{Action, Binding, KernelLink, Lower, NsCookie, Step};

use namespace::{Namespace, bare_link, refusal};
use random::Random;

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

#[derive(Debug)]
struct World {
    random: Random,
    home: NsCookie,
    last_cookie: u64,
    namespaces: BTreeMap<NsCookie, Namespace>,
    views: Vec<Weak<View>>,
    hint_faults: HintFaults,
    holding_hints: bool,
    late_hints: Vec<(Binding, Hint)>,
    /// What becomes of the steps to come, the next one first.
    armed: VecDeque<Option<KernelError>>,
    armed_dumps: VecDeque<KernelError>,
    inconsistent_dumps_percent: u8,
    refusal_percent: u8,
    applied: Vec<Step>,
}

/// What one daemon gets to see.
#[derive(Debug)]
struct View {
    hints: HintQueue,
    life: Mutex<Life>,
    crashed: watch::Sender<bool>,
}

/// How long a daemon lives: so many more steps take effect.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    steps_left: Option<u64>,
    last_answer_lost: bool,
}

impl SimWorld {
    /// A machine with one namespace, in which there is only the loopback.
    pub fn new(seed: u64) -> Self {
        let home = NsCookie(1);
        Self(Arc::new(Mutex::new(World {
            random: Random::new(seed),
            home,
            last_cookie: home.0,
            namespaces: BTreeMap::from([(home, Namespace::new())]),
            views: Vec::new(),
            hint_faults: HintFaults::default(),
            holding_hints: false,
            late_hints: Vec::new(),
            armed: VecDeque::new(),
            armed_dumps: VecDeque::new(),
            inconsistent_dumps_percent: 0,
            refusal_percent: 0,
            applied: Vec::new(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A test that fails must not hide its reason behind the poison it leaves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon starts: it hears of what happens from now on.
    pub fn kernel(&self) -> SimKernel {
        let view = Arc::new(View {
            hints: HintQueue::default(),
            life: Mutex::default(),
            crashed: watch::Sender::new(false),
        });
        let mut world = self.world();
        world.views.push(Arc::downgrade(&view));
        SimKernel { home: world.home, world: self.clone(), view }
    }

    /// The namespace of the daemon.
    pub fn home(&self) -> NsCookie {
        self.world().home
    }

    /// Somebody makes a namespace. Its cookie was never given before.
    pub fn add_namespace(&self) -> NsCookie {
        let mut world = self.world();
        world.last_cookie += 1;
        let cookie = NsCookie(world.last_cookie);
        world.namespaces.insert(cookie, Namespace::new());
        cookie
    }

    /// A namespace ends, and all that is in it, without a word about each of its links.
    pub fn end_namespace(&self, ns: NsCookie) -> Result<(), KernelError> {
        let mut world = self.world();
        world.namespaces.remove(&ns).ok_or_else(|| KernelError::no_namespace(ns))?;
        Ok(())
    }

    /// A card is plugged in, at home. It is down.
    pub fn plug(&self, device: PhysDevice) -> Binding {
        let mut world = self.world();
        let home = world.home;
        let namespace = world.namespaces.entry(home).or_insert_with(Namespace::new);
        let name = namespace.free_name(device.name);
        let ifindex = namespace.add(|ifindex| KernelLink {
            media: device.media,
            mac: device.mac,
            permanent_mac: device.mac,
            path: device.path,
            ..bare_link(ifindex, name)
        });
        world.happened(Binding { ns: home, ifindex })
    }

    /// A card is pulled out, and with it what lies over it. Its index is not given again.
    pub fn unplug(&self, at: Binding) -> Result<(), KernelError> {
        self.world().remove(at)
    }

    /// Somebody makes a virtual link. It is down.
    pub fn create(&self, ns: NsCookie, link: VirtualLink) -> Result<Binding, KernelError> {
        let mut world = self.world();
        let namespace = world.namespace(ns)?;
        namespace.check_free(&link.name)?;
        let lower = match link.lower {
            Some(ifindex) => {
                namespace.existing(ifindex)?;
                Some(Lower { ifindex, nsid: None })
            }
            None => None,
        };
        let ifindex = namespace.add(|ifindex| KernelLink {
            kind: Some(link.kind),
            mac: link.mac,
            lower,
            ..bare_link(ifindex, link.name)
        });
        Ok(world.happened(Binding { ns, ifindex }))
    }

    /// Somebody deletes a virtual link, and with it what lies over it. Hardware is not deleted.
    pub fn delete(&self, at: Binding) -> Result<(), KernelError> {
        let mut world = self.world();
        if world.namespace(at.ns)?.existing(at.ifindex)?.kind.is_none() {
            return Err(refusal(libc::EOPNOTSUPP));
        }
        world.remove(at)
    }

    /// Somebody else than the daemon takes a step. It is not in [`SimWorld::applied`].
    ///
    /// The kernel tells of a change of alternative names only while the link is up.
    pub fn by_others(&self, step: &Step) -> Result<(), KernelError> {
        let mut world = self.world();
        world.act(step)?;
        let renames = matches!(step.action, Action::AddAltName(_) | Action::DropAltName(_));
        if !renames || world.namespace(step.at.ns)?.existing(step.at.ifindex)?.admin_up {
            world.happened(step.at);
        }
        Ok(())
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
        let world = self.world();
        world.namespaces.get(&ns).map(|n| n.links().cloned().collect()).unwrap_or_default()
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
        while world.deliver_a_late_hint() {}
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

    /// Forgets every refusal that is still to come.
    pub fn disarm(&self) {
        let mut world = self.world();
        world.armed.clear();
        world.refusal_percent = 0;
    }

    /// As [`SimWorld::fail_next`], for the next dump.
    pub fn fail_next_dump(&self, errno: i32) {
        self.world().armed_dumps.push_back(refusal(errno));
    }

    /// So many of 100 dumps are of no one moment from now on: each link in them may be missing or
    /// be there twice.
    pub fn set_inconsistent_dumps(&self, percent: u8) {
        self.world().inconsistent_dumps_percent = percent;
    }

    /// So many of 100 steps of the daemon are refused with EBUSY from now on.
    pub fn refuse_randomly(&self, percent: u8) {
        self.world().refusal_percent = percent;
    }

    /// Every step of a daemon that took effect, oldest first.
    pub fn applied(&self) -> Vec<Step> {
        self.world().applied.clone()
    }
}

impl World {
    fn namespace(&mut self, ns: NsCookie) -> Result<&mut Namespace, KernelError> {
        self.namespaces.get_mut(&ns).ok_or_else(|| KernelError::no_namespace(ns))
    }

    fn act(&mut self, step: &Step) -> Result<(), KernelError> {
        self.namespace(step.at.ns)?.act(step.at.ifindex, &step.action)
    }

    fn dump(&mut self, ns: NsCookie) -> Result<Dump, KernelError> {
        if let Some(error) = self.armed_dumps.pop_front() {
            return Err(error);
        }
        let mut links: Vec<KernelLink> = self.namespace(ns)?.links().cloned().collect();
        let is_consistent = !self.random.chance(self.inconsistent_dumps_percent);
        if !is_consistent {
            links =
                links.into_iter().flat_map(|link| self.as_often_as_chance_has_it(link)).collect();
        }
        Ok(Dump { links, is_consistent })
    }

    fn as_often_as_chance_has_it(&mut self, link: KernelLink) -> Vec<KernelLink> {
        vec![link; self.random.below(3) as usize]
    }

    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        if let Some(Some(error)) = self.armed.pop_front() {
            return Err(error);
        }
        if self.random.chance(self.refusal_percent) {
            return Err(refusal(libc::EBUSY));
        }
        self.act(step)?;
        self.happened(step.at);
        self.applied.push(step.clone());
        Ok(())
    }

    fn remove(&mut self, at: Binding) -> Result<(), KernelError> {
        for ifindex in self.namespace(at.ns)?.remove_with_uppers(at.ifindex)? {
            self.happened(Binding { ns: at.ns, ifindex });
        }
        Ok(())
    }

    /// Something happened to a link: daemons get to know, as well as the faults let them.
    fn happened(&mut self, at: Binding) -> Binding {
        let link = self.namespaces.get(&at.ns).and_then(|namespace| namespace.link(at.ifindex));
        let hint = Hint {
            went_down: link.is_some_and(|link| link.state == LinkState::Down),
            was_deleted: link.is_none(),
        };
        let faults = self.hint_faults;
        if self.random.chance(faults.lost) {
            if !faults.losses_untold {
                self.each_view(HintQueue::push_overrun);
            }
        } else if self.holding_hints || self.random.chance(faults.delayed) {
            self.late_hints.push((at, hint));
        } else {
            self.each_view(|hints| hints.push(at, hint));
            if self.random.chance(faults.duplicated) {
                self.late_hints.push((at, hint));
            }
        }
        if !self.holding_hints && self.random.chance(50) {
            self.deliver_a_late_hint();
        }
        at
    }

    /// Whether there was one.
    fn deliver_a_late_hint(&mut self) -> bool {
        if self.late_hints.is_empty() {
            return false;
        }
        let chosen = self.random.below(self.late_hints.len() as u64) as usize;
        let (at, hint) = self.late_hints.swap_remove(chosen);
        self.each_view(|hints| hints.push(at, hint));
        true
    }

    fn each_view(&mut self, tell: impl Fn(&HintQueue)) {
        self.views.retain(|view| match view.upgrade() {
            Some(view) => {
                tell(&view.hints);
                true
            }
            None => false,
        });
    }
}

/// One daemon's view of a [`SimWorld`].
#[derive(Debug)]
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
        if *self.view.crashed.borrow() {
            std::future::pending().await
        }
    }

    /// The answer of a step in which the daemon crashes reaches nobody.
    fn take_step(&self, world: &mut World, step: &Step) -> Result<(), KernelError> {
        let mut life = self.life();
        if life.steps_left == Some(0) {
            self.crash();
            return Ok(());
        }
        world.apply(step)?;
        life.steps_left = life.steps_left.map(|left| left - 1);
        if life.steps_left == Some(0) && life.last_answer_lost {
            self.crash();
        }
        Ok(())
    }

    fn crash(&self) {
        self.view.crashed.send_replace(true);
    }
}

#[async_trait]
impl Kernel for SimKernel {
    fn home(&self) -> NsCookie {
        self.home
    }

    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError> {
        self.among_others(|world| world.dump(ns)).await
    }

    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError> {
        self.among_others(|world| Ok(world.namespace(ns)?.link(ifindex).cloned())).await
    }

    async fn apply(&self, step: &Step) -> Result<(), KernelError> {
        self.among_others(|world| self.take_step(world, step)).await
    }

    fn hints(&self) -> &HintQueue {
        &self.view.hints
    }
}
