//! The calls of the manager, of links and of zones: what a caller sent becomes a request of the
//! engine, and its answer a reply.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use dlmgmt_proto::door::{
    AttachZone, ChangePorts, DeleteLink, DeletePhys, DetachZone, GetDetails, GetLink, LinkFilter,
    MakeLink, Peer, Reclaim, Rename, RenameItem, ResetZone, SetZone, Subscribe, View, Where,
};
use dlmgmt_proto::kind::{ClassSpec, LinkKind};
use dlmgmt_proto::{
    Error, ErrorCode, Fact, FactValue, Flags, Generation, LinkClass, LinkId, LinkInfo, LinkRef,
    Seq, ZoneId, ZoneInfo, ZoneName,
};
use zbus::{Message, ObjectPath, OwnedVariant, Variant};

use super::arguments::{Options, invalid};
use super::object::{Object, Properties, link_path, link_properties, zone_path, zone_properties};
use super::table::{Interface, LINK_INTERFACE, MANAGER, Method, ZONE_INTERFACE};
use super::{Call, Face, Failure, events, tokens};
use crate::engine::going_down;
use crate::files;

pub(super) type Answer = Result<Message, Failure>;

/// Options as they come.
pub(super) type Given = HashMap<String, OwnedVariant>;

impl Face {
    /// Answers a call whose method and signature were found in the table.
    pub(super) async fn dispatch(
        &self,
        object: Object,
        interface: &Interface,
        method: &Method,
        call: &Call<'_>,
    ) -> Answer {
        match (object, interface.name) {
            (_, name) if name == MANAGER.name => self.manager_call(method.name, call).await,
            (Object::Link(id), name) if name == LINK_INTERFACE.name => {
                self.link_call(id, method.name, call).await
            }
            (Object::Zone(id), name) if name == ZONE_INTERFACE.name => {
                self.zone_call(id, method.name, call).await
            }
            _ => self.standard_call(object, interface, method.name, call).await,
        }
    }

    async fn manager_call(&self, method: &str, call: &Call<'_>) -> Answer {
        match method {
            "GetLink" => call.reply(&link_path(self.link(call, &link_ref(call)?)?.id)),
            "GetZone" => call.reply(&zone_path(self.zone(call, &call.arguments::<String>()?)?.id)),
            "ListLinks" => self.list_links(call),
            "GetDetails" => self.details(call).await,
            "ListZones" => self.list_zones(call),
            "Rename" => self.rename_all(call).await,
            "DeletePhys" => self.delete_phys(call, link_ref(call)?).await,
            "SetZone" => {
                let (link, zone, options): (String, String, Given) = call.arguments()?;
                self.set_zone(call, parsed(&link)?, &zone, options).await
            }
            "ResetZone" => {
                let (link, options): (String, Given) = call.arguments()?;
                self.reset_zone(call, parsed(&link)?, options).await
            }
            "CreateLink" => self.create_link(call).await,
            "ChangePorts" => self.change_ports(call).await,
            "DeleteLink" => {
                let (link, class): (String, String) = call.arguments()?;
                self.delete_link(call, parsed(&link)?, parsed(&class)?).await
            }
            "Where" => self.whereabouts(call).await,
            "Reclaim" => self.reclaim(call, link_ref(call)?).await,
            "ListProperties" => {
                let (link, names): (String, Vec<String>) = call.arguments()?;
                self.list_properties(call, parsed(&link)?, names).await
            }
            "SetProperties" => {
                let (link, values, options): (String, _, Given) = call.arguments()?;
                self.set_properties(call, parsed(&link)?, values, options).await
            }
            "ResetProperties" => {
                let (link, names, options): (String, _, Given) = call.arguments()?;
                self.reset_properties(call, parsed(&link)?, names, options).await
            }
            "Hold" => self.hold(call, link_ref(call)?).await,
            "AttachZone" => self.attach_zone(call).await,
            "DetachZone" => self.detach_zone(call, parsed(&call.arguments::<String>()?)?).await,
            "OpenZone" => self.open_zone(call, parsed(&call.arguments::<String>()?)?).await,
            "TakePart" => self.take_part(call),
            "Acknowledge" => {
                let zone: u32 = call.arguments()?;
                self.participants.acknowledge(&call.sender, ZoneId(zone)).await?;
                call.reply(&())
            }
            "EventsSince" => self.events_since(call),
            "Export" => self.export(call).await,
            "Import" => self.import(call).await,
            _ => Err(unhandled(method)),
        }
    }

