//! The standard interfaces that every object has.

use std::collections::HashMap;

use dlmgmt_proto::door::LinkFilter;
use dlmgmt_proto::{LinkInfo, LinkRef};
use zbus::{Message, ObjectPath, OwnedVariant, Variant, fdo};

use super::object::{Object, Properties, link_path, link_properties, zone_path, zone_properties};
use super::table::{
    INTROSPECTABLE, Interface, LINK_INTERFACE, OBJECT_MANAGER, PEER, PROPERTIES, ZONE_INTERFACE,
};
use super::{Call, Face, Failure, introspection};

type Answer = Result<Message, Failure>;

impl Face {
    pub(super) async fn standard_call(
        &self,
        object: Object,
        interface: &Interface,
        method: &str,
        call: &Call<'_>,
    ) -> Answer {
        let is = |known: &Interface| interface.name == known.name;
        match method {
            "Introspect" if is(&INTROSPECTABLE) => self.introspect(object, call),
            "Ping" if is(&PEER) => call.reply(&()),
            "GetMachineId" if is(&PEER) => call.reply(&machine_id()?),
            "GetManagedObjects" if is(&OBJECT_MANAGER) => self.managed_objects(call),
            "Get" if is(&PROPERTIES) => self.get(object, call),
            "GetAll" if is(&PROPERTIES) => self.get_all(object, call),
            "Set" if is(&PROPERTIES) => self.set(object, call),
            _ => Err(fdo::Error::UnknownMethod(format!("no method {method} here")).into()),
        }
    }

    fn introspect(&self, object: Object, call: &Call<'_>) -> Answer {
        let leaf = |path: ObjectPath<'_>| {
            path.rsplit_once('/').map_or_else(String::new, |(_, leaf)| leaf.to_owned())
        };
        let children: Vec<String> = match object {
            Object::Node(children) => children.iter().map(|child| (*child).to_owned()).collect(),
            Object::Manager => vec!["link".to_owned(), "zone".to_owned()],
            Object::Links => {
                self.all_links(call)?.iter().map(|link| leaf(link_path(link.id))).collect()
            }
            Object::Zones => {
                let zones = self.parts.service.list_zones(&call.caller)?;
                zones.iter().map(|zone| leaf(zone_path(zone.id))).collect()
            }
            Object::Link(_) | Object::Zone(_) | Object::LogControl => {
                self.properties(object, call)?;
                Vec::new()
            }
        };
        call.reply(&introspection::of_object(object.interfaces(), children))
    }

    fn all_links(&self, call: &Call<'_>) -> Result<Vec<LinkInfo>, Failure> {
        let snapshot = self.parts.service.snapshot();
        Ok(snapshot.list(&call.caller, &LinkFilter::everything(), None, usize::MAX)?)
    }

    fn managed_objects(&self, call: &Call<'_>) -> Answer {
        let links = self.all_links(call)?;
        let zones = self.parts.service.list_zones(&call.caller)?;
        let links = links.iter().map(|link| {
            (link_path(link.id), HashMap::from([(LINK_INTERFACE.name, link_properties(link))]))
        });
        let zones = zones.iter().map(|zone| {
            (zone_path(zone.id), HashMap::from([(ZONE_INTERFACE.name, zone_properties(zone))]))
        });
        let objects: HashMap<ObjectPath<'_>, HashMap<&str, Properties>> =
            links.chain(zones).collect();
        call.reply(&objects)
    }

    fn get(&self, object: Object, call: &Call<'_>) -> Answer {
        let (interface, property): (String, String) = call.arguments()?;
        let mut properties = self.properties_of(object, &interface, call)?;
        let unknown =
            || fdo::Error::UnknownProperty(format!("no property {} here", property.escape_debug()));
        let value = properties.remove(property.as_str()).ok_or_else(unknown)?;
        call.reply(&value)
    }

    fn get_all(&self, object: Object, call: &Call<'_>) -> Answer {
        let interface: String = call.arguments()?;
        call.reply(&self.properties_of(object, &interface, call)?)
    }

    fn set(&self, object: Object, call: &Call<'_>) -> Answer {
        let (interface, property, value): (String, String, OwnedVariant) = call.arguments()?;
        let known = self.properties_of(object, &interface, call)?;
        if !known.contains_key(property.as_str()) {
            let text = format!("no property {} here", property.escape_debug());
            return Err(fdo::Error::UnknownProperty(text).into());
        }
        if object != Object::LogControl || property != "LogLevel" {
            let text = format!("{property} cannot be set");
            return Err(fdo::Error::PropertyReadOnly(text).into());
        }
        let is_root =
            call.caller.uid == 0 && call.caller.zone == Some(dlmgmt_proto::ZoneId::GLOBAL);
        if !is_root {
            return Err(fdo::Error::AccessDenied("only root sets the log level".into()).into());
        }
        let Variant::Str(level) = Variant::from(value) else {
            return Err(fdo::Error::InvalidArgs("a log level is a text".into()).into());
        };
        self.parts.log_level.set(&level).map_err(fdo::Error::InvalidArgs)?;
        call.reply(&())
    }

    /// The properties of one interface of an object; of one without a name, those of its own.
    fn properties_of(
        &self,
        object: Object,
        interface: &str,
        call: &Call<'_>,
    ) -> Result<Properties, Failure> {
        let own = object.interfaces().first().map(|interface| interface.name);
        match object.interfaces().iter().find(|known| known.name == interface) {
            Some(known) if Some(known.name) != own => Ok(Properties::new()),
            None if !interface.is_empty() => {
                let text = format!("no interface {} here", interface.escape_debug());
                Err(fdo::Error::UnknownInterface(text).into())
            }
            _ => self.properties(object, call),
        }
    }

    fn properties(&self, object: Object, call: &Call<'_>) -> Result<Properties, Failure> {
        Ok(match object {
            Object::Link(id) => link_properties(&self.link(call, &LinkRef::Id(id))?),
            Object::Zone(id) => zone_properties(&self.zone_numbered(call, id)?),
            Object::Manager => Properties::from([
                ("Version", env!("CARGO_PKG_VERSION").into()),
                ("Seq", self.parts.service.snapshot().seq().0.into()),
            ]),
            Object::LogControl => self.parts.log_level.properties(),
            Object::Node(_) | Object::Links | Object::Zones => Properties::new(),
        })
    }
}

fn machine_id() -> Result<String, Failure> {
    let id = std::fs::read_to_string("/etc/machine-id");
    let id = id.map_err(|why| fdo::Error::FileNotFound(format!("/etc/machine-id: {why}")))?;
    Ok(id.trim().to_owned())
}
