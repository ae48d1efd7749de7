//! The one place that knows the serialisation library.
//!
//! Values travel in bincode's standard configuration (variable-length integers, little endian), with a limit on what a
//! decoder may claim and no trailing bytes, so that a corrupt length costs an error and not memory. The limit goes with
//! the input: ten bytes that claim to be a string of sixty million do not get the memory for it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The most bytes one value may claim while it is decoded.
pub const DECODE_MAX: usize = 64 << 20;
/// What up to [`SMALL`] bytes of input may claim. No byte of a value claims more than 16 (a small number in a `u128`).
const SMALL_MAX: usize = SMALL << 4;
const SMALL: usize = 1 << 10;
/// What up to [`MEDIUM`] bytes of input may claim.
const MEDIUM_MAX: usize = MEDIUM << 4;
const MEDIUM: usize = 64 << 10;

/// Bytes that are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Not a value of the wanted type: too short, an unknown variant, a length beyond [`DECODE_MAX`].
    #[error("cannot decode: {0}")]
    Malformed(String),
    /// A whole value, then more.
    #[error("{extra} bytes follow the decoded value")]
    Trailing {
        /// How many bytes are left over.
        extra: usize,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
}

/// The bytes of `value`.
///
/// # Panics
/// When `value`'s own `Serialize` refuses (a sequence of unknown length, for instance): a bug in that type.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config())
        .expect("writing to memory fails only if Serialize itself does")
}

/// The value that all of `bytes` encode.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() <= SMALL {
        decode_within::<T, SMALL_MAX>(bytes)
    } else if bytes.len() <= MEDIUM {
        decode_within::<T, MEDIUM_MAX>(bytes)
    } else {
        decode_within::<T, DECODE_MAX>(bytes)
    }
}

/// The library takes its limit as a constant only.
fn decode_within<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let limited = bincode::config::standard().with_limit::<MAX>();
    let (value, used) = bincode::serde::decode_from_slice::<T, _>(bytes, limited)
        .map_err(|e| CodecError::Malformed(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(CodecError::Trailing { extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_decodes(v: (u64, Option<String>, Vec<(i32, Vec<u8>)>)) {
            prop_assert_eq!(decode::<(u64, Option<String>, Vec<(i32, Vec<u8>)>)>(&encode(&v)), Ok(v));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<(u64, Option<String>, Vec<(i32, Vec<u8>)>)>(&bytes);
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert_eq!(decode::<u64>(&bytes), Err(CodecError::Trailing { extra: 1 }));
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_without_the_memory() {
        let claim = encode(&(1u64 << 40)); // read as the length of a vector
        assert!(matches!(decode::<Vec<u64>>(&claim), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn what_may_be_claimed_goes_with_the_input() {
        for (input, beyond) in [(10, SMALL_MAX), (2 * SMALL, MEDIUM_MAX), (2 * MEDIUM, DECODE_MAX)] {
            let mut claim = encode(&(beyond as u64 + 1)); // read as the length of a string
            claim.resize(input, b'x');
            let refused = decode::<String>(&claim).expect_err("it is cut short").to_string();
            assert!(refused.contains("LimitExceeded"), "{input} bytes: {refused}");
        }
        // The densest value there is: every byte claims sixteen.
        for count in [SMALL - 3, SMALL, MEDIUM - 3, MEDIUM] {
            let dense = vec![7u128; count];
            assert_eq!(decode::<Vec<u128>>(&encode(&dense)), Ok(dense));
        }
    }

    #[test]
    fn too_few_bytes_are_refused() {
        let bytes = encode(&("abc".to_string(), 5u32));
        assert!(matches!(decode::<(String, u32)>(&bytes[..3]), Err(CodecError::Malformed(_))));
    }
}
