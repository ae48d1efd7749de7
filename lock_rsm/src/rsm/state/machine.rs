//! The replicated program: applies the log in order and answers each request once.

use super::command::Command;
use super::hash::state_hash;
use super::replies::{Outcome, ReplyLimits, ReplyTable, Verdict};
use crate::consensus::{Entry, Payload, Viewstamp};
use crate::rsm::service::Service;
use crate::rsm::types::StateError;
use bytes::{BufMut, Bytes, BytesMut};
use rpc::{CallInfo, Handler, Proc, Register, Status};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const SNAPSHOT_VERSION: u8 = 1;

/// The procedure by which the log numbers a new client; the reply is the number.
pub const REGISTER_CLIENT: Proc = 0x9010;

/// What a logged request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was executed, now or before.
    Executed(Outcome),
    /// It may have been executed before, and its answer is gone.
    Forgotten,
}

/// A service, the reply table, and how far the log has been applied to them.
pub struct Machine {
    service: Arc<dyn Service>,
    handlers: Handlers,
    limits: ReplyLimits,
    replies: ReplyTable,
    applied: Viewstamp,
}

#[derive(Default)]
struct Handlers(BTreeMap<Proc, Arc<dyn Handler>>);

impl Register for Handlers {
    fn register(&mut self, proc: Proc, handler: Arc<dyn Handler>) {
        assert_ne!(proc, REGISTER_CLIENT, "procedure {proc:#x} belongs to the RSM library");
        let before = self.0.insert(proc, handler);
        assert!(before.is_none(), "procedure {proc:#x} is registered twice");
    }
}

impl Machine {
    /// The program before the first entry: `service` as it is, and nobody has asked anything.
    pub fn new(service: Arc<dyn Service>, limits: ReplyLimits) -> Machine {
        let mut handlers = Handlers::default();
        Arc::clone(&service).register(&mut handlers);
        Machine { service, handlers, limits, replies: ReplyTable::new(limits), applied: Viewstamp::ZERO }
    }

    /// The last entry applied.
    pub fn applied(&self) -> Viewstamp {
        self.applied
    }

    /// Applies the next entry; the answer is for whoever asked, if the entry is a request.
    pub fn apply(&mut self, entry: &Entry) -> Option<Applied> {
        assert_eq!(entry.stamp.seq, self.applied.seq + 1, "entries are applied in order, each once");
        self.applied = entry.stamp;
        match &entry.payload {
            Payload::Noop | Payload::Membership(_) => None,
            Payload::Command(bytes) => Some(match Command::decode(bytes) {
                Ok(command) => self.execute(&command),
                Err(_) => Applied::Executed(Outcome::Failed(Status::BAD_ARGS.0)),
            }),
        }
    }

    fn execute(&mut self, command: &Command) -> Applied {
        if command.client == 0 {
            return Applied::Executed(self.run(command));
        }
        self.replies.acknowledge(command.client, command.acked_upto);
        match self.replies.check(command.client, command.request) {
            Verdict::Answered(outcome) => Applied::Executed(outcome),
            Verdict::Forgotten => Applied::Forgotten,
            Verdict::New => {
                let outcome = self.run(command);
                self.replies.record(command.client, command.request, outcome.clone());
                Applied::Executed(outcome)
            }
        }
    }

    fn run(&mut self, command: &Command) -> Outcome {
        if command.proc == REGISTER_CLIENT {
            return Outcome::Done(rpc::codec::encode(&self.replies.register()).into());
        }
        let Some(handler) = self.handlers.0.get(&command.proc) else {
            return Outcome::Failed(Status::NO_SUCH_PROC.0);
        };
        let info = CallInfo { client: command.client, order: (self.applied.view, self.applied.seq) };
        // A handler that panics does so on every replica alike; one bad request must not stop all of them.
        match catch_unwind(AssertUnwindSafe(|| handler.call(&info, &command.args))) {
            Ok(Ok(reply)) => Outcome::Done(reply.into()),
            Ok(Err(status)) => Outcome::Failed(status.0),
            Err(_) => Outcome::Failed(Status::FAULT.0),
        }
    }

    /// The whole state as a sealed record: reply table, then service. Equal on all replicas that applied the same entries.
    pub fn marshal(&self) -> Bytes {
        let mut body = BytesMut::new();
        self.replies.encode(&mut body);
        body.put_slice(&self.service.marshal_state());
        rpc::record::seal(SNAPSHOT_VERSION, &body).into()
    }

    /// Whether these bytes are as some replica marshalled them.
    pub fn is_sound(state: &[u8]) -> bool {
        rpc::record::open(state).is_ok()
    }

    /// Takes over the state that a replica marshalled after it had applied the entry at `stamp`.
    pub fn restore(&mut self, state: Bytes, stamp: Viewstamp) -> Result<(), StateError> {
        let (version, body) = rpc::record::open(&state).map_err(|error| StateError(error.to_string()))?;
        if version != SNAPSHOT_VERSION {
            return Err(StateError(format!("snapshot version {version} is unknown")));
        }
        let mut body = state.slice_ref(body);
        let replies = ReplyTable::decode(self.limits, &mut body)
            .ok_or_else(|| StateError("its reply table is broken".into()))?;
        self.service.unmarshal_state(&body)?;
        self.replies = replies;
        self.applied = stamp;
        Ok(())
    }