    async fn link_call(&self, id: LinkId, method: &str, call: &Call<'_>) -> Answer {
        let link = LinkRef::Id(id);
        match method {
            "Rename" => {
                let item = RenameItem { link, to: call.arguments()? };
                self.rename(call, vec![item]).await
            }
            "SetZone" => {
                let (zone, options): (String, Given) = call.arguments()?;
                self.set_zone(call, link, &zone, options).await
            }
            "ResetZone" => self.reset_zone(call, link, call.arguments()?).await,
            "GetDetails" => self.link_details(call, id).await,
            "Reclaim" => self.reclaim(call, link).await,
            "ListProperties" => self.list_properties(call, link, call.arguments()?).await,
            "SetProperties" => {
                let (values, options): (_, Given) = call.arguments()?;
                self.set_properties(call, link, values, options).await
            }
            "ResetProperties" => {
                let (names, options): (_, Given) = call.arguments()?;
                self.reset_properties(call, link, names, options).await
            }
            "Hold" => self.hold(call, link).await,
            "Delete" => {
                let LinkInfo { class, flags, .. } = self.link(call, &link)?;
                match flags.contains(Flags::REMOVED) {
                    true => self.delete_phys(call, link).await,
                    false => self.delete_link(call, link, class).await,
                }
            }
            _ => Err(unhandled(method)),
        }
    }

    async fn zone_call(&self, id: ZoneId, method: &str, call: &Call<'_>) -> Answer {
        let zone = self.zone_numbered(call, id)?.name;
        match method {
            "Detach" => self.detach_zone(call, zone).await,
            "Open" => self.open_zone(call, zone).await,
            _ => Err(unhandled(method)),
        }
    }

    pub(super) fn link(&self, call: &Call<'_>, link: &LinkRef) -> Result<LinkInfo, Failure> {
        let asked = GetLink { link: link.clone() };
        Ok(self.parts.service.get_link(&call.caller, &asked)?)
    }

    fn zone(&self, call: &Call<'_>, name: &str) -> Result<ZoneInfo, Failure> {
        self.find_zone(call, &name.escape_debug(), |zone| zone.name.as_str() == name)
    }

    pub(super) fn zone_numbered(&self, call: &Call<'_>, id: ZoneId) -> Result<ZoneInfo, Failure> {
        self.find_zone(call, &id, |zone| zone.id == id)
    }

    fn find_zone(
        &self,
        call: &Call<'_>,
        called: &dyn std::fmt::Display,
        is_it: impl Fn(&ZoneInfo) -> bool,
    ) -> Result<ZoneInfo, Failure> {
        let found = self.parts.service.list_zones(&call.caller)?.into_iter().find(is_it);
        let missing = || Error::new(ErrorCode::NoZone, format!("no zone {called}"));
        Ok(found.ok_or_else(missing)?)
    }

