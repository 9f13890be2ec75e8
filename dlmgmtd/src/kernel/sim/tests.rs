//! Each rule that the simulation mimics, and each trouble that it makes.

use std::task::Poll;

use super::*;
use crate::kernel::HintBatch;
use crate::kernel::rtnetlink::RtnetlinkKernel;
use crate::kernel::rtnetlink::tests::{in_new_namespace, ip};
use crate::model::AltName;

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
        Action::SetUp(true),
        Action::SetUp(true),
        rename(b"while-up"),
        Action::SetUp(false),
    ];
    script.extend((1..=255_u8).filter(|byte| *byte != b'%').map(|byte| rename(&[b'x', byte])));
    let mut answers = Vec::new();
    for (ifindex, action) in script
        .iter()
        .map(|action| (left, action))
        .chain(script.iter().map(|action| (IfIndex::new(1_000_000).unwrap(), action)))
    {
        let at = Binding { ns: kernel.home(), ifindex };
        let answer = kernel.apply(&Step { at, action: action.clone() }).await;
        answers.push((action.clone(), answer.err().map_or(0, |error| error.errno)));
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
