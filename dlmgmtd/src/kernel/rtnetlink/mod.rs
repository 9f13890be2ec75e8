//! The real kernel, over rtnetlink.

mod bandwidth;
mod channel;
mod connection;
mod details;
mod device;
mod driver;
mod ethtool;
mod frame;
mod guard;
#[cfg(test)]
mod guard_tests;
mod inside;
mod kinds;
mod link;
mod listener;
mod namespace;
mod nftables;
mod numbers;
mod port;
mod request;
#[cfg(test)]
mod request_tests;
mod search;
#[cfg(test)]
pub(super) mod tests;
mod tun;
#[cfg(test)]
mod zone_tests;
mod zones;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::kind::{LinkOptions, Maker};
use dlmgmt_proto::property::{Property, Teller, Value};
use dlmgmt_proto::{IfIndex, LinkName, Topic};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::kernel::{
    Applied, Doorway, Dump, Hint, HintQueue, Kernel, KernelError, KernelFact, Made, NsOpener,
};
use crate::model::{
    Action, Binding, KernelLink, LinkMode, NewKind, NewLink, NsCookie, Readings, Settings, Step,
};

use connection::Connection;
use ethtool::Ethtool;
use inside::Inside;
use listener::Listener;
use namespace::Namespace;
use nftables::Nftables;
use request::Target;
use zones::{Zone, Zones};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

/// Bytes of notifications that can wait while a link is moved: all others of the namespace come
/// too, and a move takes long.
const MOVE_BUFFER: usize = 4 << 20;

/// The connection to the kernel cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot talk to the kernel about links: {0}")]
pub struct OpenError(#[from] io::Error);

/// The links of the calling thread's namespace. Blocks, and needs no privilege.
pub fn look_around() -> Result<Dump, KernelError> {
    Connection::open()?.dump(None)
}

/// Where datagrams are taken in that the kernel never sent.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) struct Intake(Arc<Zones>);

#[cfg(any(test, feature = "fuzzing"))]
impl Intake {
    /// Knows no namespace but that of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self(Arc::new(Zones::of_this_thread(NsCookie(1))?)))
    }

    /// Takes a datagram for a notification, and then for the answer to a request.
    pub(crate) async fn take_in(&self, datagram: &[u8], sequence: u32) {
        listener::hear_once(Arc::clone(&self.0), datagram, None).await;
        connection::take_for_an_answer(datagram, sequence);
    }
}

/// How to listen to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many bytes of notifications can wait to be heard; more are lost, which is noticed and
    /// costs a dump. A link takes about 2 KiB.
    pub notification_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { notification_buffer: 16 << 20 }
    }
}

/// The kernel, seen from the namespace of the thread that opened this.
pub struct RtnetlinkKernel {
    home: Namespace,
    zones: Arc<Zones>,
    hints: Arc<HintQueue>,
    listener: Listener,
    move_buffer: usize,
}

