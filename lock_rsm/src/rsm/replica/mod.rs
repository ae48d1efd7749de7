//! A replica: its pure core ([`super::core`]) with a disk, a network, a clock and a program around it.
//!
//! ```text
//!   RPC handlers (serve) ── proposals, messages ──► driver task (owns the ReplicaCore) ── messages ──► links
//!                                                     │            ▲
//!                                       batches ──► writer thread ─┘ persisted
//!                                                     │
//!                                         tasks ──► applier thread (owns the Program) ── answers ──► waiting RPC handlers
//! ```

mod allowance;
mod applier;
mod ask;
mod driver;
mod form;
mod links;
mod peers;
mod serve;
mod shared;
mod tell;
mod writer;

pub use driver::ReplicaFailure;

use super::config::{ConfigError, Group, MembersFrom};
use super::core::{Applied, Boot, BootError, Outcome, Refused, ReplicaConfig, Stop, Waiting, boot};
use super::formation::FormationError;
use super::service::Service;
use super::store::{DiskStore, Recovered, Store, StoreError, cluster_id};
use super::types::{ReplicaOptions, ReplicaStatus, StateError, View, Workers};
use crate::consensus::{Membership, RestoreError, Viewstamp};
use ask::Applicant;
use bytes::Bytes;
use driver::{Driver, Hands, Inputs};
use form::Formed;
use links::Links;
use parking_lot::Mutex;
use rpc::{Server, ServerBuilder};
use serve::{Asker, Desk, Entrance};
use shared::{Shared, SharedParts};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tell::Tell;
use tokio::sync::{mpsc, watch};

/// Replicas whose asking to be taken in waits to be heard; more ask again.
const ASKED_MAX: usize = 64;

/// Operators' orders that wait to be heard; they are given again.
const ORDERS_MAX: usize = 16;
/// A silence for which members are removed is at least so many election timeouts: an election takes up to two, and after a pause
/// of the whole machine everybody needs a moment to be heard again.
const REMOVE_AFTER_ELECTIONS: u32 = 3;

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is no group with this replica in it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Living members would be removed.
    #[error(
        "a member would be removed after {} ms of silence, and an election may take {} ms: let --remove-after be at least {} ms, or 0 for never",
        remove_after.as_millis(), 2 * election_timeout.as_millis(), least.as_millis()
    )]
    RemoveAfter {
        /// [`ReplicaOptions::remove_after`].
        remove_after: Duration,
        /// [`Timers::election_timeout`](super::Timers::election_timeout).
        election_timeout: Duration,
        /// The least that is sound with it.
        least: Duration,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The group does not take this replica.
    #[error(transparent)]
    Formation(#[from] FormationError),
    /// The log in the data directory contradicts itself.
    #[error(
        "the data directory {dir} is damaged: {source}; this replica must not vote from it: restore the directory from a copy, or replace the replica by a new member"
    )]
    Log {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        source: RestoreError,
    },
    /// The snapshot in the data directory is not one of this program.
    #[error("the data directory {dir} holds a snapshot this program cannot read: {source}")]
    State {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        source: StateError,
    },
    /// The system has no thread for us, or no randomness.
    #[error("cannot start the replica: {0}")]
    System(std::io::Error),
}

/// Why a command of the group's own was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// This replica is not the master. The command may have been executed all the same.
    #[error("this replica is not the master")]
    NotMaster,
    /// Too much is waiting.
    #[error("too much is waiting; try again later")]
    Busy,
    /// The handler's status.
    #[error("status {0}")]
    Status(i32),
}

/// A running replica. Clones are handles to the same one; it runs until [`shutdown`](Replica::shutdown) or
/// [`kill`](Replica::kill), or until it fails.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

/// How a replica ended: told to, or unable to go on.
type Ended = Result<(), Arc<ReplicaFailure>>;

