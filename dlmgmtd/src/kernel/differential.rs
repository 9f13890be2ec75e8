//! The simulated kernel against the real one: the same random requests, the same answers and the
//! same links afterwards. What is tested over the simulation then holds over the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dlmgmt_proto::kind::{LinkKind, LinkOptions, OptionSpec};
use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{HwAddr, LinkName};

use super::rtnetlink::RtnetlinkKernel;
use super::rtnetlink::tests::in_new_namespace;
use super::sim::{SimKernel, SimWorld};
use super::{Kernel, KernelError, NsOpener};
use crate::model::{
    Action, AltName, Binding, KernelLink, NewKind, NewLink, NsCookie, OptionSetting, Step,
};
use crate::sys;

/// Sequences of requests that `make test` compares.
const SEEDS: u64 = 15;
const REQUESTS: usize = 40;

/// Few, so that they clash.
const NAMES: [&str; 6] = ["a", "b", "c", "lo", "name-of-15-byte", "d"];

/// Numbers of chance (SplitMix64), the same for both kernels.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn name(&mut self) -> LinkName {
        LinkName::found(NAMES[self.below(NAMES.len())].as_bytes()).unwrap()
    }

    fn mac(&mut self) -> HwAddr {
        HwAddr::new(&[2, 0, 0, 0, 1, self.below(8) as u8]).unwrap()
    }
}

/// A property that has no action of its own, and a value for it.
fn a_setting(chance: &mut Chance) -> (Property, Value) {
    let number = chance.below(2000) as u64;
    match chance.below(5) {
        0 => (Property::Alias, Value::Text(format!("alias {number}"))),
        1 => (Property::TxQueueLen, Value::Number(number)),
        2 => (Property::Promisc, Value::Switch(number > 1000)),
        3 => (Property::AllMulti, Value::Switch(number > 1000)),
        _ => (Property::MaxBw, Value::Number(if number < 1000 { 0 } else { number })),
    }
}

/// Options of bridges that a kernel may be built without.
const OF_SOME_KERNELS: [&str; 3] = ["vlan-filtering", "vlan-protocol", "default-pvid"];

/// A bridge's option that every kernel has by itself, and a value for it.
fn an_option(chance: &mut Chance) -> (&'static OptionSpec, dlmgmt_proto::Value) {
    let known: Vec<_> = bridge().properties().filter(|option| is_always_told(option)).collect();
    let option = known[chance.below(known.len())];
    let texts = ["off", "on", "0", "1", "2", "4", "10", "15", "100", "1000", "30000"];
    let values = texts.iter().filter_map(|text| option.value.parse(text).ok());
    let values: Vec<_> = values.chain(option.standard()).collect();
    (option, values[chance.below(values.len())])
}

fn is_always_told(option: &OptionSpec) -> bool {
    option.is_changeable && option.standard().is_some() && !OF_SOME_KERNELS.contains(&option.name)
}

fn bridge() -> &'static LinkKind {
    LinkKind::named("bridge").unwrap()
}

fn is_bridge(link: &KernelLink) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// A kernel with two namespaces. Links are known by when they were made, since each kernel gives
/// indexes of its own.
struct Run<'a> {
    kernel: &'a dyn Kernel,
    spaces: [NsCookie; 2],
    made: Vec<Binding>,
}

