//! `dladm export` and `import`.

use dlmgmt_proto::{ErrorCode, Flags, ZoneName};

use super::*;
use crate::model::{Location, Zone, ZoneRecord};

pub fn imported(world: &mut World, text: &[u8]) -> Result<(), Error> {
    let document = Document::parse(text)?;
    let plan = plan_import(&world.registry, &mut world.ids, &document, &Asked::default())?;
    world.carry_out(plan);
    Ok(())
}

#[test]
fn an_export_brought_into_an_empty_registry_says_the_same_again() {
    let mut source = World::with([veth(2, "v0"), card(3, "eth0", 1, 1), card(4, "eth1", 2, 2)]);
    source.rename(&[("eth0", "lan")]).unwrap();
    let text = export(&source.registry).unwrap();
    let mut target = World::new();
    imported(&mut target, &text).unwrap();
    assert_eq!(export(&target.registry).unwrap(), text);
    assert_eq!(target.id("lan"), source.id("lan"));
    assert_eq!(target.link("lan").flags, Flags::PERSISTENT | Flags::REMOVED);
    assert_eq!(target.id("v0"), None);
}

#[test]
fn a_link_that_is_known_by_its_hardware_keeps_its_linkid_and_takes_the_name() {
    let mut source = World::with([veth(2, "v0"), card(3, "eth0", 1, 1)]);
    source.rename(&[("eth0", "lan")]).unwrap();
    let text = export(&source.registry).unwrap();
    let mut target = World::with([card(2, "eth0", 1, 1)]);
    let id = target.id("eth0");
    imported(&mut target, &text).unwrap();
    assert_eq!(target.id("lan"), id);
    assert_eq!(target.kernel_name(2), "lan");
}

#[test]
fn an_import_that_cannot_be_whole_changes_nothing() {
    let source = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 2, 2)]);
    let text = export(&source.registry).unwrap();
    let mut target = World::with([veth(2, "eth1")]);
    assert_eq!(imported(&mut target, &text).unwrap_err().code, ErrorCode::Exists);
    assert_eq!(target.registry.links().count(), 1);
}

