//! SPEC.md rule 3.3 over the real binary: at each named point it dies, and a restart must find what
//! was acknowledged, and the rest wholly or not at all. `dlmgmtd/tests/engine/crash_points.rs` does
//! the same for every passage of every point over the simulated kernel.

// Only such builds can be made to die.
#![cfg(debug_assertions)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlmgmt_tests::{Guest, Host, Output, eventually};
use dlmgmtd::crash;

/// Daemons that die side by side: what takes time is mostly the kernel's waiting.
const WORKERS: usize = 4;

/// Every link as `ZONE/NAME`, with its linkid and flags, and as `@LINKID PROPERTY` what is wanted and
/// what is there of properties at home.
type State = BTreeMap<String, (u32, String)>;

/// One thing that somebody does.
struct Deed {
    does: fn(&Host, &Guest) -> Output,
    /// Whether the daemon has followed; one that acknowledges it has.
    is_followed: fn(&State) -> bool,
    by: By,
    /// What a refused one would have come to.
    unrefused: fn(&State) -> State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The daemon is asked for it, and does all of it or nothing.
    Request,
    /// The daemon is asked for it, and the kernel refuses a part of it.
    Refusal,
    /// Somebody else does it, whatever becomes of the daemon.
    Others,
}

const fn request(does: fn(&Host, &Guest) -> Output) -> Deed {
    Deed { does, is_followed: |_| true, by: By::Request, unrefused: State::clone }
}

const fn others(does: fn(&Host, &Guest) -> Output, is_followed: fn(&State) -> bool) -> Deed {
    Deed { does, is_followed, by: By::Others, unrefused: State::clone }
}

/// What others do needs no answer.
fn sh(host: &Host, script: &str) -> Output {
    let output = host.command("sh").args(["-ec", script]).output().expect("sh runs");
    let output = Output::from(output);
    assert_eq!(output.status, 0, "{script}: {output:?}");
    output
}

/// A life in which every point is passed. `web` and `db` are zones, `a` and `b` a pair of somebody
/// else, and a guest has a namespace without a name.
const LIFE: &[Deed] = &[
    request(|host, _| host.dladm("rename-link a lan")),
    request(|host, _| host.dladm("rename-link lan b b lan")),
    Deed {
        // A link that is down gets an alternative name without a word of the kernel.
        does: |host, _| {
            host.sh(
                "ip link show dev c | grep -q hidden || ip link property add dev c altname hidden",
            );
            host.dladm("rename-link lan wan b hidden")
        },
        is_followed: |_| true,
        by: By::Refusal,
        unrefused: renamed_all,
    },
    request(|host, _| host.dladm("create-veth v0 v1")),
    request(|host, _| host.dladm("set-zone -n in0 v0 web")),
    request(|host, _| host.dladm("reset-zone web/in0")),
    request(|host, _| host.dladm("create-vnic -l v1 m0")),
    request(|host, _| host.dladm("delete-vnic m0")),
    request(|host, _| host.dladm("create-veth -t -z web t0 t1")),
    request(|host, _| host.dladm("set-zone v0 db")),
    others(
        |host, _| sh(host, "ip link add name v0 type bridge"),
        |state| flag_of(state, "global/v0", "foreign"),
    ),
    request(|host, _| host.dladm("reset-zone db/v0")),
    others(
        |host, _| sh(host, "ip link delete dev v0"),
        |state| flag_of(state, "global/v0", "persistent"),
    ),
    request(|host, _| host.dladm("set-zone -t v1 web")),
    others(
        |host, _| sh(host, "ip netns delete web"),
        |state| state.contains_key("global/v1") && !state.contains_key("global/t1"),
    ),
    request(|host, _| host.dladm("set-zone v0 later")),
    others(|host, _| sh(host, "ip netns add later"), |state| state.contains_key("later/v0")),
    request(|host, guest| host.dladm(&format!("attach-zone --pid {} guest", guest.pid()))),
    request(|host, _| host.dladm("create-veth -t -z guest t2 t3")),
    request(|host, _| host.dladm("detach-zone guest")),
    others(
        |host, _| sh(host, "ip netns add dying; ip link set dev v1 netns dying"),
        |state| state.contains_key("dying/v1"),
    ),
    // What dies with a namespace is made again.
    others(
        |host, _| sh(host, "ip netns delete dying"),
        |state| flag_of(state, "global/v1", "active") && flag_of(state, "later/v0", "active"),
    ),
];

