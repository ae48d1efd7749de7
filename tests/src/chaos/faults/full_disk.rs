//! Somebody else fills the extent server's disk, and makes room again. A server that had to give up is started again.

use crate::chaos::ChaosError;
use crate::chaos::network::Node;
use crate::chaos::world::World;

pub(super) fn strike(world: &World) -> Result<(), ChaosError> {
    world.disk.fill()
}

pub(super) fn heal(world: &mut World) -> Result<(), ChaosError> {
    world.disk.free()?;
    let gone = world.process(Node::Extents).is_none_or(|process| process.ended().is_some());
    if gone {
        println!("           the extent server gave up on the full disk; starting it again");
        world.restart(Node::Extents)?;
    }
    Ok(())
}
