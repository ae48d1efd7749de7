//! Partitions, whole or in one direction: packets are dropped at the victims.

use crate::chaos::ChaosError;
use crate::chaos::network::{Node, Way};
use crate::chaos::schedule::From;
use crate::chaos::world::World;

pub(super) fn strike(world: &World, nodes: &[Node], from: From, way: Way) -> Result<(), ChaosError> {
    let cut_off = |node: Node, other: Node| match (from, other) {
        (_, Node::Control) => false,
        // Several victims keep each other: they are on one side of the partition.
        _ if nodes.contains(&other) || node == other => false,
        (From::All, _) | (From::Replicas, Node::Replica(_)) | (From::Extents, Node::Extents) => true,
        _ => false,
    };
    for node in nodes {
        let others: Vec<Node> = world.network.nodes().filter(|other| cut_off(*node, *other)).collect();
        world.network.cut(*node, &others, way)?;
    }
    Ok(())
}

pub(super) fn heal(world: &World, nodes: &[Node]) -> Result<(), ChaosError> {
    nodes.iter().try_for_each(|node| world.network.join(*node))
}
