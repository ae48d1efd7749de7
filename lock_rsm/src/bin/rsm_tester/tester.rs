//! `lock_tester`, running while a test does harm to the servers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::process::Child;

use super::failure::Failure;
use super::group::Group;
use super::process::{self, PATIENCE};

/// What lock_tester's last line must be.
const PASSED: &str = "./lock_tester: passed all tests successfully";
/// What its log shows when its clients compete for a lock; they do for ten seconds.
const BUSY: &str = "test2: client";

/// A running `lock_tester`. Killed when dropped.
pub struct Tester {
    child: Child,
    log: PathBuf,
}

impl Tester {
    /// Starts it with the addresses of the servers `of`.
    pub fn start(group: &Group, of: &[usize]) -> Result<Tester, Failure> {
        let ports: Vec<String> = of.iter().map(|&i| group.servers[i].port.to_string()).collect();
        let log = group.setup.dir.join(group.setup.log("lock_tester", &[group.servers[0].port]));
        let program = group.setup.bin_dir.join("lock_tester");
        let child = process::spawn(&program, "./lock_tester", &[ports.join(",")], &group.setup.dir, &log)?;
        Ok(Tester { child, log })
    }

    /// Waits until its clients compete for a lock.
    pub async fn busy(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&self.log).is_ok_and(|said| said.contains(BUSY)) {
            if Instant::now() > deadline {
                return Err(Failure::new("lock_tester does not get to its second test"));
            }
            self.still_running("before it got to its second test")?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Fails if it has ended already: what was to be done to the servers meanwhile would prove nothing.
    pub fn still_running(&mut self, when: &str) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(format!("lock_tester had ended {when}: {status}"))),
            Err(error) => Err(Failure::new(format!("cannot look at lock_tester: {error}"))),
        }
    }

    /// Waits for its end, and prints its last line.
    pub async fn passes(mut self) -> Result<(), Failure> {
        let status = process::wait(&mut self.child, "lock_tester").await?;
        let said = std::fs::read_to_string(&self.log);
        let said = said.map_err(|error| Failure::cannot("read", &self.log, &error))?;
        let last = said.lines().last().unwrap_or("nothing");
        println!("{last}");
        if status.success() && last == PASSED {
            return Ok(());
        }
        Err(Failure::new(format!("lock_tester did not pass: {status}")))
    }
}
