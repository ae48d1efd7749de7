//! Who kills and pauses.

use super::clients::Clients;
use super::servers::Servers;
use crate::cluster::ClusterError;
use crate::rng::Rng;
use std::time::{Duration, Instant};

/// What has been done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// `kill -9` of a master.
    pub masters_killed: usize,
    /// `kill -9` of another replica.
    pub others_killed: usize,
    /// `SIGSTOP` of a master.
    pub masters_paused: usize,
    /// `SIGSTOP` of another replica.
    pub others_paused: usize,
    /// `SIGSTOP` of a client process.
    pub clients_paused: usize,
}

impl Tally {
    /// All of it.
    pub fn faults(&self) -> usize {
        self.masters_killed
            + self.others_killed
            + self.masters_paused
            + self.others_paused
            + self.clients_paused
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "killed {} masters and {} others, paused {} masters, {} others and {} clients",
            self.masters_killed,
            self.others_killed,
            self.masters_paused,
            self.others_paused,
            self.clients_paused
        )
    }
}

/// What it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillMaster,
    KillOther,
    KillMost,
    KillAll,
    PauseMaster,
    PauseOther,
    PauseClient,
}

/// Chooses faults by a seed.
pub struct Nemesis {
    rng: Rng,
    began: Instant,
    clients_too: bool,
    tally: Tally,
}

impl Nemesis {
    pub(super) fn new(seed: u64, began: Instant, clients_too: bool) -> Nemesis {
        Nemesis { rng: Rng::new(seed ^ 0x6e65_6d65), began, clients_too, tally: Tally::default() }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets the service work for a moment, does one thing to it, undoes that, and waits for a master.
    pub(super) async fn strike(
        &mut self,
        servers: &mut Servers,
        clients: &mut Clients,
    ) -> Result<(), ClusterError> {
        // A new master gives every session a whole lease: if it changed all the time, no session would ever expire.
        self.pause(if self.clients_too { 200..1800 } else { 50..500 }).await;
        let master = servers.wait_for_master().await?;
        let other = (master + 1 + self.rng.below(servers.count() - 1)) % servers.count();
        let fault = self.choose();
        self.say(fault, master, other);
        match fault {
            Fault::KillMaster => self.kill(servers, master, &[master]).await?,
            Fault::KillOther => self.kill(servers, master, &[other]).await?,
            Fault::KillMost => self.kill(servers, master, &[other, master]).await?,
            Fault::KillAll => {
                let all: Vec<usize> = (0..servers.count()).collect();
                self.kill(servers, master, &all).await?;
            }
            Fault::PauseMaster => {
                self.tally.masters_paused += 1;
                self.stop_and_go(servers, master).await;
            }
            Fault::PauseOther => {
                self.tally.others_paused += 1;
                self.stop_and_go(servers, other).await;
            }
            Fault::PauseClient => {
                self.tally.clients_paused += 1;
                let client = self.rng.below(clients.count());
                clients.signal(client, libc::SIGSTOP);
                self.pause(300..2500).await; // the lease is a second
                clients.signal(client, libc::SIGCONT);
            }
        }
        servers.wait_for_master().await?;
        Ok(())
    }

    /// The first three are fixed, so that short runs have them too.
    fn choose(&mut self) -> Fault {
        let first = [
            Fault::KillMaster,
            Fault::PauseMaster,
            if self.clients_too { Fault::PauseClient } else { Fault::KillAll },
        ];
        match (self.tally.faults(), self.rng.below(100)) {
            (0, _) => first[0],
            (1, _) => first[1],
            (2, _) => first[2],
            (_, 0..20) => Fault::KillMaster,
            (_, 20..30) => Fault::KillOther,
            (_, 30..36) => Fault::KillMost,
            (_, 36..42) => Fault::KillAll,
            (_, 42..62) => Fault::PauseMaster,
            (_, 62..75) => Fault::PauseOther,
            _ if self.clients_too => Fault::PauseClient,
            _ => Fault::PauseMaster,
        }
    }

    fn say(&self, fault: Fault, master: usize, other: usize) {
        let (at, master, other) = (self.began.elapsed().as_secs_f64(), master + 1, other + 1);
        println!("  [{at:6.2} s] {fault:?} (the master is replica {master}, the other one meant is {other})");
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let span = (ms.end - ms.start) as usize;
        tokio::time::sleep(Duration::from_millis(ms.start + self.rng.below(span) as u64)).await;
    }

    async fn kill(
        &mut self,
        servers: &mut Servers,
        master: usize,
        victims: &[usize],
    ) -> Result<(), ClusterError> {
        for &victim in victims {
            servers.kill(victim);
            let killed =
                if victim == master { &mut self.tally.masters_killed } else { &mut self.tally.others_killed };
            *killed += 1;
        }
        self.pause(50..800).await;
        victims.iter().try_for_each(|victim| servers.restart(*victim))
    }

    async fn stop_and_go(&mut self, servers: &Servers, i: usize) {
        servers.signal(i, libc::SIGSTOP);
        self.pause(100..1500).await;
        servers.signal(i, libc::SIGCONT);
    }
}
