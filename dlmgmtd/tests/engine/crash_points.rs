//! SPEC.md rule 3.3 at every named point of [`dlmgmtd::crash`]: each operation is stopped at each
//! point that it passes, as often as it passes it, and what a restart makes of that is checked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Mutex;

use dlmgmt_proto::door::{CreateLink, DeleteLink, LinkOption, MakeLink, SetZone, Where};
use dlmgmt_proto::{
    Flags, HwAddr, LinkClass, LinkId, LinkInfo, LinkName, LinkSpec, LinkState, Result, ZoneId,
    ZoneName,
};
use dlmgmtd::crash;
use dlmgmtd::engine::Service;
use dlmgmtd::model::{
    Action, AltName, LinkProperties, LinkRecord, NsCookie, Recipe, Step, Tunables,
};

use crate::classes::made;
use crate::crashes::IMPORT;
use crate::machine::{Daemon, Machine, card, name, outcome, root, settle};
use crate::options::reset_one;
use crate::properties::{reset, set, set_for};
use crate::zones::{lend, recall, zone};

/// A machine with links of every kind, and its zones.
struct Stage {
    machine: Machine,
    daemon: Daemon,
    /// Namespaces that have a name.
    named: BTreeMap<&'static str, NsCookie>,
}

impl Stage {
    /// At home: cards `eth0` and `eth1` (which has an alternative name), one that was taken out,
    /// two links of somebody else, a pair and a vnic. In `web`: a card and one end of a pair, and
    /// a pair made for it. In `db`: a vnic made for it. A card waits for `later`.
    /// A bridge has the other link of somebody else as its port.
    /// Properties are set of one of each kind, also of the one that is away.
    async fn new() -> Self {
        let cards = [
            card("eth0", 1, 1),
            card("eth1", 2, 2),
            card("gone0", 3, 3),
            card("lent0", 4, 4),
            card("wait0", 5, 5),
        ];
        let machine = Machine::with_cards(cards);
        let altname = Action::AddAltName(AltName(b"alt1".to_vec()));
        machine.world.by_others(&Step { at: machine.at("eth1"), action: altname }).unwrap();
        for action in [Action::SetMtu(9000), Action::SetUp(true)] {
            machine.world.by_others(&Step { at: machine.at("lent0"), action }).unwrap();
        }
        machine.create("v0");
        machine.create("v1");
        let daemon = machine.start().await;
        machine.world.unplug(machine.at("gone0")).unwrap();
        settle().await;
        let mut stage = Self { machine, daemon, named: BTreeMap::new() };
        stage.make("p0", veth("p1"), None).await.unwrap();
        stage.make("m0", vnic("eth1"), None).await.unwrap();
        let bridge = bridge("br0", &["v1"], false);
        let options = vec![LinkOption::new("priority", "4096")];
        stage.daemon.make(MakeLink { options, ..bridge }).await.unwrap();
        stage.name_zone("web").await;
        stage.name_zone("db").await;
        let inside = |link, called: &str| SetZone {
            name_inside: Some(called.to_owned()),
            ..lend(link, "web")
        };
        stage.daemon.lend(inside("lent0", "up0")).await.unwrap();
        stage.daemon.lend(SetZone { temporary: true, ..inside("p0", "in0") }).await.unwrap();
        stage.daemon.lend(lend("wait0", "later")).await.unwrap();
        stage.make("t0", veth("t1"), Some("web")).await.unwrap();
        stage.make("t2", vnic("eth1"), Some("db")).await.unwrap();
        let values: [(&str, Values); 4] = [
            ("gone0", &[("mtu", "1300"), ("alias", "gone")]),
            ("p1", &[("mtu", "1400"), ("alias", "pair"), ("maxbw", "10M")]),
            ("m0", &[("mtu", "1300"), ("alias", "vnic")]),
            ("web/up0", &[("mtu", "8000"), ("alias", "lent"), ("maxbw", "10M")]),
        ];
        for (link, values) in values {
            set(&stage.daemon, link, values).await.unwrap();
        }
        settle().await;
        stage
    }

