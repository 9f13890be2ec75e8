//! What a request or an observation comes to.

use dlmgmt_proto::{Error, ErrorCode, LinkId, LinkName, Result};

use crate::model::{Action, Binding, Link, NewLink, NsCookie, Step, Zone};

/// What is to be done: the links as they will be, and how the kernel is brought there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every zone that differs afterwards.
    pub zones: Vec<Zone>,
    /// Every link that differs afterwards.
    pub changes: Vec<LinkChange>,
    /// What is made in the kernel, before all else.
    pub create: Option<Creation>,
    /// What is changed in the kernel, in order.
    pub steps: Vec<PlannedStep>,
    /// Links that get, after all else, what their records want of their properties. What the kernel
    /// refuses of that stays as it is.
    pub equips: Vec<LinkId>,
    /// Links that nobody may change meanwhile, and that stay as they are: what a new link is to lie
    /// over.
    pub beside: Vec<LinkId>,
    /// Links that take no step to their names, because they have them already. Where the kernel
    /// calls one otherwise, others have just renamed it, and the plan is void.
    pub presumes: Vec<LinkId>,
    /// When the store is told.
    pub stored: Stored,
    /// Whether what the kernel refuses of links that are where they are to be stays as it is,
    /// instead of the whole plan being taken back.
    pub is_lenient: bool,
}

/// When the store is told of what a plan comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// Before the kernel is touched: a crash in between leaves what a restart goes on with.
    #[default]
    First,
    /// When the kernel is done, or else all is taken back: a crash in between leaves what a
    /// restart takes back.
    Last,
    /// When the kernel is done; where the store fails, as soon as it works again. For what nobody
    /// can refuse.
    Eventually,
}

/// Links that are made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What is made.
    pub new: NewLink,
    /// What becomes of it: the link first, then its peer.
    pub ids: Vec<LinkId>,
}

/// One link as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Which link.
    pub id: LinkId,
    /// The link afterwards; `None` where it ends.
    pub after: Option<Link>,
}

/// A kernel step with what takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The link it is for.
    pub id: LinkId,
    /// What is done, where the link is when the plan is made; a link that an earlier step of the
    /// plan moved is followed.
    pub forward: Step,
    /// What undoes it, if anything can.
    pub backward: Option<Step>,
}

impl Plan {
    /// Whether links end in the kernel.
    pub fn deletes(&self) -> bool {
        self.steps.iter().any(|step| step.forward.action == Action::Delete)
    }

    /// Whether the plan is carried out without the `n`th of its steps where the kernel refuses that.
    pub fn can_spare(&self, n: usize) -> bool {
        let moves = |step: &PlannedStep| step.moves_to().is_some();
        self.is_lenient && !self.steps.iter().skip(n).any(moves)
    }

    /// Where links are that become ports or are none any more: only the kernel knows what that makes
    /// of them.
    pub fn ports(&self) -> Vec<Binding> {
        let ports = self.steps.iter().filter_map(|step| match step.forward.action {
            Action::AddPort(ifindex) | Action::DropPort(ifindex) => {
                Some(Binding { ns: step.forward.at.ns, ifindex })
            }
            _ => None,
        });
        ports.collect()
    }

    /// The namespaces and names where links appear that nobody has seen there yet, also when they
    /// are taken back.
    pub fn arrivals(&self) -> Vec<(NsCookie, LinkName)> {
        let made = self.create.iter().flat_map(|creation| creation.new.seats());
        made.chain(self.moves()).collect()
    }

    /// The namespaces and names to which links are moved, also when they are taken back.
    pub fn moves(&self) -> impl Iterator<Item = (NsCookie, LinkName)> {
        let steps =
            self.steps.iter().flat_map(|step| [Some(&step.forward), step.backward.as_ref()]);
        steps.flatten().filter_map(|step| match step.action {
            Action::Move { to, name } => Some((to, name)),
            _ => None,
        })
    }
}

impl PlannedStep {
    /// The other namespace that the link gets into, if it does.
    pub fn moves_to(&self) -> Option<NsCookie> {
        match self.forward.action {
            Action::Move { to, .. } => Some(to),
            _ => None,
        }
    }
}

impl LinkChange {
    /// The link ends.
    pub fn end(id: LinkId) -> Self {
        Self { id, after: None }
    }
}

impl From<Link> for LinkChange {
    fn from(link: Link) -> Self {
        Self { id: link.record.id, after: Some(link) }
    }
}

/// Gives linkids: each once, upwards, never again (SPEC.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkIds {
    next: u32,
}

impl LinkIds {
    /// The ids from `next` on were never given. 0 is read as 1.
    pub fn starting_at(next: u32) -> Self {
        Self { next: next.max(1) }
    }

    /// The lowest number that was never given.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// A new id.
    pub fn give(&mut self) -> Result<LinkId> {
        let exhausted = || Error::new(ErrorCode::Quota, "every linkid has been given");
        let id = LinkId::new(self.next).ok_or_else(exhausted)?;
        self.next = self.next.checked_add(1).ok_or_else(exhausted)?;
        Ok(id)
    }

    /// Whether `id` was never given.
    pub fn is_fresh(&self, id: LinkId) -> bool {
        id.get() >= self.next
    }

    /// Gives this very id, and none below it from now on.
    pub fn give_exactly(&mut self, id: LinkId) {
        self.next = self.next.max(id.get().saturating_add(1));
    }
}
