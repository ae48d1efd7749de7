//! A replicated counter and a group of its replicas in one process, on real sockets and in temporary directories.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test program uses its own part; test code may unwrap"
)]

use lock_rsm::rsm::{
    Limits, Replica, ReplicaOptions, RsmClient, RsmClientOptions, Service, StartError, StateError, View,
};
use parking_lot::Mutex;
use rpc::{CallInfo, Register, ServerBuilder, ServerOptions, Status, typed};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Adds the argument to the sum and returns it.
pub const ADD: u32 = 1;
/// The sum.
pub const GET: u32 = 2;
/// Records (who, token) and refuses a token that was seen before: what exactly once must prevent.
pub const ONCE: u32 = 3;
/// Where the call stands in the order.
pub const WHERE: u32 = 4;
/// Keeps a blob under a key.
pub const PUT: u32 = 5;
/// The status of a token that came twice.
pub const TWICE: i32 = 77;

/// Far more than anything takes here, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    sum: u64,
    tokens: BTreeMap<(u64, u64), u64>,
    blobs: BTreeMap<u64, Vec<u8>>,
}

/// The replicated program.
#[derive(Default)]
pub struct Counter {
    state: Mutex<State>,
    /// How often the state was taken over from a snapshot.
    pub restored: AtomicU64,
}

impl Counter {
    pub fn sum(&self) -> u64 {
        self.state.lock().sum
    }

    fn once(&self, client: u64, token: u64) -> Result<u64, Status> {
        let mut state = self.state.lock();
        if state.tokens.contains_key(&(client, token)) {
            return Err(Status(TWICE));
        }
        state.sum += 1;
        let sum = state.sum;
        state.tokens.insert((client, token), sum);
        Ok(sum)
    }
}

