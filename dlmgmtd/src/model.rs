//! The daemon's own vocabulary: what the kernel says of a link, what the store keeps of it, and
//! the steps by which the kernel is changed. Plain values, known to every part of the daemon.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use dlmgmt_proto::kind::{LinkKind, LinkOptions, OptionSpec};
use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{
    DevicePath, Duplex, Generation, HwAddr, IfIndex, LinkClass, LinkId, LinkName, LinkState, Media,
    ZoneId, ZoneName,
};
use serde::{Deserialize, Serialize};

pub use settings::{LinkProperties, MODE, Readings, Settings, Tunables, small};

/// A network namespace's identity (`SO_NETNS_COOKIE`): never given again within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsCookie(pub u64);

impl NsCookie {
    /// No namespace: the kernel counts from 1.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for NsCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the kernel has a link: an index is unique only inside its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// The namespace.
    pub ns: NsCookie,
    /// The index there.
    pub ifindex: IfIndex,
}

impl Binding {
    /// Where a link will be that is yet to be made: no link has this index.
    pub fn to_come(ns: NsCookie) -> Self {
        Self { ns, ifindex: IfIndex::NONE }
    }
}

/// One run of the kernel (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub String);

/// An alternative name: up to 127 bytes, taken as the kernel has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AltName(pub Vec<u8>);

impl AltName {
    /// Whether this is the same name as `name`: both share the kernel's one name space.
    pub fn is(&self, name: &LinkName) -> bool {
        self.0 == name.as_bytes()
    }
}

impl fmt::Debug for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AltName({})", self.0.escape_ascii())
    }
}

/// A link as the kernel shows it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLink {
    /// Its index.
    pub ifindex: IfIndex,
    /// Its name.
    pub name: LinkName,
    /// The kernel's link type (`IFLA_INFO_KIND`), absent for hardware.
    pub kind: Option<String>,
    /// Its medium, from its ARPHRD type.
    pub media: Media,
    /// Its present address; `None` where it has none or only zeros.
    pub mac: Option<HwAddr>,
    /// Its permanent address (`IFLA_PERM_ADDRESS`); `None` where the hardware tells none.
    pub permanent_mac: Option<HwAddr>,
    /// Its place on its bus; only hardware has one.
    pub path: Option<DevicePath>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up (IFF_UP).
    pub admin_up: bool,
    /// Whether it carries traffic.
    pub state: LinkState,
    /// The link it lies over (`IFLA_LINK`), with the namespace if that is another one.
    pub lower: Option<Lower>,
    /// The link that it is a port of (`IFLA_MASTER`).
    pub master: Option<IfIndex>,
    /// Its alternative names, sorted.
    pub altnames: Vec<AltName>,
    /// What else of it can be set.
    pub tunables: Tunables,
}

impl KernelLink {
    /// A link of Ethernet that has nothing yet, and is down.
    pub fn new(ifindex: IfIndex, name: LinkName) -> Self {
        Self {
            ifindex,
            name,
            kind: None,
            media: Media::Ethernet,
            mac: None,
            permanent_mac: None,
            path: None,
            mtu: 1500,
            admin_up: false,
            state: LinkState::Down,
            lower: None,
            master: None,
            altnames: Vec::new(),
            tunables: Tunables::default(),
        }
    }

    /// The class by SPEC.md section 2.
    pub fn class(&self) -> LinkClass {
        LinkClass::of_kind(self.kind.as_deref())
    }

    /// Whether this is the loopback device, which every namespace has and nobody manages.
    pub fn is_loopback(&self) -> bool {
        self.media == Media::Loopback
    }
}

/// How fast a link is, as its driver tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkMode {
    /// Megabits per second; `None` without a carrier.
    pub speed: Option<u32>,
    /// Whether it sends and receives at once.
    pub duplex: Option<Duplex>,
    /// Whether both ends agree on that by themselves.
    pub autoneg: Option<bool>,
}

/// The lower link of a stacked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lower {
    /// Its index.
    pub ifindex: IfIndex,
    /// The number of its namespace (`IFLA_LINK_NETNSID`) as the daemon's namespace counts, wherever
    /// the upper link is; `None` for the upper link's own namespace.
    pub nsid: Option<i32>,
    /// That namespace, where it is another one and was known when the upper link was seen.
    pub ns: Option<NsCookie>,
}

impl Lower {
    /// Where the lower link is of one in the namespace `upper`, if that is known.
    pub fn at(&self, upper: NsCookie) -> Option<Binding> {
        let ns = if self.nsid.is_none() { Some(upper) } else { self.ns };
        ns.map(|ns| Binding { ns, ifindex: self.ifindex })
    }
}

