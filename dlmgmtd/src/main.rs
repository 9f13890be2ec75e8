//! The datalink management daemon.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use dlmgmt_proto::IfIndex;
use dlmgmtd::config::{Args, Command, Config};
use dlmgmtd::dbus::{LogFilter, LogLevel};
use dlmgmtd::udev::Question;
use dlmgmtd::{check, daemon};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command() {
        Some(Command::Introspect { interface }) => introspect(&interface),
        None => start(args),
        Some(Command::Check) => examine(args),
        Some(Command::UdevName { ifindex, appeared_as }) => tell_udev(args, ifindex, appeared_as),
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("dlmgmtd: {why}");
        ExitCode::FAILURE
    })
}

fn introspect(interface: &str) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let unknown = || format!("there is no interface {interface}");
    print!("{}", dlmgmtd::dbus::introspect(interface).ok_or_else(unknown)?);
    Ok(ExitCode::SUCCESS)
}

fn start(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(args.clone())?;
    let log_level = log(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(daemon::run(config, args, log_level))?;
    Ok(ExitCode::SUCCESS)
}

fn examine(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = check::check(&Config::load(args)?.state_dir)?;
    report.problems().for_each(|problem| eprintln!("dlmgmtd: {problem}"));
    println!("{report}");
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell_udev(
    args: Args,
    ifindex: u32,
    appeared_as: String,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(args)?;
    let Some(ifindex) = IfIndex::new(ifindex) else { return Err("0 is no device's index".into()) };
    let door = config.door();
    let question = Question { ifindex, appeared_as, door, state_dir: config.state_dir };
    let Some(name) = question.answer()? else { return Ok(ExitCode::FAILURE) };
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

/// Logs to the journal with its fields where the standard error leads there, and otherwise to the
/// standard error, with times if it is for people. A panic is told there too, in one line: sled
/// has some over damaged files, and the store lives through them.
fn log(config: &Config) -> LogLevel {
    let for_people = config.foreground;
    let filter = EnvFilter::try_from_env("DLMGMT_LOG")
        .unwrap_or_else(|_| EnvFilter::new(config.log_level.filter()));
    let (filter, handle) = reload::Layer::new(filter);
    let journal = journal().filter(|_| !for_people);
    let target = if journal.is_some() { "journal" } else { "console" };
    let sink = journal.map_or_else(|| console(for_people), Layer::boxed);
    tracing_subscriber::registry().with(sink.with_filter(filter)).init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
    LogLevel { target, filter: Arc::new(Filter(handle)) }
}

struct Filter<S>(reload::Handle<EnvFilter, S>);

impl<S> LogFilter for Filter<S> {
    fn get(&self) -> String {
        // It fails only when nothing is logged any more.
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        self.0.reload(EnvFilter::new(filter)).map_err(|why| why.to_string())
    }
}

/// The journal, if this is a service whose standard error leads there.
fn journal() -> Option<tracing_journald::Layer> {
    if std::env::var_os("JOURNAL_STREAM").is_none() || std::io::stderr().is_terminal() {
        return None;
    }
    tracing_journald::layer().ok().map(|layer| layer.with_field_prefix(None))
}

fn console(for_people: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    if for_people { layer.boxed() } else { layer.without_time().boxed() }
}