impl Service for Counter {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        let at = Arc::clone(&self);
        to.register(
            ADD,
            typed(move |_: &CallInfo, by: u64| {
                let mut state = at.state.lock();
                state.sum += by;
                Ok(state.sum)
            }),
        );
        let at = Arc::clone(&self);
        to.register(GET, typed(move |_: &CallInfo, (): ()| Ok(at.sum())));
        let at = Arc::clone(&self);
        to.register(ONCE, typed(move |info: &CallInfo, token: u64| at.once(info.client, token)));
        to.register(WHERE, typed(|info: &CallInfo, (): ()| Ok((info.client, info.order))));
        let at = Arc::clone(&self);
        to.register(
            PUT,
            typed(move |_: &CallInfo, (key, blob): (u64, Vec<u8>)| {
                at.state.lock().blobs.insert(key, blob);
                Ok(())
            }),
        );
    }

    fn marshal_state(&self) -> Vec<u8> {
        let state = self.state.lock();
        rpc::codec::encode(&(state.sum, &state.tokens, &state.blobs))
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        let (sum, tokens, blobs) =
            rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        *self.state.lock() = State { sum, tokens, blobs };
        self.restored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// One replica's place in a group: its address and directory, and itself while it runs.
pub struct Place {
    pub address: String,
    pub data: PathBuf,
    pub running: Option<(Replica, Arc<Counter>)>,
    /// What it announced since it was started first.
    pub views: Arc<Mutex<Vec<View>>>,
}

/// A group of replicas.
pub struct Group {
    pub places: Vec<Place>,
    pub limits: Limits,
    /// After how long the silent are removed. Never, unless a test is about that: machines are slow at times.
    pub remove_after: Option<Duration>,
    /// How many of the places found the group; the others join it.
    pub founders: usize,
    _dir: TempDir,
}

/// Addresses nobody listens on at the moment.
pub fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

pub async fn start_replica(options: ReplicaOptions) -> Result<(Replica, Arc<Counter>), StartError> {
    let counter = Arc::new(Counter::default());
    let server = ServerBuilder::new(ServerOptions::default());
    let replica = Replica::start(options, Arc::<Counter>::clone(&counter), server).await?;
    Ok((replica, counter))
}

impl Group {
    /// A group that has formed.
    pub async fn start(count: usize) -> Group {
        Group::start_with(count, Limits::default()).await
    }

    pub async fn start_with(count: usize, limits: Limits) -> Group {
        let mut group = Group::at_free_addresses(count, limits);
        group.start_all().await;
        group
    }

    /// A group that has formed and removes silent members.
    pub async fn start_removing(count: usize, remove_after: Duration) -> Group {
        let mut group = Group::at_free_addresses(count, Limits::default());
        group.remove_after = Some(remove_after);
        group.start_all().await;
        group
    }

    /// A group founded by the first of `count` places alone, and places from where others may join.
    pub async fn lone(count: usize, limits: Limits) -> Group {
        let mut group = Group::at_free_addresses(count, limits);
        group.founders = 1;
        group.remove_after = Some(Duration::from_secs(2));
        group.start_one(0).await;
        group
    }

    fn at_free_addresses(count: usize, limits: Limits) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let places = free_addresses(count)
            .into_iter()
            .enumerate()
            .map(|(i, address)| Place {
                address,
                data: dir.path().join(format!("replica-{i}")),
                running: None,
                views: Arc::default(),
            })
            .collect();
        Group { places, limits, remove_after: None, founders: count, _dir: dir }
    }

    pub fn options(&self, i: usize) -> ReplicaOptions {
        let addresses = self.addresses();
        let place = &self.places[i];
        let views = Arc::clone(&place.views);
        // A joiner may ask anybody who runs.
        let asked = match self.running().next() {
            Some((running, _)) if i >= self.founders => vec![addresses[running].clone()],
            _ => addresses[..self.founders].to_vec(),
        };
        ReplicaOptions {
            limits: self.limits,
            remove_after: self.remove_after,
            on_view: Some(Arc::new(move |view: &View, _| views.lock().push(view.clone()))),
            ..ReplicaOptions::new(&asked[0], &place.address, &asked, &place.data)
        }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.clone()).collect()
    }

    /// Starts whoever is not running, together.
    pub async fn start_all(&mut self) {
        let down: Vec<usize> = (0..self.places.len()).filter(|i| self.places[*i].running.is_none()).collect();
        let starting = down.iter().map(|i| start_replica(self.options(*i)));
        for (i, started) in down.iter().zip(futures_util::future::join_all(starting).await) {
            self.places[*i].running = Some(started.unwrap());
        }
    }

    pub async fn start_one(&mut self, i: usize) {
        let started = start_replica(self.options(i)).await.unwrap();
        self.places[i].running = Some(started);
    }

    /// Stops a replica as a crash would.
    pub async fn kill(&mut self, i: usize) {
        let (replica, _) = self.places[i].running.take().unwrap();
        replica.kill().await;
    }

    pub async fn shutdown(&mut self, i: usize) {
        let (replica, _) = self.places[i].running.take().unwrap();
        replica.shutdown().await;
    }

    pub fn replica(&self, i: usize) -> &Replica {
        &self.places[i].running.as_ref().unwrap().0
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Replica)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(i, place)| place.running.as_ref().map(|(replica, _)| (i, replica)))
    }

    /// The master, once there is one.
    pub async fn master(&self) -> usize {
        eventually("a master", || self.running().find(|(_, replica)| replica.am_master()).map(|(i, _)| i))
            .await
    }

    pub async fn client(&self) -> RsmClient {
        let options = RsmClientOptions { connect_timeout: PATIENCE, ..RsmClientOptions::default() };
        RsmClient::connect(&self.addresses(), options).await.unwrap()
    }

    /// Waits until all running replicas have announced a view with these members, in this order.
    pub async fn until_members(&self, members: &[usize]) {
        self.until_views(members, true).await;
    }

    /// Waits until all running replicas have announced a view with these members, in whatever order.
    pub async fn until_member_set(&self, members: &[usize]) {
        self.until_views(members, false).await;
    }

    async fn until_views(&self, members: &[usize], in_order: bool) {
        let order = |mut members: Vec<String>| {
            if !in_order {
                members.sort();
            }
            members
        };
        let wanted = order(members.iter().map(|i| self.places[*i].address.clone()).collect());
        eventually(&format!("members {members:?}"), || {
            let has = |i: usize| {
                let view = self.places[i].views.lock().last().cloned();
                view.is_some_and(|view| order(view.members) == wanted)
            };
            self.running().all(|(i, _)| has(i)).then_some(())
        })
        .await;
    }

    /// Waits until these replicas have come to the same view.
    pub async fn check_views_equal(&self, places: &[usize]) {
        eventually("equal views", || {
            let last = |i: &usize| self.places[*i].views.lock().last().cloned();
            places.windows(2).all(|pair| last(&pair[0]) == last(&pair[1])).then_some(())
        })
        .await;
    }

    /// Waits until all running replicas have applied the same entries, and checks that their states are equal.
    pub async fn check_equal(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut states = Vec::new();
            for (_, replica) in self.running() {
                states.push(replica.state_hash().await.unwrap());
            }
            for (stamp, hash) in &states {
                for (other_stamp, other_hash) in &states {
                    assert!(stamp != other_stamp || hash == other_hash, "states differ at {stamp}");
                }
            }
            if states.windows(2).all(|pair| pair[0].0 == pair[1].0) {
                return;
            }
            assert!(Instant::now() < deadline, "the replicas do not catch up: {states:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Polls `condition` until it holds, for at most [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
