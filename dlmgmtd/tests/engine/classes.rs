//! Links of every kind are made, change, end and come back, on the simulated kernel.

use dlmgmt_proto::door::{ChangePorts, DeleteLink, LinkOption, MakeLink, Peer};
use dlmgmt_proto::kind::{KINDS, LinkKind};
use dlmgmt_proto::{ErrorCode, Flags, LinkClass, Result, ZoneId};
use dlmgmtd::engine::{Caller, Service};
use dlmgmtd::kernel::sim::VirtualLink;
use dlmgmtd::model::{NewKind, NewLink};

use crate::machine::{Daemon, Machine, card, mac, name, root, settle};
use crate::zones::{lend, zone};

/// A link of a kind as a client asks for it.
pub fn made(called: &str, kind: &str, options: &[(&str, &str)]) -> MakeLink {
    let options = options.iter().map(|(name, value)| LinkOption::new(*name, value)).collect();
    MakeLink { name: called.to_owned(), kind: kind.to_owned(), options, ..MakeLink::default() }
}

pub fn over(lower: &str, link: MakeLink) -> MakeLink {
    MakeLink { over: lower.parse().ok(), ..link }
}

/// A pair whose ends are made in these zones.
fn pair(called: &str, inside: Option<&str>, peer: &str, peer_inside: Option<&str>) -> MakeLink {
    let peer = Peer { name: peer.to_owned(), zone: peer_inside.map(zone) };
    MakeLink { zone: inside.map(zone), peer: Some(peer), ..made(called, "veth", &[]) }
}

fn with_ports(ports: &[&str], link: MakeLink) -> MakeLink {
    MakeLink { ports: ports.iter().map(|port| port.parse().unwrap()).collect(), ..link }
}

impl Daemon {
    pub async fn make(&self, call: MakeLink) -> Result<()> {
        self.engine.make_link(&root(), call).await.map(drop)
    }

    pub async fn change_ports(&self, link: &str, add: &[&str], remove: &[&str]) -> Result<()> {
        let class = self.link(link)?.class;
        let refs = |links: &[&str]| links.iter().map(|link| link.parse().unwrap()).collect();
        let link = link.parse().unwrap();
        let call = ChangePorts { link, class, add: refs(add), remove: refs(remove) };
        self.engine.change_ports(&root(), call).await.map(drop)
    }
}

impl Machine {
    /// The names of the ports that the kernel has of a link.
    fn ports_of(&self, master: &str) -> Vec<String> {
        let at = self.at(master);
        let links = self.world.links(at.ns);
        let ports = links.iter().filter(|link| link.master == Some(at.ifindex));
        ports.map(|port| port.name.to_string()).collect()
    }
}

/// A link of this kind over `eth0`, with what it needs. Its number is the kind's own, because a
/// VLAN has one link alone.
fn sample(kind: &'static LinkKind) -> MakeLink {
    let number = 1 + KINDS.iter().position(|known| known == kind).unwrap();
    let number = number.to_string();
    let wanted = kind.options.iter().filter(|option| option.is_required).map(|option| {
        let texts = [&number, "192.0.2.1", "2001:db8::1"];
        let fits = |text: &&&str| option.value.parse(text).is_ok();
        LinkOption::new(option.name, texts.iter().find(fits).unwrap())
    });
    let name = format!("x{}", kind.name);
    MakeLink {
        peer: kind.is_pair.then(|| Peer { name: format!("y{}", kind.name), zone: None }),
        options: wanted.collect(),
        ..match kind.lower_rule() {
            Some(_) => over("eth0", made(&name, kind.name, &[])),
            None => made(&name, kind.name, &[]),
        }
    }
}

/// Addresses are made up when a link is made first, and known when it is made again.
fn without_chance(new: &NewLink) -> NewLink {
    let mut new = NewLink { mac: None, ..new.clone() };
    if let NewKind::Veth { peer_mac, .. } = &mut new.kind {
        *peer_mac = None;
    }
    new
}

