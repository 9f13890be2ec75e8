//! The real kernel with more than one namespace: each test has a home and others of its own.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use dlmgmt_proto::kind::{LinkKind, LinkOptions};
use dlmgmt_proto::{FactValue, HwAddr, Topic};

use super::tests::{altname, in_new_namespace, ip, name};
use super::*;
use crate::kernel::{HintBatch, KernelFact, KernelValue, MovedTo};
use crate::sys;

type Work = Box<dyn FnOnce() + Send>;

/// A namespace without a name, which one thread alone keeps alive until this is dropped.
struct Other {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    place: PathBuf,
}

impl Other {
    fn new() -> Self {
        let (work, to_do) = mpsc::channel::<Work>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            sys::enter_new_network_namespace().unwrap();
            let id = rustix::thread::gettid().as_raw_nonzero();
            tell.send(PathBuf::from(format!("/proc/self/task/{id}/ns/net"))).unwrap();
            to_do.into_iter().for_each(|work| work());
        });
        Self { work: Some(work), thread: Some(thread), place: told.recv().unwrap() }
    }

    /// Does something inside, and waits until it is done.
    fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let work: Work = Box::new(move || tell.send(act()).unwrap());
        self.work.as_ref().unwrap().send(work).unwrap();
        told.recv().unwrap()
    }

    fn ip(&self, command: &'static str) {
        self.inside(move || ip(command));
    }

    fn open(&self) -> OwnedFd {
        File::open(&self.place).unwrap().into()
    }

    fn opener(&self) -> NsOpener {
        let place = self.place.clone();
        Arc::new(move || Ok(File::open(&place)?.into()))
    }

    async fn watched_by(&self, kernel: &RtnetlinkKernel) -> NsCookie {
        kernel.watch(self.open(), self.opener()).await.unwrap()
    }

    /// `ip` at home, where `NS` in the command stands for this namespace.
    fn ip_naming_it(&self, command: &str) {
        let fd = self.open();
        // `ip` opens the path itself, so the descriptor must be one that it inherits.
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        ip(&command.replace("NS", &place));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.work.take();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn no_opener() -> NsOpener {
    Arc::new(|| Err(io::ErrorKind::NotFound.into()))
}

fn mac(text: &str) -> HwAddr {
    text.parse().unwrap()
}

impl RtnetlinkKernel {
    async fn link_in(&self, ns: NsCookie, called: &str) -> Option<KernelLink> {
        self.dump(ns).await.unwrap().links.into_iter().find(|link| link.name == name(called))
    }

    async fn at_in(&self, ns: NsCookie, called: &str) -> Binding {
        let link = self.link_in(ns, called).await;
        Binding { ns, ifindex: link.unwrap_or_else(|| panic!("no link {called}")).ifindex }
    }

    /// Where a new link is, and its peer, once it was seen that they are as the answer tells.
    async fn made(&self, new: &NewLink) -> Vec<Binding> {
        let made = self.create(new).await.unwrap();
        for Made { at, link } in &made {
            assert_eq!(self.get(at.ns, at.ifindex).await.unwrap(), *link);
        }
        made.iter().map(|made| made.at).collect()
    }

    async fn names_in(&self, ns: NsCookie) -> Vec<String> {
        self.dump(ns).await.unwrap().links.iter().map(|link| link.name.to_string()).collect()
    }

    async fn move_to(
        &self,
        at: Binding,
        to: NsCookie,
        called: &str,
    ) -> Result<Binding, KernelError> {
        let action = Action::Move { to, name: name(called) };
        Ok(self.apply(&Step { at, action }).await?.at)
    }

    /// The hints until `is_enough` of them are there.
    async fn hints_until(&self, is_enough: impl Fn(&HintBatch) -> bool) -> HintBatch {
        let mut all = HintBatch::default();
        while !is_enough(&all) {
            let batch = self.hints().take().await;
            all.overrun |= batch.overrun;
            all.ended.extend(batch.ended);
            all.links.extend(batch.links);
        }
        all
    }

    /// Waits until home is empty: a death is told before the peers of what was there end.
    async fn nothing_is_left(&self) {
        while self.names_in(self.home()).await != ["lo"] {
            tokio::task::yield_now().await;
        }
    }

    /// All hints that the kernel has told by now, forgotten.
    async fn forget_hints(&self) {
        let marker = name("marker");
        ip("link add marker type bridge");
        let at = Binding { ns: self.home(), ifindex: self.find(marker).await.unwrap().ifindex };
        ip("link del marker");
        self.hints_until(|batch| batch.links.get(&at).is_some_and(|hint| hint.was_deleted)).await;
    }
}

fn veth(ns: NsCookie, called: &str, peer_ns: NsCookie, peer: &str) -> NewLink {
    let kind = NewKind::Veth { peer_ns, peer_name: name(peer), peer_mac: None };
    NewLink { ns, name: name(called), mac: None, mtu: None, kind }
}

fn macvlan(ns: NsCookie, called: &str, over: Binding) -> NewLink {
    let settings = LinkOptions::none(LinkKind::named("macvlan").unwrap());
    let kind = NewKind::Single { settings, over: Some(over) };
    NewLink { ns, name: name(called), mac: None, mtu: None, kind }
}

#[test]
fn the_links_of_a_watched_namespace_are_shown_and_what_others_do_to_them_is_hinted() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        assert_eq!(other.watched_by(&kernel).await, ns);
        assert_eq!(kernel.names_in(ns).await, ["lo"]);

        other.ip("link add left mtu 1400 type veth peer name right");
        let left = kernel.link_in(ns, "left").await.unwrap();
        assert_eq!((left.kind.as_deref(), left.mtu), (Some("veth"), 1400));
        assert_eq!(kernel.get(ns, left.ifindex).await, Ok(Some(left.clone())));
        let at = Binding { ns, ifindex: left.ifindex };
        kernel.hints_until(|batch| batch.links.contains_key(&at)).await;
        other.ip("link del left");
        let batch = kernel.hints_until(|b| b.links.get(&at).is_some_and(|h| h.was_deleted)).await;
        assert_eq!(batch.links[&at].moved_to, None);
        assert!(batch.links.keys().all(|at| at.ns == ns), "home had no part in it");
        assert_eq!(kernel.get(ns, left.ifindex).await, Ok(None));
    });
}

