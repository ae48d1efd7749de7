//! The faults of a run: what is done to the world while it should go on.

use super::network::Weather;
use super::setup::FaultMix;
use super::world::{Broken, World, member};
use lock_rsm::consensus::{Core, ReplicaId};
use lock_rsm::rsm::core::{Input, Stop};
use std::collections::BTreeSet;

/// The kinds, in the order of [`weights`].
#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash,
    Restart,
    Pause,
    Partition,
    OneWay,
    Heal,
    Weather,
    DiskSpeed,
    DiskFailure,
    Shutdown,
    Membership,
}

fn weights(mix: &FaultMix) -> [(u64, Fault); 11] {
    [
        (mix.crash, Fault::Crash),
        (mix.restart, Fault::Restart),
        (mix.pause, Fault::Pause),
        (mix.partition, Fault::Partition),
        (mix.one_way, Fault::OneWay),
        (mix.heal, Fault::Heal),
        (mix.weather, Fault::Weather),
        (mix.disk_speed, Fault::DiskSpeed),
        (mix.disk_failure, Fault::DiskFailure),
        (mix.shutdown, Fault::Shutdown),
        (mix.membership, Fault::Membership),
    ]
}

/// A moment at which something may happen.
pub fn moment(world: &mut World) -> Result<(), Broken> {
    let hunt = world.setup.faults.hunt;
    if let Some(master) = world.new_master()
        && world.below(1000) < hunt
    {
        return strike(world, master);
    }
    let mut left = world.below(1000);
    for (weight, fault) in weights(&world.setup.faults) {
        if left < weight {
            return happen(world, fault);
        }
        left -= weight;
    }
    Ok(())
}

fn happen(world: &mut World, fault: Fault) -> Result<(), Broken> {
    let ids = world.ids();
    let id = pick(world, &ids);
    match fault {
        Fault::Crash => world.crash(id),
        Fault::Restart => {
            let down: Vec<_> = world
                .nodes
                .values()
                .filter(|node| node.process.is_none() && !node.is_gone)
                .map(|node| node.id)
                .collect();
            if !down.is_empty() {
                let id = pick(world, &down);
                return world.start(id);
            }
        }
        Fault::Pause => {
            let for_ms = 50 + world.below(800);
            world.node(id).paused_until_ms = world.now_ms + for_ms;
        }
        Fault::Partition => {
            // The clients reach everybody, so a master that is cut off alone is asked, and does not know that it is one no more.
            let master = world.master().filter(|_| world.rng.chance(40));
            let some: BTreeSet<_> = match master {
                Some(master) => BTreeSet::from([master]),
                None => ids.iter().copied().filter(|_| world.rng.chance(50)).collect(),
            };
            world.network.cut_off(&some, &ids);
        }
        Fault::OneWay => {
            let other = pick(world, &ids);
            world.network.block(id, other);
        }
        Fault::Heal => world.network.heal(),
        Fault::Weather => {
            let is_rough = world.rng.chance(50);
            world.network.weather = if is_rough { Weather::ROUGH } else { Weather::FAIR };
        }
        Fault::DiskSpeed => world.node(id).disk_ms_max = [1, 5, 30, 150][world.rng.below(4)],
        Fault::DiskFailure => world.node(id).queue.fails = true,
        Fault::Shutdown => {
            let id = if world.rng.chance(70) { world.master().unwrap_or(id) } else { id };
            return world.input(id, Input::Stop(Stop::Gracefully));
        }
        Fault::Membership if world.setup.lost_disks_max > 0 => return lose_disk(world, &ids),
        Fault::Membership => {
            change_membership(world, &ids)?;
            if world.rng.chance(30) {
                // Too soon; it must be refused.
                change_membership(world, &ids)?;
            }
        }
    }
    Ok(())
}

/// Harms a master that has just appeared: before it can do much, or so that it goes on without being able to.
fn strike(world: &mut World, master: ReplicaId) -> Result<(), Broken> {
    let ids = world.ids();
    match world.below(4) {
        0 | 1 => world.crash(master),
        2 => world.node(master).paused_until_ms = world.now_ms + 400,
        // With a friend it may go on appending what it can never commit.
        _ => {
            let friend = pick(world, &ids);
            world.network.cut_off(&BTreeSet::from([master, friend]), &ids);
        }
    }
    Ok(())
}

/// Loses a disk, if the others can do without: all of them run, agree on the members, and are a majority without that one. And
/// nobody is about to be removed: the lost one may have agreed to that in its last moment, so that it counts as lost after it.
fn lose_disk(world: &mut World, ids: &[ReplicaId]) -> Result<(), Broken> {
    let id = pick(world, ids);
    let Some(master) = world.master().map(|master| &world.nodes[&master]) else { return Ok(()) };
    let Some(core) = master.core() else { return Ok(()) };
    let (members, followers) = (core.membership(), core.followers(master.clock(world.now_ms)));
    let voters: Vec<_> = members.voters().collect();
    let can_do_without = voters.len() >= 3 && voters.iter().all(|voter| !world.nodes[voter].is_gone);
    let removed_after_ms = world.setup.remove_after_ms.unwrap_or(u64::MAX);
    let nobody_goes = followers.iter().all(|it| it.silent_ms < removed_after_ms);
    let knows = |core: &Core| core.membership() == members;
    let all_know = world.nodes.values().all(|node| node.is_gone || node.core().is_some_and(knows));
    let is_fine = can_do_without && nobody_goes && all_know && !world.nodes[&id].is_gone;
    if !is_fine || world.counts.lost_disks >= world.setup.lost_disks_max {
        return Ok(());
    }
    world.lose_disk(id)
}

/// Takes a member in, gives it the vote, takes that away, or removes it; at the master, or at somebody who will refuse.
fn change_membership(world: &mut World, ids: &[ReplicaId]) -> Result<(), Broken> {
    let (changed, fallback) = (pick(world, ids), pick(world, ids));
    let at = world.master().unwrap_or(fallback);
    let Some(core) = world.nodes[&at].core() else { return Ok(()) };
    let before = core.membership().clone();
    let without = before.without(changed);
    let membership = match before.get(changed).map(|member| member.voter) {
        None => before.with(member(changed, false)),
        Some(voter) if world.rng.chance(50) => without.with(member(changed, !voter)),
        // A group below three is no fun.
        Some(_) if without.members.len() < 2 => return Ok(()),
        Some(_) => without,
    };
    world.change(at, membership)
}

fn pick(world: &mut World, ids: &[ReplicaId]) -> ReplicaId {
    *world.rng.pick(ids).expect("there are replicas")
}