#[test]
fn a_text_that_is_no_export_is_invalid() {
    let entry = |fields: &str| {
        format!(r#"{{"format":1,"links":[{{"class":"phys","media":"Ethernet",{fields}}}]}}"#)
    };
    let mac = r#""mac":"02:00:00:00:00:01""#;
    for bad in [
        "".to_owned(),
        r#"{"format":4,"links":[]}"#.to_owned(),
        entry(&format!(r#""linkid":0,"link":"a",{mac}"#)),
        entry(&format!(r#""linkid":1,"link":"a b",{mac}"#)),
        entry(&format!(r#""linkid":1,"link":"a",{mac},"more":1"#)),
        entry(r#""linkid":1,"link":"a""#),
        entry(&format!(r#""linkid":1,"link":"a",{mac},"properties":{{"mtu":"0"}}"#)),
        entry(&format!(r#""linkid":1,"link":"a",{mac},"properties":{{"zone":"web"}}"#)),
    ] {
        let mut world = World::new();
        assert_eq!(
            imported(&mut world, bad.as_bytes()).unwrap_err().code,
            ErrorCode::Invalid,
            "{bad}"
        );
    }
}

/// Format 1 has physical links alone.
#[test]
fn a_text_of_format_1_is_read() {
    let text = r#"{"format":1,"links":[{"linkid":9,"link":"lan","class":"phys",
        "media":"Ethernet","mac":"02:00:00:00:00:01","path":"pci-0000:00:01.0"}]}"#;
    let mut world = World::new();
    imported(&mut world, text.as_bytes()).unwrap();
    assert_eq!(world.id("lan"), LinkId::new(9));
}

/// Format 2 has pairs and macvlans, which say their address and their mode by themselves.
#[test]
fn a_text_of_format_2_is_read() {
    let text = r#"{"format":2,"links":[
        {"linkid":4,"link":"lan","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:01"},
        {"linkid":6,"link":"v0","class":"veth","media":"Ethernet","peer":5},
        {"linkid":5,"link":"p0","class":"veth","media":"Ethernet","peer":6},
        {"linkid":8,"link":"vn0","class":"vnic","media":"Ethernet","mac":"02:00:00:00:00:09",
         "over":4,"mode":"Private"}]}"#;
    let mut world = World::new();
    imported(&mut world, text.as_bytes()).unwrap();
    let recipe = |name: &str| {
        let id = world.id(name).unwrap();
        world.registry.link(id).unwrap().record.recipe.clone().unwrap()
    };
    assert_eq!((recipe("v0").kind.as_str(), recipe("v0").peer), ("veth", world.id("p0")));
    let vnic = recipe("vn0");
    assert_eq!((vnic.kind.as_str(), vnic.over), ("macvlan", world.id("lan")));
    let options = [("mac", "02:00:00:00:00:09"), ("mode", "private")];
    assert!(vnic.options.iter().map(|(name, value)| (&**name, &**value)).eq(options));
}

#[test]
fn a_card_in_use_is_not_lent_whichever_link_it_becomes() {
    let text = br#"{"format":3,"zones":[{"zoneid":7,"zone":"web"}],"links":[{"linkid":4,
        "link":"net0","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:02",
        "path":"pci-0000:00:02.0","loan":{"zone":"web","name":"up0"}}]}"#;
    let mut world = World::with([card(2, "net0", 1, 1), card(3, "eth1", 2, 2)]);
    world.vanish(2);
    let document = Document::parse(text).unwrap();
    let lent = links_to_lend(&world.registry, &document);
    let addresses = lent.iter().map(|id| (*id, vec!["192.0.2.1/24".to_owned()])).collect();
    let asked = Asked { addresses, ..Asked::default() };
    let refused = plan_import(&world.registry, &mut world.ids, &document, &asked).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("address 192.0.2.1/24"), "{refused}");
}

/// Entries of zones `web` and `db`, of a card that is lent, and of virtual links of every kind.
const EVERYTHING: &str = r#"{"format":3,
    "zones":[{"zoneid":7,"zone":"web"},{"zoneid":3,"zone":"db"}],
    "links":[
        {"linkid":4,"link":"lan","class":"phys","media":"Ethernet","mac":"02:00:00:00:00:01",
         "path":"pci-0000:00:01.0","loan":{"zone":"web","name":"up0"},
         "properties":{"alias":"to the rack","mtu":"9000","promisc":"on"}},
        {"linkid":6,"link":"v0","class":"veth","media":"Ethernet","kind":"veth","peer":5},
        {"linkid":5,"link":"p0","class":"veth","media":"Ethernet","kind":"veth","peer":6},
        {"linkid":8,"link":"vn0","class":"vnic","media":"Ethernet","kind":"macvlan","over":4,
         "options":{"mac":"02:00:00:00:00:09","mode":"private"}},
        {"linkid":10,"link":"br0","class":"bridge","media":"Ethernet","kind":"bridge","ports":[6],
         "options":{"protect":"stp"}},
        {"linkid":9,"link":"vn1","class":"vnic","media":"Ethernet","kind":"ipvlan","over":8,
         "loan":{"zone":"db","name":"vn1"}},
        {"linkid":11,"link":"vn7","class":"vnic","media":"Ethernet","kind":"vlan-vnic","over":4,
         "options":{"mac":"02:00:00:00:00:0a","vid":"7"}}
    ]}"#;

#[test]
fn everything_that_is_persistent_is_brought_in_and_says_the_same_again() {
    let mut world = World::new();
    imported(&mut world, EVERYTHING.as_bytes()).unwrap();
    let text = export(&world.registry).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let mut meant: serde_json::Value = serde_json::from_str(EVERYTHING).unwrap();
    for (list, key) in [("zones", "zoneid"), ("links", "linkid")] {
        let entries = meant[list].as_array_mut().unwrap();
        entries.sort_by_key(|entry| entry[key].as_u64());
    }
    assert_eq!(said, meant);

    imported(&mut world, EVERYTHING.as_bytes()).unwrap();
    assert_eq!(export(&world.registry).unwrap(), text, "once more changes nothing");
}

/// What an earlier life of this registry gave is not given again.
#[test]
fn numbers_that_are_taken_are_replaced_and_what_speaks_of_them_follows() {
    let mut world = World::with((2..8).map(|ifindex| veth(ifindex, &format!("x{ifindex}"))));
    let web = ZoneName::new("other").unwrap();
    let record = ZoneRecord { id: ZoneId(7), name: web, attached: None };
    world.registry = world.registry.with_zone(Zone { record, up: None });
    imported(&mut world, EVERYTHING.as_bytes()).unwrap();
    let record = |name: &str| {
        let id = world.id(name).unwrap();
        (*world.registry.link(id).unwrap().record).clone()
    };
    assert_eq!(record("vn0").id.get(), 8, "it was free");
    let (v0, p0) = (record("v0"), record("p0"));
    assert!(v0.id.get() > 9 && p0.id.get() > 9, "5 and 6 were not");
    assert_eq!(v0.recipe.unwrap().peer, Some(p0.id));
    assert_eq!(p0.recipe.unwrap().peer, Some(v0.id));
    assert_eq!(record("br0").recipe.unwrap().ports, [v0.id]);
    let zone = world.registry.zone_by_name(&ZoneName::new("web").unwrap()).unwrap();
    assert_eq!(zone, ZoneId(8));
    assert!(matches!(record("lan").location, Location::OnLoan(loan) if loan.zone == zone));
}

#[test]
fn a_text_that_contradicts_itself_is_invalid() {
    for (what, by) in [
        (r#""zoneid":3"#, r#""zoneid":7"#),
        (r#""zoneid":3"#, r#""zoneid":0"#),
        (r#""zone":"db"}"#, r#""zone":"web"}"#),
        (r#"{"zoneid":3,"zone":"db"}"#, r#"{"zoneid":3,"zone":"other"}"#),
        (r#"{"zoneid":3,"zone":"db"}"#, r#"{"zoneid":3,"zone":"global"}"#),
        (r#""name":"up0""#, r#""name":"a b""#),
        (r#""peer":5"#, r#""peer":8"#),
        (r#""peer":5"#, r#""peer":6"#),
        (r#""peer":5"#, r#""peer":99"#),
        (r#","peer":5"#, ""),
        (r#""over":4"#, r#""over":9"#),
        (r#""over":4"#, r#""over":8"#),
        (r#""over":4"#, r#""over":99"#),
        (r#""over":4"#, r#""over":"nothing""#),
        (r#"02:00:00:00:00:09"#, r#"03:00:00:00:00:09"#),
        (r#""class":"vnic""#, r#""class":"bridge""#),
        (r#""class":"vnic""#, r#""class":"misc""#),
        (r#""kind":"macvlan""#, r#""kind":"wireguard""#),
        (r#""mode":"private""#, r#""mode":"shy""#),
        (r#""protect":"stp""#, r#""colour":"red""#),
        (r#""ports":[6]"#, r#""ports":[99]"#),
        (r#""ports":[6]"#, r#""ports":[10]"#),
        (r#""ports":[6]"#, r#""over":6"#),
    ] {
        let text = EVERYTHING.replacen(what, by, 1);
        assert_ne!(text, EVERYTHING, "{what}");
        let mut world = World::new();
        let error = imported(&mut world, text.as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid, "{by}: {error}");
        assert_eq!(world.registry.links().count(), 0, "{by}");
    }
}

fn exported_options(world: &World, link: &str) -> serde_json::Value {
    let text = export(&world.registry).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let links = said["links"].as_array().unwrap();
    links.iter().find(|entry| entry["link"] == link).unwrap()["options"].clone()
}

#[test]
fn a_known_link_takes_the_options_that_can_be_changed_and_keeps_its_linkid() {
    for (what, by, link, options) in [
        (r#"{"protect":"stp"}"#, r#"{"protect":"none","ageing-time":"77"}"#, "br0", None),
        (r#"{"protect":"stp"}"#, "{}", "br0", Some(serde_json::Value::Null)),
        (r#""mode":"private""#, r#""mode":"vepa""#, "vn0", None),
        (r#"00:00:00:09"#, r#"00:00:00:08"#, "vn0", None),
    ] {
        let mut world = World::new();
        imported(&mut world, EVERYTHING.as_bytes()).unwrap();
        let before = world.registry.links().count();
        let id = world.id(link);
        let text = EVERYTHING.replacen(what, by, 1);
        assert_ne!(text, EVERYTHING, "{what}");
        let mut fresh = World::new();
        imported(&mut fresh, text.as_bytes()).unwrap();
        let expected = options.unwrap_or_else(|| exported_options(&fresh, link));
        imported(&mut world, text.as_bytes()).unwrap();
        assert_eq!(exported_options(&world, link), expected, "{by}");
        assert_eq!((world.id(link), world.registry.links().count()), (id, before), "{by}");
    }
}

#[test]
fn a_link_of_the_name_that_cannot_become_the_one_meant_is_refused_with_why() {
    for (what, by, why) in [
        (r#""kind":"ipvlan""#, r#""kind":"macvlan""#, "which is of kind ipvlan, not macvlan"),
        (r#""over":8"#, r#""over":4"#, "which lies over another link"),
        (r#""ports":[6]"#, r#""ports":[4]"#, "which has other ports"),
        (r#""ports":[6],"#, r#""ports":[6],"properties":{"mtu":"1400"},"#, ""),
        (r#"{"vid":"7"}"#, r#"{"vid":"8"}"#, "whose vid is 7, not 8"),
        (
            r#"{"vid":"7"}"#,
            r#"{"vid":"7","protocol":"802.1ad"}"#,
            "whose protocol is 802.1q, not 802.1ad",
        ),
        (r#"{"vid":"7"}"#, r#"{"vid":"7","protocol":"802.1q"}"#, ""),
    ] {
        let vlan = r#"{"linkid":12,"link":"v7","class":"vlan","media":"Ethernet","over":4,
            "options":{"vid":"7"}},
        {"linkid":9"#;
        let everything = EVERYTHING.replacen(r#"{"linkid":9"#, vlan, 1);
        let text = everything.replacen(what, by, 1);
        assert_ne!(text, everything, "{what}");
        let mut world = World::new();
        imported(&mut world, everything.as_bytes()).unwrap();
        let before = export(&world.registry).unwrap();
        match imported(&mut world, text.as_bytes()) {
            Ok(()) => assert_eq!(why, "", "{by}"),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Exists, "{by}: {error}");
                assert!(!why.is_empty() && error.message.contains(why), "{by}: {error}");
                assert_eq!(export(&world.registry).unwrap(), before, "{by}");
            }
        }
    }
}

#[test]
fn cards_of_one_address_are_told_apart_by_their_slots() {
    let mut source = World::with([card(2, "eth0", 1, 1), card(3, "eth1", 1, 2)]);
    source.rename(&[("eth0", "lan"), ("eth1", "wan")]).unwrap();
    let text = export(&source.registry).unwrap();
    let mut target = World::with([card(2, "eth0", 1, 2), card(3, "eth1", 1, 1)]);
    imported(&mut target, &text).unwrap();
    assert_eq!((target.kernel_name(2), target.kernel_name(3)), ("wan".into(), "lan".into()));
}
