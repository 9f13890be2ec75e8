//! The datalink management daemon.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::process::ExitCode;

use clap::Parser;
use dlmgmtd::config::{Args, Config};
use dlmgmtd::daemon;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("dlmgmtd: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(args)?;
    log(config.foreground);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(daemon::run(config))?)
}

/// Logs to stderr; the journal puts the times itself.
fn log(for_people: bool) {
    let filter = EnvFilter::try_from_env("DLMGMT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    if for_people { subscriber.init() } else { subscriber.without_time().init() }
}