    fn list_links(&self, call: &Call<'_>) -> Answer {
        let mut options = Options::new(call.arguments()?);
        let (filter, after, max) = (
            filter(&mut options)?,
            options.take::<u32>("after")?.and_then(LinkId::new),
            options.take::<u32>("max")?,
        );
        options.finish()?;
        let snapshot = self.parts.service.snapshot();
        let max = max.map_or(usize::MAX, |max| max as usize);
        let links = snapshot.list(&call.caller, &filter, after, max)?;
        let told: Vec<(ObjectPath<'_>, Properties)> =
            links.iter().map(|link| (link_path(link.id), link_properties(link))).collect();
        call.reply(&(snapshot.seq().0, told))
    }

    async fn details(&self, call: &Call<'_>) -> Answer {
        let (numbers, topics): (Vec<u32>, Vec<String>) = call.arguments()?;
        let id = |number| LinkId::new(number).ok_or_else(|| invalid("no linkid is 0").into());
        let links = numbers.into_iter().map(id).collect::<Result<_, Failure>>()?;
        let asked = GetDetails { links, topics: all_parsed(&topics)? };
        let told = self.parts.service.get_details(&call.caller, asked).await?.links;
        let told: Vec<(u32, HashMap<String, Variant<'_>>)> =
            told.into_iter().map(|link| (link.id.get(), facts(link.facts))).collect();
        call.reply(&told)
    }

    async fn link_details(&self, call: &Call<'_>, id: LinkId) -> Answer {
        let asked =
            GetDetails { links: vec![id], topics: all_parsed(&call.arguments::<Vec<String>>()?)? };
        let told = self.parts.service.get_details(&call.caller, asked).await?.links;
        let told: HashMap<String, Variant<'_>> =
            told.into_iter().flat_map(|link| facts(link.facts)).collect();
        call.reply(&told)
    }

    fn list_zones(&self, call: &Call<'_>) -> Answer {
        let zones = self.parts.service.list_zones(&call.caller)?;
        let told: Vec<(ObjectPath<'_>, Properties)> =
            zones.iter().map(|zone| (zone_path(zone.id), zone_properties(zone))).collect();
        call.reply(&told)
    }

    async fn rename_all(&self, call: &Call<'_>) -> Answer {
        let wishes: Vec<(String, String)> = call.arguments()?;
        let item = |(link, to): (String, String)| Ok(RenameItem { link: parsed(&link)?, to });
        let items = wishes.into_iter().map(item).collect::<Result<Vec<_>, Failure>>()?;
        self.rename(call, items).await
    }

    async fn rename(&self, call: &Call<'_>, items: Vec<RenameItem>) -> Answer {
        seq(call, self.parts.service.rename(&call.caller, Rename { items }).await?.seq)
    }

    async fn delete_phys(&self, call: &Call<'_>, link: LinkRef) -> Answer {
        seq(call, self.parts.service.delete_phys(&call.caller, DeletePhys { link }).await?.seq)
    }

    async fn set_zone(&self, call: &Call<'_>, link: LinkRef, zone: &str, options: Given) -> Answer {
        let mut options = Options::new(options);
        let wish = SetZone {
            link,
            zone: parsed(zone)?,
            name_inside: options.take("name-inside")?,
            temporary: options.flag("temporary")?,
            force: options.flag("force")?,
            generation: options.take("generation")?.map(Generation),
        };
        options.finish()?;
        seq(call, self.parts.service.set_zone(&call.caller, wish).await?.seq)
    }

    async fn reset_zone(&self, call: &Call<'_>, link: LinkRef, options: Given) -> Answer {
        let mut options = Options::new(options);
        let wish = ResetZone {
            link,
            temporary: options.flag("temporary")?,
            force: options.flag("force")?,
            generation: options.take("generation")?.map(Generation),
        };
        options.finish()?;
        seq(call, self.parts.service.reset_zone(&call.caller, wish).await?.seq)
    }

    async fn create_link(&self, call: &Call<'_>) -> Answer {
        let (class, name, options): (String, String, Given) = call.arguments()?;
        let mut options = Options::new(options);
        let ports = options.take::<Vec<String>>("ports")?.unwrap_or_default();
        let wish = MakeLink {
            name,
            zone: optional(options.take("zone")?)?,
            temporary: options.flag("temporary")?,
            kind: kind(parsed(&class)?, options.take("kind")?)?,
            over: optional(options.take("over")?)?,
            peer: peer(&mut options)?,
            ports: ports.iter().map(|port| parsed(port)).collect::<Result<_, _>>()?,
            options: options.into_texts()?,
        };
        let made = self.parts.service.make_link(&call.caller, wish).await?;
        call.reply(&(link_path(made.id), made.seq.0))
    }

    async fn change_ports(&self, call: &Call<'_>) -> Answer {
        let (link, add, remove): (String, Vec<String>, Vec<String>) = call.arguments()?;
        let link = parsed(&link)?;
        let class = self.link(call, &link)?.class;
        let ports = |ports: Vec<String>| ports.iter().map(|port| parsed(port)).collect();
        let (add, remove): (Result<_, Failure>, Result<_, Failure>) = (ports(add), ports(remove));
        let wish = ChangePorts { link, class, add: add?, remove: remove? };
        seq(call, self.parts.service.change_ports(&call.caller, wish).await?.seq)
    }

    async fn delete_link(&self, call: &Call<'_>, link: LinkRef, class: LinkClass) -> Answer {
        let wish = DeleteLink { link, class };
        seq(call, self.parts.service.delete_link(&call.caller, wish).await?.seq)
    }

    async fn whereabouts(&self, call: &Call<'_>) -> Answer {
        let asked = Where { link: link_ref(call)? };
        let found = self.parts.service.whereabouts(&call.caller, asked).await?;
        let mut told: HashMap<&str, Variant<'_>> = HashMap::from([
            ("Path", link_path(found.link.id).into()),
            ("OwnName", found.own_name.to_string().into()),
        ]);
        let zones = [("Zone", &found.zone), ("Assigned", &found.assigned)];
        told.extend(
            zones
                .into_iter()
                .filter_map(|(name, zone)| Some((name, zone.as_ref()?.to_string().into()))),
        );
        let numbers = [("Nsid", found.nsid), ("Pid", found.pid)];
        told.extend(numbers.into_iter().filter_map(|(name, n)| Some((name, n?.into()))));
        call.reply(&told)
    }

    async fn reclaim(&self, call: &Call<'_>, link: LinkRef) -> Answer {
        seq(call, self.parts.service.reclaim(&call.caller, Reclaim { link }).await?.seq)
    }

    async fn hold(&self, call: &Call<'_>, link: LinkRef) -> Answer {
        let guard = self.parts.service.hold(&call.caller, link).await?;
        call.reply(&zbus::Fd::from(tokens::keep(guard).map_err(system)?))
    }

    async fn attach_zone(&self, call: &Call<'_>) -> Answer {
        let (zone, options): (String, Given) = call.arguments()?;
        let mut options = Options::new(options);
        let descriptor: Option<OwnedFd> = options.take("fd")?;
        let wish = AttachZone {
            zone: parsed(&zone)?,
            pid: options.take("pid")?,
            path: options.take("path")?,
        };
        options.finish()?;
        let ways = [descriptor.is_some(), wish.pid.is_some(), wish.path.is_some()];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            return Err(invalid("a zone is attached by one of fd, path and pid").into());
        }
        let service = &self.parts.service;
        seq(call, service.attach_zone(&call.caller, wish, descriptor).await?.seq)
    }

