//! The daemon's command line and configuration file: SPEC.md section 11.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use serde::Deserialize;

use crate::engine::EngineLimits;
use crate::kernel::rtnetlink;

/// Where the configuration is looked for when nobody says where it is.
const DEFAULT_CONFIG: &str = "/etc/dlmgmt/dlmgmtd.toml";

/// The datalink management daemon.
#[derive(Clone, Debug, Parser)]
#[command(name = "dlmgmtd", version)]
pub struct Args {
    /// Read the configuration from FILE instead of /etc/dlmgmt/dlmgmtd.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Keep the registry in DIR.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Make the door in DIR.
    #[arg(long, value_name = "DIR", global = true)]
    runtime_dir: Option<PathBuf>,
    /// Watch DIR for the names of network namespaces. May be given several times.
    #[arg(long, value_name = "DIR")]
    netns_dir: Vec<PathBuf>,
    /// Serve D-Bus on this bus.
    #[arg(long, value_name = "system|session|none|ADDRESS")]
    bus: Option<String>,
    /// Log for a person at a terminal, with times.
    #[arg(long)]
    foreground: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Args {
    /// The configuration file, which need not be there unless its place was given.
    fn file(&self) -> Result<File, ConfigError> {
        match &self.config {
            Some(path) => read(path),
            None => read_if_there(Path::new(DEFAULT_CONFIG)),
        }
    }

    /// What is asked for instead of a daemon.
    pub fn command(&self) -> Option<Command> {
        self.command.clone()
    }
}

/// What the program does that is not to be the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the introspection data of a D-Bus interface, for what is installed.
    #[command(hide = true)]
    Introspect {
        /// Its name.
        interface: String,
    },
    /// Examine a state directory that no daemon uses, and leave it as it is.
    ///
    /// The exit status is 0 if all is well, 1 if something is wrong, and 2 for a usage error.
    Check,
    /// Tell udev the name of a physical link whose device appears; for its rule.
    ///
    /// The exit status is 1, without a word, if the link is not known from before.
    UdevName {
        /// The device's index.
        ifindex: u32,
        /// The name with which it appeared.
        appeared_as: String,
    },
}

/// What a configuration file may say; each is overruled by its option on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    netns_dirs: Option<Vec<PathBuf>>,
    bus: Option<String>,
    transient_links_per_zone: Option<usize>,
    notification_buffer: Option<usize>,
    log_level: Option<LogLevel>,
    link_files: Option<LinkFiles>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may have.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And each step of it.
    Trace,
}

impl LogLevel {
    /// The filter of the log that this is.
    pub fn filter(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Where `.link` files for udev are written: `auto`, `none` or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
enum LinkFiles {
    /// Where udev looks for them, on a host that systemd runs.
    #[default]
    Auto,
    None,
    In(PathBuf),
}

impl From<String> for LinkFiles {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "none" => Self::None,
            _ => Self::In(text.into()),
        }
    }
}

impl LinkFiles {
    fn directory(self) -> Option<PathBuf> {
        match self {
            Self::Auto if sd_notify::booted().unwrap_or(false) => {
                Some("/run/systemd/network".into())
            }
            Self::Auto | Self::None => None,
            Self::In(directory) => Some(directory),
        }
    }
}

/// How the daemon is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the registry is kept.
    pub state_dir: PathBuf,
    /// Where the door is.
    pub runtime_dir: PathBuf,
    /// Where names of network namespaces appear.
    pub netns_dirs: Vec<PathBuf>,
    /// The bus: `system`, `session`, `none` or an address.
    pub bus: String,
    /// Log for a person at a terminal.
    pub foreground: bool,
    /// What callers may have.
    pub limits: EngineLimits,
    /// How the kernel is listened to.
    pub kernel: rtnetlink::Options,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Where `.link` files for udev are written, if they are.
    pub link_files: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file makes no sense.
    #[error("the configuration {0} is wrong: {1}")]
    Wrong(PathBuf, String),
}

impl Config {
    /// The configuration that the command line asks for. Without `--config` the file need not
    /// exist.
    pub fn load(args: Args) -> Result<Self, ConfigError> {
        let file = args.file()?;
        let or = |first: Option<PathBuf>, second: Option<PathBuf>, default: &str| {
            first.or(second).unwrap_or_else(|| default.into())
        };
        let netns_dirs = Some(args.netns_dir).filter(|dirs| !dirs.is_empty());
        Ok(Self {
            state_dir: or(args.state_dir, file.state_dir, "/var/lib/dlmgmt"),
            runtime_dir: or(args.runtime_dir, file.runtime_dir, "/run/dlmgmt"),
            netns_dirs: netns_dirs.or(file.netns_dirs).unwrap_or_else(|| vec!["/run/netns".into()]),
            bus: args.bus.or(file.bus).unwrap_or_else(|| "system".to_owned()),
            foreground: args.foreground,
            limits: EngineLimits {
                transient_links: file
                    .transient_links_per_zone
                    .unwrap_or(EngineLimits::default().transient_links),
            },
            kernel: rtnetlink::Options {
                notification_buffer: file
                    .notification_buffer
                    .unwrap_or(rtnetlink::Options::default().notification_buffer),
            },
            log_level: file.log_level.unwrap_or_default(),
            link_files: file.link_files.unwrap_or_default().directory(),
        })
    }

