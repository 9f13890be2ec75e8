//! What a link was made with is read and changed afterwards, where the kernel can.

use dlmgmt_proto::door::{Changed, ListProperties, MakeLink, ResetProperties};
use dlmgmt_proto::property::PropertyInfo;
use dlmgmt_proto::{ErrorCode, Result};
use dlmgmtd::engine::Service;
use dlmgmtd::kernel::sim::{PhysDevice, VirtualLink};
use dlmgmtd::model::{Action, KernelLink, LinkProperties, LinkRecord, Recipe, Step};

use crate::classes::made;
use crate::machine::{Daemon, Machine, card, name, root, settle};
use crate::properties::{set, set_for};

/// A bridge of ours with STP, `br0`; a bond of ours with the port `eth1`, `ag0`; a vlan of ours
/// over `eth0`, `v7`; and a bridge of somebody else, `theirs`.
async fn start() -> (Machine, Daemon) {
    let machine = Machine::with_cards(cards());
    let kind = "bridge".to_owned();
    let theirs = VirtualLink { name: name("theirs"), kind, mac: None, lower: None };
    machine.world.create(machine.world.home(), theirs).unwrap();
    let daemon = machine.start().await;
    daemon.make(made("br0", "bridge", &[("protect", "stp")])).await.unwrap();
    let bond = made("ag0", "bond", &[("lacp", "active")]);
    daemon.make(with_port("eth1", bond)).await.unwrap();
    let vlan = made("v7", "vlan", &[("vid", "7")]);
    daemon.make(MakeLink { over: "eth0".parse().ok(), ..vlan }).await.unwrap();
    settle().await;
    (machine, daemon)
}

fn cards() -> [PhysDevice; 2] {
    [card("eth0", 1, 1), card("eth1", 2, 2)]
}

fn with_port(port: &str, link: MakeLink) -> MakeLink {
    MakeLink { ports: vec![port.parse().unwrap()], ..link }
}

async fn listed(daemon: &Daemon, link: &str, names: &[&str]) -> Result<Vec<PropertyInfo>> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let call = ListProperties { link: link.parse().unwrap(), names };
    daemon.engine.list_properties(&root(), call).await
}

/// What is wanted of an option, and what is there.
async fn shown(daemon: &Daemon, link: &str, option: &str) -> (String, String) {
    let found = listed(daemon, link, &[option]).await.unwrap().remove(0);
    (found.value.unwrap_or_default(), found.effective.unwrap_or_default())
}

