//! SPEC.md section 9, with a real dbus-daemon, `busctl`, `gdbus` and a Python client.

use std::process::{Command, Stdio};

use dlmgmt_tests::{Bus, Host, Monitor, Output, eventually};

/// A host with two links, a daemon and a bus.
fn host_on_a_bus() -> (Host, Bus) {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    let bus = host.start_bus("");
    host.start_daemon_on(&bus);
    (host, bus)
}

fn link_path(host: &Host, name: &str) -> String {
    format!("/org/dlmgmt1/link/_{}", host.ids()[name])
}

/// One property of a link, as `busctl` shows it.
#[track_caller]
fn property(host: &Host, bus: &Bus, path: &str, name: &str) -> String {
    let words = ["get-property", "org.dlmgmt1", path, "org.dlmgmt1.Link", name];
    host.busctl(bus, &words).ok().trim_end().to_owned()
}

/// The name of the error that `busctl` or `gdbus` was told.
#[track_caller]
fn error(output: Output) -> String {
    assert_ne!(output.status, 0, "{output:?}");
    output.stderr
}

/// `busctl monitor`, once it sees what goes over the bus.
fn monitor(host: &Host, bus: &Bus) -> Monitor {
    let mut command = host.busctl_command(bus);
    command.args(["--json=short", "monitor", "org.dlmgmt1"]);
    let monitor = Monitor::start(command);
    eventually("the bus is monitored", || {
        host.busctl(bus, &["introspect", "org.dlmgmt1", "/org/dlmgmt1"]);
        !monitor.so_far().is_empty()
    });
    monitor
}

#[test]
fn busctl_shows_the_tree_and_what_the_objects_offer() {
    let (host, bus) = host_on_a_bus();
    let tree = host.busctl(&bus, &["tree", "--list", "org.dlmgmt1"]).ok();
    let paths: Vec<&str> = tree.lines().collect();
    for path in [&link_path(&host, "a"), &link_path(&host, "b"), "/org/dlmgmt1/zone/_0"] {
        assert!(paths.contains(&path), "{path} is not in {tree}");
    }
    let path = link_path(&host, "a");
    let shown = host.busctl(&bus, &["introspect", "org.dlmgmt1", &path]).ok();
    for line in [".Rename", ".Name", "\"a\"", "\"veth\"", ".PropertiesChanged"] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    let gdbus = host
        .command("gdbus")
        .args(["introspect", "--address", bus.address(), "--dest", "org.dlmgmt1"])
        .args(["--object-path", "/org/dlmgmt1", "--recurse"])
        .output()
        .unwrap();
    let gdbus = Output::from(gdbus).ok();
    assert!(gdbus.contains("interface org.dlmgmt1.Manager"), "{gdbus}");
    assert!(gdbus.contains("readonly s Name = 'b'"), "{gdbus}");
}

#[test]
fn a_rename_is_one_signal_with_the_new_values() {
    let (host, bus) = host_on_a_bus();
    let path = link_path(&host, "a");
    let monitor = monitor(&host, &bus);
    host.manager(&bus, &["Rename", "a(ss)", "1", "a", "lan"]).ok();
    host.manager(&bus, &["Rename", "a(ss)", "1", "b", "end"]).ok();
    let is_signal = |line: &str| line.contains("\"type\":\"signal\"");
    let is_last = |line: &str| is_signal(line) && line.contains("\"end\"");
    let mut signals = monitor.until("the second rename", is_last);
    signals.retain(|line| is_signal(line) && line.contains(&path));
    let [signal] = &signals[..] else { panic!("not one signal: {signals:#?}") };
    assert!(signal.contains("PropertiesChanged"), "{signal}");
    assert!(signal.contains("\"Name\":{\"type\":\"s\",\"data\":\"lan\"}"), "{signal}");
    assert!(!signal.contains("\"Mac\""), "what did not change is told: {signal}");
    assert_eq!(property(&host, &bus, &path, "Name"), "s \"lan\"");
    assert!(host.kernel().contains_key("lan"));
}

