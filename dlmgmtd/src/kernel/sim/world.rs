//! The simulated machine: its namespaces, and what is told of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Weak;

use dlmgmt_proto::kind::{LinkKind, LinkOptions};
use dlmgmt_proto::{HwAddr, IfIndex, LinkName, LinkState, Topic};
use tokio::sync::watch;

use super::namespace::{
    Namespace, bare_link, is_hardware, place_of, refusal, refusal_saying, standards, told,
    told_elsewhere, unsettle,
};
use super::random::Random;
use super::view::View;
use super::{HintFaults, PhysDevice, VirtualLink};
use crate::kernel::{Applied, Dump, Hint, KernelError, KernelFact, Made, MovedTo};
use crate::model::{
    Action, Binding, KernelLink, LinkMode, Lower, NewKind, NewLink, NsCookie, Step, Tunables,
};

/// So many of 100 moves change the index although it is free in the target.
const INDEX_CHANGES: u8 = 25;

#[derive(Debug)]
pub struct World {
    pub home: NsCookie,
    pub views: Vec<Weak<View>>,
    pub random: Random,
    pub hint_faults: HintFaults,
    pub holding_hints: bool,
    /// What becomes of the steps to come, the next one first.
    pub armed: VecDeque<Option<KernelError>>,
    pub armed_dumps: VecDeque<KernelError>,
    /// The namespace of which every dump is refused.
    pub unreadable: Option<NsCookie>,
    /// What becomes of the next look at a link, once a step was refused.
    pub hides_after_refusal: Option<KernelError>,
    armed_get: Option<KernelError>,
    pub hangs_next: bool,
    pub inconsistent_dumps_percent: u8,
    /// Whether dumps that were made wait to be answered.
    pub dumps_are_held: watch::Sender<bool>,
    pub refusal_percent: u8,
    /// The link of which every step of the daemon is refused.
    pub stubborn: Option<Binding>,
    pub applied: Vec<Step>,
    pub looks: usize,
    pub created: Vec<NewLink>,
    /// How fast links are.
    pub link_modes: BTreeMap<Binding, LinkMode>,
    /// What is told of links to who asks.
    pub facts: BTreeMap<(Binding, Topic), Vec<KernelFact>>,
    last_cookie: u64,
    namespaces: BTreeMap<NsCookie, Namespace>,
    late_news: Vec<News>,
}

/// What daemons get to know.
#[derive(Clone, Copy, Debug)]
enum News {
    Link(Binding, Hint),
    Ended(NsCookie),
}

impl News {
    /// What comes late is not the last word on a link.
    fn out_of_order(self) -> Self {
        match self {
            Self::Link(at, hint) => Self::Link(at, Hint { is_over: false, ..hint }),
            Self::Ended(_) => self,
        }
    }
}

impl World {
    /// A machine with one namespace, in which there is only the loopback.
    pub fn new(seed: u64) -> Self {
        let home = NsCookie(1);
        Self {
            home,
            views: Vec::new(),
            random: Random::new(seed),
            hint_faults: HintFaults::default(),
            holding_hints: false,
            armed: VecDeque::new(),
            armed_dumps: VecDeque::new(),
            unreadable: None,
            hides_after_refusal: None,
            armed_get: None,
            hangs_next: false,
            inconsistent_dumps_percent: 0,
            dumps_are_held: watch::Sender::new(false),
            refusal_percent: 0,
            stubborn: None,
            applied: Vec::new(),
            looks: 0,
            created: Vec::new(),
            link_modes: BTreeMap::new(),
            facts: BTreeMap::new(),
            last_cookie: home.0,
            namespaces: BTreeMap::from([(home, Namespace::new())]),
            late_news: Vec::new(),
        }
    }

    pub fn add_namespace(&mut self) -> NsCookie {
        self.last_cookie += 1;
        let cookie = NsCookie(self.last_cookie);
        self.namespaces.insert(cookie, Namespace::new());
        cookie
    }

    pub fn namespace(&mut self, ns: NsCookie) -> Result<&mut Namespace, KernelError> {
        self.namespaces.get_mut(&ns).ok_or_else(|| KernelError::no_namespace(ns))
    }

    pub fn namespaces(&self) -> Vec<NsCookie> {
        self.namespaces.keys().copied().collect()
    }

    pub fn links(&self, ns: NsCookie) -> Result<Vec<KernelLink>, KernelError> {
        let namespace = self.namespaces.get(&ns).ok_or_else(|| KernelError::no_namespace(ns))?;
        Ok(namespace.links().cloned().collect())
    }

