//! `hold`.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Connect, link_ref};
use crate::cli;
use crate::failure::Failure;

/// Holds a link while a command runs; the exit status is the command's.
pub fn run(args: &cli::Hold, connect: impl Connect) -> Result<ExitCode, Failure> {
    let link = link_ref(&args.link)?;
    let client = connect()?;
    let hold = client.hold(link)?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::Usage("a command is needed".to_owned()));
    };
    let cannot_run = || Failure::system(format!("cannot run `{}`", program.display()));
    let status = wait_for(Command::new(program).args(arguments)).map_err(cannot_run())?;
    // Whoever comes next finds the link free. A daemon that is gone holds nothing anyway.
    let _ = hold.release();
    Ok(exit_code(status))
}

/// Runs the command to its end. Signals do not end this program meanwhile, since the hold would
/// end before the command: those of the terminal reach the command by themselves, those that were
/// sent to this program alone are passed on.
fn wait_for(command: &mut Command) -> io::Result<ExitStatus> {
    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
    let mut child = command.spawn()?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let passed_on = match signal {
                SIGTERM => Signal::TERM,
                SIGHUP => Signal::HUP,
                _ => continue,
            };
            // It fails only when the command has ended, and then there is nothing to do.
            let _ = pidfd_send_signal(&pidfd, passed_on);
        }
    });
    child.wait()
}

/// The status as a shell tells it: 128 and the signal for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_command_s_and_a_signal_counts_from_128() {
        for (script, code) in [("exit 0", 0), ("exit 77", 77), ("kill -KILL $$", 128 + 9)] {
            let status = Command::new("sh").args(["-c", script]).status().unwrap();
            assert_eq!(exit_code(status), ExitCode::from(code), "{script}");
        }
    }
}
