//! A simulated machine, and the daemons that run on it one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dlmgmt_proto::door::{
    Changed, DeleteLink, DeletePhys, GetLink, LinkFilter, Rename, RenameItem, View,
};
use dlmgmt_proto::{
    DevicePath, HwAddr, LinkId, LinkInfo, LinkName, LinkRef, Media, Result, ZoneId, ZoneName,
};
use dlmgmtd::auth::Process;
use dlmgmtd::crash;
use dlmgmtd::engine::{Arrival, Caller, Custody, Engine, EngineLimits, NoCustody, Parts, Service};
use dlmgmtd::kernel::sim::{PhysDevice, SimKernel, SimWorld, VirtualLink};
use dlmgmtd::model::{Action, Binding, BootId, LinkRecord, NsCookie, Step};
use dlmgmtd::store::Loaded;
use dlmgmtd::store::sim::{SimDisk, SimStore};
use dlmgmtd::zones::ZoneSources;

/// Longer than any pause that the engine makes.
const LONG: Duration = Duration::from_secs(60);

/// A machine with its disk.
pub struct Machine {
    pub world: SimWorld,
    pub disk: SimDisk,
    seed: u64,
    boot: u64,
}

/// One life of the daemon.
pub struct Daemon {
    pub engine: Arc<Engine>,
    pub kernel: Arc<SimKernel>,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self { world: SimWorld::new(seed), disk: SimDisk::with_seed(seed), seed, boot: 1 }
    }

    /// A machine with these cards in it.
    pub fn with_cards<const N: usize>(cards: [PhysDevice; N]) -> Self {
        let machine = Self::new(0);
        for card in cards {
            machine.world.plug(card);
        }
        machine
    }

    /// The machine is started again, and finds these cards in this order.
    pub fn reboot<const N: usize>(&mut self, cards: [PhysDevice; N]) {
        self.boot += 1;
        self.disk.cut_power();
        self.world = SimWorld::new(self.seed + self.boot);
        for card in cards {
            self.world.plug(card);
        }
    }

    /// Starts the daemon. One that still runs crashes.
    pub async fn start(&self) -> Daemon {
        let kernel = Arc::new(self.world.kernel());
        let (store, loaded) = self.disk.open();
        let boot = BootId(format!("boot {}", self.boot));
        let engine = Engine::start(parts(kernel.clone(), Arc::new(store), loaded, boot)).await;
        Daemon { engine: Arc::new(engine.unwrap()), kernel }
    }

    /// As [`Machine::start`], where these namespaces are zones already.
    pub async fn start_with_zones(&self, zones: Vec<(&str, NsCookie)>) -> Daemon {
        let kernel = Arc::new(self.world.kernel());
        let (store, loaded) = self.disk.open();
        let boot = BootId(format!("boot {}", self.boot));
        let mut parts = parts(kernel.clone(), Arc::new(store), loaded, boot);
        parts.present = zones.into_iter().map(|(called, ns)| self.arrival(called, ns)).collect();
        Daemon { engine: Arc::new(Engine::start(parts).await.unwrap()), kernel }
    }

    /// As [`Machine::start`], with somebody who keeps namespaces.
    pub async fn start_with_custody(&self) -> (Daemon, Keeper) {
        let kernel = Arc::new(self.world.kernel());
        let (store, loaded) = self.disk.open();
        let boot = BootId(format!("boot {}", self.boot));
        let keeper = Keeper::default();
        let custody = Arc::new(keeper.clone());
        let parts = Parts { custody, ..parts(kernel.clone(), Arc::new(store), loaded, boot) };
        (Daemon { engine: Arc::new(Engine::start(parts).await.unwrap()), kernel }, keeper)
    }

    /// A namespace with a name.
    pub fn arrival(&self, called: &str, ns: NsCookie) -> Arrival {
        Arrival {
            name: ZoneName::new(called).unwrap(),
            ns: self.world.open(ns).unwrap(),
            opener: self.world.opener(ns),
            pid: None,
            path: None,
            attached: None,
        }
    }

    /// Where the kernel has the link of that name.
    pub fn at(&self, called: &str) -> Binding {
        self.world
            .find(self.world.home(), &name(called))
            .unwrap_or_else(|| panic!("the kernel has no {called}"))
    }

    /// Somebody makes a virtual link.
    pub fn create(&self, called: &str) -> Binding {
        self.world.create(self.world.home(), virtual_link(called)).unwrap()
    }

    /// Somebody else renames a link.
    pub fn rename_by_others(&self, from: &str, to: &str) {
        let step = Step { at: self.at(from), action: Action::Rename(name(to)) };
        self.world.by_others(&step).unwrap();
    }

    /// Somebody else does that when the daemon passes the crash point `point` for the first time.
    pub fn by_others_at(&self, point: &'static str, step: Step) -> crash::Watch {
        let (world, mut theirs) = (self.world.clone(), Some(step));
        crash::watch(move |passed| {
            if let Some(step) = theirs.take_if(|_| passed == point) {
                world.by_others(&step).unwrap();
            }
        })
    }

    /// The names in the kernel, without the loopback's, by index.
    pub fn kernel_names(&self) -> Vec<String> {
        let links = self.world.links(self.world.home());
        links.iter().filter(|link| !link.is_loopback()).map(|link| link.name.to_string()).collect()
    }

    /// The records on the disk.
    pub fn records(&self) -> Vec<LinkRecord> {
        self.disk.durable().links
    }

    /// That the daemon shows what the kernel has, no more and no less.
    #[track_caller]
    pub fn assert_agrees(&self, daemon: &Daemon) {
        let links = self.world.links(self.world.home());
        let real: BTreeMap<_, _> = links
            .iter()
            .filter(|link| !link.is_loopback())
            .map(|link| (link.ifindex, (link.name, link.mac, link.mtu, link.state)))
            .collect();
        let shown: BTreeMap<_, _> = daemon
            .links()
            .iter()
            .filter_map(|link| Some((link.ifindex?, (link.name, link.mac, link.mtu?, link.state))))
            .collect();
        assert_eq!(shown, real, "registry (left) and kernel (right)");
    }
}

