//! The first frame each side sends: who it is and what it speaks.
//!
//! Body: magic (8 bytes), protocol version (2 bytes, little endian), then an encoded [`Hello`] or [`Welcome`]. Magic and
//! version do not depend on the codec, so that a later version can still be told apart.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::frame::{Frame, Kind};
use crate::reader::{FrameReader, ReadError};

const MAGIC: [u8; 8] = *b"YFS-RPC\0";
const VERSION: u16 = 1;
/// A longer first frame is no handshake.
pub(crate) const HANDSHAKE_MAX: usize = 256;

/// The client's first frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Chosen at random when the client was made.
    pub nonce: u64,
    /// The highest xid the client ever sent, to any incarnation of the server: if its window is gone, nothing up to here
    /// may be executed.
    pub sent_before: u64,
    /// The largest frame the client accepts.
    pub frame_max: u64,
    /// The client loses frames on purpose.
    pub lossy: bool,
}

/// The server's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Chosen at random when the server started.
    pub boot: u64,
    /// The largest frame the server accepts.
    pub frame_max: u64,
    /// The server loses frames on purpose.
    pub lossy: bool,
}

pub(crate) fn frame<T: Serialize>(kind: Kind, greeting: &T) -> Frame {
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&VERSION.to_le_bytes());
    body.extend_from_slice(&codec::encode(greeting));
    Frame { body: body.into(), ..Frame::new(kind) }
}

/// Reads the other side's greeting, of `kind`.
pub(crate) async fn read<T: DeserializeOwned>(reader: &mut FrameReader, kind: Kind) -> Result<T, ReadError> {
    let frame = reader.next().await?;
    if frame.kind != kind {
        return Err(ReadError::Protocol("the first frame is no greeting"));
    }
    parse(&frame.body)
}

pub(crate) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ReadError> {
    let rest = body.strip_prefix(&MAGIC).ok_or(ReadError::Protocol("the greeting lacks the magic number"))?;
    let (version, rest) = rest.split_first_chunk().ok_or(ReadError::Protocol("the greeting is cut short"))?;
    match u16::from_le_bytes(*version) {
        VERSION => {}
        other => return Err(ReadError::Version(other)),
    }
    codec::decode(rest).map_err(|_| ReadError::Protocol("the greeting does not decode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_fit_their_bound() {
        let hello = Hello { nonce: u64::MAX, sent_before: u64::MAX, frame_max: u64::MAX, lossy: true };
        assert!(frame(Kind::Hello, &hello).size() <= HANDSHAKE_MAX);
    }

    #[test]
    fn other_versions_and_strangers_are_told_apart() {
        let welcome = Welcome { boot: 5, frame_max: 6, lossy: false };
        let mut body = frame(Kind::Welcome, &welcome).body.to_vec();
        assert_eq!(parse::<Welcome>(&body.clone().into()).unwrap().boot, 5);
        body[8] ^= 1;
        assert!(matches!(parse::<Welcome>(&body.clone().into()), Err(ReadError::Version(0))));
        body[0] ^= 1;
        assert!(parse::<Welcome>(&body.into()).unwrap_err().to_string().contains("magic"));
    }
}
