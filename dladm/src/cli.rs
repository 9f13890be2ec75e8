//! The command line.

mod property;

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::ArgValueCompleter;

use crate::classes::ClassCommand;
use crate::completion::{links, zones};
use crate::failure::{Failure, Report};

pub use property::{ResetLinkprop, SetLinkprop, ShowLinkprop};

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
    /// Show links of an address of their own over others
    ShowVnic(ShowVnic),
    /// Show VLANs
    ShowVlan(ShowClass),
    /// Show aggregations, or their ports
    ShowAggr(ShowAggr),
    /// Show bridges, or their ports
    ShowBridge(ShowBridge),
    /// Show links over nothing
    ShowEtherstub(ShowClass),
    /// Show IP tunnels
    ShowIptun(ShowClass),
    /// Show Ethernet links over IP
    ShowOverlay(ShowClass),
    /// Show zones
    ShowZone(ShowZone),
    /// Lend a link to a zone, now or whenever that is up
    SetZone(SetZone),
    /// Take a lent link home
    ResetZone(ResetZone),
    #[command(flatten)]
    OfClass(ClassCommand),
    /// Make a network namespace a zone
    AttachZone(AttachZone),
    /// End a zone: its loans come home, its namespace may live on
    DetachZone(DetachZone),
    /// Show properties of links
    ShowLinkprop(ShowLinkprop),
    /// Set properties of a link, all of them or none
    SetLinkprop(SetLinkprop),
    /// Take back what was set of a link's properties
    ResetLinkprop(ResetLinkprop),
    /// Tell where a link is, whoever moved it there
    Where(Where),
    /// Bring a link home that somebody moved away
    Reclaim(Reclaim),
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
            Self::ShowLink(args) => ("show-link", args.which.link.as_ref()),
            Self::ShowPhys(args) => ("show-phys", args.link.as_ref()),
            Self::ShowVnic(args) => ("show-vnic", args.of.which.link.as_ref()),
            Self::ShowVlan(args) => ("show-vlan", args.which.link.as_ref()),
            Self::ShowAggr(args) => ("show-aggr", args.of.which.link.as_ref()),
            Self::ShowBridge(args) => ("show-bridge", args.of.which.link.as_ref()),
            Self::ShowEtherstub(args) => ("show-etherstub", args.which.link.as_ref()),
            Self::ShowIptun(args) => ("show-iptun", args.which.link.as_ref()),
            Self::ShowOverlay(args) => ("show-overlay", args.which.link.as_ref()),
            Self::ShowZone(args) => ("show-zone", args.zone.as_ref()),
            Self::SetZone(args) => return args.what(),
            Self::ResetZone(args) => ("reset-zone", Some(&args.link)),
            Self::OfClass(command) => return command.what(),
            Self::AttachZone(args) => ("attach-zone", Some(&args.zone)),
            Self::DetachZone(args) => ("detach-zone", Some(&args.zone)),
            Self::ShowLinkprop(args) => ("show-linkprop", args.link.as_ref()),
            Self::SetLinkprop(args) => ("set-linkprop", Some(&args.link)),
            Self::ResetLinkprop(args) => ("reset-linkprop", Some(&args.link)),
            Self::Where(args) => ("where", Some(&args.link)),
            Self::Reclaim(args) => ("reclaim", Some(&args.link)),
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

/// In which form things are shown.
#[derive(Args, Debug, Default)]
pub struct Form {
    /// A line per object, fields separated by `:`; needs -o
    #[arg(short = 'p', long = "parsable", alias = "parseable")]
    pub parsable: bool,
    /// The fields to show, or `all`
    #[arg(short = 'o', long = "output", value_name = "FIELD,...", action = ArgAction::Set)]
    pub fields: Option<String>,
    /// One JSON array of objects
    #[arg(long, conflicts_with = "parsable")]
    pub json: bool,
}

/// Which links are shown.
#[derive(Args, Debug, Default)]
pub struct Which {
    /// Links that survive a reboot, there or not
    #[arg(short = 'P', long)]
    pub persistent: bool,
    /// Links of this zone
    #[arg(short = 'z', long, value_name = "ZONE", add = ArgValueCompleter::new(zones))]
    pub zone: Option<String>,
    /// Links of every zone, with a column for it
    #[arg(short = 'Z', long)]
    pub show_zone: bool,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: Option<OsString>,
}

