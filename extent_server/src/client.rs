//! The client: retries until its deadline, splits what is large, keeps several pieces in flight.
//!
//! All calls are idempotent (absolute values, written under locks the caller holds), so one whose fate is unknown because
//! the server restarted is simply sent again. Changes go over a connection of their own on which nothing runs twice: a
//! delayed duplicate of an old commit must not land after a newer one.

use crate::error::{ExtentError, StoreError};
use crate::protocol::*;
use crate::types::{BLOCK_SIZE, BootId, ExtentStatus, Key, ObjectId, Op, StatFs, Value};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rpc::{Client, ClientOptions, OnRestart, Response, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How a client behaves.
#[derive(Clone)]
pub struct ExtentOptions {
    /// How long a call may take, over all reconnections and restarts of the server.
    pub timeout: Duration,
    /// How long [`ExtentClient::connect`] may take.
    pub connect_timeout: Duration,
    /// Bulk reads and writes are sent in pieces of at most this many bytes; within 64 KiB and [`DATA_MAX`].
    pub piece: u64,
    /// Pieces of one call in flight at once.
    pub pieces_in_flight: usize,
    /// For the connections themselves; what this client relies on is set by it.
    pub rpc: ClientOptions,
}

impl Default for ExtentOptions {
    fn default() -> ExtentOptions {
        ExtentOptions {
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            piece: 1 << 20,
            pieces_in_flight: 4,
            rpc: ClientOptions::default(),
        }
    }
}

/// A client of one extent server. Clones share everything.
#[derive(Clone)]
pub struct ExtentClient {
    inner: Arc<Inner>,
}

struct Inner {
    addr: String,
    options: ExtentOptions,
    /// Carries what changes nothing; repeating it does no harm, so the server need not keep its large answers.
    queries: Client,
    /// Carries what changes something, each call at most once per life of the server.
    changes: Client,
    /// One commit at a time, so that commits land in the order in which they were asked for, whatever is lost or repeated.
    commits: tokio::sync::Mutex<()>,
    runtime: Handle,
}

/// A piece of a bulk read or write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Piece {
    ranges: Vec<(u64, u32)>,
    /// Where its data begins in the whole.
    start: u64,
    len: u64,
}

impl ExtentClient {
    /// Connects to the server at `addr` (`HOST:PORT` or a bare port), and makes sure that it is an extent server.
    pub async fn connect(addr: &str, options: ExtentOptions) -> Result<ExtentClient, ExtentError> {
        let bad = |what: String| ExtentError::Protocol { addr: addr.to_string(), what };
        let addr = rpc::addr::parse(addr).map_err(|e| bad(e.to_string()))?;
        let rebind = ClientOptions { on_restart: OnRestart::Rebind, ..options.rpc.clone() };
        let queries = Client::new(&addr, ClientOptions { at_most_once: false, ..rebind.clone() });
        let changes = Client::new(&addr, ClientOptions { at_most_once: true, ..rebind });
        let runtime = options.rpc.runtime.clone().unwrap_or_else(Handle::current);
        let connect_timeout = options.connect_timeout;
        let commits = tokio::sync::Mutex::new(());
        let inner = Arc::new(Inner { addr, options, queries, changes, commits, runtime });
        let client = ExtentClient { inner };
        let inner = &client.inner;
        let hello = inner.call::<_, ExtentStatus>(&inner.queries, STATUS, &(), Bytes::new(), connect_timeout);
        hello.await?;
        Ok(client)
    }

    /// The server's address.
    pub fn addr(&self) -> &str {
        &self.inner.addr
    }

    /// The values of `keys`, in order; `None` for an absent key.
    pub async fn get(&self, keys: Vec<Key>) -> Result<Vec<Option<Value>>, ExtentError> {
        let mut values = Vec::with_capacity(keys.len());
        while values.len() < keys.len() {
            let ask = &keys[values.len()..];
            let ask = &ask[..ask.len().min(KEYS_MAX)];
            check_keys(ask)?;
            let args = GetArgs { keys: ask.iter().cloned().map(WireKey).collect() };
            let (reply, payload) = self.query::<_, GetReply>(GET, &args).await?;
            if reply.values.is_empty() || reply.values.len() > ask.len() {
                return Err(self.inner.broken("a lookup was answered with the wrong number of values"));
            }
            let mut payload = Unpacker::new(payload);
            for len in reply.values {
                values.push(len.map(|len| payload.take(len)).transpose()?);
            }
            payload.finish()?;
        }
        Ok(values)
    }