impl RtnetlinkKernel {
    /// Connects to the kernel in the namespace of the calling thread.
    ///
    /// Needs a tokio runtime. Everything that happens after this returns is in the hints.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_with(Options::default())
    }

    /// As [`RtnetlinkKernel::open`].
    pub fn open_with(options: Options) -> Result<Self, OpenError> {
        let home = Namespace::of_this_thread()?;
        let zones = Arc::new(Zones::of_this_thread(home.cookie())?);
        let hints = Arc::new(HintQueue::default());
        let buffer = options.notification_buffer;
        let listener = Listener::open(Arc::clone(&zones), Arc::clone(&hints), buffer)?;
        Ok(Self { home, zones, hints, listener, move_buffer: MOVE_BUFFER })
    }

    /// A watched namespace; `None` for home.
    fn zone(&self, ns: NsCookie) -> Result<Option<Zone>, KernelError> {
        if ns == self.home.cookie() { Ok(None) } else { self.zones.zone(ns).map(Some) }
    }

    /// Makes a request at home about a namespace, which the request names by its number.
    async fn request_about<T: Send + 'static>(
        &self,
        ns: NsCookie,
        request: impl FnOnce(&mut Connection, Option<i32>) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let zone = self.zone(ns)?;
        let nsid = zone.as_ref().map(|zone| zone.nsid);
        let answer = self.home.request(move |connection| request(connection, nsid)).await;
        answer.map_err(|refusal| self.explain(zone.as_ref(), refusal))
    }

    fn explain(&self, zone: Option<&Zone>, refusal: KernelError) -> KernelError {
        match zone {
            Some(zone) => self.zones.explain(zone, refusal),
            None => refusal,
        }
    }

    /// Makes a request in a namespace.
    async fn request_in<T: Send + 'static>(
        &self,
        ns: NsCookie,
        request: impl FnOnce(&mut Connection) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        match self.zone(ns)? {
            None => self.home.request(request).await,
            Some(zone) => blocking(move || request(&mut zone.enter()?.connection)).await,
        }
    }

    /// Opens a namespace, home too, with a connection for this purpose alone.
    async fn enter(&self, ns: NsCookie) -> Result<Inside, KernelError> {
        let zone = self.zone(ns)?;
        let home = self.zones.home_fd();
        blocking(move || match zone {
            Some(zone) => zone.enter(),
            None => Ok(Inside::enter(home)?),
        })
        .await
    }

    /// Makes a request to the drivers of the links of a namespace.
    async fn ask_driver<T: Send + 'static>(
        &self,
        ns: NsCookie,
        request: impl FnOnce(&mut Ethtool) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let zone = self.zone(ns)?;
        blocking(move || match zone {
            None => request(&mut Ethtool::open()?),
            Some(zone) => request(&mut zone.enter()?.ethtool()?),
        })
        .await
    }

    /// Makes a request about the rules for the links of a namespace.
    async fn with_rules<T: Send + 'static>(
        &self,
        ns: NsCookie,
        request: impl FnOnce(&mut Nftables, &mut Connection) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, KernelError> {
        match self.zone(ns)? {
            None => self.home.request(move |links| request(&mut Nftables::open()?, links)).await,
            Some(zone) => {
                let work = move || {
                    let mut inside = zone.enter()?;
                    request(&mut inside.nftables()?, &mut inside.connection)
                };
                blocking(work).await
            }
        }
    }

    /// Changes a link by a request in its namespace.
    async fn change(&self, step: Step) -> Result<(), KernelError> {
        self.request_in(step.at.ns, move |connection| connection.apply(&step)).await
    }

    /// How a request made in the namespace `from` names the namespace `to`.
    async fn target(&self, from: NsCookie, to: NsCookie) -> Result<Target, KernelError> {
        match self.zone(to)? {
            None => Ok(Target::Open(self.zones.home_fd())),
            Some(zone) => match zone.by_number().filter(|_| from == self.home.cookie()) {
                Some(by_number) => Ok(by_number),
                None => Ok(Target::Open(self.enter(to).await?.fd)),
            },
        }
    }

    async fn move_link(
        &self,
        at: Binding,
        to: NsCookie,
        name: LinkName,
    ) -> Result<Binding, KernelError> {
        let target = self.target(at.ns, to).await?;
        self.check_free(to, name).await?;
        let mut inside = self.enter(at.ns).await?;
        let request = request::move_to(at.ifindex, &target, &name)?;
        let buffer = self.move_buffer;
        let (moved, now) = blocking(move || {
            // The target stays open until the link is there.
            let _target = target;
            Ok(inside.connection.move_away(at.ifindex, request, buffer))
        })
        .await?;
        match (moved, now) {
            (Ok(()), Some(ifindex)) => Ok(Binding { ns: to, ifindex }),
            (Ok(()), None) => self.named(to, name).await,
            (Err(refusal), Some(ifindex)) => {
                self.move_back(Binding { ns: to, ifindex }, at).await;
                Err(refusal)
            }
            (Err(lost), None) if lost.errno == libc::ENOBUFS => {
                self.moved_unheard(at, to, name, lost).await
            }
            (Err(refusal), None) => Err(refusal),
        }
    }

    /// How a move ended whose answer was `lost` among notifications.
    async fn moved_unheard(
        &self,
        at: Binding,
        to: NsCookie,
        name: LinkName,
        lost: KernelError,
    ) -> Result<Binding, KernelError> {
        match self.get(at.ns, at.ifindex).await? {
            Some(_) => Err(lost),
            None => self.named(to, name).await,
        }
    }

    /// The kernel moves a link first and renames it then: if the name is taken, the link is in the
    /// other namespace, under its old name, and the answer is a refusal. So it is looked first.
    async fn check_free(&self, ns: NsCookie, name: LinkName) -> Result<(), KernelError> {
        let taken =
            self.request_about(ns, move |connection, nsid| connection.find_named(nsid, &name));
        if taken.await?.is_none() {
            return Ok(());
        }
        let text = format!("a link of the name {name} exists in the target namespace");
        Err(KernelError { errno: libc::EEXIST, text: Some(text) })
    }

    /// Undoes a move that stopped half-way because the name was taken just then.
    async fn move_back(&self, now: Binding, old: Binding) {
        let undone = async {
            let target = self.target(now.ns, old.ns).await?;
            let request = request::move_back(now.ifindex, &target, old.ifindex)?;
            let buffer = self.move_buffer;
            let mut inside = self.enter(now.ns).await?;
            blocking(move || {
                let _target = target;
                inside.connection.move_away(now.ifindex, request, buffer).0
            })
            .await
        };
        if let Err(why) = undone.await {
            tracing::error!("a link that was not to be moved stays where it was moved to: {why}");
        }
    }

    /// The kernel names the namespace of a lower link by a number; only here is it known which one
    /// that is.
    fn place_lower(&self, link: &mut KernelLink) {
        if let Some(lower) = link.lower.as_mut().filter(|lower| lower.nsid.is_some()) {
            lower.ns = self.zones.of_number(lower.nsid);
        }
    }

    /// A link that the kernel makes for who opens a device, and then gives its address.
    async fn create_tun(
        &self,
        new: &NewLink,
        options: &LinkOptions,
    ) -> Result<Vec<Made>, KernelError> {
        let (name, options) = (new.name, options.clone());
        let mac = request::mac_of(new, options.kind());
        let inside = self.enter(new.ns).await?;
        let made = blocking(move || {
            let Inside { fd, mut connection, .. } = inside;
            tun::make(&fd, name, &options)?;
            let found = connection.find_named(None, &name)?.ok_or_else(gone_already)?;
            let addressed = match mac {
                Some(mac) => connection.set_address(found.ifindex, mac),
                None => Ok(()),
            };
            match addressed {
                Ok(()) => connection.get(None, found.ifindex).map(|link| (found.ifindex, link)),
                Err(refusal) => {
                    connection.delete(None, found.ifindex)?;
                    Err(refusal)
                }
            }
        });
        let (ifindex, link) = made.await?;
        Ok(vec![Made { at: Binding { ns: new.ns, ifindex }, link }])
    }

    /// Kernels before 6.15 refuse a name that is taken where the request is made, though the link is
    /// to be elsewhere. They look only for the index where one is given.
    async fn create_by_message(&self, new: &NewLink) -> Result<Vec<Made>, KernelError> {
        match self.create_numbered(new, None).await {
            Err(refusal)
                if refusal.errno == libc::EEXIST
                    && new.other_side() != new.ns
                    && self.check_free(new.ns, new.name).await.is_ok() =>
            {
                self.create_numbered(new, index_by_chance()).await
            }
            answer => answer,
        }
    }

    /// Makes a link under this index, or under one that the kernel chooses.
    async fn create_numbered(
        &self,
        new: &NewLink,
        index: Option<IfIndex>,
    ) -> Result<Vec<Made>, KernelError> {
        let from = new.other_side();
        let target = match from == new.ns {
            true => None,
            false => Some(self.target(from, new.ns).await?),
        };
        let zones = [self.zone(new.ns)?, self.zone(from)?];
        let refused_in = zones[0].clone();
        let nsid_of = move |ns: NsCookie| {
            zones.iter().flatten().find(|zone| zone.cookie == ns).map(|zone| zone.nsid)
        };
        let (new, sought) = (new.clone(), Sought::of(new, self.home()));
        if from == self.home() {
            let made = self.home.request_here(move |connection| {
                sought.make(&new, connection, target.as_ref(), index, nsid_of)
            });
            made.await.map_err(|refusal| self.explain(refused_in.as_ref(), refusal))
        } else {
            let wanted = new.clone();
            let make = move |connection: &mut Connection| {
                connection.create(&wanted, target.as_ref(), index)
            };
            self.request_in(from, make).await?;
            self.home.request(move |connection| sought.find(&new, connection, nsid_of)).await
        }
    }

    /// Every link of a watched namespace, seen from home. A part of a dump has room for as much as a
    /// link at home tells of itself: where one elsewhere tells more, the dump ends, and newer kernels
    /// say nothing of it. So which links there are is asked inside, if that can be entered, and those
    /// that the dump lacks are looked at one by one.
    async fn dump_elsewhere(&self, ns: NsCookie) -> Result<Dump, KernelError> {
        let listed = self.request_in(ns, Connection::indexes).await;
        let dumped = self.request_about(ns, |connection, nsid| connection.dump(nsid)).await;
        let (mut dump, listed) = match (dumped, listed) {
            (dumped, Err(why)) if why.is_no_namespace() => return dumped,
            (_, Err(why)) => return Err(why),
            (Err(why), Ok(listed)) if why.errno == libc::EMSGSIZE => {
                (Dump { links: Vec::new(), is_consistent: true }, listed)
            }
            (dumped, Ok(listed)) => (dumped?, listed),
        };
        let seen: BTreeSet<IfIndex> = dump.links.iter().map(|link| link.ifindex).collect();
        let lacking: Vec<IfIndex> = listed.difference(&seen).copied().collect();
        if !lacking.is_empty() {
            let look = move |connection: &mut Connection, nsid| {
                lacking.iter().map(|ifindex| connection.get(nsid, *ifindex)).collect()
            };
            let found: Vec<Option<KernelLink>> = self.request_about(ns, look).await?;
            dump.links.extend(found.into_iter().flatten());
            dump.links.sort_by_key(|link| link.ifindex);
        }
        Ok(dump)
    }

    /// Where the link of a name is.
    async fn named(&self, ns: NsCookie, name: LinkName) -> Result<Binding, KernelError> {
        let found =
            self.request_about(ns, move |connection, nsid| connection.find_named(nsid, &name));
        let link = found.await?.ok_or_else(gone_already)?;
        Ok(Binding { ns, ifindex: link.ifindex })
    }
}

