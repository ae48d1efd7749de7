//! What a replica answers over RPC.

use super::super::core::{Answer, Proposal, Refused};
use super::super::state::{Command, REGISTER_CLIENT};
use super::super::types::{ReplicaStatus, procs};
use super::super::wire::{
    Envelope, IdentityReply, InvokeHead, JoinReply, JoinRequest, RetireReply, RetireRequest,
};
use super::applier::Work;
use super::driver::{Ordered, Received};
use super::shared::{Position, Shared};
use super::tell::Tell;
use crate::consensus::{ReplicaId, Role, Viewstamp};
use bytes::Bytes;
use parking_lot::Mutex;
use rpc::{Notify, Request, Responder, Response, ServerBuilder, Status};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// The ways into a replica that has started consensus. Before, there are none.
pub(super) struct Entrance {
    pub(super) cluster: u64,
    pub(super) proposals: mpsc::Sender<Proposal<Tell>>,
    pub(super) messages: mpsc::Sender<Received>,
    pub(super) asked: mpsc::Sender<(ReplicaId, String)>,
    pub(super) orders: mpsc::Sender<Ordered>,
    pub(super) applier: Mutex<std::sync::mpsc::Sender<Work>>,
}

/// What the RPC handlers work on.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    entrance: OnceLock<Entrance>,
    /// Held while a hash is made, so that whoever asks for many keeps the program from its work for no more than one.
    hashing: tokio::sync::Mutex<()>,
    /// Set when the replica is gone, so that nothing keeps its threads alive.
    closed: std::sync::atomic::AtomicBool,
}

/// Who asks for a command to be executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) client: u64,
    pub(super) request: u64,
    pub(super) acked_upto: u64,
}

impl Asker {
    /// The replica group itself, which does not retry.
    pub(super) const GROUP: Asker = Asker { client: 0, request: 0, acked_upto: 0 };
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>) -> Desk {
        Desk {
            shared,
            entrance: OnceLock::new(),
            hashing: tokio::sync::Mutex::default(),
            closed: false.into(),
        }
    }

    /// Consensus has started.
    pub(super) fn open(&self, entrance: Entrance) {
        assert!(self.entrance.set(entrance).is_ok(), "consensus is started once");
    }

    /// The replica is gone.
    pub(super) fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::Release);
        if let Some(entrance) = self.entrance.get() {
            // The applier ends when nobody can give it tasks.
            *entrance.applier.lock() = std::sync::mpsc::channel().0;
        }
    }

    fn entrance(&self) -> Option<&Entrance> {
        let closed = self.closed.load(std::sync::atomic::Ordering::Acquire);
        self.entrance.get().filter(|_| !closed)
    }

    /// Has a command executed by the group on behalf of a task of this process.
    pub(super) async fn execute(&self, asker: Asker, proc: u32, args: Bytes) -> Answer {
        let (tell, answer) = oneshot::channel();
        self.propose(asker, proc, args, Tell::Task(tell));
        answer.await.unwrap_or(Err(Refused::NotMaster))
    }

    /// Has a command executed by the group, and `tell` told.
    fn propose(&self, asker: Asker, proc: u32, args: Bytes, tell: Tell) {
        let Some(entrance) = self.entrance() else { return tell.send(Err(Refused::NotMaster)) };
        let Asker { client, request, acked_upto } = asker;
        let command = Command { client, request, acked_upto, proc, args }.encode();
        let key = (client != 0).then_some((client, request));
        match entrance.proposals.try_send(Proposal { key, command, ticket: tell }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(proposal)) => proposal.ticket.send(Err(Refused::Busy)),
            Err(mpsc::error::TrySendError::Closed(proposal)) => {
                proposal.ticket.send(Err(Refused::NotMaster));
            }
        }
    }

    fn invoke(&self, request: Request, responder: Responder) {
        let head: InvokeHead = match request.decode() {
            Ok(head) => head,
            Err(status) => return responder.reply(Err(status)),
        };
        if head.client != 0 {
            self.shared.peers.lock().note(head.client, &request.peer);
        } else if head.proc != REGISTER_CLIENT {
            // Commands under no number are the group's own.
            return responder.reply(Err(Status::BAD_ARGS));
        }
        let asker = Asker { client: head.client, request: head.request, acked_upto: head.acked_upto };
        let tell = Tell::client(Arc::clone(&self.shared), responder);
        self.propose(asker, head.proc, request.payload, tell);
    }

    pub(super) async fn status(&self) -> ReplicaStatus {
        let hashed = self.cheap_hash().await;
        let position = self.shared.position();
        let applied = hashed.map_or(position.applied, |(stamp, _)| stamp);
        ReplicaStatus {
            address: self.shared.identity.address.clone(),
            pid: std::process::id(),
            role: role_name(&position).to_owned(),
            view: position.view,
            viewstamp: applied,
            applied: applied.seq,
            committed: position.committed,
            state_hash: hashed.and_then(|(_, hash)| hash),
        }
    }

    async fn cheap_hash(&self) -> Option<(Viewstamp, Option<u64>)> {
        let _one_at_a_time = self.hashing.lock().await;
        let (tell, answer) = oneshot::channel();
        self.entrance()?.applier.lock().send(Work::CheapHash(tell)).ok()?;
        answer.await.ok()
    }

    /// The applied stamp and the hash of the state there; `None` while forming.
    pub(super) async fn hash(&self) -> Option<(Viewstamp, u64)> {
        let _one_at_a_time = self.hashing.lock().await;
        let (tell, answer) = oneshot::channel();
        self.entrance()?.applier.lock().send(Work::Hash(tell)).ok()?;
        answer.await.ok()
    }

    fn identity(&self) -> IdentityReply {
        IdentityReply {
            id: self.shared.identity.id,
            configured: self.shared.configured.clone(),
            formed: self.shared.founding.lock().clone(),
        }
    }

    /// A replica asks to be taken in.
    fn join(&self, request: JoinRequest) -> JoinReply {
        let Some(entrance) = self.entrance() else { return JoinReply::Noted(self.shared.configured.clone()) };
        if request.cluster != entrance.cluster {
            return JoinReply::OtherGroup;
        }
        if self.shared.retired.lock().contains(&request.id) {
            return JoinReply::Retired;
        }
        // It asks again. An address that is none would stay in the membership for ever.
        match rpc::addr::parse(&request.address) {
            Ok(_) => drop(entrance.asked.try_send((request.id, request.address))),
            Err(error) => tracing::debug!("somebody asks to be taken in: {error}"),
        }
        JoinReply::Noted(self.shared.view().members)
    }

    /// An operator wants a replica to go.
    async fn retire(self: Arc<Self>, request: RetireRequest) -> RetireReply {
        let not_master = || RetireReply::NotMaster(self.shared.view());
        let Some(entrance) = self.entrance() else { return not_master() };
        if request.cluster.is_some_and(|cluster| cluster != entrance.cluster) {
            return RetireReply::OtherGroup;
        }
        let (tell, answer) = oneshot::channel();
        // Whoever asks asks again.
        if entrance.orders.try_send(Ordered { order: request.order, tell }).is_err() {
            return not_master();
        }
        answer.await.ok().flatten().map_or_else(not_master, RetireReply::Order)
    }

    fn message(&self, notify: &Notify) {
        let Some(entrance) = self.entrance() else { return };
        let Ok((head, message)) = notify.decode::<Envelope>() else {
            if !notify.args.is_empty() {
                tracing::debug!("a message between replicas does not decode");
            }
            return;
        };
        if head.cluster == entrance.cluster && head.to == self.shared.identity.id {
            // A full queue loses messages as a network does.
            let received = Received { from: head.from, address: head.address, message };
            let _ = entrance.messages.try_send(received);
        }
    }
}

