//! Many operations at once on several mounts, in orders drawn from seeds: nothing hangs, nothing fails that should not,
//! all mounts see one tree, and the store's records agree.
#![allow(clippy::unwrap_used)] // a test

mod core_support;

use core_support::{action, config, tight};
use proptest::collection::vec;
use proptest::prelude::*;
use yfs::core::testing::check::{Slots, check_store, difference, perform, tree};
use yfs::core::testing::executor::{Task, yield_now};
use yfs::core::testing::model::Action;
use yfs::core::testing::{Client, Rng, World, run_all};
use yfs::core::{FsError, Limits};

/// Errors that racing operations may rightly meet.
fn may_happen(e: &FsError) -> bool {
    matches!(
        e,
        FsError::NotFound
            | FsError::Exists
            | FsError::NotDir
            | FsError::IsDir
            | FsError::NotEmpty
            | FsError::Stale(_)
            | FsError::Invalid(_)
            | FsError::NotPermitted
    )
}

async fn work(client: &Client, actions: Vec<Action>, lossy: bool) {
    let mut slots = Slots::default();
    let close: Vec<_> = (0..slots.0.len()).map(|slot| Action::Close { slot }).collect();
    for action in actions.iter().chain(&close) {
        match perform(&client.fs, action, &mut slots).await {
            Ok(()) => {}
            Err(e) if may_happen(&e) || lossy && e == FsError::Lost => {}
            Err(e) => panic!("{action:?}: {e:?}"),
        }
    }
}

async fn tick(client: &Client, world: &World) {
    loop {
        world.clock.advance(100_000_000);
        let now = yfs::core::Clock::now(&world.clock);
        client.fs.flush_due(now).await.or_else(|e| if e == FsError::Lost { Ok(()) } else { Err(e) }).unwrap();
        for _ in 0..20 {
            yield_now().await;
        }
    }
}

/// Loses the session of a random mount now and then.
async fn expire(clients: &[Client], world: &World, seed: u64) {
    let mut rng = Rng::new(seed);
    for _ in 0..3 {
        for _ in 0..rng.below(200) {
            yield_now().await;
        }
        rng.pick(clients).expire(world);
    }
}

struct Play {
    mounts: usize,
    limits: Limits,
    seed: u64,
    /// Sessions are lost.
    lossy: bool,
    daemons: bool,
}

fn play(scripts: Vec<Vec<Action>>, play: &Play) -> Result<(), TestCaseError> {
    let mut world = World::new(play.seed);
    let clients: Vec<Client> = (0..play.mounts).map(|_| world.mount(play.limits.clone())).collect();
    for client in &clients {
        client.store.faults().yield_chance = 40;
    }
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for (i, script) in scripts.into_iter().enumerate() {
        tasks.push(Box::pin(work(&clients[i % play.mounts], script, play.lossy)));
    }
    if play.lossy {
        tasks.push(Box::pin(expire(&clients, &world, play.seed)));
    }
    let mut daemons: Vec<Task<'_>> = Vec::new();
    if play.daemons {
        for client in &clients {
            daemons.push(Box::pin(client.fs.background()));
            daemons.push(Box::pin(tick(client, &world)));
        }
    }
    prop_assert!(run_all(tasks, daemons, play.seed).is_ok(), "all wait for each other");
    settle(&clients);
    let trees: Vec<_> = clients.iter().map(|c| c.run(tree(&c.fs, 3)).unwrap()).collect();
    for other in &trees[1..] {
        let wrong = difference(other, &trees[0]);
        prop_assert!(wrong.is_none(), "mounts differ: {}", wrong.unwrap_or_default());
    }
    let checked = check_store(&world.server.lock());
    prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    Ok(())
}

/// Flushes all mounts, removes what lost sessions left, and flushes that too.
fn settle(clients: &[Client]) {
    for client in clients {
        client.store.faults().yield_chance = 0;
        client.run(client.fs.flush_all()).unwrap();
    }
    clients[0].run(clients[0].fs.reclaim_orphans()).unwrap();
    for client in clients {
        client.run(client.fs.flush_all()).unwrap();
    }
}

fn scripts(max: usize) -> impl Strategy<Value = Vec<Vec<Action>>> {
    vec(vec(action(), 1..max), 2..7)
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn tasks_of_one_mount(scripts in scripts(25), seed: u64) {
        play(scripts, &Play { mounts: 1, limits: Limits::default(), seed, lossy: false, daemons: true })?;
    }

    #[test]
    fn tasks_of_one_mount_with_tiny_caches(scripts in scripts(25), seed: u64) {
        play(scripts, &Play { mounts: 1, limits: tight(), seed, lossy: false, daemons: true })?;
    }

    #[test]
    fn tasks_of_three_mounts(scripts in scripts(25), seed: u64) {
        play(scripts, &Play { mounts: 3, limits: Limits::default(), seed, lossy: false, daemons: false })?;
    }

    #[test]
    fn tasks_of_three_mounts_with_tiny_caches(scripts in scripts(25), seed: u64) {
        play(scripts, &Play { mounts: 3, limits: tight(), seed, lossy: false, daemons: true })?;
    }

    #[test]
    fn tasks_of_mounts_that_lose_their_sessions(scripts in scripts(25), seed: u64) {
        play(scripts, &Play { mounts: 3, limits: tight(), seed, lossy: true, daemons: true })?;
    }
}
