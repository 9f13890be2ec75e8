//! `dlmgmtd udev-name`: which name udev is to give a physical device.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dlmgmt_proto::door::{LinkFilter, View};
use dlmgmt_proto::{IfIndex, LinkClass, LinkId, LinkName, LinkRef, Seq};
use libdlmgmt::{Client, ClientError};

use crate::core::{LinkIds, Look, observe, restore};
use crate::kernel::rtnetlink;
use crate::kernel::{Dump, KernelError};
use crate::model::{Binding, Link, NsCookie};
use crate::store::sled::read_snapshot;
use crate::store::{Loaded, StoreError};

/// How long the daemon may take to answer: udev, and at boot all that waits for it, waits too.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often the daemon is asked about a device that it has not seen yet.
const PAUSE: Duration = Duration::from_millis(10);

/// Stands for the namespace that is looked at, which needs no identity here.
const HERE: NsCookie = NsCookie(1);

/// What udev asks.
#[derive(Clone, Debug)]
pub struct Question {
    /// The device.
    pub ifindex: IfIndex,
    /// The name with which it appeared.
    pub appeared_as: String,
    /// The daemon's state directory.
    pub state_dir: PathBuf,
    /// The daemon's door.
    pub door: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The devices cannot be seen.
    #[error("the kernel does not tell its links: {0}")]
    Kernel(#[from] KernelError),
    /// The kernel cannot be asked.
    #[error("the kernel cannot be asked: {0}")]
    Io(#[from] io::Error),
    /// What the daemon knows cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Question {
    /// The name of a physical link that was known before its device appeared; `None` for any other,
    /// which udev names as it likes.
    ///
    /// A running daemon is asked. Without one, its last snapshot tells, which can be half a minute
    /// older than its last word; the daemon itself corrects that when it starts.
    pub fn answer(&self) -> Result<Option<LinkName>, NameError> {
        let known = read_snapshot(&self.state_dir)?;
        Ok(match (ask_daemon(self.door.clone(), self.ifindex), known) {
            (Some(told), known) => given(told, &self.appeared_as, known.as_ref()),
            (None, Some(known)) => remembered(known, rtnetlink::look_around()?, self.ifindex),
            (None, None) => None,
        })
    }
}

/// The name that the daemon tells, if that is not merely the one with which a new device appeared.
/// Any other name was given, perhaps after the snapshot was written.
fn given(
    (id, name): (LinkId, LinkName),
    appeared_as: &str,
    known: Option<&Loaded>,
) -> Option<LinkName> {
    let is_old = || known.is_some_and(|known| known.links.iter().any(|link| link.id == id));
    (name.as_bytes() != appeared_as.as_bytes() || is_old()).then_some(name)
}

/// The name that a daemon that knows this would give the device if it saw these links now.
fn remembered(known: Loaded, seen: Dump, ifindex: IfIndex) -> Option<LinkName> {
    let (registry, _) = restore(known.links, known.zones, false, HERE, Seq(0));
    let look = Look::whole(HERE, seen.links);
    let observed = observe(&registry, &mut LinkIds::starting_at(known.next_link_id), &look, true);
    let after = registry.with(&observed.ok()?.plan.changes);
    let link = after.link(after.by_binding(Binding { ns: HERE, ifindex })?)?;
    let is_old = registry.link(link.record.id).is_some();
    (is_old && is_physical(link)).then(|| after.name_at_home(link))
}

fn is_physical(link: &Link) -> bool {
    link.record.class == LinkClass::Phys
}

/// What the daemon calls the device at home, if it answers in time.
fn ask_daemon(door: PathBuf, ifindex: IfIndex) -> Option<(LinkId, LinkName)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(ask(door, ifindex)));
    told.recv_timeout(PATIENCE).ok()?.ok()
}

