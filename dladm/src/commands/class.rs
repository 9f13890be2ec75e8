//! `show-vnic`, `show-vlan`, `show-aggr`, `show-bridge`, `show-etherstub`, `show-iptun`,
//! `show-overlay`: links of one class with what these have of their own, or with their ports.

use dlmgmt_proto::{ErrorCode, LinkClass, LinkInfo, LinkRef, Topic};
use libdlmgmt::{Client, ClientError};

use super::show::{Question, with_zone};
use super::{Connect, link_ref};
use crate::cli::{ShowAggr, ShowBridge, ShowClass, ShowVnic};
use crate::details::{Detailed, PortRow};
use crate::failure::Failure;
use crate::fields::Field;
use crate::fields::class::{
    AGGR_FIELDS, AGGR_PORT_FIELDS, BRIDGE_FIELDS, BRIDGE_PORT_FIELDS, ETHERSTUB_FIELDS,
    IPTUN_FIELDS, LACP_FIELDS, OVERLAY_FIELDS, VLAN_FIELDS, VNIC_FIELDS,
};
use crate::order;
use crate::shape::Shape;

/// How links of a class are shown.
pub struct Class {
    class: LinkClass,
    fields: &'static [Field<Detailed>],
    columns: &'static str,
}

/// How ports are shown.
struct Ports {
    fields: &'static [Field<PortRow>],
    columns: &'static str,
    /// Whether the link has a row before those of its ports.
    come_after_link: bool,
}

/// `show-vlan`
pub const VLAN: Class =
    Class { class: LinkClass::Vlan, fields: VLAN_FIELDS, columns: "link,vid,over,flags" };
/// `show-etherstub`
pub const ETHERSTUB: Class =
    Class { class: LinkClass::Etherstub, fields: ETHERSTUB_FIELDS, columns: "link" };
/// `show-iptun`
pub const IPTUN: Class = Class {
    class: LinkClass::Iptun,
    fields: IPTUN_FIELDS,
    columns: "link,type,flags,local,remote",
};
/// `show-overlay`
pub const OVERLAY: Class = Class {
    class: LinkClass::Overlay,
    fields: OVERLAY_FIELDS,
    columns: "link,type,vni,over,local,remote,port",
};
const VNIC: Class = Class {
    class: LinkClass::Vnic,
    fields: VNIC_FIELDS,
    columns: "link,over,speed,macaddress,vid,type,mode",
};
const AGGR: Class = Class {
    class: LinkClass::Aggr,
    fields: AGGR_FIELDS,
    columns: "link,mode,policy,lacpactivity,lacptimer,flags",
};
const AGGR_PORTS: Ports = Ports {
    fields: AGGR_PORT_FIELDS,
    columns: "link,port,speed,duplex,state,address,portstate",
    come_after_link: true,
};
const LACP: Ports = Ports {
    fields: LACP_FIELDS,
    columns: "link,port,aggregatable,sync,coll,dist,defaulted,expired",
    come_after_link: false,
};
const BRIDGE: Class = Class {
    class: LinkClass::Bridge,
    fields: BRIDGE_FIELDS,
    columns: "bridge,protect,address,priority,desroot",
};
const BRIDGE_PORTS: Ports = Ports {
    fields: BRIDGE_PORT_FIELDS,
    columns: "link,bridge,state,opercost,desroot",
    come_after_link: false,
};

/// Shows links of class vnic, or those of them that lie over one link.
pub fn vnic(args: &ShowVnic, connect: impl Connect) -> Result<(), Failure> {
    let over = args.over.as_deref().map(link_ref).transpose()?;
    VNIC.show_those(&args.of, connect, |client, links| {
        if let Some(lower) = over {
            keep_those_over(&client.link(lower)?, links);
        }
        Ok(())
    })
}

/// Shows aggregations, or their ports.
pub fn aggr(args: &ShowAggr, connect: impl Connect) -> Result<(), Failure> {
    match (args.extended, args.lacp) {
        (true, _) => AGGR.show_ports(&args.of, &AGGR_PORTS, connect),
        (_, true) => AGGR.show_ports(&args.of, &LACP, connect),
        _ => AGGR.show(&args.of, connect),
    }
}

/// Shows bridges, or their ports.
pub fn bridge(args: &ShowBridge, connect: impl Connect) -> Result<(), Failure> {
    match args.ports {
        true => BRIDGE.show_ports(&args.of, &BRIDGE_PORTS, connect),
        false => BRIDGE.show(&args.of, connect),
    }
}

impl Class {
    /// Shows links of the class.
    pub fn show(&self, args: &ShowClass, connect: impl Connect) -> Result<(), Failure> {
        self.show_those(args, connect, |_, _| Ok(()))
    }

    fn show_those(
        &self,
        args: &ShowClass,
        connect: impl Connect,
        choose: impl FnOnce(&Client, &mut Vec<LinkInfo>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let shape =
            Shape::new(&args.form, self.fields, &with_zone(self.columns, args.which.show_zone))?;
        let question = Question::new(&args.which, &[self.class])?;
        let client = connect()?;
        let mut links = question.ask(&client)?;
        choose(&client, &mut links)?;
        shape.print(&Detailed::ask(&client, links, &topics(&shape, Topic::Kind))?)
    }

    fn show_ports(
        &self,
        args: &ShowClass,
        ports: &Ports,
        connect: impl Connect,
    ) -> Result<(), Failure> {
        let columns = with_zone(ports.columns, args.which.show_zone);
        let shape = Shape::new(&args.form, ports.fields, &columns)?;
        let question = Question::new(&args.which, &[self.class])?;
        let client = connect()?;
        let (mut of, mut shown) = (Vec::new(), Vec::new());
        for link in question.ask(&client)? {
            let itself = ports.come_after_link.then(|| link.clone());
            shown.extend(itself.into_iter().chain(ports_of(&client, &link)?));
            of.resize(shown.len(), link);
        }
        let shown = Detailed::ask(&client, shown, &topics(&shape, Topic::Port))?;
        let rows = of.into_iter().zip(shown).map(|(of, shown)| PortRow { of, shown });
        shape.print(&rows.collect::<Vec<_>>())
    }
}

/// What has to be asked for the fields of a shape: drivers only where their answer is shown.
fn topics<T>(shape: &Shape<T>, topic: Topic) -> Vec<Topic> {
    let asks_drivers = shape.has("speed") || shape.has("duplex");
    [topic].into_iter().chain(asks_drivers.then_some(Topic::Speed)).collect()
}

fn keep_those_over(lower: &LinkInfo, links: &mut Vec<LinkInfo>) {
    links.retain(|link| {
        let is_it = |(zone, name)| (zone, name) == (&lower.zone, lower.name);
        link.over
            .iter()
            .map(|over| (over.zone.as_ref().unwrap_or(&link.zone), over.name))
            .any(is_it)
    });
}

/// The ports of a link, by name. One that has just gone is none.
fn ports_of(client: &Client, link: &LinkInfo) -> Result<Vec<LinkInfo>, Failure> {
    let mut ports = Vec::new();
    for port in &link.over {
        let zone = port.zone.clone().unwrap_or_else(|| link.zone.clone());
        match client.link(LinkRef::InZone(zone, port.name)) {
            Err(ClientError::Refused(why)) if why.code == ErrorCode::NotFound => {}
            found => ports.push(found?),
        }
    }
    ports.sort_by(|a, b| order::natural(a.name.as_bytes(), b.name.as_bytes()));
    Ok(ports)
}