    async fn make(&self, called: &str, spec: LinkSpec, inside: Option<&str>) -> Result<()> {
        let temporary = inside.is_some();
        let call = CreateLink { name: called.to_owned(), zone: inside.map(zone), temporary, spec };
        self.daemon.engine.create_link(&root(), call).await.map(drop)
    }

    async fn name_zone(&mut self, called: &'static str) {
        let ns = self.machine.world.add_namespace();
        self.named.insert(called, ns);
        self.appear(called).await;
    }

    /// The namespace of that name becomes known. A crash may come in between.
    async fn appear(&self, called: &'static str) {
        let arrival = self.machine.arrival(called, self.named[called]);
        self.daemon.engine.zone_appeared(arrival).await.unwrap();
    }

    /// Somebody makes a link of that name at home.
    async fn take_name(&self, called: &str) {
        self.machine.create(called);
        settle().await;
    }

    async fn end(&mut self, called: &'static str) {
        self.named.remove(called);
        let number = self.number(called);
        self.daemon.engine.end_zone(number).await;
    }

    fn number(&self, called: &str) -> ZoneId {
        let zones = self.daemon.engine.list_zones(&root()).unwrap();
        zones.iter().find(|known| known.name == zone(called)).unwrap().id
    }

    /// Another daemon starts and finds what the last one left.
    async fn restart(self) -> Self {
        let Self { machine, daemon, named } = self;
        drop(daemon);
        let alive = named.iter().filter(|(_, ns)| machine.world.is_alive(**ns));
        let present = alive.map(|(called, ns)| (*called, *ns)).collect();
        let daemon = machine.start_with_zones(present).await;
        Self { machine, daemon, named }
    }

    /// What a user would call the same state.
    fn view(&self) -> View {
        self.daemon.all_links().into_iter().map(|link| self.seen(link.id)).collect()
    }

    fn seen(&self, id: LinkId) -> Seen {
        let call = Where { link: dlmgmt_proto::LinkRef::Id(id) };
        // A whereabouts is answered from memory, without ever waiting.
        let found = now(self.daemon.engine.whereabouts(&root(), call)).unwrap();
        let record = self.record(id);
        Seen {
            id,
            name: found.link.name,
            own_name: found.own_name,
            zone: found.zone,
            assigned: found.assigned,
            flags: found.link.flags,
            mac: found.link.mac,
            mtu: found.link.mtu,
            state: found.link.state,
            properties: record.properties,
            tunables: self.tunables(&found.link),
            port_of: self.master(&found.link),
            recipe: record.recipe,
        }
    }

    fn record(&self, id: LinkId) -> LinkRecord {
        let records = self.machine.records();
        records.into_iter().find(|record| record.id == id).unwrap()
    }

    /// What else the kernel has of a link.
    fn tunables(&self, link: &LinkInfo) -> Option<(Tunables, Vec<AltName>)> {
        let (_, ns) = self.spaces().find(|(zone, _)| *zone == link.zone)?;
        let found = self.machine.world.links(ns).into_iter();
        let found = found.into_iter().find(|found| Some(found.ifindex) == link.ifindex)?;
        Some((found.tunables, found.altnames))
    }

    /// Of which link the kernel has it as a port.
    fn master(&self, link: &LinkInfo) -> Option<LinkName> {
        let (_, ns) = self.spaces().find(|(zone, _)| *zone == link.zone)?;
        let links = self.machine.world.links(ns);
        let found = links.iter().find(|found| Some(found.ifindex) == link.ifindex)?;
        Some(links.iter().find(|other| Some(other.ifindex) == found.master)?.name)
    }

