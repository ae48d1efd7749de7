//! What a log entry's bytes say: which client wants which procedure with which arguments.

use bytes::{BufMut, Bytes, BytesMut};

const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + 8 + 8 + 8 + 4;

/// A request as it stands in the log.
///
/// Encoded as: version (1 byte), client, request, acked_upto (u64 each), procedure (u32), all little-endian, then the
/// arguments to the end. Laid out by hand because it is written and read for every single request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The RSM client, as numbered by the reply table; 0 for the replica group's own commands.
    pub client: u64,
    /// The client's number for this request, the same in every retry. 0 when retries need not be recognised.
    pub request: u64,
    /// The client has the answers to all its requests up to this number and will not ask for them again.
    pub acked_upto: u64,
    /// The procedure to run.
    pub proc: u32,
    /// Its arguments.
    pub args: Bytes,
}

/// Log bytes that are no command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Fewer bytes than a head.
    #[error("a command of {0} bytes is too short")]
    Short(usize),
    /// Written by a version this program does not know.
    #[error("unknown command version {0}")]
    Version(u8),
}

impl Command {
    /// The log bytes of this command.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_LEN + self.args.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.client);
        out.put_u64_le(self.request);
        out.put_u64_le(self.acked_upto);
        out.put_u32_le(self.proc);
        out.put_slice(&self.args);
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote; the arguments share the bytes given.
    pub fn decode(bytes: &Bytes) -> Result<Command, CommandError> {
        if bytes.len() < HEAD_LEN {
            return Err(CommandError::Short(bytes.len()));
        }
        if bytes[0] != VERSION {
            return Err(CommandError::Version(bytes[0]));
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let proc = u32::from_le_bytes(bytes[25..HEAD_LEN].try_into().expect("four bytes"));
        Ok(Command {
            client: number(1),
            request: number(9),
            acked_upto: number(17),
            proc,
            args: bytes.slice(HEAD_LEN..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decodes_what_was_encoded(client: u64, request: u64, acked_upto: u64, proc: u32, args: Vec<u8>) {
            let command = Command { client, request, acked_upto, proc, args: args.into() };
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }

        #[test]
        fn any_bytes_are_answered_without_panic(bytes: Vec<u8>) {
            let _ = Command::decode(&bytes.into());
        }
    }

    #[test]
    fn refuses_what_is_too_short_or_unknown() {
        assert_eq!(Command::decode(&Bytes::from_static(b"\x01abc")), Err(CommandError::Short(4)));
        assert_eq!(Command::decode(&Bytes::from(vec![9; HEAD_LEN])), Err(CommandError::Version(9)));
    }
}
