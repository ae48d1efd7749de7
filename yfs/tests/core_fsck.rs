//! Stores damaged at random: one repair, and there is no error any more; the tree is readable and stays right in use.
#![allow(clippy::unwrap_used)] // a test

mod core_support;

use bytes::Bytes;
use core_support::{action, config, data_action, tight};
use proptest::collection::vec;
use proptest::prelude::*;
use yfs::core::format;
use yfs::core::testing::check::{Slots, USER, check_store, fsck, perform, tree};
use yfs::core::testing::model::Action;
use yfs::core::testing::{World, run};
use yfs::core::{Extents, FileKind, Ino, Limits, Locks, OpenFlags, ROOT, Time};
use yfs::fsck::{Known, Plan, Reader};

/// What happens to a store; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Damage {
    /// A key goes.
    Gone(usize),
    /// A value is turned over.
    Garbled(usize),
    /// A byte of a value is another.
    Byte(usize, usize, u8),
    /// A key with the value of another of its kind.
    Swapped(usize, usize),
    /// A name in any inode for any inode.
    Named(usize, usize, u8),
    /// The bulk data of an inode that has none.
    Block(usize, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let n = || 0usize..1000;
    prop_oneof![
        4 => n().prop_map(Damage::Gone),
        2 => n().prop_map(Damage::Garbled),
        4 => (n(), n(), any::<u8>()).prop_map(|(key, at, byte)| Damage::Byte(key, at, byte)),
        2 => (n(), n()).prop_map(|(one, two)| Damage::Swapped(one, two)),
        3 => (n(), n(), 0u8..7).prop_map(|(dir, child, kind)| Damage::Named(dir, child, kind)),
        1 => (n(), 0u64..9).prop_map(|(ino, block)| Damage::Block(ino, block)),
    ]
}

fn apply(world: &World, damage: &Damage) {
    let mut server = world.server.lock();
    let pairs: Vec<(Bytes, Bytes)> = server.pairs().map(|(k, v)| (k.clone(), v.clone())).collect();
    let pair = |n: usize| pairs[n % pairs.len()].clone();
    let ino = |n: usize| Ino::from_be_bytes(*pair(n).0.first_chunk().unwrap());
    if pairs.is_empty() {
        return;
    }
    match damage {
        Damage::Gone(n) => server.plant(pair(*n).0, None),
        Damage::Garbled(n) => server.damage(&pair(*n).0),
        Damage::Byte(n, at, byte) => {
            let (key, value) = pair(*n);
            let mut value = value.to_vec();
            let mut at = at % value.len().max(1);
            // Not the high bytes of a file's size: a sparse file of an exbibyte is nothing wrong, but takes long to read.
            if key[8] == 1 && (24..29).contains(&at) {
                at = 30;
            }
            value.iter_mut().skip(at).take(1).for_each(|b| *b ^= byte);
            server.plant(key, Some(value.into()));
        }
        Damage::Swapped(one, two) => {
            let (key, kind) = (pair(*one).0, pair(*one).0[8]);
            let other = pairs.iter().filter(|(k, _)| k[8] == kind).nth(two % 5).map(|(_, v)| v.clone());
            server.plant(key, other);
        }
        Damage::Named(dir, child, kind) => {
            let kinds = [FileKind::Directory, FileKind::Regular, FileKind::Symlink];
            let kind = kinds[usize::from(*kind) % kinds.len()];
            let key = format::entry_key(ino(*dir).max(ROOT), format!("n{child}").as_bytes());
            server.plant(key, Some(format::encode_entry(ino(*child).max(ROOT), kind)));
        }
        Damage::Block(n, block) => server.plant_block(ino(*n).max(ROOT), *block, vec![9; 65_536]),
    }
}

fn plan(world: &World) -> Plan {
    let mut reader = Reader::default();
    let server = world.server.lock();
    server.pairs().for_each(|(key, value)| reader.pair(key, value));
    server.objects().into_iter().for_each(|object| reader.object(object));
    reader.finish().plan(Time { secs: 1_800_000_000, nanos: 0 })
}

fn damage_and_repair(actions: &[Action], damages: &[Damage]) -> Result<(), TestCaseError> {
    let mut world = World::new(3);
    let client = world.mount(tight());
    let mut slots = Slots::default();
    for action in actions {
        let _ = run(perform(&client.fs, action, &mut slots)).expect("nothing to wait for");
    }
    client.run(client.fs.flush_all()).unwrap();
    client.crash(&world);
    prop_assert_eq!(check_store(&world.server.lock()), Ok(()));
    damages.iter().for_each(|damage| apply(&world, damage));
    let before = fsck(&world.server.lock(), &Known::default());
    let plan = plan(&world);
    if before.is_clean() {
        prop_assert_eq!(&plan.ops, &[], "nothing to repair");
    }
    let locks = world.service.client();
    let store = yfs::core::testing::store::FakeStore::new(world.server.clone(), 1);
    run(store.commit(locks.session(), plan.ops.clone(), vec![])).unwrap().unwrap();
    let after = fsck(&world.server.lock(), &Known::default());
    let left: Vec<_> = after.errors().filter(|f| f.problem.name() != "not_allocated").collect();
    prop_assert!(left.is_empty(), "left {left:?}\nbefore: {before}\nplan: {plan:?}");
    use_it(&mut world)
}

/// A new mount shows all of it, and can work in it.
fn use_it(world: &mut World) -> Result<(), TestCaseError> {
    let heir = world.mount(Limits::default());
    heir.run(heir.fs.reclaim_orphans()).unwrap();
    let shown = heir.run(tree(&heir.fs, 100));
    prop_assert!(shown.is_ok(), "{:?}", shown.err());
    let made =
        heir.run(heir.fs.create(ROOT, b"after", 0o644, USER, OpenFlags::default())).unwrap().into_value();
    heir.run(heir.fs.write(made.ino, 0, Bytes::from_static(b"works"), false, USER)).unwrap();
    heir.run(heir.fs.release(made.ino)).unwrap();
    heir.run(heir.fs.flush_all()).unwrap();
    let after = fsck(&world.server.lock(), &Known::default());
    let left: Vec<_> = after.errors().filter(|f| f.problem.name() != "not_allocated").collect();
    prop_assert!(left.is_empty(), "after use: {left:?}");
    Ok(())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn one_repair_is_enough(actions in vec(action(), 1..40), damages in vec(damage(), 1..6)) {
        damage_and_repair(&actions, &damages)?;
    }

    #[test]
    fn one_repair_is_enough_for_data(actions in vec(data_action(), 1..30), damages in vec(damage(), 1..4)) {
        damage_and_repair(&actions, &damages)?;
    }
}
