//! One lock server as a process.

use std::path::PathBuf;

use lock_rsm::rsm::View;
use tokio::process::Child;

use super::failure::Failure;
use super::process;
use super::views;

/// One lock server, running or not. Killed when dropped.
pub struct Server {
    pub port: u16,
    pub log: PathBuf,
    running: Option<Child>,
}

impl Server {
    pub fn new(port: u16, log: PathBuf) -> Server {
        Server { port, log, running: None }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it takes orders of tests.
    pub fn test_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(Child::id)
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn started(&mut self, child: Child) {
        self.running = Some(child);
    }

    /// What it has printed, over all its runs.
    pub fn said(&self) -> Result<String, Failure> {
        std::fs::read_to_string(&self.log).map_err(|error| Failure::cannot("read", &self.log, &error))
    }

    /// The views it has adopted, over all its runs.
    pub fn views(&self) -> Result<Vec<View>, Failure> {
        Ok(views::printed(&self.said()?))
    }

    /// Fails if the process has ended by itself.
    pub fn must_run(&mut self) -> Result<(), Failure> {
        match self.running.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => {
                Err(Failure::new(format!("lock_server {} ended by itself: {status}", self.port)))
            }
            _ => Ok(()),
        }
    }

    /// Whether the process, which is to die at breakpoint `number`, has; dying otherwise is a failure.
    pub fn has_died_at(&mut self, number: u32) -> Result<bool, Failure> {
        let Some(child) = self.running.as_mut() else { return Ok(true) };
        let ended = child.try_wait();
        let Some(status) = ended
            .map_err(|error| Failure::new(format!("cannot look at lock_server {}: {error}", self.port)))?
        else {
            return Ok(false);
        };
        let last_words = format!("Dying at breakpoint {number}!");
        if status.code() != Some(1) || !self.said()?.lines().any(|line| line == last_words) {
            return Err(Failure::new(format!(
                "lock_server {} was to die at breakpoint {number} and ended otherwise: {status}",
                self.port
            )));
        }
        self.running = None;
        Ok(true)
    }

    /// Kills it as a crash would, and prints its process id.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let mut child = self.take()?;
        println!("kill: {}", child.id().unwrap_or_default());
        child
            .kill()
            .await
            .map_err(|error| Failure::new(format!("cannot kill lock_server {}: {error}", self.port)))
    }

    /// Asks it to end, and prints its process id if `says`; it must end well.
    pub async fn terminate(&mut self, says: bool) -> Result<(), Failure> {
        let mut child = self.take()?;
        if says {
            println!("kill: {}", child.id().unwrap_or_default());
        }
        let what = format!("lock_server {} after SIGTERM", self.port);
        let status = process::terminate(&mut child, &what).await?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{what}: {status}"))) }
    }

    fn take(&mut self) -> Result<Child, Failure> {
        self.must_run()?;
        self.running.take().ok_or_else(|| Failure::new(format!("lock_server {} does not run", self.port)))
    }
}
