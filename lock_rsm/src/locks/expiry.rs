//! The end of sessions whose clients are silent.
//!
//! The master notes when it last heard of each session. One that was silent for longer than its lease is ended in three
//! steps: from now on its keepalives are refused; it is **fenced** at every extent server, which refuses its writes for
//! ever; only then is `expire` proposed, and its locks go to others. If an extent server cannot be reached, the session
//! and its locks stay until it can: safety does not rest on any clock, availability does.
//!
//! A new master knows nothing of who was heard, so it gives every session a whole lease first. So does a master that
//! was itself stopped for a while: it heard nobody then.
//!
//! A client that lives but does not give back what others wait for is ended in the same way, much later; see
//! [`stuck`](super::stuck).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rpc::{Client, ClientOptions, OnRestart, RpcError, codec};

use super::clock::now_ns;
use super::protocol::{EXPIRE, EndSession, Ended, FENCE, Fence, LockId, SessionId};
use super::service::LockService;
use super::stuck::{Debt, Stuck};
use crate::rsm::{CommandRefused, Replica};

/// How a lock service treats sessions.
#[derive(Debug, Clone)]
pub struct LockServiceOptions {
    /// How long a session lives without a sign of its client.
    pub lease: Duration,
    /// Addresses of the extent servers where a session is fenced before it is expired.
    pub fences: Vec<String>,
    /// How long one attempt to fence may take.
    pub fence_timeout: Duration,
    /// How long a living client may keep a lock that another waits for. After a lease the log names it; after this its
    /// session is ended. None: never.
    pub stuck_after: Option<Duration>,
}

impl Default for LockServiceOptions {
    fn default() -> Self {
        LockServiceOptions {
            lease: Duration::from_secs(10),
            fences: Vec::new(),
            fence_timeout: Duration::from_secs(2),
            stuck_after: None,
        }
    }
}

/// How often sessions are looked at.
const TICK: Duration = Duration::from_millis(100);
/// A look that comes so late means that this process was stopped.
const STOPPED: Duration = Duration::from_secs(1);
/// Pause between attempts to fence, or to propose.
const PAUSE: Duration = Duration::from_millis(250);
/// A procedure that no server has: any server refuses it, and so shows that it lives.
const NO_PROC: u32 = 0x6fff;
/// How often a fence that cannot be reached is complained about.
const COMPLAIN: Duration = Duration::from_secs(10);

/// Who was heard when, and who is about to be ended. Not replicated.
pub(super) struct Expiry {
    options: LockServiceOptions,
    fences: Vec<Client>,
    heard: Mutex<Heard>,
    pub(super) stuck: Mutex<Stuck>,
}

struct Heard {
    /// Nobody's silence counts from before this.
    since: Instant,
    sessions: HashMap<SessionId, Instant>,
    /// Sessions that may have been fenced: they do not come back under this master.
    doomed: HashSet<SessionId>,
    /// Changes when everything starts over, so that an attempt to end a session knows that it is out of date.
    term: u64,
}

impl Expiry {
    pub(super) fn new(options: LockServiceOptions) -> Expiry {
        let client_options = ClientOptions { on_restart: OnRestart::Rebind, ..ClientOptions::default() };
        let fences = options.fences.iter().map(|addr| Client::new(addr, client_options.clone())).collect();
        let heard =
            Heard { since: Instant::now(), sessions: HashMap::new(), doomed: HashSet::new(), term: 0 };
        Expiry { options, fences, heard: Mutex::new(heard), stuck: Mutex::default() }
    }

    pub(super) fn lease_ms(&self) -> u32 {
        u32::try_from(self.options.lease.as_millis()).unwrap_or(u32::MAX)
    }

    /// The session's client has said something; false if it is too late.
    pub(super) fn heard(&self, session: SessionId) -> bool {
        let mut heard = self.heard.lock();
        let alive = !heard.doomed.contains(&session);
        if alive && session != 0 {
            heard.sessions.insert(session, Instant::now());
        }
        alive
    }

    /// Everybody gets a whole lease from now.
    pub(super) fn start_over(&self) {
        let mut heard = self.heard.lock();
        heard.since = Instant::now();
        heard.sessions.clear();
        heard.doomed.clear();
        heard.term += 1;
        drop(heard);
        self.stuck.lock().forgive();
    }

    /// Dooms those of `sessions` (each with its lease) that have been silent for too long; also forgets who is no more.
    fn doom(&self, sessions: &HashMap<SessionId, Duration>) -> (u64, Vec<SessionId>) {
        let now = Instant::now();
        let mut guard = self.heard.lock();
        let heard = &mut *guard;
        heard.sessions.retain(|session, _| sessions.contains_key(session));
        heard.doomed.retain(|session| sessions.contains_key(session));
        let mut dooms = Vec::new();
        for (&session, &lease) in sessions {
            let last = heard.sessions.get(&session).copied().unwrap_or(heard.since).max(heard.since);
            // The margin is for what is under way while the client's own, earlier count runs out.
            let silent = now.saturating_duration_since(last) > lease + lease / 10;
            if silent && heard.doomed.insert(session) {
                dooms.push(session);
            }
        }
        (heard.term, dooms)
    }

    /// The session has given back, or downgraded, these locks.
    pub(super) fn gave(&self, session: SessionId, locks: impl Iterator<Item = LockId>) {
        let mut stuck = self.stuck.lock();
        locks.for_each(|lock| stuck.gave(session, lock));
    }