#[test]
fn a_link_with_more_names_than_any_at_home_hides_none_of_its_namespace() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        other.ip("link add left type veth peer name right");
        let before = kernel.dump(ns).await.unwrap();
        let lo = kernel.at_in(ns, "lo").await;
        // Together they take more room than the kernel has for a part of any dump by itself.
        let names: Vec<_> = (0..260).map(|n| altname(&format!("{n:0>127}"))).collect();
        for name in &names {
            kernel.act(lo, Action::AddAltName(name.clone())).await.unwrap();
        }
        let mut after = kernel.dump(ns).await.unwrap();
        let seen = after.links.iter_mut().find(|link| link.ifindex == lo.ifindex).unwrap();
        assert_eq!(std::mem::take(&mut seen.altnames), names);
        assert_eq!(after, before);
    });
}

#[test]
fn home_is_heard_as_before_though_others_are_watched() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        let both = kernel.made(&veth(ns, "in", kernel.home(), "out")).await;
        // To show the one needs the number of home, which the kernel would give now.
        assert!(kernel.link_in(ns, "in").await.unwrap().lower.unwrap().nsid.is_some());
        kernel.forget_hints().await;
        ip("link set out mtu 1400");
        let batch = kernel.hints_until(|batch| batch.links.contains_key(&both[1])).await;
        assert!(!batch.overrun);
    });
}

#[test]
fn a_link_in_a_watched_namespace_is_changed_in_every_way() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        // Here every index is also one at home, of a link that must not change.
        ip("link add left type veth peer name right");
        other.ip("link add left type veth peer name right");
        let at_home = kernel.links().await;
        let at = kernel.at_in(ns, "left").await;
        for action in [
            Action::Rename(name("new")),
            Action::AddAltName(altname("uplink")),
            Action::AddAltName(altname("a name of more than 15 bytes")),
            Action::DropAltName(altname("uplink")),
            Action::SetMtu(1300),
            Action::SetMac(mac("02:00:00:00:00:05")),
            Action::SetUp(true),
        ] {
            kernel.forget_hints().await;
            assert_eq!(kernel.act(at, action.clone()).await, Ok(Applied { at }), "{action:?}");
            kernel.hints_until(|batch| batch.links.contains_key(&at)).await;
        }
        let link = kernel.get(ns, at.ifindex).await.unwrap().unwrap();
        assert_eq!((link.name, link.mtu, link.admin_up), (name("new"), 1300, true));
        assert_eq!(link.mac, Some(mac("02:00:00:00:00:05")));
        assert_eq!(link.altnames, [altname("a name of more than 15 bytes")]);
        kernel.act(at, Action::SetUp(false)).await.unwrap();
        assert!(!kernel.get(ns, at.ifindex).await.unwrap().unwrap().admin_up);
        kernel.act(at, Action::Delete).await.unwrap();
        assert_eq!(kernel.names_in(ns).await, ["lo"]);
        assert_eq!(kernel.links().await, at_home);
    });
}

