//! The envelope of everything kept on disk: a version and a checksum around opaque bytes.
//!
//! Layout: version (1 byte), CRC-32 (IEEE, little endian, over the version byte and the body), body. The version is the
//! format of the body, so that one record can be rewritten in a newer format without touching its neighbours.

use thiserror::Error;

const ENVELOPE_LEN: usize = 5;

/// A record that is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Shorter than the envelope itself.
    #[error("record of {len} bytes is shorter than its envelope")]
    Short {
        /// The bytes there were.
        len: usize,
    },
    /// The checksum does not match: some bit changed since the record was sealed.
    #[error("record checksum is {stored:08x} but its bytes give {computed:08x}")]
    Checksum {
        /// As stored in the record.
        stored: u32,
        /// As computed from the record.
        computed: u32,
    },
}

fn checksum(version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize()
}

/// `body`, of format `version`, in its envelope.
pub fn seal(version: u8, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(ENVELOPE_LEN + body.len());
    sealed.push(version);
    sealed.extend_from_slice(&checksum(version, body).to_le_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// The format version and the body of a sealed record, if it is intact.
pub fn open(bytes: &[u8]) -> Result<(u8, &[u8]), RecordError> {
    let Some((envelope, body)) = bytes.split_first_chunk::<ENVELOPE_LEN>() else {
        return Err(RecordError::Short { len: bytes.len() });
    };
    let [version, crc @ ..] = *envelope;
    let (stored, computed) = (u32::from_le_bytes(crc), checksum(version, body));
    if stored == computed { Ok((version, body)) } else { Err(RecordError::Checksum { stored, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sealed_opens(version: u8, body: Vec<u8>) {
            let sealed = seal(version, &body);
            prop_assert_eq!(open(&sealed), Ok((version, &body[..])));
        }

        #[test]
        fn any_flipped_bit_is_noticed(version: u8, body: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut sealed = seal(version, &body);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let noticed = matches!(open(&sealed), Err(RecordError::Checksum { .. }));
            prop_assert!(noticed);
        }
    }

    #[test]
    fn shorter_than_an_envelope_is_refused() {
        assert_eq!(open(&[1, 2, 3]), Err(RecordError::Short { len: 3 }));
    }
}
