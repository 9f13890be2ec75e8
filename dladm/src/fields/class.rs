//! The fields of what is shown of links of one class, and of ports.

use std::borrow::Cow;

use super::{Field, Value, lower_name};
use crate::details::{Detailed, PortRow};

/// What the daemon tells under this name, which is the field's, or another one.
macro_rules! fact {
    ($name:literal) => {
        fact!($name, $name)
    };
    ($name:literal, $fact:literal) => {
        Field { name: $name, value: |row| row.fact($fact) }
    };
}

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
const TYPE: Field<Detailed> = fact!("type");
const LOCAL: Field<Detailed> = fact!("local");
const REMOTE: Field<Detailed> = fact!("remote");
const TTL: Field<Detailed> = fact!("ttl");
const TOS: Field<Detailed> = fact!("tos");
const MODE: Field<Detailed> = fact!("mode");

/// The fields of `show-vnic`.
pub const VNIC_FIELDS: &[Field<Detailed>] = &[
    LINK,
    OVER,
    fact!("speed"),
    MAC,
    fact!("vid"),
    TYPE,
    MODE,
    fact!("isolation"),
    MTU,
    STATE,
    FLAGS,
    ZONE,
];

/// The fields of `show-vlan`.
pub const VLAN_FIELDS: &[Field<Detailed>] =
    &[LINK, fact!("vid"), OVER, FLAGS, fact!("protocol"), MAC, MTU, STATE, ZONE];

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
    fact!("key"),
    TTL,
    TOS,
    fact!("carries"),
    fact!("encap-limit"),
    MTU,
    STATE,
    ZONE,
];

/// The fields of `show-overlay`.
pub const OVERLAY_FIELDS: &[Field<Detailed>] = &[
    LINK,
    TYPE,
    fact!("vni"),
    OVER,
    LOCAL,
    REMOTE,
    fact!("group"),
    fact!("port"),
    TTL,
    TOS,
    fact!("learning"),
    fact!("ageing"),
    fact!("limit"),
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
    fact!("policy"),
    fact!("lacpactivity", "lacp"),
    fact!("lacptimer", "lacp-time"),
    FLAGS,
    OVER,
    fact!("active"),
    fact!("aggregator"),
    fact!("partner"),
    fact!("miimon"),
    fact!("updelay"),
    fact!("downdelay"),
    fact!("min-links"),
    MAC,
    MTU,
    STATE,
    ZONE,
];

/// The fields of `show-bridge`.
pub const BRIDGE_FIELDS: &[Field<Detailed>] = &[
    Field { name: "bridge", ..LINK },
    fact!("protect"),
    Field { name: "address", ..MAC },
    fact!("priority"),
    fact!("desroot"),
    fact!("rootcost"),
    fact!("rootport"),
    fact!("tchange"),
    fact!("maxage", "max-age"),
    fact!("hellotime", "hello-time"),
    fact!("fwddelay", "forward-delay"),
    fact!("ageing", "ageing-time"),
    fact!("vlan-filtering"),
    fact!("vlan-protocol"),
    fact!("default-pvid"),
    fact!("mcast-snooping"),
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
const PORT_AGGREGATOR: Field<PortRow> = fact!("aggregator");

/// The fields of `show-aggr -x`.
pub const AGGR_PORT_FIELDS: &[Field<PortRow>] = &[
    OF,
    PORT,
    fact!("speed"),
    fact!("duplex"),
    Field { name: "state", value: |row| Value::word(row.shown.link.state.as_str()) },
    Field { name: "address", value: |row| Value::mac(row.shown.link.mac.as_ref()) },
    fact!("portstate"),
    fact!("carrier"),
    fact!("failures"),
    fact!("permanent"),
    PORT_AGGREGATOR,
    PORT_ZONE,
];

/// The fields of `show-aggr -L`.
pub const LACP_FIELDS: &[Field<PortRow>] = &[
    OF,
    PORT,
    fact!("aggregatable"),
    fact!("sync"),
    fact!("coll"),
    fact!("dist"),
    fact!("defaulted"),
    fact!("expired"),
    fact!("partner-sync"),
    fact!("partner-coll"),
    fact!("partner-dist"),
    PORT_AGGREGATOR,
    PORT_ZONE,
];

/// The fields of `show-bridge -l`.
pub const BRIDGE_PORT_FIELDS: &[Field<PortRow>] = &[
    Field { name: "link", value: |row| Value::name(&row.shown.link.name) },
    Field { name: "bridge", ..OF },
    fact!("state"),
    fact!("opercost"),
    fact!("desroot"),
    fact!("index"),
    fact!("priority"),
    fact!("learning"),
    fact!("descost"),
    fact!("desbridge"),
    fact!("desport"),
    fact!("tcack"),
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
