//! The way into a replica: its core under messages of all kinds, from members and strangers, mixed with time, its disk's
//! reports, requests and crashes.
//!
//! Who can reach a replica's port can say anything in any replica's name, so what is said need not make sense. No message
//! may stop a replica, and none may make it break a promise of its own: see [`Bench::check`].

use super::dice::Dice;
use super::{FACTOR, Target};
use crate::sim::disk::{Disk, Job};
use crate::sim::services::{APPEND, Services};
use crate::sim::world::member;
use bytes::Bytes;
use lock_rsm::consensus::{
    Body, Config, Entry, HardState, Membership, Message, Payload, ReplicaId, SnapshotMeta, Viewstamp,
};
use lock_rsm::rsm::core::{
    Boot, Command, Effects, Input, Program, Proposal, ReplicaConfig, ReplicaCore, Stop, Task, Write,
    boot_within,
};
use lock_rsm::rsm::{Identity, Limits};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const TARGETS: &[Target] = &[Target {
    name: "rsm_replica",
    run,
    seeds,
    // A step of a few bytes may be answered to each member, with all that it lacks.
    memory_base: 16 << 20,
    memory_factor: 64 * FACTOR,
}];

/// The replica on the bench; 1 to 3 found the group.
const ME: ReplicaId = 1;
/// The most steps of one input.
const STEPS_MAX: usize = 256;

/// Runs an input. Something is accepted when a message or a request was not in vain.
fn run(input: &[u8]) -> bool {
    driven(input).moved
}

fn driven(input: &[u8]) -> Bench {
    let mut dice = Dice(input);
    let mut bench = Bench::new();
    for _ in 0..STEPS_MAX {
        if dice.is_empty() || bench.is_over {
            break;
        }
        bench.step(&mut dice);
    }
    bench
}

struct Bench {
    disk: Disk,
    core: ReplicaCore<u64>,
    program: Program<u64>,
    jobs: VecDeque<Job>,
    tasks: VecDeque<Task>,
    applied_bytes: u64,
    incarnation: u64,
    now_ms: u64,
    tickets: u64,
    /// The state after the step before.
    before: Seen,
    moved: bool,
    is_over: bool,
}

/// What never goes back, and what never changes without reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    hard_state: HardState,
    committed: u64,
    last: Viewstamp,
    nonsense: u64,
}

impl Bench {
    fn new() -> Bench {
        let founding = Membership::of((1..=3).map(|id| member(id, true)).collect());
        let disk = Disk { founding, ..Disk::default() };
        let Boot { core, program, .. } = boot(&disk, 0, 0);
        Bench {
            disk,
            core,
            program,
            jobs: VecDeque::new(),
            tasks: VecDeque::new(),
            applied_bytes: 0,
            incarnation: 0,
            now_ms: 0,
            tickets: 0,
            before: Seen::default(),
            moved: false,
            is_over: false,
        }
    }

