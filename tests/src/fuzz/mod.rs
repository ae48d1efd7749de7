//! Fuzz targets: everything that decodes bytes from a wire or a disk.
//!
//! A target is a plain function of some bytes, so that any engine can drive it: libFuzzer (`fuzz_engine`, see
//! `scripts/fuzz`), the tests in `tests/tests/fuzz_corpus.rs`, or `yfs_fuzz` on a single file. Each asks for more than
//! "no panic": what was read, written and read again is the same; what was restored goes on working; memory and time
//! stay within what the input justifies ([`probe`]).
//!
//! `tests/corpus/TARGET` holds the committed corpus: `seed-*` are written by the real encoders (`yfs_fuzz seeds`),
//! `found-*` are inputs that once did harm.

mod dice;
mod extents;
mod fs;
mod locks;
pub mod memory;
pub mod mutate;
#[cfg(test)]
mod procedures;
mod replica;
mod rpc;
mod rsm;

use ::rpc::fuzzing::Decoder;
use std::path::PathBuf;
use std::time::Duration;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// Tries some bytes; true when they were accepted as what they should be. Panics when something is wrong.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted, with their names.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Bytes of memory that any input may take.
    pub memory_base: usize,
    /// Bytes of memory that each byte of input may take besides.
    pub memory_factor: usize,
}

/// A sequence claims room for at most 1 MiB before its elements are there, a string at most what the codec allows an
/// input of its size; no type nests more than two such claims in one another.
const CLAIMS: usize = 4 << 20;
/// One byte of input may be an element of a vector (at most 40 bytes) that has just doubled, in its old place and its
/// new, and stand there three times: decoded, decoded again, and written.
const FACTOR: usize = 256;
/// No input of the sizes used here takes a processor so long. In time of the thread, not of the clock on the wall.
const TIME_MAX: Duration = Duration::from_secs(5);

impl Target {
    const fn new(
        name: &'static str,
        run: fn(&[u8]) -> bool,
        seeds: fn() -> Vec<(String, Vec<u8>)>,
    ) -> Target {
        Target { name, run, seeds, memory_base: CLAIMS, memory_factor: FACTOR }
    }

    /// Where its corpus is.
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}

/// All targets.
pub fn targets() -> Vec<Target> {
    [rpc::TARGETS, rsm::TARGETS, replica::TARGETS, locks::TARGETS, extents::TARGETS, fs::TARGETS].concat()
}

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// Tries an input and checks what it took. True when it was accepted.
///
/// # Panics
/// When something is wrong: that is what an engine looks for. Also when memory is not counted, see
/// [`memory::Counting`].
pub fn probe(target: &Target, input: &[u8]) -> bool {
    let began = memory::thread_time();
    let (accepted, peak) = memory::peak_of(|| (target.run)(input));
    let took = memory::thread_time().saturating_sub(began);
    let justified = target.memory_base + target.memory_factor * input.len();
    assert!(
        peak <= justified,
        "{} bytes of input took {peak} bytes of memory, at most {justified} are justified",
        input.len()
    );
    assert!(took < TIME_MAX, "{} bytes of input took {took:?}", input.len());
    accepted
}

/// Has one of several decoders, chosen by the first byte, read the rest.
fn one_of(decoders: &[Decoder], input: &[u8]) -> bool {
    let Some((&pick, input)) = input.split_first() else { return false };
    decoders.get(usize::from(pick)).is_some_and(|decoder| survives(decoder, input))
}

/// What is read is written so that it is read again as the same.
fn survives(decoder: &Decoder, input: &[u8]) -> bool {
    let Some(first) = (decoder.rewrite)(input) else { return false };
    let again = (decoder.rewrite)(&first);
    assert_eq!(again.as_ref(), Some(&first), "{}: what it wrote does not come back", decoder.name);
    true
}

/// The samples of several decoders, as [`one_of`] takes them.
fn samples_of(decoders: &[Decoder]) -> Vec<(String, Vec<u8>)> {
    let of_one = |(pick, decoder): (u8, &Decoder)| {
        let samples = (decoder.samples)().into_iter().zip(1..);
        let named =
            samples.map(|(sample, n)| (format!("{}-{n}", decoder.name), [&[pick][..], &sample].concat()));
        named.collect::<Vec<_>>()
    };
    (0u8..).zip(decoders).flat_map(of_one).collect()
}
