//! Programs that a test starts.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::failure::Failure;

/// What must happen soon gets this long, also on a machine under load.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has.
pub const POLL: Duration = Duration::from_millis(20);
/// A program that has a lot to do gets this long to end.
const END_WITHIN: Duration = Duration::from_secs(300);

/// Starts a program in `dir` with its output at the end of `log`; it is killed when the handle is dropped.
pub fn spawn(
    program: &Path,
    called: &str,
    arguments: &[String],
    dir: &Path,
    log: &Path,
) -> Result<Child, Failure> {
    let out = OpenOptions::new().create(true).append(true).open(log);
    let out = out.map_err(|error| Failure::cannot("open", log, &error))?;
    let err = out.try_clone().map_err(|error| Failure::cannot("open", log, &error))?;
    Command::new(program)
        .arg0(called)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::cannot("run", program, &error))
}

/// Waits for a program to end.
pub async fn wait(child: &mut Child, what: &str) -> Result<ExitStatus, Failure> {
    match tokio::time::timeout(END_WITHIN, child.wait()).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(Failure::new(format!("cannot wait for {what}: {error}"))),
        Err(_) => Err(Failure::new(format!("{what} does not end within {END_WITHIN:?}"))),
    }
}

/// Asks a program to end, and waits until it has.
pub async fn terminate(child: &mut Child, what: &str) -> Result<ExitStatus, Failure> {
    let pid = child.id().ok_or_else(|| Failure::new(format!("{what} has ended already")))?;
    // SAFETY: kill has no memory effects; the process is our child and not yet waited for, so the id is its own.
    if unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) } != 0 {
        return Err(Failure::new(format!("cannot end {what}")));
    }
    wait(child, what).await
}
