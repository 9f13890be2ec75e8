//! `dladm export` and `import`.

use dlmgmt_proto::{ErrorCode, Flags};

use super::*;

fn imported(world: &mut World, text: &[u8]) -> Result<(), Error> {
    let plan = plan_import(&world.registry, &mut world.ids, text)?;
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
        r#"{"format":2,"links":[]}"#.to_owned(),
        entry(&format!(r#""linkid":0,"link":"a",{mac}"#)),
        entry(&format!(r#""linkid":1,"link":"a b",{mac}"#)),
        entry(&format!(r#""linkid":1,"link":"a",{mac},"more":1"#)),
        entry(r#""linkid":1,"link":"a""#),
    ] {
        let mut world = World::new();
        assert_eq!(
            imported(&mut world, bad.as_bytes()).unwrap_err().code,
            ErrorCode::Invalid,
            "{bad}"
        );
    }
}
