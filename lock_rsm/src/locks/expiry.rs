//! The end of sessions whose clients are silent.
//!
//! The master notes when it last heard of each session. One that was silent for longer than its lease and the margin
//! ([`timing`](super::timing)) is ended in three steps: it is *doomed*, its keepalives are refused from now on; it is
//! **fenced** at every extent server, which refuses its writes for ever; only then is `expire` proposed, and its locks go
//! to others. If an extent server cannot be reached, the session and its locks stay until it can: that no write is lost
//! or overwritten does not rest on any clock.
//!
//! That no stale *read* is served does: a client trusts its cache until a lease after it sent the last answered
//! keepalive. So nothing is expired before that has passed, counted from when the keepalive was heard, and what was heard
//! by other masters counts too: a new master knows nothing of it, so it gives every session a whole lease first. So
//! does a master that was itself stopped for a while. A doomed session stays doomed here, since it may have been fenced.
//!
//! A client that lives but does not give back what others wait for is doomed much later (see [`stuck`](super::stuck)),
//! and then ended when its lease has run out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rpc::{Client, ClientOptions, OnRestart, RpcError, codec};

use super::clock::now_ns;
use super::protocol::{EXPIRE, EndSession, Ended, FENCE, Fence, LockId, SessionId};
use super::service::LockService;
use super::stuck::{Debt, Stuck};
use super::timing::{self, LeaseError};
use crate::rsm::{CommandRefused, Replica, Timers};

/// How a lock service treats sessions.
#[derive(Debug, Clone)]
pub struct LockServiceOptions {
    /// How long a session lives without a sign of its client.
    pub lease: Duration,
    /// Addresses of the extent servers where a session is fenced before it is expired.
    pub fences: Vec<String>,
    /// How long one attempt to fence may take.
    pub fence_timeout: Duration,
    /// The election timeout of the replicas, to which the lease must fit: [`crate::rsm::Timers`].
    pub election_timeout: Duration,
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
            election_timeout: Timers::default().election_timeout,
            stuck_after: None,
        }
    }
}

