//! Each rule that the simulation mimics, and each trouble that it makes.

use std::task::Poll;

use dlmgmt_proto::kind::{LinkKind, LinkOptions};

use super::namespace::place_of;
use super::*;
use crate::kernel::rtnetlink::RtnetlinkKernel;
use crate::kernel::rtnetlink::tests::{in_new_namespace, ip};
use crate::kernel::{HintBatch, MovedTo};
use crate::model::{AltName, NewKind};

fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

fn card(called: &str, last_byte: u8) -> PhysDevice {
    PhysDevice {
        mac: Some(HwAddr::new(&[2, 0, 0, 0, 0, last_byte]).unwrap()),
        path: Some(DevicePath(format!("pci-0000:00:{last_byte:02x}.0"))),
        media: Media::Ethernet,
        name: name(called),
    }
}

fn virtual_link(called: &str, lower: Option<IfIndex>) -> VirtualLink {
    VirtualLink { name: name(called), kind: "macvlan".to_owned(), mac: None, lower }
}

fn rename(at: Binding, to: &str) -> Step {
    Step { at, action: Action::Rename(name(to)) }
}

fn names(world: &SimWorld) -> Vec<String> {
    world.links(world.home()).iter().map(|link| link.name.to_string()).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The hints that wait now.
async fn waiting(kernel: &SimKernel) -> HintBatch {
    let mut take = std::pin::pin!(kernel.hints().take());
    std::future::poll_fn(|context| match take.as_mut().poll(context) {
        Poll::Ready(batch) => Poll::Ready(batch),
        Poll::Pending => Poll::Ready(HintBatch::default()),
    })
    .await
}

/// Whether a future is done, given every chance.
async fn comes_back<T>(future: impl Future<Output = T>) -> bool {
    let patience = async {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { biased; _ = future => true, () = patience => false }
}

/// What a kernel answers to one request after another: the errno, or 0.
async fn answers(kernel: &impl Kernel) -> Vec<(Action, i32)> {
    let links = kernel.dump(kernel.home()).await.unwrap().links;
    let left = links.iter().find(|link| link.name == name("left")).unwrap().ifindex;
    let rename = |bytes: &[u8]| Action::Rename(LinkName::found(bytes).unwrap());
    let add = |bytes: &[u8]| Action::AddAltName(AltName(bytes.to_vec()));
    let drop = |bytes: &[u8]| Action::DropAltName(AltName(bytes.to_vec()));
    let set_mac = |bytes: &[u8]| Action::SetMac(HwAddr::new(bytes).unwrap());
    let mut script = vec![
        rename(b"left"),
        rename(b"right"),
        add(b"alias"),
        add(b"alias"),
        add(b"left"),
        add(b"right"),
        add(b""),
        add(&[b'a'; 127]),
        add(&[b'a'; 128]),
        add(b"with/odd :bytes\xff"),
        rename(b"alias"),
        drop(b"nothing"),
        drop(b"left"),
        drop(b"right"),
        drop(b"alias"),
        drop(b"alias"),
        rename(b"alias"),
        rename(b"left"),
        rename(b"."),
        rename(b".."),
        rename(b"..."),
        rename(b"a%b"),
        Action::SetMtu(67),
        Action::SetMtu(68),
        Action::SetMtu(65535),
        Action::SetMtu(65536),
        set_mac(&[2, 0, 0, 0, 0, 9]),
        set_mac(&[3, 0, 0, 0, 0, 9]),
        set_mac(&[0; 6]),
        Action::SetUp(true),
        Action::SetUp(true),
        set_mac(&[2, 0, 0, 0, 0, 8]),
        rename(b"while-up"),
        Action::SetUp(false),
    ];
    script.extend((1..=255_u8).filter(|byte| *byte != b'%').map(|byte| rename(&[b'x', byte])));
    let home = kernel.home();
    script.extend([Action::Move { to: home, name: name("left") }, Action::Delete, Action::Delete]);
    let mut answers = Vec::new();
    for (ifindex, action) in script
        .iter()
        .map(|action| (left, action))
        .chain(script.iter().map(|action| (IfIndex::new(1_000_000).unwrap(), action)))
    {
        let at = Binding { ns: kernel.home(), ifindex };
        let answer = kernel.apply(&Step { at, action: action.clone() }).await;
        // A cookie is no part of the answer.
        let asked = match action {
            Action::Move { name, .. } => Action::Move { to: NsCookie(0), name: *name },
            other => other.clone(),
        };
        answers.push((asked, answer.err().map_or(0, |error| error.errno)));
    }
    answers
}

#[test]
fn it_allows_and_refuses_what_the_real_kernel_does() {
    in_new_namespace(async || {
        ip("link add left type veth peer name right");
        let world = SimWorld::new(0);
        world.create(world.home(), virtual_link("left", None)).unwrap();
        world.create(world.home(), virtual_link("right", None)).unwrap();
        let simulated = answers(&world.kernel()).await;
        let real = answers(&RtnetlinkKernel::open().unwrap()).await;
        let differences: Vec<_> =
            simulated.iter().zip(&real).filter(|(simulated, real)| simulated != real).collect();
        assert!(differences.is_empty(), "(simulated, real): {differences:#?}");
    });
}

#[test]
fn names_and_alternative_names_are_one_name_space_and_each_namespace_has_its_own() {
    let world = SimWorld::new(0);
    let eth0 = world.plug(card("eth0", 1));
    let step = Step { at: eth0, action: Action::AddAltName(AltName(b"uplink".to_vec())) };
    world.by_others(&step).unwrap();
    for taken in ["uplink", "eth0", "lo"] {
        let refused = world.create(world.home(), virtual_link(taken, None)).unwrap_err();
        assert_eq!(refused.errno, libc::EEXIST, "{taken}");
    }
    assert!(world.create(world.add_namespace(), virtual_link("eth0", None)).is_ok());
}

#[test]
fn a_cookie_is_never_given_again() {
    let world = SimWorld::new(0);
    let first = world.add_namespace();
    world.end_users(first).unwrap();
    assert_ne!(world.add_namespace(), first);
    let refused = block_on(world.kernel().dump(first)).unwrap_err();
    assert_eq!(refused, KernelError::no_namespace(first));
}

#[test]
fn a_card_gets_its_name_or_the_next_free_one_and_never_an_old_index() {
    let world = SimWorld::new(0);
    let first = world.plug(card("eth0", 1));
    let second = world.plug(card("eth0", 2));
    assert_eq!(names(&world), ["lo", "eth0", "eth1"]);
    world.unplug(first).unwrap();
    let again = world.plug(card("eth0", 1));
    assert!(again.ifindex > second.ifindex);
    let link = world.links(world.home()).pop().unwrap();
    assert_eq!((link.mac, link.path), (card("eth0", 1).mac, card("eth0", 1).path));
    assert_eq!((link.permanent_mac, link.kind, link.admin_up), (link.mac, None, false));
}

#[test]
fn what_lies_over_a_link_ends_with_it_and_hardware_is_not_deleted() {
    let world = SimWorld::new(0);
    let eth0 = world.plug(card("eth0", 1));
    let over = world.create(eth0.ns, virtual_link("over", Some(eth0.ifindex))).unwrap();
    world.create(eth0.ns, virtual_link("top", Some(over.ifindex))).unwrap();
    assert_eq!(world.delete(eth0).unwrap_err().errno, libc::EOPNOTSUPP);
    world.delete(over).unwrap();
    assert_eq!(names(&world), ["lo", "eth0"]);
    world.create(eth0.ns, virtual_link("over", Some(eth0.ifindex))).unwrap();
    world.unplug(eth0).unwrap();
    assert_eq!(names(&world), ["lo"]);
}

#[test]
fn whatever_happens_to_a_link_is_hinted_to_every_daemon() {
    block_on(async {
        let world = SimWorld::new(0);
        let (kernel, other) = (world.kernel(), world.kernel());
        let eth0 = world.plug(card("eth0", 1));
        kernel.apply(&Step { at: eth0, action: Action::SetUp(true) }).await.unwrap();
        for kernel in [&kernel, &other] {
            assert!(waiting(kernel).await.links[&eth0].went_down);
        }
        world.by_others(&rename(eth0, "new")).unwrap();
        assert!(!waiting(&kernel).await.links[&eth0].went_down);
        world.set_state(eth0, LinkState::Down).unwrap();
        assert!(waiting(&kernel).await.links[&eth0].went_down);
        world.unplug(eth0).unwrap();
        assert!(waiting(&kernel).await.links[&eth0].was_deleted);
    });
}

#[test]
fn a_lost_hint_is_told_as_an_overrun_unless_asked_otherwise() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        world.set_hint_faults(HintFaults { lost: 100, ..HintFaults::default() });
        world.plug(card("eth0", 1));
        assert_eq!(waiting(&kernel).await, HintBatch { overrun: true, ..HintBatch::default() });
        let untold = HintFaults { lost: 100, losses_untold: true, ..HintFaults::default() };
        world.set_hint_faults(untold);
        world.plug(card("eth1", 2));
        assert_eq!(waiting(&kernel).await, HintBatch::default());
    });
}