fn role_name(position: &Position) -> &'static str {
    match position.role {
        None => "forming",
        Some(Role::Master) => "master",
        Some(_) if !position.is_member => "joining",
        Some(Role::Slave) => "slave",
        Some(Role::PreCandidate | Role::Candidate) => "candidate",
    }
}

/// Registers the replica's own procedures beside the service's.
pub(super) fn register(desk: &Arc<Desk>, server: &mut ServerBuilder) {
    use rpc::Register;
    let at = Arc::clone(desk);
    server.register_deferred(
        procs::INVOKE,
        Arc::new(move |request: Request, responder: Responder| at.invoke(request, responder)),
    );
    let at = Arc::clone(desk);
    server.register(procs::MEMBERS, rpc::typed(move |_, (): ()| Ok(at.shared.view())));
    let at = Arc::clone(desk);
    server.register_async(
        procs::STATUS,
        rpc::asynchronous(move |_: Request| {
            let at = Arc::clone(&at);
            async move { Ok(Response::of(&at.status().await)) }
        }),
    );
    let at = Arc::clone(desk);
    server.register_async(
        procs::ATTACH,
        rpc::asynchronous(move |request: Request| {
            let noted = request.decode::<u64>().map(|client| {
                at.shared.peers.lock().note(client, &request.peer);
                Response::of(&())
            });
            async move { noted }
        }),
    );
    let at = Arc::clone(desk);
    server.on_notify(
        procs::ATTACH,
        Arc::new(move |notify: Notify| {
            if let Ok(client) = notify.decode::<u64>() {
                at.shared.peers.lock().note(client, &notify.peer);
            }
        }),
    );
    let at = Arc::clone(desk);
    server.register(procs::IDENTITY, rpc::typed(move |_, (): ()| Ok(at.identity())));
    let at = Arc::clone(desk);
    server.register(procs::JOIN, rpc::typed(move |_, request: JoinRequest| Ok(at.join(request))));
    let at = Arc::clone(desk);
    server.register_async(
        procs::RETIRE,
        rpc::asynchronous(move |request: Request| {
            let (at, order) = (Arc::clone(&at), request.decode::<RetireRequest>());
            async move { Ok(Response::of(&at.retire(order?).await)) }
        }),
    );
    let at = Arc::clone(desk);
    server.on_notify(procs::MESSAGE, Arc::new(move |notify: Notify| at.message(&notify)));
}
