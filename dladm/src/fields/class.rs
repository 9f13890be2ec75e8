//! The fields of what is shown of links of one class, and of ports.

use std::borrow::Cow;

use super::{Field, Value, lower_name};
use crate::details::{Detailed, PortRow};

const LINK: Field<Detailed> = Field { name: "link", value: |row| Value::name(&row.link.name) };
const OVER: Field<Detailed> = Field {
    name: "over",
    value: |row| Value::List(row.link.over.iter().map(lower_name).collect()),
};
const FLAGS: Field<Detailed> = Field {
    name: "flags",
    value: |row| Value::List(row.link.flags.words().into_iter().map(Cow::Borrowed).collect()),
};
const STATE: Field<Detailed> =
    Field { name: "state", value: |row| Value::word(row.link.state.as_str()) };
const MTU: Field<Detailed> = Field { name: "mtu", value: |row| Value::number(row.link.mtu) };
const MAC: Field<Detailed> =
    Field { name: "macaddress", value: |row| Value::mac(row.link.mac.as_ref()) };
const ZONE: Field<Detailed> =
    Field { name: "zone", value: |row| Value::word(row.link.zone.as_str()) };
const TYPE: Field<Detailed> = Field { name: "type", value: |row| row.fact("type") };
const LOCAL: Field<Detailed> = Field { name: "local", value: |row| row.fact("local") };
const REMOTE: Field<Detailed> = Field { name: "remote", value: |row| row.fact("remote") };
const TTL: Field<Detailed> = Field { name: "ttl", value: |row| row.fact("ttl") };
const TOS: Field<Detailed> = Field { name: "tos", value: |row| row.fact("tos") };
const MODE: Field<Detailed> = Field { name: "mode", value: |row| row.fact("mode") };

/// The fields of `show-vnic`.
pub const VNIC_FIELDS: &[Field<Detailed>] = &[
    LINK,
    OVER,
    Field { name: "speed", value: |row| row.fact("speed") },
    MAC,
    TYPE,
    MODE,
    Field { name: "isolation", value: |row| row.fact("isolation") },
    MTU,
    STATE,
    FLAGS,
    ZONE,
];

/// The fields of `show-vlan`.
pub const VLAN_FIELDS: &[Field<Detailed>] = &[
    LINK,
    Field { name: "vid", value: |row| row.fact("vid") },
    OVER,
    FLAGS,
    Field { name: "protocol", value: |row| row.fact("protocol") },
    MAC,
    MTU,
    STATE,
    ZONE,
];

/// The fields of `show-etherstub`.
pub const ETHERSTUB_FIELDS: &[Field<Detailed>] = &[LINK, MAC, MTU, STATE, FLAGS, ZONE];

/// The fields of `show-iptun`.
pub const IPTUN_FIELDS: &[Field<Detailed>] = &[
    LINK,
    TYPE,
    FLAGS,
    LOCAL,
    REMOTE,
    OVER,
    Field { name: "key", value: |row| row.fact("key") },
    TTL,
    TOS,
    Field { name: "carries", value: |row| row.fact("carries") },
    Field { name: "encap-limit", value: |row| row.fact("encap-limit") },
    MTU,
    STATE,
    ZONE,
];

/// The fields of `show-overlay`.
pub const OVERLAY_FIELDS: &[Field<Detailed>] = &[
    LINK,
    TYPE,
    Field { name: "vni", value: |row| row.fact("vni") },
    OVER,
    LOCAL,
    REMOTE,
    Field { name: "group", value: |row| row.fact("group") },
    Field { name: "port", value: |row| row.fact("port") },
    TTL,
    TOS,
    Field { name: "learning", value: |row| row.fact("learning") },
    Field { name: "ageing", value: |row| row.fact("ageing") },
    Field { name: "limit", value: |row| row.fact("limit") },
    MAC,
    MTU,
    STATE,
    FLAGS,
    ZONE,
];