#[test]
fn held_hints_wait_to_be_released() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        world.hold_hints();
        let links = [world.plug(card("eth0", 1)), world.plug(card("eth1", 2))];
        assert_eq!(waiting(&kernel).await, HintBatch::default());
        world.release_hints();
        assert!(waiting(&kernel).await.links.into_keys().eq(links));
    });
}

#[test]
fn a_duplicated_hint_comes_again_later() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        world.set_hint_faults(HintFaults { duplicated: 100, ..HintFaults::default() });
        let links: Vec<Binding> = (1..20).map(|n| world.plug(card("eth0", n))).collect();
        assert!(waiting(&kernel).await.links.into_keys().eq(links.iter().copied()));
        world.release_hints();
        assert!(!waiting(&kernel).await.links.is_empty());
    });
}

#[test]
fn delayed_hints_overtake_each_other() {
    block_on(async {
        let world = SimWorld::new(7);
        let kernel = world.kernel();
        world.set_hint_faults(HintFaults { delayed: 100, ..HintFaults::default() });
        let mut heard = Vec::new();
        let mut links = Vec::new();
        for n in 1..50 {
            links.push(world.plug(card("eth0", n)));
            heard.extend(waiting(&kernel).await.links.into_keys());
        }
        world.release_hints();
        heard.extend(waiting(&kernel).await.links.into_keys());
        assert!(!heard.is_sorted(), "none came late");
        heard.sort();
        assert_eq!(heard, links);
    });
}

