//! A replica's disk: what survives a crash, and what is still on its way there.

use crate::rng::Rng;
use lock_rsm::consensus::{Entry, HardState, Membership, SnapshotWanted, Viewstamp};
use lock_rsm::rsm::core::Write;
use lock_rsm::rsm::{Identity, LogWrite, Recovered, Snapshot, SnapshotPiece};
use std::collections::{BTreeMap, VecDeque};

/// What survives.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The membership before the first entry.
    pub founding: Membership,
    /// The promises.
    pub hard_state: HardState,
    /// The log after the snapshot.
    pub log: BTreeMap<u64, Entry>,
    /// The latest snapshot.
    pub snapshot: Option<Snapshot>,
}

/// Work for the disk, done in order; each is atomic.
#[derive(Debug)]
pub enum Job {
    /// A batch of the replica's.
    Write(Write),
    /// A snapshot of the own state.
    Save(Snapshot),
    /// Read a piece of the latest snapshot.
    Piece(SnapshotWanted),
}

impl Disk {
    /// What a replica that starts from it remembers.
    pub fn recovered(&self, identity: Identity) -> Recovered {
        Recovered {
            identity,
            founding: Some(self.founding.clone()),
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.log.values().cloned().collect(),
        }
    }

    /// Makes a batch durable.
    pub fn write(&mut self, write: LogWrite) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((snapshot, discard_log)) = write.install {
            if discard_log {
                self.log.clear();
            }
            self.save(snapshot);
        }
        if let Some(from) = write.truncate_from {
            self.log.split_off(&from);
        }
        for entry in write.append {
            self.log.insert(entry.stamp.seq, entry);
        }
    }

    /// Makes a snapshot durable and drops the log it covers.
    pub fn save(&mut self, snapshot: Snapshot) {
        let is_newer = |before: &Snapshot| before.meta.stamp.seq < snapshot.meta.stamp.seq;
        if self.snapshot.as_ref().is_none_or(is_newer) {
            self.log = self.log.split_off(&(snapshot.meta.stamp.seq + 1));
            self.snapshot = Some(snapshot);
        }
    }

    /// A piece of the latest snapshot: the one wanted if that is still the latest, else its start.
    pub fn piece(&self, wanted: &SnapshotWanted, bytes_max: usize) -> Option<SnapshotPiece> {
        let Snapshot { meta, state } = self.snapshot.as_ref()?;
        let offset = if wanted.stamp == Some(meta.stamp) { wanted.offset } else { 0 };
        let start = usize::try_from(offset).expect("states are small").min(state.len());
        let end = state.len().min(start + bytes_max);
        let (data, done) = (state.slice(start..end), end == state.len());
        Some(SnapshotPiece { meta: meta.clone(), offset, data, done })
    }

    /// Whether the effect of the entry at `stamp` would survive a crash now.
    pub fn holds(&self, stamp: Viewstamp) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.meta.stamp.seq >= stamp.seq)
            || self.log.get(&stamp.seq).is_some_and(|held| held.stamp == stamp)
    }
}

/// What was handed to the disk and is not done yet.
#[derive(Debug, Default)]
pub struct Queue {
    /// Oldest first.
    pub jobs: VecDeque<Job>,
    /// When the last of them will be done.
    pub busy_until_ms: u64,
    /// The next write fails, and with it the disk, until the replica is started anew.
    pub fails: bool,
}

impl Queue {
    /// The machine stops: of what was on its way some arrives, in order, and nobody hears of it.
    pub fn crash(&mut self, rng: &mut Rng, disk: &mut Disk) {
        let arriving = rng.below(self.jobs.len() + 1);
        for job in self.jobs.drain(..).take(arriving) {
            match job {
                Job::Write(Write { write, .. }) => disk.write(write),
                Job::Save(snapshot) => disk.save(snapshot),
                Job::Piece(_) => {}
            }
        }
        *self = Queue::default();
    }
}
