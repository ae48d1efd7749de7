//! The cluster: real processes, each in the network of its own machine.

use super::ChaosError;
use super::disk::Disk;
use super::losses::Client;
use super::network::{Network, Node};
use super::schedule::Shape;
use super::seat::{Place, Seat};
use super::{clocks, command};
use crate::binaries::Binaries;
use crate::cluster::{Mount, Status};
use crate::linear::Clock;
use crate::process::{Process, until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long parts may take to come up. The machine may be busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// All processes of a run. Dropping it kills them.
pub struct World {
    /// Everything of the run lies below.
    pub dir: PathBuf,
    /// The network.
    pub network: Network,
    /// What there is of it.
    pub shape: Shape,
    /// Where the extent server's data is.
    pub disk: Disk,
    /// Every process that ever served a mount.
    pub clients: Vec<Client>,
    /// When faults began.
    pub strikes: Vec<u64>,
    /// How far the clocks of a node are ahead, in seconds.
    pub skews: BTreeMap<Node, i64>,
    binaries: Binaries,
    timeout: Duration,
    seats: Vec<Arc<Seat>>,
    extents: Option<Process>,
    replicas: Vec<Option<Process>>,
    mounts: Vec<Option<Mount>>,
}

impl World {
    /// Starts everything below `dir`, which exists.
    pub fn start(
        binaries: &Binaries,
        dir: &Path,
        shape: Shape,
        timeout: Duration,
    ) -> Result<World, ChaosError> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(ChaosError::io("making", logs.display()))?;
        let mut nodes = vec![Node::Control, Node::Extents];
        nodes.extend((0..shape.replicas).map(Node::Replica));
        nodes.extend((0..shape.mounts).map(Node::Mount));
        let mut world = World {
            dir: dir.to_owned(),
            network: Network::build(&nodes)?,
            shape,
            disk: Disk::make(dir)?,
            clients: Vec::new(),
            strikes: Vec::new(),
            skews: BTreeMap::new(),
            binaries: binaries.clone(),
            timeout,
            seats: (0..shape.mounts).map(|_| Arc::default()).collect(),
            extents: None,
            replicas: (0..shape.replicas).map(|_| None).collect(),
            mounts: (0..shape.mounts).map(|_| None).collect(),
        };
        world.start_extents()?;
        (0..shape.replicas).try_for_each(|i| world.start_replica(i))?;
        world.wait_for_master()?;
        (0..shape.mounts).try_for_each(|i| world.start_mount(i))?;
        Ok(world)
    }

    /// Where workers find the mounts.
    pub fn seats(&self) -> &[Arc<Seat>] {
        &self.seats
    }

    /// The address of a replica.
    pub fn lock_address(i: usize) -> String {
        format!("{}:7000", Node::Replica(i).ip())
    }

    fn lock_addresses(&self) -> String {
        (0..self.shape.replicas).map(World::lock_address).collect::<Vec<_>>().join(",")
    }

    /// The address of the extent server.
    pub fn extents_address() -> String {
        format!("{}:7100", Node::Extents.ip())
    }

    fn spawn(&self, node: Node, name: &str, command: Command) -> Result<Process, ChaosError> {
        let log = self.dir.join("logs").join(format!("{name}.log"));
        let command = clocks::shift(command, self.skews.get(&node).copied().unwrap_or(0));
        let command = self.network.place(node, command);
        Process::spawn(name, command, &log).map_err(ChaosError::io("starting", name))
    }

    fn program(&self, name: &str) -> Result<Command, ChaosError> {
        Ok(Command::new(self.binaries.path(name).map_err(crate::cluster::ClusterError::from)?))
    }

    /// Starts the extent server (again).
    pub fn start_extents(&mut self) -> Result<(), ChaosError> {
        let mut command = self.program("extent_server")?;
        command.arg(World::extents_address()).arg("--data").arg(self.disk.path().join("data"));
        self.extents = Some(self.spawn(Node::Extents, "extents", command)?);
        Ok(())
    }

    /// Where a replica has its data.
    pub fn replica_data(&self, i: usize) -> PathBuf {
        self.dir.join(Node::Replica(i).to_string())
    }

    /// Starts a replica (again).
    pub fn start_replica(&mut self, i: usize) -> Result<(), ChaosError> {
        let mut command = self.program("lock_server")?;
        command.arg(World::lock_address(0)).arg(World::lock_address(i));
        command.arg("--members").arg(self.lock_addresses()).arg("--fence").arg(World::extents_address());
        command.arg("--data").arg(self.replica_data(i));
        command.arg("--lease").arg(self.shape.lease.as_secs_f64().to_string());
        let node = Node::Replica(i);
        self.replicas[i] = Some(self.spawn(node, &node.to_string(), command)?);
        Ok(())
    }

    /// Mounts (again), as a new client, and lets the workers have it. The servers may need a moment to be there.
    pub fn start_mount(&mut self, i: usize) -> Result<(), ChaosError> {
        if !self.seats[i].set(None, PATIENCE) {
            return Err(ChaosError::Hangs(format!(
                "an operation on mount {}, whose process is dead,",
                i + 1
            )));
        }
        self.mounts[i] = None; // takes away what a dead process left
        let (mount, client) = self.mount(Node::Mount(i))?;
        let place = Place { root: mount.path().to_owned(), client };
        self.mounts[i] = Some(mount);
        self.seats[i].set(Some(place), PATIENCE);
        Ok(())
    }

    /// A mount at a new place, tried until it works.
    pub fn mount(&mut self, node: Node) -> Result<(Mount, u64), ChaosError> {
        let mut tried = None;
        let mounted = until(PATIENCE, || {
            let mount = self.try_mount(node);
            match mount {
                Ok(mount) => Some(mount),
                Err(error) => {
                    tried = Some(error);
                    None
                }
            }
        });
        mounted.ok_or_else(|| tried.expect("it was tried at least once"))
    }

    fn try_mount(&mut self, node: Node) -> Result<(Mount, u64), ChaosError> {
        let number = self.clients.len() as u64 + 1;
        let name = format!("{node}.{number}");
        let path = self.dir.join(&name);
        std::fs::create_dir_all(&path).map_err(ChaosError::io("making", path.display()))?;
        let mut command = self.program("yfs")?;
        command.arg("mount").arg(&path).arg("--foreground");
        command.arg("--locks").arg(self.lock_addresses()).arg("--extents").arg(World::extents_address());
        command.arg("--timeout").arg(self.timeout.as_secs().to_string());
        let process = self.spawn(node, &name, command)?;
        let log = process.log().to_owned();
        self.clients.push(Client { number, log, killed: None, started: Clock.now() });
        let yfs = self.binaries.path("yfs").map_err(crate::cluster::ClusterError::from)?;
        Ok((Mount::wait(process, &path, yfs)?, number))
    }

    /// The process of a node, if it runs.
    pub fn process(&mut self, node: Node) -> Option<&mut Process> {
        match node {
            Node::Extents => self.extents.as_mut(),
            Node::Replica(i) => self.replicas[i].as_mut(),
            Node::Mount(i) => self.mounts[i].as_mut().map(Mount::process),
            Node::Control => None,
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: Node) {
        if let Node::Mount(i) = node
            && let Some(place) = self.seats[i].sit()
        {
            let client = place.client as usize - 1;
            self.clients[client].killed = Some(Clock.now());
        }
        if let Some(process) = self.process(node) {
            process.kill();
        }
    }

    /// Starts a node that was killed.
    pub fn restart(&mut self, node: Node) -> Result<(), ChaosError> {
        match node {
            Node::Extents => self.start_extents(),
            Node::Replica(i) => self.start_replica(i),
            Node::Mount(i) => self.start_mount(i),
            Node::Control => Ok(()),
        }
    }

    /// Fails when a process has ended that should run.
    pub fn check_running(&mut self) -> Result<(), ChaosError> {
        let nodes: Vec<Node> = self.network.nodes().collect();
        for node in nodes {
            if let Some(process) = self.process(node)
                && let Some(status) = process.ended()
            {
                let what = format!("ended by itself ({status})");
                let (part, log) = (node.to_string(), process.log().to_owned());
                return Err(crate::cluster::ClusterError::Part { part, what, log }.into());
            }
        }
        Ok(())
    }

    /// What `yfs status` says, asked from the node of the run itself.
    pub fn status(&self) -> Result<Status, ChaosError> {
        let mut command = self.program("yfs")?;
        command.args(["status", "--json", "--locks", &self.lock_addresses()]);
        command.args(["--extents", &World::extents_address()]);
        // Its exit status says whether anything is down, which is no failure here.
        let mut command = self.network.place(Node::Control, command);
        let output = command.output().map_err(ChaosError::io("running", "yfs status"))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|e| ChaosError::Command { command: "yfs status".into(), why: e.to_string() })
    }

    /// The index of the master, if there is one.
    pub fn master(&self) -> Option<usize> {
        let master = self.status().ok()?.view?.master?;
        (0..self.shape.replicas).find(|i| World::lock_address(*i) == master)
    }

    /// Waits until a replica leads.
    pub fn wait_for_master(&mut self) -> Result<usize, ChaosError> {
        if let Some(master) = until(PATIENCE, || self.master()) {
            return Ok(master);
        }
        self.check_running()?;
        let last = self.status().map_or_else(|e| e.to_string(), |status| format!("{status:?}"));
        Err(ChaosError::Wrong(format!("no master for {} s: {last}", PATIENCE.as_secs())))
    }

    /// Waits until all replicas are members, have applied the same, and are equal; says up to where.
    pub fn wait_for_agreement(&mut self) -> Result<String, ChaosError> {
        let n = self.shape.replicas;
        let whole = |status: &Status| status.view.as_ref().is_some_and(|view| view.members.len() == n);
        let agreed =
            until(PATIENCE, || self.status().ok().filter(whole).and_then(|status| status.agreement(n)));
        match agreed {
            Some(agreed) if agreed.states_equal => {
                Ok(format!("({}, {})", agreed.viewstamp.view, agreed.viewstamp.seq))
            }
            other => {
                self.check_running()?;
                let last = self.status().map_or_else(|e| e.to_string(), |s| format!("{:?}", s.replicas));
                let what = match other {
                    Some(_) => "replicas at the same viewstamp have different states",
                    None => "the replicas do not come together",
                };
                Err(ChaosError::Wrong(format!("{what}: {last}")))
            }
        }
    }

    /// Unmounts everything in order.
    pub fn unmount(&mut self) -> Result<(), ChaosError> {
        for i in 0..self.shape.mounts {
            if !self.seats[i].set(None, PATIENCE) {
                return Err(ChaosError::Hangs(format!("an operation on mount {}", i + 1)));
            }
            if let Some(mount) = self.mounts[i].take() {
                mount.unmount()?;
            }
        }
        Ok(())
    }

    /// Ends the servers in order; each must end with success.
    pub fn stop(&mut self) -> Result<(), ChaosError> {
        let extents = self.extents.take();
        for mut process in self.replicas.iter_mut().filter_map(Option::take).chain(extents) {
            let what = match process.terminate(PATIENCE) {
                Some(status) if status.success() => continue,
                Some(status) => format!("ended with {status}"),
                None => "does not end on SIGTERM".into(),
            };
            let (part, log) = (process.name().to_owned(), process.log().to_owned());
            return Err(crate::cluster::ClusterError::Part { part, what, log }.into());
        }
        Ok(())
    }

    /// Looks at the extent server's data, while it does not run: checksums, and whether it is one file system. What each
    /// check says in the end.
    pub fn check_store(&self) -> Result<[String; 2], ChaosError> {
        let data = self.disk.path().join("data");
        let mut verify = self.program("extent_server")?;
        verify.arg("--verify").arg("--data").arg(&data);
        let mut fsck = self.program("yfs")?;
        fsck.arg("fsck").arg("--store").arg(&data);
        let last = |said: String| said.trim().lines().last().unwrap_or_default().to_owned();
        Ok([command::said(verify).map(last)?, command::said(fsck).map(last)?])
    }
}