#[test]
fn an_armed_failure_refuses_the_next_step_alone_and_nothing_changes() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let eth0 = world.plug(card("eth0", 1));
        world.fail_next(libc::EBUSY, Some("not now"));
        let refused = kernel.apply(&rename(eth0, "new")).await.unwrap_err();
        let expected = KernelError { errno: libc::EBUSY, text: Some("not now".to_owned()) };
        assert_eq!(refused, expected);
        assert_eq!((names(&world), world.applied()), (vec!["lo".into(), "eth0".into()], vec![]));
        kernel.apply(&rename(eth0, "new")).await.unwrap();
        assert_eq!(world.applied(), [rename(eth0, "new")]);

        world.fail_next_dump(libc::EAGAIN);
        assert_eq!(kernel.dump(world.home()).await.unwrap_err().errno, libc::EAGAIN);
        assert!(kernel.dump(world.home()).await.is_ok());
    });
}

#[test]
fn an_inconsistent_dump_lacks_links_and_doubles_others_and_says_so() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        for n in 0..50 {
            world.plug(card("eth0", n));
        }
        let whole = kernel.dump(world.home()).await.unwrap();
        assert!(whole.is_consistent);

        world.set_inconsistent_dumps(100);
        let torn = kernel.dump(world.home()).await.unwrap();
        assert!(!torn.is_consistent);
        assert!(torn.links.is_sorted_by_key(|link| link.ifindex));
        assert!(torn.links.windows(2).any(|pair| pair[0] == pair[1]));
        assert!(whole.links.iter().any(|link| !torn.links.contains(link)));
    });
}

