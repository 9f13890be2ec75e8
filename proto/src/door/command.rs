//! Every command of the door: its number, what it takes and what it answers.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::CodecError;
use crate::property::{Assignment, PropertyInfo};
use crate::{
    Generation, LinkClass, LinkDetails, LinkId, LinkInfo, LinkName, LinkRef, LinkSpec, Seq, Topic,
    Whereabouts, ZoneId, ZoneInfo, ZoneName,
};

/// One command: the type is what it takes.
pub trait Command: Serialize + DeserializeOwned {
    /// Its number on the wire.
    const NUMBER: u16;
    /// Its name in messages and in `docs/door.md`.
    const NAME: &'static str;
    /// What it answers.
    type Reply: Serialize + DeserializeOwned;
}

/// Declares every command once; the numbers are for ever.
macro_rules! commands {
    ($($number:literal $name:literal $call:ident -> $reply:ty;)+) => {
        $(impl Command for $call {
            const NUMBER: u16 = $number;
            const NAME: &'static str = $name;
            type Reply = $reply;
        })+

        /// A call of any command, as the daemon reads it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Call {
            $(#[doc = concat!("`", $name, "`")] $call($call),)+
        }

        impl Call {
            /// Reads the body of a call.
            pub fn decode(command: u16, body: &[u8]) -> Result<Self, CodecError> {
                match command {
                    $($number => Ok(Self::$call(super::decode_body(command, body)?)),)+
                    other => Err(CodecError::UnknownCommand(other)),
                }
            }

            /// The command's number.
            pub fn number(&self) -> u16 {
                match self { $(Self::$call(_) => $number,)+ }
            }
        }

        $(impl From<$call> for Call {
            fn from(call: $call) -> Self {
                Self::$call(call)
            }
        })+

        /// The name of a command's number.
        pub(super) fn name_of(number: u16) -> &'static str {
            match number { $($number => $name,)+ _ => "unknown command" }
        }
    };
}

commands! {
    1 "hello" Hello -> HelloReply;
    16 "get-linkid" GetLinkId -> LinkId;
    17 "get-name" GetName -> Named;
    18 "get-link" GetLink -> LinkInfo;
    19 "get-next" GetNext -> NextLink;
    20 "get-attribute" GetAttribute -> String;
    21 "list" List -> Page;
    22 "get-details" GetDetails -> Details;
    32 "rename" Rename -> Changed;
    33 "delete-phys" DeletePhys -> Changed;
    34 "set-zone" SetZone -> Changed;
    35 "reset-zone" ResetZone -> Changed;
    36 "create-link" CreateLink -> Created;
    37 "delete-link" DeleteLink -> Changed;
    38 "reclaim" Reclaim -> Changed;
    39 "where" Where -> Whereabouts;
    40 "make-link" MakeLink -> Created;
    41 "change-ports" ChangePorts -> Changed;
    48 "hold" Hold -> HoldId;
    49 "release" Release -> Released;
    64 "subscribe" Subscribe -> Subscribed;
    65 "unsubscribe" Unsubscribe -> Unsubscribed;
    66 "acknowledge" Acknowledge -> Acknowledged;
    80 "export" Export -> Exported;
    81 "import" Import -> Changed;
    96 "list-zones" ListZones -> Zones;
    97 "attach-zone" AttachZone -> Changed;
    98 "detach-zone" DetachZone -> Changed;
    112 "list-properties" ListProperties -> Properties;
    113 "set-properties" SetProperties -> Changed;
    114 "reset-properties" ResetProperties -> Changed;
}

/// The first call on a connection: the versions that the client speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version that the client speaks.
    pub oldest: u16,
    /// The newest version that the client speaks.
    pub newest: u16,
    /// The program, for the daemon's log and for messages about its holds.
    pub client: String,
}

/// The version agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The newest version that both speak.
    pub version: u16,
    /// The daemon's version.
    pub daemon: String,
    /// The caller's zone, where it has one.
    pub zone: Option<ZoneName>,
    /// The newest commit.
    pub seq: Seq,
}

/// The linkid of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLinkId {
    /// Which link.
    pub link: LinkRef,
}

/// The name of a linkid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetName {
    /// Which link.
    pub id: LinkId,
}

/// A link's name and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The zone where the link is.
    pub zone: ZoneName,
    /// Its name there.
    pub name: LinkName,
}

/// All that is known of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLink {
    /// Which link.
    pub link: LinkRef,
}

/// The link with the next higher linkid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNext {
    /// The linkid before; `None` for the first link.
    pub after: Option<LinkId>,
    /// Which links count.
    pub filter: LinkFilter,
}

/// The next link, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextLink {
    /// The link.
    pub link: Option<LinkInfo>,
}

