//! Snapshots: compaction of the log, and bringing up a member that needs entries from before it (§5).
//!
//! The bytes are the driver's. The core says which piece is due and keeps at most one on its way to each
//! member; a lost one is asked for again, and a transfer goes on where it stopped.

use super::core::Core;
use super::error::SnapshotError;
use super::message::Body;
use super::outputs::{InstallSnapshot, SnapshotChunk};
use super::progress::{Pace, Progress, Transfer};
use super::role::RoleState;
use super::types::{Entry, ReplicaId, SnapshotMeta, Viewstamp};
use bytes::Bytes;

/// A snapshot on its way to this replica, in this view.
#[derive(Debug)]
pub(super) struct Incoming {
    meta: SnapshotMeta,
    received: u64,
    /// All is here, and the driver looks whether it is sound.
    complete: bool,
}

// Everybody.
impl Core {
    /// What a snapshot of the state after entry `seq` stands for. `None` if that was not delivered yet, or is
    /// compacted.
    pub fn snapshot_meta(&self, seq: u64) -> Option<SnapshotMeta> {
        if seq > self.delivered {
            return None;
        }
        let stamp = self.log.stamp_at(seq)?;
        Some(SnapshotMeta { stamp, membership: self.log.membership_at(seq).clone() })
    }

    /// A snapshot of the program's state is on disk. The entries it covers are forgotten here, but for a tail
    /// that saves members slightly behind from needing the snapshot; on disk they may go too.
    pub fn snapshot_taken(&mut self, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        let stamp = meta.stamp;
        if stamp.seq <= self.log.base().seq {
            return Ok(());
        }
        if stamp.seq > self.delivered || !self.log.has(stamp) {
            return Err(SnapshotError::Foreign { stamp });
        }
        self.unsnapshotted_bytes = self.log.range(stamp.seq + 1, self.delivered).map(Entry::size_bytes).sum();
        self.log.compact_to(self.compaction_seq(stamp.seq));
        Ok(())
    }

    /// How far the log may be compacted when a snapshot covers it up to `covered`.
    fn compaction_seq(&self, covered: u64) -> u64 {
        let needed_from = self.first_seq_needed();
        let mut kept_bytes = 0;
        let first = self.log.base().seq + 1;
        for seq in (first..=covered).rev() {
            kept_bytes += self.log.get(seq).map_or(0, Entry::size_bytes);
            let limit = match needed_from {
                Some(needed) if seq >= needed => self.config.pinned_bytes_max,
                _ => self.config.tail_bytes_max,
            };
            if kept_bytes > limit {
                return seq;
            }
        }
        first - 1
    }

    /// The first entry that some living member still has to get from here.
    fn first_seq_needed(&self) -> Option<u64> {
        let RoleState::Master(reign) = &self.role else { return None };
        let is_alive = |progress: &&Progress| {
            let silence_max = 2 * self.config.election_timeout_ms;
            progress.confirmed_ms.is_some_and(|ms| self.now_ms < ms + silence_max)
        };
        let has = |progress: &Progress| match &progress.pace {
            Pace::Snapshot(transfer) => transfer.stamp.map(|stamp| stamp.seq),
            _ => Some(progress.matched),
        };
        reign.followers.values().filter(is_alive).filter_map(has).min().map(|seq| seq + 1)
    }
}

// The master.
impl Core {
    /// Sends a piece of a snapshot to `to`, as asked for by
    /// [`Outputs::snapshots_wanted`](super::Outputs::snapshots_wanted). If the snapshot asked for is gone,
    /// begin with the latest one, at offset 0. A piece may have any size up to
    /// [`Config::snapshot_chunk_bytes_max`](super::Config::snapshot_chunk_bytes_max).
    pub fn send_snapshot(
        &mut self,
        now_ms: u64,
        to: ReplicaId,
        meta: &SnapshotMeta,
        offset: u64,
        data: Bytes,
        done: bool,
    ) -> Result<(), SnapshotError> {
        self.now_ms = self.now_ms.max(now_ms);
        let (size, max) = (data.len(), self.config.snapshot_chunk_bytes_max);
        if size > max {
            return Err(SnapshotError::TooLarge { size, max });
        }
        if meta.stamp.seq > self.committed || !self.log.has(meta.stamp) {
            return Err(SnapshotError::Foreign { stamp: meta.stamp });
        }
        let transfer = self.transfer(to).ok_or(SnapshotError::NotWanted)?;
        let goes_on = transfer.stamp == Some(meta.stamp) && transfer.offset == offset;
        if !goes_on && offset != 0 {
            return Err(SnapshotError::NotWanted);
        }
        transfer.stamp = Some(meta.stamp);
        transfer.offset = offset;
        transfer.since_ms = now_ms;
        self.send(to, Body::Snapshot { meta: meta.clone(), offset, data, done });
        Ok(())
    }

