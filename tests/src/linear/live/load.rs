//! What all clients have in common.

use super::{guards, lock_commands, registers};
use crate::linear::{AnyHistory, Clock};
use crate::rng::Rng;
use lock_rsm::locks::LockError;
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// An operation that is not answered for so long is a failure of the service, whatever happens to its processes.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Read, write, compare and swap replicated registers.
    Registers,
    /// Send the lock service its commands, without any cache.
    LockCommands,
    /// Take and drop guards of the caching lock client.
    Guards,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Registers, Kind::LockCommands, Kind::Guards];
}

/// A client was told something it should not have been.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// By the RSM.
    #[error("client {process}: {error}")]
    Rsm {
        /// Which.
        process: u64,
        /// What.
        error: RsmError,
    },
    /// By the lock client.
    #[error("client {process}: {error}")]
    Lock {
        /// Which.
        process: u64,
        /// What.
        error: LockError,
    },
    /// A client process did not do what it should.
    #[error("client process {process}: {what}")]
    Process {
        /// Which.
        process: usize,
        /// What it did.
        what: String,
    },
}

/// Work for the clients of one process.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) kind: Kind,
    pub(super) replicas: Vec<String>,
    pub(super) seed: u64,
    /// Number of the first client.
    pub(super) first_process: u64,
    /// As [`super::Plan::cheat`].
    pub(super) cheat: bool,
    /// Set when it is enough.
    pub(super) stop: Arc<AtomicBool>,
    /// Counts operations.
    pub(super) done: Arc<AtomicUsize>,
}

impl Load {
    /// Works until told to stop; gives what was seen.
    pub(super) async fn run(self) -> Result<Vec<AnyHistory>, LoadError> {
        match self.kind {
            Kind::Registers => registers::run(&self).await,
            Kind::LockCommands => lock_commands::run(&self).await,
            Kind::Guards => guards::run(&self).await,
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts an operation, and waits a little: histories need not be longer than they are interesting.
    pub(super) async fn breathe(&self, rng: &mut Rng) {
        self.done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_micros(rng.below(6000) as u64)).await;
    }

    /// The random choices of one client.
    pub(super) fn rng(&self, process: u64) -> Rng {
        Rng::new(self.seed.wrapping_mul(1000).wrapping_add(process))
    }

    /// A client of its own, on connections of its own.
    pub(super) async fn connect(&self, process: u64) -> Result<RsmClient, LoadError> {
        let options = RsmClientOptions { connect_timeout: PATIENCE, ..RsmClientOptions::default() };
        RsmClient::connect(&self.replicas, options).await.map_err(|error| LoadError::Rsm { process, error })
    }

    /// One of `n` names. All clients choose among the same ones, and all go on to others after so many milliseconds, so
    /// that the history of each stays short.
    pub(super) fn name(n: u64, every_ms: u64, rng: &mut Rng) -> u64 {
        Clock.now() / (every_ms * 1_000_000) % 2000 * n + rng.below(n as usize) as u64
    }
}

/// How long to wait for an answer: now and then so short that it may come too late.
pub(super) fn timeout(rng: &mut Rng) -> Duration {
    if rng.chance(5) { Duration::from_micros(500 + rng.below(15_000) as u64) } else { PATIENCE }
}

/// What to make of an error: none when the outcome is unknown, as it is after a timeout that was short on purpose.
pub(super) fn outcome<T>(
    process: u64,
    timeout: Duration,
    result: Result<T, RsmError>,
) -> Result<Option<T>, LoadError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(RsmError::Timeout { .. } | RsmError::Unreachable { .. }) if timeout < PATIENCE => Ok(None),
        Err(error) => Err(LoadError::Rsm { process, error }),
    }
}

/// Runs clients side by side; the first error counts.
pub(super) async fn side_by_side<F>(clients: impl IntoIterator<Item = F>) -> Result<(), LoadError>
where
    F: Future<Output = Result<(), LoadError>> + Send + 'static,
{
    let tasks: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("a client does not panic")?;
    }
    Ok(())
}