#[test]
fn each_link_of_one_change_is_told_of() {
    let (host, bus) = host_on_a_bus();
    let [a, b] = ["a", "b"].map(|name| link_path(&host, name));
    let monitor = monitor(&host, &bus);
    host.manager(&bus, &["Rename", "a(ss)", "2", "a", "b", "b", "a"]).ok();
    host.manager(&bus, &["Rename", "a(ss)", "1", "a", "end"]).ok();
    let signals = monitor.until("the second rename", |line| line.contains("\"data\":\"end\""));
    let names = |path: &str| -> Vec<&str> {
        let told = signals.iter().filter(|line| line.contains("PropertiesChanged"));
        let of_it = told.filter(|line| line.contains(&format!("\"{path}\"")));
        of_it
            .filter_map(|line| line.split("\"Name\":{\"type\":\"s\",\"data\":\"").nth(1))
            .map(|rest| rest.split('"').next().unwrap_or_default())
            .collect()
    };
    assert_eq!((names(&a), names(&b)), (vec!["b"], vec!["a", "end"]));
}

#[test]
fn links_that_come_and_go_are_told_by_the_object_manager() {
    let (host, bus) = host_on_a_bus();
    let monitor = monitor(&host, &bus);
    host.ip("link add name fresh type bridge");
    let added = monitor.wait_for("the new object", |line| line.contains("\"InterfacesAdded\""));
    let path = link_path(&host, "fresh");
    assert!(added.contains(&path) && added.contains("\"fresh\""), "{added}");
    host.ip("link delete dev fresh");
    let removed = monitor.wait_for("its end", |line| line.contains("\"InterfacesRemoved\""));
    assert!(removed.contains(&path), "{removed}");
}

#[test]
fn what_the_door_does_the_bus_does() {
    let (host, bus) = host_on_a_bus();
    host.ip("netns add red");
    host.await_ready("red");
    let path = link_path(&host, "a");
    let object = ["call", "org.dlmgmt1", &path, "org.dlmgmt1.Link"];
    let on_link = |words: &[&str]| host.busctl(&bus, &[&object[..], words].concat());
    on_link(&[
        "SetZone",
        "sa{sv}",
        "red",
        "2",
        "name-inside",
        "s",
        "eth0",
        "temporary",
        "b",
        "true",
    ])
    .ok();
    assert_eq!(host.kernel_in("red"), ["eth0"]);
    assert_eq!(property(&host, &bus, &path, "Zone"), "s \"red\"");
    on_link(&["ResetZone", "a{sv}", "0"]).ok();
    assert!(host.kernel_in("red").is_empty());

    let made = host.manager(
        &bus,
        &["CreateLink", "ssa{sv}", "veth", "t0", "3", "peer", "s", "t1", "zone", "s", "red"]
            .iter()
            .copied()
            .chain(["temporary", "b", "true"])
            .collect::<Vec<_>>(),
    );
    assert!(made.ok().starts_with("ot \"/org/dlmgmt1/link/_"));
    assert_eq!(host.kernel_in("red"), ["t0"]);
    let found = host.manager(&bus, &["Where", "s", "red/t0"]).ok();
    assert!(found.contains("\"Zone\" s \"red\""), "{found}");
    host.manager(&bus, &["DeleteLink", "ss", "red/t0", "veth"]).ok();
    assert!(host.kernel_in("red").is_empty());

    let listed =
        host.manager(&bus, &["ListLinks", "a{sv}", "1", "classes", "as", "1", "veth"]).ok();
    assert!(listed.contains("\"a\"") && listed.contains("\"b\""), "{listed}");
    let since = host.manager(&bus, &["EventsSince", "t", "0"]).ok();
    assert!(since.contains("\"resync\""), "{since}");
}

