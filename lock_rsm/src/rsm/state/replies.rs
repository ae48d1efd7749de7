//! The reply table: which requests were executed, and what they answered.
//!
//! It is part of the replicated state, so a request retried at a new master meets the old answer instead of running
//! twice. It is bounded in three ways, each decided by log order alone, so all replicas forget the same things:
//! a client's answers are dropped once it acknowledged them; a client that never acknowledges keeps a window of the
//! newest answers; and of all clients the least recently active is forgotten. A retry of something forgotten is
//! answered [`Verdict::Forgotten`], never executed again: client numbers are given out by the log itself, so a number
//! below the next one that is not in the table must have been forgotten.

#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// What executing a request gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler's reply.
    Done(Bytes),
    /// The handler's status.
    Failed(i32),
}

impl Outcome {
    fn size(&self) -> usize {
        match self {
            Outcome::Done(bytes) => bytes.len(),
            Outcome::Failed(_) => 0,
        }
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Execute it.
    New,
    /// It ran already; this is its answer.
    Answered(Outcome),
    /// It may have run, and the answer is gone: refuse it.
    Forgotten,
}

/// Bounds of the reply table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Clients remembered.
    pub clients_max: usize,
    /// Answers kept for one client.
    pub replies_max: usize,
    /// Bytes of answers kept for one client; the newest is kept whatever its size.
    pub bytes_max: usize,
    /// Bytes of answers kept for all clients together; beyond it, whole clients are forgotten.
    pub total_bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        ReplyLimits {
            clients_max: 64 * 1024,
            replies_max: 1024,
            bytes_max: 1 << 20,
            total_bytes_max: 32 << 20,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ClientReplies {
    /// Requests up to here are acknowledged or dropped from the window; their answers are gone.
    forgotten_upto: u64,
    answers: BTreeMap<u64, Outcome>,
    bytes: usize,
    /// When it was last active, on the table's own clock of recorded requests.
    used: u64,
}

impl ClientReplies {
    fn forget_upto(&mut self, request: u64) {
        if request <= self.forgotten_upto {
            return;
        }
        self.forgotten_upto = request;
        // After the last number there is there is no other.
        let kept = request.checked_add(1).map(|next| self.answers.split_off(&next)).unwrap_or_default();
        let dropped = std::mem::replace(&mut self.answers, kept);
        self.bytes -= dropped.values().map(Outcome::size).sum::<usize>();
    }

    fn shrink(&mut self, limits: &ReplyLimits) {
        while self.answers.len() > limits.replies_max
            || (self.bytes > limits.bytes_max && self.answers.len() > 1)
        {
            let oldest = *self.answers.keys().next().expect("a table over its bound is not empty");
            self.forget_upto(oldest);
        }
    }
}

/// What is counted one by one never comes so far.
const COUNTED_MAX: u64 = 1 << 62;

/// Kinds of an encoded outcome.
const DONE: u8 = 0;
const FAILED: u8 = 1;

impl ClientReplies {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.forgotten_upto);
        out.put_u64_le(self.used);
        let answers = &self.answers;
        #[cfg(feature = "planted")]
        let nothing = BTreeMap::new();
        #[cfg(feature = "planted")]
        let answers = if planted::has(Bug::ForgetReplyTable) { &nothing } else { answers };
        out.put_u64_le(answers.len() as u64);
        for (request, outcome) in answers {
            out.put_u64_le(*request);
            match outcome {
                Outcome::Done(bytes) => {
                    out.put_u8(DONE);
                    out.put_u64_le(bytes.len() as u64);
                    out.put_slice(bytes);
                }
                Outcome::Failed(status) => {
                    out.put_u8(FAILED);
                    out.put_i32_le(*status);
                }
            }
        }
    }

