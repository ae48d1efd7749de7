//! A group of pure replicas on disks in memory and a network without loss, in one thread.

use super::super::*;
use crate::consensus::{Entry, HardState, Member, Membership, Message, ReplicaId, Viewstamp};
use crate::rsm::types::Limits;
use crate::rsm::{Identity, LogWrite, Recovered, Service, Snapshot, SnapshotPiece, StateError, View};
use bytes::Bytes;
use parking_lot::Mutex;
use rpc::{CallInfo, Register};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Adds its argument to the sum and returns it.
pub const ADD: u32 = 1;

#[derive(Default)]
pub struct Adder(Mutex<(u64, Vec<u8>)>);

impl Service for Adder {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        let add = move |_: &CallInfo, (by, ballast): (u64, Vec<u8>)| {
            let mut state = self.0.lock();
            state.0 += by;
            if !ballast.is_empty() {
                state.1 = ballast;
            }
            Ok(state.0)
        };
        to.register(ADD, rpc::typed(add));
    }
    fn marshal_state(&self) -> Vec<u8> {
        rpc::codec::encode(&*self.0.lock())
    }
    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        Ok(())
    }
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub snapshot: Option<Snapshot>,
    pub entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, write: LogWrite) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((snapshot, discard_log)) = write.install {
            self.entries.retain(|entry| !discard_log && entry.stamp.seq > snapshot.meta.stamp.seq);
            self.snapshot = Some(snapshot);
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.stamp.seq < from);
        }
        self.entries.extend(write.append);
    }

    fn save(&mut self, snapshot: Snapshot) {
        self.entries.retain(|entry| entry.stamp.seq > snapshot.meta.stamp.seq);
        self.snapshot = Some(snapshot);
    }

    fn piece(&self, stamp: Option<Viewstamp>, offset: u64) -> Option<SnapshotPiece> {
        const PIECE: usize = 64 << 10;
        let Snapshot { meta, state } = self.snapshot.clone()?;
        let offset = if stamp == Some(meta.stamp) { offset } else { 0 };
        let from = usize::try_from(offset).unwrap();
        let to = (from + PIECE).min(state.len());
        Some(SnapshotPiece { meta, offset, data: state.slice(from..to), done: to == state.len() })
    }

    fn recovered(&self, id: ReplicaId) -> Recovered {
        Recovered {
            identity: Identity { id, address: address(id) },
            founding: None,
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.entries.clone(),
        }
    }
}

pub fn address(id: ReplicaId) -> String {
    format!("127.0.0.1:{}", 3000 + id)
}

pub fn member(id: ReplicaId, voter: bool) -> Member {
    Member { id, address: address(id), voter }
}

/// A running replica.
pub struct Node {
    pub core: ReplicaCore<u64>,
    pub program: Program<u64>,
    pub done: bool,
    /// Writes that are not on disk yet.
    pub unwritten: VecDeque<Write>,
    /// Whether the disk takes writes; else they pile up.
    pub disk_works: bool,
    /// Whether the program works; else its tasks pile up.
    pub program_works: bool,
    pub tasks: VecDeque<Task>,
    applied_bytes: u64,
    /// Who has left the group for good, as far as this one knows.
    pub retired: Vec<ReplicaId>,
    /// Views announced.
    pub views: Vec<(View, bool)>,
}

pub struct World {
    pub now_ms: u64,
    pub founding: Membership,
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub disks: BTreeMap<ReplicaId, Disk>,
    pub wire: VecDeque<(ReplicaId, ReplicaId, Message)>,
    /// Who asked to be taken in, heard by everybody.
    asking: VecDeque<ReplicaId>,
    /// Where a replica listens, if not where its identity says.
    pub moved: BTreeMap<ReplicaId, String>,
    /// Nothing gets to or from these.
    pub cut_off: Vec<ReplicaId>,
    /// Who has stopped because it left the group for good.
    pub left: Vec<ReplicaId>,
    /// All answers so far, by ticket.
    pub answers: BTreeMap<u64, Answer>,
    pub limits: Limits,
    pub remove_after_ms: Option<u64>,
    starts: u64,
}

