//! What must hold at every moment, whatever happens (§3.6.3, figure 3.2), and how it is watched step by step.

use super::disk::Disk;
use super::program::{Program, entry_fingerprint};
use crate::consensus::{Body, Core, Entry, Membership, Message, Outputs, ReplicaId, Role, Viewstamp};
use std::collections::BTreeMap;

/// Sees everything that every replica does, and panics when a promise is broken.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Election safety: at most one master in a view.
    masters: BTreeMap<u64, ReplicaId>,
    /// Votes that left a replica: at most one in a view.
    votes: BTreeMap<(ReplicaId, u64), ReplicaId>,
    /// Log matching: the same stamp is the same entry after the same entry.
    entries: BTreeMap<Viewstamp, (u64, Viewstamp)>,
    /// State machine safety: what was committed first at each seq, and in which view that happened.
    committed: BTreeMap<u64, (Viewstamp, u64)>,
    committed_in: BTreeMap<u64, u64>,
    /// Equal replicas: the program's state after each seq.
    states: BTreeMap<u64, u64>,
    /// Each replica's log as its outputs tell it.
    mirrors: BTreeMap<ReplicaId, Mirror>,
    /// Reads on their way: what was committed anywhere when they began.
    reads: BTreeMap<u64, u64>,
    pub(crate) reads_confirmed: u64,
    pub(crate) steps: u64,
}

#[derive(Debug, Default, Clone)]
struct Mirror {
    base: Viewstamp,
    stamps: BTreeMap<u64, Viewstamp>,
}

impl Mirror {
    fn last(&self) -> Viewstamp {
        self.stamps.last_key_value().map_or(self.base, |(_, &stamp)| stamp)
    }
}

impl Checker {
    /// The highest seq committed anywhere.
    pub(crate) fn committed_seq(&self) -> u64 {
        self.committed.last_key_value().map_or(0, |(&seq, _)| seq)
    }

    pub(crate) fn views(&self) -> usize {
        self.masters.len()
    }

    /// A replica starts from its disk.
    pub(crate) fn started(&mut self, id: ReplicaId, disk: &Disk) {
        let base = disk.snapshot.as_ref().map_or(Viewstamp::ZERO, |(meta, _)| meta.stamp);
        let stamps = disk.log.values().map(|entry| (entry.stamp.seq, entry.stamp)).collect();
        self.mirrors.insert(id, Mirror { base, stamps });
    }

    /// A replica's outputs, before anything is done with them.
    pub(crate) fn outputs(&mut self, core: &Core, outputs: &Outputs, disks: &BTreeMap<ReplicaId, &Disk>) {
        self.steps += 1;
        assert_eq!(core.malformed_messages(), 0, "replica {} was told nonsense", core.id());
        self.follow_log(core.id(), outputs);
        for entry in &outputs.committed {
            self.commit(entry, core, disks);
        }
        self.watch_master(core);
        for ready in &outputs.reads_ready {
            let least = self.reads.remove(&ready.token).expect("a read is confirmed once");
            assert!(ready.seq >= least, "a read from {} misses what was committed up to {least}", ready.seq);
            self.reads_confirmed += 1;
        }
        for token in &outputs.reads_failed {
            self.reads.remove(token).expect("a read fails once");
        }
        if self.steps.is_multiple_of(64) {
            self.compare_log(core);
        }
    }

    fn follow_log(&mut self, id: ReplicaId, outputs: &Outputs) {
        let mirror = self.mirrors.get_mut(&id).expect("it was started");
        if let Some(install) = &outputs.install_snapshot {
            if install.discard_log {
                mirror.stamps.clear();
            }
            mirror.stamps = mirror.stamps.split_off(&(install.meta.stamp.seq + 1));
            mirror.base = install.meta.stamp;
        }
        if let Some(from) = outputs.truncate_from {
            mirror.stamps.split_off(&from);
        }
        for entry in &outputs.append {
            let previous = mirror.last();
            assert_eq!(entry.stamp.seq, previous.seq + 1, "a log has no holes");
            let here = (entry_fingerprint(entry), previous);
            let known = *self.entries.entry(entry.stamp).or_insert(here);
            assert_eq!(known, here, "log matching: entry {} differs or follows another", entry.stamp);
            mirror.stamps.insert(entry.stamp.seq, entry.stamp);
        }
    }