/// One attribute of a link as text: any field of `show-link` or `show-phys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAttribute {
    /// Which link.
    pub link: LinkRef,
    /// The attribute's name.
    pub attribute: String,
}

/// Which records of a link count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// Links that the kernel has now.
    #[default]
    Active,
    /// Links that survive a reboot, there or not.
    Persistent,
    /// Both.
    All,
}

/// Which links a list is to hold. The loopback device is in no list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFilter {
    /// Which records count.
    pub view: View,
    /// The classes; none named means all.
    pub classes: Vec<LinkClass>,
    /// The zone; `None` for the caller's own.
    pub zone: Option<ZoneName>,
    /// Every zone that the caller may see; `zone` is then not looked at.
    pub all_zones: bool,
}

impl LinkFilter {
    /// Every record of every zone that the caller may see.
    pub fn everything() -> Self {
        Self { view: View::All, all_zones: true, ..Self::default() }
    }
}

/// A page of the links of one moment, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Which links.
    pub filter: LinkFilter,
    /// Where the last page ended; `None` begins a list of the present moment.
    pub cursor: Option<ListCursor>,
}

/// Where in which list a page ended. A connection keeps one list at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCursor {
    /// The moment that the list shows.
    pub seq: Seq,
    /// The last link that was told.
    pub after: LinkId,
}

/// Some links of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The moment that the list shows.
    pub seq: Seq,
    /// The links.
    pub links: Vec<LinkInfo>,
    /// What to ask with for the next page; `None` after the last one.
    pub next: Option<ListCursor>,
}

/// Asks the kernel about links: what the registry does not keep of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDetails {
    /// Which links.
    pub links: Vec<LinkId>,
    /// What of them.
    pub topics: Vec<Topic>,
}

/// What the kernel has at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The first of the links that were asked for, in that order: as many as fit in a packet, and
    /// one at least. Ask for the others again.
    pub links: Vec<LinkDetails>,
}

/// Renames links: all of them or none, in any permutation of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// Each link and its new name.
    pub items: Vec<RenameItem>,
}

/// One link of a rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameItem {
    /// Which link.
    pub link: LinkRef,
    /// The name asked for, as the user typed it: the daemon checks it.
    pub to: String,
}

/// What a change answers: the commit that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The newest commit at the time of the answer.
    pub seq: Seq,
}

/// Ends the record of a physical link whose hardware is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePhys {
    /// Which link.
    pub link: LinkRef,
}

/// Claims a link until released, or until the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which link.
    pub link: LinkRef,
}

/// A hold of this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HoldId(pub u64);

/// Ends a hold of this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Which hold.
    pub hold: HoldId,
}

/// The hold has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {}

/// Asks to be told of changes. Events carry the serial of this call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Tell the present state first.
    pub snapshot: bool,
    /// Tell all events after this one; not together with `snapshot`.
    pub since: Option<Seq>,
    /// Take part in zone ends: the existing zones are told first, and each zone that ends waits,
    /// for a bounded time, for this subscriber's `acknowledge`.
    pub participant: bool,
}

/// Events follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The newest commit at the time of the answer.
    pub seq: Seq,
}

/// Ends a subscription of this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The serial of the `subscribe` call.
    pub serial: u64,
}

/// No event of that subscription follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribed {}

/// Asks for the persistent registry as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {}

/// The export travels as a file descriptor, opened at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Bytes in the file.
    pub len: u64,
}

/// Brings in a registry from a regular file, whose descriptor travels with the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {}

/// Lends a link to a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetZone {
    /// Which link.
    pub link: LinkRef,
    /// Where it is to go, now or whenever that zone is up.
    pub zone: ZoneName,
    /// Its name there, as the user typed it; `None` for its own.
    pub name_inside: Option<String>,
    /// Only until the zone ends.
    pub temporary: bool,
    /// Also if the link has addresses or other links lie over it.
    pub force: bool,
    /// The generation that the caller knows; another one is `stale`.
    pub generation: Option<Generation>,
}

/// Takes a lent link home, and ends its assignment to the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetZone {
    /// Which link.
    pub link: LinkRef,
    /// Leave a persistent assignment as it is: the link goes back when the zone comes up anew.
    pub temporary: bool,
    /// Also if the link has addresses or other links lie over it.
    pub force: bool,
    /// The generation that the caller knows; another one is `stale`.
    pub generation: Option<Generation>,
}

/// Makes a veth pair or a macvlan: what [`MakeLink`] does for every kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateLink {
    /// Its name, as the user typed it.
    pub name: String,
    /// The zone in which it is made; `None` for the caller's own.
    pub zone: Option<ZoneName>,
    /// Not persistent: it ends with its zone, or with this boot.
    pub temporary: bool,
    /// What it is.
    pub spec: LinkSpec,
}

