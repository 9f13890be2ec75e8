//! The face on D-Bus: SPEC.md section 9. It offers what the door does, over the same [`Service`].
//!
//! Calls are answered here rather than by zbus' object server, which keeps an object for each link
//! and describes all of them whenever one is introspected: with 10,000 links that is far too much.
//! Here an object is no more than its path, and the table says what each kind of object offers.

mod arguments;
mod callers;
mod calls;
mod events;
mod introspection;
mod log_control;
#[cfg(test)]
mod manual;
mod needs;
mod object;
mod polkit;
mod settings;
mod signals;
mod standard;
mod table;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use dlmgmt_proto::{Error, ErrorCode, ZoneId};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::message::{Header, Type};
use zbus::names::OwnedUniqueName;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Message, MessageStream, fdo};

pub use introspection::introspect;
pub use log_control::{LogFilter, LogLevel};

use self::object::Object;
use self::table::{BUS_NAME, Interface, Method};
use self::tokens::Participants;
use crate::engine::{Caller, Service};
use crate::files::Imports;
use crate::model::NsCookie;
use crate::seats::{Bounds, Seats};

/// Tells which zone a namespace is.
pub type ZoneOf = Arc<dyn Fn(NsCookie) -> Option<ZoneId> + Send + Sync>;

/// How long to wait before the bus is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Calls whose callers are being looked for; more are refused. That waits for nobody but the bus.
const ARRIVING_MAX: usize = 1024;

/// Calls under way whose callers are known; more are refused.
const CALLS: Bounds = Bounds { all: 1024, for_root: 256, per_user: 256 };

/// Why the bus cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus is not there, or refuses.
    #[error("the bus cannot be used: {0}")]
    Bus(#[from] zbus::Error),
    /// Another program has the name.
    #[error("the name {BUS_NAME} belongs to another program")]
    NameTaken,
    /// The bus went away.
    #[error("the bus closed the connection")]
    Closed,
}

impl From<fdo::Error> for BusError {
    fn from(why: fdo::Error) -> Self {
        Self::Bus(why.into())
    }
}

/// Why a call is refused.
#[derive(Debug)]
enum Failure {
    /// By the daemon's own rules.
    Refused(Error),
    /// By those of D-Bus.
    Bus(fdo::Error),
}

impl From<Error> for Failure {
    fn from(why: Error) -> Self {
        Self::Refused(why)
    }
}

impl From<fdo::Error> for Failure {
    fn from(why: fdo::Error) -> Self {
        Self::Bus(why)
    }
}

impl From<zbus::Error> for Failure {
    fn from(why: zbus::Error) -> Self {
        Self::Bus(why.into())
    }
}

/// What the face works with.
pub struct Parts {
    /// The engine.
    pub service: Arc<dyn Service>,
    /// Tells the zones of callers.
    pub zone_of: ZoneOf,
    /// What the daemon logs.
    pub log_level: LogLevel,
}

/// The daemon on a bus, until this is dropped.
pub struct Bus(JoinHandle<()>);

impl Bus {
    /// Serves a bus: `system`, `session` or an address. When this returns, the daemon is on it or
    /// one attempt has failed; from then on it tries again whenever the bus is gone.
    pub async fn serve(which: String, parts: Parts) -> Self {
        let parts = Arc::new(parts);
        let (tell, told) = oneshot::channel();
        let mut tell = Some(tell);
        let task = tokio::spawn(async move {
            let mut said = String::new();
            loop {
                if let Err(why) = serve_once(&which, &parts, &mut tell).await {
                    let why = why.to_string();
                    if why != said {
                        tracing::warn!("D-Bus: {why}; trying again until it works");
                        said = why;
                    }
                }
                drop(tell.take());
                tokio::time::sleep(RETRY).await;
            }
        });
        // An error says that the attempt failed, which was logged.
        let _ = told.await;
        Self(task)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves the bus until it is gone; takes `tell` when the daemon has its name.
async fn serve_once(
    which: &str,
    parts: &Arc<Parts>,
    tell: &mut Option<oneshot::Sender<()>>,
) -> Result<(), BusError> {
    serve_connection(connect(which).await?, parts, || {
        let Some(tell) = tell.take() else { return };
        tracing::info!("on D-Bus as {BUS_NAME}");
        // Whoever does not wait for it does not mind.
        let _ = tell.send(());
    })
    .await
}

/// Serves a connection to a bus until it is gone; `ready` is called when the daemon has its name.
pub(crate) async fn serve_connection(
    connection: Connection,
    parts: &Arc<Parts>,
    ready: impl FnOnce(),
) -> Result<(), BusError> {
    let face = Arc::new(Face::new(connection.clone(), parts.clone()).await?);
    let mut calls = MessageStream::from(&connection);
    let signals = signals::start(connection.clone(), parts.service.clone())?;
    let mut followers = JoinSet::new();
    followers.spawn(signals);
    claim_name(&connection).await?;
    ready();
    // Nothing here waits for an answer of the bus: it comes behind what is not taken from it.
    while let Some(message) = calls.next().await {
        let message = message?;
        if message.message_type() != Type::MethodCall {
            continue;
        }
        while followers.try_join_next().is_some() {}
        match face.arriving.clone().try_acquire_owned() {
            Ok(arrival) => {
                let face = face.clone();
                followers.spawn(async move { face.handle(&message, arrival).await });
            }
            Err(_) => face.reply(&message, Err(too_many("too many calls come at once"))).await,
        }
    }
    Err(BusError::Closed)
}

fn too_many(why: impl Into<String>) -> Failure {
    fdo::Error::LimitsExceeded(why.into()).into()
}

async fn connect(which: &str) -> Result<Connection, BusError> {
    let builder = match which {
        "system" => zbus::connection::Builder::system(),
        "session" => zbus::connection::Builder::session(),
        address => zbus::connection::Builder::address(address),
    };
    Ok(builder.build().await?)
}

async fn claim_name(connection: &Connection) -> Result<(), BusError> {
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match connection.request_name_with_flags(BUS_NAME, flags).await {
        Err(zbus::Error::NameTaken) => Err(BusError::NameTaken),
        claimed => Ok(claimed.map(drop)?),
    }
}

/// A call, and who makes it.
struct Call<'m> {
    message: &'m Message,
    header: Header<'m>,
    sender: OwnedUniqueName,
    caller: Caller,
}

impl Call<'_> {
    /// What the caller sent. Its signature was checked already.
    fn arguments<T>(&self) -> Result<T, Failure>
    where
        T: for<'a> DynamicDeserialize<'a>,
    {
        let refused = |why: zbus::Error| fdo::Error::InvalidArgs(why.to_string());
        Ok(self.message.body().deserialize().map_err(refused)?)
    }

