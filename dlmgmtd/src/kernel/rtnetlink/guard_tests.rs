//! What links of the real kernel do not send: frames made by hand, in a namespace of their own.

use std::os::fd::OwnedFd;

use dlmgmt_proto::property::{Kind, Property};
use dlmgmt_proto::{HwAddr, LinkState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::tests::{in_new_namespace, ip, name};
use super::*;
use crate::sys;

/// Whom all frames of these tests are for.
const TO: [u8; 6] = [2, 0xff, 0xff, 0xff, 0xff, 0xff];

/// The address of the link `a`, and one that it does not have.
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FOREIGN: [u8; 6] = [2, 0, 0, 0, 0, 9];

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
const LLDP: u16 = 0x88cc;

/// Longer than a frame takes on the slowest machine.
const LOST: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

fn frame(from: [u8; 6], protocol: u16, body: &[u8]) -> Vec<u8> {
    [&TO, &from, &protocol.to_be_bytes()[..], body].concat()
}

fn ipv4(source: [u8; 4]) -> Vec<u8> {
    let body = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 9, 99, 0, 0], &source[..], &[10, 0, 0, 99]].concat();
    frame(OWN, IPV4, &body)
}

fn arp(sender: [u8; 4]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1], &OWN[..], &sender, &[0; 6], &[10, 0, 0, 99]].concat();
    frame(OWN, ARP, &body)
}

fn ipv6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    let body = [&[0x60, 0, 0, 0, 0, 0, 59, 1], &source.octets()[..], &[0xfe; 16]].concat();
    frame(OWN, IPV6, &body)
}

/// An IPv4 packet of VLAN 7.
fn tagged() -> Vec<u8> {
    let packet = ipv4([10, 0, 0, 1]);
    [&packet[..12], &VLAN.to_be_bytes(), &[0, 7], &packet[12..], b"tagged"].concat()
}

/// A frame as its receiver is shown it: what VLAN it is of, is told beside it.
fn untagged(frame: &[u8]) -> Vec<u8> {
    match frame[12..14] == VLAN.to_be_bytes() {
        true => [&frame[..12], &frame[16..]].concat(),
        false => frame.to_vec(),
    }
}

/// Whether this kernel has a hook for what leaves a link.
async fn has_egress_hook(kernel: &RtnetlinkKernel) -> bool {
    let at = kernel.at("a").await;
    match kernel.protect(at, "restricted").await {
        Ok(_) => kernel.protect(at, "").await.is_ok(),
        Err(why) if why.errno == libc::EOPNOTSUPP => {
            println!("skipped: {why}");
            false
        }
        Err(why) => panic!("{why}"),
    }
}

impl RtnetlinkKernel {
    async fn protect(&self, at: Binding, words: &str) -> Result<Applied, KernelError> {
        let value = Kind::Guards.parse(words).unwrap();
        self.act(at, Action::Set(Property::Protection, value)).await
    }

    async fn allow(&self, at: Binding, networks: &str) {
        let value = Kind::Networks.parse(networks).unwrap();
        self.act(at, Action::Set(Property::AllowedIps, value)).await.unwrap();
    }

    /// What is told of the two properties.
    async fn guarded(&self, at: Binding) -> [String; 2] {
        let told = self.readings(at).await.unwrap().values;
        let shown = |kind: Kind, property| kind.show(told.get(property).unwrap());
        [shown(Kind::Guards, Property::Protection), shown(Kind::Networks, Property::AllowedIps)]
    }
}

/// The two ends of a cable: what is sent over the link `a`, and what comes to its peer `b`.
struct Cable {
    from: OwnedFd,
    to: OwnedFd,
}

impl Cable {
    async fn lay(kernel: &RtnetlinkKernel) -> Self {
        ip("link set dev a up");
        ip("link set dev b up");
        kernel.becomes("a", LinkState::Up).await;
        kernel.becomes("b", LinkState::Up).await;
        let socket = async |called: &str| {
            sys::frame_socket(kernel.link(called).await.ifindex.get()).unwrap()
        };
        Self { from: socket("a").await, to: socket("b").await }
    }

