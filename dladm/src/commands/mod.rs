//! The commands, one file each.

mod change;
mod class;
mod create;
mod hold;
mod loan;
mod monitor;
mod property;
mod registry;
mod show;
mod statistics;
mod zone;

use std::ffi::OsStr;
use std::process::ExitCode;

use dlmgmt_proto::{LinkRef, ZoneName};
use libdlmgmt::Client;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Report};

/// Does what the command line asks for.
pub fn run(cli: Cli) -> Result<ExitCode, Report> {
    let (path, command) = cli.into_parts();
    let what = command.what();
    let connect = || Client::connect(&path).map_err(Failure::from);
    let done = match command {
        Command::ShowLink(args) if args.statistics => statistics::show(&args, connect),
        Command::ShowLink(args) => show::links(&args, connect),
        Command::ShowPhys(args) => show::phys(&args, connect),
        Command::ShowVnic(args) => class::vnic(&args, connect),
        Command::ShowVlan(args) => class::VLAN.show(&args, connect),
        Command::ShowAggr(args) => class::aggr(&args, connect),
        Command::ShowBridge(args) => class::bridge(&args, connect),
        Command::ShowEtherstub(args) => class::ETHERSTUB.show(&args, connect),
        Command::ShowIptun(args) => class::IPTUN.show(&args, connect),
        Command::ShowOverlay(args) => class::OVERLAY.show(&args, connect),
        Command::ShowZone(args) => zone::show(&args, connect),
        Command::AttachZone(args) => zone::attach(&args, connect),
        Command::DetachZone(args) => zone::detach(&args, connect),
        Command::SetZone(args) => loan::set(&args, connect),
        Command::ResetZone(args) => loan::reset(&args, connect),
        Command::ShowLinkprop(args) => property::show(&args, connect),
        Command::SetLinkprop(args) => property::set(&args, connect),
        Command::ResetLinkprop(args) => property::reset(&args, connect),
        Command::Where(args) => loan::whereabouts(&args, connect),
        Command::Reclaim(args) => loan::reclaim(&args, connect),
        Command::OfClass(command) => create::run(&command, connect),
        Command::RenameLink(args) => change::rename(&args, connect),
        Command::DeletePhys(args) => change::delete_phys(&args, connect),
        Command::Monitor(args) => monitor::run(&args, connect),
        Command::Export => registry::export(connect),
        Command::Import(args) => registry::import(&args, connect),
        Command::Hold(args) => {
            return hold::run(&args, connect).map_err(|failure| Report::new(what, failure));
        }
    };
    done.map(|()| ExitCode::SUCCESS).map_err(|failure| Report::new(what, failure))
}

/// A way to the daemon, gone only when the arguments are known to make sense.
trait Connect: FnOnce() -> Result<Client, Failure> {}

impl<F: FnOnce() -> Result<Client, Failure>> Connect for F {}

/// The text of an operand.
fn text(operand: &OsStr) -> Result<&str, Failure> {
    operand.to_str().ok_or_else(|| Failure::NotUtf8(operand.display().to_string()))
}

/// The link that an operand names.
fn link_ref(operand: &OsStr) -> Result<LinkRef, Failure> {
    Ok(text(operand)?.parse()?)
}

/// The zone of this name.
fn zone_name(name: &str) -> Result<ZoneName, Failure> {
    ZoneName::new(name).map_err(|why| Failure::BadZone(name.to_owned(), why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn an_operand_that_is_not_utf_8_is_refused_as_such() {
        let operand = OsStr::from_bytes(b"net\xff");
        assert!(matches!(link_ref(operand), Err(Failure::NotUtf8(_))));
    }
}
