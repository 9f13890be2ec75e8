//! SPEC.md rule 3.3 for the release binary: it is killed at random moments under load from many
//! clients in several zones, and each acknowledged change is checked after each restart.
//!
//! `KILLS=N` says how often, `KILL_SECONDS=N` for how long, `KILL_SEED=N` replays the requests of a run;
//! when the kills meet them is up to the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use dlmgmt_proto::door::{CreateLink, RenameItem, ResetZone, SetZone};
use dlmgmt_proto::{LinkClass, LinkRef, LinkSpec};
use dlmgmt_tests::{Host, eventually, release_bin};
use fastrand::Rng;
use libdlmgmt::{Client, ClientError};

/// How often the daemon is killed, over all hosts.
const KILLS: u64 = 300;

/// Hosts side by side, so that one daemon starts while another one is under load.
const HOSTS: u64 = 3;

const ZONES: [&str; 2] = ["red", "blue"];

/// Pairs that one client has at most.
const PAIRS_MAX: usize = 3;

/// One end of a pair of links.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    /// `None` while only an answer could tell it.
    id: Option<u32>,
    zone: &'static str,
    name: String,
}

impl End {
    fn place(&self) -> String {
        format!("{}/{}", self.zone, self.name)
    }

    fn by_id(&self) -> LinkRef {
        let id = self.id.expect("the id of a link that was acknowledged");
        format!("@{id}").parse().expect("a linkid")
    }
}

type Pair = [End; 2];

/// What a client asks for.
#[derive(Clone, Debug)]
enum Act {
    Make(Pair),
    Delete(usize),
    Rename(usize, [String; 2]),
    Lend { pair: usize, zone: &'static str, temporary: bool },
    Recall(usize),
}

/// A client with links of its own, which nobody else touches.
struct Actor {
    /// Where its connection is made.
    zone: &'static str,
    /// What its links' names begin with.
    prefix: String,
    chance: Rng,
    names: usize,
    /// Its links as they were acknowledged.
    known: Vec<Pair>,
    /// Its links if the change is done that nobody answered.
    attempted: Option<Vec<Pair>>,
    /// Every linkid that it was ever told.
    given: BTreeSet<u32>,
}

impl Actor {
    fn new(zone: &'static str, number: usize, seed: u64) -> Self {
        Self {
            zone,
            prefix: format!("a{number}x"),
            chance: Rng::with_seed(seed),
            names: 0,
            known: Vec::new(),
            attempted: None,
            given: BTreeSet::new(),
        }
    }

    /// Asks for one change after the other until the daemon dies.
    fn act_until_the_end(&mut self, client: &Client) {
        loop {
            let act = self.choose();
            let after = self.after(&act);
            match ask(client, &act, &self.known) {
                Ok(ids) => self.acknowledge(after, ids),
                Err(ClientError::Refused(why)) => panic!("{act:?} was refused: {why}"),
                Err(_) => {
                    self.attempted = Some(after);
                    return;
                }
            }
        }
    }

    fn choose(&mut self) -> Act {
        if self.known.is_empty() {
            return self.make();
        }
        let pair = self.chance.usize(..self.known.len());
        let is_at_home = self.known[pair][0].zone == self.zone;
        let is_outside = self.zone == "global";
        match self.chance.u8(..8) {
            0..2 if self.known.len() < PAIRS_MAX => self.make(),
            2 if is_at_home => Act::Delete(pair),
            3..5 if is_outside && is_at_home => Act::Rename(pair, self.new_names(pair)),
            _ if is_outside && is_at_home => Act::Lend {
                pair,
                zone: ZONES[self.chance.usize(..ZONES.len())],
                temporary: self.chance.bool(),
            },
            _ if is_outside => Act::Recall(pair),
            _ => Act::Delete(pair),
        }
    }

