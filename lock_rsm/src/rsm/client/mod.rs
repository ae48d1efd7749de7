//! The client side: finds the master, follows it, and gets every request executed exactly once.

mod links;
mod requests;

use super::state::REGISTER_CLIENT;
use super::types::{NOT_MASTER, ReplicaStatus, View, procs};
use super::wire::{InvokeHead, InvokeReply};
use bytes::Bytes;
use links::Links;
use parking_lot::Mutex;
use requests::{Requests, Ticket};
use rpc::{Client, ClientOptions, NotifyFn, Proc, Response, RpcError, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// Bounds and habits of an RSM client.
#[derive(Clone, Debug)]
pub struct RsmClientOptions {
    /// The time [`RsmClient::connect`] has to find a master.
    pub connect_timeout: Duration,
    /// Requests in flight; further callers wait within their deadlines.
    pub in_flight_max: usize,
    /// A request that is not answered for this long makes the client ask the other replicas whether there is a new master.
    pub suspect_after: Duration,
    /// The longest pause between two rounds over all replicas.
    pub backoff_max: Duration,
    /// How often the client asks who the members are: it must know the new ones by the time the old ones are gone.
    pub refresh_every: Duration,
}

impl Default for RsmClientOptions {
    fn default() -> Self {
        RsmClientOptions {
            connect_timeout: Duration::from_secs(10),
            in_flight_max: 512,
            suspect_after: Duration::from_millis(250),
            backoff_max: Duration::from_millis(40),
            refresh_every: Duration::from_secs(1),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RsmError {
    /// Something given as an address is none.
    #[error(transparent)]
    BadAddress(#[from] rpc::addr::AddrError),
    /// No address was given.
    #[error("no replica address given")]
    NoAddress,
    /// No answer before the deadline. The request is executed once or not at all, perhaps only after this.
    #[error("no answer to {proc:#x} from the replicas {replicas} within {after:?} ({last})")]
    Timeout {
        /// The procedure.
        proc: Proc,
        /// The time it had.
        after: Duration,
        /// Who was asked.
        replicas: String,
        /// What the last attempt came to.
        last: String,
    },
    /// None of the replicas could be reached before the deadline.
    #[error("none of the replicas {replicas} can be reached: {source}")]
    Unreachable {
        /// Who was tried.
        replicas: String,
        /// What the last attempt came to.
        source: RpcError,
    },
    /// The handler answered with this status.
    #[error("status {0}")]
    Status(i32),
    /// It may have been executed before, and the group has forgotten the answer.
    #[error("the replicas no longer remember the answer to this request")]
    Forgotten,
    /// The arguments or the reply are larger than a message may be.
    #[error("the arguments or the reply of {0:#x} are too large")]
    TooLarge(Proc),
    /// The service could not decode the arguments.
    #[error("the service cannot decode the arguments of {0:#x}")]
    BadArgs(Proc),
    /// The service has no such procedure.
    #[error("the service has no procedure {0:#x}")]
    NoSuchProc(Proc),
    /// The reply is not of the type wanted.
    #[error("unexpected reply: {0}")]
    BadReply(rpc::codec::CodecError),
}

/// A client of a replicated service. Clones share everything.
#[derive(Clone)]
pub struct RsmClient {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    options: RsmClientOptions,
    runtime: Handle,
    links: Mutex<Links>,
    requests: Requests,
    /// Changes whenever another master becomes known.
    news: watch::Sender<u64>,
}

/// What one attempt at one replica came to, short of success.
enum Setback {
    /// The replica could not be asked.
    Failed(RpcError),
    /// It is not the master; this is what it knows.
    NotMaster(View),
    /// It has too much to do.
    Busy,
    /// Another replica knows of a newer view while this one keeps silent.
    Superseded,
    /// Final: retrying changes nothing.
    Final(RsmError),
}

/// A kind of call that is tried at one replica after the other.
trait Attempt {
    /// Whether only the master answers it.
    const MASTER_ONLY: bool = true;
    async fn at(&self, client: &Client, timeout: Duration) -> Result<Bytes, Setback>;
}

impl RsmClient {
    /// Finds the replicas of the group, starting from any of `addrs`, and gets this client its number from the master.
    ///
    /// Works when some of `addrs` are slaves or dead, as long as one of them answers. Must be called on a tokio runtime.
    pub async fn connect(addrs: &[String], options: RsmClientOptions) -> Result<RsmClient, RsmError> {
        let addrs: Vec<String> = addrs.iter().map(|addr| rpc::addr::parse(addr)).collect::<Result<_, _>>()?;
        if addrs.is_empty() {
            return Err(RsmError::NoAddress);
        }
        let runtime = Handle::current();
        let timeout = options.connect_timeout;
        let mut inner = Inner {
            id: 0,
            links: Mutex::new(Links::new(addrs, client_options(&options, &runtime))),
            requests: Requests::new(options.in_flight_max),
            options,
            runtime,
            news: watch::Sender::new(0),
        };
        let head = InvokeHead { client: 0, request: 0, acked_upto: 0, proc: REGISTER_CLIENT };
        let register = Registration { head: rpc::codec::encode(&head).into() };
        let reply = inner.persist(REGISTER_CLIENT, &register, timeout).await?;
        inner.id = rpc::codec::decode(&reply).map_err(RsmError::BadReply)?;
        let inner = Arc::new(inner);
        inner.runtime.spawn(refresh(Arc::downgrade(&inner), inner.options.refresh_every));
        Ok(RsmClient { inner })
    }

    /// The number by which the group knows this client: `CallInfo::client` in handlers.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Has the group execute procedure `proc` with `args`, exactly once if it answers, at most once if not.
    pub async fn invoke<A, R>(&self, proc: Proc, args: &A, timeout: Duration) -> Result<R, RsmError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let reply = self.invoke_raw(proc, rpc::codec::encode(args).into(), timeout).await?;
        rpc::codec::decode(&reply).map_err(RsmError::BadReply)
    }

    /// [`invoke`](Self::invoke) with encoded arguments and reply.
    pub async fn invoke_raw(&self, proc: Proc, args: Bytes, timeout: Duration) -> Result<Bytes, RsmError> {
        let inner = &self.inner;
        let late = || inner.late(proc, timeout, "too many requests are in flight");
        let ticket = tokio::select! {
            biased;
            ticket = inner.requests.begin() => ticket,
            () = inner.sleep(timeout) => return Err(late()),
        };
        let invocation = Invocation { inner, ticket, proc, args };
        inner.persist(proc, &invocation, timeout).await
    }

    /// Calls a procedure of the master that is not replicated. Its handler refuses on other replicas with the status
    /// [`NOT_MASTER`]; it may run more than once. Pushes from the master reach this client from then on.
    pub async fn call_master<A, R>(&self, proc: Proc, args: &A, timeout: Duration) -> Result<R, RsmError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let call = MasterCall { inner: &self.inner, proc, args: rpc::codec::encode(args).into() };
        let reply = self.inner.persist(proc, &call, timeout).await?;
        rpc::codec::decode(&reply).map_err(RsmError::BadReply)
    }

    /// Has `receiver` take the one-way messages of procedure `proc` that replicas push to this client. It must not block.
    pub fn on_push(&self, proc: Proc, receiver: NotifyFn) {
        self.inner.links.lock().on_push(proc, receiver);
    }

    /// The view, as a replica that answers knows it.
    pub async fn view(&self) -> Result<View, RsmError> {
        let reply = self.inner.persist(procs::MEMBERS, &AskView, self.inner.options.connect_timeout).await?;
        rpc::codec::decode(&reply).map_err(RsmError::BadReply)
    }
}

/// Keeps the list of members up to date for as long as the client lives.
async fn refresh(inner: Weak<Inner>, every: Duration) {
    // At once: who was given one address should not depend on that replica.
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        let Some(inner) = inner.upgrade() else { return };
        let client = inner.links.lock().target();
        let view: Result<View, _> = client.call(procs::MEMBERS, &(), inner.options.suspect_after).await;
        if let Ok(view) = view
            && inner.links.lock().learn(&view)
        {
            inner.news.send_modify(|number| *number += 1);
        }
    }
}

/// What the replica at `address` says of itself.
pub async fn replica_status(address: &str, timeout: Duration) -> Result<ReplicaStatus, RpcError> {
    let options = ClientOptions { fail_fast: true, at_most_once: false, ..ClientOptions::default() };
    Client::new(address, options).call(procs::STATUS, &(), timeout).await
}

impl Inner {
    /// Tries at the master, or whoever may know it, until there is an answer or `timeout` is over.
    async fn persist<A: Attempt>(&self, proc: Proc, call: &A, timeout: Duration) -> Result<Bytes, RsmError> {
        let deadline = Instant::now() + timeout;
        let mut news = self.news.subscribe();
        let mut pause = Pause::new(self.options.backoff_max);
        let mut reached = false;
        loop {
            news.mark_unchanged();
            let client = self.links.lock().target();
            let left = deadline.saturating_duration_since(Instant::now());
            let setback = match call.at(&client, left).await {
                Ok(reply) => {
                    if A::MASTER_ONLY {
                        self.answered(client.addr());
                    }
                    return Ok(reply);
                }
                Err(Setback::Final(error)) => return Err(error),
                Err(setback) => setback,
            };
            reached |= !matches!(setback, Setback::Failed(RpcError::Unreachable { .. }));
            let again_at_once = self.heed(&client, &setback);
            if Instant::now() >= deadline {
                return Err(self.give_up(proc, timeout, reached, setback));
            }
            if !again_at_once {
                let pause = pause.next().min(deadline.saturating_duration_since(Instant::now()));
                tokio::select! {
                    biased;
                    _ = news.changed() => {}
                    () = self.sleep(pause) => {}
                }
            }
        }
    }

    /// Learns from a setback; whether there is somebody to ask at once.
    fn heed(&self, client: &Client, setback: &Setback) -> bool {
        let mut links = self.links.lock();
        let before = links.master().cloned();
        let again_at_once = match setback {
            Setback::NotMaster(view) => {
                links.learn(view);
                links.refused(client.addr(), view)
            }
            Setback::Failed(_) => links.failed(client.addr()),
            Setback::Superseded => true,
            Setback::Busy | Setback::Final(_) => false,
        };
        let found_another = links.master().is_some() && links.master() != before.as_ref();
        drop(links);
        if found_another {
            self.news.send_modify(|number| *number += 1);
        }
        again_at_once
    }

    /// The replica at `address` answered as the master.
    fn answered(&self, address: &str) {
        let changed = self.links.lock().answered(address);
        if changed {
            self.news.send_modify(|number| *number += 1);
        }
    }

    fn give_up(&self, proc: Proc, after: Duration, reached: bool, setback: Setback) -> RsmError {
        match setback {
            Setback::Failed(source) if !reached => {
                RsmError::Unreachable { replicas: self.links.lock().names(), source }
            }
            Setback::Failed(error) => self.late(proc, after, &error.to_string()),
            Setback::NotMaster(_) => {
                self.late(proc, after, "no replica is the master; is a majority running?")
            }
            Setback::Busy => self.late(proc, after, "the master is overloaded"),
            Setback::Superseded => self.late(proc, after, "the master was just replaced"),
            Setback::Final(error) => error,
        }
    }

    fn late(&self, proc: Proc, after: Duration, last: &str) -> RsmError {
        RsmError::Timeout { proc, after, replicas: self.links.lock().names(), last: last.to_owned() }
    }

    /// Calls one replica, and while it keeps silent asks the others whether they follow a new master by now. A connection
    /// that dies ends the call by itself.
    async fn call_watched(
        &self,
        client: &Client,
        proc: Proc,
        args: Bytes,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Response, Setback> {
        let call = client.call_raw(proc, args, payload, timeout);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                reply = &mut call => return reply.map_err(Setback::Failed),
                () = self.sleep(self.options.suspect_after) => {}
            }
            let another = self.look_for_another(client.addr());
            tokio::select! {
                biased;
                reply = &mut call => return reply.map_err(Setback::Failed),
                found = another => if found {
                    return Err(Setback::Superseded);
                }
            }
        }
    }

    /// Asks the other replicas for their view; whether one of them follows another master than `silent` in a later view
    /// than any known so far.
    async fn look_for_another(&self, silent: &str) -> bool {
        let others = self.links.lock().others(silent);
        let questions = others.iter().map(|other| async move {
            let view: Result<View, _> = other.call(procs::MEMBERS, &(), self.options.suspect_after).await;
            view.ok()
        });
        let views = futures_util::future::join_all(questions).await;
        let mut links = self.links.lock();
        let mut found = false;
        for view in views.into_iter().flatten() {
            let elsewhere = view.master.as_deref().is_some_and(|master| master != silent);
            found |= links.learn(&view) && elsewhere;
        }
        drop(links);
        if found {
            self.news.send_modify(|number| *number += 1);
        }
        found
    }

    /// A timer that works on whatever thread the future is polled.
    fn sleep(&self, time: Duration) -> Sleep {
        let _runtime = self.runtime.enter();
        tokio::time::sleep(time)
    }
}

/// Asking the group for a client number. A lost answer costs one number.
struct Registration {
    head: Bytes,
}

impl Attempt for Registration {
    async fn at(&self, client: &Client, timeout: Duration) -> Result<Bytes, Setback> {
        // Bounded, because nobody watches for a new master while it lasts.
        let timeout = timeout.min(Duration::from_secs(1));
        let reply = client.call_raw(procs::INVOKE, self.head.clone(), Bytes::new(), timeout).await;
        invoked(REGISTER_CLIENT, reply.map_err(Setback::Failed)?)
    }
}

/// A replicated request.
struct Invocation<'a> {
    inner: &'a Inner,
    ticket: Ticket<'a>,
    proc: Proc,
    args: Bytes,
}