#[test]
fn errors_have_names_that_programs_can_tell_apart() {
    let (host, bus) = host_on_a_bus();
    let attempt = |words: &[&str]| error(host.manager(&bus, words));
    let call = |words: &[&str]| {
        let output = host
            .command("gdbus")
            .args(["call", "--address", bus.address(), "--dest", "org.dlmgmt1"])
            .args(["--object-path", "/org/dlmgmt1", "--method"])
            .args(words)
            .output()
            .unwrap();
        error(output.into())
    };
    let missing = call(&["org.dlmgmt1.Manager.GetLink", "nope"]);
    assert!(missing.contains("org.dlmgmt1.Error.NotFound: no link nope"), "{missing}");
    let taken = call(&["org.dlmgmt1.Manager.Rename", "[('a', 'b')]"]);
    assert!(taken.contains("org.dlmgmt1.Error.Exists"), "{taken}");
    let zone = call(&["org.dlmgmt1.Manager.GetZone", "nope"]);
    assert!(zone.contains("org.dlmgmt1.Error.NoZone"), "{zone}");
    let wrong = attempt(&["Rename", "s", "a"]);
    assert!(wrong.contains("takes `a(ss)`"), "{wrong}");
    let option = attempt(&["SetZone", "ssa{sv}", "a", "red", "1", "tempory", "b", "true"]);
    assert!(option.contains("no option tempory"), "{option}");
    let path = error(host.busctl(&bus, &["introspect", "org.dlmgmt1", "/org/dlmgmt1/link/_99"]));
    assert!(path.contains("no link @99"), "{path}");
}

#[test]
fn holds_namespaces_files_and_participation_are_descriptors() {
    let (host, bus) = host_on_a_bus();
    let guest = host.guest();
    let client = host.python(&bus, "tokens.py", &guest.pid().to_string());
    assert_eq!((client.status, client.stdout.as_str()), (0, "done\n"), "{client:?}");
}

/// A command that runs as a user without any privilege.
fn as_nobody(command: &Command) -> Command {
    as_user("65534", command)
}

fn as_user(user: &str, command: &Command) -> Command {
    let mut unprivileged = Command::new(command.get_program());
    let args: Vec<_> = command.get_args().collect();
    let split = args.iter().position(|arg| *arg == "--").expect("setpriv ends its options") + 1;
    unprivileged.args(&args[..split]);
    unprivileged.args(["setpriv", "--reuid", user, "--clear-groups", "--"]);
    unprivileged.args(&args[split..]).stdin(Stdio::null());
    unprivileged
}

#[test]
fn everybody_reads_and_only_root_changes_where_there_is_no_polkit() {
    let (host, bus) = host_on_a_bus();
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let nobody = |words: &[&str]| -> Output {
        let mut command = host.busctl_command(&bus);
        command.args(["call", "org.dlmgmt1", "/org/dlmgmt1", "org.dlmgmt1.Manager"]).args(words);
        as_nobody(&command).output().unwrap().into()
    };
    assert!(nobody(&["GetLink", "s", "a"]).ok().contains("/org/dlmgmt1/link/_"));
    let denied = error(nobody(&["Rename", "a(ss)", "1", "a", "mine"]));
    assert!(denied.contains("may not rename links"), "{denied}");
    assert!(host.kernel().contains_key("a"));
}

#[test]
fn the_file_of_a_user_who_may_not_import_is_not_even_looked_at() {
    let (host, bus) = host_on_a_bus();
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let client = host.python(&bus, "pretender.py", "");
    assert_eq!((client.status, client.stdout.as_str()), (0, "done\n"), "{client:?}");
}

#[test]
fn nobody_but_root_can_own_the_name() {
    let host = Host::new();
    let bus = host.start_bus("");
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let request = |name: &str| {
        let mut command = host.busctl_command(&bus);
        command.args(["call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus"]);
        command.args(["RequestName", "su", name, "4"]);
        as_nobody(&command).output().unwrap().into()
    };
    let denied = error(request("org.dlmgmt1"));
    assert!(denied.contains("denied"), "{denied}");
}