    /// Dooms one session, whatever was heard of it; the term, unless it is doomed already.
    fn doom_one(&self, session: SessionId) -> Option<u64> {
        let mut heard = self.heard.lock();
        heard.doomed.insert(session).then_some(heard.term)
    }

    /// Who has kept for longer than a lease what others wait for, the longest first.
    pub(super) fn overdue(&self) -> Vec<Debt> {
        self.stuck.lock().overdue(now_ns(), self.options.lease)
    }

    fn is_current(&self, term: u64) -> bool {
        self.heard.lock().term == term
    }
}

/// Looks at the sessions again and again while this replica is the master.
pub(super) async fn watch(service: Arc<LockService>, replica: Replica) {
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let stopped = looked.elapsed() > STOPPED;
        looked = Instant::now();
        if stopped || !replica.am_master() {
            service.expiry.start_over();
            continue;
        }
        let (alive, ending) = service.read(|table| {
            let (mut alive, mut ending) = (HashMap::new(), Vec::new());
            for (session, _, lease_ms, is_ending) in table.sessions() {
                alive.insert(session, Duration::from_millis(lease_ms.into()));
                if is_ending {
                    ending.push(session);
                }
            }
            (alive, ending)
        });
        let (term, dooms) = service.expiry.doom(&alive);
        for session in dooms {
            tracing::info!(session, client = service.name_of(session), "silent for longer than its lease");
            tokio::spawn(end(service.clone(), replica.clone(), term, session));
        }
        look_for_stuck(&service, &replica).await;
        // Its client, or a master before, has begun to end it and may not be there to go on.
        for session in ending {
            let _ = propose(&replica, session).await;
        }
    }
}

/// Tells the operator of clients that do not give back what others wait for, and ends those for whom it is too late.
async fn look_for_stuck(service: &Arc<LockService>, replica: &Replica) {
    let expiry = &service.expiry;
    let in_the_way = service.in_the_way();
    let verdict = {
        let (mut stuck, now) = (expiry.stuck.lock(), now_ns());
        stuck.look(now, in_the_way.into_iter());
        stuck.judge(now, expiry.options.lease, expiry.options.stuck_after)
    };
    for Debt { session, lock, owed } in verdict.complain {
        let client = service.name_of(session);
        tracing::warn!(
            session,
            client,
            lock,
            ?owed,
            "the client does not give back a lock that others wait for"
        );
    }
    if verdict.end.is_empty() {
        return;
    }
    // Who cannot flush cannot give back; to end it would only lose its changes.
    if let Err(trouble) = fences_answer(expiry).await {
        tracing::warn!(trouble, "clients that keep locks are given more time");
        expiry.stuck.lock().forgive();
        return;
    }
    for Debt { session, lock, owed } in verdict.end {
        let Some(term) = expiry.doom_one(session) else { continue };
        let client = service.name_of(session);
        tracing::warn!(session, client, lock, ?owed, "the client is stuck; its session is ended");
        tokio::spawn(end(service.clone(), replica.clone(), term, session));
    }
}

/// Whether every extent server answers, whatever it says.
async fn fences_answer(expiry: &Expiry) -> Result<(), String> {
    let timeout = expiry.options.fence_timeout;
    let calls = expiry.fences.iter().map(|server| async move {
        match server.call::<_, ()>(NO_PROC, &(), timeout).await {
            Ok(()) | Err(RpcError::NoSuchProc(_)) => Ok(()),
            Err(error) => Err(format!("extent server {}: {error}", server.addr())),
        }
    });
    futures_util::future::join_all(calls).await.into_iter().collect()
}

/// Fences and expires a doomed session, unless this replica stops being the master.
async fn end(service: Arc<LockService>, replica: Replica, term: u64, session: SessionId) {
    let name = service.name_of(session);
    let mut complained: Option<Instant> = None;
    while service.expiry.is_current(term) {
        if let Err(trouble) = fence(&service.expiry, session).await {
            if complained.is_none_or(|at| at.elapsed() > COMPLAIN) {
                tracing::warn!(
                    session,
                    client = name,
                    trouble,
                    "cannot fence the session; its locks stay taken until then"
                );
                complained = Some(Instant::now());
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        match propose(&replica, session).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(session, client = name, "the session has expired; its locks are free");
                return;
            }
            Err(refused) => {
                tracing::debug!(session, %refused, "expire was refused");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Has every extent server refuse the session; an error names the first one that did not answer.
async fn fence(expiry: &Expiry, session: SessionId) -> Result<(), String> {
    #[cfg(feature = "planted")]
    if crate::planted::is_in_stack(crate::planted::StackBug::SkipFence) {
        return Ok(());
    }
    let timeout = expiry.options.fence_timeout;
    let calls = expiry.fences.iter().map(|server| async move {
        let answer: Result<(), _> = server.call(FENCE, &Fence { session }, timeout).await;
        answer.map_err(|error| format!("extent server {}: {error}", server.addr()))
    });
    futures_util::future::join_all(calls).await.into_iter().collect()
}

/// Proposes to end the session; whether some of its locks are left.
async fn propose(replica: &Replica, session: SessionId) -> Result<bool, CommandRefused> {
    let reply = replica.propose(EXPIRE, codec::encode(&EndSession { session }).into()).await?;
    Ok(codec::decode::<Ended>(&reply).is_ok_and(|ended| ended.more))
}
