//! The faults, one kind a file: each can strike and be healed.

mod clock;
mod cut;
mod full_disk;
mod kill;
mod pause;
mod wipe;

use super::ChaosError;
use super::network::Node;
use super::schedule::{Fault, Whom};
use super::world::World;

/// A fault that is in force.
#[derive(Debug)]
pub struct Struck {
    fault: Fault,
    /// Whom it hit.
    pub nodes: Vec<Node>,
}

/// Does it.
pub fn strike(world: &mut World, fault: Fault) -> Result<Struck, ChaosError> {
    let nodes = match fault {
        Fault::Kill(whom) | Fault::Pause(whom) | Fault::Cut(whom, ..) | Fault::Clock(whom, _) => {
            nodes(world, whom)?
        }
        Fault::Wipe(whom) => {
            // A group that is not whole may need the disk that is about to be lost.
            world.wait_for_agreement()?;
            nodes(world, whom)?
        }
        Fault::FullDisk => vec![Node::Extents],
    };
    match fault {
        Fault::Kill(_) => kill::strike(world, &nodes),
        Fault::Pause(_) => pause::strike(world, &nodes),
        Fault::Cut(_, from, way) => cut::strike(world, &nodes, from, way)?,
        Fault::Wipe(_) => wipe::strike(world, &nodes)?,
        Fault::FullDisk => full_disk::strike(world)?,
        Fault::Clock(_, seconds) => clock::strike(world, &nodes, seconds),
    }
    Ok(Struck { fault, nodes })
}

/// Undoes it, as far as that can be done: what was killed is started again.
pub fn heal(world: &mut World, struck: &Struck) -> Result<(), ChaosError> {
    let nodes = &struck.nodes;
    match struck.fault {
        Fault::Kill(_) => kill::heal(world, nodes),
        Fault::Pause(_) => {
            pause::heal(world, nodes);
            Ok(())
        }
        Fault::Cut(..) => cut::heal(world, nodes),
        Fault::Wipe(_) => wipe::heal(world, nodes),
        Fault::FullDisk => full_disk::heal(world),
        Fault::Clock(..) => clock::heal(world, nodes),
    }
}

fn nodes(world: &mut World, whom: Whom) -> Result<Vec<Node>, ChaosError> {
    let n = world.shape.replicas;
    let after_master = |master: usize, i: usize| Node::Replica((master + i) % n);
    Ok(match whom {
        Whom::Master => vec![Node::Replica(world.wait_for_master()?)],
        Whom::Slave(i) => vec![after_master(world.wait_for_master()?, 1 + i % (n - 1))],
        Whom::Majority => {
            let master = world.wait_for_master()?;
            (0..n / 2 + 1).map(|i| after_master(master, i)).collect()
        }
        Whom::Replicas => (0..n).map(Node::Replica).collect(),
        Whom::Extents => vec![Node::Extents],
        Whom::Mount(i) => vec![Node::Mount(i)],
    })
}