    async fn detach_zone(&self, call: &Call<'_>, zone: ZoneName) -> Answer {
        seq(call, self.parts.service.detach_zone(&call.caller, DetachZone { zone }).await?.seq)
    }

    async fn open_zone(&self, call: &Call<'_>, zone: ZoneName) -> Answer {
        let ns = self.parts.service.open_zone(&call.caller, &zone).await?;
        call.reply(&zbus::Fd::from(ns))
    }

    fn take_part(&self, call: &Call<'_>) -> Answer {
        let wish = Subscribe { snapshot: false, since: None, participant: true };
        let (_, stream) = self.parts.service.subscribe(&call.caller, &wish)?;
        let token = self.participants.join(&self.connection, call.sender.clone(), stream);
        call.reply(&zbus::Fd::from(token.map_err(system)?))
    }

    fn events_since(&self, call: &Call<'_>) -> Answer {
        let since = Some(Seq(call.arguments()?));
        let wish = Subscribe { snapshot: false, since, participant: false };
        let (_, stream) = self.parts.service.subscribe(&call.caller, &wish)?;
        call.reply(&events::waiting(stream))
    }

    async fn export(&self, call: &Call<'_>) -> Answer {
        let text = self.parts.service.export(&call.caller).await?;
        let file = blocking(move || files::sealed(&text)).await?;
        call.reply(&zbus::Fd::from(file))
    }

