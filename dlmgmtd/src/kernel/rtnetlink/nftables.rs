//! Rules of `nf_tables` for what leaves the links of a namespace: as much of that protocol as
//! `guard` needs.
//!
//! All is in one table of the daemon's own, of the family `netdev`.

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::channel::Channel;
use super::ethtool::nested;
use super::frame::{attributes, string};
use crate::kernel::KernelError;

/// The table, and what people see it is.
const TABLE: &str = "dlmgmt";

/// Bytes of `struct nfgenmsg`, which the attributes follow.
const HEADER_LEN: usize = 4;

/// `NFPROTO_NETDEV`: frames of devices, whatever is in them.
const NETDEV: u8 = 5;
const UNSPECIFIED: u8 = 0;

/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u16 = 10;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const NEWTABLE: u16 = message_type(0);
const DELTABLE: u16 = message_type(2);
const NEWCHAIN: u16 = message_type(3);
const GETCHAIN: u16 = message_type(4);
const DELCHAIN: u16 = message_type(5);
const NEWRULE: u16 = message_type(6);
const GETRULE: u16 = message_type(7);

/// `NLM_F_NONREC`: delete only what is empty.
const IF_EMPTY: u16 = 0x100;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_HOOKNUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEV: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// `NF_NETDEV_EGRESS`
const EGRESS: u32 = 1;

/// `NFT_META_OIF`: the index of the link that a frame leaves by.
const META_OIF: u32 = 5;

/// The frame from its first byte (`NFT_PAYLOAD_LL_HEADER`).
const FRAME: u32 = 0;

/// The register through which all goes.
const REGISTER: u32 = 1;

const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;

/// The part of a rule's user data that `nft` shows as its comment.
const COMMENT: u8 = 0;

const fn message_type(message: u16) -> u16 {
    NFTABLES << 8 | message
}

/// What becomes of a frame for which all of a rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not sent.
    Drop,
    /// It is sent, as far as this chain has a say.
    Accept,
    /// The rules of another chain are asked, and then the following ones.
    Jump(String),
    /// The rules of another chain are asked instead of the following ones.
    Goto(String),
}

/// One thing that has to hold of a frame. What a frame is too short for does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It leaves by another link than that of this index.
    LeavesElsewhere(u32),
    /// It has so many bytes, of which 16 can be asked for.
    Has(u32),
    /// It has these bytes at this place.
    Is(u32, Vec<u8>),
    /// It has other bytes at this place.
    IsNot(u32, Vec<u8>),
    /// It has these bytes at this place, where the mask has ones.
    IsMasked(u32, Vec<u8>, Vec<u8>),
}

/// A rule: what becomes of frames of which all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is for, in a word; it is shown with the rule, and read back.
    pub comment: String,
    /// What has to hold.
    pub conditions: Vec<Condition>,
    /// What becomes of such a frame.
    pub verdict: Verdict,
}

/// One request, or one part of a batch.
struct Message {
    kind: u16,
    family: u8,
    resource: u16,
    attributes: Vec<DefaultNla>,
}

impl Message {
    fn new(kind: u16, attributes: Vec<DefaultNla>) -> Self {
        Self { kind, family: NETDEV, resource: 0, attributes }
    }

    fn edge_of_a_batch(kind: u16) -> Self {
        Self { kind, family: UNSPECIFIED, resource: NFTABLES, attributes: Vec::new() }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER_LEN);
        let [high, low] = self.resource.to_be_bytes();
        header.copy_from_slice(&[self.family, 0, high, low]);
        self.attributes.as_slice().emit(attributes);
    }
}

/// Changes that happen all at once, or not at all.
#[derive(Default)]
pub struct Batch(Vec<(Message, u16)>);

impl Batch {
    /// Makes the table, if it is not there.
    pub fn add_table(&mut self) {
        self.0.push((Message::new(NEWTABLE, vec![text(TABLE_NAME, TABLE)]), NLM_F_CREATE));
    }

    /// Makes a chain that every frame passes that leaves the link of this name; at the end of its
    /// rules it is sent.
    pub fn add_egress_chain(&mut self, chain: &str, link: &[u8]) {
        let hook = [
            long(HOOK_HOOKNUM, EGRESS),
            long(HOOK_PRIORITY, 0),
            DefaultNla::new(HOOK_DEV, [link, &[0]].concat()),
        ];
        let mut attributes = named_chain(chain);
        attributes.extend([nested(CHAIN_HOOK, &hook), text(CHAIN_TYPE, "filter")]);
        self.0.push((Message::new(NEWCHAIN, attributes), NLM_F_CREATE));
    }