    fn make(&mut self) -> Act {
        let zone = self.zone;
        Act::Make([(); 2].map(|()| End { id: None, zone, name: self.fresh_name() }))
    }

    fn fresh_name(&mut self) -> String {
        self.names += 1;
        format!("{}{}", self.prefix, self.names)
    }

    /// Two fresh names, or a swap of those that they have.
    fn new_names(&mut self, pair: usize) -> [String; 2] {
        if self.chance.bool() {
            return [(); 2].map(|()| self.fresh_name());
        }
        let [one, other] = &self.known[pair];
        [other.name.clone(), one.name.clone()]
    }

    /// Its links once that is done.
    fn after(&self, act: &Act) -> Vec<Pair> {
        let mut links = self.known.clone();
        match act {
            Act::Make(pair) => links.push(pair.clone()),
            Act::Delete(pair) => drop(links.remove(*pair)),
            Act::Rename(pair, names) => {
                for (end, name) in links[*pair].iter_mut().zip(names) {
                    end.name.clone_from(name);
                }
            }
            Act::Lend { pair, zone, .. } => links[*pair][0].zone = zone,
            Act::Recall(pair) => links[*pair][0].zone = self.zone,
        }
        links
    }

    fn acknowledge(&mut self, mut after: Vec<Pair>, new_ids: Option<[u32; 2]>) {
        if let (Some(ids), Some(made)) = (new_ids, after.last_mut()) {
            for (end, id) in made.iter_mut().zip(ids) {
                assert!(self.given.insert(id), "linkid {id} is given again");
                end.id = Some(id);
            }
        }
        self.known = after;
    }