#[test]
fn a_caller_in_a_zone_sees_that_zone_alone() {
    let (host, bus) = host_on_a_bus();
    host.add_zone("red");
    host.dladm("set-zone a red").ok();
    let inside = |words: &[&str]| -> Output {
        let mut command = host.command("ip");
        command.args(["netns", "exec", "red", "busctl"]);
        command.arg(format!("--address={}", bus.address())).args(words);
        command.output().unwrap().into()
    };
    let lent = host.everywhere()["red/a"];
    let tree = inside(&["tree", "--list", "org.dlmgmt1"]).ok();
    let links: Vec<&str> = tree.lines().filter(|path| path.contains("/link/")).collect();
    assert_eq!(links, [format!("/org/dlmgmt1/link/_{lent}")]);
    let object = ["call", "org.dlmgmt1", "/org/dlmgmt1", "org.dlmgmt1.Manager"];
    let denied = error(inside(&[&object[..], &["Rename", "a(ss)", "1", "a", "mine"]].concat()));
    assert!(denied.contains("may not rename links"), "{denied}");
    let hidden = error(inside(&[&object[..], &["GetLink", "s", "global/b"]].concat()));
    assert!(hidden.contains("no zone global") || hidden.contains("no link"), "{hidden}");
}

#[test]
fn the_log_level_is_shown_and_set() {
    let (host, bus) = host_on_a_bus();
    let object = ["org.dlmgmt1", "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1"];
    let get = || host.busctl(&bus, &[&["get-property"], &object[..], &["LogLevel"]].concat()).ok();
    assert_eq!(get(), "s \"info\"\n");
    let set = |level| {
        let words = [&["set-property"], &object[..], &["LogLevel", "s", level]].concat();
        host.busctl(&bus, &words)
    };
    set("debug").ok();
    assert_eq!(get(), "s \"debug\"\n");
    assert!(error(set("loud")).contains("no log level loud"));
}

#[test]
fn a_daemon_that_returns_has_its_name_and_a_bus_that_returns_has_the_daemon() {
    let (mut host, bus) = host_on_a_bus();
    let path = link_path(&host, "a");
    host.kill9();
    host.start_daemon_on(&bus);
    assert_eq!(property(&host, &bus, &path, "Name"), "s \"a\"");
    drop(bus);
    let bus = host.start_bus("");
    eventually("the daemon is on the new bus", || host.is_on(&bus));
    assert_eq!(property(&host, &bus, &path, "Name"), "s \"a\"");
}

const MANY: usize = 10_000;

#[test]
fn with_10_000_links_the_tree_answers_and_a_rename_is_still_one_signal() {
    let mut host = Host::new();
    let batch = host.dir().join("links");
    let lines: String = (0..MANY).map(|n| format!("link add name many{n} type ifb\n")).collect();
    std::fs::write(&batch, lines).unwrap();
    host.ip(&format!("-batch {}", batch.display()));
    let bus = host.start_bus("");
    host.start_daemon_on(&bus);
    let tree = host.busctl(&bus, &["tree", "--list", "org.dlmgmt1"]).ok();
    assert_eq!(tree.lines().filter(|path| path.contains("/link/_")).count(), MANY);
    let objects = ["call", "org.dlmgmt1", "/org/dlmgmt1", "org.freedesktop.DBus.ObjectManager"];
    let answer = || {
        let all = host.busctl(&bus, &[&objects[..], &["GetManagedObjects"]].concat()).ok();
        assert!(all.contains("\"many9999\""));
    };
    // What the allocator keeps for the next answer is no growth.
    (0..4).for_each(|_| answer());
    let before = resident_kib(&host);
    (0..8).for_each(|_| answer());
    let after = resident_kib(&host);
    assert!(after < before * 3 / 2, "eight answers made {after} KiB of {before} KiB");

    let monitor = monitor(&host, &bus);
    host.manager(&bus, &["Rename", "a(ss)", "1", "many5000", "lan"]).ok();
    host.manager(&bus, &["Rename", "a(ss)", "1", "many5001", "end"]).ok();
    let is_signal = |line: &str| line.contains("\"type\":\"signal\"");
    let is_last = |line: &str| is_signal(line) && line.contains("\"end\"");
    let told = monitor.until("the second rename", is_last);
    assert_eq!(told.iter().filter(|line| is_signal(line)).count(), 2, "{told:#?}");
}