/// Somebody who knows whose namespaces are to be kept.
#[derive(Clone, Default)]
pub struct Keeper(Arc<Mutex<BTreeSet<ZoneName>>>);

impl Keeper {
    /// The zones whose namespaces are kept.
    pub fn kept(&self) -> BTreeSet<ZoneName> {
        self.0.lock().unwrap().clone()
    }
}

impl Custody for Keeper {
    fn take_back(&self) -> Vec<(ZoneName, OwnedFd)> {
        Vec::new()
    }

    fn has(&self, zone: &ZoneName) -> bool {
        self.kept().contains(zone)
    }

    fn keep(&self, zone: &ZoneName, _: OwnedFd) {
        self.0.lock().unwrap().insert(zone.clone());
    }

    fn let_go(&self, zone: &ZoneName) {
        self.0.lock().unwrap().remove(zone);
    }
}

/// What an engine runs on, without zones.
pub fn parts(kernel: Arc<SimKernel>, store: Arc<SimStore>, loaded: Loaded, boot: BootId) -> Parts {
    let sources = ZoneSources::start(Vec::new()).unwrap();
    let limits = EngineLimits::default();
    let present = Vec::new();
    let custody = Arc::new(NoCustody);
    Parts { kernel, store, loaded, boot, read_only: None, sources, present, limits, custody }
}

impl Daemon {
    pub async fn rename(&self, wishes: &[(&str, &str)]) -> Result<Changed> {
        self.engine.rename(&root(), rename(wishes)).await
    }

    pub async fn delete(&self, link: &str) -> Result<()> {
        let class = self.link(link)?.class;
        let call = DeleteLink { link: link.parse().unwrap(), class };
        self.engine.delete_link(&root(), call).await.map(drop)
    }

    pub async fn delete_phys(&self, link: &str) -> Result<Changed> {
        self.engine.delete_phys(&root(), DeletePhys { link: link.parse().unwrap() }).await
    }

    /// Every link of `global` that there is.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.list(LinkFilter { view: View::All, ..LinkFilter::default() })
    }

    /// Every link of every zone that there is.
    pub fn all_links(&self) -> Vec<LinkInfo> {
        self.list(LinkFilter { view: View::All, all_zones: true, ..LinkFilter::default() })
    }

    fn list(&self, filter: LinkFilter) -> Vec<LinkInfo> {
        let snapshot = self.engine.snapshot();
        let mut links: Vec<LinkInfo> = Vec::new();
        let next = |after| snapshot.next(&root(), &filter, after).unwrap();
        while let Some(link) = next(links.last().map(|link| link.id)) {
            links.push(link);
        }
        links
    }

    /// The names of all links in the order of their ids.
    pub fn names(&self) -> Vec<String> {
        self.links().iter().map(|link| link.name.to_string()).collect()
    }

    pub fn link(&self, link: &str) -> Result<LinkInfo> {
        self.engine.get_link(&root(), &GetLink { link: link.parse::<LinkRef>().unwrap() })
    }

    pub fn id(&self, link: &str) -> LinkId {
        self.link(link).unwrap().id
    }
}

/// Waits until nothing happens any more.
pub async fn settle() {
    tokio::time::sleep(LONG).await;
}

/// What a future comes to; `None` if it never does.
pub async fn outcome<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LONG, future).await.ok()
}

pub fn root() -> Caller {
    Caller {
        zone: Some(ZoneId::GLOBAL),
        process: Some(Process::numbered(42)),
        client: "test".to_owned(),
        ..Caller::default()
    }
}

pub fn rename(wishes: &[(&str, &str)]) -> Rename {
    let item = |(link, to): &(&str, &str)| RenameItem {
        link: link.parse().unwrap(),
        to: (*to).to_owned(),
    };
    Rename { items: wishes.iter().map(item).collect() }
}

pub fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

pub fn mac(number: u8) -> HwAddr {
    HwAddr::new(&[2, 0, 0, 0, 0, number]).unwrap()
}

/// A card: its number is that of its address.
pub fn card(called: &str, number: u8, slot: u8) -> PhysDevice {
    PhysDevice {
        mac: Some(mac(number)),
        path: Some(DevicePath(format!("pci-0000:00:{slot:02x}.0"))),
        media: Media::Ethernet,
        name: name(called),
    }
}

pub fn virtual_link(called: &str) -> VirtualLink {
    VirtualLink { name: name(called), kind: "veth".to_owned(), mac: Some(mac(200)), lower: None }
}