/// One change of one link in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which link.
    pub at: Binding,
    /// What is done to it.
    pub action: Action,
}

/// What a [`Step`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Gives it another name.
    Rename(LinkName),
    /// Gives it one more alternative name.
    AddAltName(AltName),
    /// Takes an alternative name away.
    DropAltName(AltName),
    /// Sets its largest packet.
    SetMtu(u32),
    /// Puts it up or down.
    SetUp(bool),
    /// Gives it another address.
    SetMac(HwAddr),
    /// Gives a property that has no action of its own this value.
    Set(Property, Value),
    /// Gives an option of its kind this value.
    SetOption(OptionSetting),
    /// Gives it a speed, a duplex and whether both ends agree on these: a driver takes them
    /// together. What is `None` is left as it is; a link that agrees, and is told nothing else,
    /// agrees on whatever it can.
    SetMode(LinkMode),
    /// Moves it to another namespace and gives it its name there, in one step. It keeps its
    /// address, its largest packet and its alternative names; it is down afterwards, and its index
    /// may be another one.
    Move {
        /// The other namespace.
        to: NsCookie,
        /// Its name there.
        name: LinkName,
    },
    /// Makes another link of its namespace its port.
    AddPort(IfIndex),
    /// Makes that no port of anything any more.
    DropPort(IfIndex),
    /// Ends it, and with it its peer if it is one end of a pair. Hardware cannot be ended.
    Delete,
}

/// An option of a link with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSetting {
    /// The link's kind.
    pub kind: &'static LinkKind,
    /// The option.
    pub option: &'static OptionSpec,
    /// The value.
    pub value: dlmgmt_proto::Value,
}

/// A link that is to be made, at once in its namespace and under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Where it is made.
    pub ns: NsCookie,
    /// Its name.
    pub name: LinkName,
    /// Its address; without one, it gets one by chance.
    pub mac: Option<HwAddr>,
    /// Its largest packet in bytes; without one, what the kernel takes for its kind.
    pub mtu: Option<u32>,
    /// What it is.
    pub kind: NewKind,
}

/// What a [`NewLink`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKind {
    /// One end of a pair; the other end is made with it.
    Veth {
        /// Where the other end is made.
        peer_ns: NsCookie,
        /// The other end's name.
        peer_name: LinkName,
        /// The other end's address; without one, it gets one by chance.
        peer_mac: Option<HwAddr>,
    },
    /// A link that comes alone.
    Single {
        /// Its kind and its options.
        settings: LinkOptions,
        /// The link that it lies over, in whatever namespace.
        over: Option<Binding>,
    },
}

impl NewLink {
    /// The namespace and the name of the link, and of its peer if it has one.
    pub fn seats(&self) -> Vec<(NsCookie, LinkName)> {
        let mut seats = vec![(self.ns, self.name)];
        if let NewKind::Veth { peer_ns, peer_name, .. } = &self.kind {
            seats.push((*peer_ns, *peer_name));
        }
        seats
    }

    /// The namespace of the link's peer, or of the link that it lies over; its own, where it has
    /// neither.
    pub fn other_side(&self) -> NsCookie {
        match &self.kind {
            NewKind::Veth { peer_ns, .. } => *peer_ns,
            NewKind::Single { over, .. } => over.map_or(self.ns, |over| over.ns),
        }
    }
}

/// How long a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until it is deleted: it survives reboots.
    Persistent,
    /// While the kernel has the link, at most until the next reboot.
    Temporary,
    /// As `Temporary`, and at most until its zone ends, or that of its other end.
    Transient,
    /// Until the kernel no longer has the link, which is being deleted: after a crash, a restart
    /// goes on with that.
    Ending,
}

/// Who made a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// This daemon, or the hardware itself.
    Own,
    /// Somebody else: the link is only observed (SPEC.md rule 3.8).
    Foreign,
}

/// Where a link is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// In its owner zone.
    Home,
    /// Lent to another zone: there whenever that zone is up, at home otherwise.
    OnLoan(Loan),
    /// Lent, but called home until the zone comes up anew.
    Recalled {
        /// The loan.
        loan: Loan,
        /// The namespace that the zone is until then.
        from: NsCookie,
    },
}

impl Location {
    /// How a lent link was at home.
    pub fn left_mut(&mut self) -> Option<&mut Settings> {
        self.loan_mut().and_then(|loan| loan.left.as_mut())
    }

    /// The link is another device by now, which never was as the one before.
    pub fn forget_left(&mut self) {
        if let Some(loan) = self.loan_mut() {
            loan.left = None;
        }
    }

