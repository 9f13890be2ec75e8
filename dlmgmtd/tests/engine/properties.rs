//! Properties of links go where their links go, and are set all or none.

use dlmgmt_proto::door::{Changed, ListProperties, ResetProperties, SetProperties};
use dlmgmt_proto::property::Assignment;
use dlmgmt_proto::{ErrorCode, Result};
use dlmgmtd::engine::Service;
use dlmgmtd::model::{Action, KernelLink, Step};

use crate::machine::{Daemon, Machine, card, mac, root, settle};

/// Sets properties: pairs of a property and a value.
pub async fn set(daemon: &Daemon, link: &str, values: &[(&str, &str)]) -> Result<Changed> {
    set_for(daemon, link, values, false).await
}

/// As [`set`], perhaps only while the link lasts.
pub async fn set_for(
    daemon: &Daemon,
    link: &str,
    values: &[(&str, &str)],
    temporary: bool,
) -> Result<Changed> {
    let assignment = |(property, value): &(&str, &str)| Assignment {
        property: (*property).to_owned(),
        value: (*value).to_owned(),
    };
    let values = values.iter().map(assignment).collect();
    let call = SetProperties { link: link.parse().unwrap(), values, temporary };
    daemon.engine.set_properties(&root(), call).await
}

/// Takes back everything that was set.
pub async fn reset(daemon: &Daemon, link: &str) -> Result<Changed> {
    let call = ResetProperties { link: link.parse().unwrap(), names: Vec::new(), temporary: false };
    daemon.engine.reset_properties(&root(), call).await
}

/// What is wanted of a property, and what is there.
async fn shown(daemon: &Daemon, link: &str, property: &str) -> (String, String) {
    let names = vec![property.to_owned()];
    let call = ListProperties { link: link.parse().unwrap(), names };
    let found = daemon.engine.list_properties(&root(), call).await.unwrap().remove(0);
    (found.value.unwrap_or_default(), found.effective.unwrap_or_default())
}

fn in_kernel(machine: &Machine, called: &str) -> KernelLink {
    machine.world.link(machine.at(called)).unwrap()
}

fn others_set_mtu(machine: &Machine, called: &str, mtu: u32) {
    let step = Step { at: machine.at(called), action: Action::SetMtu(mtu) };
    machine.world.by_others(&step).unwrap();
}

