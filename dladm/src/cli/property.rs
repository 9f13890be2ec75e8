//! The arguments of the commands about properties.

use std::ffi::OsString;

use clap::{ArgAction, Args};
use clap_complete::ArgValueCompleter;

use super::{Form, LINK_HELP};
use crate::completion::{assignments, links, properties};

/// `show-linkprop`
#[derive(Args, Debug)]
pub struct ShowLinkprop {
    /// The properties to show
    #[arg(short = 'p', long = "prop", value_name = "PROP,...", add = ArgValueCompleter::new(properties))]
    pub properties: Vec<String>,
    /// A line per property, fields separated by `:`; needs -o
    #[arg(short = 'c', long = "parsable", alias = "parseable")]
    pub parsable: bool,
    /// The fields to show, or `all`
    #[arg(short = 'o', long = "output", value_name = "FIELD,...", action = ArgAction::Set)]
    pub fields: Option<String>,
    /// One JSON array of objects
    #[arg(long, conflicts_with = "parsable")]
    pub json: bool,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: Option<OsString>,
}

impl ShowLinkprop {
    /// The form: `-p` has another meaning here than with other commands.
    pub fn form(&self) -> Form {
        Form { parsable: self.parsable, fields: self.fields.clone(), json: self.json }
    }
}

/// `set-linkprop`
#[derive(Args, Debug)]
pub struct SetLinkprop {
    /// Only while the link lasts, at most until the next reboot
    #[arg(short = 't', long)]
    pub temporary: bool,
    /// The properties with their values
    #[arg(short = 'p', long = "prop", value_name = "PROP=VALUE,...", required = true, add = ArgValueCompleter::new(assignments))]
    pub values: Vec<String>,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}

/// `reset-linkprop`
#[derive(Args, Debug)]
pub struct ResetLinkprop {
    /// Only while the link lasts, at most until the next reboot
    #[arg(short = 't', long)]
    pub temporary: bool,
    /// The properties; without this, all that were set, but for `zone`
    #[arg(short = 'p', long = "prop", value_name = "PROP,...", add = ArgValueCompleter::new(properties))]
    pub properties: Vec<String>,
    #[arg(value_name = "LINK", help = LINK_HELP, add = ArgValueCompleter::new(links))]
    pub link: OsString,
}
