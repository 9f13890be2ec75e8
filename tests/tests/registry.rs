//! `export` and `import`.

use std::fs::{self, File};

use dlmgmt_tests::{Host, Output, eventually};

#[test]
fn what_was_exported_can_be_imported_from_a_file_and_from_a_pipe() {
    let host = Host::with_links(&["a", "b"]);
    host.dladm("rename-link a net0").ok();
    let before = host.agreed();
    let exported = host.dladm("export").ok();
    assert!(!exported.is_empty());
    let file = host.dir().join("registry");
    fs::write(&file, &exported).unwrap();

    host.dladm(&format!("import {}", file.display())).ok();
    assert_eq!(host.agreed(), before);
    assert_eq!(host.dladm("export").ok(), exported);

    let stdin = File::open(&file).unwrap();
    let from_file = host.dladm_command().args(["import", "-"]).stdin(stdin).output();
    Output::from(from_file.unwrap()).ok();

    let mut from_pipe = host.command("sh");
    from_pipe.env("DLMGMT_DOOR", host.door());
    from_pipe
        .args(["-c", "cat \"$0\" | \"$1\" import -"])
        .arg(&file)
        .arg(dlmgmt_tests::bin("dladm"));
    Output::from(from_pipe.output().unwrap()).ok();
    assert_eq!(host.agreed(), before);
    assert_eq!(host.dladm("export").ok(), exported);
}

#[test]
fn a_file_that_is_no_export_is_refused_and_changes_nothing() {
    let host = Host::with_links(&["a"]);
    let exported = host.dladm("export").ok();
    let file = host.dir().join("registry");
    let half = &exported.as_bytes()[..exported.len() / 2];
    let bad: [&[u8]; 5] = [b"", b"garbage", b"\xff\x00\xfe", b"{}", half];
    for content in bad {
        fs::write(&file, content).unwrap();
        let attempt = || host.dladm(&format!("import {}", file.display()));
        host.unchanged_by(attempt).error_line(1);
    }
    let line = host.dladm("import /no/such/file").error_line(1);
    assert!(line.contains("/no/such/file"), "{line}");
}

/// Links and zones, with all that a restart or another machine must find again.
fn furnish(host: &Host) {
    host.dladm("create-veth v0 p0").ok();
    host.dladm("create-vnic -l a vn0").ok();
    host.dladm("create-vnic -t -l a passing").ok();
    host.dladm("set-zone -n up0 v0 web").ok();
    host.dladm("set-zone vn0 db").ok();
    host.dladm("set-zone -t p0 web").ok();
}

/// What lasts: every persistent link with its linkid, its place and what it is.
fn lasting(host: &Host) -> String {
    let links = host.dladm("show-link -P -Z -p -o linkid,link,class,kind,over,zone,owner").ok();
    let zones = host.dladm("show-zone -p -o zoneid,zone").ok();
    format!("{links}{zones}")
}

/// A host with zones `web` and `db` that come up in different orders, so that they would get
/// other numbers by themselves.
fn host_with_zones(zones: &[&str]) -> Host {
    let host = Host::with_links(&["x"]);
    host.ip("link add name a type veth peer name b");
    host.id_when_known("a");
    for zone in zones {
        host.add_zone(zone);
    }
    host
}

#[test]
fn a_registry_is_restored_on_another_host() {
    let source = host_with_zones(&["other", "web", "db"]);
    furnish(&source);
    source.dladm("reset-zone web/p0").ok();
    let exported = source.dladm("export").ok();

    let mut target = Host::with_links(&["x"]);
    target.ip("link add name a type veth peer name b");
    target.id_when_known("a");
    let file = target.dir().join("registry");
    fs::write(&file, &exported).unwrap();
    let import = |target: &Host| target.dladm(&format!("import {}", file.display())).ok();
    import(&target);
    for zone in ["db", "web", "other"] {
        target.add_zone(zone);
    }
    eventually("the loans are where they belong", || lasting(&target) == lasting(&source));
    assert_eq!(target.field("linkid", "web/up0"), source.field("linkid", "web/up0"));
    assert_eq!(target.dladm("export").ok(), exported);

    target.unchanged_by(|| import(&target));
    target.kill9_and_restart();
    eventually("a restart finds them again", || lasting(&target) == lasting(&source));
    assert_eq!(target.dladm("export").ok(), exported);
}

#[test]
fn an_import_whose_loans_are_refused_changes_nothing() {
    let source = host_with_zones(&["web"]);
    source.dladm("create-veth v0 p0").ok();
    source.dladm("set-zone -n up0 v0 web").ok();
    let exported = source.dladm("export").ok();

    let target = host_with_zones(&["web"]);
    target.dladm("create-veth v0 p0").ok();
    target.ip("address add 192.0.2.1/24 dev v0");
    let file = target.dir().join("registry");
    fs::write(&file, &exported).unwrap();
    let import = || target.dladm(&format!("import {}", file.display()));
    let line = target.unchanged_by(import).refused("busy");
    assert!(line.contains("192.0.2.1"), "{line}");
    target.ip("address delete 192.0.2.1/24 dev v0");
    import().ok();
    assert_eq!(target.kernel_in("web"), ["up0"]);
}
