//! Groups of real `lock_server` processes, and clients that write down what was acknowledged to them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test program uses its own part; test code may unwrap"
)]

use lock_rsm::locks::protocol::{
    ACQUIRE, ALLOCATE, Acquire, Allocate, Allocated, LockId, Mode, OPEN_SESSION, OpenSession, STAT,
    SessionId, Standings,
};
use lock_rsm::rsm::{ReplicaStatus, RsmClient, RsmClientOptions, replica_status};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far more than anything takes here, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The lease of the sessions: nobody keeps them alive here.
const LEASE_S: u32 = 3600;

/// One replica's place, and its process while it runs. What it says is appended to its log.
pub struct Place {
    pub address: String,
    pub data: PathBuf,
    pub log: PathBuf,
    pub child: Option<Child>,
}

/// Three replicas.
pub struct Group {
    pub places: Vec<Place>,
    snapshot_after: u64,
    _dir: TempDir,
}

impl Group {
    /// A group that has not been started.
    pub fn new(snapshot_after: u64) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let places = listeners.iter().enumerate().map(|(i, listener)| Place {
            address: listener.local_addr().unwrap().to_string(),
            data: dir.path().join(format!("replica-{i}")),
            log: dir.path().join(format!("replica-{i}.log")),
            child: None,
        });
        Group { places: places.collect(), snapshot_after, _dir: dir }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.clone()).collect()
    }

    /// The command that starts replica `i`.
    pub fn command(&self, i: usize) -> Command {
        let addresses = self.addresses();
        let place = &self.places[i];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lock_server"));
        command.args([&addresses[0], &place.address, "--members", &addresses.join(",")]);
        command.args(["--lease", &LEASE_S.to_string(), "--snapshot-after", &self.snapshot_after.to_string()]);
        command.arg("--data").arg(&place.data);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub fn spawn(&mut self, i: usize, mut command: Command) {
        let log = File::options().create(true).append(true).open(&self.places[i].log).unwrap();
        // A pipe of `cat`: what limits the replica's files does not limit its log.
        let mut writer = Command::new("cat").stdin(Stdio::piped()).stdout(log).spawn().unwrap();
        command.stderr(writer.stdin.take().unwrap());
        self.places[i].child = Some(command.spawn().unwrap());
        drop(command);
        // It ends when the replica does.
        std::thread::spawn(move || writer.wait());
    }

    pub fn start(&mut self, i: usize) {
        self.spawn(i, self.command(i));
    }

    pub fn start_all(&mut self) {
        for i in 0..self.places.len() {
            self.start(i);
        }
    }

    /// `kill -9` of all at once; waits until they are gone.
    pub fn kill_all(&mut self) {
        for place in &self.places {
            if let Some(child) = &place.child {
                // SAFETY: the child is ours and not waited for, so the id is its own.
                unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) };
            }
        }
        for place in &mut self.places {
            if let Some(mut child) = place.child.take() {
                child.wait().unwrap();
            }
        }
    }

    /// How replica `i` ended by itself.
    pub fn wait_for_end(&mut self, i: usize) -> ExitStatus {
        let place = &mut self.places[i];
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = place.child.as_mut().unwrap().try_wait().unwrap() {
                place.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "replica {i} goes on: {}", log(&place.log));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last line replica `i` said; it has ended, and `cat` may be a moment behind.
    pub fn last_words(&self, i: usize, containing: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = log(&self.places[i].log);
            let last = said.lines().last().unwrap_or_default().to_owned();
            if last.contains(containing) {
                return last;
            }
            assert!(Instant::now() < deadline, "no {containing:?} at the end of: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until these replicas have applied the same entries; their states must be equal then.
    pub async fn agree(&self, who: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut statuses: Vec<ReplicaStatus> = Vec::new();
            for i in who {
                statuses.extend(replica_status(&self.places[*i].address, PATIENCE).await.ok());
            }
            let hashed = statuses.len() == who.len() && statuses.iter().all(|s| s.state_hash.is_some());
            if hashed && statuses.iter().all(|status| status.viewstamp == statuses[0].viewstamp) {
                let equal = statuses.iter().all(|status| status.state_hash == statuses[0].state_hash);
                assert!(equal, "states differ at one viewstamp: {statuses:?}");
                return;
            }
            assert!(Instant::now() < deadline, "they do not come together: {statuses:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill_all();
    }
}

pub fn log(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Lets the files of the process grow no further, whatever it is told when it tries: its writes then fail.
pub fn survives_file_limits(command: &mut Command) {
    // SAFETY: signal is safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(())
        });
    }
}

/// What was acknowledged to one client.
#[derive(Default)]
pub struct Ledger {
    /// Ids that were allocated, each by a command of its own.
    pub ids: Vec<LockId>,
    /// Locks it acquired, for ever.
    pub locks: Vec<LockId>,
}

/// A client with a session.
pub struct Holder {
    pub client: RsmClient,
    pub session: SessionId,
    number: u64,
    pub ledger: Ledger,
}

impl Holder {
    pub async fn new(addresses: &[String], number: u64) -> Holder {
        let options = RsmClientOptions { connect_timeout: PATIENCE, ..RsmClientOptions::default() };
        let client = RsmClient::connect(addresses, options).await.unwrap();
        let open = OpenSession { name: format!("holder {number}"), nonce: number, lease_ms: LEASE_S * 1000 };
        let session = client.invoke(OPEN_SESSION, &open, PATIENCE).await.unwrap();
        Holder { client, session, number, ledger: Ledger::default() }
    }

    /// One id and one lock, each acknowledged or a failed test.
    pub async fn step(&mut self) {
        let allocate = Allocate { session: self.session, count: 1 };
        let got: Allocated = self.client.invoke(ALLOCATE, &allocate, 2 * PATIENCE).await.unwrap();
        assert_eq!(got.count, 1);
        self.ledger.ids.push(got.first);
        let lock = self.number << 14 | (self.ledger.locks.len() as u64 + 1);
        let acquire = Acquire { session: self.session, locks: vec![(lock, Mode::Exclusive)] };
        let standings: Standings = self.client.invoke(ACQUIRE, &acquire, 2 * PATIENCE).await.unwrap();
        assert!(standings.locks[0].grants(Mode::Exclusive), "nobody else wants it");
        self.ledger.locks.push(lock);
    }

    /// Checks that the group has what was acknowledged to this client.
    pub async fn check(&self) {
        for lock in &self.ledger.locks {
            let holders: u32 = self.client.invoke(STAT, lock, PATIENCE).await.unwrap();
            assert_eq!(holders, 1, "lock {lock} was acknowledged and is lost");
        }
    }
}

/// Every command was acknowledged, so the ids must be all different (or one was forgotten) and without a gap (or one was
/// executed twice).
pub fn check_ids(ledgers: &[&Ledger]) {
    let mut ids: Vec<LockId> = ledgers.iter().flat_map(|ledger| ledger.ids.iter().copied()).collect();
    ids.sort_unstable();
    for pair in ids.windows(2) {
        assert!(pair[0] != pair[1], "id {} was given out twice: an acknowledged command is lost", pair[0]);
        assert!(pair[0] + 1 == pair[1], "ids {pair:?}: a command was executed twice");
    }
}
