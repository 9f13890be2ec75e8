//! Random histories of the kernel and of requests, held against what must always be true.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    MakeVirtual { called: u8 },
    Plug { card: u8, slot: u8, called: u8 },
    Vanish { which: usize },
    RenameByOthers { which: usize, called: u8 },
    RenameSet { whose: Vec<(usize, u8)> },
    DeletePhys { which: usize },
    LookAtAll,
    Restart,
    Reboot,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        3 => (0..6u8).prop_map(|called| MakeVirtual { called }),
        3 => (1..5u8, 1..4u8, 0..6u8).prop_map(|(card, slot, called)| Plug { card, slot, called }),
        3 => any::<usize>().prop_map(|which| Vanish { which }),
        3 => (any::<usize>(), 0..6u8).prop_map(|(which, called)| RenameByOthers { which, called }),
        4 => proptest::collection::vec((any::<usize>(), 0..6u8), 1..4)
            .prop_map(|whose| RenameSet { whose }),
        1 => any::<usize>().prop_map(|which| DeletePhys { which }),
        1 => Just(LookAtAll),
        1 => Just(Restart),
        1 => Just(Reboot),
    ]
}

/// A name out of few, so that they clash.
fn called(number: u8) -> LinkName {
    name(["eth0", "eth1", "net0", "lan", "dl1", "dl2"][usize::from(number) % 6])
}

struct History {
    world: World,
    next_ifindex: u32,
    given: BTreeSet<LinkId>,
    ended: BTreeSet<LinkId>,
}

impl History {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::MakeVirtual { called: number } => {
                self.appear(|ifindex| KernelLink { name: called(*number), ..veth(ifindex, "x") });
            }
            Happening::Plug { card: mac_of, slot: place, called: number } => {
                let is_there = |link: &KernelLink| {
                    link.permanent_mac == Some(mac(*mac_of)) || link.path == Some(slot(*place))
                };
                if !self.world.kernel.values().any(is_there) {
                    self.appear(|ifindex| KernelLink {
                        name: called(*number),
                        ..card(ifindex, "x", *mac_of, *place)
                    });
                }
            }
            Happening::Vanish { which } => {
                if let Some(ifindex) = self.pick(*which) {
                    self.world.vanish(ifindex);
                }
            }
            Happening::RenameByOthers { which, called: number } => {
                let Some(ifindex) = self.pick(*which) else { return };
                if !self.kernel_has(called(*number)) {
                    self.world.by_others(ifindex, |link| link.name = called(*number));
                }
            }
            Happening::RenameSet { whose } => {
                let all: Vec<LinkId> = self.world.registry.links().map(|l| l.record.id).collect();
                if all.is_empty() {
                    return;
                }
                let wishes: Vec<_> =
                    whose.iter().map(|(which, to)| (all[which % all.len()], called(*to))).collect();
                if let Ok(plan) = plan_rename(&self.world.registry, &wishes) {
                    self.world.carry_out(plan);
                }
            }
            Happening::DeletePhys { which } => {
                let all: Vec<LinkId> = self.world.registry.links().map(|l| l.record.id).collect();
                let Some(id) = all.get(which % all.len().max(1)) else { return };
                if let Ok(plan) = plan_delete_phys(&self.world.registry, *id) {
                    self.world.carry_out(plan);
                }
            }
            Happening::LookAtAll => self.world.look_at_all(),
            Happening::Restart => self.world.restart(true),
            Happening::Reboot => {
                self.world.kernel.retain(|_, link| link.kind.is_none());
                self.world.restart(false);
            }
        }
        self.settle();
    }

    fn appear(&mut self, link: impl FnOnce(u32) -> KernelLink) {
        let mut link = link(self.next_ifindex);
        self.next_ifindex += 1;
        while self.kernel_has(link.name) {
            link.name = name(&format!("k{}", self.next_ifindex));
            self.next_ifindex += 1;
        }
        self.world.appear(link);
    }

    fn kernel_has(&self, called: LinkName) -> bool {
        self.world.kernel.values().any(|link| link.name == called)
    }

    fn pick(&self, which: usize) -> Option<u32> {
        let all: Vec<u32> = self.world.kernel.keys().map(|ifindex| ifindex.get()).collect();
        all.get(which % all.len().max(1)).copied()
    }

    /// As the engine does: links that can get their own name now are looked at once more.
    fn settle(&mut self) {
        for _ in 0..20 {
            let settleable: Vec<IfIndex> =
                self.world.registry.settleable().map(|at| at.ifindex).collect();
            if settleable.is_empty() {
                return;
            }
            self.world.look_at(settleable);
        }
        panic!("links do not settle");
    }

    fn check(&mut self) {
        let registry = &self.world.registry;
        let shown: Vec<LinkInfo> = registry.links().map(|link| describe(registry, link)).collect();
        for link in &shown {
            assert_eq!(
                registry.by_name(ZoneId::GLOBAL, link.name),
                Some(link.id),
                "rule 3.1: {link:?}"
            );
        }
        let names: BTreeSet<LinkName> = shown.iter().map(|link| link.name).collect();
        assert_eq!(names.len(), shown.len(), "rule 3.1");
        let known: BTreeMap<IfIndex, LinkName> =
            shown.iter().filter_map(|link| Some((link.ifindex?, link.name))).collect();
        let real: BTreeMap<IfIndex, LinkName> =
            self.world.kernel.values().map(|link| (link.ifindex, link.name)).collect();
        assert_eq!(known, real, "rule 3.5");
        let ids: BTreeSet<LinkId> = shown.iter().map(|link| link.id).collect();
        assert!(ids.is_disjoint(&self.ended), "an id is given again");
        self.ended.extend(self.given.difference(&ids));
        self.given = ids;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn after_any_history_registry_and_kernel_agree(history in proptest::collection::vec(happening(), 1..40)) {
        let mut run = History {
            world: World::new(),
            next_ifindex: 2,
            given: BTreeSet::new(),
            ended: BTreeSet::new(),
        };
        for happening in &history {
            run.happen(happening);
            run.check();
        }
    }
}
