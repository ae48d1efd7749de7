//! How entries lie on disk: a run of consecutive ones per record, so that a group commit is one small write.

use crate::consensus::{Entry, Payload, Viewstamp};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Encodes consecutive entries: each as view (u64), seq (u64), kind (u8), length (u32), payload; little-endian.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(entries.iter().map(Entry::size_bytes).sum());
    for entry in entries {
        let membership;
        let (kind, payload): (u8, &[u8]) = match &entry.payload {
            Payload::Noop => (NOOP, &[]),
            Payload::Command(bytes) => (COMMAND, bytes),
            Payload::Membership(members) => {
                membership = rpc::codec::encode(members);
                (MEMBERSHIP, &membership)
            }
        };
        out.put_u64_le(entry.stamp.view);
        out.put_u64_le(entry.stamp.seq);
        out.put_u8(kind);
        out.put_u32_le(u32::try_from(payload.len()).expect("commands are bounded far below 4 GiB"));
        out.put_slice(payload);
    }
    out.into()
}

/// Reads what [`encode`] wrote; `None` for anything else, holes between the entries included.
pub(super) fn decode(mut bytes: Bytes) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    while !bytes.is_empty() {
        if bytes.len() < 8 + 8 + 1 + 4 {
            return None;
        }
        let stamp = Viewstamp::new(bytes.get_u64_le(), bytes.get_u64_le());
        let kind = bytes.get_u8();
        let len = bytes.get_u32_le() as usize;
        let follows = entries.last().is_none_or(|last| last.stamp.seq.checked_add(1) == Some(stamp.seq));
        if bytes.len() < len || !follows {
            return None;
        }
        let payload = bytes.split_to(len);
        let payload = match kind {
            NOOP if payload.is_empty() => Payload::Noop,
            COMMAND => Payload::Command(payload),
            MEMBERSHIP => Payload::Membership(rpc::codec::decode(&payload).ok()?),
            _ => return None,
        };
        entries.push(Entry { stamp, payload });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Member, Membership};
    use proptest::prelude::*;

    #[test]
    fn entries_come_back_as_written() {
        let members =
            Membership::of(vec![Member { id: 1, address: "127.0.0.1:1".into(), voter: true }]).without(1);
        let payloads =
            [Payload::Noop, Payload::Command(Bytes::from_static(b"set x")), Payload::Membership(members)];
        let entries: Vec<Entry> = (7..)
            .zip(payloads)
            .map(|(seq, payload)| Entry { stamp: Viewstamp::new(3, seq), payload })
            .collect();
        let bytes = Bytes::from(encode(&entries));
        assert_eq!(decode(bytes.clone()), Some(entries));
        assert_eq!(decode(bytes.slice(..bytes.len() - 1)), None);
    }

    #[test]
    fn a_hole_inside_a_record_is_no_record() {
        let entry = |seq| Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Noop };
        assert_eq!(decode(encode(&[entry(1), entry(3)]).into()), None);
    }

    /// Found by fuzzing: asking what comes after it overflowed.
    #[test]
    fn nothing_follows_the_last_number_there_is() {
        let entry = |seq| Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Noop };
        assert_eq!(decode(encode(&[entry(u64::MAX), entry(0)]).into()), None);
        assert_eq!(decode(encode(&[entry(u64::MAX)]).into()), Some(vec![entry(u64::MAX)]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_panic(bytes: Vec<u8>) {
            let _ = decode(bytes.into());
        }
    }
}