    /// An answer.
    fn reply<B: Serialize + DynamicType>(&self, body: &B) -> Result<Message, Failure> {
        Ok(Message::method_return(&self.header).build(body)?)
    }
}

/// The daemon on one connection.
struct Face {
    connection: Connection,
    bus: DBusProxy<'static>,
    parts: Arc<Parts>,
    participants: Participants,
    authority: polkit::Authority,
    arriving: Arc<Semaphore>,
    seats: Arc<Seats>,
    imports: Imports,
}

impl Face {
    async fn new(connection: Connection, parts: Arc<Parts>) -> Result<Self, BusError> {
        Ok(Self {
            bus: DBusProxy::new(&connection).await?,
            authority: polkit::Authority::new(connection.clone()),
            connection,
            parts,
            participants: Participants::default(),
            arriving: Arc::new(Semaphore::new(ARRIVING_MAX)),
            seats: Seats::new("calls under way", CALLS),
            imports: Imports::default(),
        })
    }

    async fn handle(&self, message: &Message, arrival: OwnedSemaphorePermit) {
        let answer = self.answer(message, arrival).await;
        self.reply(message, answer).await;
    }

    async fn reply(&self, message: &Message, answer: calls::Answer) {
        let header = message.header();
        let reply = match answer {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(why)) => {
                Message::error(&header, error_name(why.code)).build(&(why.message,))
            }
            Err(Failure::Bus(why)) => zbus::DBusError::create_reply(&why, &header),
        };
        let sent = match reply {
            Ok(reply) => self.connection.send(&reply).await,
            Err(why) => Err(why),
        };
        if let Err(why) = sent {
            tracing::debug!("a call on the bus cannot be answered: {why}");
        }
    }

    async fn answer(&self, message: &Message, arrival: OwnedSemaphorePermit) -> calls::Answer {
        let header = message.header();
        let path = header.path().map_or("", |path| path.as_str());
        let unknown = || fdo::Error::UnknownObject(format!("no object {path}"));
        let object = Object::at(path).ok_or_else(unknown)?;
        let (interface, method) = find_method(object, &header)?;
        let sender = header.sender().ok_or_else(|| fdo::Error::Failed("no sender".into()))?;
        let caller = callers::identify(&self.bus, sender, &self.parts.zone_of).await?;
        let _seat = self.seats.take(&caller).map_err(|why| too_many(why.message))?;
        drop(arrival);
        let sender = sender.to_owned().into();
        let mut call = Call { message, header, sender, caller };
        let needs = self.needs(object, method, &call)?;
        self.authority.ask(&call.header, needs, &mut call.caller).await;
        self.dispatch(object, interface, method, &call).await
    }
}

/// Interface, name and arguments of each method that an object has, for who tries them all.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn methods_at(path: &str) -> Vec<(&'static str, &'static str, String)> {
    let interfaces = Object::at(path).map_or(&[][..], Object::interfaces);
    let methods = interfaces.iter().flat_map(|interface| {
        interface.methods.iter().map(|method| {
            let takes = method.takes.iter().map(|arg| arg.signature).collect();
            (interface.name, method.name, takes)
        })
    });
    methods.collect()
}

/// The method that is called, whose arguments are of the right types.
fn find_method(
    object: Object,
    header: &Header<'_>,
) -> Result<(&'static Interface, &'static Method), Failure> {
    let member = header.member().map_or("", |member| member.as_str());
    let wanted = header.interface().map(|interface| interface.as_str());
    let mut interfaces = object.interfaces().iter().copied();
    let found = match wanted {
        Some(name) => {
            let interface = interfaces.find(|interface| interface.name == name);
            let interface = interface
                .ok_or_else(|| fdo::Error::UnknownInterface(format!("no interface {name} here")))?;
            interface.method(member).map(|method| (interface, method))
        }
        None => interfaces.find_map(|interface| Some((interface, interface.method(member)?))),
    };
    let (interface, method) =
        found.ok_or_else(|| fdo::Error::UnknownMethod(format!("no method {member} here")))?;
    let takes: String = method.takes.iter().map(|arg| arg.signature).collect();
    let given = header.signature().to_string_no_parens();
    if given != takes {
        let why = format!("{member} takes `{takes}`, and not `{given}`");
        return Err(fdo::Error::InvalidArgs(why).into());
    }
    Ok((interface, method))
}

/// The name of an error on the bus.
fn error_name(code: ErrorCode) -> String {
    let words = code.name().split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    format!("{BUS_NAME}.Error.{}", words.collect::<String>())
}