    /// Hash of the whole state, to compare replicas at equal viewstamps.
    pub fn hash(&self) -> u64 {
        state_hash(&self.marshal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Adds what it is given and returns the sum.
    #[derive(Default)]
    struct Adder(Mutex<u64>);

    impl Service for Adder {
        fn register(self: Arc<Self>, to: &mut dyn Register) {
            let adder = Arc::clone(&self);
            to.register(
                1,
                rpc::typed(move |_: &CallInfo, by: u64| {
                    let mut sum = adder.0.lock();
                    *sum += by;
                    Ok(*sum)
                }),
            );
            to.register(2, rpc::typed(|info: &CallInfo, (): ()| Ok((info.client, info.order))));
            to.register(
                3,
                rpc::typed(|_: &CallInfo, (): ()| -> Result<(), Status> { panic!("bad request") }),
            );
            to.register(4, rpc::typed(|_: &CallInfo, (): ()| -> Result<(), Status> { Err(Status(17)) }));
        }
        fn marshal_state(&self) -> Vec<u8> {
            self.0.lock().to_le_bytes().to_vec()
        }
        fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
            let bytes = bytes.try_into().map_err(|_| StateError("not eight bytes".into()))?;
            *self.0.lock() = u64::from_le_bytes(bytes);
            Ok(())
        }
    }

    fn machine() -> Machine {
        Machine::new(Arc::new(Adder::default()), ReplyLimits::default())
    }

    fn entry(seq: u64, client: u64, request: u64, proc: Proc, args: Vec<u8>) -> Entry {
        let command = Command { client, request, acked_upto: 0, proc, args: args.into() };
        Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Command(command.encode()) }
    }

    fn done<T: serde::Serialize>(value: &T) -> Option<Applied> {
        Some(Applied::Executed(Outcome::Done(rpc::codec::encode(value).into())))
    }

    fn failed(status: i32) -> Option<Applied> {
        Some(Applied::Executed(Outcome::Failed(status)))
    }

    #[test]
    fn a_logged_retry_is_answered_and_not_executed() {
        let mut machine = machine();
        let five = rpc::codec::encode(&5u64);
        assert_eq!(machine.apply(&entry(1, 0, 0, REGISTER_CLIENT, vec![])), done(&1u64));
        assert_eq!(machine.apply(&entry(2, 1, 1, 1, five.clone())), done(&5u64));
        assert_eq!(machine.apply(&entry(3, 1, 1, 1, five.clone())), done(&5u64));
        assert_eq!(machine.apply(&entry(4, 1, 2, 1, five.clone())), done(&10u64));
        assert_eq!(machine.apply(&entry(5, 9, 1, 1, five)), Some(Applied::Forgotten));
    }

    #[test]
    fn handlers_learn_who_asked_and_where_in_the_order() {
        let mut machine = machine();
        machine.apply(&entry(1, 0, 0, REGISTER_CLIENT, vec![]));
        assert_eq!(machine.apply(&entry(2, 1, 1, 2, vec![])), done(&(1u64, (1u64, 2u64))));
    }

    #[test]
    fn bad_requests_get_a_status_and_harm_nothing() {
        let mut machine = machine();
        assert_eq!(machine.apply(&entry(1, 0, 0, 99, vec![])), failed(Status::NO_SUCH_PROC.0));
        assert_eq!(machine.apply(&entry(2, 0, 0, 1, vec![])), failed(Status::BAD_ARGS.0));
        assert_eq!(machine.apply(&entry(3, 0, 0, 3, vec![])), failed(Status::FAULT.0));
        assert_eq!(machine.apply(&entry(4, 0, 0, 4, vec![])), failed(17));
        let garbage =
            Entry { stamp: Viewstamp::new(1, 5), payload: Payload::Command(Bytes::from_static(b"??")) };
        assert_eq!(machine.apply(&garbage), failed(Status::BAD_ARGS.0));
        assert_eq!(machine.apply(&entry(6, 0, 0, 1, rpc::codec::encode(&2u64))), done(&2u64));
    }

    #[test]
    fn a_restored_replica_goes_on_as_the_original() {
        let mut original = machine();
        original.apply(&entry(1, 0, 0, REGISTER_CLIENT, vec![]));
        original.apply(&entry(2, 1, 1, 1, rpc::codec::encode(&5u64)));
        let mut copy = machine();
        copy.restore(original.marshal(), original.applied()).unwrap();
        assert_eq!(copy.hash(), original.hash());
        let retry = entry(3, 1, 1, 1, rpc::codec::encode(&5u64));
        assert_eq!(copy.apply(&retry), original.apply(&retry));
        assert_eq!(copy.hash(), original.hash());
        assert!(copy.restore(Bytes::from_static(&[1, 2, 3]), Viewstamp::ZERO).is_err());
        assert!(copy.restore(Bytes::new(), Viewstamp::ZERO).is_err());
        assert!(copy.restore(rpc::record::seal(9, b"").into(), Viewstamp::ZERO).is_err());
        assert!(copy.restore(rpc::record::seal(SNAPSHOT_VERSION, b"").into(), Viewstamp::ZERO).is_err());
    }
}
