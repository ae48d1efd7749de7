//! Frames: what travels on a link, encoded and decoded without any I/O.
//!
//! ```text
//! offset size field     (integers little endian)
//!      0    4 length    bytes after this field: 32 + body + payload
//!      4    1 kind      1 hello, 2 welcome, 3 call, 4 reply, 5 notify, 6 ping
//!      5    1 flags     bit 0: at most once (calls)
//!      6    2 zero
//!      8    4 proc      procedure number
//!     12    4 status    replies: 0 success, > 0 the application's, < 0 this crate's
//!     16    8 xid       number of the call
//!     24    8 xid_rep   calls: all replies up to it were received or are no longer wanted
//!     32    4 body_len
//!     36      body      encoded header (arguments or reply)
//!             payload   raw bulk data
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::handler::Proc;

/// Bytes before the body.
pub const HEAD_LEN: usize = 36;
/// What no frame's body and payload may exceed, whatever the sides agree on: the length field holds no more.
pub const FRAME_MAX: usize = 1 << 30;
const LENGTH_LEN: usize = 4;

/// Flag of a call that the server must not execute twice.
pub const AT_MOST_ONCE: u8 = 1;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of the side that connected.
    Hello = 1,
    /// First frame of the side that listened.
    Welcome = 2,
    /// A call.
    Call = 3,
    /// The reply to a call.
    Reply = 4,
    /// A one-way message.
    Notify = 5,
    /// Says only that the sender lives.
    Ping = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, FrameError> {
        Ok(match byte {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Call,
            4 => Kind::Reply,
            5 => Kind::Notify,
            6 => Kind::Ping,
            _ => return Err(FrameError::Kind(byte)),
        })
    }
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// More than the receiver accepts; nothing was allocated for it.
    #[error("a frame of {size} bytes exceeds the bound of {max}")]
    TooLarge {
        /// Bytes of body and payload as claimed.
        size: usize,
        /// The bound.
        max: usize,
    },
    /// A length that does not even hold the fixed fields, or a body longer than the frame.
    #[error("a frame whose lengths do not fit together")]
    Lengths,
    /// No such kind of frame.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// [`AT_MOST_ONCE`] or 0.
    pub flags: u8,
    /// Procedure number.
    pub proc: Proc,
    /// Outcome, in replies.
    pub status: i32,
    /// Number of the call.
    pub xid: u64,
    /// All replies up to it were received or are no longer wanted.
    pub xid_rep: u64,
    /// Encoded header.
    pub body: Bytes,
    /// Bulk data.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of `kind` with everything else zero or empty.
    pub fn new(kind: Kind) -> Frame {
        let (body, payload) = (Bytes::new(), Bytes::new());
        Frame { kind, flags: 0, proc: 0, status: 0, xid: 0, xid_rep: 0, body, payload }
    }

    /// A one-way message.
    pub fn notify(proc: Proc, body: Bytes, payload: Bytes) -> Frame {
        Frame { proc, body, payload, ..Frame::new(Kind::Notify) }
    }

    /// Bytes of body and payload: what the frame bound bounds.
    pub fn size(&self) -> usize {
        self.body.len() + self.payload.len()
    }

    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        HEAD_LEN + self.size()
    }

    /// Appends the fixed fields; body and payload follow on the wire.
    pub fn put_head(&self, out: &mut BytesMut) {
        let length =
            u32::try_from(self.wire_len() - LENGTH_LEN).expect("senders bound frames far below 4 GiB");
        out.put_u32_le(length);
        out.put_u8(self.kind as u8);
        out.put_u8(self.flags);
        out.put_u16_le(0);
        out.put_u32_le(self.proc);
        out.put_i32_le(self.status);
        out.put_u64_le(self.xid);
        out.put_u64_le(self.xid_rep);
        out.put_u32_le(self.body.len() as u32); // ≤ length, which fits
    }

    /// The whole frame as bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.wire_len());
        self.put_head(&mut out);
        out.extend_from_slice(&self.body);
        out.extend_from_slice(&self.payload);
        out.freeze()
    }
}

