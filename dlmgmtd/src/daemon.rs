//! The daemon's life, from its start to its orderly end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::config::Config;
use crate::dbus::{self, Bus, LogLevel};
use crate::door::{Door, DoorHandle, DoorOptions, Limits};
use crate::engine::{Engine, Parts};
use crate::kernel::rtnetlink::{OpenError, RtnetlinkKernel};
use crate::model::{BootId, NsCookie};
use crate::store::StoreError;
use crate::store::sled::{Options, SledStore};
use crate::sys;
use crate::zones::ZoneSources;

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

/// Runs until SIGTERM or SIGINT. Links then stay as they are.
pub async fn run(config: Config, log_level: LogLevel) -> Result<(), DaemonError> {
    let shutdown = shutdown_signal()?;
    raise_descriptor_limit();
    let kernel = Arc::new(RtnetlinkKernel::open_with(config.kernel)?);
    let (store, loaded) = SledStore::open(&config.state_dir, Options::default())?;
    let sources = ZoneSources::start(config.netns_dirs.clone())
        .map_err(|why| DaemonError::System("zones cannot be watched", why))?;
    let parts = Parts {
        kernel,
        store: Arc::new(store),
        loaded,
        boot: boot_id()?,
        read_only: read_only()?,
        sources,
        present: Vec::new(),
        limits: config.limits,
    };
    let engine = Arc::new(Engine::start(parts).await?);
    let door = open_door(&config, &engine)?;
    let closer = tokio::spawn(close_ended(engine.ended_namespaces(), door.handle()));
    let _bus = open_bus(&config, &engine, log_level).await;
    notify(sd_notify::NotifyState::Ready);
    tracing::info!("ready, the door is {}", config.door().display());
    let closing = engine.clone();
    let served = door
        .serve(async move {
            shutdown.await;
            notify(sd_notify::NotifyState::Stopping);
            closing.close();
        })
        .await;
    closer.abort();
    tracing::info!("stopped, links stay as they are");
    served.map_err(|why| DaemonError::Door(config.door(), why))
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

fn open_door(config: &Config, engine: &Arc<Engine>) -> Result<Door, DaemonError> {
    let make = |dir: &Path| std::fs::create_dir_all(dir);
    make(&config.runtime_dir)
        .map_err(|why| DaemonError::RuntimeDir(config.runtime_dir.clone(), why))?;
    let zones = engine.clone();
    let options =
        DoorOptions { zone_of: Arc::new(move |ns| zones.zone_of(ns)), limits: Limits::default() };
    let path = config.door();
    Door::bind(&path, engine.clone(), options).map_err(|why| DaemonError::Door(path, why))
}

/// On the bus, unless none is wanted.
async fn open_bus(config: &Config, engine: &Arc<Engine>, log_level: LogLevel) -> Option<Bus> {
    if config.bus == "none" {
        return None;
    }
    let zones = engine.clone();
    let parts = dbus::Parts {
        service: engine.clone(),
        zone_of: Arc::new(move |ns| zones.zone_of(ns)),
        log_level,
    };
    Some(Bus::serve(config.bus.clone(), parts).await)
}

fn boot_id() -> Result<BootId, DaemonError> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| BootId(text.trim().to_owned()))
        .map_err(|why| DaemonError::System("the boot id cannot be read", why))
}

/// Ready when the daemon is to stop.
fn shutdown_signal() -> Result<impl Future<Output = ()> + Send, DaemonError> {
    let listen = |kind| {
        signal(kind).map_err(|why| DaemonError::System("signals cannot be listened for", why))
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(why) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told: {why}");
    }
}