#[test]
fn random_refusals_are_those_of_the_seed() {
    let refusals = |seed| {
        block_on(async {
            let world = SimWorld::new(seed);
            let kernel = world.kernel();
            let eth0 = world.plug(card("eth0", 1));
            world.refuse_randomly(50);
            let mut refusals = Vec::new();
            for mtu in 1000..1100 {
                let step = Step { at: eth0, action: Action::SetMtu(mtu) };
                refusals.push(kernel.apply(&step).await.is_err());
            }
            refusals
        })
    };
    assert_eq!(refusals(1), refusals(1));
    assert_ne!(refusals(1), refusals(2));
    assert!(refusals(1).contains(&true) && refusals(1).contains(&false));
}

#[test]
fn a_daemon_that_crashes_after_some_steps_never_gets_another_answer() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let eth0 = world.plug(card("eth0", 1));
        kernel.crash_after_steps(1);
        kernel.apply(&rename(eth0, "one")).await.unwrap();
        assert!(!comes_back(kernel.crashed()).await);
        assert!(!comes_back(kernel.apply(&rename(eth0, "two"))).await);
        kernel.crashed().await;
        assert!(!comes_back(kernel.dump(eth0.ns)).await);
        assert_eq!(world.applied(), [rename(eth0, "one")]);

        let restarted = world.kernel();
        restarted.apply(&rename(eth0, "two")).await.unwrap();
        assert_eq!(names(&world), ["lo", "two"]);
    });
}

#[test]
fn a_daemon_that_crashes_within_a_step_has_taken_it() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let eth0 = world.plug(card("eth0", 1));
        kernel.crash_within_step(2);
        kernel.apply(&rename(eth0, "one")).await.unwrap();
        assert!(!comes_back(kernel.apply(&rename(eth0, "two"))).await);
        kernel.crashed().await;
        assert!(!comes_back(kernel.get(eth0.ns, eth0.ifindex)).await);
        assert_eq!(world.applied(), [rename(eth0, "one"), rename(eth0, "two")]);
    });
}