/// Does what blocks on a thread for it. Once begun, it runs to its end.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, KernelError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|why| {
        Err(KernelError { errno: libc::ECANCELED, text: Some(why.to_string()) })
    })
}

/// As [`blocking`], on this thread: the way to another one and back takes long beside a request that
/// is to be quick. Where all tasks have one thread they wait meanwhile, as they would for the
/// kernel's lock; otherwise another thread takes them over.
async fn blocking_here<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, KernelError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => blocking(work).await,
    }
}

fn is_of_driver(property: Property) -> bool {
    property.description().applies.told_by == Teller::Driver
}

/// A driver that fails hides no other's answer.
fn link_modes(drivers: &mut Ethtool, links: &[IfIndex]) -> Vec<LinkMode> {
    let mode = |ifindex: &IfIndex| {
        drivers.link_mode(*ifindex).unwrap_or_else(|why| {
            tracing::debug!("the driver of the link with index {ifindex} fails: {why}");
            LinkMode::default()
        })
    };
    links.iter().map(mode).collect()
}

fn find_numbered(connection: &mut Connection, nsid: i32) -> Result<Option<Doorway>, KernelError> {
    for (place, ns) in search::namespaces() {
        if connection.number_of(ns.as_fd())? == Some(nsid) {
            let pid = search::process_of(&place);
            let opener = Arc::new(move || Ok(File::open(&place)?.into()));
            return Ok(Some(Doorway { ns, opener, pid }));
        }
    }
    Ok(None)
}

