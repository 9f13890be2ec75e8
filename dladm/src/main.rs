//! `dladm`: the administrator's command. It turns arguments into calls at the daemon's door and
//! answers into text; no rule about links lives here.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod classes;
mod cli;
mod colour;
mod commands;
mod completion;
mod details;
mod failure;
mod fields;
#[cfg(test)]
mod manual;
mod order;
mod output;
mod shape;

use std::process::ExitCode;

use cli::Parsed;
use failure::Report;

fn main() -> ExitCode {
    completion::answer();
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Parsed::Run(cli)) => commands::run(cli),
        Ok(Parsed::Print(text)) => output::print(text.as_bytes())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|failure| Report::new("help", failure)),
        Err(report) => Err(report),
    };
    outcome.unwrap_or_else(|report| {
        output::complain(&report);
        report.exit_code()
    })
}
