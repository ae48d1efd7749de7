//! One test: three servers, the tester, and perhaps a kill.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::process::Child;

use super::checks;
use super::failure::Failure;
use super::group::{self, Group, PATIENCE};

/// What lock_tester's last line must be.
const PASSED: &str = "./lock_tester: passed all tests successfully";
/// What its log shows when its clients compete for a lock; they do for ten seconds.
const BUSY: &str = "test2: client";
/// A random kill comes within this time after the tester's start. Its second test alone takes longer.
const RANDOM_WITHIN_MS: u64 = 9_000;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    Slave,
    Master,
}

/// What to do.
pub struct Run {
    pub kill: Option<Kill>,
    /// The seed, if the kill comes at a random moment.
    pub at_random: Option<u64>,
    pub bin_dir: PathBuf,
}

/// Runs the test in `dir`, or in a new directory that is kept only when it fails.
pub async fn in_directory(dir: Option<&Path>, run: &Run) -> Result<(), Failure> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(|error| group::cannot("create", dir, &error))?;
        return run.run(dir).await;
    }
    let scratch = tempfile::Builder::new().prefix("rsm_tester-").tempdir();
    let scratch = scratch.map_err(|error| Failure::new(format!("cannot create a directory: {error}")))?;
    let result = run.run(scratch.path()).await;
    result.map_err(|failure| Failure::new(format!("{failure}; its logs are in {}", scratch.keep().display())))
}

impl Run {
    async fn run(&self, dir: &Path) -> Result<(), Failure> {
        let mut group = Group::spawn(&self.bin_dir, dir)?;
        group.wait_for("a master at the start", checks::one_master).await?;

        let log = dir.join(format!("lock_tester-{}.out", group.master_port()));
        let program = self.bin_dir.join("lock_tester");
        let mut tester = group::spawn(&program, "./lock_tester", &[group.addresses()], dir, &log)?;
        if let Some(kill) = self.kill {
            self.wait_for_the_moment(&mut tester, &log).await?;
            kill_one(&mut group, kill).await?;
            still_running(&mut tester, "when the replica was killed")?;
        }
        let status = group::wait(&mut tester, "lock_tester").await?;
        let said = std::fs::read_to_string(&log).map_err(|error| group::cannot("read", &log, &error))?;
        let last = said.lines().last().unwrap_or("nothing");
        println!("{last}");
        if !status.success() || last != PASSED {
            return Err(Failure::new(format!("lock_tester did not pass: {status}")));
        }

        let members: Vec<String> = group.servers.iter().map(group::Server::address).collect();
        group.wait_for("agreement of the replicas", |statuses| checks::agreement(statuses, &members)).await?;
        group.terminate().await
    }

    async fn wait_for_the_moment(&self, tester: &mut Child, log: &Path) -> Result<(), Failure> {
        if let Some(seed) = self.at_random {
            let after = Duration::from_millis(scramble(seed) % RANDOM_WITHIN_MS);
            tokio::time::sleep(after).await;
        } else {
            let deadline = Instant::now() + PATIENCE;
            while !std::fs::read_to_string(log).is_ok_and(|said| said.contains(BUSY)) {
                if Instant::now() > deadline {
                    return Err(Failure::new("lock_tester does not get to its second test"));
                }
                still_running(tester, "before a replica could be killed")?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        still_running(tester, "before a replica could be killed")
    }
}

/// Kills the master, or the first slave.
async fn kill_one(group: &mut Group, kill: Kill) -> Result<(), Failure> {
    let master = group.wait_for("a master to be told from a slave", checks::one_master).await?;
    let victim = match kill {
        Kill::Master => master,
        Kill::Slave => {
            // In the labs it was always the second one.
            let second_first = group.servers.iter().skip(1).chain(&group.servers[..1]);
            second_first
                .map(group::Server::address)
                .find(|address| *address != master)
                .expect("three servers")
        }
    };
    group.kill(&victim).await
}

fn still_running(tester: &mut Child, when: &str) -> Result<(), Failure> {
    match tester.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(Failure::new(format!("lock_tester had ended {when}: {status}"))),
        Err(error) => Err(Failure::new(format!("cannot look at lock_tester: {error}"))),
    }
}

/// Some bits that differ from run to run.
pub fn clock_bits() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) << 20)
}

/// Spreads a seed: neighbouring seeds give unrelated numbers (the finaliser of splitmix64).
fn scramble(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
