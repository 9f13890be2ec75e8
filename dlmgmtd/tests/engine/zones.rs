//! SPEC.md section 6 over the simulated kernel: links are lent, and come home.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dlmgmt_proto::door::{
    AttachZone, CreateLink, DeleteLink, ResetZone, SetZone, Subscribe, Where,
};
use dlmgmt_proto::{
    ErrorCode, Event, Flags, Generation, LinkClass, LinkId, LinkSpec, LinkState, MacvlanMode,
    Result, ZoneId, ZoneName, ZoneState,
};
use dlmgmtd::crash;
use dlmgmtd::engine::{EventStream, Service};
use dlmgmtd::kernel::Kernel;
use dlmgmtd::model::{Action, AltName, NsCookie, Step};
use tokio::task::JoinHandle;

use crate::machine::{Daemon, Machine, card, name, outcome, root, settle, virtual_link};

pub fn zone(called: &str) -> ZoneName {
    ZoneName::new(called).unwrap()
}

impl Machine {
    /// A namespace gets a name.
    pub async fn zone_up(&self, daemon: &Daemon, called: &str) -> NsCookie {
        let ns = self.world.add_namespace();
        self.named(daemon, called, ns).await;
        ns
    }

    pub async fn named(&self, daemon: &Daemon, called: &str, ns: NsCookie) {
        daemon.engine.zone_appeared(self.arrival(called, ns)).await.unwrap();
    }

    /// What moves a link under the name that it has.
    pub fn moving(&self, called: &str, from: NsCookie, to: NsCookie) -> Step {
        let called = name(called);
        let at = self.world.find(from, &called).unwrap();
        Step { at, action: Action::Move { to, name: called } }
    }

    /// Somebody else moves a link of `global` there. How it is asked for from then on.
    pub async fn brought_by_others(&self, daemon: &Daemon, link: &str, to: NsCookie) -> String {
        self.world.by_others(&self.moving(link, self.world.home(), to)).unwrap();
        settle().await;
        format!("@{}", daemon.id(link))
    }

    /// The names of the records on the disk.
    fn recorded(&self) -> Vec<String> {
        self.records().iter().map(|record| record.name.to_string()).collect()
    }

    pub fn names_in(&self, ns: NsCookie) -> Vec<String> {
        let links = self.world.links(ns);
        links.iter().filter(|link| !link.is_loopback()).map(|link| link.name.to_string()).collect()
    }
}

pub fn lend(link: &str, to: &str) -> SetZone {
    SetZone {
        link: link.parse().unwrap(),
        zone: zone(to),
        name_inside: None,
        temporary: false,
        force: false,
        generation: None,
    }
}

pub fn recall(link: &str) -> ResetZone {
    ResetZone { link: link.parse().unwrap(), temporary: false, force: false, generation: None }
}

impl Daemon {
    pub async fn lend(&self, call: SetZone) -> Result<()> {
        self.engine.set_zone(&root(), call).await.map(drop)
    }

    /// The kernel tells of alternative names only while a link is up.
    async fn look_everywhere(&self) {
        self.hear_that_hints_were_lost();
        settle().await;
    }

    pub async fn recall(&self, call: ResetZone) -> Result<()> {
        self.engine.reset_zone(&root(), call).await.map(drop)
    }

