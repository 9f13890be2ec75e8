//! `make run`.

use std::fs;
use std::path::Path;
use std::process::Command;

use dlmgmt_tests::{Output, bin};

#[test]
fn make_run_tells_its_story_with_real_links_and_leaves_nothing_behind() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/demo.sh");
    let scratch = tempfile::tempdir().unwrap();
    let mut demo = Command::new(script);
    demo.arg(bin("dladm").parent().unwrap()).env("TMPDIR", scratch.path());
    let story = Output::from(demo.output().unwrap()).ok();
    assert!(story.contains("dladm rename-link") && story.contains("All of it held"), "{story}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}