/// Makes a virtual link of any kind that [`crate::kind::KINDS`] has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeLink {
    /// Its name, as the user typed it.
    pub name: String,
    /// The zone in which it is made; `None` for the caller's own.
    pub zone: Option<ZoneName>,
    /// Not persistent: it ends with its zone, or with this boot.
    pub temporary: bool,
    /// Its kind.
    pub kind: String,
    /// The link it lies over.
    pub over: Option<LinkRef>,
    /// The other end, of a pair.
    pub peer: Option<Peer>,
    /// The links that become its ports.
    pub ports: Vec<LinkRef>,
    /// The options of its kind, as the user typed them.
    pub options: Vec<LinkOption>,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, as the user typed it.
    pub name: String,
    /// Its zone; `None` for the caller's own.
    pub zone: Option<ZoneName>,
}

/// An option with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOption {
    /// The option's name.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

impl LinkOption {
    /// Gives an option a value.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }
}

impl From<CreateLink> for MakeLink {
    fn from(call: CreateLink) -> Self {
        let CreateLink { name, zone, temporary, spec } = call;
        let bare = Self { name, zone, temporary, ..Self::default() };
        match spec {
            LinkSpec::Veth { peer, peer_zone } => Self {
                kind: "veth".to_owned(),
                peer: Some(Peer { name: peer, zone: peer_zone }),
                ..bare
            },
            LinkSpec::Vnic { over, mac, mode } => Self {
                kind: "macvlan".to_owned(),
                over: Some(over),
                options: mac
                    .map(|mac| LinkOption::new("mac", mac))
                    .into_iter()
                    .chain([LinkOption::new("mode", mode.as_str())])
                    .collect(),
                ..bare
            },
        }
    }
}

/// Makes links the ports of another one, or no ports of it any more: one of the two lists is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePorts {
    /// The bridge or the aggregation.
    pub link: LinkRef,
    /// What it must be; anything else is `invalid`.
    pub class: LinkClass,
    /// Links that become its ports.
    pub add: Vec<LinkRef>,
    /// Links that are its ports no more.
    pub remove: Vec<LinkRef>,
}

/// The link that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its linkid.
    pub id: LinkId,
    /// The other end's, of a pair.
    pub peer: Option<LinkId>,
    /// The commit that shows it.
    pub seq: Seq,
}

/// Ends a virtual link and its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteLink {
    /// Which link.
    pub link: LinkRef,
    /// What it must be; anything else is `invalid`.
    pub class: LinkClass,
}

/// Asks where a link is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Where {
    /// Which link.
    pub link: LinkRef,
}

/// Brings a link home that somebody moved away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// Which link.
    pub link: LinkRef,
}

/// A participant is done with a zone that is shutting down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The serial of the `subscribe` call.
    pub serial: u64,
    /// The zone that ends.
    pub zone: ZoneId,
}

/// It is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {}

/// Asks for the zones that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListZones {
    /// The first zone has a higher number than this; `None` begins at `global`.
    pub after: Option<ZoneId>,
}

/// Zones in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zones {
    /// The zones.
    pub zones: Vec<ZoneInfo>,
    /// What to ask with for more; `None` after the last.
    pub next: Option<ZoneId>,
}

/// Registers a zone. Its namespace is the descriptor that travels with the call: an open network
/// namespace or a pidfd; or it is the one of the process `pid`, or what lies at `path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachZone {
    /// Its name.
    pub zone: ZoneName,
    /// The process whose namespace it is, in the daemon's pid namespace.
    pub pid: Option<i32>,
    /// Where its namespace can be opened.
    pub path: Option<String>,
}

/// Ends a zone: its loans come home. Its namespace may live on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachZone {
    /// Which zone.
    pub zone: ZoneName,
}

/// Asks for the properties of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListProperties {
    /// Which link.
    pub link: LinkRef,
    /// The properties, as the user typed them; none named means all that the link has.
    pub names: Vec<String>,
}

/// Properties of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// The properties, in the order asked for.
    pub properties: Vec<PropertyInfo>,
}

/// Sets properties of a link: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetProperties {
    /// Which link.
    pub link: LinkRef,
    /// The properties with their values.
    pub values: Vec<Assignment>,
    /// Only while the link lasts, at most until the next reboot.
    pub temporary: bool,
}

/// Takes back what was set: all of it or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetProperties {
    /// Which link.
    pub link: LinkRef,
    /// The properties, as the user typed them; none named means all that were set.
    pub names: Vec<String>,
    /// Only while the link lasts, at most until the next reboot.
    pub temporary: bool,
}