    /// At most `limit` entries with `from <= key < to`, ascending, and whether there are more. Fewer than `limit` may
    /// come back with more to follow: go on after the last key.
    pub async fn scan(
        &self,
        from: Key,
        to: Key,
        limit: u32,
    ) -> Result<(Vec<(Key, Value)>, bool), ExtentError> {
        check_keys(&[from.clone(), to.clone()])?;
        let args = ScanArgs { from: WireKey(from), to: WireKey(to), limit };
        let (reply, payload) = self.query::<_, ScanReply>(SCAN, &args).await?;
        let mut payload = Unpacker::new(payload);
        let take = |(key, value)| Ok::<_, StoreError>((payload.take(key)?, payload.take(value)?));
        let entries = reply.entries.into_iter().map(take).collect::<Result<Vec<_>, _>>()?;
        payload.finish()?;
        Ok((entries, reply.more))
    }

    /// The bytes of `ranges` of `object` one after the other. Holes, and what lies beyond the end, are zeros.
    pub async fn read(&self, object: ObjectId, ranges: Vec<(u64, u32)>) -> Result<Bytes, ExtentError> {
        check_range_ends(&ranges)?;
        let pieces = self.inner.split(&ranges);
        let total: u64 = pieces.iter().map(|piece| piece.len).sum();
        let mut answers = stream::iter(pieces)
            .map(|piece| self.read_piece(object, piece))
            .buffered(self.inner.options.pieces_in_flight.max(1));
        let first = answers.try_next().await?.unwrap_or_default();
        if first.len() as u64 == total {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(total as usize);
        whole.extend_from_slice(&first);
        while let Some(bytes) = answers.try_next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    async fn read_piece(&self, object: ObjectId, piece: Piece) -> Result<Bytes, ExtentError> {
        let args = ReadArgs { object, ranges: piece.ranges };
        let ((), data) = self.query::<_, ()>(READ, &args).await?;
        if data.len() as u64 != piece.len {
            return Err(self.inner.broken("a read was answered with the wrong number of bytes"));
        }
        Ok(data)
    }

    /// Writes `data`, cut into `ranges`, to `object`, on behalf of `session`. Others see it at once, but it is durable
    /// only once a commit names the object together with the returned [`BootId`]: the life of the server in which (all
    /// of) the data was taken, or the oldest of them if it restarted meanwhile, so that the commit tells.
    pub async fn write(
        &self,
        session: u64,
        object: ObjectId,
        ranges: Vec<(u64, u32)>,
        data: Bytes,
    ) -> Result<BootId, ExtentError> {
        check_range_ends(&ranges)?;
        if ranges.iter().map(|(_, len)| u64::from(*len)).sum::<u64>() != data.len() as u64 {
            return Err(invalid("the ranges of a write do not add up to its data").into());
        }
        let in_flight = if ascending(&ranges) { self.inner.options.pieces_in_flight.max(1) } else { 1 };
        let mut pieces = self.inner.split(&ranges);
        if pieces.is_empty() {
            // Nothing to lay down, but the caller wants to know the life of the server.
            pieces.push(Piece::default());
        }
        let boots: Vec<BootId> = stream::iter(pieces)
            .map(|piece| {
                let data = data.slice(piece.start as usize..(piece.start + piece.len) as usize);
                self.write_piece(session, object, piece.ranges, data)
            })
            .buffered(in_flight)
            .try_collect()
            .await?;
        let last = boots.last().copied().expect("there is at least one piece");
        Ok(boots.into_iter().find(|boot| *boot != last).unwrap_or(last))
    }

    async fn write_piece(
        &self,
        session: u64,
        object: ObjectId,
        ranges: Vec<(u64, u32)>,
        data: Bytes,
    ) -> Result<BootId, ExtentError> {
        let args = WriteArgs { session, object, ranges };
        let (reply, _) = self.change::<_, WriteReply>(WRITE, &args, data, Instant::now()).await?;
        Ok(reply.boot)
    }

    /// Makes the written data of `objects` durable and then applies `ops` in order: all or nothing, durable when
    /// answered. Commits of one client land in the order of their calls.
    ///
    /// * The objects' data comes before the operations: a [`Op::Truncate`] cuts all that was written until then. So what
    ///   is to lie beyond a cut is written only after the commit of the cut was answered.
    /// * [`ExtentError::Restarted`]: some of the writes may be lost; send the objects' writes and this commit again.
    /// * [`ExtentError::Timeout`] and [`ExtentError::Unreachable`] leave it open whether the commit takes effect, until
    ///   the session is fenced: do not give up locks that protect it as if it had not happened.
    pub async fn commit(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<(ObjectId, BootId)>,
    ) -> Result<(), ExtentError> {
        let started = Instant::now();
        check_ops(&ops)?;
        check_objects(&objects)?;
        let (ops, payload) = pack_ops(&ops);
        let args = CommitArgs { session, ops, objects };
        // Whoever is before us gives up before we would, so waiting here needs no timer of its own.
        let _turn = self.inner.commits.lock().await;
        self.change::<_, ()>(COMMIT, &args, payload, started).await.map(|_| ())
    }

    /// Refuses `session` for ever; once answered, nothing of it lands, whatever is still under way.
    pub async fn fence(&self, session: u64) -> Result<(), ExtentError> {
        let inner = &self.inner;
        let args: Bytes = rpc::codec::encode(&Fence { session }).into();
        let mut attempts = Attempts::new(Instant::now(), inner.options.timeout);
        loop {
            let call = inner.changes.call_raw(FENCE, args.clone(), Bytes::new(), attempts.left());
            let failed = match call.await {
                Ok(_) => return Ok(()),
                Err(RpcError::Status(code)) => {
                    ExtentError::Io { what: format!("fencing failed with code {code}") }
                }
                Err(e) if is_transient(&e) => ExtentError::from_rpc(&inner.addr, e, attempts.waited()),
                Err(e) => return Err(ExtentError::from_rpc(&inner.addr, e, attempts.waited())),
            };
            attempts.again(&inner.runtime, failed).await?;
        }
    }

    /// How much space the store has.
    pub async fn statfs(&self) -> Result<StatFs, ExtentError> {
        Ok(self.query(STATFS, &()).await?.0)
    }

    /// Who the server is and how it does.
    pub async fn status(&self) -> Result<ExtentStatus, ExtentError> {
        Ok(self.query(STATUS, &()).await?.0)
    }

    /// Closes the connections; calls under way and later ones fail.
    pub fn close(&self) {
        self.inner.queries.close();
        self.inner.changes.close();
    }

    pub(crate) async fn query<A: Serialize, R: DeserializeOwned>(
        &self,
        proc: rpc::Proc,
        args: &A,
    ) -> Result<(R, Bytes), ExtentError> {
        let inner = &self.inner;
        inner.call(&inner.queries, proc, args, Bytes::new(), inner.options.timeout).await
    }

    async fn change<A: Serialize, R: DeserializeOwned>(
        &self,
        proc: rpc::Proc,
        args: &A,
        payload: Bytes,
        started: Instant,
    ) -> Result<(R, Bytes), ExtentError> {
        let inner = &self.inner;
        let timeout = inner.options.timeout.saturating_sub(started.elapsed());
        inner.call(&inner.changes, proc, args, payload, timeout).await
    }
}

impl Inner {
    /// Calls until there is an answer that sending again could not better.
    async fn call<A: Serialize, R: DeserializeOwned>(
        &self,
        client: &Client,
        proc: rpc::Proc,
        args: &A,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<(R, Bytes), ExtentError> {
        let args: Bytes = rpc::codec::encode(args).into();
        let mut attempts = Attempts::new(Instant::now(), timeout);
        loop {
            let answer = client.call_raw(proc, args.clone(), payload.clone(), attempts.left()).await;
            let failed = match answer {
                Ok(Response { body, payload }) => match rpc::codec::decode::<Reply<R>>(&body) {
                    Ok(Ok(value)) => return Ok((value, payload)),
                    // That server is about to end; the next one may do better.
                    Ok(Err(e @ StoreError::Failed { .. })) => e.into(),
                    Ok(Err(e)) => return Err(e.into()),
                    Err(e) => return Err(self.broken(&e.to_string())),
                },
                Err(e) if is_transient(&e) => ExtentError::from_rpc(&self.addr, e, attempts.waited()),
                Err(e) => return Err(ExtentError::from_rpc(&self.addr, e, attempts.waited())),
            };
            attempts.again(&self.runtime, failed).await?;
        }
    }

    /// Cuts ranges into pieces, preferably between blocks.
    fn split(&self, ranges: &[(u64, u32)]) -> Vec<Piece> {
        let piece_max = self.options.piece.clamp(BLOCK_SIZE, DATA_MAX);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut start = 0;
        for &(mut offset, len) in ranges {
            let mut left = u64::from(len);
            while left > 0 {
                let full = pieces.last().is_none_or(|p| p.len >= piece_max || p.ranges.len() >= RANGES_MAX);
                if full {
                    pieces.push(Piece { start, ..Piece::default() });
                }
                let piece = pieces.last_mut().expect("one was just pushed if there was none");
                let room = piece_max - piece.len;
                let take = if left <= room { left } else { to_block_end(offset, room) };
                piece.ranges.push((offset, take as u32));
                piece.len += take;
                (offset, left, start) = (offset + take, left - take, start + take);
            }
        }
        pieces
    }

    fn broken(&self, what: &str) -> ExtentError {
        ExtentError::Protocol { addr: self.addr.clone(), what: what.to_string() }
    }
}

/// The most of `room` bytes from `offset` on that ends with a block, or all of it where no block ends in it.
fn to_block_end(offset: u64, room: u64) -> u64 {
    let end = (offset + room) / BLOCK_SIZE * BLOCK_SIZE;
    if end > offset { end - offset } else { room }
}

/// Whether ranges follow one another without overlapping, so that the order of writing them does not matter.
fn ascending(ranges: &[(u64, u32)]) -> bool {
    ranges.windows(2).all(|pair| pair[0].0 + u64::from(pair[0].1) <= pair[1].0)
}

fn is_transient(e: &RpcError) -> bool {
    matches!(e, RpcError::ServerRestarted { .. } | RpcError::Forgotten | RpcError::Overloaded)
}

/// Repetition with growing pauses until a deadline.
struct Attempts {
    started: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Attempts {
    fn new(started: Instant, timeout: Duration) -> Attempts {
        Attempts { started, timeout, pause: BACKOFF_MIN }
    }

    fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.waited())
    }

    /// Pauses before the next attempt; gives up with `failed` when there is no time for one.
    async fn again(&mut self, runtime: &Handle, failed: ExtentError) -> Result<(), ExtentError> {
        if self.left() <= self.pause {
            return Err(failed);
        }
        tracing::debug!("trying again: {failed}");
        let pause = {
            // A file system polls its operations on threads outside the runtime; timers need it.
            let _runtime = runtime.enter();
            tokio::time::sleep(self.pause)
        };
        pause.await;
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn inner(piece: u64) -> ExtentClient {
        let options = ExtentOptions { piece, ..ExtentOptions::default() };
        let client = || Client::new("127.0.0.1:1", options.rpc.clone());
        ExtentClient {
            inner: Arc::new(Inner {
                addr: "127.0.0.1:1".into(),
                queries: client(),
                changes: client(),
                commits: tokio::sync::Mutex::new(()),
                runtime: Handle::current(),
                options,
            }),
        }
    }

    proptest! {
        #[test]
        fn pieces_cover_the_ranges_in_order(
            ranges in proptest::collection::vec((0u64..1 << 30, 0u32..500_000), 0..12),
            piece in BLOCK_SIZE..300_000u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let pieces = runtime.block_on(async { inner(piece).await.inner.split(&ranges) });
            let bytes = |ranges: &[(u64, u32)]| -> Vec<(u64, u64)> {
                // Merged where one continues the other, so that cuts do not show.
                let mut merged: Vec<(u64, u64)> = Vec::new();
                for &(offset, len) in ranges.iter().filter(|(_, len)| *len > 0) {
                    match merged.last_mut() {
                        Some((from, n)) if *from + *n == offset => *n += u64::from(len),
                        _ => merged.push((offset, u64::from(len))),
                    }
                }
                merged
            };
            let all: Vec<(u64, u32)> = pieces.iter().flat_map(|p| p.ranges.clone()).collect();
            prop_assert_eq!(bytes(&all), bytes(&ranges));
            let mut start = 0;
            for p in &pieces {
                prop_assert_eq!(p.start, start);
                prop_assert!(p.len > 0 && p.len <= piece);
                prop_assert_eq!(p.len, p.ranges.iter().map(|(_, len)| u64::from(*len)).sum::<u64>());
                start += p.len;
            }
        }
    }

    #[test]
    fn cuts_fall_between_blocks() {
        assert_eq!(to_block_end(0, 100_000), 65_536);
        assert_eq!(to_block_end(1, 65_535), 65_535);
        assert_eq!(to_block_end(1, 10), 10);
    }
}
