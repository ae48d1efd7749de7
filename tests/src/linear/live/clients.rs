//! Clients in processes of their own, which can be paused.

use super::load::{Kind, Load, LoadError};
use super::{ClusterError, RunError};
use crate::binaries::Binaries;
use crate::cluster::io_at;
use crate::linear::AnyHistory;
use crate::process::until;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// So many processes besides this one.
const PROCESSES: usize = 2;
/// A process whose work is over ends by then.
const PATIENCE: Duration = Duration::from_secs(90);
/// Clients of the first process have numbers below this, those of the second below twice this, and so on.
const CLIENTS_MAX: u64 = 100;

/// The client processes of a run. Dropping them kills them.
pub(super) struct Clients {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Clients {
    /// Starts processes that do the same as `load`. Each works until its standard input is closed.
    pub(super) fn start(binaries: &Binaries, dir: &Path, load: &Load) -> Result<Clients, ClusterError> {
        let program = binaries.path("yfs_linear")?;
        let mut clients = Clients { dir: dir.to_owned(), children: Vec::new() };
        for i in 1..=PROCESSES {
            let log = File::create(clients.log(i)).map_err(io_at("make", dir))?;
            let mut command = Command::new(&program);
            command.arg("client").arg(kind_name(load.kind)).arg("--replicas").arg(load.replicas.join(","));
            command.arg("--seed").arg(load.seed.to_string());
            command.arg("--first-process").arg((i as u64 * CLIENTS_MAX).to_string());
            command.args(load.cheat.then_some("--cheat")).arg("--out").arg(clients.out(i));
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
            clients.children.push(command.spawn().map_err(io_at("run", &program))?);
        }
        Ok(clients)
    }

    fn log(&self, i: usize) -> PathBuf {
        self.dir.join(format!("client-{i}.log"))
    }

    fn out(&self, i: usize) -> PathBuf {
        self.dir.join(format!("client-{i}"))
    }

    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    pub(super) fn signal(&self, i: usize, signal: i32) {
        // SAFETY: kill takes two integers; the child is ours and not reaped yet, so the id is its own.
        unsafe { libc::kill(self.children[i].id() as i32, signal) };
    }

    /// Lets them come to an end, and joins what they saw to `seen` here.
    pub(super) async fn finish(mut self, seen: Vec<AnyHistory>) -> Result<Vec<AnyHistory>, RunError> {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for i in 0..self.children.len() {
            let child = &mut self.children[i];
            let ended = tokio::task::block_in_place(|| until(PATIENCE, || child.try_wait().ok().flatten()));
            if !ended.is_some_and(|status| status.success()) {
                let said = std::fs::read_to_string(self.log(i + 1)).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                let how = ended.map_or("does not end".to_owned(), |status| format!("ended with {status}"));
                return Err(LoadError::Process { process: i + 1, what: format!("{how}: {last}") }.into());
            }
        }
        let mut joined = Vec::new();
        for mut history in seen {
            for i in 1..=self.children.len() {
                let file = self.out(i).with_extension(format!("{}.json", history.name()));
                history.join(AnyHistory::read(&file)?);
            }
            joined.push(history);
        }
        Ok(joined)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok(); // fails only when it is gone already
            child.wait().ok();
        }
    }
}

fn kind_name(kind: Kind) -> String {
    let value = clap::ValueEnum::to_possible_value(&kind).expect("no kind is skipped");
    value.get_name().to_owned()
}

/// The work of a client process: `kind` with the replicas, until standard input is closed. What was seen is written to
/// files whose names begin with `out`.
pub async fn run_as_client(
    kind: Kind,
    replicas: &[String],
    seed: u64,
    first_process: u64,
    cheat: bool,
    out: &Path,
) -> Result<(), RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load {
        kind,
        replicas: replicas.to_vec(),
        seed,
        first_process,
        cheat,
        stop: Arc::clone(&stop),
        done: Arc::new(AtomicUsize::new(0)),
    };
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // an error ends it as well
        stop.store(true, Ordering::Relaxed);
    });
    for history in load.run().await? {
        history.write(&out.with_extension(format!("{}.json", history.name())))?;
    }
    Ok(())
}
