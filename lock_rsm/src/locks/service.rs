//! The lock service: the lock table as a replicated program, and what its master says to clients.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use rpc::{CallInfo, Handler, Proc, Register, Request, Response, ServerBuilder, Status, codec};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::expiry::{Expiry, LockServiceOptions};
use super::protocol::*;
use super::table::{LockTable, Notices, Refusal};
use crate::rsm::{NOT_MASTER, Replica, Service, StateError, View};

/// Pushes waiting to be sent. Beyond, they are dropped: clients ask again.
const OUTBOX_MAX: usize = 1 << 16;
/// Grants that a new master repeats, in case the old one died before it had sent them.
const GRANTS_REMEMBERED: usize = 4096;

/// The lock service of one replica.
pub struct LockService {
    state: Mutex<State>,
    /// There is something in the outbox.
    outgoing: Notify,
    pub(super) expiry: Expiry,
    pub(super) replica: OnceLock<Replica>,
}

struct State {
    /// The replicated part.
    table: LockTable,
    /// Whether this replica is the master of its view. Others say nothing and so keep no outbox.
    speaks: bool,
    outbox: VecDeque<Push>,
    /// The last grants to waiters, whoever was the master.
    grants: VecDeque<(SessionId, LockId, Mode)>,
}

struct Push {
    client: u64,
    proc: Proc,
    body: Bytes,
}

/// The tasks beside a lock service; they end when it is dropped.
pub struct LockServiceTasks(Vec<AbortHandle>);

impl Drop for LockServiceTasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl LockService {
    /// A lock service without any session or lock.
    pub fn new(options: LockServiceOptions) -> Arc<LockService> {
        let (outbox, grants) = (VecDeque::new(), VecDeque::new());
        let state = State { table: LockTable::default(), speaks: false, outbox, grants };
        Arc::new(LockService {
            state: Mutex::new(state),
            outgoing: Notify::new(),
            expiry: Expiry::new(options),
            replica: OnceLock::new(),
        })
    }

    /// Registers what is not replicated: the keepalive, who has a session, and who is stuck.
    pub fn register_unreplicated(self: &Arc<Self>, server: &mut ServerBuilder) {
        let service = self.clone();
        let keepalive = move |request: Request| {
            let answer = request.decode().and_then(|args| service.keepalive(&args));
            std::future::ready(answer.map(|alive| Response::of(&alive)))
        };
        server.register_async(KEEPALIVE, rpc::asynchronous(keepalive));
        let service = self.clone();
        let sessions = move |request: Request| {
            let answer = request.decode().and_then(|args: SessionsFrom| service.sessions(args.from));
            std::future::ready(answer.map(|page| Response::of(&page)))
        };
        server.register_async(SESSIONS, rpc::asynchronous(sessions));
        let service = self.clone();
        server.register(STUCK, rpc::typed(move |_, (): ()| service.stuck_report()));
    }

    /// Starts what the service does besides executing commands: pushes to clients and the end of silent sessions.
    ///
    /// # Panics
    /// When called a second time.
    pub fn run(self: &Arc<Self>, replica: Replica) -> LockServiceTasks {
        assert!(self.replica.set(replica.clone()).is_ok(), "a lock service has one replica");
        LockServiceTasks(vec![
            tokio::spawn(self.clone().send(replica.clone())).abort_handle(),
            tokio::spawn(super::expiry::watch(self.clone(), replica)).abort_handle(),
        ])
    }

    /// Held and waited-for locks over all sessions.
    pub fn load(&self) -> usize {
        self.state.lock().table.load()
    }

    /// What the session's client calls itself; nothing if the session is unknown.
    pub(super) fn name_of(&self, session: SessionId) -> String {
        self.read(|table| {
            let found = table.sessions().find(|&(id, ..)| id == session);
            found.map_or_else(String::new, |(_, name, ..)| name.to_owned())
        })
    }

    /// Which sessions hold which locks in the way of others.
    pub(super) fn in_the_way(&self) -> Vec<(SessionId, LockId)> {
        let mut notices = Notices::default();
        self.read(|table| table.outstanding(&mut notices));
        let debts = notices.revokes().map(|revoke| (revoke.session, revoke.locks));
        debts.flat_map(|(session, locks)| locks.into_iter().map(move |(lock, _)| (session, lock))).collect()
    }

    /// What `f` reads from the table.
    pub(super) fn read<T>(&self, f: impl FnOnce(&LockTable) -> T) -> T {
        f(&self.state.lock().table)
    }

    fn keepalive(&self, args: &Keepalive) -> Result<Alive, Status> {
        if !self.replica.get().is_some_and(Replica::am_master) {
            return Err(Status(NOT_MASTER));
        }
        if args.session == 0 {
            return Ok(Alive { lease_ms: self.expiry.lease_ms() });
        }
        let lease_ms = self.read(|table| table.lease_ms(args.session)).ok_or(Status(NO_SESSION))?;
        if self.expiry.heard(args.session) { Ok(Alive { lease_ms }) } else { Err(Status(NO_SESSION)) }
    }

    fn sessions(&self, from: SessionId) -> Result<SessionsPage, Status> {
        if !self.replica.get().is_some_and(Replica::am_master) {
            return Err(Status(NOT_MASTER));
        }
        Ok(self.read(|table| super::sessions::page(table, from)))
    }