    /// What is told of a link about these topics, while it is there.
    pub fn facts(&self, at: Binding, topics: &[Topic]) -> Vec<KernelFact> {
        if !self.is_there(at) {
            return Vec::new();
        }
        let facts = topics.iter().filter_map(|topic| self.facts.get(&(at, *topic)));
        facts.flatten().cloned().collect()
    }

    /// How fast a link is.
    pub fn link_mode(&self, at: Binding) -> LinkMode {
        let mode = self.link_modes.get(&at).filter(|_| self.is_there(at));
        mode.copied().unwrap_or_default()
    }

    fn is_there(&self, at: Binding) -> bool {
        let namespace = self.namespaces.get(&at.ns);
        namespace.is_some_and(|namespace| namespace.link(at.ifindex).is_some())
    }

    pub fn dump(&mut self, ns: NsCookie) -> Result<Dump, KernelError> {
        if let Some(error) = self.armed_dumps.pop_front() {
            return Err(error);
        }
        if self.unreadable == Some(ns) {
            return Err(refusal(libc::EMSGSIZE));
        }
        let mut links: Vec<KernelLink> = self.links(ns)?.iter().map(told).collect();
        let is_consistent = !self.random.chance(self.inconsistent_dumps_percent);
        if !is_consistent {
            links =
                links.into_iter().flat_map(|link| self.as_often_as_chance_has_it(link)).collect();
        }
        Ok(Dump { links, is_consistent })
    }

    pub fn get(
        &mut self,
        ns: NsCookie,
        ifindex: IfIndex,
    ) -> Result<Option<KernelLink>, KernelError> {
        match self.armed_get.take() {
            Some(error) => Err(error),
            None => {
                let view = self.view_of(ns);
                Ok(self.namespace(ns)?.link(ifindex).map(view))
            }
        }
    }

    /// How links of a namespace are told.
    fn view_of(&self, ns: NsCookie) -> fn(&KernelLink) -> KernelLink {
        if ns == self.home { told } else { told_elsewhere }
    }

    fn as_often_as_chance_has_it(&mut self, link: KernelLink) -> Vec<KernelLink> {
        vec![link; self.random.below(3) as usize]
    }

    pub fn plug(&mut self, device: PhysDevice) -> Binding {
        let home = self.home;
        let namespace = self.namespaces.entry(home).or_insert_with(Namespace::new);
        let name = namespace.free_name(device.name);
        let ifindex = namespace.add(|ifindex| KernelLink {
            media: device.media,
            mac: device.mac,
            permanent_mac: device.mac,
            path: device.path,
            ..bare_link(ifindex, name)
        });
        self.happened(Binding { ns: home, ifindex })
    }

    pub fn create_virtual(
        &mut self,
        ns: NsCookie,
        link: VirtualLink,
    ) -> Result<Binding, KernelError> {
        let namespace = self.namespace(ns)?;
        namespace.check_free(&link.name)?;
        let lower = match link.lower {
            Some(ifindex) => {
                namespace.existing(ifindex)?;
                Some(Lower { ifindex, nsid: None, ns: None })
            }
            None => None,
        };
        let options = LinkKind::of_kernel(&link.kind).map(standards);
        let ifindex = namespace.add(|ifindex| {
            let bare = bare_link(ifindex, link.name);
            let tunables = Tunables { options, ..bare.tunables };
            KernelLink { kind: Some(link.kind), mac: link.mac, lower, tunables, ..bare }
        });
        Ok(self.happened(Binding { ns, ifindex }))
    }

    /// A step of the daemon.
    pub fn apply(&mut self, step: &Step) -> Result<Applied, KernelError> {
        self.permit()?;
        if self.stubborn == Some(step.at) {
            return Err(refusal(libc::EBUSY));
        }
        let applied = self.act(step, true)?;
        self.applied.push(step.clone());
        Ok(applied)
    }

    /// The daemon makes a link.
    pub fn create_for_daemon(&mut self, new: &NewLink) -> Result<Vec<Made>, KernelError> {
        self.permit()?;
        let made = self.create(new)?;
        self.created.push(new.clone());
        made.into_iter().map(|at| self.found(at)).collect()
    }

    fn found(&mut self, at: Binding) -> Result<Made, KernelError> {
        Ok(Made { at, link: self.namespace(at.ns)?.link(at.ifindex).map(told) })
    }

