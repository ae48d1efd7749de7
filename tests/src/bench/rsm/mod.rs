//! The replicated state machine and its lock service, side by side with etcd and ZooKeeper: three replicas each, all on
//! this machine and durable, and the same closed loops against each.
//!
//! The systems are measured in turn, several rounds, so that a change of the machine's mood meets all of them. Only one
//! is up at a time.

pub mod fail_over;
pub mod group;
pub mod latency;
pub mod locks;
pub mod million;
pub mod peers;
pub mod puts;
pub mod register;
pub mod report;
pub mod run;

use std::io;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RsmBenchError {
    /// A program is missing.
    #[error(transparent)]
    NotBuilt(#[from] crate::binaries::NotBuilt),
    /// A replica did not do what it should.
    #[error("{what}; the end of {}:\n{}", log.display(), crate::process::tail(log))]
    Replica {
        /// What is wrong.
        what: String,
        /// Its log.
        log: std::path::PathBuf,
    },
    /// A caller of the replicated registers got an error.
    #[error("a caller got an error: {0}")]
    Rsm(#[from] lock_rsm::rsm::RsmError),
    /// A caller of the lock service got an error.
    #[error("a caller got an error: {0}")]
    Lock(#[from] lock_rsm::locks::LockError),
    /// Files, processes.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// The error.
        source: io::Error,
    },
    /// The peers' folder.
    #[error("{0}")]
    Peers(String),
}

/// An [`RsmBenchError`] from an I/O error.
fn io_at(doing: impl Into<String>) -> impl FnOnce(io::Error) -> RsmBenchError {
    let doing = doing.into();
    move |source| RsmBenchError::Io { doing, source }
}
