//! How much a link may send: a token bucket (`tbf`) in the place of its queue.

use dlmgmt_proto::IfIndex;
use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage};

use super::frame::{attributes, string};

const KIND: &str = "tbf";

/// Bytes of `struct tcmsg`, which the attributes follow.
const HEADER_LEN: usize = 20;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

/// `TC_LINKLAYER_ETHERNET`: with it, the kernel computes by itself how long a packet takes.
const ETHERNET: u8 = 1;

/// Bytes a second of a kilobit a second.
const BYTES: u64 = 125;

/// The least that may be sent at once: a packet as large as offloads make it.
const BURST_MIN: u64 = 64 << 10;

/// Asks for the queues of all links of this namespace: of one alone, the kernel tells none.
pub fn queues() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default())
}

/// The kilobits a second that a queue lets the link send, if it is a bucket at its root.
pub fn limit_of(payload: &[u8], ifindex: IfIndex) -> Option<u64> {
    let index = payload.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let parent = payload.get(12..16)?.try_into().ok().map(u32::from_ne_bytes)?;
    let told = payload.get(HEADER_LEN..)?;
    let find = |wanted| attributes(told).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let is_bucket = find(TCA_KIND).map(string) == Some(KIND.as_bytes());
    let is_it = index == ifindex.get() && parent == u32::from(TcHandle::ROOT) && is_bucket;
    let options = find(TCA_OPTIONS).filter(|_| is_it)?;
    let bytes = attributes(options).fold(None, |rate, (kind, value)| match kind {
        TCA_TBF_PARMS => {
            rate.or(value.get(8..12)?.try_into().ok().map(u32::from_ne_bytes).map(u64::from))
        }
        TCA_TBF_RATE64 => value.try_into().ok().map(u64::from_ne_bytes),
        _ => rate,
    });
    bytes.map(|bytes| bytes / BYTES)
}

/// Asks to let a link of this namespace send so many kilobits a second.
pub fn limit(ifindex: u32, kilobits: u64) -> RouteNetlinkMessage {
    let rate = kilobits.saturating_mul(BYTES);
    // A hundredth of a second's worth at once, and a twentieth waiting.
    let burst = (rate / 100).max(BURST_MIN);
    let waiting = (rate / 20).saturating_add(burst);
    let options = [
        DefaultNla::new(TCA_TBF_PARMS, parameters(low(rate), low(waiting))),
        DefaultNla::new(TCA_TBF_BURST, low(burst).to_ne_bytes().to_vec()),
        DefaultNla::new(TCA_TBF_RATE64, rate.to_ne_bytes().to_vec()),
    ];
    let mut bytes = vec![0; options.as_slice().buffer_len()];
    options.as_slice().emit(&mut bytes);
    let mut message = at_root(ifindex);
    message.attributes = vec![
        TcAttribute::Kind(KIND.to_owned()),
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bytes)),
    ];
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// Asks for the queue that the link would have by itself.
pub fn no_limit(ifindex: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelQueueDiscipline(at_root(ifindex))
}

fn at_root(ifindex: u32) -> TcMessage {
    let (index, parent) = (ifindex.cast_signed(), TcHandle::ROOT);
    let header = TcHeader { index, parent, ..TcHeader::default() };
    TcMessage::from_parts(header, Vec::new())
}

/// `struct tc_tbf_qopt`: the rate, no peak rate, the bytes that may wait, and nothing of what the
/// other attributes say.
fn parameters(rate: u32, waiting: u32) -> Vec<u8> {
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(waiting.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_is_read_of_a_queue() {
        for kilobits in [8, 10_000, 100_000_000] {
            let request = limit(7, kilobits);
            let mut payload = vec![0; request.buffer_len()];
            request.emit(&mut payload);
            let of = |index| limit_of(&payload, IfIndex::new(index).unwrap());
            assert_eq!((of(7), of(8)), (Some(kilobits), None));
        }
    }

    #[test]
    fn what_is_no_queue_is_no_limit() {
        let seven = IfIndex::new(7).unwrap();
        assert_eq!(limit_of(&[0; 10], seven), None);
        assert_eq!(limit_of(&[0; 40], seven), None);
    }
}