fn ask(door: PathBuf, ifindex: IfIndex) -> Result<(LinkId, LinkName), ClientError> {
    let physical =
        LinkFilter { view: View::Active, classes: vec![LinkClass::Phys], ..LinkFilter::default() };
    let daemon = Client::connect(door)?;
    loop {
        let links = daemon.list(physical.clone())?;
        if let Some(link) = links.iter().find(|link| link.ifindex == Some(ifindex)) {
            return Ok((link.id, daemon.whereabouts(LinkRef::Id(link.id))?.own_name));
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use dlmgmt_proto::{DevicePath, HwAddr};

    use super::*;
    use crate::core::Registry;
    use crate::model::{KernelLink, LinkRecord};

    fn name(text: &str) -> LinkName {
        LinkName::given(text).unwrap()
    }

    fn index(number: u32) -> IfIndex {
        IfIndex::new(number).unwrap()
    }

    fn card(ifindex: u32, called: &str, card: u8, slot: u8) -> KernelLink {
        let mac = HwAddr::new(&[2, 0, 0, 0, 0, card]).unwrap();
        KernelLink {
            mac: Some(mac),
            permanent_mac: Some(mac),
            path: Some(DevicePath(format!("pci-0000:00:{slot:02x}.0"))),
            ..KernelLink::new(index(ifindex), name(called))
        }
    }

    fn dump(links: impl IntoIterator<Item = KernelLink>) -> Dump {
        Dump { links: links.into_iter().collect(), is_consistent: true }
    }

    /// What a daemon keeps that saw these cards and was told to give them these names.
    fn kept(cards: &[(KernelLink, &str)]) -> Loaded {
        let look = Look::whole(HERE, cards.iter().map(|(kernel, _)| kernel.clone()));
        let mut ids = LinkIds::starting_at(1);
        let plan = observe(&Registry::new(HERE, Seq(0)), &mut ids, &look, true).unwrap().plan;
        let called = |record: &LinkRecord| {
            let told = cards.iter().find(|(kernel, _)| kernel.name == record.name);
            name(told.unwrap().1)
        };
        let records = plan.changes.into_iter().filter_map(|change| Some(change.after?.record));
        let named = |record: &LinkRecord| LinkRecord { name: called(record), ..record.clone() };
        let links = records.map(|record| named(&record)).collect();
        Loaded { links, next_link_id: 100, ..Loaded::default() }
    }

    #[test]
    fn a_known_card_has_its_name_in_whatever_slot_it_appears() {
        let kept = kept(&[(card(2, "eth0", 1, 1), "lan"), (card(3, "eth1", 2, 2), "wan")]);
        let now = dump([card(2, "eth0", 2, 2), card(3, "eth1", 1, 7)]);
        assert_eq!(remembered(kept.clone(), now.clone(), index(3)), Some(name("lan")));
        assert_eq!(remembered(kept, now, index(2)), Some(name("wan")));
    }

    #[test]
    fn a_card_in_the_place_of_one_that_is_gone_takes_its_name() {
        let kept = kept(&[(card(2, "eth0", 1, 1), "lan")]);
        let now = dump([card(2, "eth0", 9, 1)]);
        assert_eq!(remembered(kept, now, index(2)), Some(name("lan")));
    }

    #[test]
    fn a_card_that_nobody_knows_is_for_udev_to_name() {
        let kept = kept(&[(card(2, "eth0", 1, 1), "lan")]);
        let now = dump([card(2, "lan", 1, 1), card(3, "eth0", 9, 3)]);
        assert_eq!(remembered(kept.clone(), now.clone(), index(3)), None);
        assert_eq!(remembered(kept, now, index(4)), None);
    }

    #[test]
    fn a_virtual_link_is_for_udev_to_name() {
        let kept = kept(&[(card(2, "eth0", 1, 1), "lan")]);
        let veth = KernelLink {
            kind: Some("veth".to_owned()),
            permanent_mac: None,
            path: None,
            ..card(2, "eth0", 1, 1)
        };
        assert_eq!(remembered(kept, dump([veth]), index(2)), None);
    }

    #[test]
    fn a_name_that_the_daemon_gave_holds_though_no_snapshot_has_it_yet() {
        let kept = kept(&[(card(2, "eth0", 1, 1), "eth0")]);
        let (old, new) = (kept.links[0].id, LinkId::new(99).unwrap());
        let told = |id, told| given((id, name(told)), "eth0", Some(&kept));
        assert_eq!(told(new, "lan"), Some(name("lan")));
        assert_eq!(told(old, "eth0"), Some(name("eth0")));
        assert_eq!(told(new, "eth0"), None, "a new card is for udev to name");
    }

    #[test]
    fn where_no_daemon_ever_was_udev_names() {
        let dir = tempfile::tempdir().unwrap();
        let question = Question {
            ifindex: index(1),
            appeared_as: "eth0".to_owned(),
            state_dir: dir.path().to_owned(),
            door: dir.path().join("door"),
        };
        assert_eq!(question.answer().unwrap(), None);
    }
}
