//! What is on the bus: every interface with its methods, properties and signals, in one table from
//! which calls are checked and the introspection data is written.

use crate::auth::Action;

/// The bus name.
pub const BUS_NAME: &str = "org.dlmgmt1";

/// A value with a name: an argument of a method or of a signal.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// Its D-Bus signature.
    pub signature: &'static str,
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static [Arg],
    /// What it gives.
    pub gives: &'static [Arg],
    /// What it may need permission for; `needs` tells which of several actions of polkit a call does.
    pub needs: &'static [Action],
    /// What it does.
    pub doc: &'static str,
}

/// How a change of a property is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emits {
    /// With the new value.
    Value,
    /// It never changes.
    Const,
    /// Not at all.
    Nothing,
}

/// A property. None can be written but those of `LogControl1`.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// Its D-Bus signature.
    pub signature: &'static str,
    /// How its change is told.
    pub emits: Emits,
    /// Whether it can be set.
    pub is_writable: bool,
    /// What it is; for what is absent, a number is 0 and a text is empty.
    pub doc: &'static str,
}

/// A signal.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub args: &'static [Arg],
    /// When it is sent.
    pub doc: &'static str,
}

/// An interface.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
    /// Its properties.
    pub properties: &'static [Property],
    /// Its signals.
    pub signals: &'static [Signal],
}

impl Interface {
    /// The method of that name.
    pub fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.name == name)
    }
}

const fn arg(name: &'static str, signature: &'static str) -> Arg {
    Arg { name, signature }
}

const fn value(name: &'static str, signature: &'static str, doc: &'static str) -> Property {
    Property { name, signature, emits: Emits::Value, is_writable: false, doc }
}

const fn constant(name: &'static str, signature: &'static str, doc: &'static str) -> Property {
    Property { name, signature, emits: Emits::Const, is_writable: false, doc }
}

const LINK: Arg = arg("link", "s");
const OPTIONS: Arg = arg("options", "a{sv}");
const SEQ: Arg = arg("seq", "t");

