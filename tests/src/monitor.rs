//! A command that tells lines while a test runs: `dladm monitor`, or `busctl monitor`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::PATIENCE;

/// A running monitor; it ends with this value.
pub struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    /// Starts the command and listens to it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the monitor starts");
        let stdout = child.stdout.take().expect("its output is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The lines that have come and were not taken yet.
    pub fn so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Waits for a line that passes the test; those before it are dropped.
    ///
    /// # Panics
    /// When none comes within a minute.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.until(what, wanted).pop().expect("the line that was waited for")
    }

    /// Waits for a line that passes the test, and gives it with all those before it.
    ///
    /// # Panics
    /// When none comes within a minute.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("the monitor never told {what}, but {seen:#?}");
            };
            seen.push(line);
            if seen.last().is_some_and(|line| wanted(line)) {
                return seen;
            }
        }
    }

    /// Waits until the command ends by itself, and gives its exit status.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait_for_end(mut self) -> Option<i32> {
        self.child.wait().expect("the monitor can be waited for").code()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
