//! The last resort of a group that has lost its majority for good: one survivor goes on alone.
//!
//! In a group of two of which one disk is lost, or of three of which two are, nobody may decide anything any more: the ones left
//! could not know that the others do not go on without them. An operator can know. Then one survivor, stopped, has it written
//! into its log that it is the only member and that all others have left for good. When it is started it leads by itself, and
//! fresh replicas join it as usual.
//!
//! What only the others had is lost: commands that were acknowledged by a majority without this replica. In a group of two there
//! is no such majority. Of several survivors the one whose log reaches furthest is to be taken ([`Survivor::last`]).

use super::store::{DiskStore, LogWrite, Recovered, Store, StoreError};
use super::types::procs;
use super::wire::IdentityReply;
use crate::consensus::{Entry, HardState, Member, Membership, Payload, Viewstamp};
use futures_util::future::join_all;
use rpc::{Client, ClientOptions};
use std::path::Path;
use std::time::Duration;

/// How long a member may take to show that it is alive.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The view of a group that was forced is a multiple of this: later than any that its lost members may have reached, which
/// clients may have heard of.
const VIEWS_SKIPPED: u64 = 1_000;

/// Why a replica does not go on alone.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] rpc::addr::AddrError),
    /// It was never part of a group.
    #[error("the data directory {0} is none of a replica that belongs to a group; is --data right?")]
    NoGroup(String),
    /// It was not among those that decide.
    #[error(
        "the replica of {dir} is not a voting member of its group, as far as it knows ({members}); take another survivor"
    )]
    NotAMember {
        /// The directory.
        dir: String,
        /// The members.
        members: String,
    },
    /// Another member lives.
    #[error(
        "{0} is a member of the group and alive; two of a group going on apart would both give out locks: stop it first (or, if the members that live are a majority, start this replica without --force-alone)"
    )]
    Alive(String),
}

/// A replica that may go on alone.
pub struct Survivor {
    store: DiskStore,
    me: Member,
    hard_state: HardState,
    last: Viewstamp,
    membership: Membership,
}

impl Survivor {
    /// Opens the data directory of the stopped replica at `address`, and makes sure that no other member answers.
    pub async fn find(dir: &Path, address: &str) -> Result<Survivor, AloneError> {
        let address = rpc::addr::parse(address)?;
        if !dir.is_dir() {
            return Err(AloneError::NoGroup(dir.display().to_string()));
        }
        let (store, recovered) = DiskStore::open(dir, &address)?;
        let survivor = Survivor::of(dir, store, recovered)?;
        match survivor.first_alive().await {
            Some(alive) => Err(AloneError::Alive(alive)),
            None => Ok(survivor),
        }
    }

    fn of(dir: &Path, store: DiskStore, recovered: Recovered) -> Result<Survivor, AloneError> {
        let Recovered { identity, founding, hard_state, snapshot, entries } = recovered;
        let founding = founding.ok_or_else(|| AloneError::NoGroup(dir.display().to_string()))?;
        let (base, before) = match snapshot {
            Some(snapshot) => (snapshot.meta.stamp, snapshot.meta.membership),
            None => (Viewstamp::ZERO, founding),
        };
        let last = entries.last().map_or(base, |entry| entry.stamp);
        let change = entries.into_iter().rev().find_map(|entry| match entry.payload {
            Payload::Membership(membership) => Some(membership),
            _ => None,
        });
        let membership = change.unwrap_or(before);
        let me = membership.get(identity.id).filter(|member| member.voter).cloned();
        let Some(me) = me else {
            let members = membership.voting_addresses().join(" ");
            return Err(AloneError::NotAMember { dir: dir.display().to_string(), members });
        };
        Ok(Survivor { store, me, hard_state, last, membership })
    }

    /// Where its log ends.
    pub fn last(&self) -> Viewstamp {
        self.last
    }

    /// The other members, as far as this replica knows.
    pub fn others(&self) -> Vec<String> {
        let others = self.membership.members.iter().filter(|member| member.id != self.me.id);
        others.map(|member| member.address.clone()).collect()
    }

    /// Whether others may have acknowledged what this replica does not have.
    pub fn may_lack(&self) -> bool {
        self.membership.voters().count() > 2
    }

    /// Makes it the only member. The others have left for good.
    pub fn go_on_alone(mut self) -> Result<(), AloneError> {
        let alone = self.alone();
        let view = (self.hard_state.view / VIEWS_SKIPPED + 1) * VIEWS_SKIPPED;
        let stamp = Viewstamp::new(view, self.last.seq + 1);
        let write = LogWrite {
            hard_state: Some(HardState { view, voted_for: Some(self.me.id) }),
            append: vec![Entry { stamp, payload: Payload::Membership(alone) }],
            ..LogWrite::default()
        };
        self.store.write(vec![write])?;
        Ok(self.store.settle()?)
    }

    fn alone(&self) -> Membership {
        let others: Vec<Member> =
            self.membership.members.iter().filter(|it| it.id != self.me.id).cloned().collect();
        others.iter().fold(self.membership.clone(), |membership, other| {
            membership.without(other.id).retiring(&other.address)
        })
    }

    /// A member that answers, under the identity it has in the group. Another replica at the address of a lost one is none.
    async fn first_alive(&self) -> Option<String> {
        let others = self.membership.members.iter().filter(|member| member.id != self.me.id);
        let questions = others.map(|member| async move {
            let options = ClientOptions { fail_fast: true, at_most_once: false, ..ClientOptions::default() };
            let client = Client::new(&member.address, options);
            let answer: Result<IdentityReply, _> = client.call(procs::IDENTITY, &(), ANSWER_WITHIN).await;
            answer.is_ok_and(|identity| identity.id == member.id).then(|| member.address.clone())
        });
        join_all(questions).await.into_iter().flatten().next()
    }
}