    /// Executes a command and keeps what it makes the master say.
    fn execute<T>(
        &self,
        info: &CallInfo,
        session: SessionId,
        command: impl FnOnce(&mut LockTable, Stamp, &mut Notices) -> Result<T, Refusal>,
    ) -> Result<T, Status> {
        let mut notices = Notices::default();
        let mut state = self.state.lock();
        let result = command(&mut state.table, info.order, &mut notices);
        state.remember(&notices);
        let speaks = state.speaks;
        if speaks && !notices.is_empty() {
            state.say(&notices);
            self.outgoing.notify_one();
        }
        drop(state);
        if speaks {
            self.expiry.heard(session);
        }
        result.map_err(|refusal| match refusal {
            Refusal::NoSession => Status(NO_SESSION),
            Refusal::TooLong => Status(TOO_LONG),
            Refusal::Full => Status(FULL),
        })
    }

    fn open_session(&self, info: &CallInfo, args: &OpenSession) -> Result<SessionId, Status> {
        self.execute(info, 0, |table, stamp, _| table.open_session(stamp, info.client, args))
    }

    fn acquire(&self, info: &CallInfo, args: &Acquire) -> Result<Standings, Status> {
        self.execute(info, args.session, |table, stamp, notices| {
            table.acquire(stamp, info.client, args, notices).map(|locks| Standings { stamp, locks })
        })
    }

    fn release(&self, info: &CallInfo, args: &Release) -> Result<Standings, Status> {
        self.expiry.gave(args.session, args.locks.iter().map(|&(lock, _)| lock));
        self.execute(info, args.session, |table, stamp, notices| {
            table.release(stamp, info.client, args, notices).map(|locks| Standings { stamp, locks })
        })
    }

    fn allocate(&self, info: &CallInfo, args: &Allocate) -> Result<Allocated, Status> {
        self.execute(info, args.session, |table, stamp, _| {
            let first = table.allocate(stamp, info.client, args)?;
            Ok(Allocated { stamp, first, count: args.count })
        })
    }

    fn end_session(&self, info: &CallInfo, client: Option<u64>, args: &EndSession) -> Result<Ended, Status> {
        self.execute(info, 0, |table, stamp, notices| {
            Ok(Ended { more: table.end_session(stamp, client, args.session, notices) })
        })
    }

    /// Only the group itself, which calls as client 0, ends somebody's session: it has fenced it before.
    fn expire(&self, info: &CallInfo, args: &EndSession) -> Result<Ended, Status> {
        if info.client == 0 { self.end_session(info, None, args) } else { Err(Status(NOT_YOURS)) }
    }

    /// Sends what the outbox holds, as long as this replica may speak. A push that does not arrive is made good by the
    /// client, which asks again.
    async fn send(self: Arc<Self>, replica: Replica) {
        loop {
            self.outgoing.notified().await;
            loop {
                let Some(push) = self.state.lock().outbox.pop_front() else { break };
                if !replica.push(push.client, push.proc, push.body) {
                    tracing::debug!(client = push.client, proc = push.proc, "a push was not sent");
                }
            }
        }
    }
}

impl State {
    fn remember(&mut self, notices: &Notices) {
        for grant in notices.grants() {
            for (id, mode) in grant.locks {
                if self.grants.len() == GRANTS_REMEMBERED {
                    self.grants.pop_front();
                }
                self.grants.push_back((grant.session, id, mode));
            }
        }
    }

    /// Puts pushes into the outbox, grants before revokes.
    fn say(&mut self, notices: &Notices) {
        for grant in notices.grants() {
            self.push(grant.session, GRANT, codec::encode(&grant));
        }
        for revoke in notices.revokes() {
            self.push(revoke.session, REVOKE, codec::encode(&revoke));
        }
    }

    fn push(&mut self, session: SessionId, proc: Proc, body: Vec<u8>) {
        let Some(client) = self.table.client_of(session) else { return };
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back(Push { client, proc, body: body.into() });
        }
    }

    /// Everything the master before may have failed to say: all revokes, and the last grants that still hold.
    fn say_all_again(&mut self) {
        let mut notices = Notices::default();
        let stamp = self.table.stamp();
        self.table.outstanding(&mut notices);
        for &(session, id, mode) in &self.grants {
            if self.table.standing(session, id).held == Some(mode) {
                notices.grant(stamp, session, id, mode);
            }
        }
        self.say(&notices);
    }
}

impl Service for LockService {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        fn handler<A, R>(
            service: &Arc<LockService>,
            f: fn(&LockService, &CallInfo, &A) -> Result<R, Status>,
        ) -> Arc<dyn Handler>
        where
            A: serde::de::DeserializeOwned + 'static,
            R: serde::Serialize + 'static,
        {
            let service = service.clone();
            rpc::typed(move |info, args: A| f(&service, info, &args))
        }
        to.register(OPEN_SESSION, handler(&self, LockService::open_session));
        to.register(ACQUIRE, handler(&self, LockService::acquire));
        to.register(RELEASE, handler(&self, LockService::release));
        to.register(ALLOCATE, handler(&self, LockService::allocate));
        to.register(EXPIRE, handler(&self, LockService::expire));
        to.register(
            CLOSE_SESSION,
            handler(&self, |service, info, args| service.end_session(info, Some(info.client), args)),
        );
        to.register(
            STAT,
            handler(&self, |service, _, id: &LockId| Ok(service.read(|table| table.stat(*id)))),
        );
    }

    fn marshal_state(&self) -> Vec<u8> {
        self.read(LockTable::marshal)
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        let table = LockTable::unmarshal(bytes).map_err(|error| StateError(error.to_string()))?;
        self.state.lock().table = table;
        Ok(())
    }

    fn on_view_change(&self, _: &View, am_master: bool) {
        self.expiry.start_over();
        let mut state = self.state.lock();
        state.speaks = am_master;
        state.outbox.clear();
        if am_master {
            state.say_all_again();
            self.outgoing.notify_one();
        }
    }
}