    /// Makes a chain that other chains send frames to.
    pub fn add_chain(&mut self, chain: &str) {
        self.0.push((Message::new(NEWCHAIN, named_chain(chain)), NLM_F_CREATE));
    }

    /// Deletes a chain with its rules; none other may lead to it.
    pub fn delete_chain(&mut self, chain: &str) {
        self.0.push((Message::new(DELCHAIN, named_chain(chain)), 0));
    }

    /// Adds a rule behind the others of its chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let expressions = rule.conditions.iter().flat_map(expressions_of);
        let expressions: Vec<DefaultNla> =
            expressions.chain([verdict_expression(&rule.verdict)]).collect();
        let attributes = vec![
            text(RULE_TABLE, TABLE),
            text(RULE_CHAIN, chain),
            nested(RULE_EXPRESSIONS, &expressions),
            DefaultNla::new(RULE_USERDATA, user_data(&rule.comment)),
        ];
        self.0.push((Message::new(NEWRULE, attributes), NLM_F_CREATE | NLM_F_APPEND));
    }

    fn delete_empty_table(&mut self) {
        self.0.push((Message::new(DELTABLE, vec![text(TABLE_NAME, TABLE)]), IF_EMPTY));
    }

    /// As it is sent: framed, and with the last change acknowledged when all are done.
    fn into_messages(mut self) -> Vec<(Message, u16)> {
        if let Some((_, flags)) = self.0.last_mut() {
            *flags |= NLM_F_ACK;
        }
        let edge = |kind| (Message::edge_of_a_batch(kind), 0);
        [edge(BATCH_BEGIN)].into_iter().chain(self.0).chain([edge(BATCH_END)]).collect()
    }
}

/// A connection to the rules of a namespace. Every call blocks.
pub struct Nftables {
    channel: Channel,
}

impl Nftables {
    /// Opens a connection in the namespace of the calling thread.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { channel: Channel::open(NETLINK_NETFILTER)? })
    }

    /// The name of the link whose frames pass a chain, empty where it hangs on none; `None` where
    /// there is no such chain.
    pub fn link_of(&mut self, chain: &str) -> Result<Option<Vec<u8>>, KernelError> {
        let mut link = None;
        let asked = Message::new(GETCHAIN, named_chain(chain));
        let told = self.channel.exchange(asked, NLM_F_ACK, |message| {
            link = Some(hook_device(message.payload).unwrap_or_default());
        });
        match told {
            Err(why) if why.errno == libc::ENOENT => Ok(None),
            told => told.map(|_| link),
        }
    }

    /// The comments of the rules of a chain, in their order.
    pub fn comments(&mut self, chain: &str) -> Result<Vec<String>, KernelError> {
        let mut comments = Vec::new();
        let attributes = vec![text(RULE_TABLE, TABLE), text(RULE_CHAIN, chain)];
        let told =
            self.channel.exchange(Message::new(GETRULE, attributes), NLM_F_DUMP, |message| {
                comments.push(comment(message.payload).unwrap_or_default());
            });
        match told {
            Err(why) if why.errno == libc::ENOENT => Ok(Vec::new()),
            told => told.map(|_| comments),
        }
    }

    /// Makes changes, all or none.
    pub fn commit(&mut self, batch: Batch) -> Result<(), KernelError> {
        self.channel.exchange_all(batch.into_messages(), |_| ()).map(drop)
    }

    /// Deletes the table, unless it has chains.
    pub fn delete_empty_table(&mut self) -> Result<(), KernelError> {
        let mut batch = Batch::default();
        batch.delete_empty_table();
        match self.commit(batch) {
            Err(why) if matches!(why.errno, libc::EBUSY | libc::ENOENT) => Ok(()),
            done => done,
        }
    }
}

