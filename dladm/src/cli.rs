//! The command line.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::failure::{Failure, Report};

const LINK_HELP: &str = "NAME, ZONE/NAME or @LINKID";

/// Shows and changes the datalinks of this host.
#[derive(Debug, Parser)]
#[command(name = "dladm", version, disable_help_subcommand = true)]
pub struct Cli {
    /// The daemon's door
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "DLMGMT_DOOR",
        default_value = "/run/dlmgmt/door"
    )]
    pub door: PathBuf,

    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The door and the command; without one, links are shown.
    pub fn into_parts(self) -> (PathBuf, Command) {
        (self.door, self.command.unwrap_or_else(|| Command::ShowLink(ShowLink::default())))
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show links
    ShowLink(ShowLink),
    /// Show physical links
    ShowPhys(ShowPhys),
    /// Rename links: all of them or none, in any permutation
    RenameLink(RenameLink),
    /// Forget a physical link whose hardware is gone
    DeletePhys(DeletePhys),
    /// Hold a link while a command runs, so that nobody renames or removes it
    Hold(Hold),
    /// Tell what happens to links, a line each
    Monitor(Monitor),
    /// Write the persistent registry to the standard output
    Export,
    /// Bring in a registry that `export` wrote
    Import(Import),
}

impl Command {
    /// What is being done, as error messages call it.
    pub fn what(&self) -> String {
        let (name, operand) = match self {
            Self::ShowLink(args) => ("show-link", args.link.as_ref()),
            Self::ShowPhys(args) => ("show-phys", args.link.as_ref()),
            Self::RenameLink(args) => return args.what(),
            Self::DeletePhys(args) => ("delete-phys", Some(&args.link)),
            Self::Hold(args) => ("hold", Some(&args.link)),
            Self::Monitor(_) => ("monitor", None),
            Self::Export => ("export", None),
            Self::Import(args) => ("import", Some(&args.file)),
        };
        match operand {
            Some(operand) => format!("{name} {}", operand.display()),
            None => name.to_owned(),
        }
    }
}

/// In which form links are shown.
#[derive(Args, Debug, Default)]
pub struct Form {
    /// A line per link, fields separated by `:`; needs -o
    #[arg(short = 'p', long = "parsable", alias = "parseable")]
    pub parsable: bool,
    /// The fields to show, or `all`
    #[arg(short = 'o', long = "output", value_name = "FIELD,...", action = ArgAction::Set)]
    pub fields: Option<String>,
    /// One JSON array of objects
    #[arg(long, conflicts_with = "parsable")]
    pub json: bool,
}

/// `show-link`
#[derive(Args, Debug, Default)]
pub struct ShowLink {
    /// Links that survive a reboot, there or not
    #[arg(short = 'P', long)]
    pub persistent: bool,
    /// Links of this zone
    #[arg(short = 'z', long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Links of every zone, with a column for it
    #[arg(short = 'Z', long)]
    pub show_zone: bool,
    #[command(flatten)]
    pub form: Form,
    #[arg(value_name = "LINK", help = LINK_HELP)]
    pub link: Option<OsString>,
}

/// `show-phys`
#[derive(Args, Debug)]
pub struct ShowPhys {
    /// Where the devices sit
    #[arg(short = 'L', long, conflicts_with = "macs")]
    pub locations: bool,
    /// The permanent hardware addresses
    #[arg(short = 'm', long)]
    pub macs: bool,
    /// Links that survive a reboot, there or removed
    #[arg(short = 'P', long)]
    pub persistent: bool,
    /// Links of every zone, with a column for it
    #[arg(short = 'Z', long)]
    pub show_zone: bool,
    #[command(flatten)]
    pub form: Form,
    #[arg(value_name = "LINK", help = LINK_HELP)]
    pub link: Option<OsString>,
}

/// `rename-link`
#[derive(Args, Debug)]
pub struct RenameLink {
    /// Links, each with its new name
    #[arg(value_names = ["LINK", "NEW-NAME"], num_args = 2.., required = true)]
    pub operands: Vec<OsString>,
}

impl RenameLink {
    /// Of a set, which may be long, the daemon's message tells the link that it is about.
    fn what(&self) -> String {
        match self.operands.as_slice() {
            [link, to] => format!("rename-link {} {}", link.display(), to.display()),
            _ => "rename-link".to_owned(),
        }
    }
}