/// An index that no link is likely to have in any namespace: the kernel counts from 1.
fn index_by_chance() -> Option<IfIndex> {
    IfIndex::new(fastrand::u32(1 << 24..1 << 31))
}

fn gone_already() -> KernelError {
    let text = "the link is there no more under its new name".to_owned();
    KernelError { errno: libc::ENODEV, text: Some(text) }
}

/// The end of a new link by which it is looked for.
struct Sought {
    ns: NsCookie,
    name: LinkName,
    is_peer: bool,
}

impl Sought {
    /// It is the one at home, if one is there, because in other namespaces somebody may be quick
    /// to give its name to another link.
    fn of(new: &NewLink, home: NsCookie) -> Self {
        match &new.kind {
            NewKind::Veth { peer_ns, peer_name, .. } if *peer_ns == home => {
                Self { ns: home, name: *peer_name, is_peer: true }
            }
            _ => Self { ns: new.ns, name: new.name, is_peer: false },
        }
    }

    /// Where the new link is, and its peer, if this is what was found.
    fn bindings(&self, new: &NewLink, found: &KernelLink) -> Option<Vec<Binding>> {
        let found_at = Binding { ns: self.ns, ifindex: found.ifindex };
        match (&new.kind, found.kind.as_deref()) {
            (NewKind::Single { settings, .. }, Some(kind)) if kind == settings.kind().kernel => {
                Some(vec![found_at])
            }
            (NewKind::Veth { peer_ns, .. }, Some("veth")) => {
                let ifindex = found.lower?.ifindex;
                Some(match self.is_peer {
                    true => vec![Binding { ns: new.ns, ifindex }, found_at],
                    false => vec![found_at, Binding { ns: *peer_ns, ifindex }],
                })
            }
            _ => None,
        }
    }