#[test]
fn a_link_goes_and_comes_home_with_all_but_its_admin_state() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add left address 02:00:00:00:00:01 mtu 1400 type veth peer name right");
        ip("link property add dev left altname alpha altname zeta");
        ip("link set left up");
        // The index that it has is taken there.
        other.ip("link add mine type veth peer name yours");
        let home = kernel.link("left").await;
        let at = kernel.at("left").await;

        let there = kernel.move_to(at, ns, "eth0").await.unwrap();
        assert_eq!(there.ns, ns);
        assert_ne!(there.ifindex, at.ifindex);
        let lent = kernel.get(ns, there.ifindex).await.unwrap().unwrap();
        let kept = |link: &KernelLink| (link.mac, link.mtu, link.altnames.clone());
        assert_eq!((lent.name, lent.admin_up), (name("eth0"), false));
        assert_eq!(kept(&lent), kept(&home));
        let batch = kernel.hints_until(|batch| batch.links.contains_key(&there)).await;
        let moved_to = batch.links[&at].moved_to.unwrap();
        assert_eq!((moved_to.ns, moved_to.ifindex), (Some(ns), there.ifindex));
        assert!(!batch.links[&at].was_deleted);

        let back = kernel.move_to(there, kernel.home(), "left").await.unwrap();
        let returned = kernel.get(kernel.home(), back.ifindex).await.unwrap().unwrap();
        assert_eq!((returned.name, returned.admin_up), (name("left"), false));
        assert_eq!(kept(&returned), kept(&home));
        assert_eq!(kernel.names_in(ns).await, ["lo", "yours", "mine"]);
    });
}

#[test]
fn a_link_goes_from_one_watched_namespace_to_another() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let (one, two) = (Other::new(), Other::new());
        let (from, to) = (one.watched_by(&kernel).await, two.watched_by(&kernel).await);
        one.ip("link add left type veth peer name right");
        let at = kernel.at_in(from, "left").await;
        let now = kernel.move_to(at, to, "eth0").await.unwrap();
        assert_eq!(kernel.at_in(to, "eth0").await, now);
        let batch = kernel.hints_until(|b| b.links.get(&at).is_some_and(|h| h.moved_to.is_some()));
        let moved_to = batch.await.links[&at].moved_to.unwrap();
        assert_eq!((moved_to.ns, moved_to.ifindex), (Some(to), now.ifindex));
    });
}

#[test]
fn a_refused_move_changes_nothing_and_says_why() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add stub type bridge");
        ip("link add left type veth peer name right");
        ip("link property add dev left altname alpha");
        ip("link set left up");
        other.ip("link add taken type veth peer name other");
        other.ip("link property add dev taken altname alias");
        let (at_home, there) = (kernel.links().await, kernel.dump(ns).await.unwrap());

        let stub = kernel.at("stub").await;
        let pinned = kernel.move_to(stub, ns, "stub").await.unwrap_err();
        assert_eq!(pinned.errno, libc::EINVAL);
        assert_eq!(pinned.text.as_deref(), Some("The interface netns is immutable"));
        let left = kernel.at("left").await;
        for taken in ["taken", "alias"] {
            let refusal = kernel.move_to(left, ns, taken).await.unwrap_err();
            assert_eq!(refusal.errno, libc::EEXIST, "{taken}");
            assert!(refusal.text.unwrap().contains(taken));
        }
        other.ip("link property add dev taken altname alpha");
        let refusal = kernel.move_to(left, ns, "eth0").await.unwrap_err();
        assert_eq!(refusal.errno, libc::EEXIST);
        assert!(refusal.text.unwrap().contains("alpha"));
        other.ip("link property del dev taken altname alpha");
        assert_eq!(kernel.links().await, at_home);
        assert_eq!(kernel.dump(ns).await.unwrap(), there);
    });
}