    fn permit(&mut self) -> Result<(), KernelError> {
        if let Some(Some(error)) = self.armed.pop_front() {
            self.armed_get = self.hides_after_refusal.take();
            return Err(error);
        }
        if self.random.chance(self.refusal_percent) {
            return Err(refusal(libc::EBUSY));
        }
        Ok(())
    }

    /// Does what a step says, or refuses it and changes nothing.
    pub fn act(&mut self, step: &Step, is_told: bool) -> Result<Applied, KernelError> {
        let at = step.at;
        let namespace = self.namespace(at.ns)?;
        match &step.action {
            Action::Move { to, name } if *to != at.ns => {
                return self.move_link(at, *to, *name).map(|at| Applied { at });
            }
            Action::Delete => {
                namespace.check_deletable(at.ifindex)?;
                self.remove(at)?;
                return Ok(Applied { at });
            }
            Action::AddPort(port) => return self.set_master(at, *port, true),
            Action::DropPort(port) => return self.set_master(at, *port, false),
            Action::Rename(name) | Action::Move { name, .. } => {
                namespace.rename(at.ifindex, *name)?;
            }
            Action::AddAltName(name) => namespace.add_altname(at.ifindex, name)?,
            Action::DropAltName(name) => namespace.drop_altname(at.ifindex, name)?,
            Action::SetMtu(mtu) => self.set_mtu(at, *mtu)?,
            Action::SetUp(up) => self.set_up(at, *up)?,
            Action::SetMac(mac) => self.set_mac(at, *mac)?,
            Action::Set(property, value) => namespace.set(at.ifindex, *property, value)?,
            Action::SetOption(setting) => namespace.set_option(at.ifindex, setting)?,
            Action::SetMode(mode) => namespace.set_mode(at.ifindex, *mode)?,
        }
        if is_told {
            self.happened(at);
        }
        Ok(Applied { at })
    }

    /// A bond takes only links that are down, and puts them up.
    fn set_master(
        &mut self,
        at: Binding,
        port: IfIndex,
        is_to_be: bool,
    ) -> Result<Applied, KernelError> {
        let namespace = self.namespace(at.ns)?;
        let master = namespace.existing(at.ifindex)?.clone();
        let kind = master.kind.as_deref().and_then(LinkKind::of_kernel);
        let Some(kind) = kind.filter(|kind| kind.has_ports) else {
            return Err(refusal(libc::EOPNOTSUPP));
        };
        let link = namespace.existing(port)?;
        let is_other = is_to_be && link.master.is_some_and(|other| other != at.ifindex);
        if is_other || kind.kernel == "bond" && is_to_be && link.admin_up {
            return Err(refusal(libc::EBUSY));
        }
        if is_to_be && (port == at.ifindex || link.kind == master.kind) {
            return Err(refusal(libc::ELOOP));
        }
        link.master = is_to_be.then_some(at.ifindex);
        if kind.kernel == "bond" {
            namespace.set_up(port, is_to_be)?;
        }
        self.happened(Binding { ns: at.ns, ifindex: port });
        Ok(Applied { at })
    }

    /// A macvlan takes no larger packets than the link it lies over.
    fn set_mtu(&mut self, at: Binding, mtu: u32) -> Result<(), KernelError> {
        let link = self.namespace(at.ns)?.existing(at.ifindex)?.clone();
        let lower = link.lower.filter(|_| is_macvlan(&link)).map(|lower| place_of(at.ns, lower));
        let most = match lower {
            Some(lower) => self.namespace(lower.ns)?.existing(lower.ifindex)?.mtu,
            None => u32::MAX,
        };
        self.namespace(at.ns)?.set_mtu(at.ifindex, mtu, most)?;
        let mut shrunk = Vec::new();
        for (ns, namespace) in &mut self.namespaces {
            for upper in namespace.links_over(*ns, at).filter(|upper| is_macvlan(upper)) {
                if upper.mtu > mtu {
                    upper.mtu = mtu;
                    shrunk.push(Binding { ns: *ns, ifindex: upper.ifindex });
                }
            }
        }
        for at in shrunk {
            self.happened(at);
        }
        Ok(())
    }