    /// What must hold at any moment at which nothing happens.
    fn check_rules(&self, context: &str) {
        let shown = self.daemon.all_links();
        for (zone, ns) in self.spaces() {
            let real = self.machine.world.links(ns);
            let real: BTreeMap<_, _> = real
                .iter()
                .filter(|link| !link.is_loopback())
                .map(|link| (link.ifindex, (link.name, link.mac, link.mtu)))
                .collect();
            let known: BTreeMap<_, _> = shown
                .iter()
                .filter(|link| link.zone == zone)
                .filter_map(|link| Some((link.ifindex?, (link.name, link.mac, link.mtu?))))
                .collect();
            assert_eq!(known, real, "{context}: zone {zone}: registry (left) and kernel (right)");
        }
        let zones: BTreeSet<NsCookie> = self.spaces().map(|(_, ns)| ns).collect();
        for ns in self.machine.world.namespaces() {
            let left = self.machine.names_in(ns);
            let is_empty = left.is_empty() || zones.contains(&ns);
            assert!(is_empty, "{context}: left behind in a namespace that is no zone: {left:?}");
        }
        let seats: BTreeSet<_> = shown.iter().map(|link| (&link.zone, link.name)).collect();
        assert_eq!(seats.len(), shown.len(), "{context}: rule 3.1: {shown:?}");
        let lent_to =
            |label: &ZoneName| shown.iter().any(|link| link.zone == *label && link.owner != *label);
        let pinned: BTreeSet<NsCookie> =
            self.spaces().filter(|(label, _)| lent_to(label)).map(|(_, ns)| ns).collect();
        assert_eq!(self.daemon.kernel.pinned(), pinned, "{context}: pins, and zones with loans");
        let recorded: BTreeSet<LinkId> = self.machine.records().iter().map(|r| r.id).collect();
        let known: BTreeSet<LinkId> = shown.iter().map(|link| link.id).collect();
        let loopbacks = recorded.difference(&known).count();
        assert!(known.is_subset(&recorded), "{context}: {known:?} of {recorded:?}");
        assert_eq!(loopbacks, self.spaces().count(), "{context}: {recorded:?} for {known:?}");
    }

    fn spaces(&self) -> impl Iterator<Item = (ZoneName, NsCookie)> {
        let named = self.named.iter().filter(|(_, ns)| self.machine.world.is_alive(**ns));
        let home = (ZoneName::global(), self.machine.world.home());
        named.map(|(called, ns)| (zone(called), *ns)).chain([home])
    }
}

/// One link, as a user knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    id: LinkId,
    name: LinkName,
    own_name: LinkName,
    zone: Option<ZoneName>,
    assigned: Option<ZoneName>,
    flags: Flags,
    mac: Option<HwAddr>,
    mtu: Option<u32>,
    state: LinkState,
    properties: LinkProperties,
    tunables: Option<(Tunables, Vec<AltName>)>,
    port_of: Option<LinkName>,
    recipe: Option<Recipe>,
}

type View = Vec<Seen>;

/// What a future comes to that never waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn veth(peer: &str) -> LinkSpec {
    LinkSpec::Veth { peer: peer.to_owned(), peer_zone: None }
}

fn vnic(over: &str) -> LinkSpec {
    LinkSpec::Vnic { over: over.parse().unwrap(), mac: None, mode: Default::default() }
}

fn bridge(called: &str, ports: &[&str], temporary: bool) -> MakeLink {
    let ports = ports.iter().map(|port| port.parse().unwrap()).collect();
    MakeLink { temporary, ports, ..made(called, "bridge", &[]) }
}

type Values = &'static [(&'static str, &'static str)];

const VALUES: Values = &[("mtu", "1400"), ("altnames", "x,y"), ("alias", "new"), ("state", "up")];

/// What a bridge can be made with, and what any link has.
const OPTIONS: Values = &[("stp", "on"), ("ageing", "77"), ("mtu", "1400")];

