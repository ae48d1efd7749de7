//! What travels between the lock service and its clients.
//!
//! Commands (client to master, replicated) carry the session they belong to and are idempotent per lock. Every answer
//! and every push says **where a lock stands at a stamp**; a client keeps the newest statement and ignores older ones,
//! whatever order the network delivers them in. That settles a revoke before the OK, a grant before the RETRY, and
//! stale pushes of a master that is gone.
//!
//! | message | from → to | replicated | meaning |
//! | --- | --- | --- | --- |
//! | [`OPEN_SESSION`] | client → master | yes | a new session, without locks |
//! | [`ACQUIRE`] | client → master | yes | wants locks; those it cannot have yet are queued (RETRY) |
//! | [`RELEASE`] | client → master | yes | gives locks back, or keeps them shared only |
//! | [`ALLOCATE`] | client → master | yes | fresh lock ids, held exclusive from the start |
//! | [`CLOSE_SESSION`] | client → master | yes | the session ends, its locks go to whoever waits |
//! | [`EXPIRE`] | master → itself | yes | the same for a session whose holder is silent, once it is fenced |
//! | [`STAT`] | client → master | yes | how many sessions hold a lock |
//! | [`KEEPALIVE`] | client → master | no | the client lives; answered only by a master that hears a majority |
//! | [`SESSIONS`] | anyone → master | no | who has a session |
//! | [`STUCK`] | anyone → master | no | for operators: how many sessions there are, and which clients are stuck |
//! | [`REVOKE`] | master → client | push | somebody waits for these locks: give them up or downgrade |
//! | [`GRANT`] | master → client | push | these locks, waited for, are now held |
//! | [`FENCE`] | master → extent server | no | refuse this session's writes from now on, for ever |

use serde::{Deserialize, Serialize};

/// Names a lock. Ids below [`FIRST_ALLOCATED`] are never handed out by [`ALLOCATE`]; they are the user's to name.
pub type LockId = u64;

/// Names a session; never 0 and never used twice, not even by a lock service that lost all its data.
pub type SessionId = u64;

/// A viewstamp, (view number, sequence number): the place of a command in the order all replicas execute.
pub type Stamp = (u64, u64);

/// Replicated: [`Acquire`] to [`Standings`].
pub const ACQUIRE: u32 = 0x7001;
/// Replicated: [`Release`] to [`Standings`].
pub const RELEASE: u32 = 0x7002;
/// Replicated: [`LockId`] to `u32`.
pub const STAT: u32 = 0x7003;
/// Replicated: [`OpenSession`] to [`SessionId`].
pub const OPEN_SESSION: u32 = 0x7010;
/// Replicated: [`EndSession`] to [`Ended`].
pub const CLOSE_SESSION: u32 = 0x7011;
/// Replicated: [`Allocate`] to [`Allocated`].
pub const ALLOCATE: u32 = 0x7012;
/// Replicated, proposed by the master only: [`EndSession`] to [`Ended`].
pub const EXPIRE: u32 = 0x7013;
/// Not replicated: [`Keepalive`] to [`Alive`].
pub const KEEPALIVE: u32 = 0x7020;
/// Not replicated: [`SessionsFrom`] to [`SessionsPage`].
pub const SESSIONS: u32 = 0x7021;
/// Not replicated: `()` to [`StuckReport`].
pub const STUCK: u32 = 0x7022;
/// Push to a client: [`Revoke`].
pub const REVOKE: u32 = 0x8001;
/// Push to a client: [`Grant`].
pub const GRANT: u32 = 0x8002;
/// Call to an extent server: [`Fence`] to `()`.
pub const FENCE: u32 = 0x6010;

/// Status: the session is unknown, ended or expired. Everything cached under it is void.
pub const NO_SESSION: i32 = 7101;
/// Status: a batch or a name is longer than the service takes.
pub const TOO_LONG: i32 = 7102;
/// Status: the service holds as many sessions or locks as it may.
pub const FULL: i32 = 7103;
/// Status: only the master itself may propose this command.
pub const NOT_YOURS: i32 = 7104;

/// The first id [`ALLOCATE`] hands out.
pub const FIRST_ALLOCATED: LockId = 1 << 20;
/// The most locks one command may name, and the most ids one [`ALLOCATE`] gives.
pub const BATCH_MAX: usize = 8192;
/// The most sessions in one [`SessionsPage`].
pub const SESSIONS_PAGE_MAX: usize = 4096;
/// The longest session name, in bytes.
pub const NAME_MAX: usize = 255;

