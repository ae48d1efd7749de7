//! The public vocabulary of the RSM library: views, options, status and errors.

use super::test_port::TestPort;
use crate::consensus::{Membership, ViewInfo, Viewstamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A view of the replica group: who its members are and who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The view number; it grows with every change of master.
    pub number: u64,
    /// Addresses of the members, in the order in which they became that. Replicas that are still joining are none.
    pub members: Vec<String>,
    /// Address of the master, when this replica knows of one.
    pub master: Option<String>,
}

impl View {
    /// A view of consensus, with addresses in place of identities.
    pub(crate) fn of(info: &ViewInfo) -> View {
        let master = info.master.and_then(|id| info.membership.get(id)).map(|member| member.address.clone());
        View::new(info.number, &info.membership, master)
    }

    pub(crate) fn new(number: u64, membership: &Membership, master: Option<String>) -> View {
        View { number, members: membership.voting_addresses(), master }
    }
}

impl std::fmt::Display for View {
    /// `view N members A B C master A`, the line `lock_server` prints.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let master = self.master.as_deref().unwrap_or("none");
        write!(f, "view {} members {} master {master}", self.number, self.members.join(" "))
    }
}

/// What a replica tells about itself (the STATUS procedure).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its address.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// `master`, `slave`, `candidate`, `joining` (not a member, or not any more) or `forming`.
    pub role: String,
    /// The view it is in.
    pub view: View,
    /// The last command it applied.
    pub viewstamp: Viewstamp,
    /// Sequence number of the last applied entry.
    pub applied: u64,
    /// Sequence number of the last entry known to be committed.
    pub committed: u64,
    /// Hash of the whole replicated state after `viewstamp`; equal on all replicas at equal viewstamps. Absent
    /// while forming, and where hashing a large state that changes would take more than a twentieth of the time.
    pub state_hash: Option<u64>,
}

/// The clockwork of a replica. Safety depends on none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How often a master that has nothing to say says so.
    pub heartbeat: Duration,
    /// The shortest silence of the master after which a replica campaigns; the longest is twice this.
    pub election_timeout: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { heartbeat: Duration::from_millis(50), election_timeout: Duration::from_millis(150) }
    }
}

/// Bounds of a replica; beyond them callers are slowed down or refused, never queued for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// INVOKE requests waiting for their commit; beyond, callers are told to come back later.
    pub invokes_max: usize,
    /// Consensus messages waiting to be handled; beyond, they are dropped, as a network would.
    pub messages_max: usize,
    /// Entries applied since the last snapshot before the next one is taken.
    pub snapshot_after_entries: u64,
    /// Bytes of commands applied since the last snapshot before the next one is taken.
    pub snapshot_after_bytes: u64,
    /// RSM clients whose connection is remembered for pushes.
    pub peers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            invokes_max: 16 * 1024,
            messages_max: 4 * 1024,
            snapshot_after_entries: 200_000,
            snapshot_after_bytes: 64 << 20,
            peers_max: 64 * 1024,
        }
    }
}

/// Called with every view adopted, also with those that differ only in their members, and whether this replica is the
/// master.
pub type ViewHook = std::sync::Arc<dyn Fn(&View, bool) + Send + Sync>;

/// How long a simulated disk takes for the next batch.
pub type DiskTime = std::sync::Arc<dyn Fn() -> Duration + Send + Sync>;

/// Who writes to a replica's disk, and who executes its program.
#[derive(Clone, Default)]
pub enum Workers {
    /// A thread each.
    #[default]
    Threads,
    /// A task each, on the replica's runtime: for simulators, which have one thread for everything. The store must not
    /// block then; each batch takes as long as this says instead.
    Tasks(DiskTime),
}

/// How a replica is started.
#[derive(Clone)]
pub struct ReplicaOptions {
    /// The address this replica listens on and is known by.
    pub me: String,
    /// The address of the replica that should be the first master.
    pub master: String,
    /// All configured members; they form the group when every one of them is fresh. A replica that is not among them
    /// joins the group they belong to.
    pub members: Vec<String>,
    /// The replica's directory.
    pub data: PathBuf,
    /// Heartbeat and election timeouts.
    pub timers: Timers,
    /// A member that is silent for this long is removed from the group, as long as a majority is left; `None`: never.
    /// Much longer than any pause a living replica makes, since one that was removed has to be brought up to date before it
    /// counts again.
    pub remove_after: Option<Duration>,
    /// Bounds.
    pub limits: Limits,
    /// Who does its work.
    pub workers: Workers,
    /// Told of every view adopted, after the service was told.
    pub on_view: Option<ViewHook>,
    /// What tests have in mind for this replica. Its network is that of [`TestPort::transport`], and the server's should be.
    pub test_port: Option<std::sync::Arc<TestPort>>,
}

impl ReplicaOptions {
    /// Options for the replica `me` of the group `members`, whose first master is `master`, with defaults for the
    /// rest. Addresses are `HOST:PORT` or a bare port.
    pub fn new(master: &str, me: &str, members: &[String], data: impl Into<PathBuf>) -> ReplicaOptions {
        ReplicaOptions {
            me: me.to_owned(),
            master: master.to_owned(),
            members: members.to_vec(),
            data: data.into(),
            timers: Timers::default(),
            remove_after: Some(Duration::from_secs(2)),
            limits: Limits::default(),
            workers: Workers::default(),
            on_view: None,
            test_port: None,
        }
    }
}

/// A service could not read the state it was given.
#[derive(Debug, thiserror::Error)]
#[error("the replicated state cannot be read: {0}")]
pub struct StateError(pub String);

/// Procedure numbers of the RSM library.
pub mod procs {
    /// A replicated call, sent to the master.
    pub const INVOKE: u32 = 0x9001;
    /// The view as this replica knows it.
    pub const MEMBERS: u32 = 0x9002;
    /// [`super::ReplicaStatus`].
    pub const STATUS: u32 = 0x9003;
    /// Names the RSM client at the other end of a connection, so that pushes find it.
    pub const ATTACH: u32 = 0x9004;
    /// One-way consensus messages between replicas.
    pub const MESSAGE: u32 = 0x11001;
    /// Who a replica is and what group it belongs to; used while a group forms.
    pub const IDENTITY: u32 = 0x11010;
    /// A replica asks to be taken in (again).
    pub const JOIN: u32 = 0x11011;
    /// An operator wants a replica to leave for good, perhaps in exchange for another.
    pub const RETIRE: u32 = 0x11012;
}

/// The status with which a handler of [`call_master`](super::RsmClient::call_master) procedures refuses on a replica
/// that is not the master: the client then looks for the master elsewhere.
pub const NOT_MASTER: i32 = 0x7003_0001;
