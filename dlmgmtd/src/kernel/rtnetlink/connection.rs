//! A connection to the kernel's part for links: every request about them.

use std::collections::BTreeSet;
use std::io;

use dlmgmt_proto::kind::LinkOptions;
use dlmgmt_proto::property::{Property, Value};
use dlmgmt_proto::{IfIndex, LinkName, Topic};
use netlink_packet_core::Parseable;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::bandwidth;
use super::channel::{Answered, Channel, Expected, set_receive_buffer};
use super::details;
use super::frame::Message;
use super::link::RawLink;
use super::request::{self, Target};
use super::{RTM_DELLINK, RTM_NEWLINK};
use crate::kernel::{Dump, KernelError, KernelFact};
use crate::model::{Action, KernelLink, NewLink, Step};

/// How often a dump is tried that links come or go under. Where they never stop, more attempts do
/// not help, and with many links each takes most of a second.
const DUMP_ATTEMPTS: u32 = 3;

/// The multicast group of links (`RTNLGRP_LINK`).
const LINK_GROUP: u32 = 1;

/// Flags of a request that makes a link.
const CREATES: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

/// Flags of a request whose answer is one message, or an error.
const ONE_MESSAGE: u16 = 0;

/// A connection to the kernel, in the namespace of the thread that opened it.
///
/// Every call blocks: the kernel answers when it has the lock over all links.
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// Opens a connection.
    pub fn open() -> io::Result<Self> {
        Ok(Self { channel: Channel::open(NETLINK_ROUTE)? })
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        self.channel.socket()
    }

    /// Every link of the namespace that has the number `nsid` here: the first consistent picture
    /// of a few attempts, or else the last one.
    pub fn dump(&mut self, nsid: Option<i32>) -> Result<Dump, KernelError> {
        let mut dump = self.dump_once(nsid)?;
        for _ in 1..DUMP_ATTEMPTS {
            if dump.is_consistent {
                break;
            }
            dump = self.dump_once(nsid)?;
        }
        Ok(dump)
    }

    fn dump_once(&mut self, nsid: Option<i32>) -> Result<Dump, KernelError> {
        let mut links = Vec::new();
        let answered = self.exchange(request::dump(nsid), NLM_F_DUMP, |message| {
            links.extend(decode(message));
        })?;
        // The sort is stable: of a link that is shown twice, the newer picture stays the last.
        links.sort_by_key(|link: &KernelLink| link.ifindex);
        Ok(Dump { links, is_consistent: !answered.is_interrupted })
    }

    /// The indexes of all links of this namespace.
    pub fn indexes(&mut self) -> Result<BTreeSet<IfIndex>, KernelError> {
        let mut indexes = BTreeSet::new();
        self.exchange(request::indexes(), NLM_F_DUMP, |message| {
            indexes.extend(index_told(message.payload));
        })?;
        Ok(indexes)
    }

    /// The link of an index, if there is one.
    pub fn get(
        &mut self,
        nsid: Option<i32>,
        ifindex: IfIndex,
    ) -> Result<Option<KernelLink>, KernelError> {
        if i32::try_from(ifindex.get()).is_err() {
            return Ok(None);
        }
        self.find(request::get(nsid, ifindex))
    }

    /// The link that has this name, as its name or as an alternative one, if there is one.
    pub fn find_named(
        &mut self,
        nsid: Option<i32>,
        name: &LinkName,
    ) -> Result<Option<KernelLink>, KernelError> {
        self.find(request::get_named(nsid, name))
    }

    fn find(&mut self, request: RouteNetlinkMessage) -> Result<Option<KernelLink>, KernelError> {
        let [expected] = self.channel.send_each([(request, ONE_MESSAGE)])?;
        self.hear_of_one(&expected)
    }

    fn hear_of_one(&mut self, expected: &Expected) -> Result<Option<KernelLink>, KernelError> {
        let mut found = None;
        match self.channel.hear(expected, |message| found = decode(message)) {
            Err(error) if error.errno == libc::ENODEV => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// What a link's message tells about topics; nothing where there is no such link.
    pub fn inspect(
        &mut self,
        nsid: Option<i32>,
        ifindex: IfIndex,
        topics: &[Topic],
    ) -> Result<Vec<KernelFact>, KernelError> {
        let mut found = Vec::new();
        let asked = self.exchange(request::get_all(nsid, ifindex), ONE_MESSAGE, |message| {
            found = details::facts(message.payload, topics);
        });
        match asked {
            Err(error) if error.errno == libc::ENODEV => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// The options of its kind that a link has; none where there is no such link.
    pub fn options(
        &mut self,
        nsid: Option<i32>,
        ifindex: IfIndex,
    ) -> Result<Option<LinkOptions>, KernelError> {
        let mut found = None;
        self.exchange(request::get(nsid, ifindex), ONE_MESSAGE, |message| {
            found = details::options(message.payload);
        })?;
        Ok(found)
    }

    /// The addresses of a link by which others reach it.
    pub fn addresses(
        &mut self,
        ifindex: IfIndex,
        nsid: Option<i32>,
    ) -> Result<Vec<String>, KernelError> {
        let mut addresses = Vec::new();
        self.exchange(request::addresses(nsid, ifindex), NLM_F_DUMP, |message| {
            addresses.extend(decode_address(message.payload, ifindex));
        })?;
        Ok(addresses)
    }

    /// The most kilobits a second that a link of this namespace may send; 0 for no bound.
    pub fn limit(&mut self, ifindex: IfIndex) -> Result<u64, KernelError> {
        let mut limit = None;
        self.exchange(bandwidth::queues(), NLM_F_DUMP, |message| {
            limit = limit.or(bandwidth::limit_of(message.payload, ifindex));
        })?;
        Ok(limit.unwrap_or(0))
    }

    /// Changes a link of this namespace.
    pub fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match &step.action {
            Action::Set(Property::MaxBw, Value::Number(most)) => {
                self.set_limit(step.at.ifindex, *most)
            }
            _ => self.exchange(request::apply(step)?, NLM_F_ACK, |_| ()).map(drop),
        }
    }

    fn set_limit(&mut self, ifindex: IfIndex, most: u64) -> Result<(), KernelError> {
        let index = request::existing(ifindex)?;
        if most > 0 {
            let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
            return self.exchange(bandwidth::limit(index, most), flags, |_| ()).map(drop);
        }
        match self.limit(ifindex)? {
            0 => Ok(()),
            _ => self.exchange(bandwidth::no_limit(index), NLM_F_ACK, |_| ()).map(drop),
        }
    }

    /// Gives a link of this namespace an address.
    pub fn set_address(&mut self, ifindex: IfIndex, mac: Vec<u8>) -> Result<(), KernelError> {
        self.exchange(request::set_address(ifindex, mac)?, NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Ends a link of the namespace that has the number `nsid` here.
    pub fn delete(&mut self, nsid: Option<i32>, ifindex: IfIndex) -> Result<(), KernelError> {
        self.exchange(request::delete(nsid, ifindex)?, NLM_F_ACK, |_| ())?;
        Ok(())
    }

    /// Makes a link in the namespace of `target`, and its peer, if it has one, in this one.
    pub fn create(
        &mut self,
        new: &NewLink,
        target: Option<&Target>,
        index: Option<IfIndex>,
    ) -> Result<(), KernelError> {
        self.exchange(request::create(new, target, index)?, CREATES, |_| ())?;
        Ok(())
    }

    /// As [`Connection::create`], and looks at once which links have the names of the two ends of a
    /// pair: each in the namespace that has the number here.
    pub fn create_pair(
        &mut self,
        new: &NewLink,
        target: Option<&Target>,
        index: Option<IfIndex>,
        [one, other]: [(Option<i32>, LinkName); 2],
    ) -> Result<[Option<KernelLink>; 2], KernelError> {
        let named = |(nsid, name)| (request::get_named(nsid, &name), ONE_MESSAGE);
        let create = (request::create(new, target, index)?, CREATES);
        let [created, one, other] = self.channel.send_each([create, named(one), named(other)])?;
        self.channel.hear(&created, |_| ())?;
        // The pair is made, so what cannot be seen of it now is no refusal.
        let mut found = |expected| self.hear_of_one(&expected).ok().flatten();
        Ok([found(one), found(other)])
    }

    /// Moves a link to another namespace. Answers how that ended, and its index there if it left
    /// at all: the kernel gives it its name only once it is there, and may refuse that. Where more
    /// than `buffer` bytes of notifications come meanwhile, both can be lost.
    ///
    /// Use the connection for nothing afterwards: it hears of every link.
    pub fn move_away(
        &mut self,
        ifindex: IfIndex,
        request: RouteNetlinkMessage,
        buffer: usize,
    ) -> (Result<(), KernelError>, Option<IfIndex>) {
        let mut now = None;
        let outcome = self.hear_of_links(buffer).map_err(KernelError::from).and_then(|()| {
            self.exchange(request, NLM_F_ACK, |message| {
                let link = RawLink::parse(message.payload).filter(|link| link.ifindex() == ifindex);
                if let (RTM_DELLINK, Some(link)) = (message.kind, link) {
                    now = link.moved_to().map(|(_, ifindex)| ifindex).or(now);
                }
            })
        });
        (outcome.map(|_| ()), now)
    }

    /// Only the notification tells the new index beyond doubt: who asks for the link by its name
    /// may get another one that has the name by then.
    fn hear_of_links(&mut self, buffer: usize) -> io::Result<()> {
        set_receive_buffer(self.channel.socket(), buffer)?;
        self.channel.socket_mut().add_membership(LINK_GROUP)
    }

    /// Sends a request and reads to the end of its answer, handing each message of it, and each
    /// notification that comes meanwhile, to `on_message`.
    pub fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        on_message: impl FnMut(Message<'_>),
    ) -> Result<Answered, KernelError> {
        self.channel.exchange(request, flags, on_message)
    }
}

/// Takes a datagram for the answer to any request: what comes of it does not matter.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn take_for_an_answer(datagram: &[u8], sequence: u32) {
    let one = IfIndex::new(1);
    let expected = Expected::to(sequence, NLM_F_ACK);
    let _ = super::channel::read_answer(datagram, &expected, &mut false, |message| {
        decode(message);
        details::facts(message.payload, &Topic::ALL);
        super::ethtool::take_for_an_answer(message.payload);
        super::nftables::take_for_an_answer(message.payload);
        index_told(message.payload);
        one.and_then(|ifindex| decode_address(message.payload, ifindex));
    });
}

/// An address of the link, unless it is one that only this link itself can reach.
fn decode_address(payload: &[u8], ifindex: IfIndex) -> Option<String> {
    let message = AddressMessage::parse(payload).ok()?;
    let is_global = message.header.scope == AddressScope::Universe;
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(address),
        _ => None,
    });
    address
        .filter(|_| is_global && message.header.index == ifindex.get())
        .map(|address| format!("{address}/{}", message.header.prefix_len))
}

/// The index in a `struct if_stats_msg`.
fn index_told(payload: &[u8]) -> Option<IfIndex> {
    payload.get(4..8)?.try_into().ok().map(u32::from_ne_bytes).and_then(IfIndex::new)
}

fn decode(message: Message<'_>) -> Option<KernelLink> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let payload = message.payload;
    let link = RawLink::parse(payload).and_then(RawLink::into_kernel_link);
    if link.is_none() {
        tracing::warn!(message = %payload.escape_ascii(), "the kernel told of a link without a name");
    }
    link
}