/// `org.dlmgmt1.Manager`
pub const MANAGER: Interface = Interface {
    name: "org.dlmgmt1.Manager",
    doc: "The registry of links. A link is given as NAME, ZONE/NAME or @LINKID. `seq` is the number \
          of the commit that shows the change.",
    methods: &[
        Method {
            name: "GetLink",
            takes: &[LINK],
            gives: &[arg("path", "o")],
            needs: &[Action::See],
            doc: "The object of a link.",
        },
        Method {
            name: "GetZone",
            takes: &[arg("zone", "s")],
            gives: &[arg("path", "o")],
            needs: &[Action::See],
            doc: "The object of a zone.",
        },
        Method {
            name: "ListLinks",
            takes: &[OPTIONS],
            gives: &[SEQ, arg("links", "a(oa{sv})")],
            needs: &[Action::See],
            doc: "The links of one moment with their properties. Options: view (s: active, \
                  persistent or all), classes (as), zone (s), all-zones (b), after (u: a linkid), \
                  max (u: how many).",
        },
        Method {
            name: "GetDetails",
            takes: &[arg("linkids", "au"), arg("topics", "as")],
            gives: &[arg("details", "a(ua{sv})")],
            needs: &[Action::See],
            doc: "What the kernel has at this moment of the first of these links, 256 at most, in \
                  that order. Topics: statistics, speed, kind, port. A value is t, s or b.",
        },
        Method {
            name: "ListZones",
            takes: &[],
            gives: &[arg("zones", "a(oa{sv})")],
            needs: &[Action::See],
            doc: "The zones with their properties.",
        },
        Method {
            name: "Rename",
            takes: &[arg("renames", "a(ss)")],
            gives: &[SEQ],
            needs: &[Action::Rename],
            doc: "Gives links new names, all or none, in any permutation.",
        },
        Method {
            name: "DeletePhys",
            takes: &[LINK],
            gives: &[SEQ],
            needs: &[Action::DeletePhys],
            doc: "Ends the record of a physical link whose hardware is absent.",
        },
        Method {
            name: "SetZone",
            takes: &[LINK, arg("zone", "s"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::Lend],
            doc: "Lends a link to a zone. Options: name-inside (s), temporary (b), force (b), \
                  generation (t).",
        },
        Method {
            name: "ResetZone",
            takes: &[LINK, OPTIONS],
            gives: &[SEQ],
            needs: &[Action::Lend],
            doc: "Takes a link home. Options: temporary (b), force (b), generation (t).",
        },
        Method {
            name: "CreateLink",
            takes: &[arg("class", "s"), arg("name", "s"), OPTIONS],
            gives: &[arg("path", "o"), SEQ],
            needs: &[Action::MakeInside],
            doc: "Makes a virtual link. Options: zone (s), temporary (b), kind (s: one of the \
                  class), over (s: the link it lies over), ports (as), of a pair peer (s) and \
                  peer-zone (s), and those of its kind by the names that dladm(8) has for them.",
        },
        Method {
            name: "ChangePorts",
            takes: &[LINK, arg("add", "as"), arg("remove", "as")],
            gives: &[SEQ],
            needs: &[Action::Make],
            doc: "Makes links the ports of a bridge or an aggregation, or no ports of it any more: \
                  one of the two arrays is empty.",
        },
        Method {
            name: "DeleteLink",
            takes: &[LINK, arg("class", "s")],
            gives: &[SEQ],
            needs: &[Action::MakeInside, Action::Make],
            doc: "Ends a virtual link of that class.",
        },
        Method {
            name: "Where",
            takes: &[LINK],
            gives: &[arg("whereabouts", "a{sv}")],
            needs: &[Action::See],
            doc: "Where a link is, whoever moved it there: Path (o), OwnName (s), Zone (s), \
                  Assigned (s), Nsid (i) and Pid (i), those that apply.",
        },
        Method {
            name: "Reclaim",
            takes: &[LINK],
            gives: &[SEQ],
            needs: &[Action::Reclaim],
            doc: "Brings home a link that somebody moved away.",
        },
        Method {
            name: "ListProperties",
            takes: &[LINK, arg("names", "as")],
            gives: &[arg("properties", "a(sa{sv})")],
            needs: &[Action::See],
            doc: "Those properties of a link, as dladm show-linkprop shows them, or all without \
                  names: Writable (b), Value (s), Effective (s), Default (s) and Possible (s), \
                  those that apply.",
        },
        Method {
            name: "SetProperties",
            takes: &[LINK, arg("values", "a{ss}"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::SetProperties, Action::Lend],
            doc: "Sets properties of a link, all or none. Options: temporary (b).",
        },
        Method {
            name: "ResetProperties",
            takes: &[LINK, arg("names", "as"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::SetProperties, Action::Lend],
            doc: "Takes back what was set of those properties, or of all without names. Options: \
                  temporary (b).",
        },
        Method {
            name: "Hold",
            takes: &[LINK],
            gives: &[arg("fd", "h")],
            needs: &[Action::Hold],
            doc: "Claims a link until every copy of the descriptor is closed.",
        },
        Method {
            name: "AttachZone",
            takes: &[arg("zone", "s"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::ManageZones],
            doc: "Registers a network namespace as a zone. Options, one of them: fd (h: the \
                  namespace or a pidfd), path (s), pid (i).",
        },
        Method {
            name: "DetachZone",
            takes: &[arg("zone", "s")],
            gives: &[SEQ],
            needs: &[Action::ManageZones],
            doc: "Ends a zone: its loans come home. Its namespace may live on.",
        },
        Method {
            name: "OpenZone",
            takes: &[arg("zone", "s")],
            gives: &[arg("fd", "h")],
            needs: &[Action::ManageZones],
            doc: "The zone's network namespace.",
        },
        Method {
            name: "TakePart",
            takes: &[],
            gives: &[arg("fd", "h")],
            needs: &[Action::Participate],
            doc: "Takes part in zone ends until every copy of the descriptor is closed: each zone \
                  that ends waits a few seconds for the caller's Acknowledge. The zones that are \
                  there are told first, by ZoneReady signals to the caller.",
        },
        Method {
            name: "Acknowledge",
            takes: &[arg("zoneid", "u")],
            gives: &[],
            needs: &[Action::Participate],
            doc: "As a participant: done with that zone, which is shutting down.",
        },
        Method {
            name: "EventsSince",
            takes: &[SEQ],
            gives: &[arg("events", "a(tsa{sv})")],
            needs: &[Action::See],
            doc: "Every event after that commit: its number, its kind, and what it tells (as \
                  `dladm monitor --json`). The kind `resync` alone says that they are not kept.",
        },
        Method {
            name: "Export",
            takes: &[],
            gives: &[arg("fd", "h")],
            needs: &[Action::Export],
            doc: "The persistent registry as a file.",
        },
        Method {
            name: "Import",
            takes: &[arg("fd", "h")],
            gives: &[SEQ],
            needs: &[Action::Import],
            doc: "Brings in a registry from a regular file.",
        },
    ],
    properties: &[
        constant("Version", "s", "The daemon's version."),
        Property {
            name: "Seq",
            signature: "t",
            emits: Emits::Nothing,
            is_writable: false,
            doc: "The number of the newest commit.",
        },
    ],
    signals: &[
        Signal {
            name: "ZoneReady",
            args: &[arg("zoneid", "u"), arg("zone", "s")],
            doc: "A zone is up.",
        },
        Signal {
            name: "ZoneShuttingDown",
            args: &[arg("zoneid", "u"), arg("zone", "s")],
            doc: "A zone ends; participants are waited for.",
        },
        Signal {
            name: "ZoneGone",
            args: &[arg("zoneid", "u"), arg("zone", "s")],
            doc: "A zone has ended, and its loans are home.",
        },
        Signal {
            name: "LinkDetaching",
            args: &[arg("linkid", "u"), arg("link", "s"), arg("zone", "s")],
            doc: "A link is about to end where it is: its zone ends, or somebody deletes it.",
        },
        Signal {
            name: "HoldBroken",
            args: &[arg("linkid", "u"), arg("link", "s"), arg("zone", "s")],
            doc: "A hold ended with the zone of its link.",
        },
    ],
};

/// `org.dlmgmt1.Link`
pub const LINK_INTERFACE: Interface = Interface {
    name: "org.dlmgmt1.Link",
    doc: "A link: a network device, or the record of one that is not there now. A number that is \
          absent is 0, a text empty.",
    methods: &[
        Method {
            name: "Rename",
            takes: &[arg("name", "s")],
            gives: &[SEQ],
            needs: &[Action::Rename],
            doc: "Gives the link another name.",
        },
        Method {
            name: "SetZone",
            takes: &[arg("zone", "s"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::Lend],
            doc: "Lends the link to a zone, with the Manager's options.",
        },
        Method {
            name: "ResetZone",
            takes: &[OPTIONS],
            gives: &[SEQ],
            needs: &[Action::Lend],
            doc: "Takes the link home, with the Manager's options.",
        },
        Method {
            name: "GetDetails",
            takes: &[arg("topics", "as")],
            gives: &[arg("details", "a{sv}")],
            needs: &[Action::See],
            doc: "What the kernel has of the link at this moment, with the Manager's topics.",
        },
        Method {
            name: "Reclaim",
            takes: &[],
            gives: &[SEQ],
            needs: &[Action::Reclaim],
            doc: "Brings the link home if somebody moved it away.",
        },
        Method {
            name: "ListProperties",
            takes: &[arg("names", "as")],
            gives: &[arg("properties", "a(sa{sv})")],
            needs: &[Action::See],
            doc: "Those properties of the link, as the Manager tells them.",
        },
        Method {
            name: "SetProperties",
            takes: &[arg("values", "a{ss}"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::SetProperties, Action::Lend],
            doc: "Sets properties of the link, all or none, with the Manager's options.",
        },
        Method {
            name: "ResetProperties",
            takes: &[arg("names", "as"), OPTIONS],
            gives: &[SEQ],
            needs: &[Action::SetProperties, Action::Lend],
            doc: "Takes back what was set, with the Manager's options.",
        },
        Method {
            name: "Hold",
            takes: &[],
            gives: &[arg("fd", "h")],
            needs: &[Action::Hold],
            doc: "Claims the link until every copy of the descriptor is closed.",
        },
        Method {
            name: "Delete",
            takes: &[],
            gives: &[SEQ],
            needs: &[Action::MakeInside, Action::Make, Action::DeletePhys],
            doc: "Ends a virtual link, or the record of absent hardware.",
        },
    ],
    properties: &[
        constant("Id", "u", "The linkid, which is for ever."),
        value("Name", "s", "The name in the zone where the link is."),
        constant("Class", "s", "phys, vlan, aggr, vnic, etherstub, bridge, iptun, overlay, ..."),
        value("Kind", "s", "The kernel's link type; empty for hardware."),
        value("Media", "s", "Ethernet, WiFi, Infiniband, ..."),
        value("Flags", "as", "active, persistent, transient, removed, held, foreign, conflict."),
        value("State", "s", "up, down or unknown."),
        value("Mtu", "u", "Largest packet in bytes."),
        value("IfIndex", "u", "The kernel's index in the zone where the link is."),
        value("Zone", "s", "The zone where it is."),
        value("Owner", "s", "The zone where it was created."),
        value("Mac", "s", "Its present address."),
        value("PermanentMac", "s", "A physical link's permanent address."),
        value("Path", "s", "A physical link's place on its bus."),
        value("Device", "s", "The kernel's name for the device now, or its last one."),
        value("Over", "as", "The links it lies over; those of other zones as ZONE/NAME."),
        value("Speed", "u", "Megabits per second."),
        value("Duplex", "s", "full or half."),
        value("Generation", "t", "Raised at each loan and return."),
    ],
    signals: &[],
};

/// `org.dlmgmt1.Zone`
pub const ZONE_INTERFACE: Interface = Interface {
    name: "org.dlmgmt1.Zone",
    doc: "A zone: a network namespace under a name.",
    methods: &[
        Method {
            name: "Detach",
            takes: &[],
            gives: &[SEQ],
            needs: &[Action::ManageZones],
            doc: "Ends the zone: its loans come home.",
        },
        Method {
            name: "Open",
            takes: &[],
            gives: &[arg("fd", "h")],
            needs: &[Action::ManageZones],
            doc: "The network namespace.",
        },
    ],
    properties: &[
        constant("Id", "u", "The zoneid, stable for the name."),
        constant("Name", "s", "The name."),
        value("State", "s", "ready, shutting-down or down."),
        Property {
            name: "Links",
            signature: "u",
            emits: Emits::Nothing,
            is_writable: false,
            doc: "How many links are in it, the loopback not counted.",
        },
        value("Pid", "i", "The process whose namespace it is, where it was registered by one."),
        value("Netns", "s", "Where its namespace can be opened."),
    ],
    signals: &[],
};

/// The interfaces that are the daemon's own, and not of freedesktop.org.
pub const OURS: [&Interface; 3] = [&MANAGER, &LINK_INTERFACE, &ZONE_INTERFACE];

/// `org.freedesktop.LogControl1`
pub const LOG_CONTROL: Interface = Interface {
    name: "org.freedesktop.LogControl1",
    doc: "What the daemon logs, as `systemctl service-log-level` asks and sets it.",
    methods: &[],
    properties: &[
        Property {
            name: "LogLevel",
            signature: "s",
            emits: Emits::Nothing,
            is_writable: true,
            doc: "emerg, alert, crit, err, warning, notice, info or debug.",
        },
        Property {
            name: "LogTarget",
            signature: "s",
            emits: Emits::Nothing,
            is_writable: false,
            doc: "journal or console.",
        },
        constant("SyslogIdentifier", "s", "The name under which it logs."),
    ],
    signals: &[],
};

/// `org.freedesktop.DBus.Properties`
pub const PROPERTIES: Interface = Interface {
    name: "org.freedesktop.DBus.Properties",
    doc: "Properties of the object.",
    methods: &[
        standard("Get", &[arg("interface", "s"), arg("property", "s")], &[arg("value", "v")]),
        standard("GetAll", &[arg("interface", "s")], &[arg("properties", "a{sv}")]),
        standard("Set", &[arg("interface", "s"), arg("property", "s"), arg("value", "v")], &[]),
    ],
    properties: &[],
    signals: &[Signal {
        name: "PropertiesChanged",
        args: &[arg("interface", "s"), arg("changed", "a{sv}"), arg("invalidated", "as")],
        doc: "Properties have new values.",
    }],
};

/// `org.freedesktop.DBus.Introspectable`
pub const INTROSPECTABLE: Interface = Interface {
    name: "org.freedesktop.DBus.Introspectable",
    doc: "What the object offers.",
    methods: &[standard("Introspect", &[], &[arg("xml", "s")])],
    properties: &[],
    signals: &[],
};

/// `org.freedesktop.DBus.Peer`
pub const PEER: Interface = Interface {
    name: "org.freedesktop.DBus.Peer",
    doc: "Whether somebody is there.",
    methods: &[standard("Ping", &[], &[]), standard("GetMachineId", &[], &[arg("id", "s")])],
    properties: &[],
    signals: &[],
};

/// `org.freedesktop.DBus.ObjectManager`
pub const OBJECT_MANAGER: Interface = Interface {
    name: "org.freedesktop.DBus.ObjectManager",
    doc: "All links and zones with their properties.",
    methods: &[standard("GetManagedObjects", &[], &[arg("objects", "a{oa{sa{sv}}}")])],
    properties: &[],
    signals: &[
        Signal {
            name: "InterfacesAdded",
            args: &[arg("object", "o"), arg("interfaces", "a{sa{sv}}")],
            doc: "A link or zone became known.",
        },
        Signal {
            name: "InterfacesRemoved",
            args: &[arg("object", "o"), arg("interfaces", "as")],
            doc: "A link or zone is no more.",
        },
    ],
};

const fn standard(name: &'static str, takes: &'static [Arg], gives: &'static [Arg]) -> Method {
    Method { name, takes, gives, needs: &[], doc: "" }
}