    /// Takes over what the restarted daemon shows: what was acknowledged, or wholly what was asked
    /// for when it died.
    fn settle(&mut self, shown: &BTreeMap<String, u32>) {
        let shown: BTreeMap<&str, u32> = shown
            .iter()
            .filter(|(place, _)| place.contains(&format!("/{}", self.prefix)))
            .map(|(place, id)| (place.as_str(), *id))
            .collect();
        let attempted = self.attempted.take();
        let fits = |links: &&Vec<Pair>| is_shown(links, &shown);
        let found = Some(&self.known).filter(fits).or(attempted.as_ref().filter(fits));
        let Some(found) = found else {
            panic!("{shown:?} is neither {:?} nor {attempted:?}", self.known)
        };
        let mut found = found.clone();
        for end in found.iter_mut().flatten().filter(|end| end.id.is_none()) {
            let id = shown[end.place().as_str()];
            assert!(self.given.insert(id), "linkid {id} is given again");
            end.id = Some(id);
        }
        self.known = found;
    }
}

fn is_shown(links: &[Pair], shown: &BTreeMap<&str, u32>) -> bool {
    let ends: Vec<&End> = links.iter().flatten().collect();
    ends.len() == shown.len()
        && ends.iter().all(|end| {
            let id = shown.get(end.place().as_str());
            id.is_some_and(|id| end.id.is_none_or(|known| known == *id))
        })
}

/// Asks; tells the ids of what was made.
fn ask(client: &Client, act: &Act, links: &[Pair]) -> Result<Option<[u32; 2]>, ClientError> {
    match act {
        Act::Make([end, peer]) => {
            let spec = LinkSpec::Veth { peer: peer.name.clone(), peer_zone: None };
            let temporary = end.zone != "global";
            let call = CreateLink { name: end.name.clone(), zone: None, temporary, spec };
            let made = client.create_link(call)?;
            let peer = made.peer.expect("a pair has two ends");
            return Ok(Some([made.id.get(), peer.get()]));
        }
        Act::Delete(pair) => client.delete_link(links[*pair][1].by_id(), LinkClass::Veth)?,
        Act::Rename(pair, names) => {
            let item =
                |(end, to): (&End, &String)| RenameItem { link: end.by_id(), to: to.clone() };
            client.rename(links[*pair].iter().zip(names).map(item).collect())?
        }
        Act::Lend { pair, zone, temporary } => client.set_zone(SetZone {
            link: links[*pair][0].by_id(),
            zone: zone.parse().expect("a zone's name"),
            name_inside: None,
            temporary: *temporary,
            force: false,
            generation: None,
        })?,
        Act::Recall(pair) => client.reset_zone(ResetZone {
            link: links[*pair][0].by_id(),
            temporary: false,
            force: false,
            generation: None,
        })?,
    };
    Ok(None)
}

/// Lets the actors loose, each in its zone, and kills the daemon while they work.
fn load_and_kill(host: &mut Host, actors: &mut [Actor], after: Duration) {
    thread::scope(|scope| {
        for actor in actors {
            let (door, namespace) = (host.door(), host.namespace_of(actor.zone));
            scope.spawn(move || {
                namespace.enter();
                // The daemon may die before there is a connection, too.
                if let Ok(client) = Client::connect(door) {
                    actor.act_until_the_end(&client);
                }
            });
        }
        thread::sleep(after);
        host.kill9();
    });
}

fn start(host: &mut Host) {
    let mut command = host.command(release_bin("dlmgmtd"));
    host.add_daemon_args(&mut command);
    host.start_daemon_as(command);
}

/// What the daemon and the kernel both show, everywhere.
fn agreed(host: &Host) -> BTreeMap<String, u32> {
    let shown = host.everywhere();
    let inside = ZONES.iter().flat_map(|zone| {
        host.kernel_in(zone).into_iter().map(move |name| format!("{zone}/{name}"))
    });
    let home = host.kernel().into_keys().map(|name| format!("global/{name}"));
    let kernel: BTreeSet<String> = home.chain(inside).collect();
    assert_eq!(shown.keys().cloned().collect::<BTreeSet<_>>(), kernel);
    shown
}

/// Kills the daemon so often, but not after a moment. Answers how often it was killed.
fn live_on_one_host(seed: u64, kills: u64, until: Option<Instant>) -> u64 {
    let mut chance = Rng::with_seed(seed);
    let mut host = Host::new();
    start(&mut host);
    ZONES.iter().for_each(|zone| host.add_zone(zone));
    let places = ["global", "global", "global", "red", "red", "blue"];
    let mut actors: Vec<Actor> = places
        .iter()
        .enumerate()
        .map(|(number, zone)| Actor::new(zone, number, seed ^ number as u64))
        .collect();
    let mut killed = 0;
    while killed < kills && until.is_none_or(|until| Instant::now() < until) {
        let after = Duration::from_micros(chance.u64(..60_000));
        load_and_kill(&mut host, &mut actors, after);
        start(&mut host);
        // A zone whose loans are still on their way is not ready.
        eventually("the zones are up", || ZONES.iter().all(|zone| host.is_ready(zone)));
        let shown = agreed(&host);
        actors.iter_mut().for_each(|actor| actor.settle(&shown));
        let known: usize = actors.iter().map(|actor| actor.known.len() * 2).sum();
        assert_eq!(shown.len(), known, "links that nobody asked for: {shown:?}");
        killed += 1;
    }
    killed
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn kill_9_of_the_release_binary_loses_nothing_that_was_acknowledged() {
    let until =
        number_of("KILL_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let kills = number_of("KILLS").unwrap_or(if until.is_some() { u64::MAX } else { KILLS });
    let seed = number_of("KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("replay with KILL_SEED={seed}");
    let killed: u64 = thread::scope(|scope| {
        let lives = (0..HOSTS).map(|host| {
            let seed = seed.wrapping_add(1000 * host);
            scope.spawn(move || live_on_one_host(seed, kills.div_ceil(HOSTS), until))
        });
        let lives: Vec<_> = lives.collect();
        lives.into_iter().map(|life| life.join().expect("a life that fails has said why")).sum()
    });
    println!("killed {killed} times");
}
