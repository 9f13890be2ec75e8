//! What is read from the kernel for who asks, and kept nowhere.

use std::collections::{BTreeMap, HashMap};

use dlmgmt_proto::door::{Details, GetDetails};
use dlmgmt_proto::{Error, Fact, FactValue, IfIndex, LinkDetails, LinkId, Result, Topic};

use crate::core::{Registry, Scope};
use crate::kernel::{Kernel, KernelError, KernelFact, KernelValue};
use crate::model::{Binding, Link, NsCookie};

/// Most links that are looked at for one call.
const LINKS_MAX: usize = 256;

/// Answers a caller that can see `scope`, for the first links that it asks about.
pub async fn details(
    kernel: &dyn Kernel,
    registry: &Registry,
    scope: Scope,
    call: &GetDetails,
) -> Result<Details> {
    let asked = &call.links[..call.links.len().min(LINKS_MAX)];
    let mut told: HashMap<LinkId, Vec<Fact>> = HashMap::new();
    for (ns, links) in by_namespace(registry, scope, asked) {
        let found = inspect(kernel, ns, &links, &call.topics).await.map_err(|why| {
            let text = format!("links{} cannot be looked into: {why}", place(registry, ns));
            Error::kernel(why.errno, text)
        })?;
        let facts = |facts: Vec<KernelFact>| {
            facts.into_iter().filter_map(|fact| known(registry, ns, fact)).collect()
        };
        told.extend(links.iter().zip(found).map(|((id, _), found)| (*id, facts(found))));
    }
    let links = asked.iter().map(|id| {
        let facts = told.get(id).cloned().unwrap_or_default();
        LinkDetails { id: *id, facts }
    });
    Ok(Details { links: links.collect() })
}

/// Those of the links that the kernel has and the scope sees, where it has them.
fn by_namespace(
    registry: &Registry,
    scope: Scope,
    asked: &[LinkId],
) -> BTreeMap<NsCookie, Vec<(LinkId, IfIndex)>> {
    let mut by_namespace: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let links = asked.iter().filter_map(|id| registry.link(*id)).filter(|link| scope.sees(link));
    for (id, at) in links.filter_map(|link| Some((link.record.id, link.binding()?))) {
        by_namespace.entry(at.ns).or_default().push((id, at.ifindex));
    }
    by_namespace
}

/// Links whose namespace has just died are there no more.
async fn inspect(
    kernel: &dyn Kernel,
    ns: NsCookie,
    links: &[(LinkId, IfIndex)],
    topics: &[Topic],
) -> std::result::Result<Vec<Vec<KernelFact>>, KernelError> {
    let indexes: Vec<IfIndex> = links.iter().map(|(_, ifindex)| *ifindex).collect();
    match all_facts(kernel, ns, &indexes, topics).await {
        Err(why) if why.is_no_namespace() => Ok(Vec::new()),
        outcome => outcome,
    }
}

async fn all_facts(
    kernel: &dyn Kernel,
    ns: NsCookie,
    links: &[IfIndex],
    topics: &[Topic],
) -> std::result::Result<Vec<Vec<KernelFact>>, KernelError> {
    let mut told = kernel.inspect(ns, links, topics).await?;
    if topics.contains(&Topic::Speed) {
        let modes = kernel.link_modes(ns, links).await?;
        told.iter_mut().zip(modes).for_each(|(told, mode)| told.extend(mode.facts()));
    }
    Ok(told)
}

/// The fact as clients are told it; none where it is about a link that is not known.
fn known(registry: &Registry, ns: NsCookie, fact: KernelFact) -> Option<Fact> {
    let value = match fact.value {
        KernelValue::Plain(value) => value,
        KernelValue::Link(ifindex) => {
            let other = registry.link(registry.by_binding(Binding { ns, ifindex })?)?;
            FactValue::Text(shown(registry, other))
        }
    };
    Some(Fact { name: fact.name.to_owned(), value })
}

fn shown(registry: &Registry, link: &Link) -> String {
    registry.shown_name(link).to_string()
}

/// ` in zone ZONE`, for a namespace that is one.
fn place(registry: &Registry, ns: NsCookie) -> String {
    let zone = registry.zone_of_ns(ns);
    zone.map_or_else(String::new, |zone| format!(" in zone {}", registry.zone_label(zone)))
}
