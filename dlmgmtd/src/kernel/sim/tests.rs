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
    let links = kernel.dump(kernel.home()).await.unwrap();
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
        rename(b"renamed-while-up"),
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
        for (simulated, real) in
            simulated.iter().zip(answers(&RtnetlinkKernel::open().unwrap()).await)
        {
            assert_eq!(*simulated, real);
        }
    });
}
