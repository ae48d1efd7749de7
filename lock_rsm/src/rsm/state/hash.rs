//! A stable hash of replicated state, for comparing replicas.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// 64-bit FNV-1a (Fowler, Noll, Vo) of `bytes`. It finds divergence, it does not resist an adversary.
pub fn state_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::state_hash;

    #[test]
    fn agrees_with_the_published_vectors() {
        assert_eq!(state_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(state_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(state_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
