//! The simulated world: replicas, clients, network, disks and time in one thread. All of it follows from the seed.

use super::client::{Answered, Attempt, Client, Context, Wish};
use super::digest::Digest;
use super::disk::{Disk, Job};
use super::histories::Histories;
use super::invariants::{Invariant, Nodes, Seen, all};
use super::network::Network;
use super::node::{Node, address};
use super::setup::Setup;
use crate::linear::models::RegisterAnswer;
use crate::rng::Rng;
use lock_rsm::consensus::{Member, Membership, Message, ReadError, ReplicaId};
use lock_rsm::rsm::core::{Answer, Applied, Effects, Input, Outcome, Proposal, Refused, Task, Write};
use std::collections::BTreeMap;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

/// Something that is due.
#[derive(Debug)]
enum Event {
    /// A replica looks at its clock.
    Tick(ReplicaId),
    /// A client looks at its clock.
    ClientTick(usize),
    /// A message between replicas arrives.
    Deliver { from: ReplicaId, to: ReplicaId, message: Box<Message> },
    /// A replica that is left out tells another that it wants to be taken in.
    Asked { to: ReplicaId, id: ReplicaId, address: String },
    /// A client's attempt arrives.
    Ask { client: usize, attempt: Attempt },
    /// An answer arrives at a client.
    Answer { client: usize, token: u64, answer: Answer, hint: Option<ReplicaId> },
    /// The oldest job of that incarnation's disk is done.
    DiskDone { id: ReplicaId, incarnation: u64 },
    /// The oldest task of that incarnation's program is due.
    TaskDue { id: ReplicaId, incarnation: u64 },
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub steps: u64,
    /// Replicas that became master.
    pub masters: u64,
    /// Requests answered.
    pub acknowledged: u64,
    /// Reads answered without the log.
    pub reads: u64,
    /// Operations whose history was looked at in the end.
    pub checked: u64,
    /// Those of unknown outcome among them.
    pub unknown: u64,
    /// Replicas killed, failed disks included.
    pub crashes: u64,
    /// Disks that failed.
    pub disk_failures: u64,
    /// Snapshots received whole and installed.
    pub installed: u64,
    /// Replicas shut down cleanly.
    pub shutdowns: u64,
    /// Changes of the membership made by hand.
    pub changes: u64,
    /// Requests to be taken in that reached a master.
    pub asked_in: u64,
    /// Replicas that lost their disk.
    pub lost_disks: u64,
}

impl Counts {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.masters += other.masters;
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.checked += other.checked;
        self.unknown += other.unknown;
        self.crashes += other.crashes;
        self.disk_failures += other.disk_failures;
        self.installed += other.installed;
        self.shutdowns += other.shutdowns;
        self.changes += other.changes;
        self.asked_in += other.asked_in;
        self.lost_disks += other.lost_disks;
    }
}

/// The world.
pub struct World {
    /// What it is like.
    pub setup: Setup,
    /// Virtual time.
    pub now_ms: u64,
    /// All randomness of the run.
    pub rng: Rng,
    /// The replicas.
    pub nodes: Nodes,
    /// The network.
    pub network: Network,
    /// The clients.
    pub clients: Vec<Client>,
    /// How much happened.
    pub counts: Counts,
    /// One more than the greatest place that was answered.
    pub answered: u64,
    /// What the clients asked of registers and locks, and were answered.
    histories: Histories,
    invariants: Vec<Box<dyn Invariant>>,
    digest: Digest,
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    /// Which client made which attempt.
    asked: BTreeMap<u64, usize>,
    tokens: u64,
    last_master: (u64, ReplicaId),
}

/// How often a client looks at its clock.
const CLIENT_TICK_MS: u64 = 10;

