//! Every command of the door: its number, what it takes and what it answers.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::CodecError;
use crate::{LinkClass, LinkId, LinkInfo, LinkName, LinkRef, Seq, ZoneName};

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
    32 "rename" Rename -> Changed;
    33 "delete-phys" DeletePhys -> Changed;
    48 "hold" Hold -> HoldId;
    49 "release" Release -> Released;
    64 "subscribe" Subscribe -> Subscribed;
    65 "unsubscribe" Unsubscribe -> Unsubscribed;
    80 "export" Export -> Exported;
    81 "import" Import -> Changed;
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