    pub async fn make_veth(
        &self,
        called: &str,
        peer: &str,
        inside: Option<&str>,
        temporary: bool,
    ) -> Result<()> {
        let spec = LinkSpec::Veth { peer: peer.to_owned(), peer_zone: None };
        let call = CreateLink { name: called.to_owned(), zone: inside.map(zone), temporary, spec };
        self.engine.create_link(&root(), call).await.map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_lent_under_its_name_inside_and_comes_home_with_all_that_was_its_own() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let at = machine.at("eth0");
    for action in [Action::SetMtu(9000), Action::SetUp(true)] {
        machine.world.by_others(&Step { at, action }).unwrap();
    }
    settle().await;
    let before = daemon.link("eth0").unwrap();
    daemon
        .lend(SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") })
        .await
        .unwrap();
    assert_eq!(machine.names_in(web), ["up0"]);
    let inside = daemon.link("web/up0").unwrap();
    assert_eq!((inside.id, inside.owner.as_str()), (before.id, "global"));
    assert_eq!(daemon.link("eth0").unwrap().id, before.id, "its own name stays reserved at home");

    let at = machine.world.find(web, &name("up0")).unwrap();
    machine.world.by_others(&Step { at, action: Action::SetMtu(1400) }).unwrap();
    settle().await;
    daemon.recall(recall("eth0")).await.unwrap();
    settle().await;
    let after = daemon.link("eth0").unwrap();
    assert_eq!((after.id, after.mtu, after.mac), (before.id, Some(9000), before.mac));
    assert!(after.generation > before.generation);
    let kernel = machine.world.links(machine.world.home());
    assert!(kernel.iter().any(|link| link.name == name("eth0") && link.admin_up));
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_persistent_loan_waits_for_its_zone_and_outlives_its_end() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    assert_eq!(machine.kernel_names(), ["eth0"]);
    let web = machine.zone_up(&daemon, "web").await;
    assert_eq!(machine.names_in(web), ["eth0"]);
    let id = daemon
        .engine
        .list_zones(&root())
        .unwrap()
        .iter()
        .find(|z| z.name == zone("web"))
        .unwrap()
        .id;
    daemon.engine.end_zone(id).await;
    assert_eq!(machine.kernel_names(), ["eth0"]);
    let again = machine.zone_up(&daemon, "web").await;
    assert_eq!(machine.names_in(again), ["eth0"]);
    let zones = daemon.engine.list_zones(&root()).unwrap();
    assert_eq!(
        zones.iter().find(|z| z.name == zone("web")).unwrap().id,
        id,
        "a zoneid lasts for a name"
    );
}

#[tokio::test(start_paused = true)]
async fn a_temporary_loan_ends_with_its_zone() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let refused =
        daemon.lend(SetZone { temporary: true, ..lend("eth0", "web") }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoZone);
    machine.zone_up(&daemon, "web").await;
    daemon.lend(SetZone { temporary: true, ..lend("eth0", "web") }).await.unwrap();
    daemon.engine.end_zone(ZoneId(1)).await;
    let again = machine.zone_up(&daemon, "web").await;
    assert!(machine.names_in(again).is_empty());
    assert_eq!(machine.kernel_names(), ["eth0"]);
}

#[tokio::test(start_paused = true)]
async fn every_loan_comes_home_when_the_last_user_of_the_namespace_ends() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.create("v0");
    settle().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    daemon.lend(lend("v0", "web")).await.unwrap();
    let ids = (daemon.id("eth0"), daemon.id("v0"));
    machine.world.end_users(web).unwrap();
    assert!(machine.world.is_alive(web), "loans keep their zone until they are home");
    daemon.engine.end_zone(ZoneId(1)).await;
    settle().await;
    assert!(!machine.world.is_alive(web));
    assert_eq!((daemon.id("eth0"), daemon.id("v0")), ids);
    let mut names = machine.kernel_names();
    names.sort();
    assert_eq!(names, ["eth0", "v0"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_name_taken_at_home_makes_the_link_dl_linkid_until_it_is_free() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    daemon
        .lend(SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") })
        .await
        .unwrap();
    let id = daemon.id("web/up0");
    let thief = machine.create("eth0");
    settle().await;
    daemon.engine.end_zone(ZoneId(1)).await;
    settle().await;
    let home = daemon.link(&format!("@{id}")).unwrap();
    assert_eq!(home.name, name(&format!("dl{id}")));
    assert!(home.flags.contains(Flags::CONFLICT));
    machine.world.delete(thief).unwrap();
    settle().await;
    assert_eq!(daemon.link("eth0").unwrap().id, id);
    assert!(!daemon.link("eth0").unwrap().flags.contains(Flags::CONFLICT));
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_loans_where_they_are() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon
        .lend(SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") })
        .await
        .unwrap();
    let id = daemon.id("web/up0");
    drop(daemon);
    let daemon = machine.start_with_zones(vec![("web", web)]).await;
    assert_eq!(daemon.id("web/up0"), id);
    assert_eq!(machine.names_in(web), ["up0"]);
    daemon.recall(recall("web/up0")).await.unwrap();
    assert_eq!(machine.kernel_names(), ["eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_right_after_the_kernel_moved_a_link_does_not_lose_it() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    machine.create("v0");
    settle().await;
    let web = machine.zone_up(&daemon, "web").await;
    let id = daemon.id("v0");
    daemon.kernel.crash_after_steps(1);
    let call = SetZone { name_inside: Some("up0".to_owned()), ..lend("v0", "web") };
    let _ = outcome(daemon.lend(call)).await;
    assert_eq!(machine.names_in(web), ["up0"]);
    drop(daemon);
    let daemon = machine.start_with_zones(vec![("web", web)]).await;
    assert_eq!(daemon.id("web/up0"), id);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_others_delete_right_after_it_was_lent_is_known_to_be_gone() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    machine.create("v0");
    let web = machine.zone_up(&daemon, "web").await;
    // The index that v0 has at home is taken there.
    machine.world.create(web, virtual_link("theirs")).unwrap();
    settle().await;
    let world = machine.world.clone();
    let _others = crash::watch(move |passed| {
        if passed == "pipeline.before_read_back"
            && let Some(at) = world.find(web, &name("v0"))
        {
            world.delete(at).unwrap();
        }
    });
    daemon.lend(lend("v0", "web")).await.unwrap();
    settle().await;
    let links = daemon.all_links();
    assert!(!links.iter().any(|link| link.name == name("v0") && link.ifindex.is_some()));
}

#[tokio::test(start_paused = true)]
async fn hardware_whose_zone_died_while_the_daemon_was_down_gets_its_name_back() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon
        .lend(SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") })
        .await
        .unwrap();
    let id = daemon.id("web/up0");
    drop(daemon);
    machine.world.end_users(web).unwrap();
    let daemon = machine.start().await;
    settle().await;
    assert_eq!(daemon.id("eth0"), id);
    assert_eq!(machine.kernel_names(), ["eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_persistent_virtual_link_that_died_with_a_zone_is_made_again_with_its_linkid() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, false).await.unwrap();
    let ids = (daemon.id("v0"), daemon.id("v1"));
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("v0", "web")).await.unwrap();
    drop(daemon);
    settle().await;
    machine.world.end_users(web).unwrap();
    assert!(machine.kernel_names().is_empty());
    let daemon = machine.start().await;
    settle().await;
    assert_eq!((daemon.id("v0"), daemon.id("v1")), ids);
    assert_eq!(machine.kernel_names().len(), 2);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn transient_links_are_made_inside_and_end_with_the_zone() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.make_veth("t0", "t1", Some("web"), true).await.unwrap();
    let steps = machine.world.applied();
    assert!(steps.is_empty(), "nothing is moved or renamed on the way: {steps:?}");
    assert_eq!(machine.names_in(web), ["t0"]);
    assert_eq!(daemon.link("web/t0").unwrap().flags, Flags::ACTIVE | Flags::TRANSIENT);
    machine.world.end_users(web).unwrap();
    settle().await;
    assert_eq!((daemon.names(), machine.kernel_names()), (vec![], vec![]));
    assert_eq!(machine.recorded(), ["lo"]);
}

#[tokio::test(start_paused = true)]
async fn transient_links_survive_a_restart_of_the_daemon_and_no_reboot() {
    let mut machine = Machine::new(1);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.make_veth("t0", "t1", Some("web"), true).await.unwrap();
    let id = daemon.id("web/t0");
    drop(daemon);
    let daemon = machine.start_with_zones(vec![("web", web)]).await;
    assert_eq!(daemon.id("web/t0"), id);
    assert_eq!(daemon.link("web/t0").unwrap().flags, Flags::ACTIVE | Flags::TRANSIENT);
    drop(daemon);
    machine.reboot([]);
    let daemon = machine.start().await;
    assert!(daemon.links().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_late_request_that_names_an_older_generation_does_nothing() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let old = daemon.link("eth0").unwrap().generation;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    let late = ResetZone { generation: Some(old), ..recall("eth0") };
    assert_eq!(daemon.recall(late).await.unwrap_err().code, ErrorCode::Stale);
    assert_eq!(machine.names_in(web), ["eth0"]);
    let now = Generation(old.0 + 1);
    let late = ResetZone { generation: Some(now), ..recall("eth0") };
    daemon.recall(late.clone()).await.unwrap();
    assert_eq!(daemon.recall(late).await.unwrap_err().code, ErrorCode::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_loan_that_is_refused_leaves_no_zone_behind() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let _hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    assert_eq!(daemon.lend(lend("eth0", "web")).await.unwrap_err().code, ErrorCode::Busy);
    let zones = daemon.engine.list_zones(&root()).unwrap();
    assert_eq!(zones.iter().map(|zone| zone.id).collect::<Vec<_>>(), [ZoneId::GLOBAL]);
    assert!(machine.disk.durable().zones.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_held_link_is_not_lent_and_a_zone_end_overrides_holds() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    let hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    assert_eq!(daemon.lend(lend("eth0", "web")).await.unwrap_err().code, ErrorCode::Busy);
    drop(hold);
    daemon.lend(lend("eth0", "web")).await.unwrap();
    let _hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    assert_eq!(daemon.recall(recall("eth0")).await.unwrap_err().code, ErrorCode::Busy);
    daemon.engine.end_zone(ZoneId(1)).await;
    assert_eq!(machine.kernel_names(), ["eth0"]);
    assert!(!daemon.link("eth0").unwrap().flags.contains(Flags::HELD));
}

/// A participant that has not acknowledged the end of `web`, which is under way.
async fn ending(daemon: &Daemon) -> (Box<dyn EventStream>, JoinHandle<()>) {
    let call = Subscribe { snapshot: false, since: None, participant: true };
    let (_, mut participant) = daemon.engine.subscribe(&root(), &call).unwrap();
    let engine = daemon.engine.clone();
    let end = tokio::spawn(async move { engine.end_zone(ZoneId(1)).await });
    while !matches!(participant.next().await.unwrap().event, Event::ZoneShuttingDown(_)) {}
    (participant, end)
}

impl Daemon {
    #[track_caller]
    fn assert_still_ending(&self) {
        let zones = self.engine.list_zones(&root()).unwrap();
        assert_eq!(zones[1].state, ZoneState::ShuttingDown, "somebody waited for the end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_new_in_a_zone_that_is_ending_is_refused_without_waiting_for_the_end() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    let (participant, end) = ending(&daemon).await;

    let create = |name: &str, inside: Option<&str>, spec| CreateLink {
        name: name.to_owned(),
        zone: inside.map(zone),
        temporary: true,
        spec,
    };
    let pair = |peer_zone| LinkSpec::Veth { peer: "t1".to_owned(), peer_zone };
    let over = "eth1".parse().unwrap();
    let vnic = LinkSpec::Vnic { over, mac: None, mode: Default::default() };
    for call in [
        create("t0", Some("web"), pair(None)),
        create("t0", None, pair(Some(zone("web")))),
        create("t0", Some("web"), vnic),
    ] {
        let refused = daemon.engine.create_link(&root(), call).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ShuttingDown);
    }
    for temporary in [true, false] {
        let call = SetZone { temporary, ..lend("eth1", "web") };
        assert_eq!(daemon.lend(call).await.unwrap_err().code, ErrorCode::ShuttingDown);
    }
    let held = daemon.engine.hold(&root(), "web/eth0".parse().unwrap()).await;
    assert_eq!(held.err().unwrap().code, ErrorCode::ShuttingDown);
    let attach = AttachZone { zone: zone("web"), pid: None, path: Some("/web".to_owned()) };
    let refused = daemon.engine.attach_zone(&root(), attach, None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);

    daemon.assert_still_ending();
    participant.acknowledge(ZoneId(1)).unwrap();
    end.await.unwrap();
    assert_eq!(
        BTreeSet::from_iter(machine.kernel_names()),
        ["eth0", "eth1"].map(str::to_owned).into()
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_already_when_a_zone_begins_to_end_is_refused_too() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = Arc::new(machine.start().await);
    machine.zone_up(&daemon, "web").await;
    let call = Subscribe { snapshot: false, since: None, participant: true };
    let (_, _participant) = daemon.engine.subscribe(&root(), &call).unwrap();
    let (first, engine) = (daemon.clone(), daemon.engine.clone());
    let first = tokio::spawn(async move { first.lend(lend("eth0", "web")).await });
    let _end = tokio::spawn(async move { engine.end_zone(ZoneId(1)).await });
    // Both begin: the loan is under way, the end waits for it, and this one waits for the end.
    tokio::task::yield_now().await;
    let refused = daemon.lend(lend("eth1", "web")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    first.await.unwrap().unwrap();
    daemon.assert_still_ending();
}

#[tokio::test(start_paused = true)]
async fn a_move_that_the_kernel_refuses_changes_nothing() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    let before = (daemon.link("eth0").unwrap(), machine.records());
    machine.world.fail_next(16, Some("no"));
    let refused = daemon.lend(lend("eth0", "web")).await.unwrap_err();
    assert_eq!((refused.code, refused.errno), (ErrorCode::Kernel, 16));
    assert_eq!((daemon.link("eth0").unwrap(), machine.records()), before);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_somebody_moved_is_followed_and_reclaimed() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let id = daemon.id("eth0");
    let step =
        Step { at: machine.at("eth0"), action: Action::Move { to: web, name: name("eth0") } };
    machine.world.by_others(&step).unwrap();
    settle().await;
    let found = daemon
        .engine
        .whereabouts(&root(), Where { link: format!("@{id}").parse().unwrap() })
        .await
        .unwrap();
    assert_eq!(found.zone, Some(zone("web")));
    let reclaim = dlmgmt_proto::door::Reclaim { link: format!("@{id}").parse().unwrap() };
    daemon.engine.reclaim(&root(), reclaim).await.unwrap();
    assert_eq!(daemon.id("eth0"), id);
    assert_eq!(machine.kernel_names(), ["eth0"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_somebody_moved_to_where_no_zone_is_is_followed_and_reclaimed() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let nowhere = machine.world.add_namespace();
    let id = daemon.id("eth0");
    let action = Action::Move { to: nowhere, name: name("stolen") };
    machine.world.by_others(&Step { at: machine.at("eth0"), action }).unwrap();
    settle().await;
    let link = format!("@{id}");
    let call = Where { link: link.parse().unwrap() };
    let found = daemon.engine.whereabouts(&root(), call).await.unwrap();
    assert_eq!((found.link.name, found.own_name), (name("eth0"), name("eth0")));
    assert_eq!(found.link.device, Some(name("stolen")));
    assert!(found.zone.is_none() && found.nsid.is_some());
    let reclaim = dlmgmt_proto::door::Reclaim { link: link.parse().unwrap() };
    daemon.engine.reclaim(&root(), reclaim).await.unwrap();
    assert_eq!(daemon.id("eth0"), id);
    assert_eq!(machine.kernel_names(), ["eth0"]);
    settle().await;
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn deleting_one_end_of_a_pair_ends_both() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, false).await.unwrap();
    let wrong = DeleteLink { link: "v0".parse().unwrap(), class: LinkClass::Vnic };
    assert_eq!(
        daemon.engine.delete_link(&root(), wrong).await.unwrap_err().code,
        ErrorCode::Invalid
    );
    daemon.delete("v0").await.unwrap();
    settle().await;
    assert!(daemon.links().is_empty() && machine.kernel_names().is_empty());
    assert_eq!(machine.recorded(), ["lo"]);
}

#[tokio::test(start_paused = true)]
async fn links_that_the_daemon_itself_deleted_are_not_looked_at_any_more() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, false).await.unwrap();
    settle().await;
    let looks = machine.world.looks();
    daemon.delete("v0").await.unwrap();
    settle().await;
    assert_eq!(machine.world.looks(), looks);
}

#[tokio::test(start_paused = true)]
async fn deleting_an_end_of_a_pair_that_is_away_ends_the_other_one_too() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, false).await.unwrap();
    let web = machine.zone_up(&daemon, "web").await;
    drop(daemon);
    let action = Action::Move { to: web, name: name("v0") };
    machine.world.by_others(&Step { at: machine.at("v0"), action }).unwrap();
    let daemon = machine.start().await;
    assert_eq!(daemon.link("v0").unwrap().ifindex, None);
    daemon.delete("v0").await.unwrap();
    settle().await;
    assert!(daemon.links().is_empty() && machine.kernel_names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_others_lie_over_is_busy_unless_forced() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    let spec =
        LinkSpec::Vnic { over: "eth0".parse().unwrap(), mac: None, mode: Default::default() };
    let call = CreateLink { name: "m0".to_owned(), zone: None, temporary: true, spec };
    daemon.engine.create_link(&root(), call).await.unwrap();
    let refused = daemon.lend(lend("eth0", "web")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("m0"), "{refused}");
    daemon.lend(SetZone { force: true, ..lend("eth0", "web") }).await.unwrap();
    assert_eq!(daemon.link("m0").unwrap().state, LinkState::Down);
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_made_again_also_when_its_ends_are_missed_one_after_the_other() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    daemon.make_veth("v0", "v1", None, false).await.unwrap();
    let ids = (daemon.id("v0"), daemon.id("v1"));
    let web = machine.zone_up(&daemon, "web").await;
    let action = Action::Move { to: web, name: name("v1") };
    machine.world.by_others(&Step { at: machine.at("v1"), action }).unwrap();
    settle().await;
    // The death is told, and what it did elsewhere only later.
    machine.world.hold_hints();
    machine.world.end_users(web).unwrap();
    daemon.kernel.hints().push_ended(web);
    settle().await;
    machine.world.release_hints();
    settle().await;
    assert_eq!((daemon.id("v0"), daemon.id("v1")), ids);
    assert_eq!(machine.kernel_names().len(), 2);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_lent_on_to_a_zone_that_is_down_waits_for_it_at_home() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    daemon.lend(lend("eth0", "later")).await.unwrap();
    assert_eq!(machine.kernel_names(), ["eth0"]);
    assert!(daemon.kernel.pinned().is_empty());
    let later = machine.zone_up(&daemon, "later").await;
    assert_eq!(machine.names_in(later), ["eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_not_kept_for_a_loan_that_somebody_moved_away() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    let at = machine.world.find(web, &name("eth0")).unwrap();
    let action = Action::Move { to: machine.world.home(), name: name("eth0") };
    machine.world.by_others(&Step { at, action }).unwrap();
    settle().await;
    assert!(daemon.kernel.pinned().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_loan_that_somebody_else_moved_home_has_its_own_name_there_also_if_others_made_it() {
    let machine = Machine::new(1);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    machine.create("v0");
    settle().await;
    let inside = SetZone { name_inside: Some("up0".to_owned()), ..lend("v0", "web") };
    daemon.lend(inside).await.unwrap();
    let at = machine.world.find(web, &name("up0")).unwrap();
    let action = Action::Move { to: machine.world.home(), name: name("up0") };
    machine.world.by_others(&Step { at, action }).unwrap();
    settle().await;
    assert_eq!(machine.kernel_names(), ["v0"]);
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn a_link_gives_up_the_alternative_name_that_it_is_to_be_called_and_has_it_again_at_home() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    machine.world.by_others(&Step { at: machine.at("eth0"), action: altname("up0") }).unwrap();
    daemon.look_everywhere().await;
    let inside = SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") };
    daemon.lend(inside).await.unwrap();
    assert_eq!(machine.names_in(web), ["up0"]);
    let at = machine.world.find(web, &name("up0")).unwrap();
    machine.world.by_others(&Step { at, action: altname("eth0") }).unwrap();
    daemon.look_everywhere().await;
    daemon.recall(recall("eth0")).await.unwrap();
    let home = machine.world.links(machine.world.home());
    let eth0 = home.iter().find(|link| link.name == name("eth0")).unwrap();
    assert_eq!(eth0.altnames, [AltName(b"up0".to_vec())]);
}

/// A link that is moved keeps its index where that is free.
#[tokio::test(start_paused = true)]
async fn a_link_that_comes_home_is_not_taken_for_the_one_that_had_its_index_there() {
    for seed in 0..100 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.world.plug(card("eth1", 2, 2));
        let daemon = machine.start().await;
        let web = machine.zone_up(&daemon, "web").await;
        daemon.lend(lend("eth1", "web")).await.unwrap();
        machine.world.hold_hints();
        let action = Action::Move { to: web, name: name("eth0") };
        machine.world.by_others(&Step { at: machine.at("eth0"), action }).unwrap();
        let inside = SetZone { name_inside: Some("up0".to_owned()), ..lend("eth0", "web") };
        let (_, recalled) = tokio::join!(daemon.lend(inside), daemon.recall(recall("eth1")));
        recalled.unwrap();
        assert_eq!(machine.kernel_names(), ["eth1"], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_kept_also_for_a_loan_that_somebody_else_brought_there() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let link = machine.brought_by_others(&daemon, "eth0", web).await;
    daemon.lend(lend(&link, "web")).await.unwrap();
    assert_eq!(daemon.kernel.pinned(), [web].into());
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_not_kept_for_a_loan_that_was_refused_where_somebody_else_had_brought_the_link() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let link = machine.brought_by_others(&daemon, "eth0", web).await;
    machine.world.fail_next(libc::EBUSY, None);
    let under_another_name = SetZone { name_inside: Some("up0".to_owned()), ..lend(&link, "web") };
    assert!(daemon.lend(under_another_name).await.is_err());
    assert!(daemon.kernel.pinned().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_kept_for_a_loan_that_begins_while_the_last_one_ends() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = Arc::new(machine.start().await);
    let web = machine.zone_up(&daemon, "web").await;
    let link = machine.brought_by_others(&daemon, "eth0", web).await;
    daemon.lend(lend("eth1", "web")).await.unwrap();
    machine.world.hang_next();
    let under_another_name = SetZone { name_inside: Some("up0".to_owned()), ..lend(&link, "web") };
    let lending = daemon.clone();
    let begun = tokio::spawn(async move { lending.lend(under_another_name).await });
    settle().await;
    daemon.recall(recall("eth1")).await.unwrap();
    assert!(!begun.is_finished());
    assert_eq!(daemon.kernel.pinned(), [web].into());
    begun.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_loans_is_in_custody_whoever_brought_them_there() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let (daemon, custody) = machine.start_with_custody().await;
    let web = machine.zone_up(&daemon, "web").await;
    machine.zone_up(&daemon, "db").await;
    let link = machine.brought_by_others(&daemon, "eth0", web).await;
    daemon.lend(lend(&link, "web")).await.unwrap();
    daemon.lend(lend("eth1", "db")).await.unwrap();
    assert_eq!(custody.kept(), [zone("db"), zone("web")].into());
    daemon.recall(recall(&link)).await.unwrap();
    assert_eq!(custody.kept(), [zone("db")].into());
}

/// An alternative name of a link, as an action of others.
fn altname(text: &str) -> Action {
    Action::AddAltName(AltName(text.as_bytes().to_vec()))
}

#[tokio::test(start_paused = true)]
async fn a_loan_comes_home_though_it_was_given_the_name_of_a_link_there() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let long = altname("longer-than-any-name-of-its-own");
    machine.world.by_others(&Step { at: machine.at("eth1"), action: long.clone() }).unwrap();
    daemon.look_everywhere().await;
    for zone_ends in [false, true] {
        daemon.lend(lend("eth0", "web")).await.unwrap();
        let at = machine.world.find(web, &name("eth0")).unwrap();
        for action in [altname("eth1"), long.clone()] {
            machine.world.by_others(&Step { at, action }).unwrap();
        }
        settle().await;
        if zone_ends {
            daemon.engine.end_zone(ZoneId(1)).await;
        } else {
            daemon.recall(recall("web/eth0")).await.unwrap();
        }
        machine.assert_agrees(&daemon);
        assert!(daemon.link("eth0").unwrap().flags.contains(Flags::ACTIVE));
    }
}

#[tokio::test(start_paused = true)]
async fn a_loan_comes_home_without_the_alternative_name_that_is_taken_there_by_now() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    for text in ["up0", "up1"] {
        machine.world.by_others(&Step { at: machine.at("eth0"), action: altname(text) }).unwrap();
    }
    daemon.look_everywhere().await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    let at = machine.world.find(web, &name("eth0")).unwrap();
    let drop = Action::DropAltName(AltName(b"up0".to_vec()));
    machine.world.by_others(&Step { at, action: drop }).unwrap();
    machine.create("up0");
    settle().await;
    daemon.recall(recall("web/eth0")).await.unwrap();
    let home = machine.world.links(machine.world.home());
    let eth0 = home.iter().find(|link| link.name == name("eth0")).unwrap();
    assert_eq!(eth0.altnames, [AltName(b"up1".to_vec())]);
}

/// `v0`, which is lent to `web`, had a greater MTU at home than `eth0` takes by now.
async fn lent_with_an_mtu_of_the_past(machine: &Machine, daemon: &Daemon) -> LinkId {
    let set = |called: &str, action| {
        machine.world.by_others(&Step { at: machine.at(called), action }).unwrap();
    };
    set("eth0", Action::SetMtu(9000));
    let (over, mac, mode) = ("eth0".parse().unwrap(), None, MacvlanMode::Bridge);
    let spec = LinkSpec::Vnic { over, mac, mode };
    let call = CreateLink { name: "v0".to_owned(), zone: None, temporary: false, spec };
    let id = daemon.engine.create_link(&root(), call).await.unwrap().id;
    set("v0", Action::SetMtu(9000));
    set("v0", Action::SetUp(true));
    settle().await;
    daemon.lend(lend("v0", "web")).await.unwrap();
    set("eth0", Action::SetMtu(1500));
    settle().await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_loan_comes_home_at_the_end_of_a_zone_also_where_the_kernel_refuses_it_what_it_had() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let id = lent_with_an_mtu_of_the_past(&machine, &daemon).await;
    let refused = daemon.recall(recall("web/v0")).await.unwrap_err();
    assert_eq!((refused.code, machine.names_in(web)), (ErrorCode::Kernel, vec!["v0".to_owned()]));
    daemon.engine.end_zone(ZoneId(1)).await;
    settle().await;
    let v0 = daemon.link("v0").unwrap();
    assert_eq!((v0.id, v0.mtu, v0.state), (id, Some(1500), LinkState::Up));
    machine.assert_agrees(&daemon);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_refuses_a_link_that_is_home_already_is_not_taken_for_done() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    lent_with_an_mtu_of_the_past(&machine, &daemon).await;
    machine.world.by_others(&machine.moving("v0", web, machine.world.home())).unwrap();
    settle().await;
    daemon.engine.end_zone(ZoneId(1)).await;
    assert_eq!(daemon.link("v0").unwrap().mtu, Some(1500));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_zone_leaves_alone_what_was_lent_on_meanwhile() {
    for seed in 0..200 {
        let machine = Machine::new(seed);
        machine.world.plug(card("eth0", 1, 1));
        machine.world.plug(card("eth1", 2, 2));
        let daemon = machine.start().await;
        machine.zone_up(&daemon, "web").await;
        let db = machine.zone_up(&daemon, "db").await;
        let ids = ["eth0", "eth1"].map(|link| daemon.id(link));
        for link in ["eth0", "eth1"] {
            daemon.lend(lend(link, "web")).await.unwrap();
        }
        let lent_on = async {
            tokio::time::sleep(Duration::from_micros(seed * 20)).await;
            daemon.lend(lend(&format!("@{}", ids[1]), "db")).await
        };
        let (_, lent_on) = tokio::join!(daemon.engine.end_zone(ZoneId(1)), lent_on);
        lent_on.unwrap();
        settle().await;
        assert_eq!(
            (machine.kernel_names(), machine.names_in(db)),
            (vec!["eth0".to_owned()], vec!["eth1".to_owned()]),
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_persistent_loan_that_is_refused_when_its_zone_comes_up_is_tried_until_it_is_there() {
    let machine = Machine::with_cards([card("eth0", 1, 1), card("eth1", 2, 2)]);
    let daemon = machine.start().await;
    for link in ["eth0", "eth1"] {
        daemon.lend(lend(link, "web")).await.unwrap();
    }
    let hold = daemon.engine.hold(&root(), "eth0".parse().unwrap()).await.unwrap();
    let web = machine.world.add_namespace();
    let thief = machine.world.create(web, virtual_link("eth1")).unwrap();
    machine.named(&daemon, "web", web).await;
    settle().await;
    assert_eq!(machine.kernel_names(), ["eth0", "eth1"]);
    drop(hold);
    settle().await;
    assert_eq!(machine.kernel_names(), ["eth1"]);
    machine.world.delete(thief).unwrap();
    settle().await;
    assert_eq!(machine.names_in(web), ["eth0", "eth1"]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_takes_over_a_lent_link_goes_where_that_is_lent_to() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    machine.world.unplug(machine.at("eth0")).unwrap();
    settle().await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    machine.world.plug(card("eth1", 2, 2));
    settle().await;
    daemon.rename(&[("eth1", "eth0")]).await.unwrap();
    settle().await;
    assert_eq!(machine.names_in(web), ["eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_lent_on_when_the_daemon_died_goes_on_to_where_it_is_lent() {
    let machine = Machine::with_cards([card("eth0", 1, 1)]);
    let daemon = machine.start().await;
    let web = machine.zone_up(&daemon, "web").await;
    let db = machine.zone_up(&daemon, "db").await;
    daemon.lend(lend("eth0", "web")).await.unwrap();
    daemon.kernel.crash_after_steps(0);
    assert!(outcome(daemon.lend(lend("web/eth0", "db"))).await.is_none());
    let _daemon = machine.start_with_zones(vec![("db", db), ("web", web)]).await;
    assert_eq!(machine.names_in(db), ["eth0"]);
}
