//! What a link's message tells beside what a link is followed by: facts, for who asks.

use dlmgmt_proto::Topic;
use dlmgmt_proto::kind::LinkOptions;

use super::frame::attributes;
use super::kinds;
use crate::kernel::KernelFact;

/// Bytes of `struct ifinfomsg`, which the attributes follow.
const HEADER_LEN: usize = 16;

const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;

/// The counters of `struct rtnl_link_stats64` in its order, by the names that people know; those
/// that follow tell the kinds of errors apart.
const COUNTERS: [&str; 10] = [
    "ipackets",
    "opackets",
    "rbytes",
    "obytes",
    "ierrors",
    "oerrors",
    "idrops",
    "odrops",
    "multicast",
    "collisions",
];

/// What the payload of an RTM_NEWLINK says about these topics.
pub fn facts(payload: &[u8], topics: &[Topic]) -> Vec<KernelFact> {
    let told = payload.get(HEADER_LEN..).unwrap_or_default();
    attributes(told)
        .flat_map(|(kind, value)| topics.iter().flat_map(move |topic| about(*topic, kind, value)))
        .collect()
}

/// The options of its kind that the payload of an RTM_NEWLINK says a link has.
pub fn options(payload: &[u8]) -> Option<LinkOptions> {
    let told = payload.get(HEADER_LEN..).unwrap_or_default();
    let info = attributes(told).find(|(kind, _)| *kind == IFLA_LINKINFO);
    info.and_then(|(_, info)| kinds::options(info))
}

/// What one attribute says about a topic.
fn about(topic: Topic, kind: u16, value: &[u8]) -> Vec<KernelFact> {
    match (topic, kind) {
        (Topic::Statistics, IFLA_STATS64) => statistics(value),
        (Topic::Kind, IFLA_LINKINFO) => kinds::of_kind(value),
        (Topic::Port, IFLA_LINKINFO) => kinds::of_port(value),
        (Topic::Port, IFLA_MASTER) => kinds::link("master", value).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn statistics(value: &[u8]) -> Vec<KernelFact> {
    let (counters, _) = value.as_chunks();
    let numbers = counters.iter().map(|counter| u64::from_ne_bytes(*counter));
    COUNTERS.into_iter().zip(numbers).map(|(name, n)| KernelFact::number(name, n)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_told_by_the_names_that_people_know() {
        let value: Vec<u8> = (1..=24_u64).flat_map(u64::to_ne_bytes).collect();
        let counters = statistics(&value);
        assert_eq!(counters.len(), COUNTERS.len());
        assert_eq!(counters[0], KernelFact::number("ipackets", 1_u64));
        assert_eq!(counters[3], KernelFact::number("obytes", 4_u64));
        assert_eq!(counters[5], KernelFact::number("oerrors", 6_u64));
    }

    #[test]
    fn a_kernel_that_counts_less_tells_less() {
        assert_eq!(statistics(&[0; 20]).len(), 2);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            facts(&bytes, &Topic::ALL);
            options(&bytes);
        }
    }
}
