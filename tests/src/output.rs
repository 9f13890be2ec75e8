//! What a command said, and what is asserted of it.

use std::os::unix::process::ExitStatusExt;

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// Its exit status; 128 and the signal, where a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        let status = output.status;
        Self {
            status: status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Output {
    /// The standard output of a command that did what it was asked.
    ///
    /// # Panics
    /// When it failed, or complained.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// The error line of a `dladm` that refused with exit status 1, giving `reason`, a stable name
    /// of SPEC.md section 12.
    ///
    /// # Panics
    /// When it did not, or not in the one line that SPEC.md section 10 asks for.
    #[track_caller]
    pub fn refused(self, reason: &str) -> String {
        let line = self.error_line(1);
        assert!(line.contains(&format!("({reason})")), "not `{reason}`: {line}");
        line
    }

    /// The error line of a `dladm` that failed with this exit status.
    ///
    /// # Panics
    /// When it did not, or not in the one line that SPEC.md section 10 asks for.
    #[track_caller]
    pub fn error_line(self, status: i32) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{self:?}");
        let Some(line) = self.stderr.strip_suffix('\n') else { panic!("no line: {self:?}") };
        assert!(!line.contains(char::is_control), "more than one plain line: {self:?}");
        let parts: Vec<&str> = line.splitn(3, ": ").collect();
        assert!(matches!(parts[..], ["dladm", _, _]), "not `dladm: WHAT: WHY`: {line}");
        line.to_owned()
    }
}