#[test]
fn tasks_interleave_as_the_seed_has_it() {
    let order = |seed| {
        block_on(async {
            let world = SimWorld::new(seed);
            let kernel = Arc::new(world.kernel());
            let eth0 = world.plug(card("eth0", 1));
            let mut tasks = tokio::task::JoinSet::new();
            for mtu in 1000..1010 {
                let kernel = Arc::clone(&kernel);
                let step = Step { at: eth0, action: Action::SetMtu(mtu) };
                tasks.spawn(async move { kernel.apply(&step).await });
            }
            tasks.join_all().await;
            world.applied()
        })
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

async fn watched(world: &SimWorld, kernel: &SimKernel) -> NsCookie {
    let ns = world.add_namespace();
    let opened = world.open(ns).unwrap();
    assert_eq!(kernel.watch(opened, world.opener(ns)).await, Ok(ns));
    ns
}

fn pair(ns: NsCookie, called: &str, peer_ns: NsCookie, peer: &str) -> NewLink {
    let kind = NewKind::Veth { peer_ns, peer_name: name(peer), peer_mac: None };
    NewLink { ns, name: name(called), mac: None, mtu: None, kind }
}

fn macvlan(ns: NsCookie, called: &str, over: Binding) -> NewLink {
    let settings = LinkOptions::none(LinkKind::named("macvlan").unwrap());
    let kind = NewKind::Single { settings, over: Some(over) };
    NewLink { ns, name: name(called), mac: None, mtu: None, kind }
}

fn move_to(at: Binding, to: NsCookie, called: &str) -> Step {
    Step { at, action: Action::Move { to, name: name(called) } }
}

fn names_in(world: &SimWorld, ns: NsCookie) -> Vec<String> {
    world.links(ns).iter().map(|link| link.name.to_string()).collect()
}

fn link_at(world: &SimWorld, at: Binding) -> KernelLink {
    world.link(at).unwrap()
}

#[test]
fn a_namespace_is_known_while_it_is_watched_and_lives() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let ns = world.add_namespace();
        let unknown = Err(KernelError::no_namespace(ns));
        assert_eq!(kernel.dump(ns).await, unknown);
        let link = world.create(ns, virtual_link("in", None)).unwrap();
        assert_eq!(waiting(&kernel).await, HintBatch::default());

        kernel.watch(world.open(ns).unwrap(), world.opener(ns)).await.unwrap();
        assert_eq!(kernel.dump(ns).await.unwrap().links.len(), 2);
        world.by_others(&rename(link, "new")).unwrap();
        assert!(waiting(&kernel).await.links.contains_key(&link));
        kernel.apply(&rename(link, "newer")).await.unwrap();

        kernel.unwatch(ns).await;
        assert_eq!(kernel.dump(ns).await, unknown);
        let opened = world.open(ns).unwrap();
        world.end_users(ns).unwrap();
        assert!(kernel.watch(opened, world.opener(ns)).await.is_err());
    });
}

#[test]
fn a_move_keeps_what_the_kernel_keeps_and_tells_where_the_link_is() {
    for seed in 0..20 {
        block_on(async {
            let world = SimWorld::new(seed);
            let kernel = world.kernel();
            let ns = watched(&world, &kernel).await;
            let at = world.plug(card("eth0", 1));
            let uplink = Action::AddAltName(AltName(b"uplink".to_vec()));
            for action in [uplink, Action::SetMtu(1400), Action::SetUp(true)] {
                kernel.apply(&Step { at, action }).await.unwrap();
            }
            let home = link_at(&world, at);
            waiting(&kernel).await;
            let now = kernel.apply(&move_to(at, ns, "inside")).await.unwrap().at;
            let expected = KernelLink {
                ifindex: now.ifindex,
                name: name("inside"),
                admin_up: false,
                state: LinkState::Down,
                ..home
            };
            assert_eq!(link_at(&world, now), expected);
            assert_eq!(names(&world), ["lo"]);
            let hints = waiting(&kernel).await.links;
            let MovedTo { ns: to, ifindex, .. } = hints[&at].moved_to.unwrap();
            assert_eq!((to, ifindex), (Some(ns), now.ifindex));
            assert!(!hints[&at].was_deleted && hints.contains_key(&now));
        });
    }
}

#[test]
fn a_move_may_change_the_index() {
    let changes = (0..100).filter(|seed| {
        let world = SimWorld::new(*seed);
        let at = world.plug(card("eth0", 1));
        let ns = world.add_namespace();
        world.by_others(&move_to(at, ns, "eth0")).unwrap().at.ifindex != at.ifindex
    });
    assert!((1..100).contains(&changes.count()));
}

#[test]
fn a_refused_move_changes_nothing() {
    let world = SimWorld::new(0);
    let (home, ns) = (world.home(), world.add_namespace());
    let at = world.plug(card("eth0", 1));
    let bridge = VirtualLink { kind: "bridge".to_owned(), ..virtual_link("bridge", None) };
    let bridge = world.create(home, bridge).unwrap();
    let there = world.create(ns, virtual_link("taken", None)).unwrap();
    for at in [at, there] {
        let altname = AltName(b"alias".to_vec());
        world.by_others(&Step { at, action: Action::AddAltName(altname) }).unwrap();
    }
    let refused = |at, called| world.by_others(&move_to(at, ns, called)).unwrap_err().errno;
    assert_eq!(refused(bridge, "bridge"), libc::EINVAL);
    assert_eq!(refused(at, "taken"), libc::EEXIST);
    assert_eq!(refused(at, "alias"), libc::EEXIST);
    assert_eq!(refused(at, "free"), libc::EEXIST, "its alternative name is taken there");
    assert_eq!(refused(Binding { ifindex: IfIndex::new(99).unwrap(), ..at }, "x"), libc::ENODEV);
    assert_eq!(
        (names(&world), names_in(&world, ns)),
        (vec!["lo".into(), "eth0".into(), "bridge".into()], vec!["lo".into(), "taken".into()],)
    );
}

