//! The decoders of the RSM library, for fuzzers, and the replicated program on a bench.

use super::config;
use super::core::{Place, Retire, Retirement};
use super::service::Service;
use super::state::{Applied, Command, Machine, Outcome, ReplyLimits};
use super::test_port::{HistoryLine, HistoryPage};
use super::types::{ReplicaStatus, StateError, View};
use super::wire::{
    Envelope, IdentityReply, InvokeHead, InvokeReply, JoinReply, JoinRequest, MessageHead, RetireReply,
    RetireRequest,
};
use crate::consensus::{Entry, Payload, Viewstamp};
use crate::fuzzing::{members, messages, one};
use crate::locks::{LockService, LockServiceOptions};
use bytes::Bytes;
use parking_lot::Mutex;
use rpc::Register;
use rpc::fuzzing::{Decoder, coded};
use std::sync::Arc;

/// What travels between RSM clients and replicas, and between replicas; and what stands in the log.
pub const REPLICAS: &[Decoder] = &[
    Decoder { name: "invoke", rewrite: coded::<InvokeHead>, samples: invoke_heads },
    Decoder { name: "invoked", rewrite: coded::<InvokeReply>, samples: invoke_replies },
    Decoder { name: "envelope", rewrite: coded::<Envelope>, samples: envelopes },
    Decoder { name: "identity", rewrite: coded::<IdentityReply>, samples: identities },
    Decoder { name: "join", rewrite: coded::<JoinRequest>, samples: join_requests },
    Decoder { name: "joined", rewrite: coded::<JoinReply>, samples: join_replies },
    Decoder { name: "retire", rewrite: coded::<RetireRequest>, samples: retire_requests },
    Decoder { name: "retired", rewrite: coded::<RetireReply>, samples: retire_replies },
    Decoder { name: "status", rewrite: coded::<ReplicaStatus>, samples: statuses },
    Decoder { name: "view", rewrite: coded::<View>, samples: || one(&view()) },
    Decoder { name: "command", rewrite: rewrite_command, samples: || vec![command().encode().into()] },
    Decoder { name: "number", rewrite: coded::<u64>, samples: || one(&u64::MAX) },
    Decoder { name: "order", rewrite: coded::<u32>, samples: || one(&4u32) },
    Decoder { name: "ordered", rewrite: coded::<i32>, samples: || one(&-1i32) },
    Decoder { name: "history", rewrite: coded::<HistoryPage>, samples: histories },
];

/// Configuration files.
pub const TEXTS: &[Decoder] = &[Decoder { name: "config", rewrite: rewrite_config, samples: configs }];

/// The whole replicated state, without its seal: of a program whose state is anything, and of the lock service.
pub const SNAPSHOTS: &[Decoder] = &[
    Decoder {
        name: "replies",
        rewrite: |body| rewrite_snapshot(Arc::<Blob>::default(), body),
        samples: snapshots,
    },
    Decoder { name: "locks", rewrite: |body| rewrite_snapshot(lock_service(), body), samples: snapshots },
];

fn command() -> Command {
    Command { client: 3, request: 7, acked_upto: 5, proc: 0x7001, args: Bytes::from_static(b"arguments") }
}

fn rewrite_command(bytes: &[u8]) -> Option<Vec<u8>> {
    let again = Command::decode(&Bytes::copy_from_slice(bytes)).ok()?.encode();
    assert_eq!(again, bytes, "there is one form of each command");
    Some(again.into())
}

fn view() -> View {
    let members = vec!["127.0.0.1:7001".to_owned(), "127.0.0.1:7002".to_owned()];
    View { number: 300, master: members.first().cloned(), members }
}

fn invoke_heads() -> Vec<Vec<u8>> {
    one(&InvokeHead { client: 3, request: 7, acked_upto: 5, proc: 0x7001 })
}

fn invoke_replies() -> Vec<Vec<u8>> {
    let replies =
        [InvokeReply::Done, InvokeReply::Failed(-7), InvokeReply::NotMaster(view()), InvokeReply::Forgotten];
    replies.iter().map(rpc::codec::encode).collect()
}

fn envelopes() -> Vec<Vec<u8>> {
    let head = MessageHead { cluster: u64::MAX, from: 1, address: "127.0.0.1:7001".into(), to: 2 };
    messages().into_iter().map(|message| rpc::codec::encode(&(&head, message))).collect()
}

fn identities() -> Vec<Vec<u8>> {
    let configured = vec!["127.0.0.1:7001".to_owned(), "127.0.0.1:7002".to_owned()];
    one(&IdentityReply { id: 1 << 50, configured, formed: Some(members().members) })
}

fn join_requests() -> Vec<Vec<u8>> {
    one(&JoinRequest { cluster: u64::MAX, id: 1 << 50, address: "127.0.0.1:7003".into() })
}

fn join_replies() -> Vec<Vec<u8>> {
    let replies = [JoinReply::Noted(view().members), JoinReply::OtherGroup, JoinReply::Retired];
    replies.iter().map(rpc::codec::encode).collect()
}

fn retire_requests() -> Vec<Vec<u8>> {
    let order = Retire { old: "127.0.0.1:7001".into(), new: Some("127.0.0.1:7004".into()) };
    one(&RetireRequest { cluster: Some(u64::MAX), order })
}