#[test]
fn a_move_that_stops_half_way_is_undone() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add left type veth peer name right");
        // Its own alternative name is free there, but it is in the way once the link is there.
        ip("link property add dev left altname alpha");
        let before = kernel.links().await;
        let refusal = kernel.move_to(kernel.at("left").await, ns, "alpha").await.unwrap_err();
        assert_eq!(refusal.errno, libc::EEXIST);
        assert_eq!(kernel.links().await, before);
        assert_eq!(kernel.names_in(ns).await, ["lo"]);
    });
}

#[test]
fn a_move_is_known_to_be_done_though_its_answer_was_lost_among_notifications() {
    in_new_namespace(async || {
        let (mut kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add left type veth peer name right");
        ip("link set left up");
        let at = kernel.at("left").await;
        // The first notification, that it is down, is larger than what can wait.
        kernel.move_buffer = 1;
        for n in 0..40 {
            kernel.act(at, Action::AddAltName(altname(&format!("{n:0>127}")))).await.unwrap();
        }
        let there = kernel.move_to(at, ns, "eth0").await;
        assert_eq!(there, Ok(kernel.at_in(ns, "eth0").await));
    });
}

#[test]
fn a_pair_is_made_with_each_end_where_it_is_wanted() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let others = [Other::new(), Other::new()];
        let (one, two) = (others[0].watched_by(&kernel).await, others[1].watched_by(&kernel).await);
        others[0].ip("link add used type bridge");
        let all = [kernel.home(), one, two];
        for (n, (ns, peer_ns)) in
            all.iter().flat_map(|ns| all.iter().map(move |p| (*ns, *p))).enumerate()
        {
            let (link, peer) = (format!("link{n}"), format!("peer{n}"));
            let new = NewLink {
                mac: Some(mac("02:00:00:00:00:09")),
                mtu: Some(1400),
                ..veth(ns, &link, peer_ns, &peer)
            };
            let made = kernel.made(&new).await;
            let expected = [kernel.at_in(ns, &link).await, kernel.at_in(peer_ns, &peer).await];
            assert_eq!(made, expected, "{new:?}");
            let link = kernel.link_in(ns, &link).await.unwrap();
            assert_eq!((link.mac, link.mtu), (new.mac, 1400));
            kernel.hints_until(|b| made.iter().all(|at| b.links.contains_key(at))).await;
        }
        // Nothing is where it was not wanted.
        let mut all_names = Vec::new();
        for ns in all {
            all_names.extend(kernel.names_in(ns).await);
        }
        assert_eq!(all_names.len(), 9 * 2 + 3 + 1);
    });
}

#[test]
fn a_macvlan_is_made_over_a_link_of_any_namespace_in_any() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let others = [Other::new(), Other::new()];
        let (one, two) = (others[0].watched_by(&kernel).await, others[1].watched_by(&kernel).await);
        ip("link add lower type veth peer name right");
        others[0].ip("link add used type bridge");
        others[0].ip("link add lower type veth peer name right");
        let (over_home, over_one) = (kernel.at("lower").await, kernel.at_in(one, "lower").await);
        for over in [over_home, over_one] {
            for (n, ns) in [kernel.home(), one, two].into_iter().enumerate() {
                let called = format!("over{n}");
                let made = kernel.made(&macvlan(ns, &called, over)).await;
                assert_eq!(made, [kernel.at_in(ns, &called).await]);
                let link = kernel.link_in(ns, &called).await.unwrap();
                assert_eq!(link.kind.as_deref(), Some("macvlan"));
                assert_eq!(link.lower.unwrap().ifindex, over.ifindex);
                assert_eq!(link.lower.unwrap().nsid.is_none(), ns == over.ns);
                kernel.act(made[0], Action::Delete).await.unwrap();
            }
        }
    });
}

