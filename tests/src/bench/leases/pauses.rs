//! Something is killed under load: how long the others stand still.

use super::LeasesError;
use super::frozen::write_synced;
use crate::cluster::Cluster;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The load runs so long before the kill.
const BEFORE: Duration = Duration::from_secs(1);
/// And so long after everything went on again.
const AFTER: Duration = Duration::from_secs(2);
/// Nothing stands still for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The master of the lock replicas; started again a second later.
    Master,
    /// The extent server; started again at once.
    Extents,
    /// A mount that uses the same files as the others.
    Client,
}

impl Victim {
    /// All of them.
    pub const ALL: [Victim; 3] = [Victim::Master, Victim::Extents, Victim::Client];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Victim::Master => "lock master",
            Victim::Extents => "extent server",
            Victim::Client => "client",
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A thread that writes and syncs a file of each mount in turn, so that every write needs a lock from another mount.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Duration>>,
}

impl Load {
    fn start(files: Vec<PathBuf>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !told.load(Ordering::SeqCst) {
                for file in &files {
                    let began = Instant::now();
                    write_synced(file)?;
                    longest = longest.max(began.elapsed());
                }
            }
            Ok(longest)
        });
        Load { stop, thread }
    }

    fn finish(self) -> Result<Duration, LeasesError> {
        self.stop.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() {
            if Instant::now() > deadline {
                return Err(LeasesError::Slow("a write of the others".into()));
            }
            std::thread::sleep(Duration::from_millis(5)); // between two questions
        }
        let longest = self.thread.join().expect("the load returns its errors");
        longest.map_err(LeasesError::call("a write of the others"))
    }
}

/// Kills `victim` while the first two mounts pass a file to and fro; their longest write, in seconds. When a client is
/// killed, one of them then also wants what that held.
pub fn measure(cluster: &mut Cluster, victim: Victim, trial: usize) -> Result<f64, LeasesError> {
    let name = format!("load-{victim:?}-{trial}");
    let at = |root: &Path| root.join(&name);
    let files = vec![at(cluster.mountpoint(0)), at(cluster.mountpoint(1))];
    let held = |root: &Path| root.join(format!("held-{trial}"));
    let (held_by_third, wanted_by_first) = (held(cluster.mountpoint(2)), held(cluster.mountpoint(0)));
    let mut longest = Duration::ZERO;
    let load = Load::start(files);
    std::thread::sleep(BEFORE); // load that is to be measured, not a wait for anything
    match victim {
        Victim::Master => {
            let master = cluster.wait_for_master()?;
            cluster.kill_replica(master);
            std::thread::sleep(Duration::from_secs(1)); // away for a while
            cluster.start_replica(master)?;
        }
        Victim::Extents => {
            cluster.kill_extents();
            cluster.start_extents()?;
        }
        Victim::Client => {
            write_synced(&held_by_third).map_err(LeasesError::call("writing through the third mount"))?;
            cluster.mount(2).kill();
            // It died with a lock that another wants now.
            let began = Instant::now();
            write_synced(&wanted_by_first).map_err(LeasesError::call("writing what a dead client held"))?;
            longest = began.elapsed();
        }
    }
    cluster.wait_for_agreement()?;
    std::thread::sleep(AFTER); // as before
    let longest = longest.max(load.finish()?);
    if victim == Victim::Client {
        cluster.replace_mount(2)?;
    }
    Ok(longest.as_secs_f64())
}
