//! The kernel's side leaks no descriptor. A file of its own: it counts those of the whole process.

// clippy knows tests, but not their helpers, for what they are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;

use dlmgmt_proto::LinkName;
use dlmgmtd::kernel::rtnetlink::RtnetlinkKernel;
use dlmgmtd::kernel::{Kernel, NsOpener};
use dlmgmtd::model::{Action, NewKind, NewLink, NsCookie, Step};

const TEST: &str = "no_descriptor_is_left_behind";
const INSIDE: &str = "DLMGMT_TEST_INSIDE";

/// A process that keeps a namespace alive.
struct Other(Child);

impl Other {
    fn new() -> Self {
        let other = Self(Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(other.place()).unwrap() == own {
            std::thread::yield_now();
        }
        other
    }

    fn place(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn opener(&self) -> NsOpener {
        let place = self.place();
        Arc::new(move || Ok(File::open(&place)?.into()))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

fn veth(ns: NsCookie, peer_ns: NsCookie) -> NewLink {
    let kind = NewKind::Veth { peer_ns, peer_name: name("out"), peer_mac: None };
    NewLink { ns, name: name("in"), mac: None, mtu: None, kind }
}

/// A life of a namespace with all that can be asked about it, refusals too.
async fn life_of_a_namespace(kernel: &RtnetlinkKernel) {
    let other = Other::new();
    let ns = kernel.watch(other.opener()().unwrap(), other.opener()).await.unwrap();
    let pair = kernel.create(&veth(ns, kernel.home())).await.unwrap();
    kernel.create(&veth(ns, kernel.home())).await.unwrap_err();
    let to = |to, called| Action::Move { to, name: name(called) };
    let act = async |at, action| kernel.apply(&Step { at, action }).await;
    act(pair[0].at, Action::SetMtu(1300)).await.unwrap();
    act(pair[0].at, Action::SetMtu(1)).await.unwrap_err();
    act(pair[0].at, to(kernel.home(), "lo")).await.unwrap_err();
    let back = act(pair[0].at, to(kernel.home(), "home")).await.unwrap().at;
    act(back, to(ns, "in")).await.unwrap();
    kernel.pin(ns).await.unwrap();
    drop(other);
    kernel.dump(ns).await.unwrap();
    kernel.unpin(ns);
    while !kernel.hints().take().await.ended.contains(&ns) {}
    // Its death is told before its links die, and with them their peers here.
    while has_link(kernel, "out").await {}
}

async fn has_link(kernel: &RtnetlinkKernel, called: &str) -> bool {
    let dump = kernel.dump(kernel.home()).await.unwrap();
    dump.links.iter().any(|link| link.name == name(called))
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn count_inside() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kernel = RtnetlinkKernel::open().unwrap();
        life_of_a_namespace(&kernel).await;
        let before = open_descriptors();
        for _ in 0..10 {
            life_of_a_namespace(&kernel).await;
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    if std::env::var_os(INSIDE).is_some() {
        return count_inside();
    }
    if !Command::new("unshare").args(["-n", "true"]).status().unwrap().success() {
        println!("skipped: a network namespace cannot be made");
        return;
    }
    let mut inside = Command::new("unshare");
    inside.arg("-n").arg(std::env::current_exe().unwrap()).args(["--exact", TEST]);
    assert!(inside.env(INSIDE, "1").status().unwrap().success());
}
