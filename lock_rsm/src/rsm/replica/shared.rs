//! What the parts of a replica share: the handle, the driver, the applier and the RPC handlers.

use super::super::service::Service;
use super::super::store::Identity;
use super::super::test_port::TestPort;
use super::super::types::{Limits, Timers, View, ViewHook};
use super::peers::Peers;
use crate::consensus::{Member, ReplicaId, Role, Viewstamp};
use parking_lot::Mutex;
use rpc::transport::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// State behind several hands. Each lock is held for a moment and never together with another.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) configured: Vec<String>,
    pub(super) timers: Timers,
    pub(super) remove_after: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) service: Arc<dyn Service>,
    pub(super) on_view: Option<ViewHook>,
    pub(super) test_port: Option<Arc<TestPort>>,
    pub(super) peers: Mutex<Peers>,
    pub(super) founding: Mutex<Option<Vec<Member>>>,
    /// Who has left the group for good.
    pub(super) retired: Mutex<Vec<ReplicaId>>,
    pub(super) started: Instant,
    position: Mutex<Position>,
    /// What the service was told of views last: number, master, whether that is this replica.
    told: Mutex<Option<(u64, Option<String>, bool)>>,
    /// Bytes of entries that the program has worked off since the start.
    applied_bytes: AtomicU64,
    /// The view this replica leads and whose first entry it has applied; 0 for none.
    led_view: AtomicU64,
    /// Milliseconds since `started` plus one when a quorum last confirmed this replica as the master; 0 for not.
    confirmed: AtomicU64,
}

/// Where a replica stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    pub(super) view: View,
    pub(super) role: Option<Role>,
    pub(super) is_member: bool,
    pub(super) applied: Viewstamp,
    pub(super) committed: u64,
}

/// What a replica starts with.
pub(super) struct SharedParts {
    pub(super) identity: Identity,
    pub(super) configured: Vec<String>,
    pub(super) timers: Timers,
    pub(super) remove_after: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) service: Arc<dyn Service>,
    pub(super) on_view: Option<ViewHook>,
    pub(super) test_port: Option<Arc<TestPort>>,
    pub(super) founding: Option<Vec<Member>>,
}

impl Shared {
    pub(super) fn new(parts: SharedParts) -> Shared {
        let view = View { number: 0, members: parts.configured.clone(), master: None };
        Shared {
            identity: parts.identity,
            configured: parts.configured,
            timers: parts.timers,
            remove_after: parts.remove_after,
            limits: parts.limits,
            service: parts.service,
            on_view: parts.on_view,
            test_port: parts.test_port,
            peers: Mutex::new(Peers::new(parts.limits.peers_max)),
            applied_bytes: AtomicU64::new(0),
            founding: Mutex::new(parts.founding),
            retired: Mutex::default(),
            started: Instant::now(),
            told: Mutex::new(None),
            position: Mutex::new(Position { view, ..Position::default() }),
            led_view: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }

    /// How other replicas are reached.
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        match &self.test_port {
            Some(port) => port.transport(),
            None => rpc::transport::ambient(),
        }
    }

    /// The core's clock: milliseconds since the replica started.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .expect("a replica runs for less than 500 million years")
    }

    pub(super) fn position(&self) -> Position {
        self.position.lock().clone()
    }

    pub(super) fn view(&self) -> View {
        self.position.lock().view.clone()
    }

    /// The program has applied everything up to `stamp`, and worked off so many bytes of it just now.
    pub(super) fn set_applied(&self, stamp: Viewstamp, bytes: u64) {
        self.position.lock().applied = stamp;
        self.applied_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of entries that the program has worked off since the start.
    pub(super) fn applied_bytes(&self) -> u64 {
        self.applied_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_role(&self, role: Role, is_member: bool, committed: u64) {
        let mut position = self.position.lock();
        position.role = Some(role);
        position.is_member = is_member;
        position.committed = committed;
    }

    pub(super) fn set_view(&self, view: View) {
        self.position.lock().view = view;
    }

    /// The applier tells of a view, in the order of the log. The service need not know who else is a member.
    pub(super) fn announce(&self, view: &View, master: bool) {
        self.led_view.store(if master { view.number } else { 0 }, Ordering::Release);
        let told = (view.number, view.master.clone(), master);
        if self.told.lock().replace(told.clone()) != Some(told) {
            self.service.on_view_change(view, master);
        }
        if let Some(hook) = self.on_view.as_ref().filter(|_| view.master.is_some()) {
            hook(view, master);
        }
    }

    /// The driver found that a quorum follows this replica as the master of `view`, or does not.
    pub(super) fn confirm(&self, leads: bool) {
        let value = if leads { self.now_ms() + 1 } else { 0 };
        self.confirmed.store(value, Ordering::Release);
    }

    /// Whether this replica may speak as the master: a quorum followed it a moment ago, and its state includes everything
    /// committed in earlier views. A driver that was stopped does not confirm, so a replica just woken is no master.
    pub(super) fn am_master(&self) -> bool {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        if confirmed == 0 {
            return false;
        }
        let age = self.now_ms().saturating_sub(confirmed - 1);
        let led = self.led_view.load(Ordering::Acquire);
        Duration::from_millis(age) <= self.timers.election_timeout
            && led != 0
            && led == self.position.lock().view.number
    }
}