/// How a lock is held: by many sessions for reading, or by one for changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Held together with other shared holders.
    Shared,
    /// Held alone.
    Exclusive,
}

impl Mode {
    /// Whether two sessions may hold one lock in these modes at once.
    pub fn goes_with(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}

/// Client to master: a new session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// What to call the client in logs.
    pub name: String,
    /// A random number. The session's id is made from it, so that it was never used before, not even by a lock service
    /// that has lost its data: extent servers remember fenced sessions for ever.
    pub nonce: u64,
    /// The lease, in milliseconds, as the client learnt it from a keepalive of session 0. It is part of the replicated
    /// state, so that masters started with different leases agree about this session.
    pub lease_ms: u32,
}

/// Client to master: wants these locks. Sending it again is harmless, and makes the master revoke again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// Who wants them.
    pub session: SessionId,
    /// The locks, each with the mode it must at least be held in.
    pub locks: Vec<(LockId, Mode)>,
}

/// Client to master: gives up these locks. One that is not held is left alone; a place in a queue is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who gives them up.
    pub session: SessionId,
    /// The locks, each with the mode it is kept in: none, or shared (a downgrade).
    pub locks: Vec<(LockId, Option<Mode>)>,
}

/// Where a lock stands for one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How the session holds the lock.
    pub held: Option<Mode>,
    /// In which mode the session waits in the lock's queue. Neither held nor waiting after an acquire: the queue is
    /// full; ask again later.
    pub waiting: Option<Mode>,
}

impl Standing {
    /// Whether a request for `mode` is fulfilled; otherwise the answer is RETRY.
    pub fn grants(&self, mode: Mode) -> bool {
        self.held >= Some(mode)
    }
}

/// Master to client: where the locks of an acquire or release stand, in the order they were named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standings {
    /// When this was so.
    pub stamp: Stamp,
    /// One for each lock named.
    pub locks: Vec<Standing>,
}

/// Client to master: wants `count` fresh lock ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocate {
    /// Who will hold them.
    pub session: SessionId,
    /// How many, at most [`BATCH_MAX`].
    pub count: u32,
}

/// Master to client: the ids `first .. first + count` are new and held exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocated {
    /// When this was so.
    pub stamp: Stamp,
    /// The first id.
    pub first: LockId,
    /// How many.
    pub count: u32,
}

/// Client or master to master: the session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// Which one. Ending an unknown session is no error.
    pub session: SessionId,
}

/// Answer to [`EndSession`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The session held so many locks that some are still to be freed: send the command again.
    pub more: bool,
}

/// Client to master: this session's client lives. Session 0 asks only for the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Whose client lives.
    pub session: SessionId,
}

/// Master to client: the session lives for `lease_ms` from when the [`Keepalive`] was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The lease in milliseconds.
    pub lease_ms: u32,
}

/// Anyone to master: the sessions from this id on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsFrom {
    /// The first id.
    pub from: SessionId,
}

/// Answer to [`SessionsFrom`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsPage {
    /// Ids, ascending, and what each client calls itself.
    pub sessions: Vec<(SessionId, String)>,
    /// Where to go on; none at the end.
    pub next: Option<SessionId>,
}

/// Master to an operator: how it is with its clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckReport {
    /// Open sessions.
    pub sessions: u32,
    /// Living clients that have kept for longer than a lease what others wait for.
    pub stuck_count: u32,
    /// Those of them that owe longest.
    pub stuck: Vec<StuckClient>,
}

/// A living client that does not give back what others wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckClient {
    /// Its session.
    pub session: SessionId,
    /// What it calls itself.
    pub name: String,
    /// Where its connection to the master comes from, if there is one.
    pub address: Option<String>,
    /// The lock that it has owed for longest.
    pub lock: LockId,
    /// For how long, in milliseconds.
    pub owed_ms: u64,
    /// How many sessions wait for that lock.
    pub waiting: u32,
}

/// Master to client: others wait for these locks. The client releases each, or downgrades it when the others only want
/// to share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Which of the client's sessions holds them.
    pub session: SessionId,
    /// When this was so.
    pub stamp: Stamp,
    /// The locks, each with the mode the first in its queue wants.
    pub locks: Vec<(LockId, Mode)>,
}

/// Master to client: these locks, which it waited for, are held now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which of the client's sessions holds them.
    pub session: SessionId,
    /// When this was so.
    pub stamp: Stamp,
    /// The locks, each with the mode it is held in.
    pub locks: Vec<(LockId, Mode)>,
}

/// Master to extent server: refuse everything this session writes from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Whose writes to refuse.
    pub session: u64,
}