/// The fields of `show-aggr`.
pub const AGGR_FIELDS: &[Field<Detailed>] = &[
    LINK,
    MODE,
    Field { name: "policy", value: |row| row.fact("policy") },
    Field { name: "lacpactivity", value: |row| row.fact("lacp") },
    Field { name: "lacptimer", value: |row| row.fact("lacp-time") },
    FLAGS,
    OVER,
    Field { name: "active", value: |row| row.fact("active") },
    Field { name: "aggregator", value: |row| row.fact("aggregator") },
    Field { name: "partner", value: |row| row.fact("partner") },
    Field { name: "miimon", value: |row| row.fact("miimon") },
    Field { name: "updelay", value: |row| row.fact("updelay") },
    Field { name: "downdelay", value: |row| row.fact("downdelay") },
    Field { name: "min-links", value: |row| row.fact("min-links") },
    MAC,
    MTU,
    STATE,
    ZONE,
];

/// The fields of `show-bridge`.
pub const BRIDGE_FIELDS: &[Field<Detailed>] = &[
    Field { name: "bridge", ..LINK },
    Field { name: "protect", value: |row| row.fact("protect") },
    Field { name: "address", ..MAC },
    Field { name: "priority", value: |row| row.fact("priority") },
    Field { name: "desroot", value: |row| row.fact("desroot") },
    Field { name: "rootcost", value: |row| row.fact("rootcost") },
    Field { name: "rootport", value: |row| row.fact("rootport") },
    Field { name: "tchange", value: |row| row.fact("tchange") },
    Field { name: "maxage", value: |row| row.fact("max-age") },
    Field { name: "hellotime", value: |row| row.fact("hello-time") },
    Field { name: "fwddelay", value: |row| row.fact("forward-delay") },
    Field { name: "ageing", value: |row| row.fact("ageing-time") },
    Field { name: "vlan-filtering", value: |row| row.fact("vlan-filtering") },
    Field { name: "vlan-protocol", value: |row| row.fact("vlan-protocol") },
    Field { name: "default-pvid", value: |row| row.fact("default-pvid") },
    Field { name: "mcast-snooping", value: |row| row.fact("mcast-snooping") },
    OVER,
    MTU,
    STATE,
    FLAGS,
    ZONE,
];

const OF: Field<PortRow> = Field { name: "link", value: |row| Value::name(&row.of.name) };
const PORT: Field<PortRow> = Field {
    name: "port",
    value: |row| match row.is_port() {
        true => Value::name(&row.shown.link.name),
        false => Value::Absent,
    },
};
const PORT_ZONE: Field<PortRow> =
    Field { name: "zone", value: |row| Value::word(row.of.zone.as_str()) };
const PORT_AGGREGATOR: Field<PortRow> =
    Field { name: "aggregator", value: |row| row.shown.fact("aggregator") };

/// The fields of `show-aggr -x`.
pub const AGGR_PORT_FIELDS: &[Field<PortRow>] = &[
    OF,
    PORT,
    Field { name: "speed", value: |row| row.shown.fact("speed") },
    Field { name: "duplex", value: |row| row.shown.fact("duplex") },
    Field { name: "state", value: |row| Value::word(row.shown.link.state.as_str()) },
    Field { name: "address", value: |row| Value::mac(row.shown.link.mac.as_ref()) },
    Field { name: "portstate", value: |row| row.shown.fact("portstate") },
    Field { name: "carrier", value: |row| row.shown.fact("carrier") },
    Field { name: "failures", value: |row| row.shown.fact("failures") },
    Field { name: "permanent", value: |row| row.shown.fact("permanent") },
    PORT_AGGREGATOR,
    PORT_ZONE,
];