/// What the daemon has in memory.
fn resident_kib(host: &Host) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn every_method_that_is_described_is_answered() {
    let (host, bus) = host_on_a_bus();
    let client = host.python(&bus, "methods.py", "");
    assert_eq!((client.status, client.stdout.as_str()), (0, "done\n"), "{client:?}");
}

/// Lets the unprivileged user rename links, and nothing else.
const RULE: &str = r#"
polkit.addRule(function(action, subject) {
    if (action.id == "org.dlmgmt1.rename" && subject.user == "nobody") {
        return polkit.Result.YES;
    }
});"#;

#[test]
fn polkit_lets_users_do_what_its_rules_say() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let bus = host
        .start_bus("<include>/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>");
    let _polkit = host.start_polkit(&bus, RULE);
    host.start_daemon_on(&bus);
    let nobody = |words: &[&str]| -> Output {
        let mut command = host.busctl_command(&bus);
        command.args(["call", "org.dlmgmt1", "/org/dlmgmt1", "org.dlmgmt1.Manager"]).args(words);
        as_nobody(&command).output().unwrap().into()
    };
    nobody(&["Rename", "a(ss)", "1", "a", "mine"]).ok();
    assert!(host.kernel().contains_key("mine"));
    let denied = error(nobody(&["Reclaim", "s", "mine"]));
    assert!(denied.contains("may not reclaim links"), "{denied}");
}

/// Lets one user set properties and make links, and another one lend links.
const RULES: &str = r#"
polkit.addRule(function(action, subject) {
    var setter = ["org.dlmgmt1.set-properties", "org.dlmgmt1.make"];
    if (subject.user == "nobody" && setter.indexOf(action.id) >= 0) {
        return polkit.Result.YES;
    }
    if (subject.user == "daemon" && action.id == "org.dlmgmt1.lend") {
        return polkit.Result.YES;
    }
});"#;

#[test]
fn polkit_grants_no_more_than_the_action_that_it_was_asked_for() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let bus = host
        .start_bus("<include>/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>");
    let _polkit = host.start_polkit(&bus, RULES);
    host.start_daemon_on(&bus);
    host.add_zone("red");
    let (link, made) = (link_path(&host, "a"), ["CreateLink", "ssa{sv}", "bridge", "br0", "0"]);
    let call = |user: &str, path: &str, interface: &str, words: &[&str]| -> Output {
        let mut command = host.busctl_command(&bus);
        command.args(["call", "org.dlmgmt1", path, interface]).args(words);
        as_user(user, &command).output().unwrap().into()
    };
    let [setter, lender] = ["65534", "1"].map(|user| {
        let call = &call;
        let link = &link;
        move |words: &[&str]| call(user, link, "org.dlmgmt1.Link", words)
    });
    let zone = ["SetProperties", "a{ss}a{sv}", "1", "zone", "red", "0"];
    let mtu = ["SetProperties", "a{ss}a{sv}", "1", "mtu", "1400", "0"];
    setter(&mtu).ok();
    let denied = error(setter(&zone));
    assert!(denied.contains("may not lend links"), "{denied}");
    lender(&zone).ok();
    assert_eq!(host.kernel_in("red"), ["a"]);
    let denied = error(lender(&mtu));
    assert!(denied.contains("may not set properties"), "{denied}");
    let reset = ["ResetProperties", "asa{sv}", "1", "zone", "0"];
    let denied = error(setter(&reset));
    assert!(denied.contains("may not lend links"), "{denied}");
    lender(&reset).ok();

    call("65534", "/org/dlmgmt1", "org.dlmgmt1.Manager", &made).ok();
    let bridge = link_path(&host, "br0");
    call("65534", &bridge, "org.dlmgmt1.Link", &["Delete"]).ok();
    assert!(!host.kernel().contains_key("br0"));
}