/// Older kernels look for the name of a link that is given no index where the request is made.
#[test]
fn a_link_is_made_under_an_index_and_a_name_that_one_has_where_the_request_is_made() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let others = [Other::new(), Other::new()];
        let (one, two) = (others[0].watched_by(&kernel).await, others[1].watched_by(&kernel).await);
        for all in [&ip as &dyn Fn(&'static str), &|command| others[0].ip(command)] {
            all("link add lower type veth peer name right");
            all("link add taken type bridge");
        }
        let (over_home, over_one) = (kernel.at("lower").await, kernel.at_in(one, "lower").await);
        for new in [
            veth(two, "taken", kernel.home(), "peer"),
            veth(two, "taken", one, "peer"),
            macvlan(two, "taken", over_home),
            macvlan(two, "taken", over_one),
        ] {
            let index = index_by_chance();
            let made = kernel.create_numbered(&new, index).await.unwrap();
            assert_eq!(made[0].at, kernel.at_in(two, "taken").await, "{new:?}");
            assert_eq!(Some(made[0].at.ifindex), index);
            kernel.act(made[0].at, Action::Delete).await.unwrap();
        }
        assert_eq!(kernel.names_in(two).await, ["lo"]);
    });
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add out type bridge");
        let taken_outside = kernel.create(&veth(ns, "in", kernel.home(), "out")).await.unwrap_err();
        assert_eq!(taken_outside.errno, libc::EEXIST);
        let taken_inside = kernel.create(&veth(ns, "lo", kernel.home(), "peer")).await.unwrap_err();
        assert_eq!(taken_inside.errno, libc::EEXIST);
        let nothing = Binding { ns: kernel.home(), ifindex: IfIndex::new(4_000_000).unwrap() };
        assert_eq!(
            kernel.create(&macvlan(ns, "in", nothing)).await.unwrap_err().errno,
            libc::ENODEV
        );
        let unknown = NsCookie(kernel.home().0 + 1_000_000);
        for new in [veth(unknown, "in", ns, "x"), veth(ns, "in", unknown, "x")] {
            assert_eq!(kernel.create(&new).await.unwrap_err(), KernelError::no_namespace(unknown));
        }
        assert_eq!(kernel.names_in(ns).await, ["lo"]);
        assert_eq!(kernel.names_in(kernel.home()).await, ["lo", "out"]);
    });
}

#[test]
fn a_link_moved_by_others_is_followed_wherever_it_goes() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let (other, unwatched) = (Other::new(), Other::new());
        let ns = other.watched_by(&kernel).await;
        ip("link add left type veth peer name right");
        let moved = async |from: Binding| {
            let batch =
                kernel.hints_until(|b| b.links.get(&from).is_some_and(|h| h.moved_to.is_some()));
            let hint = batch.await.links[&from];
            assert!(!hint.was_deleted);
            hint.moved_to.unwrap()
        };
        let at = kernel.at("left").await;
        other.ip_naming_it("link set left netns NS");
        let there = kernel.at_in(ns, "left").await;
        let MovedTo { ns: to, ifindex, .. } = moved(at).await;
        assert_eq!((to, ifindex), (Some(ns), there.ifindex));

        let home = File::open("/proc/thread-self/ns/net").unwrap();
        rustix::io::fcntl_setfd(&home, rustix::io::FdFlags::empty()).unwrap();
        let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&home));
        other.inside(move || ip(&format!("link set left netns {place}")));
        let back = kernel.at("left").await;
        let MovedTo { ns: to, ifindex, .. } = moved(there).await;
        assert_eq!((to, ifindex), (Some(kernel.home()), back.ifindex));

        unwatched.ip_naming_it("link set left netns NS");
        assert_eq!(moved(back).await.ns, None);
    });
}

#[test]
fn watching_keeps_no_namespace_alive_and_its_death_is_told() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        for many in [1, 200] {
            let mut watched = BTreeSet::new();
            let mut others = Vec::new();
            for _ in 0..many {
                let other = Other::new();
                watched.insert(other.watched_by(&kernel).await);
                others.push(other);
            }
            let one = *watched.first().unwrap();
            kernel.create(&veth(one, "in", kernel.home(), "out")).await.unwrap();
            drop(others);
            let batch = kernel.hints_until(|batch| batch.ended.len() >= many).await;
            assert_eq!(batch.ended, watched);
            assert_eq!(kernel.dump(one).await, Err(KernelError::no_namespace(one)));
            kernel.nothing_is_left().await;
        }
    });
}

