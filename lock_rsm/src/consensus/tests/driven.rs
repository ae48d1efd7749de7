//! One core driven by hand, for tests of single rules. It is replica 1; the others are what the test says
//! they are.

use super::setup::founders;
use crate::consensus::{
    Body, Config, Core, Entry, HardState, Message, Outputs, Payload, ReplicaId, Restored, Role, Viewstamp,
};
use bytes::Bytes;

/// The minimum election timeout of these cores.
pub(super) const T: u64 = 150;

pub(super) struct Driven {
    pub(super) core: Core,
    pub(super) now_ms: u64,
}

pub(super) fn stamp(view: u64, seq: u64) -> Viewstamp {
    Viewstamp::new(view, seq)
}

pub(super) fn command(view: u64, seq: u64) -> Entry {
    Entry { stamp: stamp(view, seq), payload: Payload::Command(Bytes::from(format!("command {view}.{seq}"))) }
}

/// Entries 1, 2, … of these views.
pub(super) fn entries(views: &[u64]) -> Vec<Entry> {
    views.iter().zip(1..).map(|(&view, seq)| command(view, seq)).collect()
}

pub(super) fn append(previous: Viewstamp, entries: Vec<Entry>, committed: u64) -> Body {
    Body::Append { previous, entries, committed }
}

impl Driven {
    pub(super) fn new(voters: u64) -> Driven {
        Driven::with_log(voters, &[])
    }

    /// With a log of entries of these views on disk.
    pub(super) fn with_log(voters: u64, views: &[u64]) -> Driven {
        Driven::restored(Driven::config(), Driven::disk(voters, views))
    }

    pub(super) fn config() -> Config {
        Config { election_timeout_ms: T, ..Config::new(1, 7) }
    }

    pub(super) fn disk(voters: u64, views: &[u64]) -> Restored {
        Restored {
            hard_state: HardState { view: views.last().copied().unwrap_or(0), voted_for: None },
            entries: entries(views),
            membership: founders(voters),
            ..Restored::default()
        }
    }

    pub(super) fn restored(config: Config, restored: Restored) -> Driven {
        Driven { core: Core::new(config, restored, 0).expect("the disk is sound"), now_ms: 0 }
    }

    pub(super) fn receive(&mut self, from: ReplicaId, view: u64, body: Body) {
        self.core.receive(self.now_ms, from, Message { view, body });
    }

    pub(super) fn take(&mut self) -> Outputs {
        self.core.take_outputs(self.now_ms)
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.core.persisted(self.now_ms, number);
    }

    /// Takes the outputs and lets the disk have them. The messages of both kinds stand in `messages`.
    pub(super) fn sync(&mut self) -> Outputs {
        let mut outputs = self.take();
        outputs.messages.append(&mut outputs.after_persist);
        self.persisted(outputs.number);
        outputs
    }

    /// What is sent, after syncing; without the heartbeats.
    pub(super) fn sent(&mut self) -> Vec<(ReplicaId, Body)> {
        let messages = self.sync().messages.into_iter().map(|(to, message)| (to, message.body));
        messages.filter(|(_, body)| !matches!(body, Body::Heartbeat { .. })).collect()
    }

    pub(super) fn sent_to(&mut self, to: ReplicaId) -> Vec<Body> {
        self.sent().into_iter().filter(|(id, _)| *id == to).map(|(_, body)| body).collect()
    }

    /// Lets time pass, with a tick at the end.
    pub(super) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.core.tick(self.now_ms);
    }

    /// Lets it win an election by the votes of `voters`. Its first entry is on its disk afterwards.
    pub(super) fn elect(&mut self, voters: &[ReplicaId]) {
        self.wait(2 * T);
        let view = self.core.view();
        voters.iter().for_each(|&id| {
            self.receive(id, view, Body::PreVoteReply { campaign_view: view + 1, granted: true })
        });
        self.sync();
        voters.iter().for_each(|&id| self.receive(id, view + 1, Body::Vote { granted: true }));
        assert_eq!(self.core.role(), Role::Master);
        self.sync();
    }

    /// Answers a heartbeat sent now for each of `from`.
    pub(super) fn hear(&mut self, from: &[ReplicaId]) {
        let (view, sent_ms) = (self.core.view(), self.now_ms);
        from.iter().for_each(|&id| self.receive(id, view, Body::HeartbeatReply { round: 0, sent_ms }));
    }

    /// Agrees on behalf of `from` with everything up to `matched`.
    pub(super) fn agree(&mut self, from: ReplicaId, matched: u64) {
        let view = self.core.view();
        self.receive(from, view, Body::Appended { matched });
    }

    /// A master of a settled view, heard by all, that just committed its first entry.
    pub(super) fn settled_master(voters: u64) -> Driven {
        Driven::settled_with(Driven::config(), voters)
    }

    pub(super) fn settled_with(config: Config, voters: u64) -> Driven {
        let mut driven = Driven::restored(config, Driven::disk(voters, &[]));
        let others: Vec<ReplicaId> = (2..=voters).collect();
        driven.elect(&others);
        driven.hear(&others);
        others.iter().for_each(|&id| driven.agree(id, 1));
        driven.sync();
        assert!(driven.core.is_settled() && driven.core.is_master_with_quorum(driven.now_ms));
        driven
    }

    pub(super) fn propose(&mut self, count: usize) -> Viewstamp {
        let commands = (0..count).map(|index| Bytes::from(format!("proposal {index}"))).collect();
        self.core.propose(self.now_ms, commands).expect("a master takes proposals")
    }
}