/// The length in bytes of the frame that begins `bytes`, once its length field is there; refuses what exceeds
/// `max` (body and payload) before anything is allocated for it.
pub fn peek_len(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some((length, _)) = bytes.split_first_chunk::<LENGTH_LEN>() else { return Ok(None) };
    let total = LENGTH_LEN + u32::from_le_bytes(*length) as usize;
    match total.checked_sub(HEAD_LEN) {
        None => Err(FrameError::Lengths),
        Some(size) if size > max => Err(FrameError::TooLarge { size, max }),
        Some(_) => Ok(Some(total)),
    }
}

/// The frame that `whole` holds exactly; body and payload share its memory.
pub fn decode(whole: Bytes) -> Result<Frame, FrameError> {
    let Some((head, rest)) = whole.split_first_chunk::<HEAD_LEN>() else { return Err(FrameError::Lengths) };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let body_len = word(32) as usize;
    if body_len > rest.len() || word(0) as usize != whole.len() - LENGTH_LEN {
        return Err(FrameError::Lengths);
    }
    Ok(Frame {
        kind: Kind::from_byte(head[4])?,
        flags: head[5],
        proc: word(8),
        status: word(12) as i32,
        xid: long(16),
        xid_rep: long(24),
        body: whole.slice(HEAD_LEN..HEAD_LEN + body_len),
        payload: whole.slice(HEAD_LEN + body_len..),
    })
}

/// Takes one whole frame off the front of `buffer`, if it is there.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    match peek_len(buffer, max)? {
        Some(total) if total <= buffer.len() => decode(buffer.split_to(total).freeze()).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn frames()(kind in 1u8..=6, flags: u8, proc: u32, status: i32, xid: u64, xid_rep: u64,
                    body: Vec<u8>, payload: Vec<u8>) -> Frame {
            let kind = Kind::from_byte(kind).unwrap();
            Frame { kind, flags, proc, status, xid, xid_rep, body: body.into(), payload: payload.into() }
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(sent in prop::collection::vec(frames(), 1..8), step in 1usize..200) {
            let wire: Vec<u8> = sent.iter().flat_map(|f| f.to_bytes()).collect();
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take(&mut buffer, 1 << 20).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn arbitrary_bytes_give_frames_or_errors(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take(&mut buffer, 1 << 20) {
                prop_assert!(frame.wire_len() <= bytes.len());
            }
            let _ = decode(bytes.into());
        }

        #[test]
        fn one_changed_byte_never_panics(frame in frames(), at: prop::sample::Index, to: u8) {
            let mut bytes = frame.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = take(&mut BytesMut::from(&bytes[..]), 1 << 20);
        }
    }

    #[test]
    fn the_bound_is_checked_from_the_length_alone() {
        let at_bound = Frame { payload: vec![0; 100].into(), ..Frame::new(Kind::Call) }.to_bytes();
        assert_eq!(peek_len(&at_bound[..4], 100), Ok(Some(136)));
        assert_eq!(peek_len(&at_bound[..4], 99), Err(FrameError::TooLarge { size: 100, max: 99 }));
        assert_eq!(peek_len(b"GET ", 1 << 20), Err(FrameError::TooLarge { size: 542393639, max: 1 << 20 }));
        assert_eq!(peek_len(&[31, 0, 0, 0], 100), Err(FrameError::Lengths));
        assert_eq!(peek_len(&[31, 0, 0], 100), Ok(None));
    }

    #[test]
    fn a_body_longer_than_its_frame_is_refused() {
        let mut bytes = Frame { body: vec![1, 2].into(), ..Frame::new(Kind::Call) }.to_bytes().to_vec();
        bytes[32] = 3;
        assert_eq!(decode(bytes.into()), Err(FrameError::Lengths));
    }

    #[test]
    fn body_and_payload_share_the_frames_memory() {
        let bytes = Frame { body: vec![1; 9].into(), payload: vec![2; 9].into(), ..Frame::new(Kind::Reply) }
            .to_bytes();
        let frame = decode(bytes.clone()).unwrap();
        assert_eq!(frame.payload.as_ptr(), bytes[HEAD_LEN + 9..].as_ptr());
    }
}
