//! What the daemon costs, each figure as a ratio against a floor or a peer that is measured in the
//! same run. Ends with 1 where a bound does not hold.
//!
//! `make bench` runs all; `cargo bench -p dlmgmt-tests --bench ratios -- rename` runs one part.

mod figure;
mod lookup;
mod netlink;
mod overflow;
mod processors;
mod rename;
mod show_link;
mod world;
mod zone_end;
mod zone_links;

use std::process::ExitCode;

use figure::Figure;

type Part = (&'static str, fn() -> Vec<Figure>);

const PARTS: [Part; 6] = [
    ("lookup", lookup::figures),
    ("show-link", show_link::figures),
    ("rename", rename::figures),
    ("overflow", overflow::figures),
    ("zone-links", zone_links::figures),
    ("zone-end", zone_end::figures),
];

fn main() -> ExitCode {
    // cargo adds `--bench` of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [role, len] = &words[..]
        && role == lookup::PEER
    {
        lookup::answer_until_closed(len.parse().expect("a length"));
        return ExitCode::SUCCESS;
    }
    let is_wanted = |part: &&Part| words.is_empty() || words.iter().any(|word| word == part.0);
    let mut all_hold = true;
    for (_, figures) in PARTS.iter().filter(is_wanted) {
        for figure in figures() {
            println!("{figure}");
            all_hold &= figure.holds();
        }
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