/// `show-link`
#[derive(Args, Debug, Default)]
pub struct ShowLink {
    #[command(flatten)]
    pub which: Which,
    /// What passed through them
    #[arg(short = 's', long, conflicts_with = "persistent")]
    pub statistics: bool,
    /// Show it again after so many seconds, and then what passed meanwhile
    #[arg(
        short = 'i',
        long,
        value_name = "SECONDS",
        requires = "statistics",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub interval: Option<u32>,
    #[command(flatten)]
    pub form: Form,
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
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: Option<OsString>,
}

/// `show-vlan` and the like: links of one class.
#[derive(Args, Debug)]
pub struct ShowClass {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub form: Form,
}

/// `show-vnic`
#[derive(Args, Debug)]
pub struct ShowVnic {
    /// Those over this link: NAME, ZONE/NAME or @LINKID
    #[arg(short = 'l', long = "link", value_name = "LOWER", add = ArgValueCompleter::new(links))]
    pub over: Option<OsString>,
    #[command(flatten)]
    pub of: ShowClass,
}

/// `show-aggr`
#[derive(Args, Debug)]
pub struct ShowAggr {
    /// The aggregations with their ports
    #[arg(short = 'x', long, conflicts_with = "lacp")]
    pub extended: bool,
    /// What LACP has come to on their ports
    #[arg(short = 'L', long)]
    pub lacp: bool,
    #[command(flatten)]
    pub of: ShowClass,
}

/// `show-bridge`
#[derive(Args, Debug)]
pub struct ShowBridge {
    /// The ports of the bridges
    #[arg(short = 'l', long)]
    pub ports: bool,
    #[command(flatten)]
    pub of: ShowClass,
}

/// `show-zone`
#[derive(Args, Debug)]
pub struct ShowZone {
    #[command(flatten)]
    pub form: Form,
    /// This zone alone
    #[arg(value_name = "ZONE", add = ArgValueCompleter::new(zones))]
    pub zone: Option<OsString>,
}

/// `set-zone`
#[derive(Args, Debug)]
pub struct SetZone {
    /// Only until the zone ends
    #[arg(short = 't', long)]
    pub temporary: bool,
    /// Also if the link has addresses, or other links lie over it
    #[arg(short = 'f', long)]
    pub force: bool,
    /// The link's name inside the zone
    #[arg(short = 'n', long, value_name = "NAME-INSIDE")]
    pub name: Option<String>,
    /// Do nothing if the link was lent or came home since it had this generation
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
    /// Where the link is to go
    #[arg(value_name = "ZONE", add = ArgValueCompleter::new(zones))]
    pub zone: OsString,
}

impl SetZone {
    fn what(&self) -> String {
        format!("set-zone {} {}", self.link.display(), self.zone.display())
    }
}

/// `reset-zone`
#[derive(Args, Debug)]
pub struct ResetZone {
    /// Until the zone comes up anew: the link then goes there again
    #[arg(short = 't', long)]
    pub temporary: bool,
    /// Also if the link has addresses, or other links lie over it
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Do nothing if the link was lent or came home since it had this generation
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}

/// `attach-zone`
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("namespace").args(["netns", "pid"]).required(true))]
pub struct AttachZone {
    /// Where the namespace can be opened
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// A process in the namespace; the zone ends with it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// Its name
    #[arg(value_name = "ZONE", add = ArgValueCompleter::new(zones))]
    pub zone: OsString,
}

/// `detach-zone`
#[derive(Args, Debug)]
pub struct DetachZone {
    #[arg(value_name = "ZONE", add = ArgValueCompleter::new(zones))]
    pub zone: OsString,
}

/// `where`
#[derive(Args, Debug)]
pub struct Where {
    #[command(flatten)]
    pub form: Form,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}

/// `reclaim`
#[derive(Args, Debug)]
pub struct Reclaim {
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}

/// `rename-link`
#[derive(Args, Debug)]
pub struct RenameLink {
    /// Links, each with its new name
    #[arg(value_names = ["LINK", "NEW-NAME"], num_args = 2.., required = true, add = ArgValueCompleter::new(links))]
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
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}