    /// Makes the link from home, and finds it and its peer.
    fn make(
        &self,
        new: &NewLink,
        connection: &mut Connection,
        target: Option<&Target>,
        index: Option<IfIndex>,
        nsid_of: impl Fn(NsCookie) -> Option<i32>,
    ) -> Result<Vec<Made>, KernelError> {
        let NewKind::Veth { peer_ns, peer_name, .. } = &new.kind else {
            connection.create(new, target, index)?;
            return self.find(new, connection, nsid_of);
        };
        let ends = [(nsid_of(new.ns), new.name), (nsid_of(*peer_ns), *peer_name)];
        // Whoever makes a pair from home has its peer there, which is the end that is looked for.
        match connection.create_pair(new, target, index, ends)? {
            [other, Some(found)] => self.made(new, found, other, connection, nsid_of),
            [_, None] => self.find(new, connection, nsid_of),
        }
    }

    /// Finds the new link, and its peer, where `nsid_of` tells the number of its namespace.
    fn find(
        &self,
        new: &NewLink,
        connection: &mut Connection,
        nsid_of: impl Fn(NsCookie) -> Option<i32>,
    ) -> Result<Vec<Made>, KernelError> {
        let found =
            connection.find_named(nsid_of(self.ns), &self.name)?.ok_or_else(gone_already)?;
        self.made(new, found, None, connection, nsid_of)
    }