impl Run<'_> {
    async fn request(&mut self, chance: &mut Chance) -> i32 {
        let spaces = [chance.below(2), chance.below(2)].map(|which| self.spaces[which]);
        let which = chance.below(self.made.len().max(1));
        let at = self.made.get(which).copied();
        let (name, other, mac) = (chance.name(), chance.name(), chance.mac());
        let kind = chance.below(14);
        let mtu = [60, 68, 1400, 9000, 70_000][chance.below(5)];
        let answer = match (kind, at) {
            (0..3, _) | (_, None) => {
                let kind = NewKind::Veth {
                    peer_ns: spaces[1],
                    peer_name: other,
                    peer_mac: Some(chance.mac()),
                };
                self.make(NewLink { ns: spaces[0], name, mac: Some(mac), mtu: None, kind }).await
            }
            (3, Some(over)) => {
                let settings = LinkOptions::none(LinkKind::named("macvlan").unwrap());
                let kind = NewKind::Single { settings, over: Some(over) };
                self.make(NewLink { ns: spaces[0], name, mac: Some(mac), mtu: None, kind }).await
            }
            (4, Some(at)) => self.step(which, at, Action::SetUp(mtu > 1000)).await,
            (5, Some(at)) => self.step(which, at, Action::SetMtu(mtu)).await,
            (6, Some(at)) => self.step(which, at, Action::SetMac(mac)).await,
            (7, Some(at)) => {
                self.step(which, at, Action::AddAltName(AltName(other.as_bytes().to_vec()))).await
            }
            (8, Some(at)) => {
                self.step(which, at, Action::DropAltName(AltName(other.as_bytes().to_vec()))).await
            }
            (9, Some(at)) => self.step(which, at, Action::Delete).await,
            (10..12, Some(at)) => self.step(which, at, Action::Move { to: spaces[0], name }).await,
            (_, Some(at)) => self.step(which, at, Action::Rename(name)).await,
        };
        self.forget_the_dead().await;
        answer.err().map_or(0, |why| why.errno)
    }

    /// Makes a bridge, or a pair to have ports of, or changes an option or the ports of one.
    async fn request_of_bridges(&mut self, chance: &mut Chance) -> i32 {
        let (ns, name, other) = (self.spaces[chance.below(2)], chance.name(), chance.name());
        let which = chance.below(self.made.len().max(1));
        let port = self.made.get(chance.below(self.made.len().max(1))).copied();
        let (option, value) = an_option(chance);
        let answer = match (chance.below(10), self.made.get(which).copied()) {
            (0..2, _) | (_, None) => {
                let settings = LinkOptions::found(bridge(), [(option, value)]);
                let kind = NewKind::Single { settings, over: None };
                self.make(NewLink { ns, name, mac: None, mtu: None, kind }).await
            }
            (2..4, _) => {
                let kind = NewKind::Veth { peer_ns: ns, peer_name: other, peer_mac: None };
                self.make(NewLink { ns, name, mac: None, mtu: None, kind }).await
            }
            (4..7, Some(at)) => {
                let setting = OptionSetting { kind: bridge(), option, value };
                self.step(which, at, Action::SetOption(setting)).await
            }
            (7..9, Some(at)) => match self.other_port(at, port).await {
                Some(action) => self.step(which, at, action).await,
                None => Ok(()),
            },
            (_, Some(at)) => self.step(which, at, Action::Delete).await,
        };
        self.forget_the_dead().await;
        answer.err().map_or(0, |why| why.errno)
    }

    /// What makes a link a port of a bridge, or no port any more, as far as a plan would ask for it.
    async fn other_port(&self, at: Binding, port: Option<Binding>) -> Option<Action> {
        let port = port.filter(|port| port.ns == at.ns)?;
        let master = self.kernel.get(at.ns, at.ifindex).await.unwrap().filter(is_bridge)?;
        let link = self.kernel.get(port.ns, port.ifindex).await.unwrap()?;
        match link.master {
            Some(of) if of == master.ifindex => Some(Action::DropPort(port.ifindex)),
            None if !is_bridge(&link) => Some(Action::AddPort(port.ifindex)),
            _ => None,
        }
    }

    /// Every bridge in every namespace with its options and its ports.
    async fn bridges(&self) -> Vec<BTreeMap<LinkName, String>> {
        let mut all = Vec::new();
        for ns in self.spaces {
            let links = self.kernel.dump(ns).await.unwrap().links;
            let mut bridges = BTreeMap::new();
            for bridge in links.iter().filter(|link| is_bridge(link)) {
                let is_port = |link: &&KernelLink| link.master == Some(bridge.ifindex);
                let ports: BTreeSet<LinkName> =
                    links.iter().filter(is_port).map(|port| port.name).collect();
                let at = Binding { ns, ifindex: bridge.ifindex };
                let told = self.kernel.readings(at).await.unwrap().options.unwrap();
                let known = told.kind().properties().filter(|option| is_always_told(option));
                let options: Vec<_> =
                    known.map(|option| (option.name, told.get(option.name))).collect();
                bridges.insert(bridge.name, format!("{ports:?} {options:?}"));
            }
            all.push(bridges);
        }
        all
    }

    /// Sets a property of some link, which has no part in what else the kernel does.
    async fn set(&mut self, chance: &mut Chance) -> i32 {
        let which = chance.below(self.made.len().max(1));
        let (property, value) = a_setting(chance);
        let Some(at) = self.made.get(which).copied() else { return 0 };
        let answer = self.step(which, at, Action::Set(property, value)).await;
        answer.err().map_or(0, |why| why.errno)
    }

    /// Another link may come to have their indexes.
    async fn forget_the_dead(&mut self) {
        let mut alive = Vec::new();
        for at in std::mem::take(&mut self.made) {
            if self.kernel.get(at.ns, at.ifindex).await.unwrap().is_some() {
                alive.push(at);
            }
        }
        self.made = alive;
    }

    async fn delete_all(&self) {
        for at in self.made.iter().copied() {
            // What went with another one is gone.
            let _ = self.kernel.apply(&Step { at, action: Action::Delete }).await;
        }
    }

    async fn make(&mut self, new: NewLink) -> Result<(), KernelError> {
        let made = self.kernel.create(&new).await?;
        self.made.extend(made.into_iter().map(|made| made.at));
        Ok(())
    }

    async fn step(&mut self, which: usize, at: Binding, action: Action) -> Result<(), KernelError> {
        self.made[which] = self.kernel.apply(&Step { at, action }).await?.at;
        Ok(())
    }

    /// Every link in every namespace, without what each kernel gives by chance.
    async fn links(&self) -> Vec<BTreeMap<LinkName, String>> {
        let mut all = Vec::new();
        for ns in self.spaces {
            let dump = self.kernel.dump(ns).await.unwrap();
            let mut shown = BTreeMap::new();
            for link in dump.links.iter().filter(|link| !link.is_loopback()) {
                let at = Binding { ns, ifindex: link.ifindex };
                let readings = self.kernel.readings(at).await.unwrap();
                let most = readings.values.get(Property::MaxBw);
                let over = link.lower.is_some();
                let text = format!(
                    "{:?} {:?} mtu {} up {} over {over} {:?} {:?} maxbw {most:?}",
                    link.kind, link.mac, link.mtu, link.admin_up, link.altnames, link.tunables
                );
                shown.insert(link.name, text);
            }
            all.push(shown);
        }
        all
    }
}