fn named_chain(chain: &str) -> Vec<DefaultNla> {
    vec![text(CHAIN_TABLE, TABLE), text(CHAIN_NAME, chain)]
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// Numbers travel with their highest byte first, unlike everywhere else.
fn long(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

fn expressions_of(condition: &Condition) -> Vec<DefaultNla> {
    match condition {
        Condition::LeavesElsewhere(ifindex) => {
            vec![load_meta(META_OIF), compare(DIFFERENT, &ifindex.to_ne_bytes())]
        }
        Condition::Has(len) => vec![load(0, *len)],
        Condition::Is(at, bytes) => vec![load_for(*at, bytes), compare(EQUAL, bytes)],
        Condition::IsNot(at, bytes) => vec![load_for(*at, bytes), compare(DIFFERENT, bytes)],
        Condition::IsMasked(at, bytes, mask) => {
            vec![load_for(*at, bytes), masked(mask), compare(EQUAL, bytes)]
        }
    }
}

fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nested(LIST_ELEM, &[text(EXPR_NAME, name), nested(EXPR_DATA, data)])
}

fn load_meta(key: u32) -> DefaultNla {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    expression("meta", &[long(DREG, REGISTER), long(KEY, key)])
}

fn load_for(at: u32, bytes: &[u8]) -> DefaultNla {
    load(at, length(bytes))
}

fn load(at: u32, len: u32) -> DefaultNla {
    const DREG: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LEN: u16 = 4;
    let data = [long(DREG, REGISTER), long(BASE, FRAME), long(OFFSET, at), long(LEN, len)];
    expression("payload", &data)
}

fn masked(mask: &[u8]) -> DefaultNla {
    const SREG: u16 = 1;
    const DREG: u16 = 2;
    const LEN: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    let value = |kind, bytes: &[u8]| nested(kind, &[DefaultNla::new(DATA_VALUE, bytes.to_vec())]);
    let nothing = vec![0; mask.len()];
    let data = [
        long(SREG, REGISTER),
        long(DREG, REGISTER),
        long(LEN, length(mask)),
        value(MASK, mask),
        value(XOR, &nothing),
    ];
    expression("bitwise", &data)
}

fn compare(how: u32, bytes: &[u8]) -> DefaultNla {
    const SREG: u16 = 1;
    const OP: u16 = 2;
    const DATA: u16 = 3;
    let value = nested(DATA, &[DefaultNla::new(DATA_VALUE, bytes.to_vec())]);
    expression("cmp", &[long(SREG, REGISTER), long(OP, how), value])
}

fn verdict_expression(verdict: &Verdict) -> DefaultNla {
    const DREG: u16 = 1;
    const DATA: u16 = 2;
    const VERDICT_REGISTER: u32 = 0;
    const DROP: i32 = 0;
    const ACCEPT: i32 = 1;
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    let (code, chain) = match verdict {
        Verdict::Drop => (DROP, None),
        Verdict::Accept => (ACCEPT, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
    };
    let mut told = vec![long(VERDICT_CODE, code.cast_unsigned())];
    told.extend(chain.map(|chain| text(VERDICT_CHAIN, chain)));
    let data = nested(DATA, &[nested(DATA_VERDICT, &told)]);
    expression("immediate", &[long(DREG, VERDICT_REGISTER), data])
}

/// No condition and no comment is as long as the bound.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn user_data(comment: &str) -> Vec<u8> {
    let len = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, len], comment.as_bytes(), &[0]].concat()
}

/// Takes bytes for an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn take_for_an_answer(told: &[u8]) {
    hook_device(told);
    comment(told);
}

fn find(told: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(told).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn hook_device(payload: &[u8]) -> Option<Vec<u8>> {
    let hook = find(payload.get(HEADER_LEN..)?, CHAIN_HOOK)?;
    find(hook, HOOK_DEV).map(|name| string(name).to_vec())
}

fn comment(payload: &[u8]) -> Option<String> {
    let user_data = find(payload.get(HEADER_LEN..)?, RULE_USERDATA)?;
    match user_data {
        [COMMENT, _, comment @ ..] => Some(String::from_utf8_lossy(string(comment)).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a message of these attributes says, behind its header.
    fn payload(attributes: Vec<DefaultNla>) -> Vec<u8> {
        let message = Message::new(GETRULE, attributes);
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        let told = payload(vec![DefaultNla::new(RULE_USERDATA, user_data("10.0.0.0/8"))]);
        assert_eq!(comment(&told), Some("10.0.0.0/8".to_owned()));
    }

    #[test]
    fn rules_and_chains_of_others_say_nothing() {
        let of_others = payload(vec![DefaultNla::new(RULE_USERDATA, vec![7, 1, 0])]);
        assert_eq!((comment(&of_others), hook_device(&of_others)), (None, None));
        assert_eq!((comment(&[]), hook_device(&[5])), (None, None));
    }
}
