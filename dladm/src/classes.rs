//! The commands that make, change and end virtual links, read off the table of their kinds.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand};
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use dlmgmt_proto::kind::{CLASSES, ClassSpec, LinkKind, OptionSpec};
use dlmgmt_proto::{LinkClass, ValueType};

use crate::completion::{links, zones};

/// A command about links of one class.
#[derive(Clone, Debug)]
pub enum ClassCommand {
    /// `create-CLASS`
    Create(Create),
    /// `delete-CLASS`
    Delete {
        /// The class.
        class: LinkClass,
        /// Which link.
        link: OsString,
    },
    /// `add-CLASS` and `remove-CLASS`
    Ports {
        /// The class.
        class: LinkClass,
        /// Whether they come or go.
        are_added: bool,
        /// The ports.
        ports: Vec<OsString>,
        /// Which link.
        link: OsString,
    },
}

/// What a `create-CLASS` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The kind.
    pub kind: &'static LinkKind,
    /// Not persistent.
    pub temporary: bool,
    /// The zone in which it is made.
    pub zone: Option<String>,
    /// Its name.
    pub name: OsString,
    /// The other end, of a pair.
    pub peer: Option<OsString>,
    /// The zone of the other end.
    pub peer_zone: Option<String>,
    /// What it lies over, or its ports.
    pub links: Vec<OsString>,
    /// The options of its kind.
    pub options: Vec<(&'static str, String)>,
}

impl ClassCommand {
    /// What is being done, as error messages call it.
    pub fn what(&self) -> String {
        match self {
            Self::Create(create) => {
                let peer = create.peer.iter().map(|peer| format!(" {}", peer.display()));
                let class = create.kind.class;
                format!("create-{class} {}{}", create.name.display(), peer.collect::<String>())
            }
            Self::Delete { class, link } => format!("delete-{class} {}", link.display()),
            Self::Ports { class, are_added, link, .. } => {
                format!("{}-{class} {}", port_verb(*are_added), link.display())
            }
        }
    }
}

impl Subcommand for ClassCommand {
    fn augment_subcommands(command: Command) -> Command {
        CLASSES.iter().fold(command, |command, class| command.subcommands(commands_of(class)))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        CLASSES.iter().flat_map(commands_of).any(|command| command.get_name() == name)
    }
}

impl FromArgMatches for ClassCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let unknown = || clap::Error::new(ErrorKind::InvalidSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(unknown)?;
        let (verb, class) = name.split_once('-').ok_or_else(unknown)?;
        let class = class.parse().ok().and_then(ClassSpec::of).ok_or_else(unknown)?;
        match verb {
            "create" => Ok(Self::Create(Create::read(class, matches)?)),
            "delete" => Ok(Self::Delete { class: class.class, link: operand(matches, NAME) }),
            _ => Ok(Self::Ports {
                class: class.class,
                are_added: verb == port_verb(true),
                ports: many(matches, LINK),
                link: operand(matches, NAME),
            }),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const KIND: &str = "kind";
const LINK: &str = "link";
const LIST: &str = "list";
const NAME: &str = "name";
const PEER: &str = "peer";
const PEER_ZONE: &str = "peer-zone";
const TEMPORARY: &str = "temporary";
const ZONE: &str = "zone";

impl Create {
    fn read(class: &'static ClassSpec, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let kind = match matches.try_get_one::<String>(KIND).ok().flatten() {
            Some(name) => LinkKind::named(name),
            None => chosen(class, matches).or_else(|| class.default_kind()),
        };
        let text = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
        Ok(Self {
            kind: kind.ok_or_else(|| clap::Error::new(ErrorKind::MissingRequiredArgument))?,
            temporary: matches.get_flag(TEMPORARY),
            zone: text(ZONE),
            name: operand(matches, NAME),
            peer: matches.try_get_one::<OsString>(PEER).ok().flatten().cloned(),
            peer_zone: text(PEER_ZONE),
            links: many(matches, LINK),
            options: options(class, matches),
        })
    }
}

/// The kind that an option chooses which was given.
fn chosen(class: &ClassSpec, matches: &ArgMatches) -> Option<&'static LinkKind> {
    let is_given = |name: &str| matches.get_one::<String>(name).is_some();
    class.kinds().find(|kind| kind.chosen_by.is_some_and(is_given))
}

