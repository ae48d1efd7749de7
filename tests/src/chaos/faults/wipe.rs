//! A replica whose disk is lost: it comes back under its address, but as another one.

use crate::chaos::ChaosError;
use crate::chaos::network::Node;
use crate::chaos::world::World;

pub(super) fn strike(world: &mut World, nodes: &[Node]) -> Result<(), ChaosError> {
    for node in nodes {
        world.kill(*node);
        if let Node::Replica(i) = node {
            let data = world.replica_data(*i);
            std::fs::remove_dir_all(&data).map_err(ChaosError::io("removing", data.display()))?;
        }
    }
    Ok(())
}

/// Waits until the group is whole again: another disk lost before that would be one too many.
pub(super) fn heal(world: &mut World, nodes: &[Node]) -> Result<(), ChaosError> {
    nodes.iter().try_for_each(|node| world.restart(*node))?;
    world.wait_for_agreement().map(drop)
}