    fn move_link(
        &mut self,
        at: Binding,
        to: NsCookie,
        name: LinkName,
    ) -> Result<Binding, KernelError> {
        let link = self.namespace(at.ns)?.check_movable(at.ifindex)?.clone();
        self.namespace(to)?.check_accepts(&link, &name)?;
        let arrives_under_it =
            link.name == name || self.namespace(to)?.has_name(link.name.as_bytes());
        if !arrives_under_it && link.altnames.iter().any(|altname| altname.is(&name)) {
            // The kernel moves the link under its old name where that is free, refuses to rename
            // it when it is there, and it comes back as it arrived.
            unsettle(self.namespace(at.ns)?.existing(at.ifindex)?);
            self.happened(at);
            return Err(refusal(libc::EEXIST));
        }
        let now = self.relocate(at, to, name)?;
        let moved_to = MovedTo { ns: Some(now.ns), nsid: nsid_of(now.ns), ifindex: now.ifindex };
        let left = Hint { went_down: true, moved_to: Some(moved_to), ..Hint::default() };
        self.tell(at, left);
        Ok(self.happened(now))
    }

    /// Moves a link whose name and alternative names are free there. What lies over it stays over
    /// it.
    fn relocate(
        &mut self,
        from: Binding,
        to: NsCookie,
        name: LinkName,
    ) -> Result<Binding, KernelError> {
        let changes_index = self.random.chance(INDEX_CHANGES);
        let mut link = self.namespace(from.ns)?.take(from.ifindex)?;
        link.lower = link.lower.map(|lower| seen_from(to, place_of(from.ns, lower)));
        let mut link = KernelLink { name, master: None, ..link };
        unsettle(&mut link);
        let ifindex = self.namespace(to)?.take_in(link, changes_index);
        let now = Binding { ns: to, ifindex };
        for (ns, namespace) in &mut self.namespaces {
            for upper in namespace.links_over(*ns, from) {
                upper.lower = Some(seen_from(*ns, now));
            }
        }
        Ok(now)
    }

    fn set_up(&mut self, at: Binding, up: bool) -> Result<(), KernelError> {
        let link = self.namespace(at.ns)?.existing(at.ifindex)?;
        if let (true, false, Some(mac)) = (up, link.admin_up, link.mac) {
            self.check_unused(at, mac)?;
        }
        self.namespace(at.ns)?.set_up(at.ifindex, up)
    }

    fn set_mac(&mut self, at: Binding, mac: HwAddr) -> Result<(), KernelError> {
        if self.namespace(at.ns)?.existing(at.ifindex)?.mac != Some(mac) {
            self.check_unused(at, mac)?;
        }
        self.namespace(at.ns)?.set_mac(at.ifindex, mac)
    }

    /// A macvlan takes no address that the link below has, or another one over that which is up.
    fn check_unused(&mut self, at: Binding, mac: HwAddr) -> Result<(), KernelError> {
        let link = self.namespace(at.ns)?.existing(at.ifindex)?;
        let Some(lower) = link.lower.filter(|_| is_macvlan(link)) else { return Ok(()) };
        let lower = place_of(at.ns, lower);
        let mut is_used = self.namespace(lower.ns)?.existing(lower.ifindex)?.mac == Some(mac);
        for (ns, namespace) in &mut self.namespaces {
            let mut beside = namespace.links_over(*ns, lower).filter(|other| is_macvlan(other));
            is_used |= beside.any(|other| {
                other.admin_up
                    && other.mac == Some(mac)
                    && (*ns, other.ifindex) != (at.ns, at.ifindex)
            });
        }
        if is_used { Err(refusal(libc::EADDRINUSE)) } else { Ok(()) }
    }

    /// What a macvlan over this link lies over: over another macvlan, the link below that.
    fn lowest(&mut self, over: Binding) -> Result<Binding, KernelError> {
        let link = self.namespace(over.ns)?.existing(over.ifindex)?;
        let below = link.lower.filter(|_| is_macvlan(link));
        Ok(below.map_or(over, |below| place_of(over.ns, below)))
    }

