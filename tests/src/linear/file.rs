//! Histories in files.

use super::checker::{Limits, check};
use super::history::HistoryOf;
use super::models::{Guards, Ids, LockTable, Registers};
use super::verdict::{Checked, Failure};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// A history along with the model it is to be checked against: what a file holds, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyHistory {
    /// Of [`Registers`].
    Registers(Registers, HistoryOf<Registers>),
    /// Of [`Guards`].
    Guards(Guards, HistoryOf<Guards>),
    /// Of [`LockTable`].
    LockTable(LockTable, HistoryOf<LockTable>),
    /// Of [`Ids`].
    Ids(Ids, HistoryOf<Ids>),
}

/// A file is no history.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a recorded history: {source}", path.display())]
    NoHistory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl AnyHistory {
    /// Checks it.
    pub fn check(&self, limits: &Limits) -> Result<Checked, Failure> {
        match self {
            AnyHistory::Registers(model, history) => check(model, history, limits),
            AnyHistory::Guards(model, history) => check(model, history, limits),
            AnyHistory::LockTable(model, history) => check(model, history, limits),
            AnyHistory::Ids(model, history) => check(model, history, limits),
        }
    }

    /// What it is a history of.
    pub fn name(&self) -> &'static str {
        match self {
            AnyHistory::Registers(..) => "registers",
            AnyHistory::Guards(..) => "guards",
            AnyHistory::LockTable(..) => "lock_table",
            AnyHistory::Ids(..) => "ids",
        }
    }

    /// Adds what another recorder saw of the same service.
    ///
    /// # Panics
    /// If it is a history of something else.
    pub fn join(&mut self, other: AnyHistory) {
        match (self, other) {
            (AnyHistory::Registers(_, all), AnyHistory::Registers(_, more)) => all.join(more),
            (AnyHistory::Guards(_, all), AnyHistory::Guards(_, more)) => all.join(more),
            (AnyHistory::LockTable(_, all), AnyHistory::LockTable(_, more)) => all.join(more),
            (AnyHistory::Ids(_, all), AnyHistory::Ids(_, more)) => all.join(more),
            (all, more) => panic!("a history of {} does not go with one of {}", more.name(), all.name()),
        }
    }

    /// Writes it to a file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let failed = |source| FileError::Io { path: path.to_owned(), source };
        let file = std::fs::File::create(path).map_err(failed)?;
        serde_json::to_writer(io::BufWriter::new(file), self).map_err(|error| failed(error.into()))
    }

    /// Reads it from a file. What was answered before it was asked is an error too.
    pub fn read(path: &Path) -> Result<AnyHistory, FileError> {
        let bytes = std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| FileError::NoHistory { path: path.to_owned(), source })
    }
}