impl World {
    /// A group that starts, and clients that begin to ask.
    pub fn new(setup: Setup) -> Result<World, Broken> {
        let mut world = World {
            now_ms: 0,
            rng: Rng::new(setup.seed),
            nodes: Nodes::new(),
            network: Network::new(setup.weather.clone()),
            clients: Vec::new(),
            counts: Counts::default(),
            answered: 0,
            histories: Histories::default(),
            invariants: all(),
            digest: Digest::default(),
            events: BTreeMap::new(),
            event_count: 0,
            asked: BTreeMap::new(),
            tokens: 0,
            last_master: (0, 0),
            setup,
        };
        for id in 1..=world.setup.founders + world.setup.spares {
            world.add(id, address(id))?;
        }
        for index in 0..world.setup.clients {
            world.clients.push(Client::new(index, world.setup.client_window));
            world.schedule(CLIENT_TICK_MS, Event::ClientTick(index));
        }
        Ok(world)
    }

    fn add(&mut self, id: ReplicaId, address: String) -> Result<(), Broken> {
        let founders = 1..=self.setup.founders;
        let founding =
            if founders.contains(&id) { founders.map(|id| member(id, true)).collect() } else { vec![] };
        let disk = Disk { founding: Membership::of(founding), ..Disk::default() };
        let skew = self.setup.clock_skew;
        let offset = if skew > 0 { self.below(10_000) } else { 0 };
        let rate = 1000 - skew + self.below(2 * skew + 1);
        let mut node = Node::new(id, disk, self.setup.disk_ms_max, offset, rate);
        node.address = address;
        self.nodes.insert(id, node);
        self.schedule(self.setup.tick_ms, Event::Tick(id));
        self.start(id)
    }

