//! The fuzz targets without an engine: the committed corpus, and seeded changes of it.
#![allow(clippy::unwrap_used)] // how a test fails

use std::path::PathBuf;
use yfs_tests::fuzz::memory::Counting;
use yfs_tests::fuzz::mutate::mutated;
use yfs_tests::fuzz::{Target, probe, targets};
use yfs_tests::rng::Rng;

#[global_allocator]
static MEMORY: Counting = Counting;

const SEED: u64 = 20261122;
/// Changed inputs tried for each input of the corpus.
const CHANGES: usize = 300;

/// The files of a target's corpus whose names begin so.
fn corpus(target: &Target, prefix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = target.corpus();
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Old formats must go on being read, so a change of the encoders is one that is meant: `yfs_fuzz seeds` writes them anew.
#[test]
fn the_seeds_are_what_the_encoders_write_and_are_accepted() {
    for target in targets() {
        let committed = corpus(&target, "seed-");
        let mut written: Vec<_> = (target.seeds)()
            .into_iter()
            .map(|(name, input)| (target.corpus().join(format!("seed-{name}")), input))
            .collect();
        written.sort();
        assert!(!written.is_empty());
        assert_eq!(committed, written, "{}: run `yfs_fuzz seeds` and commit what changed", target.name);
        for (path, input) in written {
            assert!(probe(&target, &input), "{} is refused", path.display());
        }
    }
}

#[test]
fn what_once_did_harm_does_none() {
    for target in targets() {
        for (path, input) in corpus(&target, "") {
            println!("{}", path.display());
            probe(&target, &input);
        }
    }
}

#[test]
fn changed_inputs_do_no_harm() {
    println!("seed {SEED}");
    for target in targets() {
        let mut rng = Rng::new(SEED);
        for (path, input) in corpus(&target, "") {
            for n in 0..CHANGES {
                let changed = mutated(&mut rng, &input);
                println!("{} {} change {n}: {:02x?}", target.name, path.display(), changed);
                probe(&target, &changed);
            }
        }
    }
}

/// A target that takes everything, or takes memory without reason, is noticed.
#[test]
fn the_probe_notices() {
    fn greedy(input: &[u8]) -> bool {
        std::hint::black_box(vec![0u8; usize::from(input[0]) << 16]).is_empty()
    }
    let target = Target { run: greedy, memory_base: 1 << 20, memory_factor: 1, ..targets()[0] };
    assert!(!probe(&target, &[8]));
    let refused = std::panic::catch_unwind(|| probe(&target, &[64])).unwrap_err();
    let said = refused.downcast_ref::<String>().unwrap();
    assert!(said.contains("bytes of memory"), "{said}");
}
