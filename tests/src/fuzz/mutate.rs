//! Seeded changes of inputs, for where no engine guides the search.

use crate::rng::Rng;

/// Numbers at which decoders stumble.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX];

/// `input` changed in one to four places.
pub fn mutated(rng: &mut Rng, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=rng.below(4) {
        change(rng, &mut bytes);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.below(bytes.len() + 1);
    let end = (at + 1 + rng.below(12)).min(bytes.len());
    match rng.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        3 => {
            let count = 1 + rng.below(9);
            let piece = rng.bytes(count);
            drop(bytes.splice(at..at, piece));
        }
        4 => number(rng, bytes, at, false),
        5 => number(rng, bytes, at, true),
        6 => {
            // As the codec writes a length or a number: a marker, then the bytes.
            let number = NUMBERS[rng.below(NUMBERS.len())];
            let marked = [&[253][..], &number.to_le_bytes()].concat();
            drop(bytes.splice(at..end, marked));
        }
        _ if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        _ => bytes.push(rng.next_u64() as u8),
    }
}

/// Puts a number over what is there, in one of the widths and byte orders.
fn number(rng: &mut Rng, bytes: &mut [u8], at: usize, big: bool) {
    let number = NUMBERS[rng.below(NUMBERS.len())];
    let width = 1 << rng.below(4);
    let all = if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let part = if big { &all[8 - width..] } else { &all[..width] };
    for (byte, new) in bytes.iter_mut().skip(at).zip(part) {
        *byte = *new;
    }
}