    /// The log that the outputs tell is the log that the core has.
    fn compare_log(&self, core: &Core) {
        let mirror = &self.mirrors[&core.id()];
        let (base, stamps) = core.log_stamps();
        assert_eq!(mirror.last(), core.last(), "outputs and log end differently");
        for stamp in stamps.iter().filter(|stamp| stamp.seq > mirror.base.seq) {
            assert_eq!(mirror.stamps.get(&stamp.seq), Some(stamp), "outputs and log differ after {base}");
        }
    }

    fn commit(&mut self, entry: &Entry, core: &Core, disks: &BTreeMap<ReplicaId, &Disk>) {
        let here = (entry.stamp, entry_fingerprint(entry));
        let is_first = !self.committed.contains_key(&entry.stamp.seq);
        let known = *self.committed.entry(entry.stamp.seq).or_insert(here);
        assert_eq!(known, here, "state machine safety: two entries are committed at {}", entry.stamp.seq);
        if is_first {
            self.committed_in.insert(entry.stamp.seq, core.view());
            let holders = |membership: &Membership| {
                membership.voters().filter(|id| disks.get(id).is_some_and(|disk| disk.holds(entry))).count()
            };
            let membership = core.membership();
            assert!(
                holders(membership) >= membership.majority(),
                "entry {} is committed and on {} of {} disks",
                entry.stamp,
                holders(membership),
                membership.voters().count()
            );
        }
    }

    fn watch_master(&mut self, core: &Core) {
        if core.role() != Role::Master {
            return;
        }
        let is_new = !self.masters.contains_key(&core.view());
        let master = *self.masters.entry(core.view()).or_insert(core.id());
        assert_eq!(master, core.id(), "election safety: view {} has two masters", core.view());
        if is_new {
            self.check_leader_completeness(core);
        }
    }

    /// A master has everything that was ever committed in earlier views. (It may be late: a later view may
    /// have one already.)
    fn check_leader_completeness(&self, core: &Core) {
        let mirror = &self.mirrors[&core.id()];
        for (seq, (stamp, _)) in self.committed.range(mirror.base.seq + 1..) {
            if self.committed_in[seq] >= core.view() {
                continue;
            }
            assert_eq!(
                mirror.stamps.get(seq),
                Some(stamp),
                "leader completeness: the master of view {} lacks {stamp}",
                core.view()
            );
        }
    }

    /// A message leaves a replica whose disk is `disk`.
    pub(crate) fn sent(&mut self, from: ReplicaId, to: ReplicaId, message: &Message, disk: &Disk) {
        if let Body::Vote { granted: true } = message.body {
            let vote = *self.votes.entry((from, message.view)).or_insert(to);
            assert_eq!(vote, to, "replica {from} votes twice in view {}", message.view);
            let promise = disk.hard_state;
            let is_kept = promise.view > message.view
                || (promise.view == message.view && promise.voted_for == Some(to));
            assert!(
                is_kept,
                "replica {from} votes for {to} in view {} and its disk has {promise:?}",
                message.view
            );
        }
    }

    /// The program of a replica reached a state.
    pub(crate) fn applied(&mut self, program: &Program) {
        let known = *self.states.entry(program.applied.seq).or_insert(program.hash);
        assert_eq!(known, program.hash, "replicas differ after {}", program.applied);
    }

    /// A read begins.
    pub(crate) fn read(&mut self, token: u64) {
        self.reads.insert(token, self.committed_seq());
    }

    /// The replica that holds them is gone.
    pub(crate) fn forget_reads(&mut self, tokens: impl Iterator<Item = u64>) {
        tokens.for_each(|token| {
            self.reads.remove(&token);
        });
    }
}
