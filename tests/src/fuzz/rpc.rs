//! Frames, greetings, sealed records, addresses.

use super::{Target, one_of, samples_of};
use bytes::{Bytes, BytesMut};
use rpc::frame::{self, AT_MOST_ONCE, Frame, FrameError, Kind};
use rpc::fuzzing::DECODERS;

pub(super) const TARGETS: &[Target] = &[
    Target::new("rpc_frames", frames, frame_seeds),
    Target::new("rpc_values", |input| one_of(DECODERS, input), || samples_of(DECODERS)),
];

const FRAME_MAX: usize = 1 << 20;

/// A stream of frames: whole, and in pieces of a size that the first byte says. Both must give the same.
fn frames(input: &[u8]) -> bool {
    let Some((&step, wire)) = input.split_first() else { return false };
    let (whole, end) = read(wire, wire.len().max(1));
    let (pieces, end_of_pieces) = read(wire, usize::from(step).max(1));
    assert_eq!((&whole, &end), (&pieces, &end_of_pieces), "in pieces of {step}");
    let written: Vec<u8> = whole.iter().flat_map(Frame::to_bytes).collect();
    assert!(written.len() <= wire.len());
    assert_eq!(read(&written, written.len().max(1)), (whole.clone(), Ok(())), "written again");
    let _ = frame::decode(Bytes::copy_from_slice(wire));
    !whole.is_empty()
}

/// The frames that come out of a stream that arrives in pieces, and the error that ends it.
fn read(wire: &[u8], step: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in wire.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match frame::take(&mut buffer, FRAME_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(()))
}

fn frame_seeds() -> Vec<(String, Vec<u8>)> {
    let call = Frame {
        flags: AT_MOST_ONCE,
        proc: 0x7001,
        xid: 7,
        xid_rep: 5,
        body: Bytes::from_static(b"arguments"),
        payload: Bytes::from_static(b"payload"),
        ..Frame::new(Kind::Call)
    };
    let reply = Frame { status: -3, xid: 7, ..Frame::new(Kind::Reply) };
    let notify = Frame::notify(0x8001, Bytes::from_static(b"push"), Bytes::new());
    let ping = Frame::new(Kind::Ping).to_bytes();
    let all = [&call.to_bytes()[..], &reply.to_bytes(), &notify.to_bytes(), &ping].concat();
    let in_steps = |step: u8, wire: &[u8]| [&[step][..], wire].concat();
    vec![("call".into(), in_steps(1, &call.to_bytes())), ("stream".into(), in_steps(37, &all))]
}