    /// This configuration with what may change while the daemon runs as `new` has it.
    pub fn reloaded(&self, new: &Self) -> Self {
        Self {
            netns_dirs: new.netns_dirs.clone(),
            limits: new.limits,
            log_level: new.log_level,
            ..self.clone()
        }
    }

    /// Where the door is.
    pub fn door(&self) -> PathBuf {
        self.runtime_dir.join("door")
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let unreadable = |why| ConfigError::Unreadable(path.to_owned(), why);
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text)
        .map_err(|why| ConfigError::Wrong(path.to_owned(), why.message().to_owned()))
}

fn read_if_there(path: &Path) -> Result<File, ConfigError> {
    match read(path) {
        Err(ConfigError::Unreadable(_, why)) if why.kind() == std::io::ErrorKind::NotFound => {
            Ok(File::default())
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn load(args: &[&str]) -> Result<Config, ConfigError> {
        Config::load(Args::parse_from(["dlmgmtd"].iter().chain(args)))
    }

    #[test]
    fn the_command_line_overrules_the_file_and_the_file_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dlmgmtd.toml");
        std::fs::write(&path, "state-dir = \"/file/state\"\nruntime-dir = \"/file/run\"\n")
            .unwrap();
        let file = path.to_str().unwrap();
        let config = load(&["--config", file, "--state-dir", "/option/state"]).unwrap();
        assert_eq!(config.state_dir, Path::new("/option/state"));
        assert_eq!(config.door(), Path::new("/file/run/door"));
        assert_eq!(config.netns_dirs, [Path::new("/run/netns")]);
    }

    #[test]
    fn only_some_of_it_changes_while_the_daemon_runs() {
        let before = load(&["--state-dir", "/before", "--netns-dir", "/a"]).unwrap();
        let new = load(&["--state-dir", "/after", "--netns-dir", "/b"]).unwrap();
        let reloaded = before.reloaded(&new);
        assert_eq!(reloaded.netns_dirs, [Path::new("/b")]);
        assert_eq!(reloaded.state_dir, Path::new("/before"));
    }

    #[test]
    fn a_file_that_is_asked_for_must_be_there_and_make_sense() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dlmgmtd.toml");
        let file = path.to_str().unwrap().to_owned();
        assert!(matches!(load(&["--config", &file]), Err(ConfigError::Unreadable(..))));
        std::fs::write(&path, "state-dri = \"/x\"\n").unwrap();
        assert!(matches!(load(&["--config", &file]), Err(ConfigError::Wrong(..))));
    }

    const PAGE: &str = include_str!("../../man/dlmgmtd.8");
    const FILE_PAGE: &str = include_str!("../../man/dlmgmtd.toml.5");
    const EXAMPLE: &str = include_str!("../../docs/examples/dlmgmtd.toml");

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let says_all = File {
            state_dir: Some("/var/lib/dlmgmt".into()),
            runtime_dir: Some("/run/dlmgmt".into()),
            netns_dirs: Some(vec!["/run/netns".into()]),
            bus: Some("system".to_owned()),
            transient_links_per_zone: Some(EngineLimits::default().transient_links),
            notification_buffer: Some(rtnetlink::Options::default().notification_buffer),
            log_level: Some(LogLevel::Info),
            link_files: Some(LinkFiles::Auto),
        };
        assert_eq!(toml::from_str::<File>(EXAMPLE).unwrap(), says_all);
        let dir = tempfile::tempdir().unwrap();
        let (empty, example) = (dir.path().join("empty"), dir.path().join("example"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&example, EXAMPLE).unwrap();
        let load = |path: &Path| load(&["--config", path.to_str().unwrap()]).unwrap();
        assert_eq!(load(&example), load(&empty));
    }

    #[test]
    fn the_manual_tells_of_every_key_with_its_default() {
        let example: toml::Table = toml::from_str(EXAMPLE).unwrap();
        let (_, list) = FILE_PAGE.split_once(".Bl -tag").unwrap();
        let (list, _) = list.split_once(".Sh ").unwrap();
        let told: Vec<&str> =
            list.split(".It Cm ").skip(1).map(|part| part.split(' ').next().unwrap()).collect();
        assert_eq!(told.len(), example.len(), "{told:?}");
        for (key, value) in example {
            let (_, part) = list.split_once(&format!(".It Cm {key} No = ")).expect(&key);
            let part = part.split(".It Cm ").next().unwrap().replace("\\(dq", "\"");
            assert!(part.contains(&value.to_string()), "{key}: {value}");
        }
    }

    #[test]
    fn the_manual_tells_of_every_option_and_command() {
        let program = <Args as CommandFactory>::command();
        for option in program.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(PAGE.contains(&format!(".It Fl -{option}")), "{option}");
            assert!(PAGE.contains(&format!(".Op Fl -{option}")), "{option}");
        }
        for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(PAGE.contains(&format!(".Cm {}", command.get_name())));
        }
    }
}
