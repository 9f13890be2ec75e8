//! What a link does not send: the properties `protection` and `allowed-ips` as rules of
//! `nf_tables`.
//!
//! Of each link there are up to three chains, named after its index. What it sends passes `link-N`,
//! which leads all of it to `checks-N`, where each word of `protection` has its rules, and whose
//! last ones ask `allowed-N`, where each allowed network has its rules. Each rule has as its comment
//! what it is for; so what is in force can be read back.
//!
//! All rules read the frame from its first byte. Where its protocol begins, and which one it is, the
//! kernel believes who makes a frame by himself (`AF_PACKET`), and so cannot be relied on.

use dlmgmt_proto::IfIndex;
use dlmgmt_proto::property::{Guard, Network, Property, Value};

use super::connection::Connection;
use super::nftables::{Batch, Condition, Nftables, Rule, Verdict};
use crate::kernel::KernelError;
use crate::model::{KernelLink, Settings};

/// Bytes of an Ethernet header.
const HEADER_LEN: u32 = 14;

/// Where in a frame its source address is, and where its protocol.
const SOURCE_MAC: u32 = 6;
const PROTOCOL: u32 = 12;

/// Where in a frame the source address of an IP packet is.
const SOURCE_V4: u32 = HEADER_LEN + 12;
const SOURCE_V6: u32 = HEADER_LEN + 8;

/// Where in a frame ARP says what addresses are about, and where the sender's own IP address is.
const ARP_KIND: u32 = HEADER_LEN;
const ARP_SENDER: u32 = HEADER_LEN + 14;

/// ARP for Ethernet and IPv4, with addresses of 6 and 4 bytes.
const ARP_OF_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
const PROVIDER_VLAN: [u8; 2] = [0x88, 0xa8];

/// The comment of the rules that belong to no word.
const GATE: &str = "of this link";

/// Sources that everybody may use who has no address yet, and IPv6 among neighbours.
const ALWAYS_ALLOWED: [&str; 3] = ["0.0.0.0", "::", "fe80::/10"];

/// What a link is kept from sending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarding {
    guards: Vec<Guard>,
    networks: Vec<Network>,
}

impl Guarding {
    fn is_none(&self) -> bool {
        self.guards.is_empty() && self.networks.is_empty()
    }

    fn with(mut self, property: Property, value: &Value) -> Self {
        match property {
            Property::Protection => self.guards = words(value),
            _ => self.networks = words(value),
        }
        self
    }

    fn into_settings(self) -> Settings {
        let guards = self.guards.iter().map(|guard| guard.as_str().to_owned()).collect();
        let networks = self.networks.iter().map(Network::to_string).collect();
        let values = [(Property::Protection, guards), (Property::AllowedIps, networks)];
        values.into_iter().map(|(property, names)| (property, names_of(names))).collect()
    }
}

/// Whether a property is one of those that are rules.
pub fn is_for(property: Property) -> bool {
    matches!(property, Property::Protection | Property::AllowedIps)
}

/// What is in force for a link, as the values of its properties.
pub fn readings(rules: &mut Nftables, link: &KernelLink) -> Result<Settings, KernelError> {
    read(rules, link).map(Guarding::into_settings)
}

/// Gives a property of a link this value.
pub fn set(
    rules: &mut Nftables,
    link: &KernelLink,
    property: Property,
    value: &Value,
) -> Result<(), KernelError> {
    let wanted = read(rules, link)?.with(property, value);
    replace(rules, link, &wanted).map_err(explained)
}

/// Lets the rules of a link follow its name and its address, which have changed. Newer kernels take
/// a chain for that of all links that ever have its name.
pub fn follow(
    rules: &mut Nftables,
    links: &mut Connection,
    ifindex: IfIndex,
) -> Result<(), KernelError> {
    if rules.link_of(&gate(ifindex))?.is_none() {
        return Ok(());
    }
    let Some(link) = links.get(None, ifindex)? else { return Ok(()) };
    let networks = networks_in_force(rules, ifindex)?;
    let wanted = Guarding { guards: guards_asked(rules, ifindex)?, networks };
    replace(rules, &link, &wanted)
}

/// Deletes the rules of a link, which may have gone: newer kernels keep them.
pub fn clear(rules: &mut Nftables, ifindex: IfIndex) -> Result<(), KernelError> {
    let mut batch = Batch::default();
    if delete_chains(rules, ifindex, &mut batch)? {
        rules.commit(batch)?;
        rules.delete_empty_table()?;
    }
    Ok(())
}

