//! Holds `dladm(8)` to what the program takes.

use std::collections::BTreeSet;

use clap::{Arg, Command, CommandFactory};
use dlmgmt_proto::property;

use crate::cli::Cli;
use crate::fields::{
    Field, LINK_FIELDS, PHYS_FIELDS, PROPERTY_FIELDS, STATISTICS_FIELDS, WHERE_FIELDS, ZONE_FIELDS,
    class,
};

const PAGE: &str = include_str!("../../man/dladm.8");

/// The part of the page about each command: its name, and the text up to the next.
fn parts() -> Vec<(&'static str, &'static str)> {
    let (_, commands) = PAGE.split_once("\n.Sh COMMANDS\n").unwrap();
    let (commands, _) = commands.split_once("\n.Sh ").unwrap();
    let parts = commands.split("\n.It Xo\n.Cm ").skip(1);
    parts.map(|part| (part.split_whitespace().next().unwrap(), part)).collect()
}

#[track_caller]
fn part_about(command: &str) -> &'static str {
    let part = parts().into_iter().find(|(name, _)| *name == command);
    part.unwrap_or_else(|| panic!("dladm(8) does not tell of {command}")).1
}

/// The words, punctuation aside, that follow each macro of this name: `Fl`, `Ar`.
fn marked(text: &str, name: &str) -> BTreeSet<String> {
    let mut marked = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('.')) {
        let mut inside = false;
        for word in line[1..].split_whitespace() {
            let is_macro = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
            if is_macro {
                inside = word == name;
            } else if inside && word.contains(char::is_alphanumeric) {
                marked.insert(word.to_owned());
            }
        }
    }
    marked
}

/// The ways to write an option: `t` and `-temporary`.
fn spellings(option: &Arg) -> impl Iterator<Item = String> {
    let short = option.get_short().map(String::from);
    short.into_iter().chain(option.get_long().map(|long| format!("-{long}")))
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set())
}

fn commands() -> Vec<Command> {
    Cli::command().get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect()
}

#[test]
fn the_page_tells_of_every_command_and_of_no_other() {
    let told: BTreeSet<String> = parts().iter().map(|(name, _)| (*name).to_owned()).collect();
    let there: BTreeSet<String> = commands().iter().map(|c| c.get_name().to_owned()).collect();
    assert_eq!(told, there);
}

#[test]
fn every_option_of_a_command_is_told_with_it_and_no_other_is() {
    for command in commands() {
        let told = marked(part_about(command.get_name()), "Fl");
        for option in options(&command) {
            let first = spellings(option).next().unwrap();
            assert!(told.contains(&first), "{}: {first}", command.get_name());
        }
        let there: BTreeSet<String> = options(&command).flat_map(spellings).collect();
        assert!(told.is_subset(&there), "{}: {told:?}", command.get_name());
    }
}

#[test]
fn every_long_and_short_option_is_somewhere_on_the_page() {
    let told = marked(PAGE, "Fl");
    let program = Cli::command();
    let all = commands();
    for option in all.iter().chain([&program]).flat_map(options).flat_map(spellings) {
        assert!(told.contains(&option), "{option}");
    }
}

#[test]
fn every_operand_of_a_command_is_told_with_it() {
    for command in commands() {
        let told = marked(part_about(command.get_name()), "Ar");
        for operand in command.get_positionals() {
            for name in operand.get_value_names().unwrap_or_default() {
                let name = name.to_lowercase();
                assert!(told.contains(&name), "{}: {name}", command.get_name());
            }
        }
    }
}

#[test]
fn every_field_is_told_with_its_command() {
    fn check<T>(command: &str, table: &[Field<T>]) {
        let told = part_about(command).replace(',', " ");
        for field in table {
            assert!(marked(&told, "Cm").contains(field.name), "{command}: {}", field.name);
        }
    }
    check("show-link", LINK_FIELDS);
    check("show-link", STATISTICS_FIELDS);
    check("show-phys", PHYS_FIELDS);
    check("show-vnic", class::VNIC_FIELDS);
    check("show-vlan", class::VLAN_FIELDS);
    check("show-aggr", class::AGGR_FIELDS);
    check("show-aggr", class::AGGR_PORT_FIELDS);
    check("show-aggr", class::LACP_FIELDS);
    check("show-bridge", class::BRIDGE_FIELDS);
    check("show-bridge", class::BRIDGE_PORT_FIELDS);
    check("show-etherstub", class::ETHERSTUB_FIELDS);
    check("show-iptun", class::IPTUN_FIELDS);
    check("show-overlay", class::OVERLAY_FIELDS);
    check("show-zone", ZONE_FIELDS);
    check("where", WHERE_FIELDS);
    check("show-linkprop", PROPERTY_FIELDS);
}

#[test]
fn every_property_is_told() {
    let told = marked(part_about("show-linkprop"), "Cm");
    for property in property::names() {
        assert!(told.contains(property), "{property}");
    }
}