/// What is asked for, or happens, while the daemon crashes.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Rename(&'static [(&'static str, &'static str)]),
    /// A rename whose `usize`-th step the kernel refuses.
    Refused(usize, &'static [(&'static str, &'static str)]),
    /// A pair whose record the kernel does not follow, because it refuses to make it.
    RefusedPair,
    SetProperties(&'static str, Values),
    SetPropertiesForNow(&'static str, Values),
    /// The same, where the kernel refuses the `usize`-th step.
    RefusedProperties(usize, &'static str, Values),
    ResetProperties(&'static str),
    ResetNamed(&'static str, &'static str),
    Lend(&'static str, &'static str),
    LendForNow(&'static str, &'static str),
    Recall(&'static str),
    /// The same, where its own name was taken meanwhile.
    RecallWithTakenName(&'static str),
    RecallForNow(&'static str),
    CreatePair(Option<&'static str>),
    CreateVnic(Option<&'static str>),
    /// A bridge with these ports, which is persistent unless it is for now.
    CreateBridge(&'static [&'static str]),
    CreateBridgeForNow(&'static [&'static str]),
    /// A bridge whose last port the kernel refuses.
    RefusedBridge(&'static [&'static str]),
    AddPorts(&'static [&'static str]),
    RemovePorts(&'static [&'static str]),
    Delete(&'static str, LinkClass),
    DeletePhys(&'static str),
    Import,
    /// What was exported, with another priority of the bridge and another name of a card.
    ImportChanged,
    /// The last user of a namespace ends, and its name is taken away.
    ZoneEnds(&'static str),
    /// The same, where the own name of a loan was taken meanwhile.
    ZoneEndsWithTakenName(&'static str),
    /// A namespace that lives on is to be no zone any more.
    Detach(&'static str),
    /// The last user of a namespace ends, and nobody says so but the kernel.
    ZoneDies(&'static str),
    /// Somebody moves a link to a zone that dies.
    DiesWithZone(&'static str, &'static str),
    ZoneAppears(&'static str),
    OthersMakeALink,
    OthersRename(&'static str, &'static str),
    CardAppears,
}

use Operation::*;

const OPERATIONS: &[Operation] = &[
    Rename(&[("eth0", "lan")]),
    Rename(&[("v0", "lan")]),
    Rename(&[("eth1", "alt1")]),
    Rename(&[("eth0", "gone0")]),
    Rename(&[("eth0", "eth1"), ("eth1", "v0"), ("v0", "p1"), ("p1", "eth0")]),
    Refused(2, &[("eth0", "eth1"), ("eth1", "v0"), ("v0", "eth0")]),
    RefusedPair,
    SetProperties("eth0", VALUES),
    SetPropertiesForNow("eth1", VALUES),
    SetProperties("web/in0", VALUES),
    SetProperties("gone0", &[("mtu", "1400")]),
    RefusedProperties(3, "eth0", VALUES),
    SetProperties("br0", OPTIONS),
    SetPropertiesForNow("br0", OPTIONS),
    RefusedProperties(2, "br0", OPTIONS),
    ResetNamed("br0", "priority"),
    ResetProperties("p1"),
    ResetProperties("web/up0"),
    Lend("eth0", "web"),
    Lend("p1", "db"),
    Lend("v0", "db"),
    Lend("eth0", "nowhere"),
    LendForNow("m0", "db"),
    Recall("lent0"),
    RecallForNow("lent0"),
    Recall("p0"),
    Recall("wait0"),
    RecallWithTakenName("p0"),
    CreatePair(None),
    CreatePair(Some("db")),
    CreateVnic(None),
    CreateVnic(Some("web")),
    Delete("p0", LinkClass::Veth),
    CreateBridge(&["eth0", "v0"]),
    CreateBridgeForNow(&["eth0", "v0"]),
    RefusedBridge(&["eth0", "v0"]),
    AddPorts(&["eth0", "v0"]),
    RemovePorts(&["v1"]),
    Delete("br0", LinkClass::Bridge),
    Delete("m0", LinkClass::Vnic),
    Delete("web/t0", LinkClass::Veth),
    DeletePhys("gone0"),
    Import,
    ImportChanged,
    ZoneEnds("web"),
    ZoneEndsWithTakenName("web"),
    Detach("db"),
    ZoneDies("db"),
    DiesWithZone("m0", "db"),
    ZoneAppears("later"),
    OthersMakeALink,
    OthersRename("v0", "p9"),
    CardAppears,
];

impl Operation {
    /// What others do before, so that it can come.
    async fn prepare(self, stage: &mut Stage) {
        match self {
            ZoneAppears(called) => {
                let ns = stage.machine.world.add_namespace();
                stage.named.insert(called, ns);
            }
            ZoneEndsWithTakenName(_) => stage.take_name("lent0").await,
            RecallWithTakenName(link) => stage.take_name(link).await,
            _ => {}
        }
    }

    /// Whether it was acknowledged, or happened whatever becomes of the daemon.
    async fn carry_out(self, stage: &mut Stage) -> Result<bool> {
        let others = &stage.machine.world;
        match self {
            Rename(wishes) => stage.daemon.rename(wishes).await?,
            Refused(nth, wishes) => {
                others.fail_step(nth, libc::EBUSY);
                let refused = stage.daemon.rename(wishes).await;
                refused.expect_err("the kernel refuses");
                return Ok(true);
            }
            RefusedPair => {
                others.fail_step(0, libc::EBUSY);
                stage.make("n0", veth("n1"), None).await.expect_err("the kernel refuses");
                return Ok(true);
            }
            SetProperties(link, values) => set(&stage.daemon, link, values).await?,
            SetPropertiesForNow(link, values) => set_for(&stage.daemon, link, values, true).await?,
            RefusedProperties(nth, link, values) => {
                others.fail_step(nth, libc::EBUSY);
                let refused = set(&stage.daemon, link, values).await;
                refused.expect_err("the kernel refuses");
                return Ok(true);
            }
            ResetNamed(link, property) => reset_one(&stage.daemon, link, property, false).await?,
            ResetProperties(link) => reset(&stage.daemon, link).await?,
            Lend(link, to) => return stage.daemon.lend(lend(link, to)).await.map(|()| true),
            LendForNow(link, to) => {
                let call = SetZone { temporary: true, ..lend(link, to) };
                return stage.daemon.lend(call).await.map(|()| true);
            }
            Recall(link) => return stage.daemon.recall(recall(link)).await.map(|()| true),
            RecallWithTakenName(_) => {
                return stage.daemon.recall(recall("web/in0")).await.map(|()| true);
            }
            RecallForNow(link) => {
                let mut call = recall(link);
                call.temporary = true;
                return stage.daemon.recall(call).await.map(|()| true);
            }
            CreatePair(inside) => return stage.make("n0", veth("n1"), inside).await.map(|()| true),
            CreateVnic(inside) => {
                return stage.make("n0", vnic("eth1"), inside).await.map(|()| true);
            }
            CreateBridge(ports) => {
                return stage.daemon.make(bridge("n0", ports, false)).await.map(|()| true);
            }
            CreateBridgeForNow(ports) => {
                return stage.daemon.make(bridge("n0", ports, true)).await.map(|()| true);
            }
            RefusedBridge(ports) => {
                others.fail_step(ports.len(), libc::EBUSY);
                let refused = stage.daemon.make(bridge("n0", ports, false)).await;
                refused.expect_err("the kernel refuses");
                return Ok(true);
            }
            AddPorts(ports) => {
                return stage.daemon.change_ports("br0", ports, &[]).await.map(|()| true);
            }
            RemovePorts(ports) => {
                return stage.daemon.change_ports("br0", &[], ports).await.map(|()| true);
            }
            Delete(link, class) => {
                let call = DeleteLink { link: link.parse().unwrap(), class };
                stage.daemon.engine.delete_link(&root(), call).await?
            }
            DeletePhys(link) => stage.daemon.delete_phys(link).await?,
            Import => stage.daemon.engine.import(&root(), IMPORT.into()).await?,
            ImportChanged => {
                let text = String::from_utf8(stage.daemon.engine.export(&root()).await?).unwrap();
                let (was, is) = (r#""priority": "4096""#, r#""priority": "8192""#);
                assert!(text.contains(was) && text.contains("eth0"), "{text}");
                let changed = text.replace(was, is).replace("eth0", "lan");
                stage.daemon.engine.import(&root(), changed.into()).await?
            }
            ZoneEnds(called) | ZoneEndsWithTakenName(called) => {
                let _ = others.end_users(stage.named[called]);
                stage.end(called).await;
                return Ok(true);
            }
            Detach(called) => {
                stage.daemon.engine.end_zone(stage.number(called)).await;
                stage.named.remove(called);
                return Ok(true);
            }
            ZoneDies(called) => {
                let ns = stage.named.remove(called).unwrap();
                others.end_users(ns).unwrap();
                return Ok(true);
            }
            DiesWithZone(link, called) => {
                let ns = stage.named.remove(called).unwrap();
                let action = Action::Move { to: ns, name: name(link) };
                others.by_others(&Step { at: stage.machine.at(link), action }).unwrap();
                settle().await;
                others.end_users(ns).unwrap();
                return Ok(true);
            }
            ZoneAppears(called) => {
                stage.appear(called).await;
                return Ok(true);
            }
            OthersMakeALink => {
                stage.machine.create("fresh");
                return Ok(true);
            }
            OthersRename(from, to) => {
                stage.machine.rename_by_others(from, to);
                return Ok(true);
            }
            CardAppears => {
                others.plug(card("other", 3, 9));
                return Ok(true);
            }
        };
        Ok(true)
    }

    /// What it would come to if the kernel did not refuse it: a refusal that nobody was told of may
    /// just as well not have been.
    fn unrefused(self) -> Option<Self> {
        match self {
            Refused(_, wishes) => Some(Rename(wishes)),
            RefusedPair => Some(CreatePair(None)),
            RefusedBridge(ports) => Some(CreateBridge(ports)),
            RefusedProperties(_, link, values) => Some(SetProperties(link, values)),
            _ => None,
        }
    }

    /// Whether it happens whatever becomes of the daemon.
    fn is_of_others(self) -> bool {
        matches!(
            self,
            ZoneEnds(_)
                | ZoneEndsWithTakenName(_)
                | ZoneDies(_)
                | DiesWithZone(..)
                | ZoneAppears(_)
                | OthersMakeALink
                | OthersRename(..)
                | CardAppears
        )
    }
}

/// What an operation comes to that nothing disturbs, and the points that it passes.
struct Course {
    before: View,
    after: View,
    /// As [`Operation::unrefused`].
    unrefused: Option<View>,
    points: Vec<&'static str>,
}

impl Course {
    fn may_end_in(&self, found: &View, must_be_done: bool) -> bool {
        let may_be = |view: &View| self.without_chance(view) == self.without_chance(found);
        may_be(&self.after)
            || !must_be_done
                && (may_be(&self.before) || self.unrefused.as_ref().is_some_and(may_be))
    }

    /// The kernel gives new links an address by chance.
    fn without_chance(&self, view: &View) -> View {
        let mut view = view.clone();
        for link in &mut view {
            if self.before.iter().all(|known| known.id != link.id) {
                link.mac = None;
            }
        }
        view
    }
}

async fn undisturbed(operation: Operation) -> Course {
    let mut stage = Stage::new().await;
    operation.prepare(&mut stage).await;
    let before = stage.view();
    let points = Rc::new(RefCell::new(Vec::new()));
    let passed = points.clone();
    let watch = crash::watch(move |point| passed.borrow_mut().push(point));
    assert!(operation.carry_out(&mut stage).await.unwrap(), "{operation:?}");
    settle().await;
    drop(watch);
    stage.check_rules(&format!("{operation:?}"));
    let points = points.borrow().clone();
    Course { before, after: stage.view(), unrefused: None, points }
}

/// Carries the operation out with a crash at the `nth` point that is passed. Whether the daemon
/// acknowledged it before.
async fn crash_at(operation: Operation, stage: &mut Stage, nth: usize) -> bool {
    let (kernel, disk) = (stage.daemon.kernel.clone(), stage.machine.disk.clone());
    let mut passed = 0;
    let watch = crash::watch(move |_| {
        if passed == nth {
            kernel.crash();
            disk.crash();
        }
        passed += 1;
    });
    let kernel = stage.daemon.kernel.clone();
    let reply = {
        let asked = async {
            let reply = operation.carry_out(stage).await;
            (reply, kernel.has_crashed())
        };
        outcome(asked).await
    };
    settle().await;
    drop(watch);
    assert!(kernel.has_crashed(), "{operation:?}: point {nth} is not passed again");
    stage.machine.world.disarm();
    match reply {
        Some((reply, false)) => reply.unwrap(),
        _ => false,
    }
}

async fn check(operation: Operation, nth: usize, course: &Course) {
    let context = format!("{operation:?}, {}, the {nth}th point", course.points[nth]);
    let mut stage = Stage::new().await;
    operation.prepare(&mut stage).await;
    let acknowledged = crash_at(operation, &mut stage, nth).await;
    let mut stage = stage.restart().await;
    settle().await;
    stage.check_rules(&context);
    let found = stage.view();
    let must_be_done = acknowledged || operation.is_of_others();
    let is_right = course.may_end_in(&found, must_be_done);
    assert!(is_right, "{context}: {}", difference(&found, course));
    stage = stage.restart().await;
    settle().await;
    stage.check_rules(&context);
    assert_eq!(stage.view(), found, "{context}: it did not last");
    stage.machine.create("probe");
    settle().await;
    let known = course.before.iter().chain(&found).map(|link| link.id).max();
    assert!(Some(stage.daemon.id("probe")) > known, "{context}: an id is given again");
}

fn difference(found: &View, course: &Course) -> String {
    let lines = |view: &View, mark: &str| -> Vec<String> {
        let differs =
            view.iter().filter(|link| !(course.after.contains(link) && found.contains(link)));
        differs.map(|link| format!("\n{mark} {link:?}")).collect()
    };
    let expected = lines(&course.after, "expected").concat();
    format!("{expected}{}", lines(found, "found   ").concat())
}

/// Runs with a time of its own, which goes on when nothing else can happen.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

#[test]
fn every_operation_survives_a_crash_at_every_point_that_it_passes() {
    let todo = Mutex::new(OPERATIONS.iter().copied());
    let passed: Mutex<BTreeMap<&str, Vec<String>>> = Mutex::default();
    let work = || {
        while let Some(operation) = next(&todo) {
            for point in stop_at_each_point(operation) {
                passed.lock().unwrap().entry(point).or_default().push(format!("{operation:?}"));
            }
        }
    };
    let workers = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let passed = passed.into_inner().unwrap();
    for point in crash::POINTS {
        let by = passed.get(point).map_or(String::new(), |by| by.join(", "));
        println!("{point}: {by}");
        // What a start passes, and the real store, have tests of their own.
        let is_elsewhere = ["start.", "store.", "journal."].iter().any(|of| point.starts_with(of));
        assert!(!by.is_empty() || is_elsewhere, "no operation passes {point}");
    }
}

fn next(todo: &Mutex<impl Iterator<Item = Operation>>) -> Option<Operation> {
    todo.lock().unwrap().next()
}

/// The points that the operation passes.
fn stop_at_each_point(operation: Operation) -> BTreeSet<&'static str> {
    let mut course = run(undisturbed(operation));
    course.unrefused = operation.unrefused().map(|other| run(undisturbed(other)).after);
    (0..course.points.len()).for_each(|nth| run(check(operation, nth, &course)));
    course.points.into_iter().collect()
}