/// The options that were given, by themselves or in a list. That one is given twice is left to the
/// daemon to see.
fn options(class: &ClassSpec, matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let mut given = Vec::new();
    for option in class.options() {
        let value = matches.get_one::<String>(option.name);
        given
            .extend(value.filter(|value| *value != AUTO).map(|value| (option.name, value.clone())));
    }
    let list = matches.try_get_many::<String>(LIST).ok().flatten().into_iter().flatten();
    given.extend(list.filter_map(|assignment| {
        let (name, value) = split(class, assignment)?;
        Some((name, value.to_owned()))
    }));
    given
}

/// An option of the list with its value.
fn split<'a>(class: &ClassSpec, assignment: &'a str) -> Option<(&'static str, &'a str)> {
    let (name, value) = assignment.split_once('=')?;
    class.in_list.iter().find(|known| **known == name).map(|name| (*name, value))
}

/// The hardware address that somebody else is to choose.
const AUTO: &str = "auto";

fn operand(matches: &ArgMatches, id: &str) -> OsString {
    matches.get_one::<OsString>(id).cloned().unwrap_or_default()
}

fn many(matches: &ArgMatches, id: &str) -> Vec<OsString> {
    let given = matches.try_get_many::<OsString>(id).ok().flatten();
    given.into_iter().flatten().cloned().collect()
}

fn port_verb(are_added: bool) -> &'static str {
    if are_added { "add" } else { "remove" }
}

fn commands_of(class: &'static ClassSpec) -> Vec<Command> {
    let mut commands = vec![create(class), delete(class)];
    if class.kinds().any(|kind| kind.has_ports) {
        commands.extend([ports(class, true), ports(class, false)]);
    }
    commands
}

fn create(class: &'static ClassSpec) -> Command {
    let is_pair = class.kinds().any(|kind| kind.is_pair);
    let command = Command::new(format!("create-{}", class.class))
        .about(format!("Make {}", class.about))
        .arg(flag(TEMPORARY, 't', "Not persistent: it ends with its zone, or with this boot"))
        .args(selector(class))
        .args(below(class))
        .arg(zone(ZONE, 'z', "The zone in which it is made"))
        .args(is_pair.then(|| zone(PEER_ZONE, 'Z', "The zone in which PEER is made")))
        .args(class.options().into_iter().map(|option| argument(class, option)))
        .args(list(class))
        .arg(positional(NAME, "NAME", "Its name"))
        .args(is_pair.then(|| positional(PEER, "PEER", "The other end")));
    match class.options().iter().any(|option| option.letter == Some('h')) {
        true => command
            .disable_help_flag(true)
            .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Print help")),
        false => command,
    }
}

fn delete(class: &'static ClassSpec) -> Command {
    let name = positional(NAME, "NAME", "NAME, ZONE/NAME or @LINKID");
    Command::new(format!("delete-{}", class.class))
        .about(format!("Delete {}", class.about))
        .arg(name.add(ArgValueCompleter::new(links)))
}

fn ports(class: &'static ClassSpec, are_added: bool) -> Command {
    let (about, help) = match are_added {
        true => ("Make links the ports of", "A link that becomes a port"),
        false => ("Make links no ports any more of", "A link that is a port no more"),
    };
    let name = positional(NAME, "NAME", "NAME, ZONE/NAME or @LINKID");
    Command::new(format!("{}-{}", port_verb(are_added), class.class))
        .about(format!("{about} {}", class.about))
        .arg(link(help).required(true).action(ArgAction::Append))
        .arg(name.add(ArgValueCompleter::new(links)))
}

fn selector(class: &'static ClassSpec) -> Option<Arg> {
    let selector = class.selector()?;
    let named = || class.kinds().filter(|kind| kind.chosen_by.is_none());
    let kinds = || named().flat_map(|kind| kind.alias.into_iter().chain([kind.name]));
    let arg = Arg::new(KIND)
        .long(selector.name)
        .value_name("KIND")
        .help(format!("Its kind: {}", kinds().collect::<Vec<_>>().join(", ")));
    let arg = arg
        .value_parser(clap::builder::PossibleValuesParser::new(kinds()))
        .hide_possible_values(true)
        .required(class.default_kind().is_none());
    Some(match selector.letter {
        Some(letter) => arg.short(letter),
        None => arg,
    })
}

