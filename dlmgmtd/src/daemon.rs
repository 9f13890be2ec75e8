//! The daemon's life, from its start to its orderly end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dlmgmt_proto::ZoneName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::config::{Args, Config};
use crate::dbus::{self, Bus, LogLevel};
use crate::door::{Door, DoorHandle, DoorOptions, Limits};
use crate::engine::{Changes, Engine, Parts};
use crate::engine_thread::EngineThread;
use crate::kernel::rtnetlink::{OpenError, RtnetlinkKernel};
use crate::model::{BootId, NsCookie};
use crate::service_manager::{self, FdStore, Passed};
use crate::store::StoreError;
use crate::store::sled::{Options, SledStore};
use crate::sys;
use crate::udev::{LinkFiles, link_files};
use crate::zones::{SourceEvents, ZoneSources};

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The kernel does not answer.
    #[error(transparent)]
    Kernel(#[from] OpenError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime directory cannot be made.
    #[error("the runtime directory {0} cannot be made: {1}")]
    RuntimeDir(PathBuf, io::Error),
    /// The door cannot be opened or fails.
    #[error("the door {0} cannot be served: {1}")]
    Door(PathBuf, io::Error),
    /// Something of the operating system is not to be had.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Runs until SIGTERM or SIGINT. Links then stay as they are. SIGHUP has the configuration of
/// `args` read again.
pub async fn run(config: Config, args: Args, log_level: LogLevel) -> Result<(), DaemonError> {
    let (shutdown, reloads) = (shutdown_signal()?, listen(SignalKind::hangup())?);
    let passed = Passed::take()
        .map_err(|why| DaemonError::System("what the service manager passed is wrong", why))?;
    raise_descriptor_limit();
    let changes = EngineThread::start()
        .map_err(|why| DaemonError::System("the engine gets no thread", why))?;
    let sources = ZoneSources::start(config.netns_dirs.clone())
        .map_err(|why| DaemonError::System("zones cannot be watched", why))?;
    let directories = sources.0.clone();
    let starting = start_engine(config.clone(), sources, passed.namespaces);
    let engine = match changes.handle().spawn(starting).await {
        Ok(started) => Arc::new(started?),
        Err(why) => return Err(DaemonError::System("the engine does not start", why.into())),
    };
    let door = open_door(&config, &engine, passed.door)?;
    let path = config.door();
    let mut tasks = JoinSet::new();
    tasks.spawn(close_ended(engine.ended_namespaces(), door.handle()));
    let (tell, told) = oneshot::channel();
    tasks.spawn(stay_on_bus(config.bus.clone(), engine.clone(), log_level.clone(), tell));
    if !service_manager::is_there() {
        // It ends without a word where no bus is wanted.
        let _ = told.await;
    }
    if let Some(every) = service_manager::heartbeat() {
        tasks.spawn(tell_of_life(engine.clone(), every));
    }
    if let Some(directory) = config.link_files.clone() {
        tasks.spawn(keep_link_files(directory, engine.changes()));
    }
    service_manager::ready();
    tracing::info!("ready, the door is {}", path.display());
    let reloader = Reloader { config, args, engine: engine.clone(), directories, log_level };
    tasks.spawn(reloader.follow(reloads));
    let closing = engine.clone();
    let served = door
        .serve(changes.handle().clone(), async move {
            shutdown.await;
            service_manager::stopping();
            closing.close();
        })
        .await;
    tasks.shutdown().await;
    tracing::info!("stopped, links stay as they are");
    served.map_err(|why| DaemonError::Door(path, why))
}

/// Starts the engine on the thread of the caller, which is told what the kernel notifies.
async fn start_engine(
    config: Config,
    sources: (ZoneSources, SourceEvents),
    kept: Vec<(ZoneName, OwnedFd)>,
) -> Result<Engine, DaemonError> {
    let kernel = Arc::new(RtnetlinkKernel::open_with(config.kernel)?);
    let (store, loaded) = SledStore::open(&config.state_dir, Options::default())?;
    let parts = Parts {
        kernel,
        store: Arc::new(store),
        loaded,
        boot: boot_id()?,
        read_only: read_only()?,
        sources,
        present: Vec::new(),
        limits: config.limits,
        custody: Arc::new(FdStore::new(kept)),
    };
    Ok(Engine::start(parts).await?)
}

/// udev knows what is the daemon's own as long as that is there, also while the daemon is not.
async fn keep_link_files(directory: PathBuf, mut changes: Changes) {
    let mut files = LinkFiles::new(directory);
    while let Some(registry) = changes.next().await {
        let set = move || {
            files.set(link_files(&registry));
            files
        };
        match tokio::task::spawn_blocking(set).await {
            Ok(set) => files = set,
            Err(_) => return,
        }
    }
}

/// The service manager is told of life only as long as changes come to their ends.
async fn tell_of_life(engine: Arc<Engine>, every: Duration) {
    loop {
        engine.pulse().await;
        service_manager::alive();
        tokio::time::sleep(every).await;
    }
}

/// Reads the configuration again when it is asked to.
struct Reloader {
    config: Config,
    args: Args,
    engine: Arc<Engine>,
    directories: ZoneSources,
    log_level: LogLevel,
}

impl Reloader {
    async fn follow(mut self, mut requests: Signal) {
        while requests.recv().await.is_some() {
            service_manager::reloading();
            match Config::load(self.args.clone()) {
                Ok(new) => self.apply(&new),
                Err(why) => tracing::error!("{why}; the one before stays in force"),
            }
            service_manager::ready();
        }
    }

    fn apply(&mut self, new: &Config) {
        let reloaded = self.config.reloaded(new);
        if reloaded != *new {
            tracing::warn!("what else has changed in the configuration waits for a restart");
        }
        self.directories.set_directories(reloaded.netns_dirs.clone());
        self.engine.set_limits(reloaded.limits);
        // What was set over D-Bus stays, unless the file says something new.
        if reloaded.log_level != self.config.log_level
            && let Err(why) = self.log_level.filter.set(reloaded.log_level.filter())
        {
            tracing::warn!("the log level stays: {why}");
        }
        self.config = reloaded;
        tracing::info!("the configuration is read again");
    }
}

/// A client's connection keeps its namespace alive: it ends with the zone.
async fn close_ended(mut ended: broadcast::Receiver<NsCookie>, door: DoorHandle) {
    loop {
        match ended.recv().await {
            Ok(ns) => door.close_namespace(ns),
            Err(RecvError::Lagged(missed)) => tracing::warn!("{missed} ended zones were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The door takes more connections than the usual limit of descriptors allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(why) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays low: {why}");
    }
}

/// Why nothing may be changed, if so.
fn read_only() -> Result<Option<String>, DaemonError> {
    let capabilities = |why| DaemonError::System("the capabilities cannot be read", why);
    if sys::may_change_links().map_err(capabilities)? {
        return Ok(None);
    }
    let why = "it has no CAP_NET_ADMIN";
    tracing::warn!("dlmgmtd is read-only: {why}");
    Ok(Some(why.to_owned()))
}

/// Opens the door, unless it was `opened` before the daemon.
fn open_door(
    config: &Config,
    engine: &Arc<Engine>,
    opened: Option<OwnedFd>,
) -> Result<Door, DaemonError> {
    let zones = engine.clone();
    let options =
        DoorOptions { zone_of: Arc::new(move |ns| zones.zone_of(ns)), limits: Limits::default() };
    let path = config.door();
    let door = match opened {
        Some(socket) => Door::from_listener(socket, engine.clone(), options),
        None => {
            std::fs::create_dir_all(&config.runtime_dir)
                .map_err(|why| DaemonError::RuntimeDir(config.runtime_dir.clone(), why))?;
            Door::bind(&path, engine.clone(), options)
        }
    };
    door.map_err(|why| DaemonError::Door(path, why))
}

/// Is on the bus, unless none is wanted, and tells when the first attempt is over.
///
/// At boot nothing may wait for that: the bus starts later than the network, which waits for the
/// daemon.
async fn stay_on_bus(
    bus: String,
    engine: Arc<Engine>,
    log_level: LogLevel,
    tell: oneshot::Sender<()>,
) {
    if bus == "none" {
        return;
    }
    let zones = engine.clone();
    let parts = dbus::Parts {
        service: engine.clone(),
        zone_of: Arc::new(move |ns| zones.zone_of(ns)),
        log_level,
    };
    let _bus = Bus::serve(bus, parts).await;
    // Whoever does not wait for it does not mind.
    let _ = tell.send(());
    std::future::pending().await
}

fn boot_id() -> Result<BootId, DaemonError> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| BootId(text.trim().to_owned()))
        .map_err(|why| DaemonError::System("the boot id cannot be read", why))
}

/// Ready when the daemon is to stop.
fn shutdown_signal() -> Result<impl Future<Output = ()> + Send, DaemonError> {
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn listen(kind: SignalKind) -> Result<Signal, DaemonError> {
    signal(kind).map_err(|why| DaemonError::System("signals cannot be listened for", why))
}
