//! Renames: SPEC.md section 5, cases 1 and 2 and the rename set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlmgmt_proto::{Error, ErrorCode, Generation, LinkId, LinkName, Result};

use super::lookup::{known, title};
use super::plan::{LinkChange, Plan, PlannedStep};
use super::registry::{Holder, Registry};
use crate::model::{Action, Bound, Lifetime, Link, Step};

/// One element of a rename set.
struct Wish<'a> {
    link: &'a Arc<Link>,
    to: LinkName,
}

/// Several renames as one change, in any permutation: all of them or none.
pub fn plan_rename(registry: &Registry, wishes: &[(LinkId, LinkName)]) -> Result<Plan> {
    let wishes = known_links(registry, wishes)?;
    refuse_doubles(registry, &wishes)?;
    let leaving: BTreeSet<LinkId> = wishes.iter().map(|wish| wish.link.record.id).collect();
    let mut plan = Plan::default();
    let mut heirs = Vec::new();
    for wish in &wishes {
        refuse_unmovable(registry, wish)?;
        match occupant(registry, wish, &leaving)? {
            None => plan.changes.push(renamed(wish).into()),
            Some(removed) => {
                plan.changes.extend(taken_over(registry, wish, removed)?);
                plan.equips.push(removed.record.id);
                heirs.push((wish.link.record.id, removed.record.id));
            }
        }
    }
    heirs.iter().for_each(|(old, heir)| put_above(registry, &mut plan.changes, *old, *heir));
    plan.steps = kernel_steps(registry, &moves(&wishes))?;
    let is_so = wishes.iter().filter(|wish| wish.link.is_named(wish.to));
    plan.presumes = is_so.map(|wish| wish.link.record.id).collect();
    Ok(plan)
}

fn known_links<'a>(registry: &'a Registry, wishes: &[(LinkId, LinkName)]) -> Result<Vec<Wish<'a>>> {
    if wishes.is_empty() {
        return Err(Error::new(ErrorCode::Invalid, "a rename names at least one link"));
    }
    let wish = |(id, to): &(LinkId, LinkName)| Ok(Wish { link: known(registry, *id)?, to: *to });
    wishes.iter().map(wish).collect()
}

fn refuse_doubles(registry: &Registry, wishes: &[Wish<'_>]) -> Result<()> {
    let mut links = BTreeSet::new();
    let mut names = BTreeSet::new();
    for Wish { link, to } in wishes {
        if !links.insert(link.record.id) {
            let text = format!("{} is named twice", title(registry, link));
            return Err(Error::new(ErrorCode::Invalid, text));
        }
        if !names.insert((link.zone(), *to)) {
            let text = format!("two links of one zone cannot both be named {to}");
            return Err(Error::new(ErrorCode::Exists, text));
        }
    }
    Ok(())
}

fn refuse_unmovable(registry: &Registry, wish: &Wish<'_>) -> Result<()> {
    if wish.link.is_loopback() {
        let text = format!("{}: the loopback device keeps its name", title(registry, wish.link));
        return Err(Error::new(ErrorCode::NotSupported, text));
    }
    if wish.link.kernel.is_some() && !wish.link.is_at_home() {
        let zone = registry.zone_label(wish.link.zone());
        let text =
            format!("{} is away from home, in zone {zone}", registry.name_at_home(wish.link));
        return Err(Error::new(ErrorCode::Busy, text));
    }
    refuse_held(registry, wish.link)
}

/// A held link is not changed; whoever asks is told who holds it (SPEC.md section 6).
pub(super) fn refuse_held(registry: &Registry, link: &Link) -> Result<()> {
    let holders: Vec<String> = registry.holders(link.record.id).map(Holder::to_string).collect();
    if holders.is_empty() {
        return Ok(());
    }
    let text = format!("{} is held by {}", title(registry, link), holders.join(", "));
    Err(Error::new(ErrorCode::Busy, text))
}

/// The removed link whose identity is to be taken over, if the new name is one's; an error if
/// anything else has the name that does not give it up in the same set.
fn occupant<'a>(
    registry: &'a Registry,
    wish: &Wish<'_>,
    leaving: &BTreeSet<LinkId>,
) -> Result<Option<&'a Arc<Link>>> {
    let Wish { link, to } = wish;
    let (zone, id) = (link.zone(), link.record.id);
    let taken = |by: &Link| {
        let by = title(registry, by);
        let text =
            format!("{} cannot be named {to}: it is the name of {by}", title(registry, link));
        Error::new(ErrorCode::Exists, text)
    };
    if let Some(other) = registry.by_altname(zone, to).filter(|other| *other != id) {
        let by = registry.link(other).map_or(String::new(), |other| title(registry, other));
        let text = format!(
            "{} cannot be named {to}: {by} has that alternative name",
            title(registry, link)
        );
        return Err(Error::new(ErrorCode::Exists, text));
    }
    let claimant = registry.by_name(zone, *to).or_else(|| registry.wanting(zone, *to));
    let Some(other) = claimant.and_then(|other| registry.link(other)) else { return Ok(None) };
    match other.record.id {
        other if other == id || leaving.contains(&other) => Ok(None),
        _ if other.is_removed() && link.is_active_phys() => Ok(Some(other)),
        _ => Err(taken(other)),
    }
}