struct Inner {
    desk: Arc<Desk>,
    stop: mpsc::Sender<Stop>,
    ended: watch::Receiver<Option<Ended>>,
    server: Mutex<Option<Server>>,
}

impl Replica {
    /// Starts a replica: opens its directory, listens, finds or founds its group, and takes part in it.
    ///
    /// `server` has the service's unreplicated procedures; the replicated ones come from `service`. Returns once the group is
    /// formed, which takes all configured members the first time; meanwhile STATUS says `forming`. A replica that finds a group
    /// formed without it joins that, and is taken in some time after this returned; meanwhile STATUS says `joining`. Must be
    /// called on a tokio runtime.
    pub async fn start(
        options: ReplicaOptions,
        service: Arc<dyn Service>,
        server: ServerBuilder,
    ) -> Result<Replica, StartError> {
        let group = configured_group(&options)?;
        check_timers(&options)?;
        let (store, recovered) = open_store(options.data.clone(), group.me).await?;
        Replica::start_on(options, service, server, Box::new(store), recovered).await
    }

    /// [`start`](Self::start) on a store of the caller's, which remembers `recovered`: for simulated and failing disks.
    pub async fn start_on(
        options: ReplicaOptions,
        service: Arc<dyn Service>,
        mut server: ServerBuilder,
        mut store: Box<dyn Store>,
        mut recovered: Recovered,
    ) -> Result<Replica, StartError> {
        let group = configured_group(&options)?;
        check_timers(&options)?;
        let shared = Arc::new(Shared::new(SharedParts {
            identity: recovered.identity.clone(),
            configured: group.members.clone(),
            timers: options.timers,
            remove_after: options.remove_after,
            limits: options.limits,
            service: Arc::clone(&service),
            on_view: options.on_view.clone(),
            test_port: options.test_port.clone(),
            founding: recovered.founding.as_ref().map(|founding| founding.members.clone()),
        }));
        let desk = Arc::new(Desk::new(Arc::clone(&shared)));
        serve::register(&desk, &mut server);
        let listening = server.listen(&group.me).await;
        let server = listening.map_err(|source| StartError::Listen { address: group.me.clone(), source })?;

        let mut head_start = None;
        let founding = match recovered.founding.take() {
            Some(founding) => founding,
            None => {
                let Formed { founding, now } = form::form(&shared).await?;
                let recorded = founding.clone();
                store = on_blocking_thread(move || store.form(&recorded).map(|()| store)).await?;
                *shared.founding.lock() = Some(founding.members.clone());
                head_start = now.then_some(group.master == group.me);
                founding
            }
        };
        let parts = Parts {
            desk: Arc::clone(&desk),
            dir: options.data,
            workers: options.workers,
            service,
            store,
            recovered,
            founding,
            head_start,
        };
        let (stop, ended) = run(parts)?;
        Ok(Replica { inner: Arc::new(Inner { desk, stop, ended, server: Mutex::new(Some(server)) }) })
    }

    /// Whether this replica may speak as the master right now: a majority followed it a moment ago, and its state includes
    /// everything that was committed in earlier views.
    pub fn am_master(&self) -> bool {
        self.shared().am_master()
    }

    /// The view this replica is in.
    pub fn view(&self) -> View {
        self.shared().view()
    }

    /// The last entry applied here.
    pub fn viewstamp(&self) -> Viewstamp {
        self.shared().position().applied
    }

    /// This replica's address.
    pub fn address(&self) -> &str {
        &self.shared().identity.address
    }

    /// Sends a one-way message to the RSM client `client` over its newest connection to this replica. Only the master sends;
    /// `false` when this is not the master, or the client is not connected here, or does not keep up.
    pub fn push(&self, client: u64, proc: rpc::Proc, body: Bytes) -> bool {
        if !self.am_master() {
            return false;
        }
        let peer = self.shared().peers.lock().get(client);
        peer.is_some_and(|peer| peer.notify(proc, body, Bytes::new()))
    }