    fn transfer(&mut self, to: ReplicaId) -> Option<&mut Transfer> {
        let RoleState::Master(reign) = &mut self.role else { return None };
        match &mut reign.followers.get_mut(&to)?.pace {
            Pace::Snapshot(transfer) => Some(transfer),
            _ => None,
        }
    }

    /// An answer that asks for the piece already on its way is an echo of a repeated one, and ignored: if
    /// that piece was lost, time will tell.
    pub(super) fn on_snapshot_reply(&mut self, from: ReplicaId, stamp: Viewstamp, next: u64) {
        let Some(transfer) = self.transfer(from) else { return };
        if transfer.stamp == Some(stamp) && transfer.offset != next {
            transfer.offset = next;
            transfer.wanted = true;
        }
    }
}

// The slave.
impl Core {
    pub(super) fn on_snapshot(
        &mut self,
        from: ReplicaId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
        done: bool,
    ) {
        self.follow(from);
        if self.log.has(meta.stamp) {
            self.slave_commits(meta.stamp.seq);
        }
        if meta.stamp.seq <= self.committed {
            return self.acknowledge(from, self.committed);
        }
        let is_other = self.incoming.as_ref().is_none_or(|incoming| incoming.meta.stamp != meta.stamp);
        if is_other && offset == 0 {
            self.incoming = Some(Incoming { meta: meta.clone(), received: 0, complete: false });
        } else if is_other {
            return self.send(from, Body::SnapshotReply { stamp: meta.stamp, next: 0 });
        }
        let incoming = self.incoming.as_mut().expect("it was there or was set");
        if incoming.complete {
            return;
        }
        if incoming.received == offset {
            incoming.received += data.len() as u64;
            incoming.complete = done;
            self.outputs.snapshot_chunks.push(SnapshotChunk { meta: meta.clone(), offset, data, done });
        }
        let (stamp, next) = (meta.stamp, incoming.received);
        if !incoming.complete {
            self.send(from, Body::SnapshotReply { stamp, next });
        }
    }

    /// The snapshot received in [`Outputs::snapshot_chunks`](super::Outputs::snapshot_chunks) is whole and
    /// sound. The next outputs say to install it, unless the log overtook it meanwhile. Refused if it is not
    /// wanted any more.
    pub fn snapshot_received(&mut self, now_ms: u64, stamp: Viewstamp) -> Result<(), SnapshotError> {
        self.now_ms = self.now_ms.max(now_ms);
        let is_due = |incoming: &mut Incoming| incoming.complete && incoming.meta.stamp == stamp;
        let Incoming { meta, .. } = self.incoming.take_if(is_due).ok_or(SnapshotError::NotWanted)?;
        if stamp.seq > self.committed {
            self.install(meta);
        }
        if let Some(master) = self.master {
            self.acknowledge(master, self.committed);
        }
        Ok(())
    }

    /// The snapshot received in [`Outputs::snapshot_chunks`](super::Outputs::snapshot_chunks) cannot be used
    /// or stored: the master is asked for it from its start.
    pub fn snapshot_spoilt(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let Some(Incoming { meta, .. }) = self.incoming.take() else { return };
        if let Some(master) = self.master {
            self.send(master, Body::SnapshotReply { stamp: meta.stamp, next: 0 });
        }
    }

    fn install(&mut self, meta: SnapshotMeta) {
        let discard_log = !self.log.has(meta.stamp);
        if discard_log {
            self.log.reset(&meta);
            self.durable = 0;
            self.outputs.append.clear();
            self.outputs.truncate_from = None;
        } else {
            self.log.compact_to(meta.stamp.seq);
        }
        self.committed = meta.stamp.seq;
        self.delivered = meta.stamp.seq;
        self.unsnapshotted_bytes = 0;
        let discard_log =
            discard_log || self.outputs.install_snapshot.as_ref().is_some_and(|before| before.discard_log);
        self.outputs.install_snapshot = Some(InstallSnapshot { meta, discard_log });
        self.membership_changed();
    }
}
