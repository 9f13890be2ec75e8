//! Completion in shells. The scripts that are installed ask this program what may come next, so
//! they know every option, and the links and zones of the moment.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::{CompleteEnv, CompletionCandidate};
use dlmgmt_proto::LinkInfo;
use dlmgmt_proto::door::LinkFilter;
use dlmgmt_proto::property;
use libdlmgmt::{Client, ClientError, DOOR};

use crate::cli::Cli;

/// The variable in which a shell says that it asks, and which one it is.
const ASKING: &str = "DLADM_COMPLETE";

/// How long a user who waits for a completion is kept waiting for the daemon.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a shell asks, tells it what may come next, or its script where it names no words, and ends
/// the program.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKING).complete();
}

/// The links that an operand may begin with: those of the caller's zone by their names, others by
/// `ZONE/NAME`.
pub fn links(begun: &OsStr) -> Vec<CompletionCandidate> {
    let names = ask(|client| {
        let own = client.greeting().zone.clone();
        let name = |link: LinkInfo| match Some(&link.zone) == own.as_ref() {
            true => link.name.to_string(),
            false => format!("{}/{}", link.zone, link.name),
        };
        Ok(client.list(LinkFilter::everything())?.into_iter().map(name).collect())
    });
    that_begin_with(begun, names)
}

/// The zones that an operand may begin with.
pub fn zones(begun: &OsStr) -> Vec<CompletionCandidate> {
    let names = |client: &Client| {
        Ok(client.zones()?.into_iter().map(|zone| zone.name.to_string()).collect())
    };
    that_begin_with(begun, ask(names))
}

/// The properties that the last word of a list may begin with.
pub fn properties(begun: &OsStr) -> Vec<CompletionCandidate> {
    properties_with(begun, "")
}

/// As [`properties`], each with the sign after which its value follows.
pub fn assignments(begun: &OsStr) -> Vec<CompletionCandidate> {
    properties_with(begun, "=")
}

fn properties_with(begun: &OsStr, end: &str) -> Vec<CompletionCandidate> {
    let text = begun.to_string_lossy();
    let done = text.rfind(',').map_or("", |comma| &text[..=comma]);
    let names = property::names().iter().map(|name| format!("{done}{name}{end}")).collect();
    that_begin_with(begun, names)
}

/// What the daemon answers; nothing where it does not, or not soon.
fn ask(
    question: impl FnOnce(&Client) -> Result<Vec<String>, ClientError> + Send + 'static,
) -> Vec<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let door = std::env::var_os("DLMGMT_DOOR").unwrap_or_else(|| DOOR.into());
        let answer = Client::connect(door).and_then(|client| question(&client));
        // Whoever waited may have given up.
        let _ = tell.send(answer.unwrap_or_default());
    });
    told.recv_timeout(PATIENCE).unwrap_or_default()
}

fn that_begin_with(begun: &OsStr, mut names: Vec<String>) -> Vec<CompletionCandidate> {
    names.retain(|name| name.as_bytes().starts_with(begun.as_encoded_bytes()));
    names.sort();
    names.into_iter().map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_begin_as_the_operand_does_are_offered() {
        let names = ["web/eth0", "net1", "net0"].map(str::to_owned).to_vec();
        let offered = that_begin_with(OsStr::new("net"), names);
        let offered: Vec<&OsStr> = offered.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(offered, ["net0", "net1"]);
    }

    #[test]
    fn the_next_property_of_a_list_is_offered() {
        let offered = assignments(OsStr::new("mtu=9000,al"));
        let offered: Vec<&OsStr> = offered.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(
            offered,
            [
                "mtu=9000,alias=",
                "mtu=9000,allmulti=",
                "mtu=9000,allowed-ips=",
                "mtu=9000,altnames="
            ]
        );
    }
}