    fn loan_mut(&mut self) -> Option<&mut Loan> {
        match self {
            Self::Home => None,
            Self::OnLoan(loan) | Self::Recalled { loan, .. } => Some(loan),
        }
    }
}

/// A link's assignment to a zone that is not its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// The zone it is lent to.
    pub zone: ZoneId,
    /// Its name there.
    pub name_inside: LinkName,
    /// Whether the loan outlives the zone's end.
    pub is_persistent: bool,
    /// How the link was at home, from the moment it left until it is so again.
    pub left: Option<Settings>,
}

/// How a virtual link of ours is made, and made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its kind, by the name that [`dlmgmt_proto::kind::KINDS`] has for it.
    pub kind: String,
    /// The link it lies over.
    pub over: Option<LinkId>,
    /// The other end, of a pair.
    pub peer: Option<LinkId>,
    /// The links that are its ports.
    pub ports: Vec<LinkId>,
    /// Its options, by their names: the values as users write them, so that a later daemon
    /// understands them.
    pub options: BTreeMap<String, String>,
}

impl Recipe {
    /// What makes a link with these settings.
    pub fn new(settings: &LinkOptions) -> Self {
        let options = settings.given();
        Self {
            kind: settings.kind().name.to_owned(),
            over: None,
            peer: None,
            ports: Vec::new(),
            options: options.map(|(name, value)| (name.to_owned(), value.to_string())).collect(),
        }
    }

    /// Its kind; `None` for one that only a later daemon knows.
    pub fn kind(&self) -> Option<&'static LinkKind> {
        LinkKind::named(&self.kind)
    }

    /// Its options; `None` where only a later daemon knows them.
    pub fn settings(&self) -> Option<LinkOptions> {
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        LinkOptions::parse(self.kind()?, options, self.over.is_some()).ok()
    }

    /// One of the links below has become another one, which may have been below as well.
    pub fn put_over(&mut self, old: LinkId, heir: LinkId) {
        self.over = self.over.map(|over| if over == old { heir } else { over });
        if self.ports.contains(&heir) {
            self.ports.retain(|port| *port != old);
        }
        self.ports.iter_mut().filter(|port| **port == old).for_each(|port| *port = heir);
    }

    /// The links without which it cannot be as it is to be: what it lies over, and its ports.
    pub fn below(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.over.into_iter().chain(self.ports.iter().copied())
    }
}

/// What makes a physical link the same link wherever it appears: SPEC.md section 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhysIdentity {
    /// The permanent address; some hardware tells none.
    pub mac: Option<HwAddr>,
    /// The place on the bus; some hardware has none.
    pub path: Option<DevicePath>,
}

/// Where a link was last seen: how a virtual link is known again after a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Where the kernel had it.
    pub at: Binding,
    /// Its address then.
    pub mac: Option<HwAddr>,
}

/// What the store keeps of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Its identity.
    pub id: LinkId,
    /// Its own name, at home.
    pub name: LinkName,
    /// The zone where it was created.
    pub owner: ZoneId,
    /// Where it is to be.
    pub location: Location,
    /// Its class.
    pub class: LinkClass,
    /// The kernel's link type.
    pub kind: Option<String>,
    /// Its medium.
    pub media: Media,
    /// How long the record is kept.
    pub lifetime: Lifetime,
    /// Who made the link.
    pub origin: Origin,
    /// For a physical link, its identity.
    pub phys: Option<PhysIdentity>,
    /// Where the kernel had it, in the boot that the store names.
    pub anchor: Option<Anchor>,
    /// For a virtual link of ours, how it is made again.
    pub recipe: Option<Recipe>,
    /// Whether a change of the kernel to agree with `name` may be under way: after a crash the
    /// kernel is then brought to the record, also for a foreign link.
    pub unsettled: bool,
    /// Raised at each loan and return.
    pub generation: Generation,
    /// What was set of its properties.
    pub properties: LinkProperties,
}

/// A link as the registry knows it: its record, and the kernel's view while the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What is kept; copies of the link share it.
    pub record: Arc<LinkRecord>,
    /// What the kernel has.
    pub kernel: Option<Bound>,
}

/// What the kernel has, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The namespace.
    pub ns: NsCookie,
    /// The zone that it is, if it is one.
    pub zone: Option<ZoneId>,
    /// The link there.
    pub link: Arc<KernelLink>,
}

impl Bound {
    /// Where the kernel has it.
    pub fn at(&self) -> Binding {
        Binding { ns: self.ns, ifindex: self.link.ifindex }
    }

    /// Where the link is that this one is a port of.
    pub fn master_at(&self) -> Option<Binding> {
        self.link.master.map(|ifindex| Binding { ns: self.ns, ifindex })
    }