fn retire_replies() -> Vec<Vec<u8>> {
    let new = Some(Place::Joining);
    let so_far = [
        Retirement::Unknown(view().members),
        Retirement::Last,
        Retirement::UnderWay { is_member: true, new },
        Retirement::Done(view().members),
    ];
    let replies = so_far.into_iter().map(RetireReply::Order);
    let replies = replies.chain([RetireReply::NotMaster(view()), RetireReply::OtherGroup]);
    replies.map(|reply| rpc::codec::encode(&reply)).collect()
}

fn statuses() -> Vec<Vec<u8>> {
    one(&ReplicaStatus {
        address: "127.0.0.1:7001".into(),
        pid: 4711,
        role: "master".into(),
        view: view(),
        viewstamp: Viewstamp::new(300, 1 << 33),
        applied: 1 << 33,
        committed: 1 << 33,
        state_hash: Some(u64::MAX),
    })
}

fn histories() -> Vec<Vec<u8>> {
    let line = |seq, members| HistoryLine { stamp: Viewstamp::new(300, seq), hash: u64::MAX, members };
    one(&HistoryPage { lines: vec![line(1 << 33, None), line((1 << 33) + 1, Some(view().members))] })
}

fn rewrite_config(bytes: &[u8]) -> Option<Vec<u8>> {
    let members = config::parse_text(std::str::from_utf8(bytes).ok()?, "config").ok()?;
    Some(members.join("\n").into_bytes())
}

fn configs() -> Vec<Vec<u8>> {
    vec![b"# three of us\n7001\n7002 # and\n\n[::1]:7003\n".to_vec()]
}

/// A program whose state is whatever it was given.
#[derive(Default)]
struct Blob(Mutex<Vec<u8>>);

impl Service for Blob {
    fn register(self: Arc<Self>, _: &mut dyn Register) {}
    fn marshal_state(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = bytes.to_vec();
        Ok(())
    }
}

fn lock_service() -> Arc<LockService> {
    LockService::new(LockServiceOptions::default())
}

/// Restores a snapshot with a right seal, and has the restored program go on.
fn rewrite_snapshot(service: Arc<dyn Service>, body: &[u8]) -> Option<Vec<u8>> {
    let mut bench = Bench::of(service);
    bench.restore(body).then(|| {
        let again = bench.state();
        for client in 0..4 {
            bench.apply(client, u64::MAX / 2 + client, 0, Bytes::new());
            bench.apply(client, 1, 0, Bytes::new());
        }
        again
    })
}

fn snapshots() -> Vec<Vec<u8>> {
    let mut bench = Bench::new();
    let empty = bench.state();
    for client in 1..=3 {
        bench.register();
        bench.apply(client, 1, 0x7003, rpc::codec::encode(&1u64).into());
        bench.apply(client, 3, 0x6666, Bytes::new());
    }
    vec![empty, bench.state()]
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The handler's reply.
    Reply(Bytes),
    /// The handler's status.
    Failed(i32),
    /// It may have been executed before.
    Forgotten,
}

/// A replicated program without replicas: what entries of the log do to it.
pub struct Bench(Machine);

impl Default for Bench {
    fn default() -> Self {
        Bench::new()
    }
}

impl Bench {
    /// The lock service in its first state.
    pub fn new() -> Bench {
        Bench::of(lock_service())
    }

    fn of(service: Arc<dyn Service>) -> Bench {
        Bench(Machine::new(service, ReplyLimits::default()))
    }

    /// Has the log number a client.
    pub fn register(&mut self) -> Done {
        self.apply(0, 0, super::state::REGISTER_CLIENT, Bytes::new())
    }

    /// Applies a request as the next entry.
    pub fn apply(&mut self, client: u64, request: u64, proc: u32, args: Bytes) -> Done {
        self.apply_bytes(
            Command { client, request, acked_upto: request.saturating_sub(3), proc, args }.encode(),
        )
    }

    /// Applies bytes as the next entry, whatever they say.
    pub fn apply_bytes(&mut self, command: Bytes) -> Done {
        let Viewstamp { view, seq } = self.0.applied();
        let entry = Entry { stamp: Viewstamp::new(view, seq + 1), payload: Payload::Command(command) };
        match self.0.apply(&entry).expect("a command has an outcome") {
            Applied::Executed(Outcome::Done(reply)) => Done::Reply(reply),
            Applied::Executed(Outcome::Failed(status)) => Done::Failed(status),
            Applied::Forgotten => Done::Forgotten,
        }
    }

    /// Another replica that took over the state of this one, unless it was refused.
    pub fn copy(&self) -> Option<Bench> {
        let mut copy = Bench::new();
        copy.0.restore(self.0.marshal(), self.0.applied()).ok().map(|()| copy)
    }

    /// The whole state, without its seal.
    pub fn state(&self) -> Vec<u8> {
        let sealed = self.0.marshal();
        rpc::record::open(&sealed).expect("it was just sealed").1.to_vec()
    }

    /// Takes over a whole state; false when it is refused.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        let stamp = self.0.applied();
        self.0.restore(rpc::record::seal(1, state).into(), stamp).is_ok()
    }
}
