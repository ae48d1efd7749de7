//! What consensus wants done becomes effects.

use super::super::store::{LogWrite, Snapshot};
use super::effects::{Task, Write};
use super::incoming::Progress;
use super::replica::{AFTER_PERSIST_MAX, ReplicaCore};
use super::waiting::Ticket;
use crate::consensus::{Entry, InstallSnapshot, Outputs, SnapshotChunk};

impl<T: Ticket> ReplicaCore<T> {
    pub(super) fn carry_out(&mut self, now_ms: u64, mut outputs: Outputs) {
        self.effects.messages.append(&mut outputs.messages);
        if let Some(info) = outputs.view_changed.take() {
            self.view_changed(info);
        }
        let installed = outputs.install_snapshot.take().map(|install| self.take_received(install));
        self.persist(&mut outputs, installed.clone());
        if let Some((snapshot, _)) = installed {
            self.delivered = snapshot.meta.stamp;
            self.note_retired(&snapshot.meta.membership);
            (self.unsaved_entries, self.unsaved_bytes) = (0, 0);
            self.effects.tasks.push(Task::Restore(snapshot.meta, snapshot.state));
            self.adopt();
        }
        self.deliver(outputs.committed);
        self.effects.pieces.append(&mut outputs.snapshots_wanted);
        self.effects.reads_ready.append(&mut outputs.reads_ready);
        self.effects.reads_failed.append(&mut outputs.reads_failed);
        self.receive_snapshot(now_ms, outputs.snapshot_chunks);
    }

    /// Has a batch written, and keeps what must not be said before it is on disk.
    fn persist(&mut self, outputs: &mut Outputs, install: Option<(Snapshot, bool)>) {
        let write = LogWrite {
            hard_state: outputs.hard_state.take(),
            install,
            truncate_from: outputs.truncate_from.take(),
            append: std::mem::take(&mut outputs.append),
        };
        if !write.is_empty() {
            self.submitted = outputs.number;
            self.effects.writes.push(Write { number: outputs.number, write });
        }
        let messages = std::mem::take(&mut outputs.after_persist);
        if self.persisted >= self.submitted {
            self.effects.messages.extend(messages);
        } else {
            let room = AFTER_PERSIST_MAX.saturating_sub(self.after_persist.len());
            let waiting = messages.into_iter().take(room).map(|message| (self.submitted, message));
            self.after_persist.extend(waiting);
        }
    }

    fn deliver(&mut self, committed: Vec<Entry>) {
        let bytes: u64 = committed.iter().map(|entry| entry.size_bytes() as u64).sum();
        self.delivered_bytes += bytes;
        self.unsaved_entries += committed.len() as u64;
        self.unsaved_bytes += bytes;
        self.hand_entries(committed);
    }

    /// The bytes of the snapshot that is to be installed now.
    fn take_received(&mut self, install: InstallSnapshot) -> (Snapshot, bool) {
        let state = self.incoming.take(&install.meta).expect("only a snapshot received whole is installed");
        (Snapshot { meta: install.meta, state }, install.discard_log)
    }

    fn receive_snapshot(&mut self, now_ms: u64, chunks: Vec<SnapshotChunk>) {
        for chunk in chunks {
            let stamp = chunk.meta.stamp;
            match self.incoming.add(chunk) {
                Progress::Partial => {}
                // Refused when the log caught up by other means.
                Progress::Whole => drop(self.core.snapshot_received(now_ms, stamp)),
                Progress::Spoilt => {
                    tracing::warn!("the snapshot at {stamp} arrived damaged; asking for it again");
                    self.core.snapshot_spoilt(now_ms);
                }
            }
        }
    }

    /// Has a snapshot taken when the log has grown enough since the last one.
    pub(super) fn order_snapshot(&mut self) {
        let due = self.unsaved_entries >= self.snapshot_after.entries
            || self.unsaved_bytes >= self.snapshot_after.bytes;
        if !due || self.saving {
            return;
        }
        let Some(meta) = self.core.snapshot_meta(self.delivered.seq) else { return };
        self.saving = true;
        (self.unsaved_entries, self.unsaved_bytes) = (0, 0);
        self.effects.tasks.push(Task::Snapshot(meta));
    }
}
