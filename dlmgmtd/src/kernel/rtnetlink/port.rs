//! What a link is like as a port of a bridge.

use dlmgmt_proto::property::{Property, Value};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo,
};

use super::frame::attributes;
use crate::model::{Settings, small};

/// The kind of port that is spoken of here (`IFLA_INFO_SLAVE_KIND`).
pub const KIND: &[u8] = b"bridge";

/// How the kernel writes a value.
#[derive(Clone, Copy)]
enum Width {
    Switch,
    Short,
    Long,
}

/// Each property with its attribute (`IFLA_BRPORT_*`).
const OPTIONS: [(Property, u16, Width); 11] = [
    (Property::StpPriority, 2, Width::Short),
    (Property::StpCost, 3, Width::Long),
    (Property::Hairpin, 4, Width::Switch),
    (Property::BpduGuard, 5, Width::Switch),
    (Property::RootGuard, 6, Width::Switch),
    (Property::Learning, 8, Width::Switch),
    (Property::Flood, 9, Width::Switch),
    (Property::McastFlood, 27, Width::Switch),
    (Property::BcastFlood, 30, Width::Switch),
    (Property::NeighSuppress, 32, Width::Switch),
    (Property::Isolated, 33, Width::Switch),
];

/// The values that the attributes of a port say (`IFLA_INFO_SLAVE_DATA`).
pub fn read(data: &[u8]) -> Settings {
    let told = attributes(data).filter_map(|(kind, bytes)| {
        let (property, _, width) = OPTIONS.iter().find(|(_, attribute, _)| *attribute == kind)?;
        Some((*property, width.read(bytes)?))
    });
    told.collect()
}

/// The attribute that gives a port this value; `None` for what is no property of ports.
pub fn attribute(property: Property, value: &Value) -> Option<LinkAttribute> {
    let (_, kind, width) = OPTIONS.iter().find(|(of, ..)| *of == property)?;
    let option = InfoBridgePort::Other(DefaultNla::new(*kind, width.write(value)?));
    Some(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![option])),
    ]))
}

impl Width {
    fn read(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Self::Switch => Value::Switch(*bytes.first()? != 0),
            Self::Short => Value::Number(u16::from_ne_bytes(bytes.try_into().ok()?).into()),
            Self::Long => Value::Number(u32::from_ne_bytes(bytes.try_into().ok()?).into()),
        })
    }

    fn write(self, value: &Value) -> Option<Vec<u8>> {
        match (self, value) {
            (Self::Switch, Value::Switch(is_on)) => Some(vec![u8::from(*is_on)]),
            (Self::Short, Value::Number(number)) => {
                Some(u16::try_from(*number).ok()?.to_ne_bytes().to_vec())
            }
            (Self::Long, Value::Number(number)) => Some(small(*number).to_ne_bytes().to_vec()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_is_told_to_be_is_what_is_read_of_it() {
        for (property, kind, width) in OPTIONS {
            let value = match width {
                Width::Switch => Value::Switch(true),
                Width::Short | Width::Long => Value::Number(17),
            };
            let bytes = width.write(&value).unwrap();
            let len = (4 + bytes.len() as u16).to_ne_bytes();
            let mut told = [&len[..], &kind.to_ne_bytes(), &bytes].concat();
            told.resize(told.len().next_multiple_of(4), 0);
            assert_eq!(read(&told).get(property), Some(&value), "{property}");
            assert!(attribute(property, &value).is_some(), "{property}");
        }
        assert!(attribute(Property::Mtu, &Value::Number(1)).is_none());
    }

    #[test]
    fn odd_attributes_count_as_absent() {
        assert!(read(&[6, 0, 3, 0, 1, 1, 0, 0]).is_empty());
        assert!(read(&[3]).is_empty());
    }
}