    fn decode(bytes: &mut Bytes) -> Option<ClientReplies> {
        let forgotten_upto = bytes.try_get_u64_le().ok()?;
        let used = bytes.try_get_u64_le().ok()?;
        let mut known = ClientReplies { forgotten_upto, used, ..ClientReplies::default() };
        for _ in 0..bytes.try_get_u64_le().ok()? {
            let request = bytes.try_get_u64_le().ok()?;
            let last = known.answers.last_key_value().map_or(forgotten_upto, |(last, _)| *last);
            if request <= last {
                return None;
            }
            let outcome = match bytes.try_get_u8().ok()? {
                DONE => {
                    let len = usize::try_from(bytes.try_get_u64_le().ok()?).ok()?;
                    // Copied, so that one answer does not keep a whole snapshot in memory.
                    (len <= bytes.len())
                        .then(|| Outcome::Done(Bytes::copy_from_slice(&bytes.split_to(len))))?
                }
                FAILED => Outcome::Failed(bytes.try_get_i32_le().ok()?),
                _ => return None,
            };
            known.bytes += outcome.size();
            known.answers.insert(request, outcome);
        }
        Some(known)
    }
}

/// The table. See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTable {
    limits: ReplyLimits,
    next_client: u64,
    clock: u64,
    clients: BTreeMap<u64, ClientReplies>,
    /// `used` of every client, to find the least recently active one.
    by_use: BTreeMap<u64, u64>,
    /// Bytes of all answers.
    bytes: usize,
}

impl ReplyTable {
    /// An empty table. All replicas of a group must use the same limits.
    pub fn new(limits: ReplyLimits) -> ReplyTable {
        ReplyTable {
            limits,
            next_client: 1,
            clock: 0,
            clients: BTreeMap::new(),
            by_use: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Numbers a new client, forgetting the least recently active one when there are too many.
    pub fn register(&mut self) -> u64 {
        let client = self.next_client;
        self.next_client += 1;
        self.clients.insert(client, ClientReplies::default());
        self.touch(client);
        while self.clients.len() > self.limits.clients_max {
            self.forget_idlest();
        }
        client
    }

    fn forget_idlest(&mut self) {
        let (_, idle) = self.by_use.pop_first().expect("every client is listed by its use");
        let gone = self.clients.remove(&idle).expect("only known clients are listed");
        self.bytes -= gone.bytes;
    }

    /// What to do with this request of this client.
    pub fn check(&self, client: u64, request: u64) -> Verdict {
        let Some(known) = self.clients.get(&client) else {
            return Verdict::Forgotten;
        };
        match known.answers.get(&request) {
            Some(outcome) => Verdict::Answered(outcome.clone()),
            None if request <= known.forgotten_upto => Verdict::Forgotten,
            None => Verdict::New,
        }
    }

    /// Drops the answers the client has acknowledged and marks it as active.
    pub fn acknowledge(&mut self, client: u64, upto: u64) {
        if let Some(known) = self.clients.get_mut(&client) {
            let before = known.bytes;
            known.forget_upto(upto);
            self.bytes -= before - known.bytes;
            self.touch(client);
        }
    }

    /// Keeps the outcome of a request that [`check`](Self::check) called new.
    pub fn record(&mut self, client: u64, request: u64, outcome: Outcome) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        let before = known.bytes;
        known.bytes += outcome.size();
        let double = known.answers.insert(request, outcome);
        assert!(double.is_none(), "request {request} of client {client} was executed twice");
        known.shrink(&self.limits);
        self.bytes = self.bytes - before + known.bytes;
        while self.bytes > self.limits.total_bytes_max && self.clients.len() > 1 {
            self.forget_idlest();
        }
    }

    fn touch(&mut self, client: u64) {
        self.clock += 1;
        let known = self.clients.get_mut(&client).expect("only known clients are touched");
        self.by_use.remove(&known.used);
        known.used = self.clock;
        self.by_use.insert(self.clock, client);
    }

    /// Appends the table to a snapshot. Equal tables give equal bytes.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.next_client);
        out.put_u64_le(self.clock);
        out.put_u64_le(self.clients.len() as u64);
        for (client, known) in &self.clients {
            out.put_u64_le(*client);
            known.encode(out);
        }
    }

