//! The datalink management daemon.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::process::ExitCode;

use clap::Parser;
use dlmgmtd::config::{Args, Command, Config};
use dlmgmtd::{check, daemon};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command() {
        None => start(args),
        Some(Command::Check) => examine(args),
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("dlmgmtd: {why}");
        ExitCode::FAILURE
    })
}

fn start(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(args)?;
    log(config.foreground);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(daemon::run(config))?;
    Ok(ExitCode::SUCCESS)
}

fn examine(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = check::check(&Config::load(args)?.state_dir)?;
    report.problems().for_each(|problem| eprintln!("dlmgmtd: {problem}"));
    println!("{report}");
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Logs to stderr; the journal puts the times itself. A panic is told there too, in one line: sled
/// has some over damaged files, and the store lives through them.
fn log(for_people: bool) {
    let filter = EnvFilter::try_from_env("DLMGMT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    if for_people {
        subscriber.init()
    } else {
        subscriber.without_time().init()
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
}