    async fn import(&self, call: &Call<'_>) -> Answer {
        let fd: zbus::OwnedFd = call.arguments()?;
        let text = self.imports.read(&call.caller, fd.into()).await?;
        seq(call, self.parts.service.import(&call.caller, text).await?.seq)
    }
}

fn filter(options: &mut Options) -> Result<LinkFilter, Failure> {
    let view = match options.take::<String>("view")?.as_deref() {
        None | Some("active") => View::Active,
        Some("persistent") => View::Persistent,
        Some("all") => View::All,
        Some(_) => return Err(invalid("a view is active, persistent or all").into()),
    };
    let classes = options.take::<Vec<String>>("classes")?.unwrap_or_default();
    Ok(LinkFilter {
        view,
        classes: all_parsed(&classes)?,
        zone: optional(options.take("zone")?)?,
        all_zones: options.flag("all-zones")?,
    })
}

/// The kind that is meant by a class, and perhaps a word for the kind itself.
fn kind(class: LinkClass, word: Option<String>) -> Result<String, Failure> {
    let cannot = || {
        let text = format!("links of class {class} cannot be made");
        Error::new(ErrorCode::NotSupported, text)
    };
    let spec = ClassSpec::of(class).ok_or_else(cannot)?;
    let kinds: Vec<&str> = spec.kinds().map(|kind| kind.name).collect();
    let unknown = || invalid(format!("a kind of class {class} is {}", kinds.join(", ")));
    let kind = match word {
        Some(word) => LinkKind::named(&word).filter(|kind| kind.class == class),
        None => spec.default_kind(),
    };
    Ok(kind.ok_or_else(unknown)?.name.to_owned())
}

fn peer(options: &mut Options) -> Result<Option<Peer>, Failure> {
    let zone = optional(options.take("peer-zone")?)?;
    match options.take("peer")? {
        Some(name) => Ok(Some(Peer { name, zone })),
        None if zone.is_some() => Err(invalid("option peer-zone needs option peer").into()),
        None => Ok(None),
    }
}

/// Facts as a dictionary.
fn facts(facts: Vec<Fact>) -> HashMap<String, Variant<'static>> {
    let value = |value| match value {
        FactValue::Number(number) => number.into(),
        FactValue::Text(text) => text.into(),
        FactValue::Flag(flag) => flag.into(),
    };
    facts.into_iter().map(|fact| (fact.name, value(fact.value))).collect()
}

fn all_parsed<T>(texts: &[String]) -> Result<Vec<T>, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| parsed(text)).collect()
}

/// The link that is the call's only argument.
fn link_ref(call: &Call<'_>) -> Result<LinkRef, Failure> {
    parsed(&call.arguments::<String>()?)
}

fn parsed<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|why: T::Err| invalid(why.to_string()).into())
}

fn optional<T>(text: Option<String>) -> Result<Option<T>, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.as_deref().map(parsed).transpose()
}

pub(super) fn seq(call: &Call<'_>, seq: Seq) -> Answer {
    call.reply(&seq.0)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(going_down()))
}

fn system(why: std::io::Error) -> Failure {
    zbus::fdo::Error::IOError(why.to_string()).into()
}

/// The table has a method that nothing here answers; a test sees to it that it has none.
fn unhandled(method: &str) -> Failure {
    zbus::fdo::Error::UnknownMethod(format!("no method {method} here")).into()
}
