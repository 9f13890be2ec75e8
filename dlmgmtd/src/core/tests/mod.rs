//! The rules of SPEC.md, each by its own test, and a model that random histories are held against.

mod model;
mod observing;
mod physical;
mod renaming;
mod transferring;

use std::collections::BTreeMap;

use dlmgmt_proto::{
    DevicePath, Error, HwAddr, IfIndex, LinkId, LinkInfo, LinkName, LinkState, Media, Seq, ZoneId,
};

use super::lookup::describe;
use super::*;
use crate::model::{Action, AltName, KernelLink, NsCookie};

const HOME: NsCookie = NsCookie(1);

/// A look at some indexes of the daemon's own namespace.
fn glance(seen: Vec<Sighting>) -> Look {
    Look { ns: HOME, is_whole: false, seen, spared: Default::default() }
}

fn name(text: &str) -> LinkName {
    LinkName::found(text.as_bytes()).unwrap()
}

fn mac(last: u8) -> HwAddr {
    HwAddr::new(&[2, 0, 0, 0, 0, last]).unwrap()
}

fn slot(number: u8) -> DevicePath {
    DevicePath(format!("pci-0000:00:{number:02x}.0"))
}

/// A virtual link.
fn veth(ifindex: u32, called: &str) -> KernelLink {
    KernelLink {
        kind: Some("veth".to_owned()),
        mac: Some(mac(ifindex as u8)),
        ..KernelLink::new(IfIndex::new(ifindex).unwrap(), name(called))
    }
}

/// A card with the address `02:00:00:00:00:<card>` in a slot.
fn card(ifindex: u32, called: &str, card: u8, in_slot: u8) -> KernelLink {
    KernelLink {
        kind: None,
        mac: Some(mac(card)),
        permanent_mac: Some(mac(card)),
        path: Some(slot(in_slot)),
        ..veth(ifindex, called)
    }
}

/// A kernel and a registry that follows it, without any engine between them.
struct World {
    kernel: BTreeMap<IfIndex, KernelLink>,
    registry: Registry,
    ids: LinkIds,
}

impl World {
    fn new() -> Self {
        Self {
            kernel: BTreeMap::new(),
            registry: Registry::new(HOME, Seq(0)),
            ids: LinkIds::starting_at(1),
        }
    }

    fn with(links: impl IntoIterator<Item = KernelLink>) -> Self {
        let mut world = Self::new();
        links.into_iter().for_each(|link| world.appear(link));
        world
    }

    /// A link appears in the kernel and is looked at.
    fn appear(&mut self, link: KernelLink) {
        let ifindex = link.ifindex;
        self.kernel.insert(ifindex, link);
        self.look_at([ifindex]);
    }

    /// A link disappears from the kernel and is looked for.
    fn vanish(&mut self, ifindex: u32) {
        let ifindex = IfIndex::new(ifindex).unwrap();
        self.kernel.remove(&ifindex);
        self.look_at([ifindex]);
    }

    /// Somebody else changes a link, and it is looked at.
    fn by_others(&mut self, ifindex: u32, change: impl FnOnce(&mut KernelLink)) {
        let ifindex = IfIndex::new(ifindex).unwrap();
        change(self.kernel.get_mut(&ifindex).unwrap());
        self.look_at([ifindex]);
    }

    fn look_at(&mut self, indexes: impl IntoIterator<Item = IfIndex>) {
        let seen = indexes
            .into_iter()
            .map(|ifindex| Sighting::at(ifindex, self.kernel.get(&ifindex).cloned()));
        self.follow(&glance(seen.collect()));
    }

    fn look_at_all(&mut self) {
        self.follow(&Look::whole(HOME, self.kernel.values().cloned()));
    }

    fn follow(&mut self, look: &Look) {
        let observed = observe(&self.registry, &mut self.ids, look, true).unwrap();
        self.carry_out(observed.plan);
    }

    fn carry_out(&mut self, plan: Plan) {
        for step in &plan.steps {
            assert_eq!(step.forward.at.ns, HOME);
            self.apply(step.forward.at.ifindex, &step.forward.action);
        }
        let zones = plan.zones.into_iter();
        let with_zones = zones.fold(self.registry.clone(), |all, zone| all.with_zone(zone));
        self.registry = with_zones.with(&plan.changes);
    }

    /// As the kernel does it: a name that anything has is refused.
    fn apply(&mut self, ifindex: IfIndex, action: &Action) {
        match action {
            Action::Rename(to) => {
                let is_taken = self.kernel.values().any(|link| {
                    link.name == *to || link.altnames.iter().any(|altname| altname.is(to))
                });
                assert!(!is_taken, "the kernel refuses: {to} is taken");
                self.kernel.get_mut(&ifindex).unwrap().name = *to;
            }
            Action::AddAltName(altname) => {
                self.kernel.get_mut(&ifindex).unwrap().altnames.push(altname.clone());
            }
            Action::DropAltName(altname) => {
                self.kernel.get_mut(&ifindex).unwrap().altnames.retain(|other| other != altname);
            }
            other => panic!("no plan of these tests asks for {other:?}"),
        }
    }

    /// The daemon is restarted, on this boot or another.
    fn restart(&mut self, is_same_boot: bool) {
        let records = self.registry.links().map(|link| (*link.record).clone()).collect();
        self.registry = restore(records, Vec::new(), is_same_boot, HOME, Seq(0)).0;
        self.look_at_all();
    }

    fn rename(&mut self, wishes: &[(&str, &str)]) -> Result<(), Error> {
        let wishes: Vec<_> =
            wishes.iter().map(|(link, to)| (self.id(link).unwrap(), name(to))).collect();
        let plan = plan_rename(&self.registry, &wishes)?;
        self.carry_out(plan);
        Ok(())
    }

    fn id(&self, called: &str) -> Option<LinkId> {
        self.registry.by_name(ZoneId::GLOBAL, name(called))
    }

    fn link(&self, called: &str) -> LinkInfo {
        self.info(self.id(called).unwrap_or_else(|| panic!("no link {called}")))
    }

    fn info(&self, id: LinkId) -> LinkInfo {
        describe(&self.registry, self.registry.link(id).unwrap())
    }

    fn kernel_name(&self, ifindex: u32) -> String {
        self.kernel[&IfIndex::new(ifindex).unwrap()].name.to_string()
    }
}

fn altname(text: &str) -> AltName {
    AltName(text.as_bytes().to_vec())
}
