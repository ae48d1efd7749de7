//! Processes that are ended by their id, and waiting with a deadline.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Asks `found` again and again until it finds something or `patience` is over.
pub fn until<T>(patience: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = found() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10)); // between two questions; the answer ends the wait
    }
}

/// A server under test: its output goes to a log, and it is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> io::Result<Process> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok(); // fails only when it is gone already
        self.child.wait().ok();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two integers; the child is ours and not reaped yet, so the id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Asks it to end (SIGTERM) and waits; None when it does not within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal(libc::SIGTERM);
        until(patience, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, for a message about what went wrong.
pub fn tail(log: &Path) -> String {
    const MOST: u64 = 4096;
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|e| format!("(cannot be read: {e})"));
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().map(|line| format!("    {line}\n")).collect()
}
