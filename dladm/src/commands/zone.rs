//! `show-zone`, `attach-zone` and `detach-zone`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dlmgmt_proto::ZoneInfo;
use dlmgmt_proto::door::AttachZone;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Connect, text, zone_name};
use crate::cli;
use crate::failure::Failure;
use crate::fields::ZONE_FIELDS;
use crate::shape::Shape;

/// Shows zones, in the order of their numbers.
pub fn show(args: &cli::ShowZone, connect: impl Connect) -> Result<(), Failure> {
    let shape = Shape::new(&args.form, ZONE_FIELDS, "zone,zoneid,state,links,pid,netns")?;
    let wanted = args.zone.as_deref().map(text).transpose()?.map(zone_name).transpose()?;
    let mut zones = connect()?.zones()?;
    if let Some(wanted) = wanted {
        zones.retain(|zone| zone.name == wanted);
        require_any(&zones, wanted.as_str())?;
    }
    shape.print(&zones)
}

fn require_any(zones: &[ZoneInfo], wanted: &str) -> Result<(), Failure> {
    if zones.is_empty() { Err(Failure::NoZone(wanted.to_owned())) } else { Ok(()) }
}

/// Makes a namespace a zone. It is opened here: the caller's view of paths and processes, and what
/// it may open, are what count.
pub fn attach(args: &cli::AttachZone, connect: impl Connect) -> Result<(), Failure> {
    let zone = zone_name(text(&args.zone)?)?;
    let path = args.netns.as_deref().map(absolute).transpose()?;
    let namespace = match (&path, args.pid) {
        (Some(path), None) => open_path(path)?,
        (None, Some(pid)) => open_process(pid)?,
        _ => return Err(Failure::Usage("one of --netns and --pid is needed".to_owned())),
    };
    let call = AttachZone { zone, pid: args.pid, path };
    connect()?.attach_zone(call, Some(namespace.as_fd()))?;
    Ok(())
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(Failure::system("cannot tell the path"))?;
    Ok(text(path.as_os_str())?.to_owned())
}

fn open_path(path: &str) -> Result<OwnedFd, Failure> {
    let opened = File::open(path).map_err(Failure::system(format!("cannot open {path}")))?;
    Ok(opened.into())
}

fn open_process(pid: i32) -> Result<OwnedFd, Failure> {
    let failed = Failure::system(format!("cannot open process {pid}"));
    let Some(process) = Pid::from_raw(pid) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    pidfd_open(process, PidfdFlags::empty()).map_err(|why| failed(why.into()))
}

/// Ends a zone.
pub fn detach(args: &cli::DetachZone, connect: impl Connect) -> Result<(), Failure> {
    let zone = zone_name(text(&args.zone)?)?;
    connect()?.detach_zone(zone)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_told_a_path_that_means_the_same_to_it() {
        assert_eq!(absolute(Path::new("/run/netns/web")).unwrap(), "/run/netns/web");
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("web")).unwrap(), here.join("web").to_str().unwrap());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let why = open_path("/nonexistent/web").unwrap_err().to_string();
        assert!(why.starts_with("cannot open /nonexistent/web: "), "{why}");
        let why = open_process(i32::MAX).unwrap_err().to_string();
        assert!(why.starts_with("cannot open process 2147483647: "), "{why}");
    }

    #[test]
    fn a_namespace_and_a_process_are_opened() {
        assert!(open_path("/proc/self/ns/net").is_ok());
        assert!(open_process(i32::try_from(std::process::id()).unwrap()).is_ok());
    }
}
