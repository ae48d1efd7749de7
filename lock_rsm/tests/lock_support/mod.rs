//! A replicated lock service in one process, on real sockets and in temporary directories.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test program uses its own part; test code may unwrap"
)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_rsm::locks::{
    LockClient, LockClientOptions, LockHooks, LockService, LockServiceOptions, LockServiceTasks, NoHooks,
};
use lock_rsm::rsm::{Replica, ReplicaOptions};
use rpc::{ServerBuilder, ServerOptions};
use tempfile::TempDir;

/// Far more than anything takes here, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One replica's place: its address and directory, and itself while it runs.
pub struct Place {
    pub address: String,
    data: PathBuf,
    pub running: Option<(Replica, Arc<LockService>, LockServiceTasks)>,
}

pub struct Group {
    pub places: Vec<Place>,
    options: LockServiceOptions,
    _dir: TempDir,
}

/// Addresses nobody listens on at the moment.
pub fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

impl Group {
    /// Three replicas that have formed a group.
    pub async fn start(options: LockServiceOptions) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let places = free_addresses(3).into_iter().enumerate().map(|(i, address)| Place {
            address,
            data: dir.path().join(format!("replica-{i}")),
            running: None,
        });
        let mut group = Group { places: places.collect(), options, _dir: dir };
        let starting = (0..3).map(|i| group.replica_of(i));
        let started = futures_util::future::join_all(starting).await;
        for (place, running) in group.places.iter_mut().zip(started) {
            place.running = Some(running);
        }
        group
    }

    pub async fn with_lease(lease: Duration) -> Group {
        Group::start(LockServiceOptions { lease, ..LockServiceOptions::default() }).await
    }

    async fn replica_of(&self, i: usize) -> (Replica, Arc<LockService>, LockServiceTasks) {
        let addresses = self.addresses();
        let place = &self.places[i];
        let options = ReplicaOptions::new(&addresses[0], &place.address, &addresses, &place.data);
        let service = LockService::new(self.options.clone());
        let mut server = ServerBuilder::new(ServerOptions::default());
        service.register_unreplicated(&mut server);
        let replica = Replica::start(options, service.clone(), server).await.unwrap();
        let tasks = service.run(replica.clone());
        (replica, service, tasks)
    }

    pub async fn restart(&mut self, i: usize) {
        let running = self.replica_of(i).await;
        self.places[i].running = Some(running);
    }

    pub fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.clone()).collect()
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Replica)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(i, place)| place.running.as_ref().map(|(replica, ..)| (i, replica)))
    }

    pub async fn master(&self) -> usize {
        eventually("a master", || self.running().find(|(_, replica)| replica.am_master()).map(|(i, _)| i))
            .await
    }

    pub fn replica(&self, i: usize) -> &Replica {
        &self.places[i].running.as_ref().unwrap().0
    }

    /// Stops a replica as a crash would.
    pub async fn kill(&mut self, i: usize) {
        let (replica, ..) = self.places[i].running.take().unwrap();
        replica.kill().await;
    }

    /// Stops a replica after it has handed over.
    pub async fn shutdown(&mut self, i: usize) {
        let (replica, ..) = self.places[i].running.take().unwrap();
        replica.shutdown().await;
    }

    pub async fn client(&self, name: &str) -> LockClient {
        self.client_with(name, Arc::new(NoHooks)).await
    }

    pub async fn client_with(&self, name: &str, hooks: Arc<dyn LockHooks>) -> LockClient {
        let opts = LockClientOptions { name: name.to_owned(), ..LockClientOptions::default() };
        LockClient::connect(&self.addresses(), opts, hooks).await.unwrap()
    }

    /// Waits until all running replicas have executed the same commands, and checks that their states are equal.
    pub async fn check_equal(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut states = Vec::new();
            for (_, replica) in self.running() {
                states.push(replica.state_hash().await.unwrap());
            }
            for pair in states.windows(2) {
                assert!(pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1, "states differ: {states:?}");
            }
            if states.windows(2).all(|pair| pair[0] == pair[1]) {
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
