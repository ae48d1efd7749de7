//! What everybody did and what looked wrong: shared by all parts of a run.

use super::model::{Ask, ClientId, Said, What};
use super::network::HostId;
use crate::linear::{History, OpId};
use crate::sim::digest::Digest;
use lock_rsm::locks::LockService;
use lock_rsm::rsm::Replica;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of clients that were answered.
    pub operations: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Reads that the simulated kernels answered by themselves.
    pub cached: u64,
    /// Replicas that became master.
    pub masters: u64,
    /// Machines that crashed: replicas, clients, extent servers.
    pub crashes: [u64; 3],
    /// Machines that stood still for a while, likewise.
    pub pauses: [u64; 3],
    /// Sessions fenced, and sessions expired.
    pub fenced: u64,
    /// Sessions that a living client lost.
    pub lost: u64,
    /// Connections broken.
    pub broken: u64,
    /// Commits of the store.
    pub commits: u64,
}

impl Counts {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Counts) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.cached += other.cached;
        self.masters += other.masters;
        for kind in 0..3 {
            self.crashes[kind] += other.crashes[kind];
            self.pauses[kind] += other.pauses[kind];
        }
        self.fenced += other.fenced;
        self.lost += other.lost;
        self.broken += other.broken;
        self.commits += other.commits;
    }
}

#[derive(Default)]
struct Inner {
    history: History<Ask, Said>,
    /// Every event has a moment of its own. All machines run in one thread, so their order is the order of time.
    moment: u64,
    digest: Digest,
    counts: Counts,
    broken: Option<Broken>,
    replicas: BTreeMap<HostId, (Replica, Arc<LockService>)>,
    /// Sessions that may not write any more, and since when.
    fenced: BTreeMap<u64, u64>,
    ended: BTreeMap<u64, u64>,
    opened: BTreeSet<u64>,
    /// Sessions that their clients have not lost yet.
    sessions: BTreeMap<u64, ClientId>,
    /// Clients that serve.
    mounted: BTreeMap<HostId, ClientId>,
    /// Operations of each client since the faults ended.
    done: BTreeMap<ClientId, u64>,
}

/// The record of a run. Clones are the same.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Inner>>);

impl Record {
    /// An operation begins.
    pub fn begin(&self, client: ClientId, object: u8, what: What) -> OpId {
        let mut inner = self.0.lock();
        let at = inner.tick(&[client.into(), object.into(), word(what)]);
        inner.history.invoke(client.into(), at, Ask { object, client, what })
    }

    /// It was answered.
    pub fn end(&self, client: ClientId, id: OpId, said: Said) {
        let mut inner = self.0.lock();
        let value = if let Said::Value(value) = said { value } else { said_word(said) };
        let at = inner.tick(&[client.into(), value]);
        inner.history.answer(id, at, said);
        inner.counts.operations += 1;
        *inner.done.entry(client).or_default() += 1;
    }

    /// It failed, and may have been done or not.
    pub fn failed(&self) {
        self.0.lock().counts.failed += 1;
    }

    /// It failed without having done anything.
    pub fn never(&self, id: OpId) {
        let mut inner = self.0.lock();
        inner.history.never(id);
        inner.counts.failed += 1;
    }

    /// A client that lives was told of a loss.
    pub fn told(&self, client: ClientId, object: u8) {
        let id = self.begin(client, object, What::Told);
        let mut inner = self.0.lock();
        let at = inner.tick(&[]);
        inner.history.answer(id, at, Said::Done);
    }

    /// A client may have lost what it had not flushed: it crashed, or lost its session.
    pub fn loses(&self, client: ClientId, session: Option<u64>, objects: u8) {
        let mut inner = self.0.lock();
        let now = inner.tick(&[client.into(), session.unwrap_or(0)]);
        // Others may know it from the fence on. A client that crashes may have been fenced before, without noticing.
        let sessions: Vec<u64> = match session {
            Some(session) => vec![session],
            None => {
                inner.sessions.iter().filter(|(_, of)| **of == client).map(|(session, _)| *session).collect()
            }
        };
        let fenced = sessions.iter().filter_map(|session| inner.fenced.get(session));
        let since = fenced.min().copied().unwrap_or(now);
        inner.sessions.retain(|session, _| !sessions.contains(session));
        for object in 0..objects {
            let what = What::Lose { lives: session.is_some() };
            inner.history.invoke(client.into(), since, Ask { object, client, what });
        }
        inner.counts.lost += u64::from(session.is_some());
    }

