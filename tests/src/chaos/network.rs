//! A network of this run's own: one namespace for each part of the cluster, all on one bridge, connected to nothing else.
//!
//! The namespaces are made in a mount namespace that ends with the run (see [`super::warden`]), so nobody else sees their
//! names, and nothing has to be taken down: the kernel does that when the last process is gone.

use super::ChaosError;
use super::command::run;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A part of the cluster, on a machine of its own as far as the network goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The extent server.
    Extents,
    /// A lock replica, from 0.
    Replica(usize),
    /// A mount, from 0.
    Mount(usize),
    /// Where the run itself asks questions and mounts at the end; no fault touches it.
    Control,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Extents => f.write_str("extents"),
            Node::Replica(i) => write!(f, "lock-{}", i + 1),
            Node::Mount(i) => write!(f, "mount-{}", i + 1),
            Node::Control => f.write_str("control"),
        }
    }
}

impl Node {
    /// Its address.
    pub fn ip(self) -> String {
        let host = match self {
            Node::Control => 1,
            Node::Extents => 2,
            Node::Replica(i) => 10 + i,
            Node::Mount(i) => 50 + i,
        };
        format!("10.203.0.{host}")
    }
}

/// What does not get through, as seen from the node whose rules these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing arrives.
    In,
    /// Nothing leaves.
    Out,
    /// Neither.
    Both,
}

/// The namespaces.
pub struct Network {
    spaces: BTreeMap<Node, File>,
}

/// The bridge is in here.
const HUB: &str = "hub";

impl Network {
    /// Makes the namespaces and connects them.
    pub fn build(nodes: &[Node]) -> Result<Network, ChaosError> {
        ip(&["netns", "add", HUB])?;
        ip(&["-n", HUB, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", HUB, "link", "set", "bridge", "up"])?;
        let mut spaces = BTreeMap::new();
        for node in nodes {
            let name = node.to_string();
            ip(&["netns", "add", &name])?;
            ip(&["-n", HUB, "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", HUB, "link", "set", &name, "master", "bridge", "up"])?;
            ip(&["-n", &name, "address", "add", &format!("{}/24", node.ip()), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            let path = format!("/run/netns/{name}");
            spaces.insert(*node, File::open(&path).map_err(ChaosError::io("opening", path))?);
        }
        Ok(Network { spaces })
    }

    /// `command` will run on `node`, and no longer than this thread lives.
    pub fn place(&self, node: Node, mut command: Command) -> Command {
        let space: RawFd = self.spaces[&node].as_raw_fd();
        // SAFETY: between fork and exec only two system calls are made, both of which are async-signal-safe; the
        // descriptor is open as long as the network is.
        unsafe {
            command.pre_exec(move || {
                die_with_parent()?;
                match libc::setns(space, libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        command
    }

    /// From now on nothing passes between `node` and `others`, in the given direction as `node` sees it.
    pub fn cut(&self, node: Node, others: &[Node], way: Way) -> Result<(), ChaosError> {
        for other in others {
            if matches!(way, Way::In | Way::Both) {
                self.iptables(node, &["-A", "INPUT", "-s", &other.ip(), "-j", "DROP"])?;
            }
            if matches!(way, Way::Out | Way::Both) {
                self.iptables(node, &["-A", "OUTPUT", "-d", &other.ip(), "-j", "DROP"])?;
            }
        }
        Ok(())
    }

    /// Everything passes at `node` again.
    pub fn join(&self, node: Node) -> Result<(), ChaosError> {
        self.iptables(node, &["-F"])
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.spaces.keys().copied()
    }

    fn iptables(&self, node: Node, args: &[&str]) -> Result<(), ChaosError> {
        let mut command = Command::new("iptables");
        command.arg("-w").args(args);
        run(self.place(node, command))
    }
}

/// The calling process, about to become another program, is killed when the thread that started it ends.
pub(super) fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl with these arguments touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn ip(args: &[&str]) -> Result<(), ChaosError> {
    let mut command = Command::new("ip");
    command.args(args);
    run(command)
}
