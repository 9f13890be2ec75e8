//! `export` and `import`.

use std::fs::{self, File};

use dlmgmt_tests::{Host, Output};

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