    /// The new link, and its peer, of which one end was `found`. The `other` one is what has its
    /// name, and may be another link by now.
    fn made(
        &self,
        new: &NewLink,
        found: KernelLink,
        mut other: Option<KernelLink>,
        connection: &mut Connection,
        nsid_of: impl Fn(NsCookie) -> Option<i32>,
    ) -> Result<Vec<Made>, KernelError> {
        let ends = self.bindings(new, &found).ok_or_else(gone_already)?;
        let made = ends.into_iter().map(|at| {
            let is_found = (at.ns, at.ifindex) == (self.ns, found.ifindex);
            let link = match is_found {
                true => Some(found.clone()),
                // It is made all the same, so what goes wrong now is no refusal.
                false => other
                    .take_if(|other| other.ifindex == at.ifindex)
                    .or_else(|| connection.get(nsid_of(at.ns), at.ifindex).ok().flatten()),
            };
            Made { at, link }
        });
        Ok(made.collect())
    }
}

#[async_trait]
impl Kernel for RtnetlinkKernel {
    fn home(&self) -> NsCookie {
        self.home.cookie()
    }

    async fn dump(&self, ns: NsCookie) -> Result<Dump, KernelError> {
        let mut dump = match ns == self.home() {
            true => self.home.request(|connection| connection.dump(None)).await?,
            false => self.dump_elsewhere(ns).await?,
        };
        dump.links.iter_mut().for_each(|link| self.place_lower(link));
        Ok(dump)
    }

    async fn get(&self, ns: NsCookie, ifindex: IfIndex) -> Result<Option<KernelLink>, KernelError> {
        let found = self.request_about(ns, move |connection, nsid| connection.get(nsid, ifindex));
        let mut found = found.await?;
        found.iter_mut().for_each(|link| self.place_lower(link));
        Ok(found)
    }

    async fn addresses(&self, at: Binding) -> Result<Vec<String>, KernelError> {
        self.request_about(at.ns, move |connection, nsid| connection.addresses(at.ifindex, nsid))
            .await
    }

    async fn readings(&self, at: Binding) -> Result<Readings, KernelError> {
        // A driver that does not answer hides nothing else, and a kernel may have no queues.
        let driven = self.ask_driver(at.ns, move |driver| driver.readings(at.ifindex)).await;
        let mut readings = driven.unwrap_or_default();
        let limit = self.request_in(at.ns, move |connection| connection.limit(at.ifindex)).await;
        match limit {
            Ok(limit) => readings.values.insert(Property::MaxBw, Value::Number(limit)),
            Err(why) if why.errno == libc::EOPNOTSUPP => {}
            Err(why) => return Err(why),
        }
        let guarded =
            self.with_rules(at.ns, move |rules, links| match links.get(None, at.ifindex)? {
                Some(link) => guard::readings(rules, &link),
                None => Ok(Settings::default()),
            });
        match guarded.await {
            Ok(guarded) => readings.values = guarded.over(&readings.values),
            // Rules, unlike all else, are told to nobody without privilege.
            Err(why) if guard::is_missing(&why) || why.errno == libc::EPERM => {}
            Err(why) => return Err(why),
        }
        let ask = move |connection: &mut Connection, nsid| connection.options(nsid, at.ifindex);
        readings.options = self.request_about(at.ns, ask).await?;
        Ok(readings)
    }

    async fn inspect(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
        topics: &[Topic],
    ) -> Result<Vec<Vec<KernelFact>>, KernelError> {
        let (links, topics) = (links.to_vec(), topics.to_vec());
        self.request_about(ns, move |connection, nsid| {
            links.iter().map(|ifindex| connection.inspect(nsid, *ifindex, &topics)).collect()
        })
        .await
    }

    async fn link_modes(
        &self,
        ns: NsCookie,
        links: &[IfIndex],
    ) -> Result<Vec<LinkMode>, KernelError> {
        let (zone, links) = (self.zone(ns)?, links.to_vec());
        blocking(move || {
            let drivers = match zone {
                None => Ethtool::open(),
                Some(zone) => zone.enter()?.ethtool(),
            };
            match drivers {
                Err(why) if ethtool::is_missing(&why) => Ok(vec![LinkMode::default(); links.len()]),
                drivers => Ok(link_modes(&mut drivers?, &links)),
            }
        })
        .await
    }

