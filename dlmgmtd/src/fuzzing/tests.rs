//! The seeds, and what the fuzzers once found, run through the entry functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};

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

/// Bytes made of seeds by chance: cut, joined, and some of them changed.
fn mutated(seeds: &[Vec<u8>], chance: &mut TestRng) -> Vec<u8> {
    let mut pick = |limit: usize| chance.random_range(0..limit.max(1));
    let mut bytes = Vec::new();
    for _ in 0..=pick(3) {
        let seed = &seeds[pick(seeds.len())];
        let cut = if pick(2) == 0 { seed.len() } else { pick(seed.len()) };
        bytes.extend(&seed[..cut]);
    }
    for _ in 0..pick(6) {
        let len = bytes.len();
        if let Some(byte) = bytes.get_mut(pick(len)) {
            *byte = [0, 1, 0xff, *byte ^ 1 << pick(8), pick(256) as u8][pick(5)];
        }
    }
    bytes
}

/// What a fuzzer does, where there is no nightly toolchain for one. `FUZZ=TARGET FUZZ_SECONDS=N` does
/// it to one target for so long.
#[test]
fn every_target_lives_through_mutated_seeds() {
    let wanted = std::env::var("FUZZ").ok();
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let targets = TARGETS.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|it| it == name));
    let lives = targets.map(|(name, run)| {
        std::thread::spawn(move || {
            crate::sys::enter_new_network_namespace().unwrap();
            let seeds: Vec<Vec<u8>> =
                inputs("seeds", name).iter().map(|seed| fs::read(seed).unwrap()).collect();
            let mut chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            let mut runs = 0;
            while runs < 100 || seconds > 1 && Instant::now() < until {
                let bytes = mutated(&seeds, &mut chance);
                let outcome = std::panic::catch_unwind(|| run(&bytes));
                assert!(outcome.is_ok(), "{name} finds {bytes:02x?}");
                runs += 1;
            }
            println!("{name}: {runs} runs");
        })
    });
    let lives: Vec<_> = lives.collect();
    lives.into_iter().for_each(|life| life.join().unwrap());
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
