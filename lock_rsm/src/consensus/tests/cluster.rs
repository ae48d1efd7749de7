//! A whole cluster in one thread: replicas, network, disks and time, all following from a seed.

use super::disk::{Disk, Queue, Write};
use super::invariants::Checker;
use super::network::{Network, Weather};
use super::program::Program;
use super::replica::{Replica, write_with};
use super::setup::{Sabotage, Setup, founders};
use crate::consensus::rng::Rng;
use crate::consensus::{
    Core, Membership, Message, Outputs, ReplicaId, Role, SnapshotChunk, SnapshotError, SnapshotWanted,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
enum Event {
    Tick(ReplicaId),
    Deliver {
        from: ReplicaId,
        to: ReplicaId,
        message: Message,
    },
    /// The oldest write of that incarnation is on disk.
    Written {
        id: ReplicaId,
        incarnation: u64,
    },
}

impl Event {
    fn target(&self) -> ReplicaId {
        match *self {
            Event::Tick(id) | Event::Written { id, .. } => id,
            Event::Deliver { to, .. } => to,
        }
    }
}

const TICK_MS: u64 = 5;

/// The world.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) setup: Setup,
    pub(crate) now_ms: u64,
    pub(crate) rng: Rng,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    pub(crate) network: Network,
    pub(crate) checker: Checker,
    pub(crate) snapshots_installed: u64,
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    tokens: u64,
}

impl Cluster {
    pub(crate) fn new(setup: Setup) -> Cluster {
        let mut cluster = Cluster {
            now_ms: 0,
            rng: Rng::new(setup.seed),
            replicas: BTreeMap::new(),
            network: Network::new(setup.weather.clone()),
            checker: Checker::default(),
            snapshots_installed: 0,
            events: BTreeMap::new(),
            event_count: 0,
            tokens: 0,
            setup,
        };
        for id in 1..=cluster.setup.voters + cluster.setup.spares {
            cluster.add(id);
        }
        cluster
    }

