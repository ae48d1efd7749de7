//! The messages between replicas: every one of them, with its source, target and meaning.

use super::types::{COUNTED_MAX, Entry, Payload, SnapshotMeta, Viewstamp};
use super::wire_bytes;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A message between two replicas. One-way: it may be lost, repeated, delayed and overtaken, and nobody waits
/// for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's view number when it sent this. Whoever is behind catches up, except on the strength of a
    /// [`Body::PreVote`], which must disturb nobody.
    pub view: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Pre-candidate to every voter: would you vote for me in the view after mine (§9.6)? Promises nothing.
    PreVote {
        /// The last entry of the asker's log.
        last: Viewstamp,
    },
    /// Answer to [`Body::PreVote`], from anybody to the pre-candidate. Promises nothing.
    PreVoteReply {
        /// The view in which the pre-candidate would campaign.
        campaign_view: u64,
        /// Whether the asker's log is good enough and no master is alive as far as this replica knows.
        granted: bool,
    },
    /// Candidate to every voter: vote for me in this view (§3.4). Sent once the candidate's own vote is on
    /// disk.
    RequestVote {
        /// The last entry of the candidate's log, on its disk.
        last: Viewstamp,
        /// The master itself asked for this election, so hearing from the master is no reason to ignore it
        /// (§4.2.3).
        hand_over: bool,
    },
    /// Answer to [`Body::RequestVote`], from anybody to the candidate. Sent once the vote is on disk.
    Vote {
        /// Whether the vote of this view is the candidate's.
        granted: bool,
    },
    /// Master to each member: entries of the log (§3.5). Without entries it asks whether `previous` is there.
    Append {
        /// The stamp of the entry before `entries`.
        previous: Viewstamp,
        /// Consecutive entries.
        entries: Vec<Entry>,
        /// The master's commit position.
        committed: u64,
    },
    /// Slave to master: my log agrees with yours up to here. Sent once that much is on disk.
    Appended {
        /// Seq of the last entry that is known to agree.
        matched: u64,
    },
    /// Slave to master: I do not have `previous`, start earlier (§3.5).
    AppendRefused {
        /// The `previous` of the refused `Append`.
        previous: Viewstamp,
        /// The slave's last entry that may agree: at most `previous.seq`, and of a view no later than
        /// `previous.view`.
        hint: Viewstamp,
    },
    /// Master to each member, every heartbeat interval and for each batch of reads: I am the master of this
    /// view.
    Heartbeat {
        /// What this member has on disk for certain and is committed.
        committed: u64,
        /// The latest batch of reads; answering confirms all up to it (§6.4).
        round: u64,
        /// The master's clock when it sent this, milliseconds.
        sent_ms: u64,
    },
    /// Answer to [`Body::Heartbeat`], at once: you are my master as far as I know.
    HeartbeatReply {
        /// As in the heartbeat.
        round: u64,
        /// As in the heartbeat: from then on this member waits an election timeout before it helps to replace
        /// the master.
        sent_ms: u64,
    },
    /// Master to a member that lacks entries the master's log no longer has: a piece of a snapshot (§5).
    Snapshot {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where `data` belongs in it.
        offset: u64,
        /// The bytes.
        #[serde(with = "wire_bytes")]
        data: Bytes,
        /// Whether the snapshot ends with `data`.
        done: bool,
    },
    /// Slave to master: how far the snapshot got. When it is installed the answer is [`Body::Appended`].
    SnapshotReply {
        /// Which snapshot.
        stamp: Viewstamp,
        /// The offset of the piece wanted next.
        next: u64,
    },
    /// Master to the member that is to succeed it: start an election now (§3.10).
    TimeoutNow,
}

impl Message {
    /// Whether it could come from a replica that keeps the rules. What could not is ignored.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.view <= COUNTED_MAX && self.body.is_well_formed(self.view)
    }
}

impl Body {
    fn is_well_formed(&self, view: u64) -> bool {
        match self {
            Body::PreVote { last } | Body::RequestVote { last, .. } => last.is_plausible(),
            Body::PreVoteReply { campaign_view: number, .. }
            | Body::Appended { matched: number }
            | Body::Heartbeat { committed: number, .. } => *number <= COUNTED_MAX,
            Body::Append { previous, entries, committed } => {
                *committed <= COUNTED_MAX && follow_each_other(view, *previous, entries)
            }
            Body::AppendRefused { previous, hint } => {
                previous.is_plausible() && hint.is_plausible() && hint.seq <= previous.seq && previous.seq > 0
            }
            Body::Snapshot { meta, offset, data, .. } => {
                meta.stamp.is_plausible()
                    && meta.stamp.seq > 0
                    && meta.stamp.view <= view
                    && meta.membership.is_sane()
                    && offset.checked_add(data.len() as u64).is_some()
            }
            Body::SnapshotReply { stamp, .. } => stamp.is_plausible(),
            Body::HeartbeatReply { .. } | Body::Vote { .. } | Body::TimeoutNow => true,
        }
    }

    /// Whether only the master of a view says that.
    pub(super) fn is_a_masters(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. })
    }
}

/// Whether `entries` can stand in a log after `previous`, sent by the master of `view`.
fn follow_each_other(view: u64, previous: Viewstamp, entries: &[Entry]) -> bool {
    let mut last = previous;
    for Entry { stamp, payload } in entries {
        let is_sane = !matches!(payload, Payload::Membership(membership) if !membership.is_sane());
        let follows = last.seq.checked_add(1) == Some(stamp.seq) && stamp.view >= last.view;
        if !follows || stamp.view == 0 || !is_sane {
            return false;
        }
        last = *stamp;
    }
    last.view <= view && last.is_plausible() && (previous.seq == 0) == (previous.view == 0)
}