    /// The same link with something changed.
    pub fn with(&self, change: impl FnOnce(&mut KernelLink)) -> Self {
        let mut link = KernelLink::clone(&self.link);
        change(&mut link);
        Self { link: link.into(), ..self.clone() }
    }
}

impl Deref for Bound {
    type Target = KernelLink;

    fn deref(&self) -> &KernelLink {
        &self.link
    }
}

impl Link {
    /// What is kept, to be changed in this copy of the link alone.
    pub fn record_mut(&mut self) -> &mut LinkRecord {
        Arc::make_mut(&mut self.record)
    }

    /// The zone where the link is; its owner's for one that the kernel does not have, or has in
    /// a namespace that is no zone.
    pub fn zone(&self) -> ZoneId {
        self.place().unwrap_or(self.record.owner)
    }

    /// Whether the kernel has it in its owner zone.
    pub fn is_at_home(&self) -> bool {
        self.place() == Some(self.record.owner)
    }

    /// Its loan, whether or not it is there now.
    pub fn loan(&self) -> Option<&Loan> {
        match &self.record.location {
            Location::Home => None,
            Location::OnLoan(loan) | Location::Recalled { loan, .. } => Some(loan),
        }
    }

    /// The zone where the kernel has it; `None` for nowhere, or a namespace that is no zone.
    pub fn place(&self) -> Option<ZoneId> {
        self.kernel.as_ref().and_then(|bound| bound.zone)
    }

    /// Whether it is lent to the zone that this namespace is, and to go there.
    pub fn is_for(&self, ns: NsCookie) -> bool {
        match &self.record.location {
            Location::Home => false,
            Location::OnLoan(_) => true,
            Location::Recalled { from, .. } => *from != ns,
        }
    }

    /// Whether it is in the zone that it is lent to.
    pub fn is_lent(&self) -> bool {
        self.loan().is_some_and(|loan| self.place() == Some(loan.zone))
    }

    /// The name that its record asks for where it is; whatever it has, where somebody else put it.
    pub fn wanted_name(&self) -> LinkName {
        match (&self.kernel, self.loan()) {
            (Some(_), Some(loan)) if self.is_lent() => loan.name_inside,
            (Some(bound), _) if !self.is_at_home() => bound.name,
            _ => self.record.name,
        }
    }

    /// Whether the kernel has it under that name.
    pub fn is_named(&self, name: LinkName) -> bool {
        self.kernel.as_ref().is_some_and(|bound| bound.name == name)
    }

    /// Where the kernel has it.
    pub fn binding(&self) -> Option<Binding> {
        self.kernel.as_ref().map(Bound::at)
    }

    /// Where the kernel has the link that it is a port of.
    pub fn master(&self) -> Option<Binding> {
        let bound = self.kernel.as_ref()?;
        Some(Binding { ns: bound.ns, ifindex: bound.master? })
    }

    /// A physical link whose hardware is absent.
    pub fn is_removed(&self) -> bool {
        self.record.class == LinkClass::Phys && self.kernel.is_none()
    }

    /// The loopback device is known, but nobody's to manage.
    pub fn is_loopback(&self) -> bool {
        self.record.media == Media::Loopback
    }
}

/// What the store keeps of a zone: its number, for as long as the state directory lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRecord {
    /// Its number.
    pub id: ZoneId,
    /// Its name.
    pub name: ZoneName,
    /// How a client registered it, while it is up: no directory tells of it after a restart.
    pub attached: Option<Attachment>,
}

impl ZoneRecord {
    /// Whether only a descriptor was passed of it, so that nothing else leads to its namespace.
    pub fn is_known_by_descriptor(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.by == AttachedBy::Descriptor)
    }
}

/// How a client registered a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its namespace, in the boot that the store names.
    pub ns: NsCookie,
    /// By what it is found again.
    pub by: AttachedBy,
}

/// By what a registered zone is found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachedBy {
    /// A process in it.
    Process(i32),
    /// A place where its namespace can be opened.
    Path(String),
    /// Whatever process is in its namespace then: only a descriptor was passed of it.
    Descriptor,
}

/// A zone as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// What is kept.
    pub record: ZoneRecord,
    /// Its namespace, while that is there.
    pub up: Option<ZoneUp>,
}

/// A zone's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneUp {
    /// Its namespace.
    pub ns: NsCookie,
    /// Whether it is ending.
    pub is_ending: bool,
    /// The process whose namespace it is, where it was registered by one.
    pub pid: Option<i32>,
    /// Where its namespace can be opened.
    pub path: Option<String>,
}