    fn send(&self, frame: &[u8]) {
        // A frame that is dropped on its way is refused as one for which there is no room.
        let sent = rustix::net::send(&self.from, frame, SendFlags::empty());
        assert!(matches!(sent, Ok(_) | Err(rustix::io::Errno::NOBUFS)), "{sent:?}");
    }

    /// Which of these frames arrive.
    fn passes(&self, frames: &[Vec<u8>]) -> Vec<bool> {
        frames.iter().for_each(|frame| self.send(frame));
        // Frames arrive in their order, and nothing keeps back one of nobody yet.
        let marker = [ipv4([0; 4]), b"the end".to_vec()].concat();
        self.send(&marker);
        let arrived: Vec<Vec<u8>> =
            std::iter::from_fn(|| Some(self.next())).take_while(|frame| *frame != marker).collect();
        frames.iter().map(|frame| arrived.contains(&untagged(frame))).collect()
    }

    /// The next frame of these tests, whatever else comes.
    fn next(&self) -> Vec<u8> {
        loop {
            let mut arrival = [PollFd::new(&self.to, PollFlags::IN)];
            assert_eq!(poll(&mut arrival, Some(&LOST)).unwrap(), 1, "the last frame is lost");
            let mut bytes = [0; 2000];
            let (_, len) = rustix::net::recv(&self.to, &mut bytes[..], RecvFlags::empty()).unwrap();
            if bytes.starts_with(&TO) {
                return bytes[..len].to_vec();
            }
        }
    }
}

/// Runs a test with a pair of links, `a` and `b`, where the kernel can guard them.
fn with_a_pair(test: impl AsyncFnOnce(&RtnetlinkKernel) + Send + 'static) {
    in_new_namespace(async || {
        ip("link add name a address 02:00:00:00:00:01 type veth peer name b");
        let kernel = RtnetlinkKernel::open().unwrap();
        if has_egress_hook(&kernel).await {
            test(&kernel).await;
        }
    });
}

#[test]
fn a_guarded_link_sends_from_no_address_but_its_own() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        let frames = [frame(FOREIGN, LLDP, b"foreign"), frame(OWN, LLDP, b"own")];
        assert_eq!(cable.passes(&frames), [true, true]);
        kernel.protect(at, "mac-nospoof").await.unwrap();
        assert_eq!(kernel.guarded(at).await, ["mac-nospoof", ""]);
        assert_eq!(cable.passes(&frames), [false, true]);
        kernel.protect(at, "").await.unwrap();
        assert_eq!(kernel.guarded(at).await, ["", ""]);
        assert_eq!(cable.passes(&frames), [true, true]);
    });
}

#[test]
fn the_guard_follows_the_address_that_the_link_is_given() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        kernel.protect(at, "mac-nospoof").await.unwrap();
        let other = HwAddr::new(&FOREIGN).unwrap();
        kernel.act(at, Action::SetMac(other)).await.unwrap();
        kernel.renew_rules(at).await.unwrap();
        cable.send(&frame(OWN, LLDP, b"as it was"));
        let now = frame(FOREIGN, LLDP, b"as it is");
        cable.send(&now);
        assert_eq!(cable.next(), now);
    });
}

#[test]
fn a_restricted_link_sends_ip_and_arp_alone() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        let frames = [
            ipv4([10, 0, 0, 1]),
            arp([10, 0, 0, 1]),
            ipv6("2001:db8::1"),
            frame(OWN, LLDP, b"lldp"),
            tagged(),
            frame(FOREIGN, IPV4, b"of whomever"),
        ];
        assert_eq!(cable.passes(&frames), [true; 6]);
        kernel.protect(at, "restricted").await.unwrap();
        assert_eq!(cable.passes(&frames), [true, true, true, false, false, true]);
    });
}