fn cards() -> [dlmgmtd::kernel::sim::PhysDevice; 2] {
    [card("eth0", 1, 1), card("eth1", 2, 2)]
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_made_comes_back_after_a_reboot_as_it_was_and_ends() {
    let mut machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    for kind in KINDS {
        daemon.make(sample(kind)).await.unwrap_or_else(|why| panic!("{}: {why}", kind.name));
        let shown = daemon.link(&format!("x{}", kind.name)).unwrap();
        assert_eq!((shown.class, shown.media), (kind.class, kind.media), "{}", kind.name);
        assert_eq!(shown.kind.as_deref(), Some(kind.kernel));
        let over: Vec<String> = shown.over.iter().map(|lower| lower.to_string()).collect();
        let peer = kind.is_pair.then(|| format!("y{}", kind.name));
        let lower = kind.lower_rule().map(|_| "eth0".to_owned());
        assert_eq!(over, Vec::from_iter(peer.or(lower)), "{}", kind.name);
    }
    settle().await;
    let known = daemon.names();
    let asked = machine.world.created();
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    machine.assert_agrees(&daemon);
    assert_eq!(daemon.names(), known);
    let again: Vec<NewLink> = machine.world.created().iter().map(without_chance).collect();
    for new in &asked {
        assert!(again.contains(&without_chance(new)), "not made again as it was: {new:?}");
    }
    for kind in KINDS {
        daemon.delete(&format!("x{}", kind.name)).await.unwrap();
    }
    assert_eq!(daemon.names(), ["eth0", "eth1"]);
}

/// The upper one may have the lower linkid, and what it lies over may be of no kind of ours.
#[tokio::test(start_paused = true)]
async fn a_link_whose_lower_one_is_missing_waits_for_it_and_so_do_those_above() {
    let mut machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    daemon.make(with_ports(&["eth1"], made("br0", "bridge", &[]))).await.unwrap();
    daemon.make(over("eth0", made("v7", "vlan", &[("vid", "7")]))).await.unwrap();
    daemon.make(over("v7", made("n0", "macvlan", &[]))).await.unwrap();
    daemon.change_ports("br0", &["v7"], &[]).await.unwrap();
    drop(daemon);
    machine.reboot([card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(machine.ports_of("br0"), ["eth1"]);
    assert_eq!(machine.kernel_names(), ["eth1", "br0"]);
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    machine.assert_agrees(&daemon);
    assert_eq!(machine.ports_of("br0"), ["eth1", "v7"]);
    assert_eq!(daemon.link("n0").unwrap().over[0].name, daemon.link("v7").unwrap().name);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_comes_back_gets_what_lay_over_it_and_is_a_port_again() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    daemon.make(over("eth0", made("v7", "vlan", &[("vid", "7")]))).await.unwrap();
    daemon.make(with_ports(&["eth1"], made("ag0", "bond", &[]))).await.unwrap();
    for called in ["eth0", "eth1"] {
        machine.world.unplug(machine.at(called)).unwrap();
    }
    settle().await;
    assert_eq!(machine.kernel_names(), ["ag0"]);
    for card in cards() {
        machine.world.plug(card);
    }
    settle().await;
    machine.assert_agrees(&daemon);
    assert_eq!(daemon.link("v7").unwrap().over[0].name, daemon.link("eth0").unwrap().name);
    assert_eq!(machine.ports_of("ag0"), ["eth1"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_all_be_done_is_not_begun_or_taken_back() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    let before = (daemon.links(), machine.records(), machine.kernel_names());
    for nth in 0..3 {
        for kind in ["bridge", "bond"] {
            machine.world.fail_step(nth, libc::EBUSY);
            let call = with_ports(&["eth0", "eth1"], made("m0", kind, &[]));
            let refused = daemon.make(call).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Kernel, "{refused}");
            settle().await;
            let after = (daemon.links(), machine.records(), machine.kernel_names());
            assert_eq!(after, before, "{kind}, step {nth}");
            assert!(machine.world.links(machine.world.home()).iter().all(|l| l.master.is_none()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_refused_each_with_its_reason() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    let web = machine.arrival("web", machine.world.add_namespace());
    daemon.engine.zone_appeared(web).await.unwrap();
    daemon.make(with_ports(&["eth1"], made("br0", "bridge", &[]))).await.unwrap();
    daemon.make(over("br0", made("v7", "vlan", &[("vid", "7")]))).await.unwrap();
    daemon.make(over("eth0", made("t0", "gre", &[("remote", "192.0.2.1")]))).await.unwrap();
    let before = (daemon.all_links(), machine.records());
    let inside = |link| MakeLink { zone: Some(zone("web")), temporary: true, ..link };
    let vlan = |vid: &str| over("eth0", made("x", "vlan", &[("vid", vid)]));
    for (call, code, why) in [
        (made("x", "wireguard", &[]), ErrorCode::NotSupported, "wireguard"),
        (made("x", "vlan", &[("vid", "7")]), ErrorCode::Invalid, "needs a link"),
        (over("eth0", made("x", "dummy", &[])), ErrorCode::Invalid, "over no other link"),
        (vlan("0"), ErrorCode::Invalid, "1-4094"),
        (vlan("4095"), ErrorCode::Invalid, "1-4094"),
        (over("eth0", made("x", "vlan", &[])), ErrorCode::Invalid, "vlan needs vid"),
        (
            over("eth0", made("x", "vlan", &[("vid", "7"), ("vid", "8")])),
            ErrorCode::Invalid,
            "twice",
        ),
        (
            over("eth0", made("x", "vlan", &[("vid", "7"), ("mtu", "9000")])),
            ErrorCode::Invalid,
            "more than its 1500",
        ),
        (
            over("eth0", made("x", "macvlan", &[("mac", "01:00:00:00:00:01")])),
            ErrorCode::Invalid,
            "unicast",
        ),
        (over("t0", made("x", "macvlan", &[])), ErrorCode::Invalid, "its media is IPv4"),
        (over("lo", made("x", "gre", &[("remote", "192.0.2.1")])), ErrorCode::Invalid, "Loopback"),
        (
            inside(over("global/eth0", made("x", "gre", &[("remote", "192.0.2.1")]))),
            ErrorCode::Invalid,
            "not in zone web",
        ),
        (over("nothing", made("x", "macvlan", &[])), ErrorCode::NotFound, "nothing"),
        (with_ports(&["br0"], made("x", "bridge", &[])), ErrorCode::Invalid, "bridge itself"),
        (with_ports(&["t0"], made("x", "bridge", &[])), ErrorCode::Invalid, "its media is IPv4"),
        (with_ports(&["eth1"], made("x", "bond", &[])), ErrorCode::Busy, "port of br0"),
        (with_ports(&["eth0", "eth0"], made("x", "bond", &[])), ErrorCode::Invalid, "twice"),
        (
            inside(with_ports(&["global/eth0"], made("x", "bond", &[]))),
            ErrorCode::Invalid,
            "one zone",
        ),
        (with_ports(&["eth0"], made("x", "dummy", &[])), ErrorCode::Invalid, "no ports"),
        (made("x", "veth", &[]), ErrorCode::Invalid, "other end"),
        (
            MakeLink {
                peer: Some(Peer { name: "y".to_owned(), zone: None }),
                ..made("x", "dummy", &[])
            },
            ErrorCode::Invalid,
            "other end",
        ),
        (made("br0", "dummy", &[]), ErrorCode::Exists, "br0"),
    ] {
        let asked = format!("{call:?}");
        let refused = daemon.make(call).await.unwrap_err();
        assert_eq!(refused.code, code, "{asked}: {refused}");
        assert!(refused.message.contains(why), "{asked}: {refused}");
    }
    for (add, remove, code, why) in [
        (&["v7"][..], &[][..], ErrorCode::Invalid, "lies over br0 itself"),
        (&["br0"], &[], ErrorCode::Invalid, "port of itself"),
        (&[], &["eth0"], ErrorCode::NotFound, "no port of br0"),
        (&["eth0"], &["eth1"], ErrorCode::Invalid, "not both"),
    ] {
        let refused = daemon.change_ports("br0", add, remove).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(why), "{refused}");
    }
    assert_eq!((daemon.all_links(), machine.records()), before);
}

#[tokio::test(start_paused = true)]
async fn a_pair_ends_with_the_zone_of_either_end_also_where_the_namespace_lives_on() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    for (inside, peer_inside) in [(Some("web"), None), (None, Some("web"))] {
        let ns = machine.zone_up(&daemon, "web").await;
        let link = MakeLink { temporary: true, ..pair("t0", inside, "t1", peer_inside) };
        daemon.make(link).await.unwrap();
        let links = daemon.all_links();
        assert_eq!(links.len(), 2);
        assert!(links.iter().all(|link| link.flags.contains(Flags::TRANSIENT)));
        daemon.engine.end_zone(ZoneId(1)).await;
        settle().await;
        assert_eq!(daemon.all_links(), []);
        assert_eq!(machine.names_in(ns), Vec::<String>::new());
        assert_eq!(machine.kernel_names(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_with_an_end_in_a_zone_is_not_persistent() {
    let machine = Machine::new(0);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    for (inside, peer_inside) in [(Some("web"), None), (None, Some("web"))] {
        let refused = daemon.make(pair("v0", inside, "v1", peer_inside)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{refused}");
        assert!(refused.message.contains("a link made in a zone is temporary"), "{refused}");
        assert_eq!(machine.names_in(web), Vec::<String>::new());
        assert_eq!((daemon.all_links(), machine.kernel_names()), (vec![], vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_zone_is_not_told_who_elsewhere_uses_the_other_end_of_its_pair() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    let peer = Some(Peer { name: "outside".to_owned(), zone: Some(zone("global")) });
    let pair = MakeLink { zone: Some(zone("web")), temporary: true, ..made("eth0", "veth", &[]) };
    daemon.make(MakeLink { peer, ..pair }).await.unwrap();
    let inside = Caller { zone: Some(ZoneId(1)), ..root() };
    let refused = async || {
        let call = DeleteLink { link: "eth0".parse().unwrap(), class: LinkClass::Veth };
        let refused = daemon.engine.delete_link(&inside, call).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        refused.message
    };
    let because = |why: &str| format!("eth0 in zone web cannot be deleted: {why}");

    daemon.make(with_ports(&["outside"], made("br0", "bridge", &[]))).await.unwrap();
    assert_eq!(refused().await, because("its other end is in use"));
    for (held, why) in [("outside", "its other end is held"), ("web/eth0", "it is held")] {
        let _hold = daemon.engine.hold(&root(), held.parse().unwrap()).await.unwrap();
        assert_eq!(refused().await, because(why));
    }
    let told = daemon.delete("web/eth0").await.unwrap_err();
    assert!(told.message.contains("outside in zone global is in use: port of br0"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_link_under_others_is_busy_also_where_they_wait_for_it() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    daemon.make(made("s0", "dummy", &[])).await.unwrap();
    daemon.make(over("s0", made("n0", "macvlan", &[]))).await.unwrap();
    daemon.make(with_ports(&["n0"], made("br0", "bridge", &[]))).await.unwrap();
    let refused = daemon.delete("s0").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("lower link of n0"), "{refused}");
    let refused = daemon.delete("n0").await.unwrap_err();
    assert!(refused.message.contains("port of br0"), "{refused}");
    machine.world.delete(machine.at("n0")).unwrap();
    settle().await;
    let refused = daemon.delete("s0").await.unwrap_err();
    assert!(refused.message.contains("lower link of n0"), "it waits: {refused}");
    daemon.delete("br0").await.unwrap();
    daemon.delete("n0").await.unwrap();
    daemon.delete("s0").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lower_link_of_another_zone_is_told_with_its_zone_but_not_inside() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    let ns = machine.world.add_namespace();
    daemon.engine.zone_appeared(machine.arrival("web", ns)).await.unwrap();
    daemon.make(over("eth0", made("v7", "vlan", &[("vid", "7")]))).await.unwrap();
    daemon.engine.set_zone(&root(), lend("v7", "web")).await.unwrap();
    settle().await;
    let shown = daemon.link("web/v7").unwrap();
    assert_eq!(shown.over[0].to_string(), "global/eth0");
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    assert_eq!(daemon.link("web/v7").unwrap().over[0].to_string(), "global/lan");
    let zones = daemon.engine.list_zones(&root()).unwrap();
    let web = zones.iter().find(|known| known.name == zone("web")).unwrap().id;
    let inside = dlmgmtd::engine::Caller { zone: Some(web), ..root() };
    let call = dlmgmt_proto::door::GetLink { link: "v7".parse().unwrap() };
    assert!(daemon.engine.get_link(&inside, &call).unwrap().over.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_whether_it_was_asked_for_or_taken_by_chance() {
    let mut machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    let asked = [("mac", "02:00:00:00:00:99")];
    daemon.make(over("eth0", made("n0", "macvlan", &asked))).await.unwrap();
    daemon.make(made("s0", "dummy", &[])).await.unwrap();
    let by_chance = daemon.link("s0").unwrap().mac;
    // What was seen is written with the next change that is acknowledged.
    daemon.rename(&[("eth1", "lan")]).await.unwrap();
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(daemon.link("n0").unwrap().mac, Some(mac(0x99)));
    assert_eq!(daemon.link("s0").unwrap().mac, by_chance);
    let class = daemon.link("s0").unwrap().class;
    assert_eq!(class, LinkClass::Etherstub);
}

/// To the kernel it is a vlan, so what it is beside that is known by its record alone.
#[tokio::test(start_paused = true)]
async fn a_vnic_on_a_vlan_stays_one_after_a_restart_a_loan_and_a_reboot() {
    let mut machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    let web = machine.world.add_namespace();
    daemon.engine.zone_appeared(machine.arrival("web", web)).await.unwrap();
    daemon.make(over("eth0", made("n7", "vlan-vnic", &[("vid", "7")]))).await.unwrap();
    let before = daemon.link("n7").unwrap();
    assert_eq!((before.class, before.kind.as_deref()), (LinkClass::Vnic, Some("vlan")));
    daemon.engine.set_zone(&root(), lend("n7", "web")).await.unwrap();
    settle().await;
    assert_eq!(daemon.link("web/n7").unwrap().class, LinkClass::Vnic);
    drop(daemon);
    let daemon = machine.start().await;
    daemon.engine.zone_appeared(machine.arrival("web", web)).await.unwrap();
    settle().await;
    assert_eq!(daemon.link("web/n7").unwrap().class, LinkClass::Vnic);
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    machine.assert_agrees(&daemon);
    let after = daemon.link("n7").unwrap();
    assert_eq!((after.id, after.class, after.mac), (before.id, before.class, before.mac));
    let wrong = DeleteLink { link: "n7".parse().unwrap(), class: LinkClass::Vlan };
    let refused = daemon.engine.delete_link(&root(), wrong).await.unwrap_err();
    assert!(refused.message.contains("is no vlan but a vnic"), "{refused}");
    daemon.delete("n7").await.unwrap();
    assert_eq!(machine.kernel_names(), ["eth0", "eth1"]);
}

#[tokio::test(start_paused = true)]
async fn a_vlan_has_one_link_over_a_lower_one_whatever_it_is_used_as() {
    let machine = Machine::with_cards(cards());
    let daemon = machine.start().await;
    daemon.make(over("eth0", made("n7", "vlan-vnic", &[("vid", "7")]))).await.unwrap();
    for kind in ["vlan", "vlan-vnic"] {
        let before = (daemon.links(), machine.records().len(), machine.kernel_names());
        let again = over("eth0", made("x", kind, &[("vid", "7")]));
        let refused = daemon.make(again).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Kernel, "{refused}");
        assert!(refused.message.contains("VLAN device already exists"), "{refused}");
        assert_eq!((daemon.links(), machine.records().len(), machine.kernel_names()), before);
    }
    daemon.make(over("eth1", made("v7", "vlan", &[("vid", "7")]))).await.unwrap();
    let tagged_twice = [("vid", "7"), ("protocol", "802.1ad")];
    daemon.make(over("eth0", made("v7s", "vlan", &tagged_twice))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vlan_of_somebody_else_stays_a_vlan_whatever_its_address() {
    let machine = Machine::with_cards(cards());
    let lower = Some(machine.at("eth0").ifindex);
    let kind = "vlan".to_owned();
    let theirs = VirtualLink { name: name("theirs"), kind, mac: Some(mac(0x77)), lower };
    machine.world.create(machine.world.home(), theirs).unwrap();
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(daemon.link("theirs").unwrap().class, LinkClass::Vlan);
}