    /// Whether the RSM client `client` is connected to this replica.
    pub fn is_connected(&self, client: u64) -> bool {
        self.shared().peers.lock().get(client).is_some()
    }

    /// Where the newest connection of the RSM client `client` to this replica comes from, while it lives.
    pub fn address_of(&self, client: u64) -> Option<String> {
        self.shared().peers.lock().get(client).map(|peer| peer.address())
    }

    /// Has the group execute a command of its own. Handlers see client 0; retries are not recognised.
    pub async fn propose(&self, proc: rpc::Proc, args: Bytes) -> Result<Bytes, CommandRefused> {
        match self.inner.desk.execute(Asker::GROUP, proc, args).await {
            Ok(Applied::Executed(Outcome::Done(reply))) => Ok(reply),
            Ok(Applied::Executed(Outcome::Failed(status))) => Err(CommandRefused::Status(status)),
            Ok(Applied::Forgotten) => {
                unreachable!("the reply table knows nothing of the group's own commands")
            }
            Err(Refused::NotMaster) => Err(CommandRefused::NotMaster),
            Err(Refused::Busy) => Err(CommandRefused::Busy),
            Err(Refused::TooLarge) => Err(CommandRefused::Status(rpc::Status::TOO_LARGE.0)),
        }
    }

    /// What STATUS answers.
    pub async fn status(&self) -> ReplicaStatus {
        self.inner.desk.status().await
    }

    /// The last applied entry and the hash of the whole replicated state after it.
    pub async fn state_hash(&self) -> Option<(Viewstamp, u64)> {
        self.inner.desk.hash().await
    }

    /// Waits until the replica has ended and says why: `Ok` after [`shutdown`](Self::shutdown) or [`kill`](Self::kill), else
    /// what made it stop. A program should then exit with an error.
    pub async fn ended(&self) -> Result<(), Arc<ReplicaFailure>> {
        let mut ended = self.inner.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().expect("waited for it"),
            Err(_) => Err(Arc::new(ReplicaFailure::Thread)),
        }
    }

    /// Stops cleanly: lets another replica become the master first, then closes the store and the connections.
    pub async fn shutdown(&self) {
        self.stop(Stop::Gracefully).await;
    }

    /// Stops at once, as a crash would: nothing is handed over. For tests of fail-over.
    pub async fn kill(&self) {
        let server = self.inner.server.lock().take();
        if let Some(server) = server {
            server.shutdown().await;
        }
        self.stop(Stop::AtOnce).await;
    }

    async fn stop(&self, how: Stop) {
        // Fails only when it has stopped already.
        let _ = self.inner.stop.send(how).await;
        let mut ended = self.inner.ended.clone();
        let _ = ended.wait_for(Option::is_some).await;
        let server = self.inner.server.lock().take();
        if let Some(server) = server {
            server.shutdown().await;
        }
    }

    fn shared(&self) -> &Shared {
        &self.inner.desk.shared
    }
}

fn configured_group(options: &ReplicaOptions) -> Result<Group, ConfigError> {
    Group::read(&options.master, &options.me, &MembersFrom::List(options.members.clone()))
}

fn check_timers(options: &ReplicaOptions) -> Result<(), StartError> {
    let election_timeout = options.timers.election_timeout;
    let least = election_timeout * REMOVE_AFTER_ELECTIONS;
    match options.remove_after.filter(|remove_after| *remove_after < least) {
        Some(remove_after) => Err(StartError::RemoveAfter { remove_after, election_timeout, least }),
        None => Ok(()),
    }
}

