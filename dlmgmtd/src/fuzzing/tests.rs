//! The seeds, and what the fuzzers once found, run through the entry functions.

use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fuzz_dir().join(kind).join(target));
    let mut inputs: Vec<PathBuf> =
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

/// Each target runs on a thread of its own, in a network namespace of its own.
fn replay(kind: &'static str) -> usize {
    let replays = TARGETS.iter().map(|(name, run)| {
        std::thread::spawn(move || {
            crate::sys::enter_new_network_namespace().unwrap();
            let inputs = inputs(kind, name);
            for input in &inputs {
                println!("{}", input.display());
                run(&fs::read(input).unwrap());
            }
            inputs.len()
        })
    });
    let replays: Vec<_> = replays.collect();
    replays.into_iter().map(|replay| replay.join().unwrap()).sum()
}

#[test]
fn what_was_once_found_is_never_found_again() {
    replay("regressions");
}

#[test]
fn every_target_has_seeds_and_lives_through_them() {
    for (name, _) in TARGETS {
        assert!(!inputs("seeds", name).is_empty(), "{name}");
    }
    replay("seeds");
}

#[test]
fn the_fuzz_crate_has_every_target() {
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    let listed = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
    let listed: Vec<&str> = listed.map(|rest| rest.trim_end_matches('"')).skip(1).collect();
    assert_eq!(listed, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

/// Beginnings for the fuzzers, made of what other tests know to be right. Run it when there is
/// more to begin with: `cargo test -p dlmgmtd writes_the_seeds -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn writes_the_seeds() {
    let seeds = super::seeds::all();
    for (target, name, bytes) in seeds {
        let dir = fuzz_dir().join("seeds").join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    }
}
