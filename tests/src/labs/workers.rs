//! The second process of the labs: what must be tried from two processes at the same moment.
//!
//! Both workers are told to get ready first and let go together, so that they do meet. They are processes of their
//! own (this program run again as `worker TASK`); in the tests of the checks, where the directory is a fake inside
//! this process, they are threads.

use super::files::{Files, How};
use super::{LabError, Result, at};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};

/// What one worker does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Creates `prefix-0` … in `dir`, each holding its own name.
    Create {
        /// Where.
        dir: PathBuf,
        /// Of the names.
        prefix: String,
        /// How many.
        count: usize,
        /// What the other worker may do to the same names.
        rival: Rival,
    },
    /// Removes `prefix-0` … from `dir`.
    Unlink {
        /// Where.
        dir: PathBuf,
        /// Of the names.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// Writes `count` single bytes from `offset` on, each followed by `fsync`.
    WriteBytes {
        /// The file; created when missing.
        path: PathBuf,
        /// Of the first byte.
        offset: u64,
        /// How many.
        count: usize,
        /// The byte.
        byte: u8,
    },
    /// Creates `prefix-0` … in `dir` and removes all but the last.
    CreateUnlink {
        /// Where.
        dir: PathBuf,
        /// Of the names.
        prefix: String,
        /// How many.
        count: usize,
    },
}

/// Whether somebody else creates the same names meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rival {
    /// Nobody: `O_EXCL` must succeed.
    Nobody,
    /// Somebody, with a plain open: ours must succeed as well, whoever comes first.
    Shares,
    /// Somebody, with `O_EXCL` like us: losing is fine, and the winner is noted.
    Excludes,
}

/// How the two workers are run.
#[derive(Debug, Clone)]
pub enum Workers {
    /// As processes: this program, run with `worker` and the task.
    Processes(PathBuf),
    /// As threads.
    Threads,
}

/// The names that the worker created itself (for [`Rival::Excludes`]; else all it handled).
pub type Done = Vec<String>;

impl Workers {
    /// Runs both tasks at the same time; both must succeed.
    pub fn both(&self, files: &dyn Files, first: Task, second: Task) -> Result<(Done, Done)> {
        match self {
            Workers::Processes(program) => {
                let mut pair = [Process::start(program, &first)?, Process::start(program, &second)?];
                for worker in &mut pair {
                    worker.expect("ready")?;
                }
                for worker in &mut pair {
                    worker.go()?;
                }
                let [first, second] = pair;
                Ok((first.finish()?, second.finish()?))
            }
            Workers::Threads => threads(files, first, second),
        }
    }
}

fn threads(files: &dyn Files, first: Task, second: Task) -> Result<(Done, Done)> {
    let barrier = Arc::new(Barrier::new(2));
    let work = |task: Task| {
        let barrier = barrier.clone();
        move || {
            perform(files, &task, || {
                barrier.wait();
                Ok(())
            })
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work(second));
        let first = work(first)();
        let second = other.join().expect("a worker returns its errors");
        Ok((first?, second?))
    })
}

/// The body of the `worker` command: says `ready`, waits for a line, does the task, prints what it did.
pub fn serve(files: &dyn Files, task: &str) -> Result<()> {
    let task: Task =
        serde_json::from_str(task).map_err(|e| LabError::Worker(format!("the task is not one: {e}")))?;
    let done = perform(files, &task, || {
        println!("ready");
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(LabError::Worker("the tester that started this worker is gone".into())),
        }
    })?;
    println!("{}", serde_json::to_string(&done).expect("strings have a JSON form"));
    Ok(())
}

fn perform(files: &dyn Files, task: &Task, start: impl FnOnce() -> Result<()>) -> Result<Done> {
    match task {
        Task::Create { dir, prefix, count, rival } => {
            start()?;
            let mut done = Vec::new();
            for name in names(prefix, *count) {
                if create(files, &dir.join(&name), name.as_bytes(), *rival)? {
                    done.push(name);
                }
            }
            Ok(done)
        }
        Task::Unlink { dir, prefix, count } => {
            start()?;
            unlink_all(files, dir, names(prefix, *count).collect())
        }
        Task::WriteBytes { path, offset, count, byte } => {
            start()?;
            write_bytes(files, path, *offset, *count, *byte)
        }
        Task::CreateUnlink { dir, prefix, count } => {
            start()?;
            for name in names(prefix, *count) {
                create(files, &dir.join(&name), name.as_bytes(), Rival::Nobody)?;
            }
            unlink_all(files, dir, names(prefix, count.saturating_sub(1)).collect())
        }
    }
}

/// The names `prefix-0`, `prefix-1`, ….
pub fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> + '_ {
    (0..count).map(move |i| format!("{prefix}-{i}"))
}

/// Creates one file; false when a rival has it already.
fn create(files: &dyn Files, path: &Path, content: &[u8], rival: Rival) -> Result<bool> {
    let how = if rival == Rival::Shares { How::Truncate } else { How::New };
    let mut file = match files.open(path, how) {
        Err(e) if rival == Rival::Excludes && e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        opened => opened.map_err(at("create", path))?,
    };
    file.write(content).map_err(at("write", path))?;
    file.close().map_err(at("close", path))?;
    Ok(true)
}

fn unlink_all(files: &dyn Files, dir: &Path, names: Vec<String>) -> Result<Done> {
    for name in &names {
        let path = dir.join(name);
        files.unlink(&path).map_err(at("unlink", &path))?;
    }
    Ok(names)
}

fn write_bytes(files: &dyn Files, path: &Path, offset: u64, count: usize, byte: u8) -> Result<Done> {
    let mut file = files.open(path, How::Write).map_err(at("open", path))?;
    for i in 0..count as u64 {
        file.write_at(&[byte], offset + i).map_err(at("write", path))?;
        file.sync().map_err(at("fsync", path))?;
    }
    file.close().map_err(at("close", path))?;
    Ok(Vec::new())
}

/// A worker process; killed when dropped before it finished.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(program: &Path, task: &Task) -> Result<Process> {
        let task = serde_json::to_string(task).expect("a task has a JSON form");
        let mut child = Command::new(program)
            .args(["worker", &task])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| LabError::Worker(format!("cannot run {}: {e}", program.display())))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Ok(Process { child, stdin, stdout })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(n) if n > 0 => Ok(line.trim_end().to_owned()),
            // The worker has said why on stderr.
            _ => Err(LabError::Worker("the second process failed".into())),
        }
    }

    fn expect(&mut self, want: &str) -> Result<()> {
        let line = self.line()?;
        if line == want {
            Ok(())
        } else {
            Err(LabError::Worker(format!("a worker said {line:?} instead of {want:?}")))
        }
    }

    fn go(&mut self) -> Result<()> {
        let mut stdin = self.stdin.take().expect("a worker is let go once");
        writeln!(stdin, "go").map_err(|e| LabError::Worker(format!("a worker went away: {e}")))
    }

    fn finish(mut self) -> Result<Done> {
        let line = self.line()?;
        let status = self.child.wait().map_err(|e| LabError::Worker(e.to_string()))?;
        if !status.success() {
            return Err(LabError::Worker(format!("the second process ended with {status}")));
        }
        serde_json::from_str(&line).map_err(|e| LabError::Worker(format!("a worker said {line:?}: {e}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends a worker that is still at it because the other one failed; harmless after `finish`.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