/// What it lies over, or its ports.
fn below(class: &'static ClassSpec) -> Option<Arg> {
    if class.kinds().any(|kind| kind.has_ports) {
        return Some(link("A link that becomes a port").action(ArgAction::Append));
    }
    let has_lower = class.kinds().any(|kind| kind.lower_rule().is_some());
    let is_needed = class.kinds().all(LinkKind::needs_lower);
    has_lower.then(|| link("The link it lies over: NAME, ZONE/NAME or @LINKID").required(is_needed))
}

fn argument(class: &'static ClassSpec, option: &'static OptionSpec) -> Arg {
    let specs = specs(class, option.name);
    let is_needed = class.in_list.is_empty()
        && class.kinds().all(|kind| kind.option(option.name).is_some_and(|own| own.is_required));
    let words: Vec<&'static str> = specs.iter().flat_map(|spec| spec.value.words()).collect();
    let value_name = if words.is_empty() { option.name.to_uppercase() } else { "WORD".to_owned() };
    let possible = possible(&specs);
    let arg = Arg::new(option.name)
        .long(option.name)
        .value_name(value_name)
        .help(format!("{} ({possible})", option.doc))
        .required(is_needed)
        .conflicts_with_all(against(class, option))
        .value_parser(move |text: &str| read(&specs, text))
        .add(ArgValueCandidates::new(move || {
            words.iter().map(|word| CompletionCandidate::new(*word)).collect()
        }));
    let arg = match option.value {
        ValueType::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
        _ => arg,
    };
    match option.letter {
        Some(letter) => arg.short(letter),
        None => arg,
    }
}

/// What cannot be given beside an option that chooses a kind: another kind, and what that one has
/// not.
fn against(class: &ClassSpec, option: &OptionSpec) -> Vec<&'static str> {
    let Some(kind) = class.chosen_by(option.name) else { return Vec::new() };
    let others = class.options().into_iter().map(|other| other.name);
    let foreign = others.filter(|name| kind.option(name).is_none());
    class.selector().map(|_| KIND).into_iter().chain(foreign).collect()
}

/// An option, of each kind that has it.
fn specs(class: &ClassSpec, name: &str) -> Vec<&'static OptionSpec> {
    class.kinds().filter_map(|kind| kind.option(name)).collect()
}

/// What an option can be, of each kind that has it.
fn possible(specs: &[&'static OptionSpec]) -> String {
    let mut possible: Vec<String> = Vec::new();
    for text in specs.iter().map(|spec| spec.value.possible()) {
        if !possible.contains(&text) {
            possible.push(text);
        }
    }
    possible.join("; ")
}

/// Takes what an option of some kind can be; which kind it is, is known only later.
fn read(specs: &[&'static OptionSpec], text: &str) -> Result<String, String> {
    let is_auto = text == AUTO && specs.iter().all(|spec| spec.value == ValueType::Mac);
    match is_auto || specs.iter().any(|spec| spec.value.parse(text).is_ok()) {
        true => Ok(text.to_owned()),
        false => Err(format!("possible is {}", possible(specs))),
    }
}

fn list(class: &'static ClassSpec) -> Option<Arg> {
    let names: Vec<String> = class.in_list.iter().map(|name| format!("{name}=...")).collect();
    (!names.is_empty()).then(|| {
        Arg::new(LIST)
            .short('a')
            .long("addresses")
            .value_name("NAME=ADDRESS,...")
            .value_delimiter(',')
            .value_parser(|text: &str| match split(class, text) {
                Some((name, value)) => read(&specs(class, name), value).map(|_| text.to_owned()),
                None => Err(format!("possible is {}", class.in_list.join(", "))),
            })
            .action(ArgAction::Append)
            .help(format!("Its ends: {}", names.join(",")))
    })
}

fn flag(id: &'static str, letter: char, help: &'static str) -> Arg {
    Arg::new(id).short(letter).long(id).action(ArgAction::SetTrue).help(help)
}

fn link(help: &'static str) -> Arg {
    Arg::new(LINK)
        .short('l')
        .long(LINK)
        .value_name("LINK")
        .value_parser(clap::value_parser!(OsString))
        .help(help)
        .add(ArgValueCompleter::new(links))
}

fn zone(id: &'static str, letter: char, help: &'static str) -> Arg {
    Arg::new(id)
        .short(letter)
        .long(id)
        .value_name(id.to_uppercase())
        .help(help)
        .add(ArgValueCompleter::new(zones))
}

fn positional(id: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(id)
        .value_name(value_name)
        .value_parser(clap::value_parser!(OsString))
        .required(true)
        .help(help)
}
