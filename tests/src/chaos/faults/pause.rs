//! `SIGSTOP`: a process that stands still, and does not know it.

use crate::chaos::network::Node;
use crate::chaos::world::World;

pub(super) fn strike(world: &mut World, nodes: &[Node]) {
    signal(world, nodes, libc::SIGSTOP);
}

pub(super) fn heal(world: &mut World, nodes: &[Node]) {
    signal(world, nodes, libc::SIGCONT);
}

fn signal(world: &mut World, nodes: &[Node], signal: i32) {
    for node in nodes {
        if let Some(process) = world.process(*node) {
            process.signal(signal);
        }
    }
}