impl World {
    /// A group of `count` replicas founded just now; replica 1 should be the master.
    pub fn found(count: u64, limits: Limits) -> World {
        let members = (1..=count).map(|id| member(id, true)).collect();
        let mut world = World {
            now_ms: 0,
            founding: Membership::of(members),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            wire: VecDeque::new(),
            asking: VecDeque::new(),
            moved: BTreeMap::new(),
            cut_off: Vec::new(),
            left: Vec::new(),
            answers: BTreeMap::new(),
            limits,
            remove_after_ms: Some(2_000),
            starts: 0,
        };
        for id in 1..=count {
            world.start_with(id, Some(id == 1));
        }
        world
    }

    /// (Re)starts a replica from its disk.
    pub fn start(&mut self, id: ReplicaId) {
        self.start_with(id, None);
    }

    fn start_with(&mut self, id: ReplicaId, head_start: Option<bool>) {
        self.starts += 1;
        let config = ReplicaConfig {
            limits: self.limits,
            head_start,
            remove_after_ms: self.remove_after_ms,
            ..ReplicaConfig::new(id, self.starts)
        };
        let recovered = self.disks.entry(id).or_default().recovered(id);
        let service = Arc::new(Adder::default());
        let Boot { core, program, .. } =
            boot(config, service, recovered, self.founding.clone(), self.now_ms).unwrap();
        let node = Node {
            core,
            program,
            done: false,
            unwritten: VecDeque::new(),
            disk_works: true,
            program_works: true,
            tasks: VecDeque::new(),
            applied_bytes: 0,
            retired: Vec::new(),
            views: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    /// A crash: what was not written is lost.
    pub fn crash(&mut self, id: ReplicaId) {
        self.nodes.remove(&id);
    }

    pub fn step(&mut self, id: ReplicaId, input: Input<u64>) {
        let now_ms = self.now_ms;
        self.nodes.get_mut(&id).unwrap().core.step(now_ms, input);
        self.work_off(id);
    }

    /// Takes the effects of a replica and carries them out.
    pub fn work_off(&mut self, id: ReplicaId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let effects = node.core.take_effects(now_ms);
        if effects.ask_in {
            self.asking.push_back(id);
        }
        node.done |= effects.done;
        if let Some(retired) = effects.retired {
            node.retired = retired;
        }
        let has_left = effects.has_left;
        node.tasks.extend(effects.tasks);
        node.unwritten.extend(effects.writes);
        self.wire.extend(effects.messages.into_iter().map(|(to, message)| (id, to, message)));
        self.answers.extend(effects.refused.into_iter().map(|(ticket, why)| (ticket, Err(why))));
        let disk = self.disks.get_mut(&id).unwrap();
        let mut inputs = Vec::new();
        if node.disk_works {
            for Write { number, write } in node.unwritten.drain(..) {
                disk.write(write);
                inputs.push(Input::Persisted(number));
            }
        }
        for wanted in effects.pieces {
            let piece = disk.piece(wanted.stamp, wanted.offset);
            inputs.extend(piece.map(|piece| Input::Piece { to: wanted.to, piece }));
        }
        while let Some(task) = node.program_works.then(|| node.tasks.pop_front()).flatten() {
            let report = node.program.perform(task).unwrap();
            node.applied_bytes += report.bytes;
            self.answers.extend(report.answers);
            node.views.extend(report.announced);
            inputs.push(Input::Applied(node.applied_bytes));
            if let Some(snapshot) = report.snapshot {
                inputs.push(Input::SnapshotSaved(snapshot.meta.clone()));
                disk.save(snapshot);
            }
        }
        let more = !inputs.is_empty();
        for input in inputs {
            node.core.step(now_ms, input);
        }
        if more {
            self.work_off(id);
        }
        if has_left {
            self.left.push(id);
            self.crash(id);
        }
    }

    /// Delivers what is on the wire now and what that brings about.
    pub fn settle(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            let is_cut = self.cut_off.contains(&from) || self.cut_off.contains(&to);
            if !is_cut && self.nodes.contains_key(&to) {
                self.step(to, Input::Message { from, message });
            }
        }
        while let Some(id) = self.asking.pop_front() {
            let hears = |to: &ReplicaId| *to != id && ![id, *to].iter().any(|one| self.cut_off.contains(one));
            let address = self.moved.get(&id).cloned().unwrap_or_else(|| address(id));
            let ids: Vec<_> = self.ids().into_iter().filter(hears).collect();
            for to in ids {
                if self.nodes.get(&to).is_some_and(|node| node.retired.contains(&id)) {
                    if self.nodes.contains_key(&id) {
                        self.step(id, Input::Retired);
                    }
                } else {
                    self.step(to, Input::Asked { id, address: address.clone() });
                }
            }
        }
    }

    pub fn run_for(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for id in self.ids() {
                if self.nodes[&id].core.next_tick_ms() <= self.now_ms {
                    self.step(id, Input::Tick);
                }
            }
            self.settle();
        }
    }

    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    /// Runs until `found` finds something.
    pub fn until<R>(&mut self, what: &str, mut found: impl FnMut(&mut World) -> Option<R>) -> R {
        for _ in 0..20_000 {
            if let Some(value) = found(self) {
                return value;
            }
            self.run_for(1);
        }
        panic!("waited too long for {what}")
    }

