//! What the daemon logs, as `org.freedesktop.LogControl1` shows and sets it.

use std::sync::Arc;

use super::object::Properties;

/// Levels of syslog, and those of the daemon's log that tell no less.
const LEVELS: [(&str, &str); 8] = [
    ("emerg", "off"),
    ("alert", "off"),
    ("crit", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("notice", "info"),
    ("info", "info"),
    ("debug", "debug"),
];

/// What decides what is logged.
pub trait LogFilter: Send + Sync {
    /// The filter, as `DLMGMT_LOG` would give it.
    fn get(&self) -> String;

    /// Sets another filter; an error says why not.
    fn set(&self, filter: &str) -> Result<(), String>;
}

/// Shows and sets what is logged.
#[derive(Clone)]
pub struct LogLevel {
    /// Where it is logged: `journal` or `console`.
    pub target: &'static str,
    /// What decides.
    pub filter: Arc<dyn LogFilter>,
}

impl LogLevel {
    pub(super) fn properties(&self) -> Properties {
        let filter = self.filter.get();
        let known = LEVELS.iter().rev().find(|(_, own)| filter.starts_with(own));
        Properties::from([
            ("LogLevel", known.map_or("info", |(level, _)| level).into()),
            ("LogTarget", self.target.into()),
            ("SyslogIdentifier", "dlmgmtd".into()),
        ])
    }

    pub(super) fn set(&self, level: &str) -> Result<(), String> {
        let own = LEVELS.iter().find(|(name, _)| *name == level);
        let (_, own) = own.ok_or_else(|| format!("no log level {}", level.escape_debug()))?;
        self.filter.set(own)
    }
}