/// A life that begins with properties, for at each point the daemon dies when it passes that first.
const PROPERTIES: &[Deed] = &[
    request(|host, _| host.dladm("set-linkprop -p mtu=1400,txqueuelen=7,alias=x,state=up a")),
    request(|host, _| host.dladm("set-linkprop -t -p mtu=1300,alias=y a")),
    Deed {
        does: |host, _| {
            host.sh(
                "ip link show dev c | grep -q hidden || ip link property add dev c altname hidden",
            );
            host.dladm("set-linkprop -p mtu=1200,altnames=hidden b")
        },
        is_followed: |_| true,
        by: By::Refusal,
        unrefused: |before| {
            let (b, _) = before["global/b"];
            let mut state = before.clone();
            state.insert(format!("@{b} mtu"), (b, "1200:1200".to_owned()));
            state
        },
    },
    request(|host, _| host.dladm("reset-linkprop a")),
];

fn flag_of(state: &State, link: &str, flag: &str) -> bool {
    state.get(link).is_some_and(|(_, flags)| flags.split(',').any(|set| set == flag))
}

/// What the daemon shows; `None` where it has died.
fn state(host: &Host) -> Option<State> {
    let listed = host.dladm("show-link -Z -P -p -o zone,linkid,flags,link");
    if listed.status != 0 {
        return None;
    }
    let entry = |line: &str| {
        let mut fields = line.splitn(4, ':');
        let mut field = || fields.next().expect("four fields").to_owned();
        let (zone, id, flags, name) = (field(), field(), field(), field());
        (format!("{zone}/{name}"), (id.parse().expect("a number"), flags))
    };
    let persistent = listed.ok();
    let active = host.dladm("show-link -Z -p -o zone,linkid,flags,link");
    let words = "show-linkprop -c -o link,property,value,effective -p mtu,alias,txqueuelen,state";
    let properties = host.dladm(words);
    if active.status != 0 || properties.status != 0 {
        return None;
    }
    let mut state: State = persistent.lines().chain(active.ok().lines()).map(entry).collect();
    for line in properties.ok().lines() {
        let (link, rest) = line.split_once(':').expect("a link and more");
        let (property, values) = rest.split_once(':').expect("a property and more");
        if let Some((id, _)) = state.get(&format!("global/{link}")) {
            let id = *id;
            state.insert(format!("@{id} {property}"), (id, values.to_owned()));
        }
    }
    Some(state)
}

fn main_stage() -> Host {
    let host = Host::with_zones(&["web", "db"]);
    host.ip("link add name c type bridge");
    host.id_when_known("c");
    host
}

fn each_deed_undisturbed(life: &[Deed]) -> Vec<State> {
    let host = main_stage();
    let guest = host.guest();
    let mut states = vec![state(&host).expect("the daemon answers")];
    for (nth, deed) in life.iter().enumerate() {
        let output = (deed.does)(&host, &guest);
        assert_eq!(output.status == 0, deed.by != By::Refusal, "deed {nth}: {output:?}");
        eventually(&format!("deed {nth} is followed"), || {
            (deed.is_followed)(&state(&host).expect("the daemon answers"))
        });
        states.push(state(&host).expect("the daemon answers"));
    }
    states
}

