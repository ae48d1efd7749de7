//! What the property tests of the core share: how operations are drawn.

use proptest::collection::vec;
use proptest::prelude::*;
use yfs::core::testing::model::{Action, Path, SLOTS};
use yfs::core::{Limits, RenameFlags};

fn path() -> impl Strategy<Value = Path> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    // Mostly near the root, so that operations meet.
    prop_oneof![5 => vec(name(), 1..2), 3 => vec(name(), 2..3), 1 => vec(name(), 3..4)]
}

/// `cases` of them, and no files with the seeds of failures: the smallest failing input is printed, and belongs into a
/// test of its own.
pub fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() }
}

fn offset() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 1, 100, 65_000, 65_535, 65_536, 65_537, 131_072, 200_000])
}

fn len() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 10, 600, 65_536, 70_000])
}

fn flags() -> impl Strategy<Value = RenameFlags> {
    (0..6).prop_map(|n| RenameFlags { no_replace: n == 4, exchange: n == 5 })
}

/// Any operation.
pub fn action() -> impl Strategy<Value = Action> {
    let slot = || 0..SLOTS;
    prop_oneof![
        6 => (path(), any::<bool>(), any::<bool>())
            .prop_map(|(path, exclusive, truncate)| Action::Create { path, exclusive, truncate }),
        5 => path().prop_map(|path| Action::Mkdir { path }),
        1 => path().prop_map(|path| Action::Symlink { path, target: "some/where" }),
        2 => (path(), path()).prop_map(|(from, to)| Action::Link { from, to }),
        3 => path().prop_map(|path| Action::Unlink { path }),
        2 => path().prop_map(|path| Action::Rmdir { path }),
        5 => (path(), path(), flags()).prop_map(|(from, to, flags)| Action::Rename { from, to, flags }),
        6 => (path(), offset(), len(), any::<u8>())
            .prop_map(|(path, offset, len, fill)| Action::Write { path, offset, len, fill }),
        3 => (path(), len(), any::<u8>()).prop_map(|(path, len, fill)| Action::Append { path, len, fill }),
        4 => (path(), offset()).prop_map(|(path, size)| Action::Truncate { path, size }),
        1 => (path(), 0u16..0o1000).prop_map(|(path, mode)| Action::Chmod { path, mode }),
        2 => (slot(), path()).prop_map(|(slot, path)| Action::Open { slot, path }),
        2 => (slot(), offset(), len(), any::<u8>())
            .prop_map(|(slot, offset, len, fill)| Action::WriteOpen { slot, offset, len, fill }),
        2 => slot().prop_map(|slot| Action::Close { slot }),
        1 => path().prop_map(|path| Action::Fsync { path }),
        2 => Just(Action::FlushAll),
        1 => Just(Action::GiveBack),
    ]
}

/// Operations on the contents of few files.
#[allow(dead_code)] // not every test needs it
pub fn data_action() -> impl Strategy<Value = Action> {
    let file = || vec(prop::sample::select(vec!["a", "b"]), 1..2);
    prop_oneof![
        3 => (file(), any::<bool>())
            .prop_map(|(path, truncate)| Action::Create { path, exclusive: false, truncate }),
        1 => file().prop_map(|path| Action::Unlink { path }),
        1 => (file(), file(), flags()).prop_map(|(from, to, flags)| Action::Rename { from, to, flags }),
        6 => (file(), offset(), len(), any::<u8>())
            .prop_map(|(path, offset, len, fill)| Action::Write { path, offset, len, fill }),
        2 => (file(), len(), any::<u8>()).prop_map(|(path, len, fill)| Action::Append { path, len, fill }),
        6 => (file(), offset()).prop_map(|(path, size)| Action::Truncate { path, size }),
        2 => Just(Action::FlushAll),
        2 => Just(Action::GiveBack),
    ]
}

/// Small enough that everything that can be dropped is dropped all the time.
pub fn tight() -> Limits {
    Limits {
        inodes_max: 3,
        entries_max: 4,
        clean_bytes_max: 100_000,
        dirty_bytes_max: 400_000,
        generation_bytes_max: 200_000,
        generation_records_max: 12,
        allocate_batch: 3,
        scan_page: 2,
        ..Limits::default()
    }
}
