//! What was seen in a run, and whether it may be.

use super::ChaosError;
use super::losses::Client;
use super::model::names::Names;
use super::model::prefix::{self, Loss, Tree};
use super::model::register::Register;
use super::model::{Event, Input, Object, Volatile};
use super::work::{Epoch, Seen, Trouble};
use crate::linear::{Answer, Checked, HistoryOf, Limits, Operation, check};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// So much is tried for each kind of object.
const LIMITS: Limits = Limits { tries_max: 50_000_000 };

/// The end of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fate {
    /// Which client.
    pub client: u64,
    /// When its process was killed, if it was.
    pub killed: Option<u64>,
    /// When it lost its sessions.
    pub losses: Vec<Loss>,
}

/// What is left of a worker's directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub tree: Tree,
}

/// Everything that was seen.
#[derive(Serialize, Deserialize)]
pub struct Record {
    fates: Vec<Fate>,
    registers: HistoryOf<Volatile<Register>>,
    directories: HistoryOf<Volatile<Names>>,
    epochs: Vec<Epoch>,
    found: Vec<Found>,
    errors: Vec<Trouble>,
    wrong: Vec<String>,
}

/// A run that passed, in numbers.
#[derive(Debug)]
pub struct Verdict {
    registers: Checked,
    directories: Checked,
    epochs: usize,
    steps: usize,
    sessions: usize,
    killed: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  files: linearizable: {}", self.registers)?;
        writeln!(f, "  directories: linearizable: {}", self.directories)?;
        writeln!(
            f,
            "  {} operations in {} own directories: nothing synced is lost",
            self.steps, self.epochs
        )?;
        write!(f, "  {} mounts were killed, {} sessions ended", self.killed, self.sessions)
    }
}

impl Record {
    /// What was seen by workers and on a fresh mount.
    pub(super) fn of(seen: &Seen, clients: &[Client], strikes: &[u64], found: Vec<Found>) -> Record {
        let fate = |client: &Client| Fate {
            client: client.number,
            killed: client.killed,
            losses: client.losses(strikes).unwrap_or_default(),
        };
        Record {
            fates: clients.iter().map(fate).collect(),
            registers: seen.registers.history(),
            directories: seen.directories.history(),
            epochs: seen.epochs.lock().clone(),
            found,
            errors: seen.errors.lock().clone(),
            wrong: seen.wrong.lock().clone(),
        }
    }

    /// Writes it to a file.
    pub fn write(&self, path: &Path) -> Result<(), ChaosError> {
        let json = serde_json::to_vec(self).expect("a record has string keys only");
        std::fs::write(path, json).map_err(ChaosError::io("writing", path.display()))
    }

    /// Reads it from a file.
    pub fn read(path: &Path) -> Result<Record, ChaosError> {
        let bytes = std::fs::read(path).map_err(ChaosError::io("reading", path.display()))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ChaosError::Wrong(format!("{} is no record: {e}", path.display())))
    }

    /// Whether all of it may be.
    pub fn check(&self) -> Result<Verdict, ChaosError> {
        if let Some(wrong) = self.wrong.first() {
            return Err(ChaosError::Wrong(format!("{wrong} ({} such findings)", self.wrong.len())));
        }
        self.check_errors()?;
        self.check_epochs()?;
        let failed = |what: &'static str| move |e| ChaosError::Wrong(format!("{what}: {e}"));
        let registers = with_losses::<Register>(&self.registers, &self.fates);
        let directories = with_losses::<Names>(&self.directories, &self.fates);
        Ok(Verdict {
            registers: check(&Volatile::<Register>::default(), &registers, &LIMITS)
                .map_err(failed("files"))?,
            directories: check(&Volatile::<Names>::default(), &directories, &LIMITS)
                .map_err(failed("directories"))?,
            epochs: self.epochs.len(),
            steps: self.epochs.iter().map(|epoch| epoch.log.len()).sum(),
            sessions: self.fates.iter().map(|fate| fate.losses.len()).sum(),
            killed: self.fates.iter().filter(|fate| fate.killed.is_some()).count(),
        })
    }

    /// A client whose session is kept sees pauses, never an error (P6); what does not fit is another matter.
    fn check_errors(&self) -> Result<(), ChaosError> {
        for fate in self.fates.iter().filter(|fate| fate.losses.is_empty()) {
            let before = |at: u64| fate.killed.is_none_or(|killed| at < killed);
            let io = |t: &&Trouble| t.client == fate.client && t.errno == libc::EIO && before(t.at);
            if let Some(trouble) = self.errors.iter().find(io) {
                let (client, what, at) = (fate.client, &trouble.what, trouble.at);
                let what = format!("client {client} kept its session and was answered EIO: {what} (at {at})");
                return Err(ChaosError::Wrong(what));
            }
        }
        Ok(())
    }

    fn check_epochs(&self) -> Result<(), ChaosError> {
        let found: BTreeMap<&str, &Tree> =
            self.found.iter().map(|found| (found.name.as_str(), &found.tree)).collect();
        for epoch in &self.epochs {
            let fate = self.fates.iter().find(|fate| fate.client == epoch.client);
            let (losses, killed) = fate.map_or((&[][..], false), |f| (&f.losses[..], f.killed.is_some()));
            let tree = found.get(epoch.name.as_str());
            let tree = tree.ok_or_else(|| ChaosError::Wrong(format!("{} was not looked at", epoch.name)))?;
            prefix::check(&epoch.log, losses, killed, tree).map_err(|wrong| {
                ChaosError::Wrong(format!("{} (client {}): {wrong}", epoch.name, epoch.client))
            })?;
        }
        Ok(())
    }
}

/// Adds to a history what its clients lost, and what they may have flushed before that.
fn with_losses<O: Object>(seen: &HistoryOf<Volatile<O>>, fates: &[Fate]) -> HistoryOf<Volatile<O>> {
    let mut history = seen.clone();
    for fate in fates.iter().filter(|fate| fate.killed.is_some() || !fate.losses.is_empty()) {
        let mut touched: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for operation in seen.operations().filter(|operation| operation.input.client == fate.client) {
            if matches!(operation.input.event, Event::Do(_)) {
                touched.entry(operation.input.object).or_default().push(operation.invoked);
            }
        }
        for (object, changes) in touched {
            let mut add = |event, invoked, answer| {
                let input = Input { object, client: fate.client, event };
                history.push(Operation { process: fate.client, invoked, input, answer });
            };
            changes.into_iter().for_each(|invoked| add(Event::Flushed, invoked, None));
            for loss in &fate.losses {
                add(Event::Lost, loss.from, Some(Answer { at: loss.to, output: None }));
            }
            if let Some(killed) = fate.killed {
                add(Event::Lost, killed, None);
            }
        }
    }
    history
}
