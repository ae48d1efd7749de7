//! Random histories, with crashes at random points, against a model.

use super::harness::{BLOCK, Rig, Rng, key, mixed_from};
use crate::error::StoreError;
use crate::store::Store;
use crate::types::{BLOCK_SIZE, ObjectId, Op};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks at the seams: the first ones, and around the end of a chunk.
const BLOCKS: [u64; 6] = [0, 1, 2, 63, 64, 65];
const OBJECTS: [ObjectId; 2] = [3, 4];

type Block = Vec<u8>;

#[derive(Clone, Default)]
struct ObjectModel {
    /// What is durable.
    committed: BTreeMap<u64, Block>,
    /// What a reader sees.
    current: BTreeMap<u64, Block>,
    /// Written since it was committed, and by whom.
    dirty: BTreeMap<u64, BTreeSet<u64>>,
}

#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<Bytes, Bytes>,
    objects: BTreeMap<ObjectId, ObjectModel>,
    fenced: BTreeSet<u64>,
    commits: u64,
}

#[derive(Clone, Debug)]
enum Action {
    Write {
        session: u64,
        object: ObjectId,
        block: u64,
        from: usize,
        len: usize,
        seed: u64,
    },
    Commit {
        session: u64,
        ops: Vec<Change>,
        named: Vec<ObjectId>,
    },
    Fence {
        session: u64,
    },
    Reopen,
    /// The power fails at the `at`th interesting point of the next action.
    Crash {
        at: u32,
        seed: u64,
        during: Box<Action>,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8),
    Delete(u8),
    DeletePrefix(u8),
    Truncate(ObjectId, u64),
    Remove(ObjectId),
}

fn name(n: u8) -> Bytes {
    // Several share a first letter, so that prefixes matter.
    Bytes::from(vec![b'a' + n % 3, b'0' + n / 3])
}

impl Change {
    fn op(&self) -> Op {
        match *self {
            Change::Put(n, value) => Op::Put { key: name(n), value: vec![value; usize::from(value)].into() },
            Change::Delete(n) => Op::Delete { key: name(n) },
            Change::DeletePrefix(n) => Op::DeletePrefix { prefix: name(n).slice(..1) },
            Change::Truncate(object, size) => Op::Truncate { object, size },
            Change::Remove(object) => Op::Remove { object },
        }
    }
}

impl ObjectModel {
    fn write(&mut self, session: u64, offset: u64, data: &[u8]) {
        for (n, byte) in data.iter().enumerate() {
            let at = offset + n as u64;
            let block = self.current.entry(at / BLOCK_SIZE).or_insert_with(|| vec![0; BLOCK]);
            block[(at % BLOCK_SIZE) as usize] = *byte;
            if n == 0 || at.is_multiple_of(BLOCK_SIZE) {
                self.dirty.entry(at / BLOCK_SIZE).or_default().insert(session);
            }
        }
    }

    fn truncate(&mut self, size: u64) {
        let first = size.div_ceil(BLOCK_SIZE);
        for blocks in [&mut self.committed, &mut self.current] {
            blocks.retain(|block, _| *block < first);
        }
        self.dirty.retain(|block, _| *block < first);
    }

    fn commit(&mut self) {
        for block in std::mem::take(&mut self.dirty).keys() {
            self.committed.insert(*block, self.current[block].clone());
        }
    }

    /// What a fenced session alone wrote into holes is gone.
    fn fence(&mut self, session: u64) {
        let alone = |writers: &BTreeSet<u64>| writers.len() == 1 && writers.contains(&session);
        let gone: Vec<u64> = self
            .dirty
            .iter()
            .filter(|(block, writers)| alone(writers) && !self.committed.contains_key(block))
            .map(|(block, _)| *block)
            .collect();
        for block in gone {
            self.dirty.remove(&block);
            self.current.remove(&block);
        }
    }
}

impl Model {
    fn write(&mut self, session: u64, object: ObjectId, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        self.check(session)?;
        self.objects.entry(object).or_default().write(session, offset, data);
        Ok(())
    }

    fn commit(&mut self, session: u64, ops: &[Op], named: &[ObjectId]) -> Result<(), StoreError> {
        self.check(session)?;
        for object in named {
            self.objects.entry(*object).or_default().commit();
        }
        for op in ops {
            match op {
                Op::Put { key, value } => drop(self.keys.insert(key.clone(), value.clone())),
                Op::Delete { key } => drop(self.keys.remove(key)),
                Op::DeletePrefix { prefix } => self.keys.retain(|key, _| !key.starts_with(prefix)),
                Op::Truncate { object, size } => self.objects.entry(*object).or_default().truncate(*size),
                Op::Remove { object } => drop(self.objects.remove(object)),
            }
        }
        Ok(())
    }

    fn fence(&mut self, session: u64) {
        self.fenced.insert(session);
        self.objects.values_mut().for_each(|object| object.fence(session));
    }

    fn check(&self, session: u64) -> Result<(), StoreError> {
        if self.fenced.contains(&session) { Err(StoreError::Fenced { session }) } else { Ok(()) }
    }

    /// All that was not committed is gone; used where nothing was being overwritten.
    fn restart(&mut self) {
        for object in self.objects.values_mut() {
            object.dirty.clear();
        }
    }
}

/// A store and its model.
struct Pair {
    rig: Rig,
    model: Model,
}