    /// Reads a table from the front of `bytes`; `None` if there is none. What no table can hold is refused, so that
    /// whatever was read can be worked with.
    pub(super) fn decode(limits: ReplyLimits, bytes: &mut Bytes) -> Option<ReplyTable> {
        let mut table = ReplyTable::new(limits);
        table.next_client = bytes.try_get_u64_le().ok()?;
        table.clock = bytes.try_get_u64_le().ok()?;
        if table.next_client == 0 || table.next_client > COUNTED_MAX || table.clock > COUNTED_MAX {
            return None;
        }
        for _ in 0..bytes.try_get_u64_le().ok()? {
            let client = bytes.try_get_u64_le().ok()?;
            let known = ClientReplies::decode(bytes)?;
            let last = table.clients.last_key_value().map_or(0, |(last, _)| *last);
            if client <= last || client >= table.next_client || known.used > table.clock {
                return None;
            }
            table.bytes += known.bytes;
            table.by_use.insert(known.used, client);
            table.clients.insert(client, known);
        }
        (table.by_use.len() == table.clients.len()).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(clients_max: usize, replies_max: usize) -> ReplyTable {
        ReplyTable::new(ReplyLimits { clients_max, replies_max, bytes_max: 64, total_bytes_max: 300 })
    }

    fn done(text: &'static str) -> Outcome {
        Outcome::Done(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_retry_meets_the_old_answer() {
        let mut table = table(4, 4);
        let client = table.register();
        assert_eq!(table.check(client, 1), Verdict::New);
        table.record(client, 1, done("one"));
        assert_eq!(table.check(client, 1), Verdict::Answered(done("one")));
        table.record(client, 2, Outcome::Failed(7));
        assert_eq!(table.check(client, 2), Verdict::Answered(Outcome::Failed(7)));
    }

    #[test]
    fn acknowledged_answers_go_and_are_never_executed_again() {
        let mut table = table(4, 4);
        let client = table.register();
        table.record(client, 1, done("one"));
        table.record(client, 3, done("three"));
        table.acknowledge(client, 1);
        assert_eq!(table.check(client, 1), Verdict::Forgotten);
        assert_eq!(table.check(client, 2), Verdict::New, "requests may overtake each other");
        assert_eq!(table.check(client, 3), Verdict::Answered(done("three")));
    }

    #[test]
    fn the_window_is_bounded_in_number_and_bytes() {
        let mut table = table(4, 3);
        let client = table.register();
        for request in 1..=10 {
            table.record(client, request, Outcome::Failed(0));
        }
        assert_eq!(table.check(client, 7), Verdict::Forgotten);
        assert_eq!(table.check(client, 8), Verdict::Answered(Outcome::Failed(0)));

        let big = Outcome::Done(Bytes::from(vec![0; 100]));
        table.record(client, 11, big.clone());
        assert_eq!(table.check(client, 10), Verdict::Forgotten);
        assert_eq!(
            table.check(client, 11),
            Verdict::Answered(big),
            "the newest answer stays whatever its size"
        );
    }

    #[test]
    fn the_least_recently_active_client_is_forgotten() {
        let mut table = table(2, 4);
        let (a, b) = (table.register(), table.register());
        table.record(a, 1, done("a"));
        table.acknowledge(a, 0);
        let c = table.register();
        assert_eq!(table.clients.len(), 2);
        assert_eq!(table.check(b, 1), Verdict::Forgotten);
        assert_eq!(table.check(a, 1), Verdict::Answered(done("a")));
        assert_eq!(table.check(c, 1), Verdict::New);
        table.acknowledge(b, 5);
        table.record(b, 6, done("late"));
        assert_eq!(table.check(b, 6), Verdict::Forgotten, "a forgotten client does not come back");
    }

    #[test]
    fn numbers_nobody_was_given_are_refused() {
        assert_eq!(table(2, 2).check(99, 1), Verdict::Forgotten);
    }

    /// Found by fuzzing: the table said that a request was forgotten and kept its answer.
    #[test]
    fn the_last_number_there_is_is_acknowledged_like_others() {
        let mut table = table(4, 4);
        let client = table.register();
        table.record(client, u64::MAX, done("last"));
        table.acknowledge(client, u64::MAX);
        assert_eq!(table.check(client, u64::MAX), Verdict::Forgotten);
        assert_eq!(table.bytes, 0);
    }

    /// Found by fuzzing: such tables were read, and counted their bytes wrong or panicked when they were used.
    #[test]
    fn what_no_table_can_hold_is_refused() {
        let decode = |numbers: &[u64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            ReplyTable::decode(ReplyLimits::default(), &mut bytes.into())
        };
        // next client, clock, count of clients; for each its number, forgotten, used, count of answers.
        assert!(decode(&[3, 9, 2, 1, 0, 7, 0, 2, 0, 8, 0]).is_some());
        assert_eq!(decode(&[3, 9, 2, 1, 0, 7, 0, 1, 0, 8, 0]), None, "a client twice");
        assert_eq!(decode(&[3, 9, 2, 1, 0, 7, 0, 2, 0, 7, 0]), None, "two used at once");
        assert_eq!(decode(&[2, 9, 2, 1, 0, 7, 0, 2, 0, 8, 0]), None, "a client not numbered yet");
        assert_eq!(decode(&[3, 7, 2, 1, 0, 7, 0, 2, 0, 8, 0]), None, "used in the future");
        assert_eq!(decode(&[u64::MAX, 9, 0]), None, "no number left");
        assert_eq!(decode(&[3, u64::MAX, 0]), None, "no time left");
        let answers = |first: u64, second: u64| {
            let head: Vec<u8> = [3, 9, 1, 1, 5, 7, 2].iter().flat_map(|n: &u64| n.to_le_bytes()).collect();
            let answer = |request: u64| [&request.to_le_bytes()[..], &[FAILED, 0, 0, 0, 0]].concat();
            let bytes = [head, answer(first), answer(second)].concat();
            ReplyTable::decode(ReplyLimits::default(), &mut bytes.into()).is_some()
        };
        assert!(answers(6, 7));
        assert!(!answers(6, 6), "an answer twice");
        assert!(!answers(5, 7), "an answer that is forgotten");
    }

    #[test]
    fn all_answers_together_are_bounded() {
        let mut table =
            ReplyTable::new(ReplyLimits { bytes_max: 100, total_bytes_max: 250, ..ReplyLimits::default() });
        let clients: Vec<u64> = (0..4).map(|_| table.register()).collect();
        for client in &clients {
            table.acknowledge(*client, 0);
            table.record(*client, 1, Outcome::Done(Bytes::from(vec![7; 80])));
        }
        assert_eq!(table.check(clients[0], 1), Verdict::Forgotten);
        assert!(matches!(table.check(clients[3], 1), Verdict::Answered(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_panic(bytes: Vec<u8>) {
            let _ = ReplyTable::decode(ReplyLimits::default(), &mut bytes.into());
        }

        /// Whatever is asked in whatever order, nothing is executed twice, the bounds hold, and a table restored from
        /// what was saved goes on exactly as the original.
        #[test]
        fn nothing_runs_twice(steps in prop::collection::vec((0..4u64, 1..20u64, 0..20u64, any::<bool>()), 1..300)) {
            let mut table = table(3, 4);
            let mut executed = std::collections::BTreeSet::new();
            for (client, request, acked, fresh) in steps {
                if fresh && client == 0 {
                    table.register();
                    let mut bytes = BytesMut::new();
                    table.encode(&mut bytes);
                    let restored = ReplyTable::decode(table.limits, &mut bytes.freeze()).expect("just encoded");
                    prop_assert_eq!(&restored, &table);
                    table = restored;
                    continue;
                }
                table.acknowledge(client, acked);
                if table.check(client, request) == Verdict::New {
                    prop_assert!(executed.insert((client, request)));
                    table.record(client, request, Outcome::Failed(1));
                    prop_assert_ne!(table.check(client, request), Verdict::New);
                }
                prop_assert!(table.clients.len() <= 3);
                prop_assert!(table.clients.values().all(|c| c.answers.len() <= 4));
                prop_assert_eq!(table.by_use.len(), table.clients.len());
            }
        }
    }
}