impl Attempt for Invocation<'_> {
    async fn at(&self, client: &Client, timeout: Duration) -> Result<Bytes, Setback> {
        let head = InvokeHead {
            client: self.inner.id,
            request: self.ticket.request(),
            acked_upto: self.inner.requests.acked_upto(),
            proc: self.proc,
        };
        let head: Bytes = rpc::codec::encode(&head).into();
        let reply = self.inner.call_watched(client, procs::INVOKE, head, self.args.clone(), timeout).await?;
        invoked(self.proc, reply)
    }
}

/// What the answer to an INVOKE says.
fn invoked(proc: Proc, response: Response) -> Result<Bytes, Setback> {
    match response.decode::<InvokeReply>() {
        Ok(InvokeReply::Done) => Ok(response.payload),
        Ok(InvokeReply::Failed(status)) => Err(Setback::Final(failed(proc, status))),
        Ok(InvokeReply::NotMaster(view)) => Err(Setback::NotMaster(view)),
        Ok(InvokeReply::Busy) => Err(Setback::Busy),
        Ok(InvokeReply::Forgotten) => Err(Setback::Final(RsmError::Forgotten)),
        Err(error) => Err(Setback::Final(RsmError::BadReply(error))),
    }
}

fn failed(proc: Proc, status: i32) -> RsmError {
    match Status(status) {
        Status::BAD_ARGS => RsmError::BadArgs(proc),
        Status::NO_SUCH_PROC => RsmError::NoSuchProc(proc),
        Status::TOO_LARGE => RsmError::TooLarge(proc),
        Status(other) => RsmError::Status(other),
    }
}

