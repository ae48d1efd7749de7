//! The faults of a run: what is done to the world while it should go on.

use super::network::HostId;
use super::setup::FaultMix;
use super::world::{Role, World};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash(Role),
    Restart,
    PauseServer,
    FreezeClient,
    OneWay,
    CutOff,
    Heal,
    BreakOff,
}

fn weights(mix: &FaultMix) -> [(u64, Fault); 10] {
    [
        (mix.crash_replica, Fault::Crash(Role::Replica)),
        (mix.crash_client, Fault::Crash(Role::Client)),
        (mix.crash_extents, Fault::Crash(Role::Extents)),
        (mix.restart, Fault::Restart),
        (mix.pause_server, Fault::PauseServer),
        (mix.freeze_client, Fault::FreezeClient),
        (mix.one_way, Fault::OneWay),
        (mix.cut_off, Fault::CutOff),
        (mix.heal, Fault::Heal),
        (mix.break_off, Fault::BreakOff),
    ]
}

/// A moment at which something may happen.
pub fn moment(world: &mut World) {
    let mut left = world.below(1000);
    for (weight, fault) in weights(&world.setup.faults) {
        if left < weight {
            return happen(world, fault);
        }
        left -= weight;
    }
}

fn happen(world: &mut World, fault: Fault) {
    match fault {
        Fault::Crash(role) => {
            let silently = world.below(3) == 0;
            if let Some(host) = pick(world, &world.hosts_that_are(role)) {
                world.switch_off(host, silently);
            }
        }
        Fault::Restart => {
            if let Some(host) = pick(world, &world.hosts_off()) {
                world.switch_on(host);
            }
        }
        Fault::PauseServer => {
            let mut servers = world.hosts_that_are(Role::Replica);
            servers.extend(world.hosts_that_are(Role::Extents));
            let for_ms = 50 + world.below(1_500);
            if let Some(host) = pick(world, &servers) {
                world.pause(host, for_ms);
            }
        }
        Fault::FreezeClient => {
            let for_ms = 100 + world.below(3 * world.setup.lease_ms);
            if let Some(host) = pick(world, &world.hosts_that_are(Role::Client)) {
                world.pause(host, for_ms);
            }
        }
        Fault::OneWay => {
            let (from, to) = (pick(world, &world.hosts()), pick(world, &world.hosts()));
            if let (Some(from), Some(to)) = (from, to) {
                world.network.cut(from, to);
            }
        }
        Fault::CutOff => {
            let all = world.hosts();
            if let Some(host) = pick(world, &all) {
                for other in all {
                    world.network.cut(host, other);
                    world.network.cut(other, host);
                }
            }
        }
        Fault::Heal => world.network.heal(),
        Fault::BreakOff => {
            if let Some(host) = pick(world, &world.hosts()) {
                world.network.break_some(|from, to| from == host || to == host);
            }
        }
    }
}

fn pick(world: &mut World, among: &[HostId]) -> Option<HostId> {
    world.rng.pick(among).copied()
}