#[test]
fn a_move_by_others_out_of_sight_tells_no_cookie() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let at = world.plug(card("eth0", 1));
        let now = world.by_others(&move_to(at, world.add_namespace(), "away")).unwrap().at;
        let hints = waiting(&kernel).await.links;
        let moved_to = hints[&at].moved_to.unwrap();
        assert_eq!((moved_to.ns, moved_to.ifindex), (None, now.ifindex));
        assert!(!hints.contains_key(&now));
    });
}

/// Where a new link is, and its peer, once it was seen that they are as the answer tells.
async fn made_by(kernel: &SimKernel, new: &NewLink) -> Vec<Binding> {
    let made = kernel.create(new).await.unwrap();
    for Made { at, link } in &made {
        assert_eq!(kernel.get(at.ns, at.ifindex).await.unwrap(), *link);
    }
    made.iter().map(|made| made.at).collect()
}

#[test]
fn what_is_made_is_where_it_is_wanted_and_is_told() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let ns = watched(&world, &kernel).await;
        let eth0 = world.plug(card("eth0", 1));
        let new = pair(ns, "in", world.home(), "out");
        let made = made_by(&kernel, &new).await;
        let (link, peer) = (link_at(&world, made[0]), link_at(&world, made[1]));
        assert_eq!((link.name, peer.name), (name("in"), name("out")));
        assert_eq!(place_of(ns, link.lower.unwrap()), made[1]);
        assert_eq!(place_of(world.home(), peer.lower.unwrap()), made[0]);
        assert!(link.mac.is_some() && link.mac != peer.mac);
        let over = macvlan(ns, "over", eth0);
        let share = made_by(&kernel, &over).await[0];
        assert_eq!(place_of(ns, link_at(&world, share).lower.unwrap()), eth0);
        let hints = waiting(&kernel).await.links;
        assert!([made[0], made[1], share].iter().all(|at| hints.contains_key(at)));
        assert_eq!(world.created(), [new.clone(), over]);

        assert_eq!(kernel.create(&new).await.unwrap_err().errno, libc::EEXIST);
        world.fail_next(libc::EBUSY, None);
        let refused = kernel.create(&pair(ns, "x", ns, "y")).await.unwrap_err();
        assert_eq!(refused.errno, libc::EBUSY);
        assert_eq!(names_in(&world, ns), ["lo", "in", "over"]);
    });
}

#[test]
fn what_lies_over_a_link_stays_over_it_when_that_moves_and_ends_with_it() {
    let world = SimWorld::new(0);
    let (home, ns) = (world.home(), world.add_namespace());
    let made = world.create_by_others(&pair(home, "left", home, "right")).unwrap();
    let over = world.create_by_others(&macvlan(home, "over", made[0])).unwrap()[0];
    let now = world.by_others(&move_to(made[0], ns, "in")).unwrap().at;
    for upper in [over, made[1]] {
        assert_eq!(place_of(home, link_at(&world, upper).lower.unwrap()), now);
    }
    world.delete(now).unwrap();
    assert_eq!((names(&world), names_in(&world, ns)), (vec!["lo".into()], vec!["lo".into()]));
}