/// Lives until the daemon dies. Which deed that was in, and whether it was acknowledged.
fn live(life: &[Deed], host: &mut Host, guest: &Guest) -> Option<(usize, bool)> {
    for (nth, deed) in life.iter().enumerate() {
        let acknowledged = (deed.does)(host, guest).status == 0;
        let mut is_over = false;
        eventually(&format!("deed {nth} is followed"), || {
            is_over = host.has_daemon_died();
            is_over || state(host).is_some_and(|state| (deed.is_followed)(&state))
        });
        if is_over {
            return Some((nth, acknowledged));
        }
    }
    None
}

/// Whether the life passes the point.
fn dies_at(point: &str, life: &[Deed], states: &[State]) -> bool {
    let mut host = main_stage();
    let guest = host.guest();
    host.stop_daemon();
    host.start_daemon_to_die_at(point);
    if host.has_daemon_died() {
        host.start_daemon();
        await_one_of(&host, point, &states[..1]);
    } else {
        let Some((nth, acknowledged)) = live(life, &mut host, &guest) else { return false };
        if life[nth].by == By::Refusal {
            // What made the kernel refuse is over, so that both all and nothing are possible.
            host.ip("link property del dev c altname hidden");
        }
        host.start_daemon();
        let is_done = acknowledged && life[nth].by == By::Request || life[nth].by == By::Others;
        let first = if is_done { nth + 1 } else { nth };
        let mut states = states[first..nth + 2].to_vec();
        states.extend((life[nth].by == By::Refusal).then(|| (life[nth].unrefused)(&states[0])));
        await_one_of(&host, &format!("{point}, deed {nth}"), &states);
    }
    check_rules(&host);
    true
}

/// What the refused rename would have come to.
fn renamed_all(before: &State) -> State {
    let renamed = |place: &str| match place {
        "global/lan" => "global/wan".to_owned(),
        "global/b" => "global/hidden".to_owned(),
        other => other.to_owned(),
    };
    before.iter().map(|(place, link)| (renamed(place), link.clone())).collect()
}

#[track_caller]
fn await_one_of(host: &Host, what: &str, states: &[State]) {
    eventually(&format!("{what}: {:?} is one of {states:?}", state(host)), || {
        state(host).is_some_and(|found| states.contains(&found))
    });
}

/// Registry and kernel agree, and ids are not given again.
fn check_rules(host: &Host) {
    let shown = state(host).expect("the daemon answers");
    let highest = shown.values().map(|(id, _)| *id).max();
    for zone in host.zones().keys().filter(|zone| host.is_ready(zone)) {
        let prefix = format!("{zone}/");
        let known: Vec<&str> = shown
            .iter()
            .filter(|(_, (_, flags))| flags.split(',').any(|flag| flag == "active"))
            .filter_map(|(place, _)| place.strip_prefix(&prefix))
            .collect();
        let real = match zone.as_str() {
            "global" => host.kernel().into_keys().collect(),
            "guest" => continue,
            zone => host.kernel_in(zone),
        };
        assert_eq!(known, real, "zone {zone}");
    }
    host.ip("link add name probe type bridge");
    assert!(Some(host.id_when_known("probe")) > highest, "a linkid is given again");
}

#[test]
fn wherever_the_daemon_dies_a_restart_finds_all_of_a_change_or_nothing() {
    die_everywhere(LIFE, |_| true);
}

#[test]
fn wherever_the_daemon_dies_a_restart_finds_all_properties_that_were_set_or_none() {
    let is_of_changes = |point: &str| {
        let others = ["start.", "zone_up.", "zone_end.", "remake.", "kernel.before_create"];
        !others.iter().any(|of| point.starts_with(of))
    };
    die_everywhere(PROPERTIES, is_of_changes);
}

/// Dies at these points, each of which some deed of the life has to pass if the life is to have
/// them all.
fn die_everywhere(life: &[Deed], is_wanted: impl Fn(&str) -> bool + Sync) {
    let states = each_deed_undisturbed(life);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(point) = crash::POINTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_wanted(point) {
                let is_passed = dies_at(point, life, &states);
                println!("{point}{}", if is_passed { "" } else { ": not passed" });
                assert!(is_passed || !std::ptr::eq(life, LIFE), "nothing passes {point}");
            }
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
}