async fn open_store(dir: PathBuf, address: String) -> Result<(DiskStore, Recovered), StoreError> {
    on_blocking_thread(move || DiskStore::open(&dir, &address)).await
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What the parts of a replica are made from, once its group is known.
struct Parts {
    desk: Arc<Desk>,
    dir: PathBuf,
    workers: Workers,
    service: Arc<dyn Service>,
    store: Box<dyn Store>,
    recovered: Recovered,
    founding: Membership,
    head_start: Option<bool>,
}

/// Starts the driver and its threads.
fn run(parts: Parts) -> Result<(mpsc::Sender<Stop>, watch::Receiver<Option<Ended>>), StartError> {
    let Parts { desk, dir, workers, service, store, recovered, founding, head_start } = parts;
    let shared = Arc::clone(&desk.shared);
    let cluster = cluster_id(&founding);
    let config = core_config(&shared, head_start)?;
    let Boot { core, program, waiting } = boot(config, service, recovered, founding, shared.now_ms())
        .map_err(|error| match error {
            BootError::Log(source) => StartError::Log { dir: dir.clone(), source },
            BootError::State(source) => StartError::State { dir: dir.clone(), source },
        })?;
    shared.set_applied(program.applied(), 0);

    let (internal_in, internal) = mpsc::unbounded_channel();
    let (messages_in, messages) = mpsc::channel(shared.limits.messages_max);
    let (asked_in, asked) = mpsc::channel(ASKED_MAX);
    let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
    let (proposals_in, proposals) = mpsc::channel(shared.limits.invokes_max);
    let (stop_in, stop) = mpsc::channel(1);
    let (writer, applier) = match workers {
        Workers::Threads => {
            let writer = writer::spawn(store, internal_in.clone()).map_err(StartError::System)?;
            let applier =
                applier::spawn(program, Arc::clone(&shared), writer.jobs.clone(), internal_in.clone());
            (writer, applier.map_err(StartError::System)?)
        }
        Workers::Tasks(disk) => {
            let writer = writer::spawn_task(store, internal_in.clone(), disk);
            let applier =
                applier::spawn_task(program, Arc::clone(&shared), writer.jobs.clone(), internal_in.clone());
            (writer, applier)
        }
    };
    desk.open(Entrance {
        cluster,
        proposals: proposals_in,
        messages: messages_in,
        asked: asked_in,
        orders: orders_in,
        applier: Mutex::new(applier.work.clone()),
    });

    let mut links = Links::new(&shared.identity, cluster, shared.transport());
    links.update(core.consensus().membership());
    let applicant = Applicant::new(&shared, cluster, internal_in);
    let hands = Hands { links, applicant, writer: writer.jobs, applier: applier.work };
    let driving = tokio::spawn(Driver::new(core, shared, hands, dir).run(Inputs {
        internal,
        messages,
        asked,
        orders,
        proposals,
        stop,
    }));
    let (tell_end, ended) = watch::channel(None);
    tokio::spawn(async move {
        let result = driving.await.unwrap_or(Err(ReplicaFailure::Thread));
        send_away(&waiting);
        desk.close();
        // Both end once nobody can give them work; the store is closed by then.
        let mut died = false;
        for thread in [applier.thread, writer.thread].into_iter().flatten() {
            died |= on_blocking_thread(move || thread.join()).await.is_err();
        }
        let result = if died { result.and(Err(ReplicaFailure::Thread)) } else { result };
        tell_end.send_replace(Some(result.map_err(Arc::new)));
    });
    Ok((stop_in, ended))
}

/// Whoever still waits must ask another replica.
fn send_away(waiting: &Waiting<Tell>) {
    for tell in waiting.give_up() {
        tell.send(Err(Refused::NotMaster));
    }
}

fn core_config(shared: &Shared, head_start: Option<bool>) -> Result<ReplicaConfig, StartError> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|error| StartError::System(std::io::Error::other(error.to_string())))?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(ReplicaConfig {
        election_timeout_ms: millis(shared.timers.election_timeout),
        heartbeat_ms: millis(shared.timers.heartbeat),
        remove_after_ms: shared.remove_after.map(millis),
        limits: shared.limits,
        head_start,
        ..ReplicaConfig::new(shared.identity.id, u64::from_le_bytes(seed))
    })
}