#[test]
fn a_namespace_that_dies_takes_what_is_virtual_and_lets_hardware_fall_home() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let ns = watched(&world, &kernel).await;
        for (n, inside) in [(1, "taken"), (2, "free")] {
            let eth = world.plug(card("eth0", n));
            world.by_others(&move_to(eth, ns, inside)).unwrap();
        }
        let taken = world.find(ns, &name("taken")).unwrap();
        world.create(world.home(), virtual_link("taken", None)).unwrap();
        let peer = made_by(&kernel, &pair(ns, "in", world.home(), "out")).await[1];
        world.create_by_others(&macvlan(world.home(), "over", peer)).unwrap();
        waiting(&kernel).await;

        world.end_users(ns).unwrap();
        assert!(!world.is_alive(ns));
        let mut left = names(&world);
        left.sort();
        assert_eq!(left, [format!("dev{}", taken.ifindex).as_str(), "free", "lo", "taken"]);
        let batch = waiting(&kernel).await;
        assert!(batch.ended.contains(&ns));
        assert!(batch.links[&peer].was_deleted);
        assert!(batch.links.keys().all(|at| at.ns == world.home()), "no word of what was inside");
        assert_eq!(kernel.dump(ns).await, Err(KernelError::no_namespace(ns)));
    });
}

#[test]
fn a_pin_keeps_a_namespace_alive_until_the_last_is_gone() {
    block_on(async {
        let world = SimWorld::new(0);
        let (kernel, other) = (world.kernel(), world.kernel());
        let ns = watched(&world, &kernel).await;
        other.watch(world.open(ns).unwrap(), world.opener(ns)).await.unwrap();
        kernel.pin(ns).await.unwrap();
        other.pin(ns).await.unwrap();
        world.end_users(ns).unwrap();
        kernel.unpin(ns);
        assert!(world.is_alive(ns));
        drop(other);
        assert!(!world.is_alive(ns));
        assert!(waiting(&kernel).await.ended.contains(&ns));
        assert_eq!(kernel.pin(ns).await, Err(KernelError::no_namespace(ns)));
    });
}

#[test]
fn what_needs_an_open_namespace_is_refused_where_none_can_be_had() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let (ns, elsewhere) = (world.add_namespace(), world.add_namespace());
        let openers = [world.opener(elsewhere), Arc::new(|| Err(io::ErrorKind::NotFound.into()))];
        for (n, opener) in openers.into_iter().enumerate() {
            kernel.watch(world.open(ns).unwrap(), opener).await.unwrap();
            let made = made_by(&kernel, &pair(ns, "in", world.home(), &format!("out{n}"))).await;
            let refused = Err(KernelError::no_namespace(ns));
            assert_eq!(kernel.apply(&rename(made[0], "new")).await, refused);
            assert_eq!(kernel.apply(&move_to(made[1], ns, "new")).await, refused);
            assert_eq!(kernel.pin(ns).await.err(), refused.err());
            kernel.apply(&Step { at: made[0], action: Action::Delete }).await.unwrap();
        }
    });
}

#[test]
fn a_daemon_that_crashes_within_a_creation_or_a_move_has_done_it() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let ns = watched(&world, &kernel).await;
        let eth0 = world.plug(card("eth0", 1));
        kernel.crash_within_step(1);
        assert!(!comes_back(kernel.apply(&move_to(eth0, ns, "eth0"))).await);
        let restarted = world.kernel();
        restarted.watch(world.open(ns).unwrap(), world.opener(ns)).await.unwrap();
        restarted.crash_within_step(1);
        assert!(!comes_back(restarted.create(&pair(ns, "in", ns, "peer"))).await);
        assert_eq!(names_in(&world, ns).len(), 4);
    });
}

#[test]
fn a_lost_death_is_told_with_the_loss() {
    block_on(async {
        let world = SimWorld::new(0);
        let kernel = world.kernel();
        let ns = watched(&world, &kernel).await;
        world.set_hint_faults(HintFaults { lost: 100, ..HintFaults::default() });
        world.end_users(ns).unwrap();
        let batch = waiting(&kernel).await;
        assert!(batch.overrun && batch.ended.contains(&ns));
    });
}