impl LockServiceOptions {
    /// Whether the lease goes with the election timeout. A service whose lease does not is safe, but its clients stop
    /// whenever the master changes.
    ///
    /// # Errors
    /// What is wrong with the lease.
    pub fn check(&self) -> Result<(), LeaseError> {
        timing::check(self.lease, self.election_timeout)
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
    /// Sessions that may have been fenced: this replica does not let them live again, whoever was master meanwhile.
    doomed: HashSet<SessionId>,
    /// Sessions that an attempt of this term is about to end.
    ending: HashSet<SessionId>,
    /// Changes when everything starts over, so that an attempt to end a session knows that it is out of date.
    term: u64,
}

impl Expiry {
    pub(super) fn new(options: LockServiceOptions) -> Expiry {
        let client_options = ClientOptions { on_restart: OnRestart::Rebind, ..ClientOptions::default() };
        let fences = options.fences.iter().map(|addr| Client::new(addr, client_options.clone())).collect();
        let heard = Heard {
            since: Instant::now(),
            sessions: HashMap::new(),
            doomed: HashSet::new(),
            ending: HashSet::new(),
            term: 0,
        };
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

    /// Everybody gets a whole lease from now, also who is doomed: another master may just have answered its keepalive.
    pub(super) fn start_over(&self) {
        let mut heard = self.heard.lock();
        heard.since = Instant::now();
        heard.sessions.clear();
        heard.ending.clear();
        heard.term += 1;
        drop(heard);
        self.stuck.lock().forgive();
    }

    /// Those of `sessions` (each with its lease) whose clients cannot believe in their leases any more: each is doomed, and
    /// named once in a term. Also forgets who is no more.
    fn run_out(&self, sessions: &HashMap<SessionId, Duration>) -> (u64, Vec<SessionId>) {
        let now = Instant::now();
        let mut guard = self.heard.lock();
        let heard = &mut *guard;
        heard.sessions.retain(|session, _| sessions.contains_key(session));
        heard.doomed.retain(|session| sessions.contains_key(session));
        heard.ending.retain(|session| sessions.contains_key(session));
        let mut out = Vec::new();
        for (&session, &lease) in sessions {
            let last = heard.sessions.get(&session).copied().unwrap_or(heard.since).max(heard.since);
            let patience = lease + timing::margin(lease, self.options.election_timeout);
            if now.saturating_duration_since(last) > patience && heard.ending.insert(session) {
                heard.doomed.insert(session);
                out.push(session);
            }
        }
        (heard.term, out)
    }

    /// The session has given back, or downgraded, these locks.
    pub(super) fn gave(&self, session: SessionId, locks: impl Iterator<Item = LockId>) {
        let mut stuck = self.stuck.lock();
        locks.for_each(|lock| stuck.gave(session, lock));
    }

    /// Refuses the session's keepalives from now on, so that its lease runs out; whether that is new.
    fn doom(&self, session: SessionId) -> bool {
        self.heard.lock().doomed.insert(session)
    }

    fn is_doomed(&self, session: SessionId) -> bool {
        self.heard.lock().doomed.contains(&session)
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
        let (term, out) = service.expiry.run_out(&alive);
        for session in out {
            tracing::info!(session, client = service.name_of(session), "its lease has run out");
            tokio::spawn(end(service.clone(), replica.clone(), term, session));
        }
        look_for_stuck(&service).await;
        // Its client, or a master before, has begun to end it and may not be there to go on.
        for session in ending {
            let _ = propose(&replica, session).await;
        }
    }
}

/// Tells the operator of clients that do not give back what others wait for, and ends those for whom it is too late.
async fn look_for_stuck(service: &LockService) {
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
    let end: Vec<Debt> = verdict.end.into_iter().filter(|debt| !expiry.is_doomed(debt.session)).collect();
    if end.is_empty() {
        return;
    }
    // Who cannot flush cannot give back; to end it would only lose its changes.
    if let Err(trouble) = fences_answer(expiry).await {
        tracing::warn!(trouble, "clients that keep locks are given more time");
        expiry.stuck.lock().forgive();
        return;
    }
    for Debt { session, lock, owed } in end {
        if expiry.doom(session) {
            let client = service.name_of(session);
            tracing::warn!(
                session,
                client,
                lock,
                ?owed,
                "the client is stuck; its session ends with its lease"
            );
        }
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

/// Fences and expires a session whose lease has run out, unless this replica stops being the master.
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
        // The fence may have taken long. If another was master meanwhile, the client may have a new lease from it.
        if !service.expiry.is_current(term) {
            return;
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [SessionId; 0] = [];

    /// Sessions with leases that have run out at once.
    fn gone(sessions: &[SessionId]) -> HashMap<SessionId, Duration> {
        sessions.iter().map(|&session| (session, Duration::ZERO)).collect()
    }

    /// Sessions with leases that last.
    fn lasting(sessions: &[SessionId]) -> HashMap<SessionId, Duration> {
        sessions.iter().map(|&session| (session, Duration::from_secs(3600))).collect()
    }

    fn expiry() -> Expiry {
        Expiry::new(LockServiceOptions { election_timeout: Duration::ZERO, ..LockServiceOptions::default() })
    }

    /// The next look that finds anything: the clock may stand still between two lines.
    fn found(expiry: &Expiry, sessions: &HashMap<SessionId, Duration>) -> (u64, Vec<SessionId>) {
        loop {
            let (term, mut out) = expiry.run_out(sessions);
            if !out.is_empty() {
                out.sort_unstable();
                return (term, out);
            }
        }
    }

    #[test]
    fn a_session_is_named_once_and_its_client_is_not_heard_any_more() {
        let expiry = expiry();
        assert!(expiry.heard(1) && expiry.heard(2));
        assert_eq!(expiry.run_out(&lasting(&[1, 2, 3])).1, NOBODY);
        let mut sessions = lasting(&[1]);
        sessions.extend(gone(&[2]));
        assert_eq!(found(&expiry, &sessions).1, [2]);
        assert!(expiry.heard(1) && !expiry.heard(2));
        assert_eq!(expiry.run_out(&sessions).1, NOBODY);
    }

    #[test]
    fn who_is_stuck_is_ended_only_when_its_lease_has_run_out() {
        let expiry = expiry();
        assert!(expiry.heard(1));
        assert!(expiry.doom(1) && !expiry.doom(1));
        assert!(!expiry.heard(1), "its client gets no more time");
        assert_eq!(expiry.run_out(&lasting(&[1])).1, NOBODY, "but what it got it may use");
        assert_eq!(found(&expiry, &gone(&[1])).1, [1]);
    }

    /// Another replica may have been master meanwhile, and have given the client a lease; but here it was fenced, perhaps.
    #[test]
    fn who_is_doomed_stays_so_and_after_a_change_of_master_its_lease_is_waited_for_again() {
        let expiry = expiry();
        let (term, out) = found(&expiry, &gone(&[1]));
        assert_eq!(out, [1]);
        expiry.start_over();
        assert!(!expiry.is_current(term), "the attempt to end it stops");
        assert!(!expiry.heard(1));
        assert_eq!(expiry.run_out(&lasting(&[1])).1, NOBODY);
        assert_eq!(found(&expiry, &gone(&[1])).1, [1], "a new attempt begins");
        assert_eq!(expiry.run_out(&HashMap::new()).1, NOBODY);
        assert!(expiry.heard(1), "nothing is remembered of sessions that are no more");
    }
}
