//! The core: its state, its inputs and its outputs.

use super::config::Config;
use super::error::{HandOverError, MembershipError, ProposeError, ReadError, RestoreError, SnapshotError};
use super::message::Message;
use super::outputs::Outputs;
use super::types::{Follower, HardState, Membership, ReplicaId, Restored, Role, SnapshotMeta, Viewstamp};
use bytes::Bytes;

/// One replica's consensus state machine.
pub struct Core {
    config: Config,
    hard_state: HardState,
    membership: Membership,
    master: Option<ReplicaId>,
    committed: u64,
    last: Viewstamp,
    outputs: Outputs,
}

impl Core {
    /// A replica as its disk remembers it.
    pub fn new(config: Config, restored: Restored, _now_ms: u64) -> Result<Core, RestoreError> {
        if !restored.membership.is_sane() {
            return Err(RestoreError::Duplicate { stamp: Viewstamp::ZERO });
        }
        Ok(Core {
            config,
            hard_state: restored.hard_state,
            membership: restored.membership,
            master: None,
            committed: restored.applied,
            last: restored.entries.last().map_or(Viewstamp::ZERO, |entry| entry.stamp),
            outputs: Outputs::default(),
        })
    }

    /// Time passed. `now_ms` is a monotonic clock, the same in all inputs. Due at [`Core::next_tick_ms`].
    pub fn tick(&mut self, _now_ms: u64) {}
    /// When [`Core::tick`] is due next. Calling it more often or (a little) later is harmless.
    pub fn next_tick_ms(&self) -> u64 {
        u64::MAX
    }
    /// A message came from replica `from`.
    pub fn receive(&mut self, _now_ms: u64, _from: ReplicaId, _message: Message) {}
    /// Everything in the outputs up to batch `number` is on disk.
    pub fn persisted(&mut self, _now_ms: u64, _number: u64) {}
    /// What is to be done since the last call.
    pub fn take_outputs(&mut self, _now_ms: u64) -> Outputs {
        std::mem::take(&mut self.outputs)
    }
    /// Appends `commands` in order, all or none. Returns the stamp of the first; the others follow it without gap.
    pub fn propose(&mut self, _now_ms: u64, _commands: Vec<Bytes>) -> Result<Viewstamp, ProposeError> {
        Err(ProposeError::NotMaster { hint: self.master })
    }
    /// Asks for a read to be confirmed: [`Outputs::reads_ready`] or [`Outputs::reads_failed`] will have `token`.
    pub fn read(&mut self, _now_ms: u64, _token: u64) -> Result<(), ReadError> {
        Err(ReadError::NotMaster { hint: self.master })
    }
    /// Tries to become master now instead of waiting for the election timeout. Disturbs no living master.
    pub fn campaign(&mut self, _now_ms: u64) {}
    /// Hands mastership to the voter that is best up to date; returns it. It is done when the view changes, and given up after
    /// an election timeout.
    pub fn hand_over(&mut self, _now_ms: u64) -> Result<ReplicaId, HandOverError> {
        Err(HandOverError::NotMaster)
    }
    /// Changes the membership; in force at once in this replica, see [`MembershipError`] for the rules.
    pub fn propose_membership(
        &mut self,
        _now_ms: u64,
        _membership: Membership,
    ) -> Result<Viewstamp, MembershipError> {
        Err(MembershipError::NotMaster { hint: self.master })
    }
    /// What a snapshot of the state after entry `seq` stands for; `None` if that is not committed or no longer in memory.
    pub fn snapshot_meta(&self, _seq: u64) -> Option<SnapshotMeta> {
        None
    }
    /// A snapshot of the program's state is on disk. The entries it covers may be forgotten, here and on disk.
    pub fn snapshot_taken(&mut self, _meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        Ok(())
    }
    /// Master: a piece of a snapshot, as asked for by [`Outputs::snapshots_wanted`].
    pub fn send_snapshot(
        &mut self,
        _now_ms: u64,
        _to: ReplicaId,
        _meta: &SnapshotMeta,
        _offset: u64,
        _data: Bytes,
        _done: bool,
    ) -> Result<(), SnapshotError> {
        Err(SnapshotError::NotWanted)
    }
    /// Slave: the snapshot received in [`Outputs::snapshot_chunks`] is whole and sound. The next outputs say whether to install it.
    pub fn snapshot_received(&mut self, _now_ms: u64, _stamp: Viewstamp) -> Result<(), SnapshotError> {
        Err(SnapshotError::NotWanted)
    }
    /// Slave: the snapshot received in [`Outputs::snapshot_chunks`] cannot be used or stored; ask for it from its start.
    pub fn snapshot_spoilt(&mut self, _now_ms: u64) {}
    /// Whether this replica is master and a majority answered a heartbeat sent within the last election timeout, and
    /// it is not handing over. What guards everything that only a master may say.
    pub fn is_master_with_quorum(&self, _now_ms: u64) -> bool {
        false
    }
    /// Whether this replica is master and committed an entry of its own view: only then does it know all that was ever committed.
    pub fn is_settled(&self) -> bool {
        false
    }
    /// What this replica is doing.
    pub fn role(&self) -> Role {
        Role::Slave
    }
    /// Its identity.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }
    /// The view number.
    pub fn view(&self) -> u64 {
        self.hard_state.view
    }
    /// The master of the view, where known.
    pub fn master(&self) -> Option<ReplicaId> {
        self.master
    }
    /// The membership in force.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }
    /// Seq of the last committed entry, as far as known.
    pub fn committed(&self) -> u64 {
        self.committed
    }
    /// The last entry of the log.
    pub fn last(&self) -> Viewstamp {
        self.last
    }
    /// Bytes of the entries in memory. Take a snapshot when it grows too large.
    pub fn log_bytes(&self) -> usize {
        0
    }
    /// Master: what it knows of the other members. Empty elsewhere.
    pub fn followers(&self, _now_ms: u64) -> Vec<Follower> {
        Vec::new()
    }
}
