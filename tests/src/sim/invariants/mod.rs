//! What must hold at every moment, whatever happens. One file each; the rules are those of Ongaro's dissertation (§3.6.3,
//! figure 3.2), those of the membership (§4), and the promises of the RSM library.
//!
//! An invariant is shown everything that happens, as it happens, and after every step all replicas.

mod acknowledged_stay;
mod committed_are_durable;
mod committed_stay;
mod equal_states;
mod exactly_once;
mod leader_completeness;
mod log_matching;
mod no_nonsense;
mod one_change_at_a_time;
mod one_master_per_view;
mod one_vote_per_view;
mod own_view_commits;
mod replies_in_order;
mod same_sequence;

use super::client::Acknowledged;
use super::disk::Disk;
use super::node::Node;
use super::services::{Content, mix};
use lock_rsm::consensus::{Core, Entry, Message, Payload, ReplicaId, SnapshotMeta, Viewstamp};
use lock_rsm::rsm::LogWrite;
use std::collections::BTreeMap;

/// All replicas, running or not, by identity.
pub type Nodes = BTreeMap<ReplicaId, Node>;

/// Something that happened.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A replica starts from its disk.
    Started(&'a Disk),
    /// A message leaves a replica.
    Sent(ReplicaId, &'a Message),
    /// A replica gave its disk a batch.
    Logged(&'a LogWrite),
    /// A replica takes these entries for committed and gives them to its program.
    Committed(&'a [Entry]),
    /// A replica's program took over the state after this entry from another replica.
    Restored(&'a SnapshotMeta, &'a Content),
    /// A replica's program applied an entry and holds this now.
    Applied(&'a Entry, &'a Content),
    /// A replica's program and reply table have this hash after the entry with this stamp.
    Hashed(Viewstamp, u64),
    /// A client got its answer.
    Acknowledged(&'a Acknowledged),
    /// All that comes of an event has happened.
    Step,
    /// The run is over and all replicas are even. What each holds.
    End(&'a Content),
}

/// Something that must hold.
pub trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// `seen` happened at replica `at` (for a client: at no replica, 0). `Err` says how the invariant is broken.
    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<one_vote_per_view::OneVotePerView>::default(),
        Box::<one_master_per_view::OneMasterPerView>::default(),
        Box::<one_change_at_a_time::OneChangeAtATime>::default(),
        Box::<own_view_commits::OwnViewCommits>::default(),
        Box::<committed_are_durable::CommittedAreDurable>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<leader_completeness::LeaderCompleteness>::default(),
        Box::<committed_stay::CommittedStay>::default(),
        Box::<same_sequence::SameSequence>::default(),
        Box::<equal_states::EqualStates>::default(),
        Box::<exactly_once::ExactlyOnce>::default(),
        Box::<acknowledged_stay::AcknowledgedStay>::default(),
        Box::<replies_in_order::RepliesInOrder>::default(),
        Box::<no_nonsense::NoNonsense>::default(),
    ]
}

/// The core of a running replica.
fn running(nodes: &Nodes, id: ReplicaId) -> Option<&Core> {
    nodes.get(&id)?.core()
}

/// Tells entries apart that have the same stamp.
fn fingerprint(entry: &Entry) -> u64 {
    let words =
        |bytes: &[u8]| bytes.iter().fold(bytes.len() as u64, |hash, byte| mix(hash, u64::from(*byte)));
    match &entry.payload {
        Payload::Noop => 1,
        Payload::Command(bytes) => mix(2, words(bytes)),
        Payload::Membership(membership) => mix(3, words(format!("{membership:?}").as_bytes())),
    }
}

/// Ends an observation unless the condition holds.
macro_rules! hold {
    ($holds:expr, $($broken:tt)+) => {
        if !$holds {
            return Err(format!($($broken)+));
        }
    };
}
use hold;
