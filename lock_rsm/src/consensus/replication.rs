//! Replication: proposals, sending the log, comparing logs, committing (§3.5, §3.6.2, §10.2).

use super::Message;
use super::config::Config;
use super::core::Core;
use super::error::ProposeError;
use super::log::Log;
use super::message::Body;
use super::outputs::{Outputs, SnapshotWanted};
use super::progress::{Pace, Progress};
use super::role::RoleState;
use super::types::{Entry, Payload, ReplicaId, Viewstamp};
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use bytes::Bytes;

// The master.
impl Core {
    /// Appends `commands` in order, all or none. Returns the stamp of the first; the others have the same
    /// view and the following seqs. They are committed when [`Outputs::committed`] has them with these
    /// stamps; when another entry is committed at one of these seqs they never will be.
    pub fn propose(&mut self, now_ms: u64, commands: Vec<Bytes>) -> Result<Viewstamp, ProposeError> {
        self.now_ms = self.now_ms.max(now_ms);
        self.check_proposal(&commands)?;
        let mut first = None;
        for command in commands {
            let stamp = self.append_as_master(Payload::Command(command));
            first.get_or_insert(stamp);
        }
        Ok(first.expect("a proposal has commands"))
    }

    fn check_proposal(&self, commands: &[Bytes]) -> Result<(), ProposeError> {
        let RoleState::Master(reign) = &self.role else {
            return Err(ProposeError::NotMaster { hint: self.master });
        };
        if let Some(handing_over) = &reign.handing_over {
            return Err(ProposeError::NotMaster { hint: Some(handing_over.to) });
        }
        let largest = commands.iter().map(Bytes::len).max().ok_or(ProposeError::Empty)?;
        if largest > self.config.command_bytes_max {
            return Err(ProposeError::TooLarge { size: largest, max: self.config.command_bytes_max });
        }
        let waiting = reign.uncommitted_bytes;
        let added: usize = commands.iter().map(Bytes::len).sum();
        if waiting > 0 && waiting + added > self.config.uncommitted_bytes_max {
            return Err(ProposeError::Overloaded { uncommitted_bytes: waiting });
        }
        Ok(())
    }

    /// Sends what the windows allow. Once per outputs, so that everything proposed meanwhile travels
    /// together.
    pub(super) fn flush_master(&mut self) {
        if !matches!(self.role, RoleState::Master(_)) {
            return;
        }
        self.flush_hand_over();
        self.flush_reads();
        let (view, committed, now_ms) = (self.view(), self.committed, self.now_ms);
        let RoleState::Master(reign) = &mut self.role else { return };
        let mut sender = Sender {
            view,
            committed,
            now_ms,
            config: &self.config,
            log: &self.log,
            outputs: &mut self.outputs,
        };
        for (&id, progress) in &mut reign.followers {
            sender.flush(id, progress);
        }
    }

    pub(super) fn on_appended(&mut self, from: ReplicaId, matched: u64) {
        let (base, last) = (self.log.base().seq, self.log.last().seq);
        let RoleState::Master(reign) = &mut self.role else { return };
        let Some(progress) = reign.followers.get_mut(&from) else { return };
        assert!(
            matched <= last,
            "replica {from} agrees up to {matched}, beyond the master's last entry {last}"
        );
        let news = progress.agree(matched);
        if matches!(progress.pace, Pace::Snapshot(_)) && progress.matched >= base {
            progress.probe_from(matched + 1);
        }
        if news {
            self.master_commits();
        }
    }

    pub(super) fn on_append_refused(&mut self, from: ReplicaId, previous: Viewstamp, hint: Viewstamp) {
        let now_ms = self.now_ms;
        let RoleState::Master(reign) = &mut self.role else { return };
        let Some(progress) = reign.followers.get_mut(&from) else { return };
        let is_current = match progress.pace {
            Pace::Probe { .. } => previous.seq + 1 == progress.next,
            Pace::Replicate => true,
            Pace::Snapshot(_) => false,
        };
        // A member that lacks what it acknowledged lost its disk; it must not make this one send as fast as
        // it refuses.
        if !is_current || previous.seq <= progress.matched {
            return;
        }
        // Whole views are skipped at once: what the two logs may have in common ends where both stamps are
        // within the hint.
        let common = self.log.last_within(hint);
        if common.seq <= hint.seq && common.view <= hint.view {
            progress.probe_from(common.seq + 1);
        } else {
            progress.needs_snapshot(now_ms);
        }
    }

    /// Commits what a majority has on disk, this replica counted with what it has on its own. Only an entry
    /// of this view is committed by counting; the ones before it are with it (§3.6.2).
    pub(super) fn master_commits(&mut self) {
        let reached = self.quorum_value(self.durable, |progress| progress.matched);
        let is_of_this_view = self.log.stamp_at(reached).is_some_and(|stamp| stamp.view == self.view());
        #[cfg(feature = "planted")]
        let is_of_this_view = is_of_this_view || planted::has(Bug::CommitOldView);
        if reached <= self.committed || !is_of_this_view {
            return;
        }
        let bytes: usize = self.log.range(self.committed + 1, reached).map(Entry::size_bytes).sum();
        let RoleState::Master(reign) = &mut self.role else { return };
        reign.uncommitted_bytes -= bytes;
        self.committed = reached;
        self.retire_if_removed();
    }
}

