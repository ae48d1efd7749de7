//! Who kills the replicas.

use crate::cluster::{Cluster, ClusterError};
use crate::rng::Rng;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kills while a lab ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of replicas, the master included.
    pub kills: usize,
    /// Of the master.
    pub masters: usize,
}

impl Tally {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Tally) {
        self.kills += other.kills;
        self.masters += other.masters;
    }
}

/// Kills and restarts replicas in a thread of its own until calmed.
pub struct Nemesis {
    thread: Option<JoinHandle<Result<Tally, ClusterError>>>,
    stop: Option<Sender<()>>,
    lab_runs: Arc<AtomicBool>,
}

impl Nemesis {
    /// Starts killing. The seed decides who, how long each is away, and in which order they return.
    pub fn unleash(cluster: Arc<Mutex<Cluster>>, lab: &'static str, start: Instant, seed: u64) -> Nemesis {
        let (stop, stopped) = channel();
        let lab_runs = Arc::new(AtomicBool::new(true));
        let fury = Fury { cluster, lab, start, rng: Rng::new(seed), stopped, lab_runs: lab_runs.clone() };
        Nemesis { thread: Some(std::thread::spawn(move || fury.rage())), stop: Some(stop), lab_runs }
    }

    /// The lab is over: a kill from now on does not count as one during it.
    pub fn lab_ended(&self) {
        self.lab_runs.store(false, Ordering::SeqCst);
    }

    /// Ends the killing, once all replicas run again; returns how many died while the lab ran.
    pub fn calm(mut self) -> Result<Tally, ClusterError> {
        self.stop = None; // a closed channel means stop
        self.thread.take().expect("calmed once").join().expect("the nemesis returns its errors")
    }
}

impl Drop for Nemesis {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Fury {
    cluster: Arc<Mutex<Cluster>>,
    lab: &'static str,
    start: Instant,
    rng: Rng,
    stopped: Receiver<()>,
    lab_runs: Arc<AtomicBool>,
}

impl Fury {
    fn rage(mut self) -> Result<Tally, ClusterError> {
        let mut tally = Tally::default();
        let mut master = self.cluster.lock().wait_for_master()?;
        // The master first, and soon: some labs take less than a second.
        let mut victims = vec![master];
        let mut quiet = Duration::from_millis(20 + self.rng.below(200) as u64);
        while self.wait(quiet) {
            self.kill(&victims, master, &mut tally);
            let away = Duration::from_millis(100 + self.rng.below(1200) as u64);
            self.wait(away);
            self.restart(victims)?;
            master = self.cluster.lock().wait_for_master()?;
            victims = self.choose(master);
            quiet = Duration::from_millis(100 + self.rng.below(900) as u64);
        }
        Ok(tally)
    }

    /// False when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    fn say(&self, what: &str) {
        println!("  [{:6.2} s] {}: {what}", self.start.elapsed().as_secs_f64(), self.lab);
    }

    /// Mostly the master or another one; sometimes so many that no majority is left for a while.
    fn choose(&mut self, master: usize) -> Vec<usize> {
        let mut others: Vec<usize> =
            (0..self.cluster.lock().locks().len()).filter(|i| *i != master).collect();
        let slave = self.rng.below(others.len());
        match self.rng.below(100) {
            0..50 => vec![master],
            50..80 => vec![others[slave]],
            80..92 => vec![master, others[slave]],
            _ => {
                others.push(master);
                others
            }
        }
    }

    fn kill(&self, victims: &[usize], master: usize, tally: &mut Tally) {
        let mut cluster = self.cluster.lock();
        for i in victims {
            let Some(pid) = cluster.kill_replica(*i) else { continue };
            let (part, role) =
                (Cluster::replica_part(*i), if *i == master { "the master" } else { "a slave" });
            self.say(&format!("kill -9 {part} (process {pid}, {role})"));
            if self.lab_runs.load(Ordering::SeqCst) {
                tally.kills += 1;
                tally.masters += usize::from(*i == master);
            }
        }
    }

    fn restart(&mut self, mut victims: Vec<usize>) -> Result<(), ClusterError> {
        while !victims.is_empty() {
            let i = victims.swap_remove(self.rng.below(victims.len()));
            self.say(&format!("start {}", Cluster::replica_part(i)));
            self.cluster.lock().start_replica(i)?;
        }
        Ok(())
    }
}