    fn step(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() % 16 {
            0 => self.wait(u64::from(dice.byte())),
            1 => {
                let (from, count) = (sender(dice), dice.byte());
                let bytes = dice.bytes(count.into());
                if let Ok(message) = rpc::codec::decode(&bytes) {
                    self.receive(from, message);
                }
            }
            2 => self.disk_does(dice.byte()),
            3 => self.program_does(dice.byte()),
            4 => self.request(dice),
            5 => self.input(Input::Asked { id: sender(dice), address: format!("host:{}", dice.byte()) }),
            6 => self.crash(dice.byte()),
            7 => {
                self.tickets += 1;
                // Refused unless it leads.
                let _ = self.core.read(self.now_ms, self.tickets);
                self.take();
            }
            8 if dice.byte() == 8 => self.input(Input::Stop(Stop::Gracefully)),
            // Nothing was on its way in all these steps, so disk and program are done.
            9 => {
                self.disk_does(u8::MAX);
                self.program_does(u8::MAX);
            }
            _ => {
                let (from, message) = (sender(dice), self.message(dice));
                self.receive(from, message);
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.input(Input::Tick);
    }

    fn receive(&mut self, from: ReplicaId, message: Message) {
        let before = self.seen();
        self.core.step(self.now_ms, Input::Message { from, message });
        if self.seen().nonsense > before.nonsense {
            assert_eq!(
                self.seen(),
                Seen { nonsense: before.nonsense + 1, ..before },
                "nonsense has no effect"
            );
        } else {
            self.moved = true;
        }
        self.take();
    }

    fn input(&mut self, input: Input<u64>) {
        self.core.step(self.now_ms, input);
        self.take();
    }

    fn request(&mut self, dice: &mut Dice<'_>) {
        let (client, request, size) = (u64::from(dice.byte() % 4), u64::from(dice.byte()), dice.byte());
        let args = dice.bytes(size.into()).into();
        let command = Command { client, request, acked_upto: request / 2, proc: APPEND, args }.encode();
        self.tickets += 1;
        let key = (client != 0).then_some((client, request));
        self.input(Input::Propose(Proposal { key, command, ticket: self.tickets }));
    }

    /// Takes what the core wants done. What it says must be true of the disk by now.
    fn take(&mut self) {
        let Effects { messages, writes, tasks, pieces, done, .. } = self.core.take_effects(self.now_ms);
        messages.iter().for_each(|(to, message)| self.check_promise(*to, message));
        self.jobs.extend(writes.into_iter().map(Job::Write));
        self.jobs.extend(pieces.into_iter().map(Job::Piece));
        self.tasks.extend(tasks);
        self.is_over |= done;
        self.check();
    }

    fn disk_does(&mut self, count: u8) {
        for _ in 0..count {
            let Some(job) = self.jobs.pop_front() else { break };
            match job {
                Job::Write(Write { number, write }) => {
                    self.disk.write(write);
                    self.input(Input::Persisted(number));
                }
                Job::Save(snapshot) => {
                    let meta = snapshot.meta.clone();
                    self.disk.save(snapshot);
                    self.input(Input::SnapshotSaved(meta));
                }
                Job::Piece(wanted) => {
                    if let Some(piece) = self.disk.piece(&wanted, 40) {
                        self.input(Input::Piece { to: wanted.to, piece });
                    }
                }
            }
        }
    }

    fn program_does(&mut self, count: u8) {
        for _ in 0..count {
            let Some(task) = self.tasks.pop_front() else { break };
            // A sound snapshot of something else: nobody else's program can be told apart, and this one ends.
            let Ok(report) = self.program.perform(task) else { return self.is_over = true };
            self.applied_bytes += report.bytes;
            self.jobs.extend(report.snapshot.map(Job::Save));
            self.input(Input::Applied(self.applied_bytes));
        }
    }

    /// The process ends. Some of what was on its way to the disk arrives, and it must be able to start from that.
    fn crash(&mut self, arriving: u8) {
        let arriving = usize::from(arriving).min(self.jobs.len());
        for job in self.jobs.drain(..).take(arriving) {
            match job {
                Job::Write(Write { write, .. }) => self.disk.write(write),
                Job::Save(snapshot) => self.disk.save(snapshot),
                Job::Piece(_) => {}
            }
        }
        self.tasks.clear();
        if self.disk.snapshot.as_ref().is_some_and(|snapshot| !is_readable(&snapshot.state)) {
            return self.is_over = true;
        }
        self.incarnation += 1;
        let Boot { core, program, .. } = boot(&self.disk, self.incarnation, self.now_ms);
        (self.core, self.program, self.applied_bytes) = (core, program, 0);
        self.before = self.seen();
    }

    fn seen(&self) -> Seen {
        let core = self.core.consensus();
        Seen {
            hard_state: core.hard_state(),
            committed: core.committed(),
            last: core.last(),
            nonsense: core.malformed_messages(),
        }
    }

    /// Neither view nor commit position go back; a vote is not changed; the log is in order, and of no later view than the
    /// replica's own.
    fn check(&mut self) {
        let (before, now) = (self.before, self.seen());
        let (was, is) = (before.hard_state, now.hard_state);
        let is_kept = is.view == was.view && was.voted_for.is_none_or(|id| is.voted_for == Some(id));
        assert!(is.view > was.view || is_kept, "{was:?} became {is:?}");
        assert!(now.committed >= before.committed, "{before:?} became {now:?}");
        assert!(now.committed <= now.last.seq && now.last.view <= is.view, "{now:?}");
        let (base, stamps) = self.core.consensus().log_stamps();
        let mut last = base;
        for stamp in stamps {
            assert!(stamp.seq == last.seq + 1 && stamp.view >= last.view, "{stamp} follows {last}");
            last = stamp;
        }
        self.before = now;
    }

    /// A vote and an acknowledgement leave only when they are on disk.
    fn check_promise(&self, to: ReplicaId, message: &Message) {
        let promise = self.disk.hard_state;
        match message.body {
            Body::Vote { granted: true } => assert!(
                promise.view > message.view
                    || (promise.view == message.view && promise.voted_for == Some(to)),
                "a vote for {to} in view {} leaves and {promise:?} is on disk",
                message.view
            ),
            Body::Appended { matched } => {
                let covered = self.disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.stamp.seq);
                assert!(
                    matched <= covered || self.disk.log.contains_key(&matched),
                    "entry {matched} is acknowledged and not on disk"
                );
            }
            _ => {}
        }
    }

    /// A message about what this replica has and knows, and a little beside it.
    fn message(&self, dice: &mut Dice<'_>) -> Message {
        let core = self.core.consensus();
        let view = near(dice, core.view());
        let seq = |dice: &mut Dice<'_>| near(dice, core.last().seq);
        let body = match dice.byte() % 12 {
            0 => Body::PreVote { last: self.stamp(dice) },
            1 => Body::PreVoteReply { campaign_view: near(dice, core.view() + 1), granted: is_so(dice) },
            2 => Body::RequestVote { last: self.stamp(dice), hand_over: is_so(dice) },
            3 => Body::Vote { granted: is_so(dice) },
            4 => {
                let (previous, committed) = (self.stamp(dice), seq(dice));
                let count = u64::from(dice.byte() % 6);
                let entries = (1..=count).map(|n| self.entry(dice, view, previous.seq.wrapping_add(n)));
                Body::Append { previous, entries: entries.collect(), committed }
            }
            5 => Body::Appended { matched: seq(dice) },
            6 => Body::AppendRefused { previous: self.stamp(dice), hint: self.stamp(dice) },
            7 => {
                let committed = near(dice, core.committed());
                Body::Heartbeat { committed, round: near(dice, 0), sent_ms: near(dice, self.now_ms) }
            }
            8 => Body::HeartbeatReply { round: near(dice, 0), sent_ms: near(dice, self.now_ms) },
            9 => self.snapshot(dice),
            10 => Body::SnapshotReply { stamp: self.stamp(dice), next: near(dice, 40) },
            _ => Body::TimeoutNow,
        };
        Message { view, body }
    }

    /// The last entry's stamp, that of another entry here, or any.
    fn stamp(&self, dice: &mut Dice<'_>) -> Viewstamp {
        let core = self.core.consensus();
        let (base, stamps) = core.log_stamps();
        match dice.byte() % 4 {
            0 => core.last(),
            1 => base,
            2 => stamps.get(usize::from(dice.byte())).copied().unwrap_or_default(),
            _ => Viewstamp::new(near(dice, core.view()), near(dice, core.last().seq)),
        }
    }

    fn entry(&self, dice: &mut Dice<'_>, view: u64, seq: u64) -> Entry {
        let payload = match dice.byte() {
            0 => Payload::Noop,
            255 => Payload::Membership(membership(dice)),
            size => Payload::Command(dice.bytes(usize::from(size / 4)).into()),
        };
        let view = if is_so(dice) { view } else { near(dice, self.core.consensus().last().view) };
        Entry { stamp: Viewstamp::new(view, seq), payload }
    }

    /// A piece of a snapshot: of a state that can be read, or of anything.
    fn snapshot(&self, dice: &mut Dice<'_>) -> Body {
        let meta = SnapshotMeta { stamp: self.stamp(dice), membership: membership(dice) };
        let state = self.program_state(dice);
        let offset = near(dice, 0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(state.len());
        let end = (start + usize::from(dice.byte())).min(state.len());
        Body::Snapshot { meta, offset, data: state.slice(start..end), done: end == state.len() }
    }

    fn program_state(&self, dice: &mut Dice<'_>) -> Bytes {
        match (dice.byte() % 4, &self.disk.snapshot) {
            (0, Some(snapshot)) => snapshot.state.clone(),
            (1, _) => {
                let count = dice.byte();
                dice.bytes(count.into()).into()
            }
            _ => fresh_state(),
        }
    }
}

/// The state of a program that has executed nothing, as a snapshot has it.
fn fresh_state() -> Bytes {
    use lock_rsm::rsm::core::{Machine, ReplyLimits};
    Machine::new(Arc::<Services>::default(), ReplyLimits::default()).marshal()
}

fn is_readable(state: &Bytes) -> bool {
    use lock_rsm::rsm::core::{Machine, ReplyLimits};
    let mut machine = Machine::new(Arc::<Services>::default(), ReplyLimits::default());
    machine.restore(state.clone(), Viewstamp::ZERO).is_ok()
}

fn boot(disk: &Disk, incarnation: u64, now_ms: u64) -> Boot<u64> {
    let config = ReplicaConfig {
        remove_after_ms: Some(600),
        limits: Limits { snapshot_after_entries: 6, ..Limits::default() },
        ..ReplicaConfig::new(ME, 7 + incarnation)
    };
    let bounds = Config {
        snapshot_retry_ms: 100,
        append_bytes_max: 400,
        append_entries_max: 3,
        inflight_messages_max: 4,
        inflight_bytes_max: 1_000,
        uncommitted_bytes_max: 4_000,
        tail_bytes_max: 100,
        pinned_bytes_max: 200,
        snapshot_chunk_bytes_max: 40,
        ..Config::new(0, 0)
    };
    let recovered = disk.recovered(Identity { id: ME, address: "host:1".into() });
    let founding = disk.founding.clone();
    boot_within(config, bounds, Arc::<Services>::default(), recovered, founding, now_ms)
        .unwrap_or_else(|error| panic!("a replica does not start from its own disk: {error}"))
}

/// A member, this replica itself, or a stranger.
fn sender(dice: &mut Dice<'_>) -> ReplicaId {
    match dice.byte() {
        255 => u64::MAX,
        254 => ME,
        small if small < 200 => 2 + u64::from(small % 2),
        other => u64::from(other),
    }
}

/// A number beside `here`, and sometimes one at an edge.
fn near(dice: &mut Dice<'_>, here: u64) -> u64 {
    match dice.byte() {
        ahead @ 0..=127 => here.wrapping_add(u64::from(ahead)),
        behind @ 128..=200 => here.saturating_sub(u64::from(behind - 127)),
        255 => u64::MAX,
        254 => u64::MAX - 1,
        253 => 1 << 62,
        252 => (1 << 62) + 1,
        251 => (1 << 62) - 1,
        edge => u64::MAX / u64::from(edge),
    }
}

fn is_so(dice: &mut Dice<'_>) -> bool {
    dice.byte().is_multiple_of(2)
}

fn membership(dice: &mut Dice<'_>) -> Membership {
    let count = dice.byte() % 6;
    Membership::of((0..count).map(|_| member(1 + u64::from(dice.byte() % 8), is_so(dice))).collect())
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    script::all().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// Inputs in which something happens, put together by hand from the steps above.
mod script {
    const WAIT: u8 = 0;
    const DONE: u8 = 9;
    const MESSAGE: u8 = 10;
    /// As a number beside another, or a yes: that one; as a stamp: that of the last entry.
    const SAME: u8 = 0;

    /// Time passes until it campaigns, and 2 votes for it.
    fn becomes_master() -> Vec<u8> {
        let pre_vote_reply = [MESSAGE, 2, SAME, 1, SAME, 0];
        let vote = [MESSAGE, 2, SAME, 3, 0];
        [&[WAIT, 255, WAIT, 255][..], &pre_vote_reply, &[DONE], &vote, &[DONE]].concat()
    }

    /// 3 leads, and sends an entry or two.
    fn follows() -> Vec<u8> {
        let append = [MESSAGE, 3, 1, 4, 0, SAME, 2, 40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0];
        let heartbeat = [MESSAGE, 3, SAME, 7, 1, 0, 0];
        [&append[..], &[DONE], &heartbeat, &[DONE]].concat()
    }

    /// 3 leads, and sends the snapshot of a fresh program.
    fn takes_a_snapshot() -> Vec<u8> {
        let first = [MESSAGE, 3, 1, 9, 3, SAME, 9, 3, 1, 0, 2, 0, 3, 0, 2, 0, 255];
        [&first[..], &[DONE], &[6, 255]].concat()
    }

    pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
        let request = [4, 1, 1, 2, 5, 5];
        let acknowledged = [MESSAGE, 2, SAME, 5, SAME];
        let answered = [MESSAGE, 2, SAME, 8, 0, 0];
        let serves = [&becomes_master()[..], &answered, &request, &[DONE], &acknowledged, &[DONE]].concat();
        vec![
            ("becomes-master", becomes_master()),
            ("serves", [&serves[..], &request, &[7]].concat()),
            ("starts-again", [&serves[..], &request, &[6, 1], &becomes_master()].concat()),
            ("follows", [&follows()[..], &follows(), &[6, 0], &follows()].concat()),
            ("takes-a-snapshot", [&follows()[..], &takes_a_snapshot(), &follows()].concat()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_rsm::consensus::Role;

    /// What the seeds are named after happens in them, so that an engine starts from there.
    #[test]
    fn the_seeds_get_somewhere() {
        for (name, input) in script::all() {
            let bench = driven(&input);
            let core = bench.core.consensus();
            println!("{name}: {:?} {:?} {:?}", core.role(), bench.seen(), bench.disk.snapshot.is_some());
            match name {
                "becomes-master" => assert_eq!(core.role(), Role::Master),
                "serves" => assert!(core.committed() >= 2 && core.role() == Role::Master),
                "starts-again" => assert!(core.view() >= 2 && bench.incarnation > 0),
                "follows" => assert!(core.committed() >= 2 && core.role() == Role::Slave),
                _ => assert!(bench.disk.snapshot.is_some(), "{name}"),
            }
        }
    }
}
