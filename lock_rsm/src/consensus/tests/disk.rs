//! A replica's disk: what survives a crash, and what is still on its way there.

use crate::consensus::{
    Entry, HardState, InstallSnapshot, Membership, Message, Outputs, ReplicaId, Restored, SnapshotMeta,
};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// What survives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) founding: Membership,
    pub(crate) hard_state: HardState,
    pub(crate) log: BTreeMap<u64, Entry>,
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
}

/// One atomic write. They reach the disk in order.
#[derive(Debug)]
pub(crate) enum Write {
    Batch { outputs: Box<Outputs>, installed: Option<Bytes> },
    Snapshot { meta: SnapshotMeta, data: Bytes },
}

impl Disk {
    pub(crate) fn restored(&self) -> Restored {
        let snapshot = self.snapshot.as_ref().map(|(meta, _)| meta.clone());
        Restored {
            hard_state: self.hard_state,
            applied: snapshot.as_ref().map_or(0, |meta| meta.stamp.seq),
            snapshot,
            entries: self.log.values().cloned().collect(),
            membership: self.founding.clone(),
        }
    }

    /// Writes. Returns the messages that may go now.
    pub(crate) fn write(&mut self, write: &mut Write) -> Vec<(ReplicaId, Message)> {
        match write {
            Write::Batch { outputs, installed } => {
                self.write_outputs(outputs, installed.take());
                std::mem::take(&mut outputs.after_persist)
            }
            Write::Snapshot { meta, data } => {
                self.store_snapshot(meta.clone(), data.clone());
                Vec::new()
            }
        }
    }

    fn write_outputs(&mut self, outputs: &Outputs, installed: Option<Bytes>) {
        if let Some(hard_state) = outputs.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(InstallSnapshot { meta, discard_log }) = &outputs.install_snapshot {
            if *discard_log {
                self.log.clear();
            }
            self.store_snapshot(meta.clone(), installed.expect("an installed snapshot has data"));
        }
        if let Some(from) = outputs.truncate_from {
            self.log.split_off(&from);
        }
        for entry in &outputs.append {
            self.log.insert(entry.stamp.seq, entry.clone());
        }
    }

    fn store_snapshot(&mut self, meta: SnapshotMeta, data: Bytes) {
        if self.snapshot.as_ref().is_none_or(|(before, _)| before.stamp.seq < meta.stamp.seq) {
            self.log = self.log.split_off(&(meta.stamp.seq + 1));
            self.snapshot = Some((meta, data));
        }
    }

    /// Whether the effect of `entry` would survive a crash now.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        self.snapshot.as_ref().is_some_and(|(meta, _)| meta.stamp.seq >= entry.stamp.seq)
            || self.log.get(&entry.stamp.seq).is_some_and(|held| held.stamp == entry.stamp)
    }
}

/// What was handed to the disk and is not safe yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) writes: VecDeque<Write>,
    /// When the last of them will be on disk.
    pub(crate) busy_until_ms: u64,
}
