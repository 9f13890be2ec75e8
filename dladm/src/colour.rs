//! Colours, for people at a terminal.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anstyle_query::{clicolor_force, term_supports_color};

/// How the cells of a table are painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Not at all.
    Plain,
    /// The header is bold, and states have colours.
    Bright,
}

impl Palette {
    /// What suits the standard output: colours on a terminal, unless `NO_COLOR`, `CLICOLOR=0` or
    /// `TERM=dumb` forbid them; and elsewhere where `CLICOLOR_FORCE` asks for them.
    pub fn of_output() -> Self {
        match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => Self::Plain,
            // Where `CI` is set the library has colours for a dumb terminal too.
            _ if clicolor_force() || term_supports_color() => Self::Bright,
            _ => Self::Plain,
        }
    }

    /// The style of a column's header.
    pub fn header(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Bright => Style::new().bold(),
        }
    }

    /// The style of a cell in the column of this field.
    pub fn cell(self, field: &str, text: &str) -> Style {
        match (self, field, text) {
            (Self::Bright, "state", "up" | "ready") => AnsiColor::Green.on_default(),
            (Self::Bright, "state", "down" | "shutting-down") => AnsiColor::Red.on_default(),
            _ => Style::new(),
        }
    }
}