    /// Makes a link, and its peer.
    pub fn create(&mut self, new: &NewLink) -> Result<Vec<Binding>, KernelError> {
        self.namespace(new.ns)?.check_new(&new.name, new.mac, new.mtu)?;
        match &new.kind {
            NewKind::Veth { peer_ns, peer_name, peer_mac } => {
                self.namespace(*peer_ns)?.check_new(peer_name, *peer_mac, None)?;
                if (peer_ns, peer_name) == (&new.ns, &new.name) {
                    return Err(refusal(libc::EEXIST));
                }
                let link = self.add(new.ns, new.name, "veth", new.mac, new.mtu)?;
                let peer = self.add(*peer_ns, *peer_name, "veth", *peer_mac, None)?;
                self.put_over(link, peer)?;
                self.put_over(peer, link)?;
                Ok(vec![self.happened(link), self.happened(peer)])
            }
            NewKind::Single { settings, over } => {
                let kind = settings.kind();
                let over = match over {
                    Some(over) if kind.kernel == "macvlan" => Some(self.lowest(*over)?),
                    over => *over,
                };
                if let Some(over) = over.filter(|_| kind.kernel == "vlan") {
                    self.check_vlan_free(over, settings)?;
                }
                let lower_mtu = match over {
                    Some(over) => Some(self.namespace(over.ns)?.existing(over.ifindex)?.mtu),
                    None => None,
                };
                let mtu = new.mtu.or(lower_mtu);
                let link = self.add(new.ns, new.name, kind.kernel, new.mac, mtu)?;
                let made = self.namespace(new.ns)?.existing(link.ifindex)?;
                made.media = kind.media;
                // It says of a link what it calls it itself.
                let mut options = standards(LinkKind::of_kernel(kind.kernel).unwrap_or(kind));
                options.take(settings);
                made.tunables.options = Some(options);
                if let Some(over) = over {
                    self.put_over(link, over)?;
                }
                Ok(vec![self.happened(link)])
            }
        }
    }

    /// There is one link for a VLAN over another one, whatever it is used as and wherever it is.
    fn check_vlan_free(&mut self, over: Binding, wanted: &LinkOptions) -> Result<(), KernelError> {
        let vlan = |options: &LinkOptions| (options.value("vid"), options.value("protocol"));
        let is_taken = |link: &mut KernelLink| {
            let options = link.tunables.options.as_ref();
            options.is_some_and(|had| had.kind().kernel == "vlan" && vlan(had) == vlan(wanted))
        };
        let mut above =
            self.namespaces.iter_mut().flat_map(|(ns, namespace)| namespace.links_over(*ns, over));
        match above.any(is_taken) {
            true => Err(refusal_saying(libc::EEXIST, "VLAN device already exists")),
            false => Ok(()),
        }
    }

    fn add(
        &mut self,
        ns: NsCookie,
        name: LinkName,
        kind: &str,
        mac: Option<HwAddr>,
        mtu: Option<u32>,
    ) -> Result<Binding, KernelError> {
        let mac = mac.or_else(|| self.chance_mac());
        let ifindex = self.namespace(ns)?.add(|ifindex| {
            let bare = bare_link(ifindex, name);
            let mtu = mtu.unwrap_or(bare.mtu);
            KernelLink { kind: Some(kind.to_owned()), mac, mtu, ..bare }
        });
        Ok(Binding { ns, ifindex })
    }

    /// An address of those that nobody sells.
    fn chance_mac(&mut self) -> Option<HwAddr> {
        let mut address = self.random.next().to_be_bytes();
        address[0] = 0x02;
        HwAddr::new(&address[..6]).ok()
    }

    fn put_over(&mut self, upper: Binding, lower: Binding) -> Result<(), KernelError> {
        let link = self.namespace(upper.ns)?.existing(upper.ifindex)?;
        link.lower = Some(seen_from(upper.ns, lower));
        Ok(())
    }

    /// Takes out a link, its peer, and all that lie over them, wherever they are.
    pub fn remove(&mut self, at: Binding) -> Result<(), KernelError> {
        self.namespace(at.ns)?.take(at.ifindex)?;
        let mut ended = vec![at];
        let mut next = 0;
        while let Some(lower) = ended.get(next).copied() {
            for (ns, namespace) in &mut self.namespaces {
                let over = namespace.links_over(*ns, lower).map(|link| link.ifindex);
                for ifindex in over.collect::<Vec<_>>() {
                    namespace.take(ifindex)?;
                    ended.push(Binding { ns: *ns, ifindex });
                }
            }
            next += 1;
        }
        for at in ended {
            self.happened(at);
        }
        Ok(())
    }

    pub fn end_users(&mut self, ns: NsCookie) -> Result<(), KernelError> {
        self.namespace(ns)?.has_users = false;
        self.bury_the_dead();
        Ok(())
    }

    /// Namespaces that nobody uses or pins any more die.
    pub fn bury_the_dead(&mut self) {
        let unused = self.namespaces.iter().filter(|(_, namespace)| !namespace.has_users);
        let unused: Vec<NsCookie> = unused.map(|(ns, _)| *ns).collect();
        for ns in unused {
            let is_pinned = |view: &Weak<View>| view.upgrade().is_some_and(|v| v.is_pinned(ns));
            if !self.views.iter().any(is_pinned) {
                self.die(ns);
            }
        }
    }

