//! The real kernel, each test in a network namespace of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;

use dlmgmt_proto::{Duplex, FactValue, HwAddr, LinkName, LinkState, Media, Topic};

use super::*;
use crate::kernel::{HintBatch, KernelValue};
use crate::model::{AltName, Lower};
use crate::sys;

/// Longer than any of these tests takes on the slowest machine.
const HANG: Duration = Duration::from_secs(300);

/// Runs a test in a new namespace, which ends with it, however it ends.
pub(in crate::kernel) fn in_new_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(why) = sys::enter_new_network_namespace() {
            println!("skipped: a network namespace cannot be made: {why}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A hang is a failure too.
        runtime.block_on(async { tokio::time::timeout(HANG, test()).await }).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` with these words, some of which may not be UTF-8.
pub(super) fn ip_bytes(words: &[&[u8]]) {
    let output = Command::new("ip").args(words.iter().map(|w| OsStr::from_bytes(w))).output();
    let output = output.unwrap();
    assert!(output.status.success(), "ip: {}", output.stderr.escape_ascii());
}

pub(in crate::kernel) fn ip(command: &str) {
    ip_bytes(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
}

pub(super) fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

pub(super) fn altname(text: &str) -> AltName {
    AltName(text.as_bytes().to_vec())
}

impl RtnetlinkKernel {
    pub(super) async fn links(&self) -> Vec<KernelLink> {
        self.dump(self.home()).await.unwrap().links
    }

    pub(super) async fn find(&self, called: LinkName) -> Option<KernelLink> {
        self.links().await.into_iter().find(|link| link.name == called)
    }

    pub(super) async fn link(&self, called: &str) -> KernelLink {
        self.find(name(called)).await.unwrap_or_else(|| panic!("there is no link {called}"))
    }

    /// Waits for a state: the kernel takes its time to follow a carrier.
    pub(super) async fn becomes(&self, called: &str, state: LinkState) {
        while self.link(called).await.state != state {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn at(&self, called: &str) -> Binding {
        Binding { ns: self.home(), ifindex: self.link(called).await.ifindex }
    }

    pub(super) async fn act(&self, at: Binding, action: Action) -> Result<Applied, KernelError> {
        self.apply(&Step { at, action }).await
    }
}

fn never_given() -> IfIndex {
    IfIndex::new(4_000_000).unwrap()
}

#[test]
fn a_new_namespace_has_the_loopback_alone() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let links = kernel.links().await;
        let lo = &links[0];
        assert_eq!((lo.name, lo.media, lo.state), (name("lo"), Media::Loopback, LinkState::Down));
        assert_eq!((&lo.kind, lo.mac, lo.permanent_mac, &lo.path), (&None, None, None, &None));
    });
}

#[test]
fn a_dump_shows_every_link_with_what_the_daemon_needs() {
    in_new_namespace(async || {
        ip("link add left address 02:00:00:00:00:01 mtu 1400 type veth peer name right");
        ip("link add stub type bridge");
        ip("link set right master stub");
        ip("link add over link left type macvlan");
        ip("link property add dev left altname zeta altname alpha");
        let kernel = RtnetlinkKernel::open().unwrap();
        let links = kernel.links().await;
        assert!(links.is_sorted_by_key(|link| link.ifindex));

        let left = kernel.link("left").await;
        let right = kernel.link("right").await;
        assert_eq!(left.kind.as_deref(), Some("veth"));
        assert_eq!(left.media, Media::Ethernet);
        assert_eq!(left.mac, Some("02:00:00:00:00:01".parse::<HwAddr>().unwrap()));
        assert_eq!((left.permanent_mac, &left.path), (None, &None));
        assert_eq!((left.mtu, left.admin_up, left.state), (1400, false, LinkState::Down));
        assert_eq!(left.lower, Some(Lower { ifindex: right.ifindex, nsid: None, ns: None }));
        assert_eq!(left.altnames, [altname("alpha"), altname("zeta")]);
        assert_eq!(right.master, Some(kernel.link("stub").await.ifindex));
        assert_eq!(kernel.link("over").await.kind.as_deref(), Some("macvlan"));
        assert_eq!(kernel.link("over").await.lower.unwrap().ifindex, left.ifindex);

        assert_eq!(kernel.get(kernel.home(), left.ifindex).await, Ok(Some(left)));
    });
}

#[test]
fn a_lower_link_in_another_namespace_is_told_with_that_namespace() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let right = RtnetlinkKernel::open().unwrap().link("right").await;
        let inner = std::thread::spawn(|| {
            sys::enter_new_network_namespace().unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let inner = inner.join().unwrap();
        let target = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inner));
        // `ip` opens the path itself, so the descriptor must be one that it inherits.
        rustix::io::fcntl_setfd(&inner, rustix::io::FdFlags::empty()).unwrap();
        ip(&format!("link set right netns {target}"));
        let kernel = RtnetlinkKernel::open().unwrap();
        let lower = kernel.link("left").await.lower.unwrap();
        assert_eq!((lower.ifindex, lower.nsid), (right.ifindex, Some(0)));
    });
}

#[test]
fn a_rename_keeps_the_index() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let at = kernel.at("left").await;
        kernel.act(at, Action::Rename(name("links"))).await.unwrap();
        assert_eq!(kernel.at("links").await, at);
        assert_eq!(kernel.find(name("left")).await, None);
    });
}

#[test]
fn mtu_and_admin_state_are_set() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        ip("link set right up");
        let kernel = RtnetlinkKernel::open().unwrap();
        let at = kernel.at("left").await;
        kernel.act(at, Action::SetMtu(1300)).await.unwrap();
        kernel.act(at, Action::SetUp(true)).await.unwrap();
        let left = kernel.link("left").await;
        assert_eq!((left.mtu, left.admin_up), (1300, true));
        kernel.becomes("left", LinkState::Up).await;
        kernel.act(at, Action::SetUp(false)).await.unwrap();
        let left = kernel.link("left").await;
        assert_eq!((left.admin_up, left.state), (false, LinkState::Down));
        // Its peer is up and has no carrier now.
        kernel.becomes("right", LinkState::Down).await;
        assert!(kernel.link("right").await.admin_up);
    });
}

#[test]
fn alternative_names_come_and_go_one_by_one() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let at = kernel.at("left").await;
        kernel.act(at, Action::AddAltName(altname("uplink"))).await.unwrap();
        kernel.act(at, Action::AddAltName(altname("a name of more than 15 bytes"))).await.unwrap();
        kernel.act(at, Action::DropAltName(altname("uplink"))).await.unwrap();
        let names = kernel.link("left").await.altnames;
        assert_eq!(names, [altname("a name of more than 15 bytes")]);
    });
}

#[test]
fn names_that_are_no_utf8_are_names() {
    in_new_namespace(async || {
        ip_bytes(&[b"link", b"add", b"odd\xff\xfe", b"type", b"bridge"]);
        ip_bytes(&[b"link", b"property", b"add", b"dev", b"odd\xff\xfe", b"altname", b"alt\xc3"]);
        let kernel = RtnetlinkKernel::open().unwrap();
        let odd = LinkName::found(b"odd\xff\xfe").unwrap();
        let link = kernel.find(odd).await.unwrap();
        assert_eq!(link.altnames, [AltName(b"alt\xc3".to_vec())]);
        let at = Binding { ns: kernel.home(), ifindex: link.ifindex };
        let odder = LinkName::found(b"\x80\x01").unwrap();
        kernel.act(at, Action::Rename(odder)).await.unwrap();
        kernel.act(at, Action::DropAltName(AltName(b"alt\xc3".to_vec()))).await.unwrap();
        assert_eq!(kernel.find(odder).await.unwrap().altnames, []);
    });
}

#[test]
fn a_refusal_has_the_errno_and_the_kernels_own_words() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let at = kernel.at("left").await;
        let before = kernel.links().await;

        let taken = kernel.act(at, Action::Rename(name("right"))).await.unwrap_err();
        assert_eq!(taken.errno, libc::EEXIST);
        let small = kernel.act(at, Action::SetMtu(1)).await.unwrap_err();
        assert_eq!(small.errno, libc::EINVAL);
        assert_eq!(small.text.as_deref(), Some("mtu less than device minimum"));
        assert_eq!(kernel.links().await, before);
    });
}

#[test]
fn a_link_that_is_not_there_is_none_and_cannot_be_changed() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let before = kernel.links().await;
        for ifindex in [never_given(), IfIndex::new(u32::MAX).unwrap()] {
            let at = Binding { ns: kernel.home(), ifindex };
            assert_eq!(kernel.get(at.ns, ifindex).await, Ok(None));
            // The name is that of another link, which must not be taken for the one meant.
            for action in [Action::Rename(name("left")), Action::SetUp(true)] {
                assert_eq!(kernel.act(at, action).await.unwrap_err().errno, libc::ENODEV);
            }
        }
        assert_eq!(kernel.links().await, before);
    });
}

#[test]
fn another_namespace_is_not_known() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let elsewhere = NsCookie(kernel.home().0 + 1_000_000);
        let refusal = kernel.dump(elsewhere).await.unwrap_err();
        assert_eq!(refusal.errno, libc::ESRCH);
        assert!(refusal.text.unwrap().ends_with("is not a known namespace"));
    });
}

#[test]
fn a_dump_is_of_one_moment_or_says_that_it_is_not() {
    in_new_namespace(async || {
        for n in 0..100 {
            ip(&format!("link add left{n} type veth peer name right{n}"));
        }
        let kernel = RtnetlinkKernel::open().unwrap();
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&done);
        let others = tokio::task::spawn_blocking(move || {
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                ip("link add short type veth peer name lived");
                ip("link del short");
            }
        });
        for _ in 0..50 {
            let dump = kernel.dump(kernel.home()).await.unwrap();
            let links = dump.links;
            assert!(links.is_sorted_by_key(|link| link.ifindex));
            if !dump.is_consistent {
                continue;
            }
            assert!(links.is_sorted_by(|a, b| a.ifindex < b.ifindex), "a link is shown twice");
            let lasting = links.iter().filter(|link| {
                let name = link.name.to_string();
                name.starts_with("left") || name.starts_with("right")
            });
            assert_eq!(lasting.count(), 200);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        others.await.unwrap();
    });
}

#[test]
fn requests_of_many_tasks_get_each_its_own_answer() {
    in_new_namespace(async || {
        for n in 0..20 {
            ip(&format!("link add b{n} type bridge"));
        }
        let kernel = Arc::new(RtnetlinkKernel::open().unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for link in kernel.links().await.into_iter().cycle().take(500) {
            let kernel = Arc::clone(&kernel);
            tasks.spawn(async move {
                let found = kernel.get(kernel.home(), link.ifindex).await;
                assert_eq!(found, Ok(Some(link)));
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn a_dropped_request_leaves_the_next_answers_right() {
    in_new_namespace(async || {
        for n in 0..20 {
            ip(&format!("link add b{n} type bridge"));
        }
        let kernel = Arc::new(RtnetlinkKernel::open().unwrap());
        let links = kernel.links().await;
        for link in &links {
            let dump = tokio::spawn({
                let kernel = Arc::clone(&kernel);
                async move { kernel.dump(kernel.home()).await }
            });
            tokio::task::yield_now().await;
            dump.abort();
            assert_eq!(
                kernel.get(kernel.home(), link.ifindex).await.as_ref(),
                Ok(&Some(link.clone()))
            );
        }
        assert_eq!(kernel.links().await, links);
    });
}

/// All hints until each of these links had one.
async fn hints_of(kernel: &RtnetlinkKernel, links: &[Binding]) -> HintBatch {
    let mut all = HintBatch::default();
    while !links.iter().all(|link| all.links.contains_key(link)) {
        let batch = kernel.hints().take().await;
        all.overrun |= batch.overrun;
        for (at, hint) in batch.links {
            all.links.entry(at).or_default().went_down |= hint.went_down;
        }
    }
    all
}

#[test]
fn whatever_others_do_to_a_link_is_hinted() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        ip("link add left type veth peer name right");
        let (left, right) = (kernel.at("left").await, kernel.at("right").await);
        hints_of(&kernel, &[left, right]).await;
        for change in [
            "link set left name new",
            "link set new mtu 1400",
            "link set new address 02:00:00:00:00:07",
            "link set new up",
            "link property add dev new altname other",
        ] {
            ip(change);
            assert!(!hints_of(&kernel, &[left]).await.overrun, "{change}");
        }
        ip("link set new down");
        assert!(hints_of(&kernel, &[left]).await.links[&left].went_down);
        ip("link del new");
        hints_of(&kernel, &[right]).await;
    });
}

#[test]
fn what_the_daemon_does_itself_is_hinted_too() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let at = kernel.at("left").await;
        for action in [
            Action::Rename(name("new")),
            Action::AddAltName(altname("other")),
            Action::DropAltName(altname("other")),
            Action::SetMtu(1400),
            Action::SetUp(true),
        ] {
            kernel.act(at, action).await.unwrap();
            hints_of(&kernel, &[at]).await;
        }
    });
}

#[test]
fn lost_notifications_are_told_and_those_after_are_heard_again() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open_with(Options { notification_buffer: 4096 }).unwrap();
        let at = kernel.at("left").await;
        // Nobody listens meanwhile: this thread runs the listener, and does not wait.
        for mtu in 1300..1350 {
            ip(&format!("link set left mtu {mtu}"));
        }
        while !kernel.hints().take().await.overrun {}
        ip("link set left mtu 1500");
        assert!(!hints_of(&kernel, &[at]).await.overrun);
    });
}

#[test]
fn the_listener_ends_with_the_kernel() {
    in_new_namespace(async || {
        let kernel = RtnetlinkKernel::open().unwrap();
        let hints = Arc::downgrade(&kernel.hints);
        tokio::task::yield_now().await;
        assert_eq!(hints.strong_count(), 2);
        drop(kernel);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hints.strong_count(), 0);
    });
}

/// The facts of a link about a topic, by their names.
async fn facts(
    kernel: &RtnetlinkKernel,
    at: Binding,
    topic: Topic,
) -> BTreeMap<&'static str, KernelValue> {
    let mut found = kernel.inspect(at.ns, &[at.ifindex], &[topic]).await.unwrap();
    found.remove(0).into_iter().map(|fact| (fact.name, fact.value)).collect()
}

#[test]
fn what_passes_through_a_link_is_counted() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        ip("address add 192.0.2.1/24 dev left");
        ip("link set left up");
        ip("link set right up");
        let kernel = RtnetlinkKernel::open().unwrap();
        let (left, right) = (kernel.at("left").await, kernel.at("right").await);
        let before = facts(&kernel, right, Topic::Statistics).await;
        // Nobody has the address; the question for it is counted all the same.
        std::net::UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"x", "192.0.2.9:9").unwrap();
        let counted = |facts: &BTreeMap<_, _>, name| match facts[name] {
            KernelValue::Plain(FactValue::Number(number)) => number,
            ref other => panic!("{other:?}"),
        };
        // It arrives when the kernel gets round to it.
        let now = loop {
            let now = facts(&kernel, right, Topic::Statistics).await;
            if counted(&now, "ipackets") > counted(&before, "ipackets") {
                break now;
            }
            tokio::task::yield_now().await;
        };
        assert!(counted(&now, "rbytes") > counted(&before, "rbytes"));
        let sent = facts(&kernel, left, Topic::Statistics).await;
        assert!(counted(&sent, "obytes") >= counted(&now, "rbytes"));
        assert_eq!((counted(&sent, "ierrors"), counted(&sent, "oerrors")), (0, 0));
    });
}

#[test]
fn a_driver_tells_how_fast_its_link_is_and_whoever_does_not_is_not_asked_in_vain() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let kernel = RtnetlinkKernel::open().unwrap();
        let (left, lo) = (kernel.link("left").await.ifindex, kernel.link("lo").await.ifindex);
        let modes = kernel.link_modes(kernel.home(), &[left, lo, never_given()]).await.unwrap();
        assert_eq!((modes[0].speed, modes[0].duplex), (Some(10_000), Some(Duplex::Full)));
        assert_eq!(modes[1..], [LinkMode::default(); 2]);
        let nowhere = Binding { ns: kernel.home(), ifindex: never_given() };
        for topic in Topic::ALL {
            assert!(facts(&kernel, nowhere, topic).await.is_empty(), "{topic}");
        }
    });
}