/// A namespace that lives until this is dropped.
struct Other {
    _alive: mpsc::Sender<()>,
    place: PathBuf,
}

impl Other {
    fn new() -> Self {
        let (alive, ends) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            sys::enter_new_network_namespace().unwrap();
            let id = rustix::thread::gettid().as_raw_nonzero();
            tell.send(PathBuf::from(format!("/proc/self/task/{id}/ns/net"))).unwrap();
            let _ = ends.recv();
        });
        Self { _alive: alive, place: told.recv().unwrap() }
    }

    fn opener(&self) -> NsOpener {
        let place = self.place.clone();
        Arc::new(move || Ok(File::open(&place)?.into()))
    }
}

/// The two kernels, each with two namespaces that have no links yet.
struct Both {
    real: RtnetlinkKernel,
    real_spaces: [NsCookie; 2],
    simulated: SimKernel,
    simulated_spaces: [NsCookie; 2],
    _other: Other,
}

impl Both {
    async fn new(seed: u64) -> Self {
        let real = RtnetlinkKernel::open().unwrap();
        let other = Other::new();
        let there = real.watch(other.opener()().unwrap(), other.opener()).await.unwrap();
        let real_spaces = [real.home(), there];

        let world = SimWorld::new(seed);
        let simulated = world.kernel();
        let ns = world.add_namespace();
        let there = simulated.watch(world.open(ns).unwrap(), world.opener(ns)).await.unwrap();
        let simulated_spaces = [world.home(), there];
        Self { real, real_spaces, simulated, simulated_spaces, _other: other }
    }