/// The fields of `show-aggr -L`.
pub const LACP_FIELDS: &[Field<PortRow>] = &[
    OF,
    PORT,
    Field { name: "aggregatable", value: |row| row.shown.fact("aggregatable") },
    Field { name: "sync", value: |row| row.shown.fact("sync") },
    Field { name: "coll", value: |row| row.shown.fact("coll") },
    Field { name: "dist", value: |row| row.shown.fact("dist") },
    Field { name: "defaulted", value: |row| row.shown.fact("defaulted") },
    Field { name: "expired", value: |row| row.shown.fact("expired") },
    Field { name: "partner-sync", value: |row| row.shown.fact("partner-sync") },
    Field { name: "partner-coll", value: |row| row.shown.fact("partner-coll") },
    Field { name: "partner-dist", value: |row| row.shown.fact("partner-dist") },
    PORT_AGGREGATOR,
    PORT_ZONE,
];

/// The fields of `show-bridge -l`.
pub const BRIDGE_PORT_FIELDS: &[Field<PortRow>] = &[
    Field { name: "link", value: |row| Value::name(&row.shown.link.name) },
    Field { name: "bridge", ..OF },
    Field { name: "state", value: |row| row.shown.fact("state") },
    Field { name: "opercost", value: |row| row.shown.fact("opercost") },
    Field { name: "desroot", value: |row| row.shown.fact("desroot") },
    Field { name: "index", value: |row| row.shown.fact("index") },
    Field { name: "priority", value: |row| row.shown.fact("priority") },
    Field { name: "learning", value: |row| row.shown.fact("learning") },
    Field { name: "descost", value: |row| row.shown.fact("descost") },
    Field { name: "desbridge", value: |row| row.shown.fact("desbridge") },
    Field { name: "desport", value: |row| row.shown.fact("desport") },
    Field { name: "tcack", value: |row| row.shown.fact("tcack") },
    PORT_ZONE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::tests::told;
    use crate::fields::select;
    use crate::output;
    use dlmgmt_proto::{FactValue, LinkId};

    fn text(text: &str) -> FactValue {
        FactValue::Text(text.to_owned())
    }

    #[test]
    fn an_aggregation_is_shown_in_the_columns_of_illumos() {
        let facts =
            [("policy", text("layer2")), ("lacp", text("off")), ("lacp-time", text("long"))];
        let chosen = select(AGGR_FIELDS, "link,policy,lacpactivity,lacptimer").unwrap();
        assert_eq!(output::parsable(&chosen, &[told(b"aggr0", &facts)]), "aggr0:layer2:off:long\n");
    }

    #[test]
    fn a_row_of_ports_begins_with_whose_port_it_is_and_the_link_itself_has_no_port() {
        let of = told(b"aggr0", &[("speed", FactValue::Number(2000))]);
        let mut port = told(b"net0", &[("sync", FactValue::Flag(true))]);
        port.link.id = LinkId::new(8).unwrap();
        let row = |shown: &Detailed| PortRow { of: of.link.clone(), shown: shown.clone() };
        let rows = [row(&of), row(&port)];
        let chosen = select(AGGR_PORT_FIELDS, "link,port,speed").unwrap();
        assert_eq!(output::parsable(&chosen, &rows), "aggr0::2000\naggr0:net0:\n");
        let chosen = select(LACP_FIELDS, "link,port,sync,coll").unwrap();
        assert_eq!(output::parsable(&chosen, &rows[1..]), "aggr0:net0:yes:\n");
        let chosen = select(BRIDGE_PORT_FIELDS, "bridge,link").unwrap();
        assert_eq!(output::parsable(&chosen, &rows[1..]), "aggr0:net0\n");
    }

    #[test]
    fn no_table_has_a_field_twice() {
        fn check<T>(table: &[Field<T>]) {
            let mut names: Vec<&str> = table.iter().map(|field| field.name).collect();
            names.sort_unstable();
            let len = names.len();
            names.dedup();
            assert_eq!(names.len(), len, "{names:?}");
        }
        for table in [
            VNIC_FIELDS,
            VLAN_FIELDS,
            AGGR_FIELDS,
            BRIDGE_FIELDS,
            ETHERSTUB_FIELDS,
            IPTUN_FIELDS,
            OVERLAY_FIELDS,
        ] {
            check(table);
        }
        [AGGR_PORT_FIELDS, LACP_FIELDS, BRIDGE_PORT_FIELDS].into_iter().for_each(check);
    }
}
