//! A process is killed and comes back with other clocks; see [`crate::chaos::clocks`].

use crate::chaos::ChaosError;
use crate::chaos::network::Node;
use crate::chaos::world::World;

pub(super) fn strike(world: &mut World, nodes: &[Node], seconds: i64) {
    for node in nodes {
        world.kill(*node);
        // A clock that would stand below zero is refused by the kernel; a day or so ahead of any uptime is not.
        let before = world.skews.get(node).copied().unwrap_or(0);
        world.skews.insert(*node, (before + seconds).max(0));
    }
}

pub(super) fn heal(world: &mut World, nodes: &[Node]) -> Result<(), ChaosError> {
    nodes.iter().try_for_each(|node| world.restart(*node))
}