    /// A replica.
    pub fn node(&mut self, id: ReplicaId) -> &mut Node {
        self.nodes.get_mut(&id).expect("it exists")
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now_ms + after_ms, self.event_count), event);
    }

    /// All identities.
    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    /// The running master of the latest view that has one.
    pub fn master(&self) -> Option<ReplicaId> {
        let masters = self.nodes.values().filter(|node| node.is_master());
        masters.max_by_key(|node| node.core().map(|core| core.view())).map(|node| node.id)
    }

    /// The master that appeared since this was last asked, if one did.
    pub fn new_master(&mut self) -> Option<ReplicaId> {
        let id = self.master()?;
        let view = self.nodes[&id].core()?.view();
        let is_new = self.last_master != (view, id);
        self.last_master = (view, id);
        self.counts.masters += u64::from(is_new);
        is_new.then_some(id)
    }

    /// A number that tells runs apart.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    fn see(&mut self, at: ReplicaId, seen: &Seen<'_>) -> Result<(), Broken> {
        for invariant in &mut self.invariants {
            let name = invariant.name();
            let broken = |what| Broken { invariant: name, what };
            invariant.observe(at, seen, &self.nodes).map_err(broken)?;
        }
        Ok(())
    }

    /// Starts a replica from its disk. Nothing happens if it runs.
    pub fn start(&mut self, id: ReplicaId) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if node.process.is_some() || node.is_gone {
            return Ok(());
        }
        node.queue = Default::default();
        let started = node.start(&self.setup, self.now_ms);
        started.map_err(|what| Broken { invariant: "a replica starts from its disk", what })?;
        let disk = node.disk.clone();
        self.see(id, &Seen::Started(&disk))?;
        self.pump(id)
    }

    /// Kills a replica. Of what is on its way to the disk some arrives, and nobody hears of it.
    pub fn crash(&mut self, id: ReplicaId) {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if node.process.take().is_some() {
            node.queue.crash(&mut self.rng, &mut node.disk);
            self.counts.crashes += 1;
        }
    }

    /// Something happens to a running replica that does not stand still, and it does what comes of it.
    pub fn input(&mut self, id: ReplicaId, input: Input<u64>) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if node.paused_until_ms > self.now_ms {
            return Ok(());
        }
        let now_ms = node.clock(self.now_ms);
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        process.core.step(now_ms, input);
        self.pump(id)
    }

    /// Has a replica propose a membership.
    pub fn change(&mut self, id: ReplicaId, membership: Membership) -> Result<(), Broken> {
        let now_ms = self.nodes[&id].clock(self.now_ms);
        let Some(process) = self.node(id).process.as_mut() else { return Ok(()) };
        let changed = process.core.propose_membership(now_ms, membership);
        self.counts.changes += u64::from(changed.is_ok());
        self.pump(id)
    }

    /// A replica's disk is lost for good. Another one comes in its place, at the same address.
    pub fn lose_disk(&mut self, id: ReplicaId) -> Result<(), Broken> {
        self.crash(id);
        let gone = self.node(id);
        gone.is_gone = true;
        let address = gone.address.clone();
        self.counts.lost_disks += 1;
        let new = self.nodes.keys().max().expect("there are replicas") + 1;
        self.add(new, address)
    }

    fn pump(&mut self, id: ReplicaId) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        let now_ms = node.clock(self.now_ms);
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        let Effects {
            messages, writes, tasks, pieces, reads_ready, reads_failed, ask_in, refused, done, ..
        } = process.core.take_effects(now_ms);
        process.reads.confirmed(reads_ready);
        for (to, message) in messages {
            self.transmit(id, to, message)?;
        }
        for write in writes {
            self.see(id, &Seen::Logged(&write.write))?;
            self.give_disk(id, Job::Write(write));
        }
        for task in tasks {
            self.give_program(id, task)?;
        }
        pieces.into_iter().for_each(|wanted| self.give_disk(id, Job::Piece(wanted)));
        refused.into_iter().for_each(|(token, why): (u64, Refused)| self.answer(id, token, &Err(why)));
        reads_failed.into_iter().for_each(|token| self.read_refused(id, token, Refused::NotMaster));
        self.answer_reads(id);
        if ask_in {
            self.ask_in(id);
        }
        if done {
            self.counts.shutdowns += 1;
            self.crash(id);
        }
        Ok(())
    }

    fn transmit(&mut self, from: ReplicaId, to: ReplicaId, message: Message) -> Result<(), Broken> {
        self.see(from, &Seen::Sent(to, &message))?;
        for after_ms in self.network.between(&mut self.rng, from, to) {
            self.schedule(after_ms, Event::Deliver { from, to, message: Box::new(message.clone()) });
        }
        Ok(())
    }

    fn ask_in(&mut self, id: ReplicaId) {
        let address = self.nodes[&id].address.clone();
        for to in self.ids().into_iter().filter(|to| *to != id) {
            for after_ms in self.network.between(&mut self.rng, id, to) {
                self.schedule(after_ms, Event::Asked { to, id, address: address.clone() });
            }
        }
    }

    fn give_disk(&mut self, id: ReplicaId, job: Job) {
        let most = self.nodes[&id].disk_ms_max;
        let takes_ms = if matches!(job, Job::Piece(_)) { 0 } else { self.below(most + 1) };
        let now_ms = self.now_ms;
        let node = self.node(id);
        node.queue.jobs.push_back(job);
        // In order, and together: one sync serves all that waits.
        node.queue.busy_until_ms = node.queue.busy_until_ms.max(now_ms + takes_ms);
        let (after_ms, incarnation) = (node.queue.busy_until_ms - now_ms, node.incarnation);
        self.schedule(after_ms, Event::DiskDone { id, incarnation });
    }

    fn give_program(&mut self, id: ReplicaId, task: Task) -> Result<(), Broken> {
        let Task::Apply(entries) = task else { return self.give_task(id, task) };
        self.see(id, &Seen::Committed(&entries))?;
        // One by one, so that the state is looked at after each.
        entries.into_iter().try_for_each(|entry| self.give_task(id, Task::Apply(vec![entry])))
    }

    fn give_task(&mut self, id: ReplicaId, task: Task) -> Result<(), Broken> {
        let takes_ms = self.below(self.setup.program_ms_max + 1);
        let now_ms = self.now_ms;
        let node = self.node(id);
        let incarnation = node.incarnation;
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        process.tasks.push_back(task);
        process.busy_until_ms = process.busy_until_ms.max(now_ms + takes_ms);
        let after_ms = process.busy_until_ms - now_ms;
        self.schedule(after_ms, Event::TaskDue { id, incarnation });
        Ok(())
    }

    fn answer(&mut self, from: ReplicaId, token: u64, answer: &Answer) {
        let Some(&client) = self.asked.get(&token) else { return };
        let hint = self.nodes[&from].core().and_then(|core| core.master());
        for after_ms in self.network.copies(&mut self.rng) {
            self.schedule(after_ms, Event::Answer { client, token, answer: answer.clone(), hint });
        }
    }

    /// A client wants a register read without a word of it in the log.
    fn ask_read(&mut self, id: ReplicaId, token: u64, register: u64) -> Result<(), Broken> {
        let now_ms = self.nodes[&id].clock(self.now_ms);
        let Some(process) = self.node(id).process.as_mut() else { return Ok(()) };
        match process.core.read(now_ms, token) {
            Ok(()) => process.reads.ask(token, register),
            Err(ReadError::NotMaster { .. }) => self.read_refused(id, token, Refused::NotMaster),
            Err(ReadError::Overloaded { .. }) => self.read_refused(id, token, Refused::Busy),
        }
        self.pump(id)
    }

    fn read_refused(&mut self, id: ReplicaId, token: u64, why: Refused) {
        if let Some(process) = self.node(id).process.as_mut() {
            process.reads.failed(token);
        }
        self.answer(id, token, &Err(why));
    }

    /// Answers what is confirmed and may be read by now.
    fn answer_reads(&mut self, id: ReplicaId) {
        let Some(process) = self.node(id).process.as_mut() else { return };
        let due = process.reads.take_due(process.program.applied().seq);
        let services = process.services.clone();
        for (token, register) in due {
            let value = RegisterAnswer::Value(services.register_value(register));
            let reply = rpc::codec::encode(&value).into();
            self.counts.reads += 1;
            self.answer(id, token, &Ok(Applied::Executed(Outcome::Done(reply))));
        }
    }

    /// Goes on to the next thing that is due.
    pub fn step(&mut self) -> Result<(), Broken> {
        let ((at_ms, _), event) = self.events.pop_first().expect("ticks never end");
        self.now_ms = at_ms;
        self.counts.steps += 1;
        let target = event.replica();
        if let Some(node) = target.and_then(|id| self.nodes.get(&id))
            && node.paused_until_ms > self.now_ms
        {
            let after_ms = node.paused_until_ms - self.now_ms;
            self.schedule(after_ms, event);
            return Ok(());
        }
        event.add_to(&mut self.digest, at_ms);
        self.happen(event)?;
        self.see(target.unwrap_or(0), &Seen::Step)
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Tick(id) => {
                self.schedule(self.setup.tick_ms, Event::Tick(id));
                self.input(id, Input::Tick)
            }
            Event::ClientTick(client) => {
                self.schedule(CLIENT_TICK_MS, Event::ClientTick(client));
                self.client_tick(client);
                Ok(())
            }
            Event::Deliver { from, to, message } => {
                self.input(to, Input::Message { from, message: *message })
            }
            Event::Asked { to, id, address } => {
                self.counts.asked_in += u64::from(self.nodes[&to].is_master());
                self.input(to, Input::Asked { id, address })
            }
            Event::Ask { client, attempt: Attempt { to, token: ticket, wish } } => {
                self.asked.insert(ticket, client);
                match wish {
                    Wish::Execute(key, command) => {
                        self.input(to, Input::Propose(Proposal { key, command, ticket }))
                    }
                    Wish::Read(register) => self.ask_read(to, ticket, register),
                }
            }
            Event::Answer { client, token, answer, hint } => self.answered(client, token, answer, hint),
            Event::DiskDone { id, incarnation } => self.disk_done(id, incarnation),
            Event::TaskDue { id, incarnation } => self.task_due(id, incarnation),
        }
    }

    fn client_tick(&mut self, client: usize) {
        let (clients, mut context) = self.context();
        let attempts = clients[client].tick(context.now_ms, &mut context.lent);
        for attempt in attempts {
            for after_ms in self.network.copies(&mut self.rng) {
                self.schedule(after_ms, Event::Ask { client, attempt: attempt.clone() });
            }
        }
    }

    fn answered(
        &mut self,
        client: usize,
        token: u64,
        answer: Answer,
        hint: Option<ReplicaId>,
    ) -> Result<(), Broken> {
        let (clients, mut context) = self.context();
        let answered = clients[client].answer(token, answer, hint, context.now_ms, &mut context.lent);
        let answered = answered.map_err(|what| Broken { invariant: "every request is answered", what })?;
        self.counts.acknowledged += u64::from(answered != Answered::Nothing);
        if let Answered::Append(acknowledged) = answered {
            self.see(0, &Seen::Acknowledged(&acknowledged))?;
            self.answered = self.answered.max(acknowledged.place + 1);
        }
        Ok(())
    }

    fn context(&mut self) -> (&mut [Client], Lent<'_>) {
        let replicas = self.nodes.len();
        let lent = Context {
            rng: &mut self.rng,
            tokens: &mut self.tokens,
            replicas,
            answered: self.answered,
            histories: &mut self.histories,
            at: self.counts.steps,
        };
        (&mut self.clients, Lent { now_ms: self.now_ms, lent })
    }

    fn disk_done(&mut self, id: ReplicaId, incarnation: u64) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if node.process.is_none() || node.incarnation != incarnation {
            return Ok(());
        }
        let is_write = !matches!(node.queue.jobs.front(), Some(Job::Piece(_)) | None);
        if is_write && node.queue.fails {
            // What a failed sync leaves on the disk is anybody's guess; the replica must stop.
            self.counts.disk_failures += 1;
            self.crash(id);
            return Ok(());
        }
        match node.queue.jobs.pop_front() {
            Some(Job::Write(Write { number, write })) => {
                self.counts.installed += u64::from(write.install.is_some());
                node.disk.write(write);
                self.input(id, Input::Persisted(number))
            }
            Some(Job::Save(snapshot)) => {
                let meta = snapshot.meta.clone();
                node.disk.save(snapshot);
                self.input(id, Input::SnapshotSaved(meta))
            }
            Some(Job::Piece(wanted)) => match node.disk.piece(&wanted, self.setup.chunk_bytes) {
                Some(piece) => self.input(id, Input::Piece { to: wanted.to, piece }),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn task_due(&mut self, id: ReplicaId, incarnation: u64) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        let is_current = node.incarnation == incarnation;
        let Some(process) = node.process.as_mut().filter(|_| is_current) else { return Ok(()) };
        let Some(task) = process.tasks.pop_front() else { return Ok(()) };
        let performed = process.program.perform(task.clone());
        let report = performed
            .map_err(|error| Broken { invariant: "a snapshot can be read", what: error.to_string() })?;
        process.applied_bytes += report.bytes;
        let applied = Input::Applied(process.applied_bytes);
        self.look_at(id, &task)?;
        for (token, answer) in report.answers {
            self.answer(id, token, &answer);
        }
        if let Some(snapshot) = report.snapshot {
            self.give_disk(id, Job::Save(snapshot));
        }
        self.input(id, applied)
    }

    /// Shows the invariants what the program holds after a task.
    fn look_at(&mut self, id: ReplicaId, task: &Task) -> Result<(), Broken> {
        let Some(process) = self.node(id).process.as_mut() else { return Ok(()) };
        let services = process.services.clone();
        let is_hashed = match task {
            Task::Apply(entries) => entries.iter().any(|entry| entry.stamp.seq.is_multiple_of(HASH_EVERY)),
            Task::Restore(..) | Task::Snapshot(_) => true,
            Task::View(..) => false,
        };
        let hashed = is_hashed.then(|| process.program.hash());
        match task {
            Task::Apply(entries) => {
                for entry in entries {
                    services.with(|content| self.see(id, &Seen::Applied(entry, content)))?;
                }
            }
            Task::Restore(meta, _) => {
                services.with(|content| self.see(id, &Seen::Restored(meta, content)))?
            }
            Task::Snapshot(_) | Task::View(..) => {}
        }
        match hashed {
            Some((stamp, hash)) => self.see(id, &Seen::Hashed(stamp, hash)),
            None => Ok(()),
        }
    }

    /// Shows the invariants what each of these replicas holds in the end.
    pub fn see_end(&mut self, members: &[ReplicaId]) -> Result<(), Broken> {
        for &id in members {
            let Some(process) = &self.nodes[&id].process else { continue };
            let content = process.services.with(Clone::clone);
            self.digest.add(content.chain);
            self.see(id, &Seen::End(&content))?;
        }
        Ok(())
    }

    /// Looks for one order of everything that explains what the clients were answered.
    pub fn see_histories(&mut self) -> Result<(), Broken> {
        (self.counts.checked, self.counts.unknown) = self.histories.check()?;
        Ok(())
    }

    /// How everything stands, for a failure.
    pub fn describe(&self) -> String {
        let nodes = self.nodes.values().map(|node| node.describe(self.now_ms));
        let clients = self.clients.iter().map(|client| format!("client {}: {client:?}", client.index));
        nodes.chain(clients).collect::<Vec<_>>().join("\n")
    }
}