/// A bus with room for more calls than the daemon takes, on which root may be polkit.
const ROOMY: &str = r#"
<limit name="max_replies_per_connection">10000</limit>
<policy context="default"><allow send_destination="org.freedesktop.PolicyKit1"/></policy>
<policy user="root"><allow own="org.freedesktop.PolicyKit1"/></policy>"#;

#[test]
fn root_is_answered_however_many_calls_of_a_user_wait_for_polkit() {
    let mut host = Host::new();
    host.ip("link add name a type veth peer name b");
    host.sh(&format!("chmod 755 {}", host.dir().display()));
    let bus = host.start_bus(ROOMY);
    host.start_daemon_on(&bus);
    let client = host.python(&bus, "crowd.py", "");
    assert_eq!((client.status, client.stdout.as_str()), (0, "done\n"), "{client:?}");
    assert!(host.kernel().contains_key("lan"));
}

#[test]
fn what_the_kernel_has_of_links_is_told_at_once_and_of_one_link_by_its_object() {
    let (host, bus) = host_on_a_bus();
    let (id, path) = (host.ids()["a"], link_path(&host, "a"));
    let words = ["GetDetails", "auas", "1", &id.to_string(), "1", "speed"];
    let told = host.manager(&bus, &words).ok();
    assert!(told.contains("\"speed\" t 10000") && told.contains("\"duplex\" s \"full\""), "{told}");
    let one = ["call", "org.dlmgmt1", &path, "org.dlmgmt1.Link", "GetDetails", "as", "1"];
    let told = host.busctl(&bus, &[&one[..], &["statistics"]].concat()).ok();
    assert!(told.contains("\"ipackets\" t 0"), "{told}");
    let why = error(host.busctl(&bus, &[&one[..], &["weather"]].concat()));
    assert!(why.contains("weather"), "{why}");
}

#[test]
fn properties_of_links_are_set_and_told_over_the_bus() {
    let (host, bus) = host_on_a_bus();
    let path = link_path(&host, "a");
    let on_link = |words: &[&str]| {
        let call = ["call", "org.dlmgmt1", &path, "org.dlmgmt1.Link"];
        host.busctl(&bus, &[&call, words].concat())
    };
    on_link(&["SetProperties", "a{ss}a{sv}", "2", "mtu", "1400", "alias", "x", "0"]).ok();
    assert_eq!(property(&host, &bus, &path, "Mtu"), "u 1400");
    let temporarily = ["sa{ss}a{sv}", "a", "1", "mtu", "1300", "1", "temporary", "b", "true"];
    host.manager(&bus, &[&["SetProperties"], &temporarily[..]].concat()).ok();
    let told = host.manager(&bus, &["ListProperties", "sas", "a", "1", "mtu"]).ok();
    for part in ["\"Value\" s \"1400\"", "\"Effective\" s \"1300\"", "\"Writable\" b true"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    on_link(&["ResetProperties", "asa{sv}", "0", "0"]).ok();
    assert_eq!(property(&host, &bus, &path, "Mtu"), "u 1500");
    let wrong = error(on_link(&["SetProperties", "a{ss}a{sv}", "1", "mtu", "9", "0"]));
    assert!(wrong.contains("68-65535"), "{wrong}");
}