/// Whether a kernel that answers so has no such rules at all.
pub fn is_missing(why: &KernelError) -> bool {
    matches!(why.errno, libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
}

fn explained(why: KernelError) -> KernelError {
    if !is_missing(&why) {
        return why;
    }
    let text = "it has no rules for frames that leave a link, which take nf_tables with \
                NF_TABLES_NETDEV and NETFILTER_EGRESS (Linux 5.16)";
    KernelError { errno: libc::EOPNOTSUPP, text: Some(text.to_owned()) }
}

fn gate(ifindex: IfIndex) -> String {
    format!("link-{ifindex}")
}

fn checks(ifindex: IfIndex) -> String {
    format!("checks-{ifindex}")
}

fn allowed(ifindex: IfIndex) -> String {
    format!("allowed-{ifindex}")
}

/// A word counts where all of its rules are there, and where the link's frames come to them.
fn read(rules: &mut Nftables, link: &KernelLink) -> Result<Guarding, KernelError> {
    let ifindex = link.ifindex;
    let networks = networks_in_force(rules, ifindex)?;
    let is_bound = rules.link_of(&gate(ifindex))?.is_some_and(|name| name == link.name.as_bytes());
    let is_led =
        is_bound && is_whole(&rules.comments(&gate(ifindex))?, GATE, &rules_of_gate(ifindex));
    let guards = if is_led { guards_asked(rules, ifindex)? } else { Vec::new() };
    Ok(Guarding { guards, networks })
}

fn guards_asked(rules: &mut Nftables, ifindex: IfIndex) -> Result<Vec<Guard>, KernelError> {
    let comments = rules.comments(&checks(ifindex))?;
    let is_asked = |guard: &&Guard| {
        is_whole(&comments, guard.as_str(), &rules_for_guard(**guard, ifindex, NO_MAC))
    };
    Ok(Guard::ALL.iter().filter(is_asked).copied().collect())
}

fn networks_in_force(rules: &mut Nftables, ifindex: IfIndex) -> Result<Vec<Network>, KernelError> {
    let comments = rules.comments(&allowed(ifindex))?;
    let mut networks: Vec<Network> =
        comments.iter().filter_map(|comment| comment.parse().ok()).collect();
    networks.dedup();
    networks.retain(|network| {
        let comment = network.to_string();
        is_whole(&comments, &comment, &rules_for_network(network, &comment))
    });
    Ok(networks)
}

fn is_whole(comments: &[String], comment: &str, rules: &[Rule]) -> bool {
    comments.iter().filter(|found| *found == comment).count() == rules.len()
}

/// Everything of a link anew, at once.
fn replace(rules: &mut Nftables, link: &KernelLink, wanted: &Guarding) -> Result<(), KernelError> {
    if wanted.is_none() {
        return clear(rules, link.ifindex);
    }
    let mut batch = Batch::default();
    batch.add_table();
    delete_chains(rules, link.ifindex, &mut batch)?;
    add_allowed(&mut batch, link.ifindex, &wanted.networks);
    if !wanted.guards.is_empty() {
        add_checks(&mut batch, link, &wanted.guards)?;
    }
    rules.commit(batch)
}

/// Whether there was any.
fn delete_chains(
    rules: &mut Nftables,
    ifindex: IfIndex,
    batch: &mut Batch,
) -> Result<bool, KernelError> {
    let mut is_any = false;
    for chain in [gate(ifindex), checks(ifindex), allowed(ifindex)] {
        if rules.link_of(&chain)?.is_some() {
            batch.delete_chain(&chain);
            is_any = true;
        }
    }
    Ok(is_any)
}

fn add_allowed(batch: &mut Batch, ifindex: IfIndex, networks: &[Network]) {
    let chain = allowed(ifindex);
    batch.add_chain(&chain);
    for network in networks {
        let rules = rules_for_network(network, &network.to_string());
        rules.iter().for_each(|rule| batch.add_rule(&chain, rule));
    }
}

fn add_checks(batch: &mut Batch, link: &KernelLink, guards: &[Guard]) -> Result<(), KernelError> {
    let no_mac = || {
        let text = format!("{} has no address of its own", link.name);
        KernelError { errno: libc::EINVAL, text: Some(text) }
    };
    let mac = link.mac.ok_or_else(no_mac)?;
    let (gate, checks) = (gate(link.ifindex), checks(link.ifindex));
    batch.add_chain(&checks);
    // The rules for sources end with a verdict, so they are the last ones.
    let (last, first): (Vec<Guard>, Vec<Guard>) =
        guards.iter().partition(|guard| **guard == Guard::IpNoSpoof);
    for guard in first.into_iter().chain(last) {
        let rules = rules_for_guard(guard, link.ifindex, mac.as_bytes());
        rules.iter().for_each(|rule| batch.add_rule(&checks, rule));
    }
    batch.add_egress_chain(&gate, link.name.as_bytes());
    rules_of_gate(link.ifindex).iter().for_each(|rule| batch.add_rule(&gate, rule));
    Ok(())
}

/// In the place of an address where it does not matter which.
const NO_MAC: &[u8] = &[];

/// A chain may stay behind when its link is gone, and then gets the frames of the next one of that
/// name. What is too short to be looked at is not sent.
fn rules_of_gate(ifindex: IfIndex) -> Vec<Rule> {
    let elsewhere = Condition::LeavesElsewhere(ifindex.get());
    vec![
        rule(GATE, [elsewhere], Verdict::Accept),
        rule(GATE, [Condition::Has(HEADER_LEN)], Verdict::Goto(checks(ifindex))),
        rule(GATE, [], Verdict::Drop),
    ]
}

fn rules_for_guard(guard: Guard, ifindex: IfIndex, mac: &[u8]) -> Vec<Rule> {
    let name = guard.as_str();
    match guard {
        Guard::MacNoSpoof => {
            let is_other = Condition::IsNot(SOURCE_MAC, mac.to_vec());
            vec![rule(name, [is_other], Verdict::Drop)]
        }
        Guard::Restricted => {
            let others = [IPV4, ARP, IPV6].map(|known| Condition::IsNot(PROTOCOL, known.to_vec()));
            vec![rule(name, others, Verdict::Drop)]
        }
        Guard::IpNoSpoof => {
            let always = ALWAYS_ALLOWED.iter().filter_map(|text| text.parse().ok());
            let always = always.flat_map(|network| rules_for_network(&network, name));
            let listed = rule(name, [], Verdict::Jump(allowed(ifindex)));
            // Packets with a tag are not looked into.
            let refused = [IPV4, ARP, IPV6, VLAN, PROVIDER_VLAN]
                .map(|protocol| rule(name, [is_of(protocol)], Verdict::Drop));
            always.chain([listed]).chain(refused).collect()
        }
    }
}

/// Lets frames pass whose source is in a network.
fn rules_for_network(network: &Network, comment: &str) -> Vec<Rule> {
    let (address, mask) = network.with_mask();
    let is_from = |at| Condition::IsMasked(at, address.clone(), mask.clone());
    match network.address.is_ipv4() {
        true => {
            let is_arp = Condition::Is(ARP_KIND, ARP_OF_IPV4.to_vec());
            vec![
                rule(comment, [is_of(IPV4), is_from(SOURCE_V4)], Verdict::Accept),
                rule(comment, [is_of(ARP), is_arp, is_from(ARP_SENDER)], Verdict::Accept),
            ]
        }
        false => vec![rule(comment, [is_of(IPV6), is_from(SOURCE_V6)], Verdict::Accept)],
    }
}

fn is_of(protocol: [u8; 2]) -> Condition {
    Condition::Is(PROTOCOL, protocol.to_vec())
}

fn rule(comment: &str, conditions: impl IntoIterator<Item = Condition>, verdict: Verdict) -> Rule {
    let conditions = conditions.into_iter().collect();
    Rule { comment: comment.to_owned(), conditions, verdict }
}

fn words<T: std::str::FromStr>(value: &Value) -> Vec<T> {
    let Value::Names(names) = value else { return Vec::new() };
    names.iter().filter_map(|name| std::str::from_utf8(name).ok()?.parse().ok()).collect()
}

fn names_of(mut names: Vec<String>) -> Value {
    names.sort_unstable();
    Value::Names(names.into_iter().map(String::into_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_has_no_such_rules_is_told_from_one_that_refuses() {
        let answer = |errno| explained(KernelError { errno, text: None });
        for errno in [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT] {
            let why = answer(errno);
            assert_eq!(why.errno, libc::EOPNOTSUPP);
            assert!(why.to_string().contains("NETFILTER_EGRESS"), "{why}");
        }
        assert_eq!(answer(libc::EPERM), KernelError { errno: libc::EPERM, text: None });
    }
}