/// `delete-phys`
#[derive(Args, Debug)]
pub struct DeletePhys {
    #[arg(value_name = "LINK", help = LINK_HELP)]
    pub link: OsString,
}

/// `hold`
#[derive(Args, Debug)]
pub struct Hold {
    #[arg(value_name = "LINK", help = LINK_HELP)]
    pub link: OsString,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `monitor`
#[derive(Args, Debug)]
pub struct Monitor {
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Tell also what happened after this event
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
}

/// `import`
#[derive(Args, Debug)]
pub struct Import {
    /// The file, or `-` for the standard input
    #[arg(value_name = "FILE")]
    pub file: OsString,
}

/// What the command line asks for.
pub enum Parsed {
    /// A command.
    Run(Cli),
    /// The help or the version.
    Print(String),
}

/// Reads the command line.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Report> {
    let args: Vec<OsString> = args.into_iter().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => Ok(Parsed::Run(cli)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Print(error.to_string()))
            }
            _ => Err(Report::new(command_name(&args), Failure::Usage(explain(&error)))),
        },
    }
}

/// The command that the arguments name, or `usage` where they name none.
fn command_name(args: &[OsString]) -> String {
    let known = Cli::command();
    let is_command = |arg: &&str| known.get_subcommands().any(|c| c.get_name() == *arg);
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    words.find(is_command).unwrap_or("usage").to_owned()
}

/// clap's error on one line: what is wrong, with which argument, and where help is.
fn explain(error: &clap::Error) -> String {
    const CULPRITS: [ContextKind; 4] = [
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidArg,
        ContextKind::PriorArg,
        ContextKind::InvalidValue,
    ];
    let culprits: Vec<String> = CULPRITS
        .iter()
        .filter_map(|kind| error.get(*kind))
        .map(|culprit| format!("`{culprit}`"))
        .collect();
    let mut line = error.kind().as_str().unwrap_or("the command line makes no sense").to_owned();
    if !culprits.is_empty() {
        line = format!("{line}: {}", culprits.join(", "));
    }
    if let Some(source) = error.source() {
        line = format!("{line}: {source}");
    }
    format!("{line}; see dladm --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Command {
        match parse(line.split(' ').map(OsString::from)) {
            Ok(Parsed::Run(cli)) => cli.into_parts().1,
            Ok(Parsed::Print(text)) => panic!("printed {text}"),
            Err(report) => panic!("{report}"),
        }
    }

    fn refused(line: &str) -> String {
        match parse(line.split(' ').map(OsString::from)) {
            Err(report) => report.to_string(),
            Ok(_) => panic!("`{line}` was taken"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_shows_links() {
        assert!(matches!(run("dladm"), Command::ShowLink(_)));
    }

    #[test]
    fn the_door_may_follow_the_command() {
        let args = ["dladm", "show-link", "--door", "/x"].map(OsString::from);
        let Ok(Parsed::Run(cli)) = parse(args) else { panic!("refused") };
        assert_eq!(cli.door, PathBuf::from("/x"));
    }

    #[test]
    fn what_follows_two_dashes_is_the_command_to_hold_for() {
        let Command::Hold(hold) = run("dladm hold net0 -- ping -c 1 ::1") else {
            panic!("no hold")
        };
        assert_eq!(hold.link, "net0");
        assert_eq!(hold.command, ["ping", "-c", "1", "::1"]);
    }

    #[test]
    fn a_usage_error_is_one_line_that_names_command_and_culprit() {
        for (line, parts) in [
            ("dladm show-link --frob", ["dladm: show-link: ", "`--frob`"]),
            ("dladm frob", ["dladm: usage: ", "`frob`"]),
            ("dladm rename-link a", ["dladm: rename-link: ", "NEW-NAME"]),
            ("dladm delete-phys", ["dladm: delete-phys: ", "LINK"]),
            ("dladm hold a", ["dladm: hold: ", "COMMAND"]),
            ("dladm monitor --since x", ["dladm: monitor: ", "`x`"]),
            ("dladm show-link -p -o link --json", ["dladm: show-link: ", "--json"]),
        ] {
            let said = refused(line);
            assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
