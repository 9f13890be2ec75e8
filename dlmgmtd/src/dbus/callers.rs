//! Who calls: what the bus says of a connection, and the kernel of its process.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zbus::fdo::{ConnectionCredentials, DBusProxy};
use zbus::names::UniqueName;

use super::{Failure, ZoneOf};
use crate::auth::Process;
use crate::engine::Caller;
use crate::zones::namespace_of;

/// Asks who is behind a connection to the bus.
///
/// The bus knows the process that opened the connection. A pidfd, by the bus or opened here while
/// the bus still has the connection, makes certain that the process that is looked at is that one.
pub async fn identify(
    bus: &DBusProxy<'_>,
    name: &UniqueName<'_>,
    zone_of: &ZoneOf,
) -> Result<Caller, Failure> {
    let credentials = bus.get_connection_credentials(name.to_owned().into()).await?;
    let uid = credentials.unix_user_id().ok_or_else(|| unknown(name, "its user is not known"))?;
    let Some((pid, pidfd)) = process_of(bus, name, &credentials).await? else {
        return Err(unknown(name, "its process is not known"));
    };
    let looked = tokio::task::spawn_blocking(move || {
        let ns = namespace_of(pid, pidfd.as_fd());
        (ns, Process::of_pidfd(pid, pidfd))
    });
    let (ns, process) = looked.await.map_err(|_| unknown(name, "dlmgmtd is going down"))?;
    let zone = ns.ok().and_then(|ns| zone_of(ns));
    let client = command_of(pid).unwrap_or_else(|| name.to_string());
    Ok(Caller { zone, uid, gid: uid, process: Some(process), client, ..Caller::default() })
}

fn unknown(name: &UniqueName<'_>, why: &str) -> Failure {
    Failure::Bus(zbus::fdo::Error::AccessDenied(format!("{name} cannot be identified: {why}")))
}

/// The process behind a connection, with its number.
async fn process_of(
    bus: &DBusProxy<'_>,
    name: &UniqueName<'_>,
    credentials: &ConnectionCredentials,
) -> Result<Option<(i32, OwnedFd)>, Failure> {
    let pid = credentials.process_id().and_then(|pid| i32::try_from(pid).ok());
    let Some(pid) = pid else { return Ok(None) };
    if let Some(pidfd) = credentials.process_fd() {
        let pidfd = pidfd.as_fd().try_clone_to_owned();
        return Ok(pidfd.ok().map(|pidfd| (pid, pidfd)));
    }
    let opened = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // A connection that is still there has a process that is: its number was not used again.
    let is_same = bus.get_connection_unix_process_id(name.to_owned().into()).await;
    let is_same = is_same.is_ok_and(|now| i32::try_from(now) == Ok(pid));
    Ok(opened.filter(|_| is_same).map(|pidfd| (pid, pidfd)))
}

/// The command that the process runs, for messages.
fn command_of(pid: i32) -> Option<String> {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(command.trim_end().to_owned())
}
