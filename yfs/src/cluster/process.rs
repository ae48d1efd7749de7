//! Processes of a cluster: starting them in their own session, recognising them later, stopping them.
//!
//! A process is recorded as its pid **and** the moment it started (with the boot it belongs to), so that a pid that was
//! reused meanwhile is never taken for ours, and never killed.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One process, named so that a later process with the same pid is not mistaken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
    /// The boot it belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

impl ProcessId {
    /// The identity of the process that has this pid now; `None` when there is none, or only a zombie.
    pub fn of(pid: u32) -> Option<ProcessId> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&stat)?;
        if matches!(state, 'Z' | 'X' | 'x') {
            return None;
        }
        Some(ProcessId { pid, start, boot: boot_id() })
    }

    /// Whether this very process is still running.
    pub fn is_alive(&self) -> bool {
        ProcessId::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to the process if it is still the recorded one. `false` when it is gone.
    pub fn signal(&self, signal: libc::c_int) -> bool {
        let Ok(pid) = libc::pid_t::try_from(self.pid) else { return false };
        // SAFETY: kill takes no pointers. The pid was checked to be positive and to be the recorded process.
        self.is_alive() && pid > 0 && unsafe { libc::kill(pid, signal) } == 0
    }

    /// Waits until the process is gone. `false` when it is still there at the end of `patience`.
    pub fn wait_gone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Asks the process to end (SIGTERM) and, when it does not within `patience`, ends it (SIGKILL).
    /// `false` when even that did not help.
    pub fn stop(&self, patience: Duration) -> bool {
        if !self.signal(libc::SIGTERM) || self.wait_gone(patience) {
            return true;
        }
        self.signal(libc::SIGKILL);
        self.wait_gone(Duration::from_secs(5))
    }
}

/// State and start time out of a line of `/proc/PID/stat`. The command name may hold spaces and parentheses, so the
/// fields are counted from the last closing one.
pub(crate) fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// A program of this project: beside the running executable, or one level up (tests run from `deps/`), or on the `PATH`.
pub fn find_program(name: &str) -> Result<PathBuf, ProgramMissing> {
    let here = std::env::current_exe().ok();
    let beside = here.as_deref().and_then(Path::parent);
    let candidates = [beside, beside.and_then(Path::parent)];
    for dir in candidates.into_iter().flatten() {
        let candidate = dir.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    Err(ProgramMissing {
        name: name.to_owned(),
        beside: beside.map_or_else(|| PathBuf::from("."), Path::to_path_buf),
    })
}

/// A program that should have been installed with this one is not there.
#[derive(Debug, thiserror::Error)]
#[error("the program {name} is missing: it belongs beside yfs in {} (build it with `cargo build`)", beside.display())]
pub struct ProgramMissing {
    /// Name of the program looked for.
    pub name: String,
    /// Where it was expected.
    pub beside: PathBuf,
}

/// Starts a program as a daemon: own session, no standard input, output appended to `log`. What it writes to the log from
/// now on can be told from what was there before by the returned [`Daemon`].
pub fn spawn_daemon<I, S>(program: &Path, args: I, log: &Path) -> io::Result<Daemon>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let log_start = output.metadata()?.len();
    let mut command = Command::new(program);
    command.args(args).current_dir("/").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = in_own_session(&mut command).spawn()?;
    Ok(Daemon { child, log: log.to_path_buf(), log_start })
}

/// Makes the command start in a session of its own, so that a signal to our terminal's process group does not reach it.
pub fn in_own_session(command: &mut Command) -> &mut Command {
    // SAFETY: setsid is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        })
    }
}

/// A daemon this process started and still watches.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    log_start: u64,
}

impl Daemon {
    /// Its identity, or `None` when it has ended already.
    pub fn id(&self) -> Option<ProcessId> {
        ProcessId::of(self.child.id())
    }

    /// When it has ended: why, in its own last words.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(match self.last_words() {
            Some(words) => words,
            None => format!("{status}; see {}", self.log.display()),
        })
    }

    /// The last non-empty line it wrote since it was started.
    fn last_words(&self) -> Option<String> {
        const TAIL_MAX: u64 = 64 << 10;
        let mut file = File::open(&self.log).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(TAIL_MAX)))).ok()?;
        let mut tail = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut tail).ok()?;
        let tail = String::from_utf8_lossy(&tail).into_owned();
        let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_nasty_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("no parenthesis"), None);
        assert_eq!(parse_stat("1 (x) S 1"), None);
    }

    #[test]
    fn this_process_is_alive_and_a_namesake_is_not() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let namesake = ProcessId { start: me.start + 1, ..me.clone() };
        assert!(!namesake.is_alive());
        assert!(!namesake.signal(0), "a reused pid must not be signalled");
        let other_boot = ProcessId { boot: "another".into(), ..me };
        assert!(!other_boot.is_alive());
    }

    #[test]
    fn a_daemon_is_recognised_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = spawn_daemon(Path::new("/bin/sleep"), ["600"], &dir.path().join("log")).unwrap();
        let id = daemon.id().unwrap();
        assert!(id.is_alive());
        // It is our own child here and so stays a zombie until waited for; a zombie counts as gone.
        assert!(id.stop(Duration::from_secs(10)));
        assert!(!id.is_alive());
        assert!(id.stop(Duration::from_secs(10)), "stopping twice is fine");
        let mut daemon = daemon;
        assert!(daemon.child.wait().is_ok());
    }

    #[test]
    fn a_dead_daemon_leaves_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "an old line of an earlier run\n").unwrap();
        let mut daemon =
            spawn_daemon(Path::new("/bin/sh"), ["-c", "echo first; echo 'port in use' >&2; exit 3"], &log)
                .unwrap();
        daemon.child.wait().unwrap();
        assert_eq!(daemon.obituary().as_deref(), Some("port in use"));

        let mut silent = spawn_daemon(Path::new("/bin/false"), [] as [&str; 0], &log).unwrap();
        silent.child.wait().unwrap();
        let words = silent.obituary().unwrap();
        assert!(words.contains("exit status") && !words.contains("old line"), "{words}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = find_program("no-such-program-of-yfs").unwrap_err().to_string();
        assert!(error.contains("no-such-program-of-yfs"), "{error}");
    }
}