    fn add(&mut self, id: ReplicaId) {
        let is_founder = id <= self.setup.voters;
        let founding = if is_founder { founders(self.setup.voters) } else { Membership::default() };
        let skew = self.setup.skewed_clocks;
        let replica = Replica {
            core: None,
            disk: Disk { founding, ..Disk::default() },
            program: Program::default(),
            queue: Queue::default(),
            incarnation: 0,
            paused_until_ms: 0,
            clock_offset_ms: if skew { self.rng.below(10_000) } else { 0 },
            clock_rate: if skew { 800 + self.rng.below(400) } else { 1000 },
            staged: Vec::new(),
            reads: BTreeSet::new(),
        };
        self.replicas.insert(id, replica);
        self.schedule(TICK_MS, Event::Tick(id));
        self.start(id);
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now_ms + after_ms, self.event_count), event);
    }

    pub(crate) fn ids(&self) -> Vec<ReplicaId> {
        self.replicas.keys().copied().collect()
    }

    pub(crate) fn core(&self, id: ReplicaId) -> &Core {
        self.replicas[&id].core.as_ref().expect("the replica runs")
    }

    /// The master of the latest view that has one running.
    pub(crate) fn master(&self) -> Option<ReplicaId> {
        let masters = self.replicas.values().filter_map(|replica| replica.core.as_ref());
        masters.filter(|core| core.role() == Role::Master).max_by_key(|core| core.view()).map(Core::id)
    }

    /// Starts a replica from its disk. Nothing happens if it runs.
    pub(crate) fn start(&mut self, id: ReplicaId) {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        if replica.core.is_some() {
            return;
        }
        replica.incarnation += 1;
        if self.setup.sabotage == Some(Sabotage::LosesTail) && replica.incarnation > 1 {
            replica.disk.log.pop_last();
        }
        replica.program = match &replica.disk.snapshot {
            Some((meta, data)) => Program::unmarshal(meta, data),
            None => Program::default(),
        };
        let now_ms = replica.clock(self.now_ms);
        let config = self.setup.config(id, replica.incarnation);
        replica.core = Some(Core::new(config, replica.disk.restored(), now_ms).expect("the disk is sound"));
        self.checker.started(id, &replica.disk);
        self.pump(id);
    }

    /// Kills a replica. Of what is on its way to the disk some arrives, in order, and nobody hears of it.
    pub(crate) fn crash(&mut self, id: ReplicaId) {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        if replica.core.take().is_none() {
            return;
        }
        let mut writes = std::mem::take(&mut replica.queue).writes;
        let arriving = self.rng.below(writes.len() as u64 + 1);
        for write in writes.iter_mut().take(usize::try_from(arriving).expect("small")) {
            write_with(self.setup.sabotage, &mut replica.disk, write);
        }
        replica.staged.clear();
        self.checker.forget_reads(std::mem::take(&mut replica.reads).into_iter());
    }

    pub(crate) fn pause(&mut self, id: ReplicaId, for_ms: u64) {
        self.replicas.get_mut(&id).expect("it exists").paused_until_ms = self.now_ms + for_ms;
    }

    /// Calls an input of a running replica, and does what comes of it.
    pub(crate) fn input<R>(&mut self, id: ReplicaId, call: impl FnOnce(&mut Core, u64) -> R) -> Option<R> {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        if replica.paused_until_ms > self.now_ms {
            return None;
        }
        let now_ms = replica.clock(self.now_ms);
        let result = call(replica.core.as_mut()?, now_ms);
        self.pump(id);
        Some(result)
    }

    pub(crate) fn propose(&mut self, id: ReplicaId, count: u64) -> bool {
        let tokens: Vec<Bytes> =
            (0..count).map(|_| Bytes::from(format!("command {}", self.token()))).collect();
        self.input(id, |core, now_ms| core.propose(now_ms, tokens)).is_some_and(|result| result.is_ok())
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    pub(crate) fn read(&mut self, id: ReplicaId) {
        let token = self.token();
        self.checker.read(token);
        self.replicas.get_mut(&id).expect("it exists").reads.insert(token);
        let accepted =
            self.input(id, |core, now_ms| core.read(now_ms, token)).is_some_and(|result| result.is_ok());
        if !accepted {
            self.checker.forget_reads(std::iter::once(token));
        }
    }

    /// The replica's program writes a snapshot of what it applied.
    pub(crate) fn snapshot(&mut self, id: ReplicaId) {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        let Some(core) = &replica.core else { return };
        let Some(meta) = core.snapshot_meta(replica.program.applied.seq) else { return };
        if meta.stamp.seq == 0 {
            return;
        }
        assert_eq!(meta.stamp, replica.program.applied);
        let data = replica.program.marshal();
        self.enqueue(id, Write::Snapshot { meta, data });
    }

    fn enqueue(&mut self, id: ReplicaId, write: Write) {
        let takes_ms = self.rng.below(self.setup.disk_ms_max + 1);
        let replica = self.replicas.get_mut(&id).expect("it exists");
        replica.queue.writes.push_back(write);
        // In order, and together: one fsync serves all that waits.
        replica.queue.busy_until_ms = replica.queue.busy_until_ms.max(self.now_ms + takes_ms);
        let (after_ms, incarnation) = (replica.queue.busy_until_ms - self.now_ms, replica.incarnation);
        self.schedule(after_ms, Event::Written { id, incarnation });
    }

    /// Does what the core of `id` wants done, until it wants nothing more.
    fn pump(&mut self, id: ReplicaId) {
        while let Some(again) = self.pump_once(id)
            && again
        {}
    }

    fn pump_once(&mut self, id: ReplicaId) -> Option<bool> {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        let now_ms = replica.clock(self.now_ms);
        let mut outputs = replica.core.as_mut()?.take_outputs(now_ms);
        let disks = self.replicas.iter().map(|(&id, replica)| (id, &replica.disk)).collect();
        let core = self.replicas[&id].core.as_ref()?;
        self.checker.outputs(core, &outputs, &disks);
        self.transmit(id, std::mem::take(&mut outputs.messages));
        let installed = self.apply(id, &outputs);
        let wanted = std::mem::take(&mut outputs.snapshots_wanted);
        let chunks = std::mem::take(&mut outputs.snapshot_chunks);
        let must_persist = outputs.must_persist();
        let must_wait =
            must_persist || !outputs.after_persist.is_empty() && !self.replicas[&id].queue.writes.is_empty();
        if self.setup.sabotage == Some(Sabotage::NeverWaits) {
            self.transmit(id, std::mem::take(&mut outputs.after_persist));
            self.replicas.get_mut(&id)?.core.as_mut()?.persisted(now_ms, outputs.number);
        }
        if must_wait {
            self.enqueue(id, Write::Batch { outputs: Box::new(outputs), installed });
        } else {
            self.transmit(id, std::mem::take(&mut outputs.after_persist));
        }
        let again = !wanted.is_empty() || !chunks.is_empty();
        wanted.into_iter().for_each(|wanted| self.send_chunk(id, wanted));
        chunks.into_iter().for_each(|chunk| self.take_chunk(id, chunk));
        Some(again || self.setup.sabotage == Some(Sabotage::NeverWaits) && must_persist)
    }

    fn transmit(&mut self, from: ReplicaId, messages: Vec<(ReplicaId, Message)>) {
        for (to, message) in messages {
            if self.setup.sabotage != Some(Sabotage::NeverWaits) {
                self.checker.sent(from, to, &message, &self.replicas[&from].disk);
            }
            if !self.replicas.contains_key(&to) {
                continue;
            }
            for after_ms in self.network.delays(&mut self.rng, from, to) {
                self.schedule(after_ms, Event::Deliver { from, to, message: message.clone() });
            }
        }
    }

    /// Brings the program up to date. Returns the data of an installed snapshot.
    fn apply(&mut self, id: ReplicaId, outputs: &Outputs) -> Option<Bytes> {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        let mut installed = None;
        if let Some(install) = &outputs.install_snapshot {
            let data = Bytes::from(std::mem::take(&mut replica.staged));
            replica.program = Program::unmarshal(&install.meta, &data);
            self.checker.applied(&replica.program);
            self.snapshots_installed += 1;
            installed = Some(data);
        }
        for entry in &outputs.committed {
            replica.program.apply(entry);
            self.checker.applied(&replica.program);
        }
        let answered =
            outputs.reads_ready.iter().map(|ready| ready.token).chain(outputs.reads_failed.iter().copied());
        answered.for_each(|token| {
            replica.reads.remove(&token);
        });
        installed
    }

    fn send_chunk(&mut self, id: ReplicaId, wanted: SnapshotWanted) {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        let Some((meta, data)) = replica.disk.snapshot.clone() else { return };
        let offset = if wanted.stamp == Some(meta.stamp) { wanted.offset } else { 0 };
        let start = usize::try_from(offset).expect("small");
        let end = data.len().min(start + 64);
        let now_ms = replica.clock(self.now_ms);
        let core = replica.core.as_mut().expect("it runs");
        let sent =
            core.send_snapshot(now_ms, wanted.to, &meta, offset, data.slice(start..end), end == data.len());
        // The snapshot on disk may be older than one just installed; the piece is asked for again.
        assert!(matches!(sent, Ok(()) | Err(SnapshotError::Foreign { .. })), "{sent:?}");
    }

    fn take_chunk(&mut self, id: ReplicaId, chunk: SnapshotChunk) {
        let is_spoilt = chunk.done && self.rng.below(10) == 0;
        let replica = self.replicas.get_mut(&id).expect("it exists");
        if chunk.offset == 0 {
            replica.staged.clear();
        }
        assert_eq!(replica.staged.len() as u64, chunk.offset, "pieces come in order");
        replica.staged.extend_from_slice(&chunk.data);
        let now_ms = replica.clock(self.now_ms);
        let core = replica.core.as_mut().expect("it runs");
        if is_spoilt {
            core.snapshot_spoilt(now_ms);
        } else if chunk.done {
            core.snapshot_received(now_ms, chunk.meta.stamp).expect("it was received");
        }
    }

    /// Goes on to the next thing that happens.
    pub(crate) fn step(&mut self) {
        let ((at_ms, _), event) = self.events.pop_first().expect("ticks never end");
        self.now_ms = at_ms;
        let target = event.target();
        let paused_until_ms = self.replicas[&target].paused_until_ms;
        if paused_until_ms > self.now_ms {
            return self.schedule(paused_until_ms - self.now_ms, event);
        }
        match event {
            Event::Tick(id) => {
                self.schedule(TICK_MS, Event::Tick(id));
                self.input(id, Core::tick);
            }
            Event::Deliver { from, to, message } => {
                self.input(to, |core, now_ms| core.receive(now_ms, from, message));
            }
            Event::Written { id, incarnation } => self.written(id, incarnation),
        }
        if self.setup.check_lease {
            self.check_lease();
        }
    }

    fn written(&mut self, id: ReplicaId, incarnation: u64) {
        let replica = self.replicas.get_mut(&id).expect("it exists");
        if replica.core.is_none() || replica.incarnation != incarnation {
            return;
        }
        let mut write = replica.queue.writes.pop_front().expect("each event has its write");
        let messages = write_with(self.setup.sabotage, &mut replica.disk, &mut write);
        self.transmit(id, messages);
        self.input(id, |core, now_ms| match &write {
            Write::Batch { outputs, .. } => core.persisted(now_ms, outputs.number),
            Write::Snapshot { meta, .. } => core.snapshot_taken(meta).expect("the snapshot is of this log"),
        });
    }

    fn check_lease(&self) {
        let is_sure = |replica: &&Replica| {
            replica.core.as_ref().is_some_and(|core| core.is_master_with_quorum(self.now_ms))
        };
        let sure: Vec<_> = self.replicas.values().filter(is_sure).collect();
        assert!(sure.len() <= 1, "two masters believe in their quorum at {} ms", self.now_ms);
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.step();
        }
    }

    /// Runs until `done`, which must be within `ms`.
    pub(crate) fn run_until(&mut self, ms: u64, what: &str, done: impl Fn(&Cluster) -> bool) {
        let until_ms = self.now_ms + ms;
        while !done(self) {
            assert!(self.now_ms < until_ms, "not within {ms} ms: {what}");
            self.step();
        }
    }

    /// Runs until somebody acts as master.
    pub(crate) fn elect(&mut self) -> ReplicaId {
        let settled = |cluster: &Cluster| {
            let master = cluster.master().map(|id| cluster.core(id));
            master.is_some_and(|core| core.is_settled() && core.is_master_with_quorum(0))
        };
        self.run_until(5_000, "a master", settled);
        self.master().expect("there is one")
    }

    /// Whether every member known to the master has applied everything that it has.
    pub(crate) fn is_even(&self) -> bool {
        let Some(master) = self.master().map(|id| self.core(id)) else { return false };
        let applied = |id| {
            self.replicas.get(&id).map(|replica: &Replica| (replica.program.applied, replica.program.hash))
        };
        let wanted = applied(master.id());
        wanted.is_some_and(|(stamp, _)| stamp == master.last())
            && master.membership().members.iter().all(|member| applied(member.id) == wanted)
    }

    /// All faults end, and the cluster must get on: a master, a new command, everybody equal.
    pub(crate) fn recover(&mut self) {
        self.network.heal();
        self.network.weather = Weather::FAIR;
        self.setup.disk_ms_max = 3;
        for id in self.ids() {
            self.replicas.get_mut(&id).expect("it exists").paused_until_ms = 0;
            self.start(id);
        }
        let before = self.checker.committed_seq();
        let until_ms = self.now_ms + 10_000;
        while self.checker.committed_seq() == before || !self.is_even() {
            assert!(self.now_ms < until_ms, "no progress after the faults ended:\n{}", self.describe());
            if self.checker.committed_seq() == before
                && let Some(master) = self.master()
            {
                self.propose(master, 1);
            }
            self.run_for(50);
        }
    }

    pub(crate) fn describe(&self) -> String {
        let line = |(id, replica): (&ReplicaId, &Replica)| match &replica.core {
            None => format!("{id}: down"),
            Some(core) => format!(
                "{id}: {:?} view {} master {:?} last {} committed {} applied {} members {:?} followers {:?}",
                core.role(),
                core.view(),
                core.master(),
                core.last(),
                core.committed(),
                replica.program.applied,
                core.membership().members.iter().map(|member| (member.id, member.voter)).collect::<Vec<_>>(),
                core.followers(replica.clock(self.now_ms)),
            ),
        };
        self.replicas.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
