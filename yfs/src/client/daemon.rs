//! Going to the background: this program starts itself again with `--foreground`, in a session of its own, and waits
//! until that process serves the mount or says why it cannot.
//!
//! The child reports over its standard output, one line: [`READY`], or [`FAILED`] with the reason. Afterwards it points
//! its standard output at `/dev/null`. (A fork without exec would leave a runtime with threads that do not exist.)

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::process::{ProcessId, in_own_session};

/// What a child says when it serves.
pub const READY: &str = "ready";
/// What a child says, before the reason, when it gives up.
pub const FAILED: &str = "failed: ";

/// Why there is no mount process in the background.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The child said why.
    #[error("{0}")]
    Failed(String),
    /// The child ended without a word.
    #[error("the mount's process ended early{}", see(.0))]
    Died(Option<PathBuf>),
    /// It could not be started.
    #[error("cannot start the mount's process: {0}")]
    Start(#[source] io::Error),
    /// Its log cannot be written.
    #[error("cannot write the log {}: {source}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn see(log: &Option<PathBuf>) -> String {
    match log {
        Some(log) => format!("; see {}", log.display()),
        None => "; see what it says with --foreground or --log FILE".into(),
    }
}

/// Starts this program with `args` in the background, and returns when it reports that it serves.
///
/// # Errors
/// One line that says why it does not.
pub fn start(args: &[OsString], log: Option<&Path>) -> Result<ProcessId, DaemonError> {
    let program = std::env::current_exe().map_err(DaemonError::Start)?;
    start_program(&program, args, log)
}

/// As [`start`], for a named program.
///
/// # Errors
/// As [`start`].
pub fn start_program(
    program: &Path,
    args: &[OsString],
    log: Option<&Path>,
) -> Result<ProcessId, DaemonError> {
    let stderr = match log {
        None => Stdio::null(),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Stdio::from(file.map_err(|source| DaemonError::Log { path: path.to_path_buf(), source })?)
        }
    };
    let mut command = Command::new(program);
    command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = in_own_session(&mut command).spawn().map_err(DaemonError::Start)?;
    let report = child.stdout.take().expect("its standard output is a pipe");
    let died = || DaemonError::Died(log.map(Path::to_path_buf));
    for line in BufReader::new(report).lines() {
        let line = line.map_err(DaemonError::Start)?;
        if line == READY {
            return ProcessId::of(child.id()).ok_or_else(died);
        }
        if let Some(reason) = line.strip_prefix(FAILED) {
            let _ = child.wait();
            return Err(DaemonError::Failed(reason.to_owned()));
        }
    }
    let _ = child.wait();
    Err(died())
}

/// The child's side: tells whoever waits in [`start`] how it went, and lets go of the pipe.
pub fn report(outcome: Result<(), &str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match outcome {
        Ok(()) => writeln!(out, "{READY}")?,
        Err(reason) => writeln!(out, "{FAILED}{}", reason.replace('\n', " "))?,
    }
    out.flush()?;
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    // SAFETY: both are open descriptors of ours; the standard output stays open throughout.
    match unsafe { libc::dup2(null.as_raw_fd(), out.as_raw_fd()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: Option<&Path>) -> Result<ProcessId, DaemonError> {
        start_program(Path::new("/bin/sh"), &["-c".into(), script.into()], log)
    }

    #[test]
    fn a_child_that_serves_is_left_running() {
        let child = shell("echo ready; exec >/dev/null sleep 600", None).unwrap();
        assert!(child.is_alive());
        assert!(child.stop(std::time::Duration::from_secs(10)));
    }

    #[test]
    fn a_child_says_why_it_cannot() {
        let error = shell("echo 'failed: no such mountpoint'; exit 1", None).unwrap_err();
        assert_eq!(error.to_string(), "no such mountpoint");
    }

    #[test]
    fn a_child_that_just_dies_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let error = shell("echo oops >&2; exit 1", Some(&log)).unwrap_err();
        assert!(matches!(error, DaemonError::Died(_)));
        assert!(error.to_string().contains(log.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "oops\n");
        let unwritable = dir.path().join("no/such/dir/log");
        assert!(matches!(shell("echo ready", Some(&unwritable)), Err(DaemonError::Log { .. })));
    }
}
