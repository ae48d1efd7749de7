//! The read side of a connection: frames out of a buffered stream.

use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::AsyncReadExt;

use crate::frame::{self, Frame, FrameError};
use crate::transport::ReadHalf;

/// Bytes read at a time; larger frames are read straight into a buffer of exactly their size.
const BUFFER_LEN: usize = 64 << 10;
/// Below this, what is kept beyond a handler's run is copied, so that it does not pin the whole read buffer.
const COPY_MAX: usize = 8 << 10;

/// Why no further frame can be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("closed by the other side")]
    End,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it speaks version {0} of the protocol")]
    Version(u16),
    #[error("{0}")]
    Protocol(&'static str),
}

pub(crate) struct FrameReader {
    io: ReadHalf,
    buffer: BytesMut,
    whole: Option<Bytes>,
    max: usize,
}

impl FrameReader {
    /// Reads frames of up to `max` bytes of body and payload.
    pub fn new(io: ReadHalf, max: usize) -> FrameReader {
        FrameReader { io, buffer: BytesMut::new(), whole: None, max }
    }

    /// Changes the bound, from the next frame on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next frame that was read already.
    pub fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        match self.whole.take() {
            Some(whole) => frame::decode(whole).map(Some),
            None => frame::take(&mut self.buffer, self.max),
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Reads more, when [`buffered`](Self::buffered) has nothing.
    pub async fn fill(&mut self) -> Result<(), ReadError> {
        match frame::peek_len(&self.buffer, self.max)? {
            Some(total) if total > BUFFER_LEN => self.fill_exactly(total).await,
            _ => {
                if self.buffer.capacity() - self.buffer.len() < BUFFER_LEN / 4 {
                    self.buffer.reserve(BUFFER_LEN);
                }
                match self.io.read_buf(&mut self.buffer).await? {
                    0 => Err(ReadError::End),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn fill_exactly(&mut self, total: usize) -> Result<(), ReadError> {
        let mut whole = BytesMut::with_capacity(total);
        whole.extend_from_slice(&self.buffer);
        self.buffer.clear();
        while whole.len() < total {
            let mut rest = (&mut self.io).take((total - whole.len()) as u64);
            if rest.read_buf(&mut whole).await? == 0 {
                return Err(ReadError::End);
            }
        }
        self.whole = Some(whole.freeze());
        Ok(())
    }
}

/// `bytes`, in memory of their own when they are few.
pub(crate) fn keep(bytes: Bytes) -> Bytes {
    if bytes.len() < COPY_MAX { Bytes::copy_from_slice(&bytes) } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;

    fn payload(len: usize) -> Frame {
        Frame { xid: len as u64, payload: vec![7; len].into(), ..Frame::new(Kind::Call) }
    }

    #[tokio::test]
    async fn small_and_large_frames_come_out_as_they_went_in() {
        let sent: Vec<Frame> = [0, 1, 70_000, 3, 64 << 10, 1 << 20, 1 << 20, 5].map(payload).into();
        let wire: Vec<u8> = sent.iter().flat_map(|f| f.to_bytes()).collect();
        let mut reader = FrameReader::new(Box::new(io::Cursor::new(wire)), 1 << 20);
        for frame in sent {
            assert_eq!(reader.next().await.unwrap(), frame);
        }
        assert!(matches!(reader.next().await, Err(ReadError::End)));
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_an_end() {
        for keep in [10, 40, 99_000] {
            let wire = payload(100_000).to_bytes().slice(..keep);
            let mut reader = FrameReader::new(Box::new(io::Cursor::new(wire)), 1 << 20);
            assert!(matches!(reader.next().await, Err(ReadError::End)));
        }
    }

    #[tokio::test]
    async fn a_frame_beyond_the_bound_is_refused() {
        let mut reader = FrameReader::new(Box::new(io::Cursor::new(payload(101).to_bytes())), 100);
        assert!(matches!(
            reader.next().await,
            Err(ReadError::Frame(FrameError::TooLarge { size: 101, max: 100 }))
        ));
    }
}