/// What sending needs besides the progress of the member.
struct Sender<'a> {
    view: u64,
    committed: u64,
    now_ms: u64,
    config: &'a Config,
    log: &'a Log,
    outputs: &'a mut Outputs,
}

impl Sender<'_> {
    fn flush(&mut self, to: ReplicaId, progress: &mut Progress) {
        while let Some(room) = self.room(progress) {
            let Some(previous) = self.log.stamp_at(progress.next - 1) else {
                progress.needs_snapshot(self.now_ms);
                break;
            };
            self.append(to, progress, previous, room);
        }
        if let Pace::Snapshot(transfer) = &mut progress.pace
            && std::mem::take(&mut transfer.wanted)
        {
            transfer.since_ms = self.now_ms;
            let (stamp, offset) = (transfer.stamp, transfer.offset);
            self.outputs.snapshots_wanted.push(SnapshotWanted { to, stamp, offset });
        }
    }

    /// Whether an `Append` is due, and how many entries it may carry.
    fn room(&self, progress: &Progress) -> Option<usize> {
        let has_more = progress.next <= self.log.last().seq;
        let is_full =
            progress.inflight.is_full(self.config.inflight_messages_max, self.config.inflight_bytes_max);
        match progress.pace {
            Pace::Snapshot(_) | Pace::Probe { waiting: true } => None,
            Pace::Probe { waiting: false } => {
                (has_more || progress.nudge).then_some(self.config.append_entries_max)
            }
            Pace::Replicate if has_more && !is_full => Some(self.config.append_entries_max),
            Pace::Replicate => progress.nudge.then_some(0),
        }
    }

    fn append(&mut self, to: ReplicaId, progress: &mut Progress, previous: Viewstamp, room: usize) {
        let (entries, bytes) = match room {
            0 => (Vec::new(), 0),
            _ => self.log.batch(progress.next, self.config.append_bytes_max, room),
        };
        progress.nudge = false;
        match &mut progress.pace {
            Pace::Probe { waiting } => *waiting = true,
            _ => {
                if let Some(last) = entries.last() {
                    progress.inflight.sent(last.stamp.seq, bytes);
                    progress.next = last.stamp.seq + 1;
                }
            }
        }
        let body = Body::Append { previous, entries, committed: self.committed };
        self.outputs.messages.push((to, Message { view: self.view, body }));
    }
}

// The slave.
impl Core {
    pub(super) fn on_append(
        &mut self,
        from: ReplicaId,
        previous: Viewstamp,
        entries: Vec<Entry>,
        committed: u64,
    ) {
        self.follow(from);
        if previous.seq < self.committed {
            // Old, or the master does not know yet how far this log agrees: whatever is committed does.
            return self.acknowledge(from, self.committed);
        }
        if !self.log.has(previous) {
            let hint = self.log.last_within(previous);
            return self.send(from, Body::AppendRefused { previous, hint });
        }
        let matched = previous.seq + entries.len() as u64;
        self.take_entries(entries);
        self.slave_commits(committed.min(matched));
        self.acknowledge(from, matched);
    }

    /// Adds what is missing. Only an entry that contradicts the master's takes others with it: a message that
    /// was overtaken must not shorten the log.
    fn take_entries(&mut self, entries: Vec<Entry>) {
        let mut missing = entries.into_iter().skip_while(|entry| self.log.has(entry.stamp)).peekable();
        let Some(first) = missing.peek().map(|entry| entry.stamp) else { return };
        let missing: Vec<Entry> = missing.collect();
        if first.seq <= self.log.last().seq {
            self.truncate_log(first.seq);
        }
        for entry in missing {
            self.append_entry(entry);
        }
    }

    pub(super) fn slave_commits(&mut self, committed: u64) {
        let last = self.log.last().seq;
        assert!(committed <= last, "entries up to {committed} were acknowledged, and the log ends at {last}");
        self.committed = self.committed.max(committed);
    }

    /// Says that the log agrees up to `matched`, once that is on disk.
    pub(super) fn acknowledge(&mut self, to: ReplicaId, matched: u64) {
        #[cfg(feature = "planted")]
        if planted::has(Bug::AcknowledgeBeforeFsync) {
            return self.send(to, Body::Appended { matched });
        }
        let view = self.view();
        if let Some((id, Message { view: sent_view, body: Body::Appended { matched: sent } })) =
            self.outputs.after_persist.last_mut()
            && (*id, *sent_view) == (to, view)
        {
            *sent = matched.max(*sent);
            return;
        }
        self.send_after_persist(to, Body::Appended { matched });
    }
}