fn both(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

/// Takes one property back.
pub async fn reset_one(
    daemon: &Daemon,
    link: &str,
    option: &str,
    temporary: bool,
) -> Result<Changed> {
    let names = vec![option.to_owned()];
    let call = ResetProperties { link: link.parse().unwrap(), names, temporary };
    daemon.engine.reset_properties(&root(), call).await
}

fn in_kernel(machine: &Machine, called: &str, option: &str) -> String {
    let link = machine.world.link(machine.at(called)).unwrap();
    link.tunables.options.unwrap().get(option).unwrap().to_string()
}

fn record(machine: &Machine, called: &str) -> LinkRecord {
    machine.records().into_iter().find(|record| record.name == name(called)).unwrap()
}

/// What the kernel has, and what is kept of each link's options and properties.
fn everything(machine: &Machine) -> (Vec<KernelLink>, Vec<(Option<Recipe>, LinkProperties)>) {
    let kept = machine.records().into_iter().map(|record| (record.recipe, record.properties));
    (machine.world.links(machine.world.home()), kept.collect())
}

#[tokio::test(start_paused = true)]
async fn the_table_of_kinds_says_what_there_is_and_what_of_it_can_be_set() {
    let (_machine, daemon) = start().await;
    let all = listed(&daemon, "v7", &[]).await.unwrap();
    let one = |name: &str| all.iter().find(|info| info.name == name).unwrap();
    let (vid, gvrp) = (one("vid"), one("gvrp"));
    assert_eq!((vid.is_writable, vid.value.as_deref()), (false, Some("7")));
    assert_eq!((gvrp.is_writable, gvrp.effective.as_deref()), (true, Some("off")));
    assert_eq!(gvrp.default.as_deref(), Some("off"));
    assert_eq!(gvrp.possible.as_deref(), Some("on,off"));
    let mtu: Vec<&PropertyInfo> = all.iter().filter(|info| info.name == "mtu").collect();
    assert_eq!(mtu.len(), 1, "that of every link");
    assert_eq!(shown(&daemon, "theirs", "stp").await, both("none"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_possible_is_refused_with_why_and_changes_nothing() {
    let (machine, daemon) = start().await;
    let before = everything(&machine);
    for (link, values, why) in [
        ("v7", &[("vid", "8")][..], "vid can only be read"),
        ("v7", &[("protect", "stp")], "no property `protect`"),
        ("br0", &[("max-age", "99")], "6-40"),
        ("br0", &[("protect", "none"), ("stp", "on")], "protect is named twice"),
        ("ag0", &[("lacp", "active"), ("mode", "balance-rr")], "lacp needs mode to be 802.3ad"),
        ("eth0", &[("protect", "stp")], "no property `protect`"),
    ] {
        let refused = set(&daemon, link, values).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{refused}");
        assert!(refused.message.contains(why), "{refused}");
    }
    let refused = reset_one(&daemon, "v7", "vid", false).await.unwrap_err();
    assert!(refused.message.contains("vid can only be read"), "{refused}");
    settle().await;
    assert_eq!(everything(&machine), before);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_made_again_has_what_was_set_for_good_and_not_what_was_set_for_now() {
    let (mut machine, daemon) = start().await;
    set(&daemon, "br0", &[("stp", "off"), ("ageing", "77"), ("mtu", "1400")]).await.unwrap();
    set_for(&daemon, "br0", &[("priority", "4096")], true).await.unwrap();
    set(&daemon, "v7", &[("gvrp", "on")]).await.unwrap();
    assert_eq!(in_kernel(&machine, "br0", "protect"), "none");
    assert_eq!(in_kernel(&machine, "br0", "priority"), "4096");
    assert_eq!(shown(&daemon, "br0", "ageing-time").await, both("77"));
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(in_kernel(&machine, "br0", "protect"), "none");
    assert_eq!(in_kernel(&machine, "br0", "ageing-time"), "77");
    assert_eq!(in_kernel(&machine, "br0", "priority"), "32768");
    assert_eq!(in_kernel(&machine, "v7", "gvrp"), "on");
    assert_eq!(daemon.link("br0").unwrap().mtu, Some(1400));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_kernel_refuses_half_way_is_taken_back() {
    let values = [("stp", "off"), ("ageing", "77"), ("mtu", "1400"), ("vlan_filtering", "on")];
    for good_steps in 0..values.len() {
        let (machine, daemon) = start().await;
        let before = everything(&machine);
        machine.world.fail_step(good_steps, libc::EBUSY);
        let refused = set(&daemon, "br0", &values).await.unwrap_err();
        assert_eq!(refused.errno, libc::EBUSY);
        settle().await;
        let after = everything(&machine);
        assert_eq!(after, before, "after {good_steps} steps");
        set(&daemon, "br0", &values).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bond_with_ports_keeps_its_mode_and_the_kernel_says_why() {
    let (machine, daemon) = start().await;
    let before = everything(&machine);
    let refused = set(&daemon, "ag0", &[("mode", "active-backup")]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Kernel);
    assert!(refused.message.contains("has slaves"), "{refused}");
    settle().await;
    assert_eq!(everything(&machine), before);
    set(&daemon, "ag0", &[("lacp", "passive"), ("lacp_rate", "fast")]).await.unwrap();
    daemon.change_ports("ag0", &[], &["eth1"]).await.unwrap();
    set(&daemon, "ag0", &[("mode", "active-backup")]).await.unwrap();
    assert_eq!(in_kernel(&machine, "ag0", "mode"), "active-backup");
    let options = record(&machine, "ag0").recipe.unwrap().options;
    assert!(!options.contains_key("lacp"), "it means nothing any more: {options:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bond_asks_by_arp_instead_of_looking_at_carriers() {
    let (mut machine, daemon) = start().await;
    let bond = made("ag1", "bond", &[("mode", "active-backup"), ("miimon", "50")]);
    daemon.make(bond).await.unwrap();
    let arp = [("arp_interval", "9"), ("arp_ip_target", "192.0.2.1,192.0.2.2")];
    set(&daemon, "ag1", &arp).await.unwrap();
    assert_eq!(shown(&daemon, "ag1", "arp-ip-target").await, both("192.0.2.1,192.0.2.2"));
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(shown(&daemon, "ag1", "arp-interval").await, both("9"));
    let options = record(&machine, "ag1").recipe.unwrap().options;
    assert!(!options.contains_key("miimon"), "{options:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_away_is_changed_for_when_it_is_made_again() {
    let (machine, daemon) = start().await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    let refused = set_for(&daemon, "v7", &[("gvrp", "on")], true).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    set(&daemon, "v7", &[("gvrp", "on")]).await.unwrap();
    assert_eq!(shown(&daemon, "v7", "gvrp").await, ("on".to_owned(), String::new()));
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    assert_eq!(in_kernel(&machine, "v7", "gvrp"), "on");
}

#[tokio::test(start_paused = true)]
async fn a_reset_comes_to_what_the_class_has() {
    let (mut machine, daemon) = start().await;
    reset_one(&daemon, "br0", "stp", true).await.unwrap();
    assert_eq!(shown(&daemon, "br0", "stp").await, ("stp".to_owned(), "none".to_owned()));
    reset_one(&daemon, "br0", "stp", false).await.unwrap();
    assert_eq!(shown(&daemon, "br0", "stp").await, both("none"));
    assert!(record(&machine, "br0").recipe.unwrap().options.is_empty());
    drop(daemon);
    machine.reboot(cards());
    let _daemon = machine.start().await;
    settle().await;
    assert_eq!(in_kernel(&machine, "br0", "protect"), "none");
}

#[tokio::test(start_paused = true)]
async fn a_bridge_of_somebody_else_is_changed_and_keeps_its_maker() {
    let (machine, daemon) = start().await;
    set(&daemon, "theirs", &[("stp", "on")]).await.unwrap();
    assert_eq!(in_kernel(&machine, "theirs", "protect"), "stp");
    assert!(record(&machine, "theirs").recipe.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_shown_and_stays_over_a_crash() {
    let (machine, daemon) = start().await;
    set(&daemon, "br0", &[("ageing", "77")]).await.unwrap();
    let step = machine.world.applied().into_iter().rev();
    let step = step.map(|step| step.action).find_map(|action| match action {
        Action::SetOption(mut setting) => {
            setting.value = dlmgmt_proto::Value::Number(99);
            Some(Action::SetOption(setting))
        }
        _ => None,
    });
    let step = Step { at: machine.at("br0"), action: step.unwrap() };
    machine.world.by_others(&step).unwrap();
    let expected = ("77".to_owned(), "99".to_owned());
    assert_eq!(shown(&daemon, "br0", "ageing").await, expected);
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(shown(&daemon, "br0", "ageing").await, expected);
}

#[tokio::test(start_paused = true)]
async fn setting_what_is_there_already_changes_nothing() {
    let (machine, daemon) = start().await;
    set(&daemon, "br0", &[("stp", "on")]).await.unwrap();
    let seq = daemon.engine.snapshot().seq();
    let applied = machine.world.applied().len();
    set(&daemon, "br0", &[("stp", "on")]).await.unwrap();
    assert_eq!(machine.world.applied().len(), applied);
    assert_eq!(daemon.engine.snapshot().seq(), seq);
}

/// The kernel tells of a vlan, whose options have the same names.
#[tokio::test(start_paused = true)]
async fn the_options_of_a_vnic_on_a_vlan_change_as_those_of_a_vlan() {
    let (mut machine, daemon) = start().await;
    let vnic = made("n9", "vlan-vnic", &[("vid", "9")]);
    daemon.make(MakeLink { over: "eth0".parse().ok(), ..vnic }).await.unwrap();
    set(&daemon, "n9", &[("gvrp", "on")]).await.unwrap();
    set_for(&daemon, "n9", &[("mvrp", "on")], true).await.unwrap();
    assert_eq!(shown(&daemon, "n9", "gvrp").await, both("on"));
    assert_eq!(in_kernel(&machine, "n9", "mvrp"), "on");
    assert_eq!(shown(&daemon, "n9", "vid").await, both("9"));
    drop(daemon);
    machine.reboot(cards());
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(in_kernel(&machine, "n9", "gvrp"), "on");
    assert_eq!(shown(&daemon, "n9", "mvrp").await.1, "off");
}

async fn exported(daemon: &Daemon) -> Vec<u8> {
    daemon.engine.export(&root()).await.unwrap()
}

async fn import(daemon: &Daemon, text: &[u8]) -> Result<Changed> {
    daemon.engine.import(&root(), text.into()).await
}

#[tokio::test(start_paused = true)]
async fn an_import_brings_options_back_whatever_was_done_to_them() {
    let (mut machine, daemon) = start().await;
    set(&daemon, "br0", &[("ageing", "77")]).await.unwrap();
    let text = exported(&daemon).await;
    set(&daemon, "br0", &[("stp", "off"), ("priority", "4096")]).await.unwrap();
    reset_one(&daemon, "br0", "ageing", false).await.unwrap();
    set_for(&daemon, "br0", &[("max-age", "9")], true).await.unwrap();
    set(&daemon, "ag0", &[("mode", "802.3ad"), ("lacp", "passive")]).await.unwrap();
    let in_both = |machine: &Machine| {
        for (link, option, value) in [
            ("br0", "protect", "stp"),
            ("br0", "ageing-time", "77"),
            ("br0", "priority", "32768"),
            ("ag0", "lacp", "active"),
        ] {
            assert_eq!(in_kernel(machine, link, option), value, "{link}: {option}");
        }
    };
    import(&daemon, &text).await.unwrap();
    in_both(&machine);
    assert_eq!(in_kernel(&machine, "br0", "max-age"), "9", "what is for now stays");
    assert_eq!(exported(&daemon).await, text);
    let applied = machine.world.applied().len();
    import(&daemon, &text).await.unwrap();
    assert_eq!(machine.world.applied().len(), applied, "once more changes nothing");
    drop(daemon);
    machine.reboot(cards());
    let _daemon = machine.start().await;
    settle().await;
    in_both(&machine);
}

#[tokio::test(start_paused = true)]
async fn an_import_whose_options_the_kernel_refuses_changes_nothing() {
    let (machine, daemon) = start().await;
    let text = exported(&daemon).await;
    daemon.rename(&[("eth0", "lan")]).await.unwrap();
    set(&daemon, "br0", &[("stp", "off"), ("priority", "4096")]).await.unwrap();
    set(&daemon, "v7", &[("gvrp", "on"), ("mac", "02:00:00:00:00:77")]).await.unwrap();
    let before = everything(&machine);
    // The name, two options of the bridge and one of the vlan.
    for good_steps in 0..4 {
        machine.world.fail_step(good_steps, libc::EBUSY);
        let refused = import(&daemon, &text).await.unwrap_err();
        assert_eq!(refused.errno, libc::EBUSY);
        settle().await;
        assert_eq!(everything(&machine), before, "after {good_steps} steps");
    }
    import(&daemon, &text).await.unwrap();
    assert_eq!(exported_names(&daemon), ["ag0", "br0", "eth0", "eth1", "theirs", "v7"]);
}

fn exported_names(daemon: &Daemon) -> Vec<String> {
    let mut names = daemon.names();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn an_import_that_needs_another_link_of_the_name_is_refused_with_why() {
    let (machine, daemon) = start().await;
    let text = String::from_utf8(exported(&daemon).await).unwrap();
    let text = text.replace(r#""vid": "7""#, r#""vid": "8""#);
    set(&daemon, "br0", &[("stp", "off")]).await.unwrap();
    let before = everything(&machine);
    let refused = import(&daemon, text.as_bytes()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Exists);
    assert!(refused.message.contains("whose vid is 7, not 8"), "{refused}");
    settle().await;
    assert_eq!(everything(&machine), before);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_for_now_ends_with_the_boot_also_where_the_daemon_dies_after_it() {
    let (mut machine, daemon) = start().await;
    set_for(&daemon, "br0", &[("stp", "off")], true).await.unwrap();
    daemon.rename(&[("br0", "br1")]).await.unwrap();
    drop(daemon);
    machine.reboot(cards());
    for _ in 0..2 {
        let _daemon = machine.start().await;
        settle().await;
        assert_eq!(in_kernel(&machine, "br1", "protect"), "stp");
        machine.disk.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_set_an_option_at_once_the_last_one_has_it_also_in_the_kernel() {
    let (_machine, daemon) = start().await;
    let text = exported(&daemon).await;
    let (off, on) = ([("stp", "off")], [("stp", "on")]);
    let (one, other) = tokio::join!(set(&daemon, "br0", &off), set(&daemon, "br0", &on));
    one.unwrap();
    other.unwrap();
    assert_eq!(shown(&daemon, "br0", "stp").await, both("stp"));
    let (set, imported) = tokio::join!(set(&daemon, "br0", &off), import(&daemon, &text));
    set.unwrap();
    imported.unwrap();
    let (wanted, effective) = shown(&daemon, "br0", "stp").await;
    assert_eq!(wanted, effective);
}
