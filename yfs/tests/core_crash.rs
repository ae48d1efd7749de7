//! Mounts that die at any point: what is left is a consistent tree, as it was at some moment not before the last
//! acknowledged flush.
#![allow(clippy::unwrap_used)] // a test

mod core_support;

use std::collections::BTreeMap;

use core_support::{action, config, data_action, tight};
use proptest::collection::vec;
use proptest::prelude::*;
use yfs::core::format::BLOCK;
use yfs::core::testing::check::{Slots, check_store, perform, tree};
use yfs::core::testing::model::{Action, Model, Seen, Tree};
use yfs::core::testing::{Rng, Stalled, World, run};
use yfs::core::{FileKind, Limits};

/// The states that the tree went through, oldest first.
struct History {
    states: Vec<Tree>,
    /// All files that are ever longer than a block: their data may be newer than the tree.
    bulk: BTreeMap<usize, Vec<Seen>>,
}

impl History {
    fn new(states: Vec<Tree>) -> History {
        let mut files: BTreeMap<usize, Vec<Seen>> = BTreeMap::new();
        for seen in states.iter().flat_map(|t| t.values()).filter(|s| s.kind == FileKind::Regular) {
            files.entry(seen.id).or_default().push(seen.clone());
        }
        files.retain(|_, states| states.iter().any(|s| s.data.len() as u64 > BLOCK));
        History { states, bulk: files }
    }

    fn alike(&self, got: &Seen, want: &Seen) -> bool {
        let about = |s: &Seen| (s.kind, s.perm, s.nlink, s.data.len());
        if about(got) != about(want) {
            return false;
        }
        match self.bulk.get(&want.id) {
            None => got.data == want.data,
            Some(versions) => {
                let blocks = got.data.chunks(BLOCK as usize).enumerate();
                blocks.into_iter().all(|(i, block)| versions.iter().any(|v| block_is(block, v, i)))
            }
        }
    }

    fn matches(&self, got: &Tree, want: &Tree) -> bool {
        got.len() == want.len() && got.iter().zip(want).all(|((p, g), (q, w))| p == q && self.alike(g, w))
    }

    /// Which state, from `oldest` on, this is.
    fn find(&self, got: &Tree, oldest: usize) -> Option<usize> {
        (oldest..self.states.len()).find(|i| self.matches(got, &self.states[*i]))
    }
}

/// Whether `block` is what block `i` of `version` was, zeros after its end.
fn block_is(block: &[u8], version: &Seen, i: usize) -> bool {
    let start = (i * BLOCK as usize).min(version.data.len());
    let have = &version.data[start..version.data.len().min(start + block.len())];
    block[..have.len()] == *have && block[have.len()..].iter().all(|b| *b == 0)
}

#[derive(Clone, Debug)]
struct Death {
    after: u64,
    last_call_counts: bool,
    server_too: bool,
    keeps_writes: bool,
    seed: u64,
}

fn death() -> impl Strategy<Value = Death> {
    let fates = (any::<bool>(), any::<bool>(), any::<bool>());
    (0u64..60, fates, any::<u64>()).prop_map(|(after, (last_call_counts, server_too, keeps_writes), seed)| {
        Death { after, last_call_counts, server_too, keeps_writes, seed }
    })
}

fn die_and_look(actions: &[Action], limits: &Limits, death: &Death) -> Result<(), TestCaseError> {
    let mut world = World::new(death.seed);
    let client = world.mount(limits.clone());
    client.store.faults().dies_after = Some(death.after);
    client.store.faults().last_call_counts = death.last_call_counts;
    let (mut model, mut slots) = (Model::default(), Slots::default());
    let (mut states, mut synced) = (vec![model.tree()], 0);
    for action in actions {
        let _ = model.apply(action);
        states.push(model.tree());
        match run(perform(&client.fs, action, &mut slots)) {
            Err(Stalled) => break,
            Ok(Ok(())) if *action == Action::FlushAll => synced = states.len() - 1,
            Ok(_) => {}
        }
    }
    world.server.lock().keeps_dead_writes = death.keeps_writes;
    client.crash(&world);
    if death.server_too {
        world.server.lock().restart(&mut Rng::new(death.seed));
    }
    let heir = world.mount(Limits::default());
    heir.run(heir.fs.reclaim_orphans()).unwrap();
    let got = heir.run(tree(&heir.fs, 100)).unwrap();
    let history = History::new(states);
    let found = history.find(&got, synced);
    prop_assert!(found.is_some(), "not a state since {synced}: {:?}", got.keys());
    heir.run(heir.fs.flush_all()).unwrap();
    let checked = check_store(&world.server.lock());
    prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    Ok(())
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn a_prefix_of_history_survives(actions in vec(action(), 1..50), death in death()) {
        die_and_look(&actions, &Limits::default(), &death)?;
    }

    #[test]
    fn a_prefix_of_a_files_history_survives(actions in vec(data_action(), 1..40), death in death()) {
        die_and_look(&actions, &tight(), &death)?;
    }

    #[test]
    fn a_prefix_survives_with_tiny_caches(actions in vec(action(), 1..50), death in death()) {
        die_and_look(&actions, &tight(), &death)?;
    }
}
