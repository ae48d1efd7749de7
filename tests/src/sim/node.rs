//! A simulated replica: its process while it runs, its disk, its clock.

use super::disk::{Disk, Queue};
use super::reads::Reads;
use super::services::Services;
use super::setup::Setup;
use lock_rsm::consensus::{Config, Core, ReplicaId, Role};
use lock_rsm::rsm::core::{Boot, Program, ReplicaConfig, ReplicaCore, Task, boot_within};
use lock_rsm::rsm::{Identity, Limits};
use std::collections::VecDeque;
use std::sync::Arc;

/// A replica, running or not.
pub struct Node {
    /// Its identity.
    pub id: ReplicaId,
    /// Where it listens.
    pub address: String,
    /// Its disk is lost, and it with it.
    pub is_gone: bool,
    /// What survives a crash.
    pub disk: Disk,
    /// What is on its way to the disk.
    pub queue: Queue,
    /// The process; `None` while it is down.
    pub process: Option<Process>,
    /// How often it was started.
    pub incarnation: u64,
    /// It stands still until then, as if stopped by a signal.
    pub paused_until_ms: u64,
    /// A write takes up to this long.
    pub disk_ms_max: u64,
    clock_offset_ms: u64,
    /// Thousandths of true time.
    clock_rate: u64,
}

/// What is lost in a crash.
pub struct Process {
    /// Decides.
    pub core: ReplicaCore<u64>,
    /// Executes, on a thread of its own.
    pub program: Program<u64>,
    /// Bytes of entries that `program` has worked off.
    pub applied_bytes: u64,
    /// What `program` works on.
    pub services: Arc<Services>,
    /// The reads that wait for a majority, or for `program`.
    pub reads: Reads,
    /// What waits for that thread.
    pub tasks: VecDeque<Task>,
    /// When the thread will have done the last of them.
    pub busy_until_ms: u64,
}

impl Node {
    /// A replica that was never started, with a disk and a clock.
    pub fn new(id: ReplicaId, disk: Disk, disk_ms_max: u64, clock_offset_ms: u64, clock_rate: u64) -> Node {
        Node {
            id,
            address: address(id),
            is_gone: false,
            disk,
            queue: Queue::default(),
            process: None,
            incarnation: 0,
            paused_until_ms: 0,
            disk_ms_max,
            clock_offset_ms,
            clock_rate,
        }
    }

    /// The consensus core of a running replica.
    pub fn core(&self) -> Option<&Core> {
        self.process.as_ref().map(|process| process.core.consensus())
    }

    /// Whether it runs and takes itself for a master.
    pub fn is_master(&self) -> bool {
        self.core().is_some_and(|core| core.role() == Role::Master)
    }

    /// What its clock shows.
    pub fn clock(&self, now_ms: u64) -> u64 {
        self.clock_offset_ms + now_ms * self.clock_rate / 1000
    }

    /// Starts the process from the disk.
    pub fn start(&mut self, setup: &Setup, now_ms: u64) -> Result<(), String> {
        self.incarnation += 1;
        let services = Arc::new(Services::default());
        let config = ReplicaConfig {
            election_timeout_ms: setup.election_timeout_ms,
            heartbeat_ms: setup.heartbeat_ms,
            remove_after_ms: setup.remove_after_ms,
            limits: Limits { snapshot_after_entries: setup.snapshot_after, ..Limits::default() },
            ..ReplicaConfig::new(self.id, setup.seed ^ (self.id << 32) ^ (self.incarnation << 48))
        };
        let recovered = self.disk.recovered(Identity { id: self.id, address: self.address.clone() });
        let (founding, now) = (self.disk.founding.clone(), self.clock(now_ms));
        let booted = boot_within(config, bounds(setup), services.clone(), recovered, founding, now);
        let Boot { core, program, .. } =
            booted.map_err(|error| format!("replica {} cannot start from its disk: {error}", self.id))?;
        self.process = Some(Process {
            core,
            program,
            applied_bytes: 0,
            services,
            reads: Reads::default(),
            tasks: VecDeque::new(),
            busy_until_ms: now_ms,
        });
        Ok(())
    }

    /// One line on how it stands, for a failure.
    pub fn describe(&self, now_ms: u64) -> String {
        let Some(process) = &self.process else { return format!("{}: down", self.id) };
        let core = process.core.consensus();
        let members = core.membership().members.iter();
        format!(
            "{}: {:?} view {} master {:?} last {} committed {} applied {} members {:?} followers {:?}",
            self.id,
            core.role(),
            core.view(),
            core.master(),
            core.last(),
            core.committed(),
            process.program.applied(),
            members.map(|member| (member.id, member.voter)).collect::<Vec<_>>(),
            core.followers(self.clock(now_ms)),
        )
    }
}

/// Where a simulated replica listens, unless it came for another.
pub fn address(id: ReplicaId) -> String {
    format!("replica-{id}")
}

/// Small bounds, so that windows fill, logs are compacted and snapshots travel in pieces.
fn bounds(setup: &Setup) -> Config {
    Config {
        snapshot_retry_ms: 100,
        append_bytes_max: 400,
        append_entries_max: setup.append_entries_max,
        inflight_messages_max: 4,
        inflight_bytes_max: 1_000,
        uncommitted_bytes_max: 4_000,
        tail_bytes_max: setup.tail_bytes,
        pinned_bytes_max: 2 * setup.tail_bytes,
        snapshot_chunk_bytes_max: setup.chunk_bytes,
        ..Config::new(0, 0)
    }
}
