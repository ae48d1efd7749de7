//! `kill -9`.

use crate::chaos::ChaosError;
use crate::chaos::network::Node;
use crate::chaos::world::World;

pub(super) fn strike(world: &mut World, nodes: &[Node]) {
    nodes.iter().for_each(|node| world.kill(*node));
}

pub(super) fn heal(world: &mut World, nodes: &[Node]) -> Result<(), ChaosError> {
    nodes.iter().try_for_each(|node| world.restart(*node))
}
