//! Random operations on one and on several mounts, against the reference model: the whole tree is compared.
#![allow(clippy::unwrap_used)] // a test

mod core_support;

use core_support::{action, config, data_action, tight};
use proptest::collection::vec;
use proptest::prelude::*;
use yfs::core::testing::check::{self, Slots, difference, perform, tree};
use yfs::core::testing::model::{Action, Model, SLOTS, Tree};
use yfs::core::testing::{Client, World, run};
use yfs::core::{FsError, Limits};

/// The mount that has each slot open.
type Owners = [usize; SLOTS];

struct Bench {
    world: World,
    clients: Vec<Client>,
    slots: Slots,
    owners: Owners,
    model: Model,
}

impl Bench {
    fn new(clients: usize, limits: &Limits) -> Bench {
        let mut world = World::new(1);
        let clients = (0..clients).map(|_| world.mount(limits.clone())).collect();
        Bench { world, clients, slots: Slots::default(), owners: [0; SLOTS], model: Model::default() }
    }

    /// The mount that does an action: an open file belongs to the one that opened it.
    fn client_for(&mut self, wanted: usize, action: &Action) -> usize {
        match action {
            Action::Open { slot, .. } if self.slots.0[*slot].is_none() => self.owners[*slot] = wanted,
            Action::Close { slot } | Action::WriteOpen { slot, .. } => return self.owners[*slot],
            _ => {}
        }
        wanted
    }

    fn step(&mut self, client: usize, action: &Action) -> Result<(), TestCaseError> {
        let client = self.client_for(client, action);
        let want = self.model.apply(action);
        let got =
            run(perform(&self.clients[client].fs, action, &mut self.slots)).expect("nothing to wait for");
        let alike = match (&got, &want) {
            (Err(FsError::Invalid(_)), Err(FsError::Invalid(_))) => true,
            // When several things are wrong either may be said.
            (Err(_), Err(_)) if matches!(action, Action::Rename { .. } | Action::Link { .. }) => true,
            _ => got == want,
        };
        prop_assert!(alike, "{action:?} on mount {client}: {got:?} instead of {want:?}");
        Ok(())
    }

    fn compare(&self, client: usize) -> Result<(), TestCaseError> {
        let got: Tree = run(tree(&self.clients[client].fs, 2)).expect("nothing to wait for").unwrap();
        let wrong = difference(&got, &self.model.tree());
        prop_assert!(wrong.is_none(), "mount {client}: {}", wrong.unwrap_or_default());
        for slot in 0..SLOTS {
            if let (Some(ino), Some(want)) = (self.slots.0[slot], self.model.slot(slot)) {
                let fs = &self.clients[self.owners[slot]].fs;
                let got = run(check::contents(fs, ino)).expect("nothing to wait for").unwrap();
                prop_assert!(got == want, "slot {slot} has {} bytes, not those expected", got.len());
            }
        }
        Ok(())
    }

    /// Everything closed and flushed, the store's records must agree, with nothing left over.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for slot in 0..SLOTS {
            self.step(0, &Action::Close { slot })?;
        }
        for client in &self.clients {
            client.run(client.fs.flush_all()).unwrap();
        }
        let checked = check::check_store(&self.world.server.lock());
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
        self.compare(self.clients.len() - 1)
    }
}

fn play(
    actions: &[(usize, Action)],
    clients: usize,
    limits: &Limits,
    restarts: u64,
) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(clients, limits);
    for client in &bench.clients {
        client.store.faults().restart_chance = restarts;
    }
    for (i, (client, action)) in actions.iter().enumerate() {
        bench.step(client % clients, action)?;
        if i % 3 == 0 {
            bench.compare((client + i) % clients)?;
        }
    }
    bench.finish()
}

fn actions(max: usize) -> impl Strategy<Value = Vec<(usize, Action)>> {
    vec((0usize..12, action()), 1..max)
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn one_mount_is_as_the_model(actions in actions(60)) {
        play(&actions, 1, &Limits::default(), 0)?;
    }

    #[test]
    fn one_mount_with_tiny_caches_is_as_the_model(actions in actions(60)) {
        play(&actions, 1, &tight(), 0)?;
    }

    #[test]
    fn one_mount_on_a_restarting_server_is_as_the_model(actions in actions(60)) {
        play(&actions, 1, &tight(), 3)?;
    }

    #[test]
    fn few_files_are_as_the_model(actions in vec((0usize..2, data_action()), 1..40)) {
        play(&actions, 2, &tight(), 1)?;
    }

    #[test]
    fn few_files_on_one_mount_are_as_the_model(actions in vec((0usize..1, data_action()), 1..40)) {
        play(&actions, 1, &tight(), 0)?;
    }

    #[test]
    fn two_mounts_are_as_one(actions in actions(60)) {
        play(&actions, 2, &Limits::default(), 0)?;
    }

    #[test]
    fn three_mounts_with_tiny_caches_are_as_one(actions in actions(50)) {
        play(&actions, 3, &tight(), 1)?;
    }
}
