//! Holds `org.dlmgmt1(5)` to what is on the bus.

use std::collections::BTreeSet;

use dlmgmt_proto::ErrorCode;

use super::error_name;
use super::introspection::introspect;
use super::table::{Arg, Interface, OURS};

const PAGE: &str = include_str!("../../../man/org.dlmgmt1.5");

/// The part of the page about an interface.
#[track_caller]
fn part_about(interface: &Interface) -> &'static str {
    let title = format!("\n.Ss {}\n", interface.name);
    let Some((_, part)) = PAGE.split_once(&title) else { panic!("{} is not told", interface.name) };
    let end = part.find("\n.Ss ").or_else(|| part.find("\n.Sh ")).unwrap_or(part.len());
    &part[..end]
}

/// What the part tells of: `Fn SetZone s s a{sv}`, without the macro `.It`.
fn told(part: &str) -> BTreeSet<String> {
    part.lines().filter_map(|line| line.strip_prefix(".It ")).map(str::to_owned).collect()
}

fn with_signatures(head: String, args: &[Arg]) -> String {
    args.iter().fold(head, |line, arg| format!("{line} \"{} {}\"", arg.signature, arg.name))
}

fn there(interface: &Interface) -> BTreeSet<String> {
    let methods = interface
        .methods
        .iter()
        .map(|method| with_signatures(format!("Fn {}", method.name), method.takes));
    let properties = interface
        .properties
        .iter()
        .map(|property| format!("Va {} Pq Li {}", property.name, property.signature));
    let signals = interface
        .signals
        .iter()
        .map(|signal| with_signatures(format!("Em signal Fn {}", signal.name), signal.args));
    methods.chain(properties).chain(signals).collect()
}

#[test]
fn the_manual_tells_of_every_method_property_and_signal_with_its_types() {
    for interface in OURS {
        let (told, there) = (told(part_about(interface)), there(interface));
        let wrong: Vec<&String> = told.symmetric_difference(&there).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", interface.name);
    }
}

#[test]
fn the_manual_tells_what_each_method_gives() {
    for interface in OURS {
        let part = part_about(interface);
        for method in interface.methods.iter().filter(|method| !method.gives.is_empty()) {
            let head = with_signatures(format!(".It Fn {}", method.name), method.takes);
            let (_, about) = part.split_once(&format!("{head}\n")).unwrap();
            let about = about.split("\n.It ").next().unwrap();
            for Arg { name, signature } in method.gives {
                let gives = format!("Va {name} Pq Li {signature}");
                assert!(about.contains(&gives), "{}: {gives}", method.name);
            }
        }
    }
}

#[test]
fn the_manual_tells_of_every_error() {
    for code in ErrorCode::ALL {
        let name = error_name(*code);
        assert!(PAGE.contains(&format!("\n.It Li {name}\n")), "{name}");
    }
}

#[test]
fn the_manual_tells_of_every_action_of_polkit() {
    for action in OURS.iter().flat_map(|interface| interface.methods).flat_map(|m| m.needs) {
        let Some(id) = action.polkit_id() else { continue };
        assert!(PAGE.contains(&format!("\n.It Li {id}\n")), "{id}");
    }
}

#[test]
fn introspection_data_is_of_one_interface_and_there_is_none_of_others() {
    for interface in OURS {
        let xml = introspect(interface.name).unwrap();
        assert_eq!(xml.matches("<interface name=").count(), 1);
        assert!(xml.contains(&format!("<interface name=\"{}\">", interface.name)));
    }
    assert_eq!(introspect("org.freedesktop.DBus.Peer"), None);
}
