//! One lock service, one extent store, several mounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::executor::run;
use super::locks::{FakeLocks, LockService};
use super::store::{FakeStore, Server};
use crate::core::{Clock, Cred, Fs, FsError, Ino, Invalidate, Limits, Time};

/// A clock that a test moves; it also moves a microsecond whenever it is read.
#[derive(Clone, Default)]
pub struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    /// Moves on by nanoseconds.
    pub fn advance(&self, nanos: u64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Time {
        let t = self.0.fetch_add(1000, Ordering::Relaxed);
        Time { secs: 1_700_000_000 + (t / 1_000_000_000) as i64, nanos: (t % 1_000_000_000) as u32 }
    }
}

/// The file system of the tests.
pub type TestFs = Fs<FakeLocks, FakeStore, FakeClock>;

/// What a mount was told to invalidate.
#[derive(Default)]
pub struct Told {
    /// Inodes whose attributes.
    pub attributes: Mutex<Vec<Ino>>,
    /// Directories whose entries.
    pub entries: Mutex<Vec<Ino>>,
    /// How often everything.
    pub everything: AtomicU64,
}

impl Invalidate for Told {
    fn attributes(&self, ino: Ino) {
        self.attributes.lock().push(ino);
    }
    fn entries(&self, dir: Ino) {
        self.entries.lock().push(dir);
    }
    fn everything(&self) {
        self.everything.fetch_add(1, Ordering::Relaxed);
    }
}

/// A mount.
pub struct Client {
    /// Its file system.
    pub fs: TestFs,
    /// Its locks.
    pub locks: FakeLocks,
    /// Its connection to the store.
    pub store: FakeStore,
    /// Its invalidations.
    pub told: Arc<Told>,
}

/// Everything the mounts share.
pub struct World {
    /// The lock service.
    pub service: Arc<LockService>,
    /// The extent server.
    pub server: Arc<Mutex<Server>>,
    /// The clock of all.
    pub clock: FakeClock,
    seed: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> World {
        World { service: LockService::new(), server: Arc::default(), clock: FakeClock::default(), seed }
    }

    /// A new mount; the root is made if it is the first.
    pub fn mount(&mut self, limits: Limits) -> Client {
        self.seed = self.seed.wrapping_add(1);
        let locks = self.service.client();
        let store = FakeStore::new(self.server.clone(), self.seed);
        let told = Arc::new(Told::default());
        let fs = Fs::new(locks.clone(), store.clone(), self.clock.clone(), told.clone(), limits);
        let hook = fs.clone();
        locks.on_revoke(Arc::new(move |ino, keep| {
            let fs = hook.clone();
            Box::pin(async move { fs.revoke(ino, keep).await })
        }));
        run(fs.make_root(Cred::default())).expect("nothing to wait for").expect("a working store");
        Client { fs, locks, store, told }
    }
}

impl Client {
    /// The process dies: its locks are free after it was fenced.
    pub fn crash(&self, world: &World) {
        use crate::core::Locks;
        world.server.lock().fence(self.locks.session());
        self.locks.crash();
    }

    /// The session expires while the process lives.
    pub fn expire(&self, world: &World) {
        use crate::core::Locks;
        world.server.lock().fence(self.locks.session());
        self.locks.expire(|| self.fs.session_lost());
    }

    /// Runs an operation that may wait.
    pub fn run<T>(&self, operation: impl Future<Output = Result<T, FsError>>) -> Result<T, FsError> {
        run(operation).expect("nothing else runs that it could wait for")
    }
}