impl Link {
    fn is_active_phys(&self) -> bool {
        self.record.class == dlmgmt_proto::LinkClass::Phys && self.kernel.is_some()
    }
}

/// Case 1: the link keeps its linkid.
fn renamed(wish: &Wish<'_>) -> Link {
    let mut link = Link::clone(wish.link);
    let record = link.record_mut();
    record.name = wish.to;
    record.unsettled = false;
    record.properties.forget_altname(&wish.to);
    link.kernel = link.kernel.map(|bound| bound.renamed(wish.to));
    link
}

/// Case 2: the device takes over the removed link's linkid, name, zone assignment and
/// properties, and its old record ends.
fn taken_over(
    registry: &Registry,
    wish: &Wish<'_>,
    removed: &Arc<Link>,
) -> Result<[LinkChange; 2]> {
    refuse_held(registry, removed)?;
    let (old, new) = (&wish.link.record, &removed.record);
    if old.media != new.media {
        let text = format!(
            "{} cannot take over {}: its media is {}, not {}",
            title(registry, wish.link),
            title(registry, removed),
            old.media,
            new.media
        );
        return Err(Error::new(ErrorCode::Exists, text));
    }
    let mut link = Link::clone(removed);
    let record = link.record_mut();
    record.phys = old.phys.clone();
    record.anchor = old.anchor.clone();
    record.lifetime = Lifetime::Persistent;
    record.unsettled = false;
    record.location.forget_left();
    record.generation = Generation(new.generation.0.max(old.generation.0));
    link.kernel = wish.link.kernel.as_ref().map(|bound| bound.renamed(wish.to));
    Ok([LinkChange::end(old.id), link.into()])
}

/// What lies over a device lies over the link that it became, as the changes so far have it.
fn put_above(registry: &Registry, changes: &mut Vec<LinkChange>, old: LinkId, heir: LinkId) {
    for upper in registry.made_over(old) {
        let planned = changes.iter().position(|change| change.id == upper.record.id);
        let at = planned.unwrap_or_else(|| {
            changes.push(Link::clone(upper).into());
            changes.len() - 1
        });
        let upper = changes[at].after.as_mut().map(Link::record_mut);
        if let Some(recipe) = upper.and_then(|record| record.recipe.as_mut()) {
            recipe.put_over(old, heir);
        }
    }
}

impl Bound {
    /// As the kernel will have it under another name; an alternative name of that text is then
    /// gone.
    pub(super) fn renamed(&self, to: LinkName) -> Self {
        self.with(|kernel| {
            kernel.name = to;
            kernel.altnames.retain(|altname| !altname.is(&to));
        })
    }
}

/// A link that the kernel has, and the name that it is to get.
pub(super) struct Move<'a> {
    pub id: LinkId,
    pub link: &'a Link,
    pub bound: &'a Bound,
    pub to: LinkName,
}

fn moves<'a>(wishes: &'a [Wish<'a>]) -> Vec<Move<'a>> {
    let active = wishes.iter().filter_map(|Wish { link, to }| {
        let bound = link.kernel.as_ref()?;
        Some(Move { id: link.record.id, link, bound, to: *to })
    });
    active.collect()
}

/// The kernel's part of renames, in an order in which no name is ever taken: a link waits for the
/// one that has its name, and a ring of links that wait for each other is opened by a name that
/// nobody has.
pub(super) fn kernel_steps(registry: &Registry, moves: &[Move<'_>]) -> Result<Vec<PlannedStep>> {
    let mut steps = Vec::new();
    for wish in moves {
        let own = wish.bound.altnames.iter().find(|altname| altname.is(&wish.to));
        steps.extend(own.map(|altname| PlannedStep {
            id: wish.id,
            forward: Step { at: wish.bound.at(), action: Action::DropAltName(altname.clone()) },
            backward: Some(Step {
                at: wish.bound.at(),
                action: Action::AddAltName(altname.clone()),
            }),
        }));
    }
    let mut waiting: Vec<(&Move<'_>, LinkName)> = moves
        .iter()
        .map(|wish| (wish, wish.bound.name))
        .filter(|(wish, now)| wish.to != *now)
        .collect();
    let mut taken: BTreeMap<_, LinkId> =
        waiting.iter().map(|(wish, now)| ((wish.bound.ns, *now), wish.id)).collect();
    while !waiting.is_empty() {
        let is_free = |(wish, _): &(&Move<'_>, LinkName)| {
            taken.get(&(wish.bound.ns, wish.to)).is_none_or(|by| *by == wish.id)
        };
        match waiting.iter().position(is_free) {
            Some(at) => {
                let (wish, now) = waiting.swap_remove(at);
                taken.remove(&(wish.bound.ns, now));
                steps.push(rename_step(wish, now, wish.to));
            }
            None => {
                let (wish, now) = &mut waiting[0];
                let aside =
                    registry.aside_name(wish.link, |name| moves.iter().all(|m| m.to != name));
                taken.remove(&(wish.bound.ns, *now));
                steps.push(rename_step(wish, *now, aside));
                *now = aside;
            }
        }
    }
    Ok(steps)
}

fn rename_step(wish: &Move<'_>, from: LinkName, to: LinkName) -> PlannedStep {
    let step = |name| Step { at: wish.bound.at(), action: Action::Rename(name) };
    PlannedStep { id: wish.id, forward: step(to), backward: Some(step(from)) }
}