/// The hash of the whole state is compared after every so many entries, besides at snapshots; the contents after every
/// one.
const HASH_EVERY: u64 = 8;

struct Lent<'a> {
    now_ms: u64,
    lent: Context<'a>,
}

/// A member of a simulated group.
pub fn member(id: ReplicaId, voter: bool) -> Member {
    Member { id, address: address(id), voter }
}

impl Event {
    /// The replica that it happens to.
    fn replica(&self) -> Option<ReplicaId> {
        match *self {
            Event::Tick(id) | Event::DiskDone { id, .. } | Event::TaskDue { id, .. } => Some(id),
            Event::Deliver { to, .. } | Event::Asked { to, .. } => Some(to),
            Event::Ask { ref attempt, .. } => Some(attempt.to),
            Event::ClientTick(_) | Event::Answer { .. } => None,
        }
    }

    fn add_to(&self, digest: &mut Digest, at_ms: u64) {
        digest.add(at_ms);
        match self {
            Event::Tick(id) => digest.add_all(&[1, *id]),
            Event::ClientTick(client) => digest.add_all(&[2, *client as u64]),
            Event::Deliver { from, to, message } => {
                digest.add_all(&[3, *from, *to]);
                digest.add_bytes(&rpc::codec::encode(message));
            }
            Event::Ask { client, attempt } => {
                digest.add_all(&[4, *client as u64, attempt.to, attempt.token]);
                match &attempt.wish {
                    Wish::Execute(_, command) => digest.add_bytes(command),
                    Wish::Read(register) => digest.add(*register),
                }
            }
            Event::Answer { client, token, answer, .. } => {
                digest.add_all(&[5, *client as u64, *token]);
                if let Ok(Applied::Executed(Outcome::Done(reply))) = answer {
                    digest.add_bytes(reply);
                }
            }
            Event::Asked { to, id, .. } => digest.add_all(&[8, *to, *id]),
            Event::DiskDone { id, incarnation } => digest.add_all(&[6, *id, *incarnation]),
            Event::TaskDue { id, incarnation } => digest.add_all(&[7, *id, *incarnation]),
        }
    }
}