    /// The death is told, and what it does elsewhere, but nothing of what was in the namespace.
    fn die(&mut self, ns: NsCookie) {
        self.tell_news(News::Ended(ns));
        if let Some(namespace) = self.namespaces.get_mut(&ns) {
            namespace.is_dying = true;
        }
        for link in self.links(ns).unwrap_or_default() {
            let at = Binding { ns, ifindex: link.ifindex };
            // What went with another one is gone already, and what is gone needs no burial.
            let _ = if is_hardware(&link) { self.fall_home(at) } else { self.remove(at) };
        }
        self.namespaces.remove(&ns);
    }

    /// Hardware keeps its name or becomes `dev<ifindex>`; alternative names that are taken go.
    fn fall_home(&mut self, at: Binding) -> Result<(), KernelError> {
        let link = self.namespace(at.ns)?.existing(at.ifindex)?.clone();
        let home = self.namespace(self.home)?;
        let name = home.name_for_fallen(&link);
        let altnames = link.altnames.into_iter().filter(|altname| !home.has_name(&altname.0));
        let altnames = altnames.collect();
        self.namespace(at.ns)?.existing(at.ifindex)?.altnames = altnames;
        let now = self.relocate(at, self.home, name)?;
        self.happened(now);
        Ok(())
    }

    /// Something happened to a link: daemons get to know, as well as the faults let them.
    pub fn happened(&mut self, at: Binding) -> Binding {
        let link = self.namespaces.get(&at.ns).and_then(|namespace| namespace.link(at.ifindex));
        let hint = Hint {
            went_down: link.is_some_and(|link| link.state == LinkState::Down),
            was_deleted: link.is_none(),
            is_over: link.is_none(),
            ..Hint::default()
        };
        self.tell(at, hint);
        at
    }

    fn tell(&mut self, at: Binding, hint: Hint) {
        if self.namespaces.get(&at.ns).is_none_or(|namespace| !namespace.is_dying) {
            self.tell_news(News::Link(at, hint));
        }
    }

    fn tell_news(&mut self, news: News) {
        let faults = self.hint_faults;
        if self.random.chance(faults.lost) {
            if !faults.losses_untold {
                self.tell_of_a_loss(news);
            }
        } else if self.holding_hints || self.random.chance(faults.delayed) {
            self.late_news.push(news.out_of_order());
        } else {
            self.deliver(news);
            if self.random.chance(faults.duplicated) {
                self.late_news.push(news.out_of_order());
            }
        }
        if !self.holding_hints && self.random.chance(50) {
            self.deliver_late_news();
        }
    }

    /// After a loss a daemon looks which namespaces are left, so it gets to know of deaths anyway.
    fn tell_of_a_loss(&mut self, lost: News) {
        if let News::Ended(_) = lost {
            self.deliver(lost);
        }
        self.each_view(|view| view.hints.push_overrun());
    }

    /// Whether there were any.
    pub fn deliver_late_news(&mut self) -> bool {
        if self.late_news.is_empty() {
            return false;
        }
        let chosen = self.random.below(self.late_news.len() as u64) as usize;
        let news = self.late_news.swap_remove(chosen);
        self.deliver(news);
        true
    }

    fn deliver(&mut self, news: News) {
        let home = self.home;
        self.each_view(|view| match news {
            News::Link(at, hint) => view.tell(home, at, hint),
            News::Ended(ns) => view.tell_ended(ns),
        });
    }

    fn each_view(&mut self, tell: impl Fn(&View)) {
        self.views.retain(|view| match view.upgrade() {
            Some(view) => {
                tell(&view);
                true
            }
            None => false,
        });
    }
}

fn is_macvlan(link: &KernelLink) -> bool {
    link.kind.as_deref() == Some("macvlan")
}

/// The number that home has for a namespace. Here every namespace has one, also home itself.
fn nsid_of(ns: NsCookie) -> i32 {
    i32::try_from(ns.0).unwrap_or(i32::MAX)
}

/// How a link in `ns` names the one it lies over.
fn seen_from(ns: NsCookie, lower: Binding) -> Lower {
    let elsewhere = (lower.ns != ns).then_some(lower.ns);
    Lower { ifindex: lower.ifindex, nsid: elsewhere.map(nsid_of), ns: elsewhere }
}