    /// The store refuses the session from now on.
    pub fn fenced(&self, session: u64) {
        let mut inner = self.0.lock();
        let at = inner.tick(&[session]);
        if inner.fenced.insert(session, at).is_none() {
            inner.counts.fenced += 1;
        }
    }

    /// A replica executed the opening of a session.
    pub fn session_opened(&self, session: u64, client: ClientId) {
        let mut inner = self.0.lock();
        // Replicas execute it more than once: each by itself, and again from their logs.
        if inner.opened.insert(session) {
            inner.sessions.insert(session, client);
        }
    }

    /// A replica executed the end of a session: its locks may be with others.
    pub fn session_ended(&self, session: u64, expired: bool) {
        let mut inner = self.0.lock();
        let at = inner.tick(&[session, u64::from(expired)]);
        inner.ended.entry(session).or_insert(at);
    }

    /// The store took a write or a commit of the session.
    pub fn accepted(&self, session: u64) {
        let mut inner = self.0.lock();
        let at = inner.tick(&[session]);
        let late = inner.ended.get(&session).or_else(|| inner.fenced.get(&session)).copied();
        drop(inner);
        if let Some(since) = late {
            let what = format!(
                "session {session} ended at moment {since}, and the store took a change of it at {at}"
            );
            self.broken(super::invariants::FENCED, what);
        }
    }

    /// Something is wrong. The first such thing counts.
    pub fn broken(&self, invariant: &'static str, what: String) {
        self.0.lock().broken.get_or_insert(Broken { invariant, what });
    }

    /// What is wrong, if something is.
    pub fn verdict(&self) -> Result<(), Broken> {
        self.0.lock().broken.clone().map_or(Ok(()), Err)
    }

    /// Notes that a replica runs.
    pub fn replica(&self, host: HostId, replica: Replica, locks: Arc<LockService>) {
        self.0.lock().replicas.insert(host, (replica, locks));
    }

    /// Notes that a machine was switched off.
    pub fn off(&self, host: HostId) {
        let mut inner = self.0.lock();
        let replica = inner.replicas.remove(&host);
        inner.mounted.remove(&host);
        drop(inner);
        drop(replica);
    }

    /// The running replicas.
    pub fn replicas(&self) -> Vec<(Replica, Arc<LockService>)> {
        self.0.lock().replicas.values().cloned().collect()
    }

    /// A client serves.
    pub fn mounted(&self, host: HostId, client: ClientId) {
        let mut inner = self.0.lock();
        inner.tick(&[host.into(), client.into()]);
        inner.mounted.insert(host, client);
    }

    /// Which client serves on a machine.
    pub fn client_on(&self, host: HostId) -> Option<ClientId> {
        self.0.lock().mounted.get(&host).copied()
    }

    /// Operations that a client has completed since this was last reset.
    pub fn done(&self, client: ClientId) -> u64 {
        self.0.lock().done.get(&client).copied().unwrap_or(0)
    }

    /// Counts operations anew.
    pub fn reset_done(&self) {
        self.0.lock().done.clear();
    }

    /// Counts something.
    pub fn count(&self, f: impl FnOnce(&mut Counts)) {
        f(&mut self.0.lock().counts);
    }

    /// How much happened.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// All operations.
    pub fn history(&self) -> History<Ask, Said> {
        self.0.lock().history.clone()
    }

    /// Adds to what tells runs apart.
    pub fn note(&self, words: &[u64]) {
        self.0.lock().digest.add_all(words);
    }

    /// A number that tells runs apart.
    pub fn digest(&self) -> u64 {
        self.0.lock().digest.value()
    }
}

impl Inner {
    /// The next moment, at which this happens.
    fn tick(&mut self, words: &[u64]) -> u64 {
        self.digest.add_all(words);
        self.moment += 1;
        self.moment
    }
}

fn said_word(said: Said) -> u64 {
    match said {
        Said::Done => u64::MAX,
        Said::Refused => u64::MAX - 1,
        Said::Failed => u64::MAX - 2,
        Said::Value(value) => value,
    }
}

fn word(what: What) -> u64 {
    match what {
        What::Read => 1,
        What::Write(value) => value << 8 | 2,
        What::Create(name) => u64::from(name) << 8 | 3,
        What::Unlink(name) => u64::from(name) << 8 | 4,
        What::Rename(from, to) => u64::from(from) << 16 | u64::from(to) << 8 | 5,
        What::Look(name) => u64::from(name) << 8 | 6,
        What::List => 7,
        What::Sync => 8,
        What::Lose { lives } => u64::from(lives) << 8 | 9,
        What::Told => 10,
    }
}