/// A call the master answers by itself.
struct MasterCall<'a> {
    inner: &'a Inner,
    proc: Proc,
    args: Bytes,
}

impl Attempt for MasterCall<'_> {
    async fn at(&self, client: &Client, timeout: Duration) -> Result<Bytes, Setback> {
        // First, so that what the call brings about can be pushed to us. Without a connection the message would be lost,
        // and a call makes one.
        let me: Bytes = rpc::codec::encode(&self.inner.id).into();
        if !client.notify(procs::ATTACH, me.clone(), Bytes::new()) {
            self.inner.call_watched(client, procs::ATTACH, me, Bytes::new(), timeout).await?;
        }
        let reply =
            self.inner.call_watched(client, self.proc, self.args.clone(), Bytes::new(), timeout).await;
        match reply {
            Ok(response) => Ok(response.body),
            Err(Setback::Failed(RpcError::Status(NOT_MASTER))) => {
                let view = client.call(procs::MEMBERS, &(), timeout).await.map_err(Setback::Failed)?;
                Err(Setback::NotMaster(view))
            }
            Err(Setback::Failed(error)) => Err(final_error(self.proc, error)),
            Err(setback) => Err(setback),
        }
    }
}

/// Tells errors that another replica would give as well from those of this replica.
fn final_error(proc: Proc, error: RpcError) -> Setback {
    Setback::Final(match error {
        RpcError::Status(status) => RsmError::Status(status),
        RpcError::BadArgs => RsmError::BadArgs(proc),
        RpcError::NoSuchProc(proc) => RsmError::NoSuchProc(proc),
        RpcError::TooLarge { .. } => RsmError::TooLarge(proc),
        RpcError::BadReply(error) => RsmError::BadReply(error),
        other => return Setback::Failed(other),
    })
}

/// Asking any replica for its view.
struct AskView;

impl Attempt for AskView {
    const MASTER_ONLY: bool = false;

    async fn at(&self, client: &Client, timeout: Duration) -> Result<Bytes, Setback> {
        let timeout = timeout.min(Duration::from_secs(1));
        let reply =
            client.call_raw(procs::MEMBERS, rpc::codec::encode(&()).into(), Bytes::new(), timeout).await;
        reply.map(|response| response.body).map_err(Setback::Failed)
    }
}

/// Growing pauses between rounds.
struct Pause {
    next: Duration,
    max: Duration,
}

impl Pause {
    fn new(max: Duration) -> Pause {
        Pause { next: Duration::from_millis(5).min(max), max }
    }

    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.max);
        now
    }
}

fn client_options(options: &RsmClientOptions, runtime: &Handle) -> ClientOptions {
    ClientOptions {
        connect_timeout: Duration::from_millis(500),
        // Requests in flight, and what else a client says beside them.
        max_in_flight: options.in_flight_max + 16,
        on_restart: rpc::OnRestart::Rebind,
        // The reply table does it, across replicas.
        at_most_once: false,
        fail_fast: true,
        runtime: Some(runtime.clone()),
        ..ClientOptions::default()
    }
}