#[test]
fn a_guarded_link_sends_from_allowed_ip_addresses_alone() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        kernel.allow(at, "10.0.0.1,10.9.0.0/16,2001:db8::/32").await;
        let frames = [
            ipv4([10, 0, 0, 1]),
            ipv4([10, 9, 8, 7]),
            ipv4([10, 0, 0, 2]),
            arp([10, 0, 0, 1]),
            arp([10, 9, 0, 1]),
            arp([0, 0, 0, 0]),
            arp([10, 0, 0, 2]),
            ipv6("2001:db8::1"),
            ipv6("fe80::1"),
            ipv6("::"),
            ipv6("2001:db9::1"),
            frame(OWN, LLDP, b"no address at all"),
            tagged(),
        ];
        assert_eq!(cable.passes(&frames), [true; 13], "they are allowed, and others not forbidden");
        kernel.protect(at, "ip-nospoof").await.unwrap();
        let is_allowed = [true, true, false, true, true, true, false, true, true, true, false];
        assert_eq!(cable.passes(&frames)[..11], is_allowed);
        assert_eq!(cable.passes(&frames)[11..], [true, false]);
        let told = ["ip-nospoof", "10.0.0.1,10.9.0.0/16,2001:db8::/32"];
        assert_eq!(kernel.guarded(at).await, told);
        kernel.allow(at, "").await;
        assert_eq!(cable.passes(&frames[..3]), [false; 3]);
    });
}

#[test]
fn as_many_networks_are_allowed_as_can_be_named() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let mut networks: Vec<String> = (0..16).map(|n| format!("10.{n}.0.0/16")).collect();
        networks.extend((1..17).map(|n| format!("2001:db8:{n:x}::/48")));
        networks.sort_unstable();
        kernel.allow(at, &networks.join(",")).await;
        assert_eq!(kernel.guarded(at).await, ["", &networks.join(",")]);
    });
}

#[test]
fn a_frame_too_short_to_be_looked_at_is_not_sent() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        kernel.protect(at, "ip-nospoof").await.unwrap();
        let frames = [frame(OWN, IPV4, &[0x45]), frame(OWN, ARP, &[]), frame(OWN, IPV6, &[0x60])];
        assert_eq!(cable.passes(&frames), [false; 3]);
    });
}

#[test]
fn guards_hold_over_a_rename() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let cable = Cable::lay(kernel).await;
        kernel.protect(at, "mac-nospoof,restricted").await.unwrap();
        kernel.act(at, Action::Rename(name("c"))).await.unwrap();
        kernel.renew_rules(at).await.unwrap();
        assert_eq!(kernel.guarded(at).await, ["mac-nospoof,restricted", ""]);
        assert_eq!(cable.passes(&[frame(OWN, LLDP, b"lldp")]), [false]);
    });
}

#[test]
fn a_link_is_spared_the_guards_of_one_that_had_its_name() {
    with_a_pair(async |kernel| {
        kernel.protect(kernel.at("a").await, "mac-nospoof").await.unwrap();
        ip("link delete dev a");
        ip("link add name a address 02:00:00:00:00:01 type veth peer name b");
        let cable = Cable::lay(kernel).await;
        assert_eq!(kernel.guarded(kernel.at("a").await).await, ["", ""]);
        assert_eq!(cable.passes(&[frame(FOREIGN, LLDP, b"foreign")]), [true]);
    });
}

#[test]
fn rules_that_others_delete_are_not_told_as_in_force() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        kernel.protect(at, "mac-nospoof,ip-nospoof").await.unwrap();
        kernel.allow(at, "10.0.0.1").await;
        let mut rules = Nftables::open().unwrap();
        let mut batch = nftables::Batch::default();
        batch.delete_chain(&format!("link-{}", at.ifindex));
        rules.commit(batch).unwrap();
        assert_eq!(kernel.guarded(at).await, ["", "10.0.0.1"]);
        kernel.clear_rules(at).await.unwrap();
        assert_eq!(kernel.guarded(at).await, ["", ""]);
    });
}

#[test]
fn a_change_of_which_a_part_is_refused_changes_nothing() {
    with_a_pair(async |kernel| {
        let at = kernel.at("a").await;
        let mut rules = Nftables::open().unwrap();
        let mut batch = nftables::Batch::default();
        batch.add_table();
        batch.add_chain("of-ours");
        batch.add_egress_chain("of-nobody", b"");
        batch.delete_chain("not-there");
        assert_eq!(rules.commit(batch).unwrap_err().errno, libc::ENOENT);
        assert_eq!(rules.link_of("of-ours"), Ok(None));
        assert_eq!(kernel.guarded(at).await, ["", ""]);
    });
}