#[test]
fn a_pinned_namespace_lives_until_it_is_unpinned() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        kernel.pin(ns).await.unwrap();
        other.ip("link add left type veth peer name right");
        drop(other);
        // Its opener leads nowhere now.
        let at = kernel.at_in(ns, "left").await;
        kernel.move_to(at, kernel.home(), "home").await.unwrap();
        let right = kernel.at_in(ns, "right").await;
        kernel.act(right, Action::SetMtu(1400)).await.unwrap();
        kernel.unpin(ns);
        let batch = kernel.hints_until(|batch| !batch.ended.is_empty()).await;
        assert_eq!(batch.ended, BTreeSet::from([ns]));
        assert_eq!(kernel.pin(ns).await, Err(KernelError::no_namespace(ns)));
    });
}

#[test]
fn what_is_no_longer_watched_is_not_known() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        let ns = other.watched_by(&kernel).await;
        kernel.pin(ns).await.unwrap();
        kernel.unwatch(ns).await;
        assert_eq!(kernel.dump(ns).await, Err(KernelError::no_namespace(ns)));
        kernel.forget_hints().await;
        other.ip("link add left type veth peer name right");
        ip("link add last type bridge");
        let last = kernel.at("last").await;
        let batch = kernel.hints_until(|batch| batch.links.contains_key(&last)).await;
        assert!(batch.links.keys().all(|at| at.ns == kernel.home()));
        assert_eq!(other.watched_by(&kernel).await, ns);
        assert!(kernel.link_in(ns, "left").await.is_some());
    });
}

#[test]
fn a_death_is_told_though_its_notification_was_lost() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open_with(Options { notification_buffer: 4096 }).unwrap();
        let other = Other::new();
        let ns = other.watched_by(&kernel).await;
        ip("link add left type veth peer name right");
        // Nobody listens meanwhile: this thread runs the listener, and does not wait.
        for mtu in 1300..1350 {
            ip(&format!("link set left mtu {mtu}"));
        }
        let at = Binding { ns, ifindex: IfIndex::new(1).unwrap() };
        let nsid = kernel.zones.zone(ns).unwrap().nsid;
        drop(other);
        while Connection::open().unwrap().has_number(nsid).unwrap() {
            std::thread::yield_now();
        }
        let batch = kernel.hints_until(|batch| batch.overrun && !batch.ended.is_empty()).await;
        assert_eq!(batch.ended, BTreeSet::from([ns]));
        assert_eq!(kernel.get(at.ns, at.ifindex).await, Err(KernelError::no_namespace(ns)));
    });
}

#[test]
fn an_opener_that_leads_elsewhere_is_not_followed() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let (other, elsewhere) = (Other::new(), Other::new());
        for other in [&other, &elsewhere] {
            other.ip("link add left type veth peer name right");
        }
        let ns = kernel.watch(other.open(), elsewhere.opener()).await.unwrap();
        let at = kernel.at_in(ns, "left").await;
        for action in [Action::SetUp(true), Action::Move { to: kernel.home(), name: name("x") }] {
            assert_eq!(kernel.act(at, action).await, Err(KernelError::no_namespace(ns)));
        }
        assert_eq!(kernel.pin(ns).await, Err(KernelError::no_namespace(ns)));
        // What needs no open namespace works.
        kernel.create(&veth(ns, "in", kernel.home(), "out")).await.unwrap();
        kernel.act(at, Action::Delete).await.unwrap();
        let there = elsewhere.watched_by(&kernel).await;
        assert!(!kernel.link_in(there, "left").await.unwrap().admin_up);
    });
}