    async fn apply(&self, step: &Step) -> Result<Applied, KernelError> {
        let at = step.at;
        match step.action.clone() {
            Action::Move { to, name } if to != at.ns => {
                return self.move_link(at, to, name).await.map(|at| Applied { at });
            }
            Action::Move { name, .. } => {
                return self.apply(&Step { at, action: Action::Rename(name) }).await;
            }
            Action::SetMode(mode) => {
                self.ask_driver(at.ns, move |driver| driver.set_mode(at.ifindex, mode)).await?;
            }
            Action::Set(property, value) if is_of_driver(property) => {
                let set = move |driver: &mut Ethtool| driver.set(at.ifindex, property, &value);
                self.ask_driver(at.ns, set).await?;
            }
            Action::Set(property, value) if guard::is_for(property) => {
                let set = move |rules: &mut Nftables, links: &mut Connection| {
                    let link = links.get(None, at.ifindex)?.ok_or_else(gone_already)?;
                    guard::set(rules, &link, property, &value)
                };
                self.with_rules(at.ns, set).await?;
            }
            Action::Delete if self.zone(at.ns)?.is_none_or(|zone| zone.has_sure_number()) => {
                self.request_about(at.ns, move |links, nsid| links.delete(nsid, at.ifindex))
                    .await?;
            }
            Action::AddAltName(_) | Action::DropAltName(_) => {
                self.change(step.clone()).await?;
                // The kernel tells of the alternative names of a link only while that is up.
                self.hints.push(at, Hint::default());
            }
            _ => self.change(step.clone()).await?,
        }
        Ok(Applied { at })
    }

    async fn renew_rules(&self, at: Binding) -> Result<(), KernelError> {
        let follow = move |rules: &mut Nftables, links: &mut Connection| {
            guard::follow(rules, links, at.ifindex)
        };
        match self.with_rules(at.ns, follow).await {
            Err(why) if guard::is_missing(&why) => Ok(()),
            renewed => renewed,
        }
    }

    async fn clear_rules(&self, at: Binding) -> Result<(), KernelError> {
        self.with_rules(at.ns, move |rules, _| guard::clear(rules, at.ifindex)).await
    }

    async fn create(&self, new: &NewLink) -> Result<Vec<Made>, KernelError> {
        let mut made = match &new.kind {
            NewKind::Single { settings, .. } if settings.kind().maker == Maker::Tun => {
                self.create_tun(new, settings).await?
            }
            _ => self.create_by_message(new).await?,
        };
        made.iter_mut().filter_map(|made| made.link.as_mut()).for_each(|it| self.place_lower(it));
        Ok(made)
    }

    async fn watch(&self, ns: OwnedFd, opener: NsOpener) -> Result<NsCookie, KernelError> {
        if !self.listener.hears_zones {
            let text = "other namespaces cannot be heard without CAP_NET_BROADCAST".to_owned();
            return Err(KernelError { errno: libc::EPERM, text: Some(text) });
        }
        let zones = Arc::clone(&self.zones);
        blocking(move || zones.watch(ns, opener)).await
    }

    async fn unwatch(&self, ns: NsCookie) {
        self.zones.unwatch(ns);
    }

    async fn open(&self, ns: NsCookie) -> Result<OwnedFd, KernelError> {
        let fd = match self.zone(ns)? {
            None => self.zones.home_fd(),
            Some(zone) => blocking(move || zone.enter()).await?.fd,
        };
        Ok(fd.try_clone()?)
    }

    async fn pin(&self, ns: NsCookie) -> Result<(), KernelError> {
        let zones = Arc::clone(&self.zones);
        blocking(move || zones.pin(ns)).await
    }

    fn unpin(&self, ns: NsCookie) {
        self.zones.unpin(ns);
    }

    async fn find(&self, nsid: i32) -> Result<Option<Doorway>, KernelError> {
        self.home.request(move |connection| find_numbered(connection, nsid)).await
    }

    fn hints(&self) -> &HintQueue {
        &self.hints
    }
}
