//! SPEC.md section 3 over random lives of a machine: requests of every kind side by side, zones that
//! come and go, changes by others, lost, late and doubled notifications, refusals, failing disks,
//! crashes at any point, restarts and reboots. After each rest the engine is held against the
//! kernel, the disk and a small model of its own.
//!
//! A life that fails is made smaller by proptest and printed with the command that replays it.

mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dlmgmt_proto::door::{
    CreateLink, Created, DeleteLink, Reclaim, RenameItem, ResetZone, SetProperties, SetZone, Where,
};
use dlmgmt_proto::property::{Assignment, Property, Value};
use dlmgmt_proto::{
    ErrorCode, Flags, HwAddr, LinkClass, LinkId, LinkInfo, LinkName, LinkRef, LinkSpec,
    Whereabouts, ZoneName,
};
use dlmgmtd::engine::{HoldGuard, Service};
use dlmgmtd::kernel::sim::{HintFaults, VirtualLink};
use dlmgmtd::model::{Action, AltName, Binding, KernelLink, Location, NsCookie, Step};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tokio::task::JoinSet;

use self::options::{KnownOptions, OfBridge, of_bridge};
use crate::machine::{Daemon, Machine, card, name, outcome, root, settle};
use crate::zones::zone;

/// Lives that `make test` looks at; `make soak` goes on with fresh ones.
const LIVES: u64 = 200;

/// Few, so that they clash.
const NAMES: [&str; 8] = ["eth0", "eth1", "lan", "wan", "v0", "dl2", "net0", "up0"];
const ZONES: [&str; 3] = ["web", "db", "app"];

/// Something that happens. Links, names and zones are chosen by numbers, counted round.
#[derive(Clone, Debug)]
enum Happening {
    Rename(Vec<(usize, usize)>),
    Lend { link: usize, zone: usize, inside: Option<usize>, temporary: bool, force: bool },
    Recall { link: usize, for_now: bool, force: bool },
    Reclaim(usize),
    MakePair { names: (usize, usize), zone: Option<usize>, temporary: bool },
    MakeVnic { over: usize, name: usize, zone: Option<usize>, temporary: bool },
    Delete(usize),
    DeletePhys(usize),
    SetAlias(usize, u8),
    Hold(usize),
    LetGo,
    ZoneAppears(usize),
    ZoneEnds { zone: usize, lives_on: bool },
    NamespaceDies(usize),
    OthersMake { name: usize, zone: usize },
    OthersDelete(usize),
    OthersRename(usize, usize),
    OthersMove { link: usize, zone: usize },
    OthersSet(usize, u32),
    OthersCall { link: usize, altname: usize },
    Plug { card: u8, slot: u8, name: usize },
    Unplug(usize),
    OfBridge(OfBridge),
    Export,
    Import,
    LoseHints,
    Refuse(usize),
    DiskFails(usize),
    Wait(u8),
    Rest,
    Crash(usize),
    Reboot,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let any = || 0..64usize;
    let yes = proptest::bool::weighted;
    let maybe = || proptest::option::of(0..3usize);
    prop_oneof![
        6 => proptest::collection::vec((any(), any()), 1..4).prop_map(Rename),
        6 => (any(), any(), proptest::option::of(any()), yes(0.5), yes(0.5)).prop_map(
            |(link, zone, inside, temporary, force)| Lend { link, zone, inside, temporary, force }
        ),
        4 => (any(), yes(0.5), yes(0.5))
            .prop_map(|(link, for_now, force)| Recall { link, for_now, force }),
        1 => any().prop_map(Reclaim),
        3 => ((any(), any()), maybe(), yes(0.5))
            .prop_map(|(names, zone, temporary)| MakePair { names, zone, temporary }),
        3 => (any(), any(), maybe(), yes(0.5))
            .prop_map(|(over, name, zone, temporary)| MakeVnic { over, name, zone, temporary }),
        2 => any().prop_map(Delete),
        1 => any().prop_map(DeletePhys),
        2 => (any(), 0..9u8).prop_map(|(link, alias)| SetAlias(link, alias)),
        1 => any().prop_map(Hold),
        1 => Just(LetGo),
        5 => any().prop_map(ZoneAppears),
        3 => (any(), yes(0.5)).prop_map(|(zone, lives_on)| ZoneEnds { zone, lives_on }),
        2 => any().prop_map(NamespaceDies),
        2 => (any(), any()).prop_map(|(name, zone)| OthersMake { name, zone }),
        2 => any().prop_map(OthersDelete),
        2 => (any(), any()).prop_map(|(link, name)| OthersRename(link, name)),
        1 => (any(), any()).prop_map(|(link, zone)| OthersMove { link, zone }),
        1 => (any(), 1400..1500u32).prop_map(|(link, mtu)| OthersSet(link, mtu)),
        1 => (any(), any()).prop_map(|(link, altname)| OthersCall { link, altname }),
        2 => (1..5u8, 1..5u8, any()).prop_map(|(card, slot, name)| Plug { card, slot, name }),
        1 => any().prop_map(Unplug),
        8 => of_bridge().prop_map(OfBridge),
        1 => Just(Export),
        3 => Just(Import),
        1 => Just(LoseHints),
        2 => (0..4usize).prop_map(Refuse),
        1 => (0..3usize).prop_map(DiskFails),
        3 => (0..8u8).prop_map(Wait),
        4 => Just(Rest),
        2 => (0..40usize).prop_map(Crash),
        1 => Just(Reboot),
    ]
}