impl Pair {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Write { session, object, block, from, len, seed } => {
                let data = Rng::new(*seed).bytes(*len);
                let offset = block * BLOCK_SIZE + *from as u64;
                let expected = self.model.write(*session, *object, offset, &data);
                assert_eq!(self.rig.write(*session, *object, offset, &data), expected);
            }
            Action::Commit { session, ops, named } => {
                self.model.commits += 1;
                // Tells in a crash image whether this commit is in it.
                let stamp = Op::Put { key: key("commit"), value: self.model.commits.to_string().into() };
                let ops: Vec<Op> = ops.iter().map(Change::op).chain([stamp]).collect();
                let expected = self.model.commit(*session, &ops, named);
                assert_eq!(self.rig.commit(*session, ops, named), expected);
            }
            Action::Fence { session } => {
                self.model.fence(*session);
                assert_eq!(self.rig.fence(*session), Ok(()));
            }
            Action::Reopen => {
                let before = self.model.clone();
                self.rig.reopen();
                self.adopt(&[before]);
            }
            Action::Crash { at, seed, during } => {
                let before = self.model.clone();
                self.rig.camera.shoot_after(*at, *seed);
                self.act(during);
                let image = self.rig.camera.develop(*seed);
                let after = std::mem::take(&mut self.model);
                self.rig = Rig::on(image);
                self.adopt(&[before, after]);
            }
        }
        self.compare();
    }

    /// After a crash: the store must be in one of the states `moments`, where what was being overwritten may hold any
    /// mixture of the old and new pages. That becomes the model.
    fn adopt(&mut self, moments: &[Model]) {
        let keys = self.rig.all();
        let state =
            moments.iter().rev().find(|state| state.keys == keys).expect("the keys are those of no moment");
        let mut state = state.clone();
        let durable_fences: BTreeSet<u64> =
            (0..8).filter(|session| self.rig.store().is_fenced(*session)).collect();
        assert!(moments.iter().any(|m| m.fenced == durable_fences), "fences are those of no moment");
        state.fenced = durable_fences;
        state.restart();
        for (id, object) in &mut state.objects {
            for (block, committed) in &mut object.committed {
                let found = self.rig.read(*id, block * BLOCK_SIZE, BLOCK as u32).unwrap();
                let mut versions: Vec<&[u8]> = vec![committed];
                for moment in moments {
                    let written = moment.objects.get(id).filter(|o| o.dirty.contains_key(block));
                    versions.extend(written.map(|o| o.current[block].as_slice()));
                }
                assert!(mixed_from(&found, &versions), "object {id}, block {block}");
                *committed = found.to_vec();
            }
            object.current = object.committed.clone();
        }
        self.model = state;
    }

    fn compare(&self) {
        assert_eq!(self.rig.all(), self.model.keys);
        for id in OBJECTS {
            let object = self.model.objects.get(&id);
            for block in BLOCKS {
                let found = self.rig.read(id, block * BLOCK_SIZE, BLOCK as u32).unwrap();
                let expected = object.and_then(|o| o.current.get(&block));
                let same = match expected {
                    Some(expected) => found == expected[..],
                    None => found.iter().all(|byte| *byte == 0),
                };
                assert!(same, "object {id}, block {block}, expected a hole: {}", expected.is_none());
            }
        }
    }
}

fn object() -> impl Strategy<Value = ObjectId> {
    prop::sample::select(&OBJECTS[..])
}

fn session() -> impl Strategy<Value = u64> {
    1u64..4
}

fn change() -> impl Strategy<Value = Change> {
    let sizes = [0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE, 64 * BLOCK_SIZE, 65 * BLOCK_SIZE];
    prop_oneof![
        4 => (0u8..9, any::<u8>()).prop_map(|(n, value)| Change::Put(n, value)),
        1 => (0u8..9).prop_map(Change::Delete),
        1 => (0u8..9).prop_map(Change::DeletePrefix),
        2 => (object(), prop::sample::select(sizes.to_vec())).prop_map(|(o, size)| Change::Truncate(o, size)),
        1 => object().prop_map(Change::Remove),
    ]
}

fn simple_action() -> impl Strategy<Value = Action> {
    let lengths = prop_oneof![Just(1usize), Just(4096), Just(5000), Just(BLOCK), Just(BLOCK + 4096)];
    let starts = prop_oneof![Just(0usize), Just(4096), Just(6000)];
    let write = (session(), object(), 0usize..4, starts, lengths, any::<u64>());
    let named = prop::collection::vec(object(), 0..3);
    prop_oneof![
        // Two blocks at most, starting where the next is also one that is compared.
        6 => write.prop_map(|(session, object, n, from, len, seed)| {
            Action::Write { session, object, block: [0, 1, 63, 64][n], from, len: len.min(2 * BLOCK - from), seed }
        }),
        4 => (session(), prop::collection::vec(change(), 0..4), named)
            .prop_map(|(session, ops, named)| Action::Commit { session, ops, named }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => simple_action(),
        1 => (2u64..4).prop_map(|session| Action::Fence { session }),
        1 => Just(Action::Reopen),
        3 => (0u32..8, any::<u64>(), simple_action())
            .prop_map(|(at, seed, during)| Action::Crash { at, seed, during: Box::new(during) }),
    ]
}

/// Each case opens and syncs a store many times; `PROPTEST_CASES` asks for more of them.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn any_history_agrees_with_the_model(actions in prop::collection::vec(action(), 1..40)) {
        let mut pair = Pair { rig: Rig::new(), model: Model::default() };
        actions.iter().for_each(|action| pair.act(action));
        let report = pair.rig.store().verify().unwrap();
        prop_assert!(report.is_clean(), "{}", report);
    }
}