/// `hold`
#[derive(Args, Debug)]
pub struct Hold {
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true, value_hint = ValueHint::CommandName)]
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
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
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
    fn a_new_link_takes_auto_or_the_address_of_a_single_ethernet_link() {
        for good in ["auto", "02:00:00:00:00:01"] {
            run(&format!("dladm create-vnic -l a -m {good} v0"));
        }
        let (zero, group) = ("00:00:00:00:00:00", "01:00:5e:00:00:01");
        for bad in ["", "AUTO", "02:00:00:00:00", "02:00:00:00:00:01:02", zero, group] {
            let said = refused(&format!("dladm create-vnic -l a -m {bad} v0"));
            assert!(said.contains("--mac"), "{said}");
        }
    }

    #[test]
    fn what_is_asked_for_is_told_with_its_operands() {
        for (line, what) in [
            ("dladm set-zone -t -n eth0 net0 web", "set-zone net0 web"),
            ("dladm reset-zone web/eth0", "reset-zone web/eth0"),
            ("dladm create-vnic -t -l net0 -z web v0", "create-vnic v0"),
            ("dladm create-veth -t -z web a b", "create-veth a b"),
            ("dladm delete-veth a", "delete-veth a"),
            ("dladm create-bridge -l a br0", "create-bridge br0"),
            ("dladm remove-aggr -l a ag0", "remove-aggr ag0"),
            ("dladm attach-zone --pid 7 web", "attach-zone web"),
            ("dladm show-zone", "show-zone"),
            ("dladm show-bridge -l br0", "show-bridge br0"),
            ("dladm set-linkprop -t -p mtu=9000 net0", "set-linkprop net0"),
            ("dladm show-linkprop -p mtu", "show-linkprop"),
            ("dladm where @7", "where @7"),
        ] {
            assert_eq!(run(line).what(), what);
        }
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
            ("dladm set-zone net0", ["dladm: set-zone: ", "ZONE"]),
            ("dladm set-zone --generation x a z", ["dladm: set-zone: ", "`x`"]),
            ("dladm create-vnic v0", ["dladm: create-vnic: ", "--link"]),
            ("dladm create-vnic -l a -m 02:0 v", ["dladm: create-vnic: ", "`02:0`"]),
            ("dladm create-vnic -l a -v 0 v", ["dladm: create-vnic: ", "1-4094"]),
            ("dladm create-vnic -l a -v 5 --kind macvlan v", ["`--vid <VID>`", "`--kind <KIND>`"]),
            ("dladm create-vnic -l a -v 5 --mode vepa v", ["`--vid <VID>`", "`--mode <WORD>`"]),
            ("dladm create-vnic -l a -v 5 --bc-queue 9 v", ["`--vid <VID>`", "`--bc-queue"]),
            ("dladm create-vnic -l a --kind vlan-vnic v", ["dladm: create-vnic: ", "`vlan-vnic`"]),
            ("dladm create-veth a", ["dladm: create-veth: ", "PEER"]),
            ("dladm create-vlan -l a v", ["dladm: create-vlan: ", "--vid"]),
            ("dladm create-vlan -l a -v 0 v", ["dladm: create-vlan: ", "1-4094"]),
            ("dladm create-vlan -l a -v 4095 v", ["dladm: create-vlan: ", "1-4094"]),
            ("dladm create-vlan -l a -v 1 -v 2 v", ["dladm: create-vlan: ", "--vid"]),
            ("dladm create-etherstub --mtu 99999 s", ["dladm: create-etherstub: ", "68-65535"]),
            ("dladm create-iptun t", ["dladm: create-iptun: ", "--kind"]),
            ("dladm create-iptun -T gre -a from=::1 t", ["dladm: create-iptun: ", "`from=::1`"]),
            ("dladm add-bridge br0", ["dladm: add-bridge: ", "--link"]),
            ("dladm attach-zone web", ["dladm: attach-zone: ", "--netns"]),
            ("dladm attach-zone --pid 1 --netns /x web", ["dladm: attach-zone: ", "--pid"]),
            ("dladm attach-zone --pid 0 web", ["dladm: attach-zone: ", "`0`"]),
            ("dladm where", ["dladm: where: ", "LINK"]),
            ("dladm show-aggr -x -L", ["dladm: show-aggr: ", "--lacp"]),
            ("dladm show-link -i 1", ["dladm: show-link: ", "--statistics"]),
            ("dladm show-link -s -i 0", ["dladm: show-link: ", "`0`"]),
            ("dladm show-link -s -P", ["dladm: show-link: ", "--persistent"]),
            ("dladm set-linkprop net0", ["dladm: set-linkprop: ", "--prop"]),
            ("dladm reset-linkprop -p mtu", ["dladm: reset-linkprop: ", "LINK"]),
            ("dladm show-linkprop -c -o link --json", ["dladm: show-linkprop: ", "--json"]),
            ("dladm show-link -p -o link --json", ["dladm: show-link: ", "--json"]),
        ] {
            let said = refused(line);
            assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