async fn one_card() -> (Machine, Daemon) {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    settle().await;
    (machine, daemon)
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_kernel_refuses_half_way_is_taken_back() {
    let values = [("mtu", "1400"), ("alias", "x"), ("txqueuelen", "7"), ("state", "up")];
    for good_steps in 0..values.len() {
        let (machine, daemon) = one_card().await;
        let before = (in_kernel(&machine, "eth0"), machine.records());
        machine.world.fail_step(good_steps, libc::EBUSY);
        let refused = set(&daemon, "eth0", &values).await.unwrap_err();
        assert_eq!((refused.code, refused.errno), (ErrorCode::Kernel, libc::EBUSY));
        settle().await;
        let after = (in_kernel(&machine, "eth0"), machine.records());
        assert_eq!(after, before, "after {good_steps} steps");
        set(&daemon, "eth0", &values).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_gets_its_properties_wherever_it_appears() {
    let (mut machine, daemon) = one_card().await;
    let values = [("mtu", "9000"), ("state", "up"), ("mac", "02:00:00:00:00:99")];
    set(&daemon, "eth0", &values).await.unwrap();
    set_for(&daemon, "eth0", &[("txqueuelen", "7")], true).await.unwrap();
    drop(daemon);
    machine.reboot([card("eth7", 1, 4)]);
    let daemon = machine.start().await;
    let link = in_kernel(&machine, "eth0");
    assert_eq!((link.mtu, link.admin_up, link.mac), (9000, true, Some(mac(0x99))));
    assert_eq!(link.tunables.txqueuelen, 1000, "that was temporary");
    reset(&daemon, "eth0").await.unwrap();
    assert_eq!(in_kernel(&machine, "eth0").mac, Some(mac(1)));
}

#[tokio::test(start_paused = true)]
async fn a_reset_comes_to_what_a_card_appeared_with_also_where_the_daemon_died_since() {
    let (machine, daemon) = one_card().await;
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    assert_eq!(in_kernel(&machine, "eth0").mtu, 9000);
    machine.disk.crash();
    drop(daemon);
    let daemon = machine.start().await;
    reset(&daemon, "eth0").await.unwrap();
    assert_eq!(in_kernel(&machine, "eth0").mtu, 1500);
}

#[tokio::test(start_paused = true)]
async fn an_absent_link_is_given_properties_for_when_it_appears() {
    let (machine, daemon) = one_card().await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    let values = [("mtu", "9000")];
    let refused = set_for(&daemon, "eth0", &values, true).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    set(&daemon, "eth0", &values).await.unwrap();
    assert_eq!(shown(&daemon, "eth0", "mtu").await, ("9000".to_owned(), String::new()));
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    assert_eq!(in_kernel(&machine, "eth0").mtu, 9000);
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_a_removed_link_takes_over_its_properties() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    daemon.rename(&[("eth1", "eth0")]).await.unwrap();
    assert_eq!(in_kernel(&machine, "eth0").mtu, 9000);
    assert_eq!(daemon.link("eth0").unwrap().mtu, Some(9000));
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_shown_and_stays_until_the_link_appears_anew() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    // That the kernel agreed is written with whatever is written next.
    daemon.rename(&[("eth1", "lan")]).await.unwrap();
    others_set_mtu(&machine, "eth0", 1400);
    settle().await;
    assert_eq!(shown(&daemon, "eth0", "mtu").await, ("9000".to_owned(), "1400".to_owned()));
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(shown(&daemon, "eth0", "mtu").await, ("9000".to_owned(), "1400".to_owned()));
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    assert_eq!(in_kernel(&machine, "eth0").mtu, 9000);
}

#[tokio::test(start_paused = true)]
async fn a_property_that_an_appearing_card_refuses_keeps_it_from_nothing_else() {
    let (machine, daemon) = one_card().await;
    set(&daemon, "eth0", &[("mtu", "9000"), ("alias", "kept")]).await.unwrap();
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    machine.world.fail_next(libc::EINVAL, None);
    machine.world.plug(card("eth0", 1, 1));
    settle().await;
    let link = in_kernel(&machine, "eth0");
    assert_eq!((link.mtu, link.tunables.alias.as_str()), (1500, "kept"));
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_of_a_card_is_told_is_bounded_taken_back_and_said_again() {
    let (mut machine, daemon) = one_card().await;
    let why = set(&daemon, "eth0", &[("rx_ring", "5000")]).await.unwrap_err();
    assert!(why.message.contains("1-4096"), "{why}");
    let why = set(&daemon, "eth0", &[("tx_ring", "5")]).await.unwrap_err();
    assert_eq!(why.code, ErrorCode::NotSupported);
    machine.world.fail_step(1, libc::EBUSY);
    set(&daemon, "eth0", &[("rx_ring", "512"), ("gro", "off")]).await.unwrap_err();
    assert_eq!(shown(&daemon, "eth0", "rx_ring").await, ("256".to_owned(), "256".to_owned()));
    set(&daemon, "eth0", &[("rx_ring", "512"), ("gro", "off")]).await.unwrap();
    drop(daemon);
    machine.reboot([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    assert_eq!(shown(&daemon, "eth0", "rx_ring").await, ("512".to_owned(), "512".to_owned()));
    reset(&daemon, "eth0").await.unwrap();
    assert_eq!(shown(&daemon, "eth0", "gro").await, ("on".to_owned(), "on".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn speed_and_duplex_are_set_in_one_go_with_autoneg_also_without_a_carrier() {
    let (mut machine, daemon) = one_card().await;
    let nothing = String::new();
    assert_eq!(shown(&daemon, "eth0", "speed").await, (nothing.clone(), nothing.clone()));
    let wanted = [("speed", "100"), ("duplex", "full"), ("autoneg", "off")];
    let given = ("100".to_owned(), "100".to_owned());

    machine.world.fail_step(1, libc::EBUSY);
    set(&daemon, "eth0", &[&wanted[..], &[("state", "up")]].concat()).await.unwrap_err();
    assert_eq!(shown(&daemon, "eth0", "speed").await, (nothing.clone(), nothing));
    assert_eq!(shown(&daemon, "eth0", "autoneg").await, ("on".to_owned(), "on".to_owned()));

    let before = machine.world.applied().len();
    set(&daemon, "eth0", &wanted).await.unwrap();
    assert_eq!(machine.world.applied().len(), before + 1);
    assert_eq!(shown(&daemon, "eth0", "speed").await, given);
    drop(daemon);
    machine.reboot([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    assert_eq!(shown(&daemon, "eth0", "speed").await, given);
    assert_eq!(shown(&daemon, "eth0", "autoneg").await, ("off".to_owned(), "off".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn setting_what_is_there_already_writes_and_changes_nothing() {
    let (machine, daemon) = one_card().await;
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    let seq = daemon.engine.snapshot().seq();
    let applied = machine.world.applied().len();
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    assert_eq!(machine.world.applied().len(), applied);
    assert_eq!(daemon.engine.snapshot().seq(), seq);
}

#[tokio::test(start_paused = true)]
async fn an_import_brings_properties_back_that_were_reset_and_leaves_others() {
    let (machine, daemon) = one_card().await;
    set(&daemon, "eth0", &[("mtu", "9000")]).await.unwrap();
    let text = daemon.engine.export(&root()).await.unwrap();
    reset(&daemon, "eth0").await.unwrap();
    set_for(&daemon, "eth0", &[("txqueuelen", "7")], true).await.unwrap();
    daemon.engine.import(&root(), text).await.unwrap();
    let link = in_kernel(&machine, "eth0");
    assert_eq!((link.mtu, link.tunables.txqueuelen), (9000, 7));
    assert_eq!(shown(&daemon, "eth0", "mtu").await, ("9000".to_owned(), "9000".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_cannot_guard_a_link_changes_nothing_of_it() {
    let (machine, daemon) = one_card().await;
    let before = (in_kernel(&machine, "eth0"), machine.records());
    machine.world.fail_step(1, libc::EOPNOTSUPP);
    let values = [("mtu", "1400"), ("protection", "mac-nospoof")];
    let refused = set(&daemon, "eth0", &values).await.unwrap_err();
    assert_eq!((refused.code, refused.errno), (ErrorCode::Kernel, libc::EOPNOTSUPP));
    settle().await;
    assert_eq!((in_kernel(&machine, "eth0"), machine.records()), before);
}

#[tokio::test(start_paused = true)]
async fn a_card_is_guarded_wherever_it_appears_until_that_is_taken_back() {
    let (mut machine, daemon) = one_card().await;
    let values = [("protection", "restricted,ip-nospoof"), ("allowed-ips", "10.0.0.0/8,::1")];
    set(&daemon, "eth0", &values).await.unwrap();
    drop(daemon);
    machine.reboot([card("eth7", 1, 4)]);
    let daemon = machine.start().await;
    let both = |words: &str| (words.to_owned(), words.to_owned());
    assert_eq!(shown(&daemon, "eth0", "protection").await, both("ip-nospoof,restricted"));
    assert_eq!(shown(&daemon, "eth0", "allowed-ips").await, both("10.0.0.0/8,::1"));
    reset(&daemon, "eth0").await.unwrap();
    assert_eq!(shown(&daemon, "eth0", "protection").await, both(""));
    assert_eq!(shown(&daemon, "eth0", "allowed-ips").await, both(""));
}

#[tokio::test(start_paused = true)]
async fn what_was_temporary_in_one_boot_stays_forgotten_when_the_daemon_starts_twice_in_the_next() {
    let (mut machine, daemon) = one_card().await;
    set_for(&daemon, "eth0", &[("mtu", "1400")], true).await.unwrap();
    drop(daemon);
    machine.reboot([]);
    drop(machine.start().await);
    machine.world.plug(card("eth0", 1, 1));
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(in_kernel(&machine, "eth0").mtu, 1500);
    assert_eq!(shown(&daemon, "eth0", "mtu").await.1, "1500");
}