#[test]
fn a_namespace_that_no_opener_opens_is_entered_by_its_processes() {
    in_new_namespace(async || {
        let (kernel, other) = (RtnetlinkKernel::open().unwrap(), Other::new());
        other.ip("link add left type veth peer name right");
        let ns = kernel.watch(other.open(), no_opener()).await.unwrap();
        let at = kernel.at_in(ns, "left").await;
        let mut process =
            other.inside(|| std::process::Command::new("sleep").arg("1000").spawn().unwrap());
        let changed = kernel.act(at, Action::SetUp(true)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        changed.unwrap();
        assert!(kernel.link_in(ns, "left").await.unwrap().admin_up);
    });
}

#[test]
fn a_number_given_again_is_not_taken_for_the_namespace_that_died() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let number_by_a_move = |other: &Other, called: &str| {
            ip(&format!("link add {called} type veth peer name {called}-peer"));
            other.ip_naming_it(&format!("link set {called} netns NS"));
        };
        let first = Other::new();
        number_by_a_move(&first, "first");
        let dead = kernel.watch(first.open(), no_opener()).await.unwrap();
        let nsid = kernel.zones.zone(dead).unwrap().nsid;
        drop(first);
        // The kernel gives the lowest free number, and takes its time to free one.
        let mut others = Vec::new();
        let living = loop {
            let other = Other::new();
            number_by_a_move(&other, &format!("second{}", others.len()));
            let living = kernel.watch(other.open(), other.opener()).await.unwrap();
            others.push(other);
            if kernel.zones.zone(living).unwrap().nsid == nsid {
                break living;
            }
        };
        let second = format!("second{}", others.len() - 1);

        let at = Binding { ns: dead, ..kernel.at_in(living, &second).await };
        assert_eq!(kernel.act(at, Action::Delete).await, Err(KernelError::no_namespace(dead)));
        let batch = kernel.hints_until(|batch| !batch.ended.is_empty()).await;
        assert_eq!(batch.ended, BTreeSet::from([dead]));
        assert!(kernel.link_in(living, &second).await.is_some());
    });
}

#[test]
fn a_namespace_that_dies_under_a_request_gives_a_plain_refusal() {
    in_new_namespace(async || {
        let kernel = Arc::new(RtnetlinkKernel::open().unwrap());
        let home = kernel.home();
        for round in 0..20 {
            let other = Other::new();
            let ns = other.watched_by(&kernel).await;
            // Where its peer ends with the namespace, what is moved home ends too.
            other.ip("link add left type veth peer name right");
            let at = kernel.at_in(ns, "left").await;
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..8 {
                let kernel = Arc::clone(&kernel);
                tasks.spawn(async move {
                    match task % 4 {
                        0 => kernel.dump(ns).await.map(|_| ()),
                        1 => kernel.act(at, Action::SetMtu(1300 + task)).await.map(|_| ()),
                        2 => kernel.create(&veth(ns, "in", home, "out")).await.map(|_| ()),
                        _ => kernel.move_to(at, home, "moved").await.map(|_| ()),
                    }
                });
            }
            // The later the round, the more of the requests come first.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(move || drop(other)).await.unwrap();
            while let Some(ended) = tasks.join_next().await {
                let allowed = [libc::ESRCH, libc::ENODEV, libc::EEXIST];
                let answer = ended.unwrap();
                assert!(
                    answer.as_ref().err().is_none_or(|e| allowed.contains(&e.errno)),
                    "{answer:?}"
                );
            }
            kernel.hints_until(|batch| batch.ended.contains(&ns)).await;
            kernel.nothing_is_left().await;
        }
    });
}

#[test]
fn links_in_a_zone_are_asked_about_from_outside() {
    in_new_namespace(async || {
        let zone = Other::new();
        zone.ip("link add left type veth peer name right");
        zone.ip("link set left up");
        zone.ip("link set right up");
        let kernel = RtnetlinkKernel::open().unwrap();
        let ns = zone.watched_by(&kernel).await;
        let at = kernel.at_in(ns, "left").await;
        // What is counted inside is what is told: nobody at home has such a link.
        zone.inside(|| ip("address add 192.0.2.1/24 dev left"));
        zone.inside(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
            socket.send_to(b"x", "192.0.2.9:9").unwrap();
        });
        let topics = [Topic::Statistics];
        let has_sent = |fact: &KernelFact| {
            let is_some = matches!(fact.value, KernelValue::Plain(FactValue::Number(1..)));
            fact.name == "opackets" && is_some
        };
        let told = async || kernel.inspect(ns, &[at.ifindex], &topics).await.unwrap().remove(0);
        while !told().await.iter().any(has_sent) {
            tokio::task::yield_now().await;
        }
        let modes = kernel.link_modes(ns, &[at.ifindex]).await.unwrap();
        assert_eq!(modes[0].speed, Some(10_000));
        assert_eq!(kernel.inspect(kernel.home(), &[at.ifindex], &topics).await, Ok(vec![vec![]]));
    });
}