    /// The replica that leads and has announced it.
    pub fn master(&mut self) -> ReplicaId {
        self.until("a master", |world| {
            let leads = |node: &Node| {
                node.core.leads(world.now_ms) && node.views.last().is_some_and(|(_, leads)| *leads)
            };
            world.nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
        })
    }

    pub fn propose(&mut self, at: ReplicaId, ticket: u64, key: RequestKey, by: u64, ballast: usize) {
        let (client, request) = key.unwrap_or_default();
        let args = rpc::codec::encode(&(by, vec![7u8; ballast])).into();
        let command = Command { client, request, acked_upto: 0, proc: ADD, args }.encode();
        self.step(at, Input::Propose(Proposal { key, command, ticket }));
    }

    /// Waits until the master and all others running have adopted a view with these members, in this order.
    pub fn until_members(&mut self, ids: &[ReplicaId]) {
        let moved = self.moved.clone();
        let expected: Vec<String> =
            ids.iter().map(|id| moved.get(id).cloned().unwrap_or_else(|| address(*id))).collect();
        self.until(&format!("members {ids:?}"), |world| {
            let adopted = |node: &Node| node.views.last().is_some_and(|(view, _)| view.members == expected);
            ids.iter().filter_map(|id| world.nodes.get(id)).all(adopted).then_some(())
        });
    }

    /// Has `by` added by the master and waits for the answer.
    pub fn add(&mut self, ticket: u64, by: u64) -> Answer {
        let master = self.master();
        self.propose(master, ticket, None, by, 0);
        self.until("an answer", |world| world.answers.remove(&ticket))
    }

    /// Orders the master again and again until it says that it is done, or `refused` does not let it go on; returns what it said
    /// last.
    pub fn order(&mut self, old: &str, new: Option<&str>, refused: fn(&Retirement) -> bool) -> Retirement {
        let order = Retire { old: old.to_owned(), new: new.map(str::to_owned) };
        self.until("the order to be carried out", |world| {
            let leads = |node: &Node| node.core.leads(world.now_ms);
            let master = world.nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)?;
            world.step(master, Input::Order(order.clone()));
            let so_far = world.nodes.get(&master)?.core.retirement(&order);
            (matches!(so_far, Retirement::Done(_)) || refused(&so_far)).then_some(so_far)
        })
    }

    /// Gets a client number from the group.
    pub fn register(&mut self, ticket: u64) -> u64 {
        let master = self.master();
        let command =
            Command { client: 0, request: 0, acked_upto: 0, proc: REGISTER_CLIENT, args: Bytes::new() };
        let proposal = Proposal { key: None, command: command.encode(), ticket };
        self.step(master, Input::Propose(proposal));
        match self.until("a number", |world| world.answers.remove(&ticket)) {
            Ok(Applied::Executed(Outcome::Done(reply))) => rpc::codec::decode(&reply).unwrap(),
            other => panic!("no number: {other:?}"),
        }
    }

    /// Waits until all replicas have applied the same and compares their states.
    pub fn check_equal(&mut self) {
        self.until("equal replicas", |world| {
            let states: Vec<_> = world.nodes.values_mut().map(|node| node.program.hash()).collect();
            for pair in states.windows(2) {
                assert!(pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1, "states differ: {states:?}");
            }
            states.windows(2).all(|pair| pair[0].0 == pair[1].0).then_some(())
        });
    }
}

/// The sum that the handler answered with.
pub fn sum(answer: Answer) -> u64 {
    match answer {
        Ok(Applied::Executed(Outcome::Done(reply))) => rpc::codec::decode(&reply).unwrap(),
        other => panic!("no sum: {other:?}"),
    }
}
