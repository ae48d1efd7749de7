//! The lock servers as processes.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lock_rsm::rsm::{ReplicaStatus, replica_status};
use tokio::process::{Child, Command};

use super::failure::Failure;

const REPLICAS: usize = 3;
/// What must happen soon gets this long, also on a machine under load.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// One lock server. Killed when dropped.
pub struct Server {
    pub port: u16,
    pub pid: u32,
    child: Child,
    alive: bool,
}

/// Three lock servers; the first is the designated master.
pub struct Group {
    pub servers: Vec<Server>,
}

impl Group {
    /// Starts the servers in `dir`, each with its log there, and prints their process ids.
    pub fn spawn(bin_dir: &Path, dir: &Path) -> Result<Group, Failure> {
        let ports = free_ports()?;
        let config: String = ports.iter().map(|port| format!("{port}\n")).collect();
        std::fs::write(dir.join("config"), config)
            .map_err(|error| cannot("write", &dir.join("config"), &error))?;
        let master = ports[0];
        let mut servers = Vec::new();
        for &port in &ports {
            let arguments = [master.to_string(), port.to_string()];
            let log = dir.join(format!("lock_server-{master} {port}.out"));
            let child = spawn(&bin_dir.join("lock_server"), "./lock_server", &arguments, dir, &log)?;
            let pid = child.id().ok_or_else(|| Failure::new("a lock_server ended at once"))?;
            servers.push(Server { port, pid, child, alive: true });
        }
        let pids: Vec<String> = servers.iter().map(|server| server.pid.to_string()).collect();
        println!("spawned: {}", pids.join(" "));
        Ok(Group { servers })
    }

    pub fn master_port(&self) -> u16 {
        self.servers[0].port
    }

    pub fn addresses(&self) -> String {
        let ports: Vec<String> = self.servers.iter().map(|server| server.port.to_string()).collect();
        ports.join(",")
    }

    pub fn alive(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.alive)
    }

    /// What every living server says of itself; none while one of them does not answer.
    pub async fn statuses(&mut self) -> Result<Option<Vec<ReplicaStatus>>, Failure> {
        for server in self.servers.iter_mut().filter(|server| server.alive) {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(Failure::new(format!("lock_server {} ended by itself: {status}", server.port)));
            }
        }
        let questions = self
            .alive()
            .map(|server| async { replica_status(&server.address(), Duration::from_secs(5)).await.ok() });
        Ok(futures_util::future::join_all(questions).await.into_iter().collect())
    }

    /// Polls the servers until `found` finds something in what they say.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        found: impl Fn(&[ReplicaStatus]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut why = "a replica does not answer".to_owned();
        loop {
            if let Some(statuses) = self.statuses().await? {
                match found(&statuses) {
                    Ok(value) => return Ok(value),
                    Err(reason) => why = reason,
                }
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{what}: not within {PATIENCE:?}: {why}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills the server at `address` as a crash would, and prints its process id.
    pub async fn kill(&mut self, address: &str) -> Result<(), Failure> {
        let server = self.servers.iter_mut().find(|server| server.address() == address && server.alive);
        let server = server.ok_or_else(|| Failure::new(format!("no server at {address} to kill")))?;
        println!("kill: {}", server.pid);
        server.alive = false;
        server
            .child
            .kill()
            .await
            .map_err(|error| Failure::new(format!("cannot kill {}: {error}", server.pid)))
    }

    /// Ends the living servers with SIGTERM; each must end well.
    pub async fn terminate(&mut self) -> Result<(), Failure> {
        for server in self.servers.iter_mut().filter(|server| server.alive) {
            // SAFETY: kill has no memory effects; the process is our child and not yet waited for, so the id is its own.
            if unsafe { libc::kill(server.pid as libc::pid_t, libc::SIGTERM) } != 0 {
                return Err(Failure::new(format!("cannot end lock_server {}", server.port)));
            }
            let status = wait(&mut server.child, "lock_server after SIGTERM").await?;
            server.alive = false;
            if !status.success() {
                return Err(Failure::new(format!("lock_server {} after SIGTERM: {status}", server.port)));
            }
        }
        Ok(())
    }
}

impl Server {
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Starts a program in `dir` with its output in `log`; it is killed when the handle is dropped.
pub fn spawn(
    program: &PathBuf,
    called: &str,
    arguments: &[String],
    dir: &Path,
    log: &Path,
) -> Result<Child, Failure> {
    let out = File::create(log).map_err(|error| cannot("create", log, &error))?;
    let err = out.try_clone().map_err(|error| cannot("create", log, &error))?;
    Command::new(program)
        .arg0(called)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot("run", program, &error))
}

/// Waits for a program to end.
pub async fn wait(child: &mut Child, what: &str) -> Result<ExitStatus, Failure> {
    let limit = Duration::from_secs(300);
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(Failure::new(format!("cannot wait for {what}: {error}"))),
        Err(_) => Err(Failure::new(format!("{what} does not end within {limit:?}"))),
    }
}

pub fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

/// Ports that nobody uses; all are taken at once so that they differ.
fn free_ports() -> Result<Vec<u16>, Failure> {
    let taken: Result<Vec<TcpListener>, _> =
        (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let ports =
        taken.and_then(|taken| taken.iter().map(|listener| Ok(listener.local_addr()?.port())).collect());
    ports.map_err(|error| Failure::new(format!("cannot find free ports: {error}")))
}