/// What somebody wanted of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Name(LinkName),
    Loan(Option<ZoneName>),
    Alias(String),
    /// The value of an option for good.
    Option(&'static str, String),
    /// The value of an option in the kernel.
    Effective(&'static str, String),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody was told what became of it.
    Open,
    Acknowledged,
    Refused,
}

/// A wish, and from when to when it came true.
#[derive(Clone, Debug)]
struct Write {
    request: Option<usize>,
    link: LinkId,
    wish: Wish,
    asked: usize,
    answered: Option<usize>,
    fate: Fate,
}

/// What is known of a link since the last rest.
#[derive(Clone, Debug)]
struct Known {
    own_name: LinkName,
    loan: Option<ZoneName>,
    owner: ZoneName,
    is_persistent: bool,
    class: LinkClass,
    /// Which card it is, if it is one.
    card: Option<HwAddr>,
    /// The alias that is wanted for good; empty for none.
    alias: String,
    options: KnownOptions,
}

/// The model: what each link was at the last rest, and what was wanted of it since. Of what is
/// wanted side by side any may come last; what was acknowledged is not forgotten.
#[derive(Default)]
struct Model {
    links: BTreeMap<LinkId, Known>,
    writes: Vec<Write>,
    /// Links that were ever lent for as long as their zone is up.
    lent_for_now: BTreeSet<LinkId>,
    /// Links called home for now, which ends such a loan.
    called_home: BTreeSet<LinkId>,
    has_zone_ended: bool,
    now: usize,
    highest: u32,
}

impl Model {
    fn by_others(&mut self, link: LinkId, wish: Wish) {
        let (asked, answered) = (self.now, Some(self.now));
        self.writes.push(Write { request: None, link, wish, asked, answered, fate: Fate::Open });
    }

    /// What may come true until the next rest, or not.
    fn may_come(&mut self, link: LinkId, wish: Wish) {
        let (asked, fate) = (self.now, Fate::Open);
        self.writes.push(Write { request: None, link, wish, asked, answered: None, fate });
    }

    /// What an import may bring any link of a class from what was saved of one: somebody may rename
    /// it meanwhile, so that the text means another one.
    fn may_come_from(&mut self, link: LinkId, saved: &SavedLink) {
        if saved.class == LinkClass::Bridge {
            self.options_may_come(link, &saved.options);
        }
        if let Some(alias) = saved.properties.get("alias") {
            self.may_come(link, Wish::Alias(alias.clone()));
        }
        if let Some(loan) = &saved.loan {
            self.may_come(link, Wish::Loan(Some(loan.zone.clone())));
        }
    }

    fn ask(&mut self, request: usize, link: LinkId, wish: Wish) {
        let asked = self.now;
        let fate = Fate::Open;
        self.writes.push(Write { request: Some(request), link, wish, asked, answered: None, fate });
    }

    fn answer(&mut self, request: usize, fate: Fate) {
        for write in self.writes.iter_mut().filter(|write| write.request == Some(request)) {
            (write.fate, write.answered) = (fate, Some(self.now));
        }
    }

    /// Loans that last no longer than their zone may be over, also those just asked for.
    fn zones_end(&mut self) {
        self.has_zone_ended = true;
    }

    /// What a link may have come to: what was wanted since and not overwritten by what was
    /// acknowledged later, or what it was if nothing was acknowledged.
    fn possible<T: Clone + PartialEq>(
        &self,
        link: LinkId,
        was: &T,
        of: impl Fn(&Wish) -> Option<T>,
    ) -> Vec<T> {
        let wished = |write: &&Write| {
            write.link == link && write.fate != Fate::Refused && of(&write.wish).is_some()
        };
        let writes: Vec<&Write> = self.writes.iter().filter(wished).collect();
        let acknowledged: Vec<&&Write> =
            writes.iter().filter(|write| write.fate == Fate::Acknowledged).collect();
        let is_overwritten = |write: &&&Write| {
            let end = write.answered.unwrap_or(usize::MAX);
            acknowledged.iter().any(|later| later.asked > end)
        };
        let mut possible: Vec<T> = writes
            .iter()
            .filter(|write| !is_overwritten(write))
            .filter_map(|write| of(&write.wish))
            .collect();
        if acknowledged.is_empty() {
            possible.push(was.clone());
        }
        possible
    }

    /// Whether something of this kind was asked of a link that nobody could answer any more.
    fn was_cut_short(&self, link: LinkId, is_it: impl Fn(&Wish) -> bool) -> bool {
        let is_cut_short = |write: &Write| write.request.is_some() && write.answered.is_none();
        let of_it = |write: &&Write| write.link == link && is_it(&write.wish);
        self.writes.iter().filter(of_it).any(is_cut_short)
    }

    fn was_wished(&self, link: LinkId, is_it: impl Fn(&Wish) -> bool) -> Option<Fate> {
        let wished = |write: &&Write| {
            write.link == link && write.fate != Fate::Refused && is_it(&write.wish)
        };
        let fates: Vec<Fate> = self.writes.iter().filter(wished).map(|write| write.fate).collect();
        match fates.contains(&Fate::Acknowledged) {
            true => Some(Fate::Acknowledged),
            false => fates.first().copied(),
        }
    }

    /// Where a card took a link over, what was wanted of the link may have come before that, or to
    /// nothing, as an import names cards; and what was wanted of the card came along.
    fn follow_cards(&mut self, shown: &BTreeMap<LinkId, Known>) {
        for (id, is) in shown {
            if self.links.get(id).is_none_or(|known| known.card == is.card) {
                continue;
            }
            let had_card = |(_, known): &(&LinkId, &Known)| known.card == is.card;
            let before = self.links.iter().find(had_card).map(|(before, _)| *before);
            let is_of_it = |write: &&Write| write.link == *id || Some(write.link) == before;
            let may_come = |write: &&Write| write.fate != Fate::Refused && write.wish != Wish::End;
            let doubted: Vec<Write> = self
                .writes
                .iter()
                .filter(is_of_it)
                .filter(may_come)
                .map(|write| Write { link: *id, fate: Fate::Open, ..write.clone() })
                .collect();
            self.writes.retain(|write| write.link != *id || write.wish == Wish::End);
            self.writes.extend(doubted);
        }
    }

    /// Holds what is shown against what is known, and takes it for known from now on.
    fn check(&mut self, shown: BTreeMap<LinkId, Known>) {
        self.follow_cards(&shown);
        for (id, known) in &self.links {
            let ends = self.was_wished(*id, |wish| *wish == Wish::End);
            let Some(is) = shown.get(id) else {
                let is_taken_over = known.class == LinkClass::Phys
                    && self.was_wished(*id, |wish| matches!(wish, Wish::Name(_))).is_some();
                let may_end = !known.is_persistent || ends.is_some() || is_taken_over;
                assert!(may_end, "@{id} is lost: {known:?}");
                continue;
            };
            assert_ne!(ends, Some(Fate::Acknowledged), "@{id} was deleted, and is there");
            // A zone that ended owns nothing.
            let is_left = known.owner != ZoneName::global();
            assert!(is.owner == known.owner || is_left, "@{id}: its owner is {}", is.owner);
            // One whose owner ended while it was lent is the borrower's, under its name there.
            if self.has_zone_ended && is.owner != known.owner {
                continue;
            }
            let names = self.possible(*id, &known.own_name, |wish| match wish {
                Wish::Name(name) => Some(*name),
                _ => None,
            });
            assert!(names.contains(&is.own_name), "@{id} is {}, not of {names:?}", is.own_name);
            let aliases = self.possible(*id, &known.alias, |wish| match wish {
                Wish::Alias(alias) => Some(alias.clone()),
                _ => None,
            });
            assert!(aliases.contains(&is.alias), "@{id} is {:?}, not of {aliases:?}", is.alias);
            self.check_options(*id, &known.options, &is.options);
            let mut loans = self.possible(*id, &known.loan, |wish| match wish {
                Wish::Loan(zone) => Some(zone.clone()),
                _ => None,
            });
            let may_be_over = self.has_zone_ended || self.called_home.contains(id);
            loans.extend((may_be_over && self.lent_for_now.contains(id)).then_some(None));
            assert!(loans.contains(&is.loan), "@{id} is lent to {:?}, not {loans:?}", is.loan);
        }
        let fresh = shown.keys().filter(|id| !self.links.contains_key(id)).map(|id| id.get());
        for id in fresh {
            assert!(id > self.highest, "@{id} is given again");
        }
        self.highest = shown.keys().map(|id| id.get()).max().unwrap_or(0).max(self.highest);
        self.lent_for_now.retain(|id| shown.get(id).is_some_and(|link| link.loan.is_some()));
        self.links = shown;
        self.writes.clear();
        self.called_home.clear();
        self.has_zone_ended = false;
    }
}

/// An export, and what it says.
#[derive(Clone)]
struct Saved {
    text: Vec<u8>,
    links: Vec<SavedLink>,
}

#[derive(Clone, serde::Deserialize)]
struct SavedLink {
    link: LinkName,
    class: LinkClass,
    mac: Option<HwAddr>,
    loan: Option<SavedLoan>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

#[derive(Clone, serde::Deserialize)]
struct SavedLoan {
    zone: ZoneName,
}

impl Saved {
    fn read(text: Vec<u8>) -> Self {
        #[derive(serde::Deserialize)]
        struct Document {
            links: Vec<SavedLink>,
        }
        let Document { links } = serde_json::from_slice(&text).unwrap();
        Self { text, links }
    }
}

/// A request that was answered, and what it made.
type Answer = (usize, Option<std::result::Result<Option<Created>, dlmgmt_proto::Error>>);

struct Life {
    machine: Machine,
    daemon: Option<Daemon>,
    named: BTreeMap<&'static str, NsCookie>,
    /// Namespaces that nobody but the daemon keeps alive.
    unused: BTreeSet<NsCookie>,
    asked: JoinSet<Answer>,
    made: BTreeMap<usize, (Known, Option<LinkName>)>,
    saved: Option<Saved>,
    /// What was brought in since the last rest.
    imported: Vec<SavedLink>,
    holds: Vec<Box<dyn HoldGuard>>,
    /// Whether others have moved a link, or pulled a card, which looks moved where it is back at once:
    /// where those are is not the daemon's doing, whatever links they become.
    others_have_moved: bool,
    model: Model,
    requests: usize,
    macs: u8,
    /// Bridges of which others have set an option.
    meddled_with: BTreeSet<LinkId>,
    /// Whether the kernel has refused anything since the last boot: what it refuses of a link that
    /// is made again stays as it is.
    has_refused: bool,
}

impl Life {
    async fn begin(seed: u64) -> Self {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.world.plug(card("eth1", 2, 2));
        if seed % 2 == 1 {
            let faults = HintFaults { lost: 10, duplicated: 20, delayed: 20, losses_untold: false };
            machine.world.set_hint_faults(faults);
            machine.world.set_inconsistent_dumps(30);
        }
        let mut life = Self {
            machine,
            daemon: None,
            named: BTreeMap::new(),
            unused: BTreeSet::new(),
            asked: JoinSet::new(),
            made: BTreeMap::new(),
            saved: None,
            imported: Vec::new(),
            holds: Vec::new(),
            others_have_moved: false,
            model: Model::default(),
            requests: 0,
            macs: 0,
            meddled_with: BTreeSet::new(),
            has_refused: false,
        };
        life.start().await;
        life.rest().await;
        life
    }

    async fn start(&mut self) {
        let world = &self.machine.world;
        self.named.retain(|_, ns| world.is_alive(*ns));
        let present = self.named.iter().map(|(called, ns)| (*called, *ns)).collect();
        self.daemon = Some(self.machine.start_with_zones(present).await);
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn link(&self, which: usize) -> Option<LinkInfo> {
        let links = self.daemon().all_links();
        (!links.is_empty()).then(|| links[which % links.len()].clone())
    }

    fn zone_up(&self, which: usize) -> Option<(&'static str, NsCookie)> {
        let up: Vec<_> = self.named.iter().map(|(called, ns)| (*called, *ns)).collect();
        (!up.is_empty()).then(|| up[which % up.len()])
    }

    /// A link that the kernel has where the daemon knows it: another one may have come there.
    fn known_in_kernel(&self, which: usize) -> Option<(LinkInfo, Binding)> {
        let known: Vec<(LinkInfo, Binding)> = self
            .daemon()
            .all_links()
            .into_iter()
            .filter_map(|link| self.binding(&link).map(|at| (link, at)))
            .filter(|(link, at)| self.is_at(link, *at))
            .collect();
        (!known.is_empty()).then(|| known[which % known.len()].clone())
    }

    fn is_at(&self, link: &LinkInfo, at: Binding) -> bool {
        let macs = (link.permanent_mac, link.mac);
        self.machine.world.link(at).is_some_and(|there| (there.permanent_mac, there.mac) == macs)
    }

    /// Where the kernel has a link, in a namespace that is known here.
    fn binding(&self, link: &LinkInfo) -> Option<Binding> {
        Some(Binding { ns: *self.spaces().get(&link.zone)?, ifindex: link.ifindex? })
    }

    fn spaces(&self) -> BTreeMap<ZoneName, NsCookie> {
        let named = self.named.iter().map(|(called, ns)| (zone(called), *ns));
        named.chain([(ZoneName::global(), self.machine.world.home())]).collect()
    }

    fn ask<F>(&mut self, wishes: Vec<(LinkId, Wish)>, request: F)
    where
        F: Future<Output = dlmgmt_proto::Result<Option<Created>>> + Send + 'static,
    {
        self.requests += 1;
        let number = self.requests;
        for (link, wish) in wishes {
            self.model.ask(number, link, wish);
        }
        self.asked.spawn(async move { (number, outcome(request).await) });
    }

    /// An import may find it, though it was asked for before.
    fn know(&mut self, id: LinkId, known: Known) {
        for saved in self.imported.iter().filter(|saved| saved.class == known.class) {
            self.model.may_come_from(id, saved);
        }
        self.model.links.insert(id, known);
    }

    fn hear(&mut self, (number, answer): Answer) {
        let made = self.made.remove(&number);
        let Some(answer) = answer else { return };
        self.model.answer(number, if answer.is_ok() { Fate::Acknowledged } else { Fate::Refused });
        if let (Ok(Some(created)), Some((known, peer_name))) = (answer, made) {
            if let (Some(peer), Some(own_name)) = (created.peer, peer_name) {
                let owner = ZoneName::global();
                self.know(peer, Known { own_name, owner, ..known.clone() });
            }
            self.know(created.id, known);
        }
    }

    async fn happen(&mut self, happening: &Happening) {
        self.model.now += 1;
        while let Some(answered) = self.asked.try_join_next() {
            self.hear(answered.unwrap());
        }
        let engine = self.daemon().engine.clone();
        match happening.clone() {
            Happening::Rename(whose) => {
                let wishes: Vec<(LinkId, LinkName)> = whose
                    .iter()
                    .filter_map(|(link, to)| Some((self.link(*link)?.id, a_name(*to))))
                    .collect();
                let item = |(id, to): &(LinkId, LinkName)| RenameItem {
                    link: LinkRef::Id(*id),
                    to: to.to_string(),
                };
                let call = dlmgmt_proto::door::Rename { items: wishes.iter().map(item).collect() };
                let wishes = wishes.into_iter().map(|(id, to)| (id, Wish::Name(to))).collect();
                self.ask(wishes, async move { engine.rename(&root(), call).await.map(|_| None) });
            }
            Happening::Lend { link, zone: to, inside, temporary, force } => {
                let Some(link) = self.link(link) else { return };
                let to = zone(ZONES[to % ZONES.len()]);
                if link.owner == to {
                    return;
                }
                if temporary {
                    self.model.lent_for_now.insert(link.id);
                }
                let call = SetZone {
                    link: LinkRef::Id(link.id),
                    zone: to.clone(),
                    name_inside: inside.map(|inside| a_name(inside).to_string()),
                    temporary,
                    force,
                    generation: None,
                };
                let wishes = vec![(link.id, Wish::Loan(Some(to)))];
                self.ask(wishes, async move { engine.set_zone(&root(), call).await.map(|_| None) });
            }
            Happening::SetAlias(link, alias) => {
                let Some(link) = self.link(link) else { return };
                let alias = format!("a{alias}");
                let wishes = vec![(link.id, Wish::Alias(alias.clone()))];
                let values = vec![Assignment { property: "alias".to_owned(), value: alias }];
                let call = SetProperties { link: LinkRef::Id(link.id), values, temporary: false };
                let set = async move { engine.set_properties(&root(), call).await.map(|_| None) };
                self.ask(wishes, set);
            }
            Happening::Recall { link, for_now, force } => {
                let Some(link) = self.link(link) else { return };
                let call = ResetZone {
                    link: LinkRef::Id(link.id),
                    temporary: for_now,
                    force,
                    generation: None,
                };
                let wishes = match for_now {
                    true => Vec::new(),
                    false => vec![(link.id, Wish::Loan(None))],
                };
                if for_now {
                    self.model.called_home.insert(link.id);
                }
                self.ask(
                    wishes,
                    async move { engine.reset_zone(&root(), call).await.map(|_| None) },
                );
            }
            Happening::Reclaim(link) => {
                let Some(link) = self.link(link) else { return };
                let call = Reclaim { link: LinkRef::Id(link.id) };
                let wishes = vec![(link.id, Wish::Loan(None))];
                self.ask(wishes, async move { engine.reclaim(&root(), call).await.map(|_| None) });
            }
            Happening::MakePair { names: (one, other), zone, temporary } => {
                let peer = a_name(other);
                let spec = LinkSpec::Veth { peer: peer.to_string(), peer_zone: None };
                self.make(one, zone, temporary, spec, LinkClass::Veth, Some(peer));
            }
            Happening::MakeVnic { over, name, zone, temporary } => {
                let Some(over) = self.link(over) else { return };
                let over = LinkRef::Id(over.id);
                let spec = LinkSpec::Vnic { over, mac: None, mode: Default::default() };
                self.make(name, zone, temporary, spec, LinkClass::Vnic, None);
            }
            Happening::Delete(link) => {
                let Some(link) = self.link(link) else { return };
                let call = DeleteLink { link: LinkRef::Id(link.id), class: link.class };
                let links = self.daemon().all_links().into_iter();
                // Which link is its peer is not told, so any other veth may be.
                let peers = links
                    .filter(|peer| link.class == LinkClass::Veth && peer.class == LinkClass::Veth);
                let peers: Vec<LinkId> =
                    peers.map(|peer| peer.id).filter(|id| *id != link.id).collect();
                peers.into_iter().for_each(|id| self.model.by_others(id, Wish::End));
                let wishes = vec![(link.id, Wish::End)];
                self.ask(
                    wishes,
                    async move { engine.delete_link(&root(), call).await.map(|_| None) },
                );
            }
            Happening::DeletePhys(link) => {
                let Some(link) = self.link(link) else { return };
                let call = dlmgmt_proto::door::DeletePhys { link: LinkRef::Id(link.id) };
                let wishes = vec![(link.id, Wish::End)];
                self.ask(
                    wishes,
                    async move { engine.delete_phys(&root(), call).await.map(|_| None) },
                );
            }
            Happening::Hold(link) => {
                let Some(link) = self.link(link) else { return };
                let held = outcome(engine.hold(&root(), LinkRef::Id(link.id))).await;
                self.holds.extend(held.and_then(|held| held.ok()));
            }
            Happening::LetGo => self.holds.clear(),
            Happening::ZoneAppears(which) => {
                let called = ZONES[which % ZONES.len()];
                if self.named.contains_key(called) {
                    return;
                }
                let ns = self.machine.world.add_namespace();
                self.named.insert(called, ns);
                // It may be over before it is looked at; where the disk fails it is told again.
                let arrivals: Vec<_> = (0..4).map(|_| self.machine.arrival(called, ns)).collect();
                let world = self.machine.world.clone();
                self.ask(Vec::new(), async move {
                    for arrival in arrivals {
                        match engine.zone_appeared(arrival).await {
                            Err(why) if why.code == ErrorCode::Store => {}
                            // A name is free when the death of its namespace was heard.
                            Err(why) if why.code == ErrorCode::Exists => {
                                world.release_hints();
                                tokio::time::sleep(Duration::from_secs(1)).await;
                            }
                            _ => break,
                        }
                    }
                    Ok(None)
                });
            }
            Happening::ZoneEnds { zone: which, lives_on } => {
                let Some((called, ns)) = self.zone_up(which) else { return };
                // Its end is told only when its beginning was.
                let Some(number) = engine.zone_of(ns) else { return };
                self.named.remove(called);
                self.model.zones_end();
                if !lives_on {
                    self.end_users(ns);
                }
                self.ask(Vec::new(), async move {
                    engine.end_zone(number).await;
                    Ok(None)
                });
            }
            Happening::NamespaceDies(which) => {
                let Some((called, ns)) = self.zone_up(which) else { return };
                self.model.zones_end();
                self.end_users(ns);
                if self.machine.world.is_alive(ns) {
                    self.unused.insert(ns);
                } else {
                    self.named.remove(called);
                }
            }
            Happening::OthersMake { name, zone } => {
                self.macs = self.macs.wrapping_add(1);
                let mac = HwAddr::new(&[2, 9, 0, 0, 0, self.macs]).ok();
                let kind = "tun".to_owned();
                let link = VirtualLink { name: a_name(name), kind, mac, lower: None };
                let spaces: Vec<NsCookie> = self.spaces().into_values().collect();
                // Where the name is taken, the kernel refuses.
                let _ = self.machine.world.create(spaces[zone % spaces.len()], link);
            }
            Happening::OthersDelete(link) => {
                if let Some((_, at)) = self.known_in_kernel(link) {
                    // Hardware is not deleted, and what the daemon knows may be old.
                    let _ = self.machine.world.delete(at);
                }
            }
            Happening::OthersRename(link, to) => {
                let Some((link, at)) = self.known_in_kernel(link) else { return };
                self.others_rename(link.id, at, a_name(to));
            }
            Happening::OthersMove { link, zone } => {
                let Some((link, at)) = self.known_in_kernel(link) else { return };
                let spaces: Vec<NsCookie> = self.spaces().into_values().collect();
                let to = spaces[zone % spaces.len()];
                if to == at.ns {
                    // Its name may be another one by now than the daemon knows.
                    return self.others_rename(link.id, at, link.name);
                }
                self.others_move(link.id, at, to, link.name);
            }
            Happening::OthersSet(link, mtu) => {
                if let Some((_, at)) = self.known_in_kernel(link) {
                    let _ = self.machine.world.by_others(&Step { at, action: Action::SetMtu(mtu) });
                }
            }
            Happening::OthersCall { link, altname } => {
                if let Some((_, at)) = self.known_in_kernel(link) {
                    let altname = AltName(NAMES[altname % NAMES.len()].as_bytes().to_vec());
                    let action = Action::AddAltName(altname);
                    let _ = self.machine.world.by_others(&Step { at, action });
                }
            }
            Happening::Plug { card: number, slot, name } => self.plug(number, slot, name),
            Happening::Unplug(link) => {
                if let Some((link, at)) = self.known_in_kernel(link)
                    && link.class == LinkClass::Phys
                {
                    let _ = self.machine.world.unplug(at);
                    self.others_have_moved = true;
                }
            }
            Happening::OfBridge(happening) => self.happen_to_bridge(happening),
            Happening::Export => {
                let text = crate::crash_points::now(engine.export(&root())).unwrap();
                self.saved = Some(Saved::read(text));
            }
            Happening::Import => self.import(),
            Happening::LoseHints => self.daemon().hear_that_hints_were_lost(),
            Happening::Refuse(nth) => {
                self.has_refused = true;
                self.machine.world.fail_step(nth, libc::EBUSY);
            }
            Happening::DiskFails(nth) => self.machine.disk.fail_at(nth),
            Happening::Wait(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Happening::Rest => self.rest().await,
            Happening::Crash(points) => self.crash(points).await,
            Happening::Reboot => self.reboot().await,
        }
    }

    fn end_users(&self, ns: NsCookie) {
        // It died already if nobody but the daemon kept it, and the last loan has left.
        let _ = self.machine.world.end_users(ns);
    }

    fn others_rename(&mut self, link: LinkId, at: Binding, to: LinkName) {
        let step = Step { at, action: Action::Rename(to) };
        if self.machine.world.by_others(&step).is_ok() {
            self.model.by_others(link, Wish::Name(to));
        }
    }

    /// What the daemon has renamed by now, but does not know of yet, gets its old name back so.
    fn others_move(&mut self, link: LinkId, at: Binding, to: NsCookie, name: LinkName) {
        let had_name = self.machine.world.find(at.ns, &name) == Some(at);
        let step = Step { at, action: Action::Move { to, name } };
        if self.machine.world.by_others(&step).is_err() {
            return;
        }
        self.others_have_moved = true;
        if !had_name {
            self.model.by_others(link, Wish::Name(name));
        }
    }

    fn make(
        &mut self,
        called: usize,
        inside: Option<usize>,
        temporary: bool,
        spec: LinkSpec,
        class: LinkClass,
        peer: Option<LinkName>,
    ) {
        let inside = inside.and_then(|which| self.zone_up(which)).map(|(called, _)| zone(called));
        let temporary = temporary || inside.is_some();
        let known = Known {
            own_name: a_name(called),
            loan: None,
            owner: inside.clone().unwrap_or_else(ZoneName::global),
            is_persistent: !temporary,
            class,
            card: None,
            alias: String::new(),
            options: KnownOptions::default(),
        };
        self.made.insert(self.requests + 1, (known, peer));
        let call = CreateLink { name: a_name(called).to_string(), zone: inside, temporary, spec };
        let engine = self.daemon().engine.clone();
        self.ask(Vec::new(), async move { engine.create_link(&root(), call).await.map(Some) });
    }

    /// Brings in what was saved last: hardware gets its names back, unless a device takes over
    /// another link meanwhile.
    fn import(&mut self) {
        let Some(Saved { text, links }) = self.saved.clone() else { return };
        let mut wishes = Vec::new();
        for link in self.daemon().all_links() {
            for saved in links.iter().filter(|saved| saved.class == link.class) {
                let name = Wish::Name(saved.link);
                if link.class == LinkClass::Phys && link.permanent_mac == saved.mac {
                    wishes.push((link.id, name));
                } else if link.class == LinkClass::Phys {
                    self.model.may_come(link.id, name);
                }
                self.model.may_come_from(link.id, saved);
            }
        }
        self.imported.extend(links);
        let engine = self.daemon().engine.clone();
        self.ask(wishes, async move { engine.import(&root(), text).await.map(|_| None) });
    }

    fn plug(&mut self, number: u8, slot: u8, called: usize) {
        let new = card(NAMES[called % NAMES.len()], number, slot);
        let world = &self.machine.world;
        let all = world.namespaces().into_iter().flat_map(|ns| world.links(ns));
        let is_there = |link: dlmgmtd::model::KernelLink| {
            link.kind.is_none() && (link.permanent_mac == new.mac || link.path == new.path)
        };
        if !all.into_iter().any(is_there) {
            world.plug(new);
        }
    }

    /// The daemon dies at one of the next points that it passes, or where it stands.
    async fn crash(&mut self, points: usize) {
        let daemon = self.daemon.take().unwrap();
        let (kernel, disk) = (daemon.kernel.clone(), self.machine.disk.clone());
        let mut left = points;
        let watch = dlmgmtd::crash::watch(move |_| {
            if left == 0 {
                kernel.crash();
                disk.crash();
            }
            left = left.wrapping_sub(1);
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(watch);
        daemon.kernel.crash();
        self.machine.disk.crash();
        drop(daemon);
        self.holds.clear();
        // What is answered in a daemon that died reached nobody.
        self.asked.shutdown().await;
        self.made.clear();
        self.model.zones_end();
        self.machine.world.disarm();
        self.start().await;
        self.rest().await;
    }

    async fn reboot(&mut self) {
        self.rest().await;
        self.daemon = None;
        self.holds.clear();
        let cards: Vec<_> = self
            .machine
            .world
            .namespaces()
            .into_iter()
            .flat_map(|ns| self.machine.world.links(ns))
            .filter(|link| link.permanent_mac.is_some())
            .map(|link| dlmgmtd::kernel::sim::PhysDevice {
                mac: link.permanent_mac,
                path: link.path,
                media: link.media,
                name: link.name,
            })
            .collect();
        self.machine.reboot([]);
        self.has_refused = false;
        for card in cards {
            self.machine.world.plug(card);
        }
        self.named.clear();
        self.model.zones_end();
        self.start().await;
        self.rest().await;
    }

    async fn rest(&mut self) {
        self.machine.world.disarm();
        self.machine.disk.disarm();
        while let Some(answered) = self.asked.join_next().await {
            self.hear(answered.unwrap());
        }
        settle().await;
        self.machine.world.release_hints();
        settle().await;
        self.machine.disk.write_all();
        let world = &self.machine.world;
        self.named.retain(|_, ns| world.is_alive(*ns));
        self.check_kernel();
        self.check_loans();
        self.check_disk();
        self.check_options();
        let shown = self.daemon().all_links();
        let seen = shown.iter().map(|link| (link.id, self.known(link))).collect();
        self.model.check(seen);
        self.imported.clear();
        self.unused.retain(|ns| world.is_alive(*ns));
        if !self.unused.is_empty() {
            // They end when the last loan leaves them.
            self.model.zones_end();
        }
    }

    fn whereabouts(&self, id: LinkId) -> Whereabouts {
        let call = Where { link: LinkRef::Id(id) };
        crate::crash_points::now(self.daemon().engine.whereabouts(&root(), call)).unwrap()
    }

    fn known(&self, link: &LinkInfo) -> Known {
        let found = self.whereabouts(link.id);
        Known {
            own_name: found.own_name,
            loan: found.assigned,
            owner: link.owner.clone(),
            is_persistent: link.flags.contains(Flags::PERSISTENT),
            class: link.class,
            card: link.permanent_mac,
            alias: self.wanted_alias(link.id),
            options: self.options(link),
        }
    }

    fn wanted_alias(&self, id: LinkId) -> String {
        let record = self.machine.records().into_iter().find(|record| record.id == id);
        let properties = record.map(|record| record.properties.persistent).unwrap_or_default();
        match properties.get(Property::Alias) {
            Some(Value::Text(alias)) => alias.clone(),
            _ => String::new(),
        }
    }

    /// SPEC.md section 6: whenever the zone is up, the link is there, if it can be.
    fn check_loans(&self) {
        if self.others_have_moved {
            return;
        }
        let spaces = self.spaces();
        for record in self.machine.records() {
            let Location::OnLoan(loan) = &record.location else { continue };
            let found = self.whereabouts(record.id);
            let is_held = found.link.flags.contains(Flags::HELD);
            let at = self.binding(&found.link).filter(|_| !is_held);
            let is_elsewhere = |zone: &ZoneName| found.zone.as_ref() != Some(zone);
            let up = found.assigned.filter(|zone| spaces.contains_key(zone));
            let zone = up.filter(is_elsewhere);
            if let (Some(at), Some(zone)) = (at, zone) {
                let altnames = self.machine.world.link(at).unwrap().altnames;
                let mut names = altnames.into_iter().map(|altname| altname.0);
                let is_taken = self.is_taken(&zone, loan.name_inside.as_bytes())
                    || names.any(|name| self.is_taken(&zone, &name));
                assert!(is_taken, "@{} waits for {zone}", record.id);
            }
        }
    }

    /// Whether a link has that name in a zone, or is to have it there.
    fn is_taken(&self, zone: &ZoneName, name: &[u8]) -> bool {
        let has_it = |link: &KernelLink| {
            link.name.as_bytes() == name || link.altnames.iter().any(|altname| altname.0 == name)
        };
        let is_to_have_it = |link: &LinkInfo| {
            link.owner == *zone && self.whereabouts(link.id).own_name.as_bytes() == name
        };
        let there = self.machine.world.links(self.spaces()[zone]);
        there.iter().any(has_it) || self.daemon().all_links().iter().any(is_to_have_it)
    }

    /// Rules 3.1, 3.5 and 3.7.
    fn check_kernel(&self) {
        let shown = self.daemon().all_links();
        let spaces = self.spaces();
        for (zone, ns) in &spaces {
            let links = self.machine.world.links(*ns);
            let real: BTreeMap<_, _> = links
                .iter()
                .filter(|link| !link.is_loopback())
                .map(|link| (link.ifindex, (link.name, link.mac, link.mtu, link.state)))
                .collect();
            let known: BTreeMap<_, _> = shown
                .iter()
                .filter(|link| self.whereabouts(link.id).zone.as_ref() == Some(zone))
                .filter_map(|link| {
                    Some((link.ifindex?, (link.name, link.mac, link.mtu?, link.state)))
                })
                .collect();
            assert_eq!(known, real, "zone {zone}: registry (left) and kernel (right)");
        }
        let seats: BTreeSet<_> = shown.iter().map(|link| (&link.zone, link.name)).collect();
        assert_eq!(seats.len(), shown.len(), "rule 3.1: {shown:?}");
        let pinned = self.daemon().kernel.pinned();
        let lent: BTreeSet<NsCookie> = shown
            .iter()
            .filter(|link| self.whereabouts(link.id).assigned.as_ref() == Some(&link.zone))
            .filter(|link| link.flags.contains(Flags::ACTIVE))
            .filter_map(|link| spaces.get(&link.zone).copied())
            .collect();
        assert_eq!(pinned, lent, "namespaces that are pinned, and those with loans inside");
    }

    fn check_disk(&self) {
        let records = self.machine.records();
        let kept: BTreeMap<LinkId, LinkName> =
            records.iter().map(|record| (record.id, record.name)).collect();
        for link in self.daemon().all_links() {
            assert_eq!(
                kept.get(&link.id),
                Some(&self.whereabouts(link.id).own_name),
                "the disk: {link:?}"
            );
        }
    }
}

fn a_name(which: usize) -> LinkName {
    name(NAMES[which % NAMES.len()])
}

fn live(seed: u64, happenings: &[Happening]) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut life = Life::begin(seed).await;
        for happening in happenings {
            life.happen(happening).await;
        }
        life.rest().await;
    });
}

/// Lives one life, and if it fails a smaller one that fails too.
fn check_life(seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let lives = proptest::collection::vec(happening(), 1..60);
    let tree = lives.new_tree(&mut runner).unwrap();
    let length = tree.current().len();
    let lived = runner.run_one(tree, |happenings| {
        let outcome = std::panic::catch_unwind(|| live(seed, &happenings));
        outcome.map_err(|why| TestCaseError::fail(text_of(why.as_ref())))
    });
    if let Err(why) = lived {
        let replay = format!("ENGINE_SEED={seed} cargo test -p dlmgmtd --test engine model::");
        panic!("of {length} happenings in seed {seed}: {why}\nreplay with: {replay}");
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// `ENGINE_SEED=N` lives that one; `ENGINE_SOAK=SECONDS` lives fresh ones on every processor for
/// so long.
#[test]
fn after_any_life_engine_kernel_disk_and_model_agree() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("ENGINE_SEED") {
        return check_life(seed);
    }
    let Some(seconds) = number("ENGINE_SOAK") else { return (0..LIVES).for_each(check_life) };
    let until = Instant::now() + Duration::from_secs(seconds);
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let soak = |worker: u64| {
        let fresh = (first.wrapping_add(worker << 56)..).take_while(|_| Instant::now() < until);
        fresh.map(check_life).count()
    };
    let workers = std::thread::available_parallelism().unwrap().get() as u64;
    let lives: usize = std::thread::scope(|scope| {
        let soaking: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || soak(worker))).collect();
        soaking.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("lived {lives} lives from seed {first}");
}
