//! One fuzz target under libFuzzer; `scripts/fuzz` builds this instrumented and runs it for one target after the other.
//!
//! `YFS_FUZZ_TARGET` names the target; the arguments are libFuzzer's.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::OnceLock;
use yfs_tests::fuzz::memory::Counting;
use yfs_tests::fuzz::{Target, find, probe};

#[global_allocator]
static MEMORY: Counting = Counting;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = std::env::var("YFS_FUZZ_TARGET").expect("YFS_FUZZ_TARGET names a target");
    find(&name).unwrap_or_else(|| panic!("there is no fuzz target `{name}`; `yfs_fuzz list` names them"))
}

fuzz_target!(|input: &[u8]| -> Corpus {
    probe(TARGET.get_or_init(chosen), input);
    Corpus::Keep
});