    fn runs(&self) -> [Run<'_>; 2] {
        let run = |kernel, spaces| Run { kernel, spaces, made: Vec::new() };
        [run(&self.simulated, self.simulated_spaces), run(&self.real, self.real_spaces)]
    }
}

async fn compare(seed: u64) {
    compare_links(seed).await;
    compare_bridges(seed).await;
}

async fn compare_bridges(seed: u64) {
    let both = Both::new(seed).await;
    let [mut simulated, mut real] = both.runs();
    let (mut here, mut likewise) = (Chance(seed), Chance(seed));
    for number in 0..REQUESTS {
        let answers = (
            simulated.request_of_bridges(&mut here).await,
            real.request_of_bridges(&mut likewise).await,
        );
        let what =
            format!("seed {seed}, bridges, request {number}: simulated (left), real (right)");
        assert_eq!(answers.0, answers.1, "{what}");
        assert_eq!(simulated.bridges().await, real.bridges().await, "{what}");
    }
    real.delete_all().await;
}

async fn compare_links(seed: u64) {
    let both = Both::new(seed).await;
    let [mut simulated, mut real] = both.runs();
    let (mut here, mut likewise) = (Chance(seed), Chance(seed));
    let (mut set_here, mut set_likewise) = (Chance(!seed), Chance(!seed));
    for number in 0..REQUESTS {
        let answers = (simulated.request(&mut here).await, real.request(&mut likewise).await);
        let what = format!("seed {seed}, request {number}: simulated (left) and real (right)");
        assert_eq!(answers.0, answers.1, "{what}");
        let set = (simulated.set(&mut set_here).await, real.set(&mut set_likewise).await);
        assert_eq!(set.0, set.1, "{what}, a property");
        assert_eq!(simulated.links().await, real.links().await, "{what}");
    }
    real.delete_all().await;
}

/// The kernel moves a link under its old name where that is free, and renames it there: its own
/// alternative name is taken by then. Where the old name is taken, it arrives under the new one.
#[test]
fn a_link_arrives_under_its_own_alternative_name_only_where_its_name_is_taken() {
    let name = |text: &str| LinkName::found(text.as_bytes()).unwrap();
    in_new_namespace(async move || {
        let both = Both::new(0).await;
        for mut run in both.runs() {
            let [here, there] = run.spaces;
            let kind = NewKind::Veth { peer_ns: there, peer_name: name("there"), peer_mac: None };
            let new = NewLink { ns: here, name: name("free"), mac: None, mtu: None, kind };
            run.make(new).await.unwrap();
            let own = Action::AddAltName(AltName(b"own".to_vec()));
            run.step(0, run.made[0], own).await.unwrap();

            let to_own = || Action::Move { to: there, name: name("own") };
            let refused = run.step(0, run.made[0], to_own()).await.unwrap_err();
            assert_eq!(refused.errno, libc::EEXIST);
            assert_eq!(run.made[0].ns, here);

            run.step(0, run.made[0], Action::Rename(name("there"))).await.unwrap();
            run.step(0, run.made[0], to_own()).await.unwrap();
            assert_eq!(run.made[0].ns, there);
            let at = run.made[0];
            let link = run.kernel.get(at.ns, at.ifindex).await.unwrap().unwrap();
            assert_eq!(link.name, name("own"));
            assert_eq!(link.altnames, [AltName(b"own".to_vec())]);
            run.step(0, at, Action::Delete).await.unwrap();
        }
    });
}

/// `KERNEL_SEED=N` compares that one; `ENGINE_SOAK=SECONDS` fresh ones for so long.
#[test]
fn random_requests_come_to_the_same_in_both() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (seeds, seconds) = match (number("KERNEL_SEED"), number("ENGINE_SOAK")) {
        (Some(seed), _) => (seed..=seed, 600),
        (None, Some(seconds)) => (fresh..=u64::MAX, seconds),
        (None, None) => (0..=SEEDS - 1, 600),
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut compared = 0;
    for seed in seeds.take_while(|_| Instant::now() < until) {
        println!("replay with KERNEL_SEED={seed} cargo test -p dlmgmtd --lib differential");
        in_new_namespace(async move || compare(seed).await);
        compared += 1;
    }
    println!("compared {compared} sequences");
}
