//! What travels between RSM clients and replicas, and between replicas while they form a group.

use super::core::{Retire, Retirement};
use super::types::View;
use crate::consensus::{Member, Message, ReplicaId};
use serde::{Deserialize, Serialize};

/// The head of an INVOKE; the arguments of the procedure travel beside it as payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvokeHead {
    /// The RSM client; 0 to be numbered.
    pub client: u64,
    /// Its number for this request, the same in every retry.
    pub request: u64,
    /// It has the answers to all its requests up to here.
    pub acked_upto: u64,
    /// The replicated procedure.
    pub proc: u32,
}

/// The answer to an INVOKE; the reply of the procedure travels beside it as payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InvokeReply {
    /// Executed; the payload is the handler's reply.
    Done,
    /// Executed; the handler's status, or a negative one of the RPC layer.
    Failed(i32),
    /// Not executed here: ask the master of this view. The request may have been executed by an earlier attempt.
    NotMaster(View),
    /// Not executed: too much is waiting. Try again later.
    Busy,
    /// It may have been executed, and the answer is gone.
    Forgotten,
}

/// The head of a MESSAGE between replicas. Whoever is not meant drops it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageHead {
    /// The group, so that leftovers of another group on the same ports do no harm.
    pub cluster: u64,
    /// The sender.
    pub from: ReplicaId,
    /// Where it listens: a replica that was away may not know the master it is to answer.
    pub address: String,
    /// The replica meant; not whoever else has its address by now.
    pub to: ReplicaId,
}

/// The arguments of JOIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    /// The group.
    pub cluster: u64,
    /// Who asks.
    pub id: ReplicaId,
    /// Where it listens.
    pub address: String,
}

/// The answer to JOIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinReply {
    /// If this replica is the master it will see to it. These are the members it knows, of whom one may be the master.
    Noted(Vec<String>),
    /// This replica belongs to another group.
    OtherGroup,
    /// Whoever asks has left the group for good.
    Retired,
}

/// The arguments of RETIRE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetireRequest {
    /// The group, if whoever asks knows it.
    pub cluster: Option<u64>,
    /// Who is to go, and who takes its place.
    pub order: Retire,
}

/// The answer to RETIRE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RetireReply {
    /// This replica sees to it, and is so far.
    Order(Retirement),
    /// This replica is not the master of the view it knows.
    NotMaster(View),
    /// This replica belongs to another group.
    OtherGroup,
}

/// A MESSAGE as it travels.
pub(crate) type Envelope = (MessageHead, Message);

/// The answer to IDENTITY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityReply {
    /// Who answers.
    pub id: ReplicaId,
    /// The members it was configured with.
    pub configured: Vec<String>,
    /// The members of the group it belongs to, once it does.
    pub formed: Option<Vec<Member>>,
}
