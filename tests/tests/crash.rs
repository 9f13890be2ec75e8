//! What was acknowledged is durable: SPEC.md rule 3.3.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlmgmt_proto::door::{Rename, RenameItem};
use dlmgmt_tests::{Host, eventually};
use libdlmgmt::Client;

const ROUNDS: usize = 32;
const WRITERS: usize = 4;

/// Two links that one writer renames, each time both in one change.
struct Pair {
    ids: [u32; 2],
    /// The names that were acknowledged last.
    acknowledged: [String; 2],
    /// The names of the change that was under way when the daemon died.
    attempted: Option<[String; 2]>,
}

impl Pair {
    /// What the `turn`-th change makes of the names: a swap, or two fresh ones.
    fn next_names(&self, writer: usize, turn: usize) -> [String; 2] {
        let [a, b] = &self.acknowledged;
        match turn % 2 {
            0 => [b.clone(), a.clone()],
            _ => [format!("w{writer}a{turn}"), format!("w{writer}b{turn}")],
        }
    }

    /// Renames until the daemon dies.
    fn write(&mut self, client: &Client, writer: usize, acknowledgements: &AtomicUsize) {
        for turn in 0.. {
            let names = self.next_names(writer, turn);
            let items = (0..2)
                .map(|i| RenameItem {
                    link: format!("@{}", self.ids[i]).parse().unwrap(),
                    to: names[i].clone(),
                })
                .collect();
            match client.call(&Rename { items }) {
                Ok(_) => {
                    self.acknowledged = names;
                    acknowledgements.fetch_add(1, Ordering::SeqCst);
                }
                Err(libdlmgmt::ClientError::Refused(why)) => panic!("refused: {why}"),
                Err(_) => {
                    self.attempted = Some(names);
                    return;
                }
            }
        }
    }

    /// Takes the names that the restarted daemon shows, which are those acknowledged, or wholly
    /// those of the change that was under way.
    fn settle(&mut self, shown: &BTreeMap<u32, String>) {
        let names = self.ids.map(|id| shown[&id].clone());
        assert!(
            names == self.acknowledged || Some(&names) == self.attempted.as_ref(),
            "{names:?} are neither {:?} nor {:?}",
            self.acknowledged,
            self.attempted
        );
        self.acknowledged = names;
        self.attempted = None;
    }
}

#[test]
fn kill_9_at_any_moment_loses_no_acknowledged_rename_and_halves_none() {
    let names: Vec<String> = (0..2 * WRITERS).map(|i| format!("link{i}")).collect();
    let mut host = Host::with_links(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let start = host.agreed();
    let mut pairs: Vec<Pair> = names
        .chunks(2)
        .map(|pair| Pair {
            ids: [start[&pair[0]].0, start[&pair[1]].0],
            acknowledged: [pair[0].clone(), pair[1].clone()],
            attempted: None,
        })
        .collect();

    for round in 0..ROUNDS {
        let acknowledgements = AtomicUsize::new(0);
        let enough = round * 7 % 31;
        let door = host.door();
        let namespace = host.namespace();
        std::thread::scope(|scope| {
            for (writer, pair) in pairs.iter_mut().enumerate() {
                let (door, namespace, acknowledgements) = (&door, &namespace, &acknowledgements);
                scope.spawn(move || {
                    namespace.enter();
                    // The daemon may die before there is a connection, too.
                    if let Ok(client) = Client::connect(door) {
                        pair.write(&client, writer, acknowledgements);
                    }
                });
            }
            eventually("enough renames", || acknowledgements.load(Ordering::SeqCst) >= enough);
            host.kill9();
        });
        host.start_daemon();

        let now = host.agreed();
        let by_id = now.iter().map(|(name, (id, _))| (*id, name.clone())).collect();
        pairs.iter_mut().for_each(|pair| pair.settle(&by_id));
        let links = |links: &BTreeMap<String, (u32, u32)>| {
            let mut links: Vec<_> = links.values().copied().collect();
            links.sort_unstable();
            links
        };
        assert_eq!(links(&now), links(&start), "the same links with the same linkids");
    }
}
