//! A simulated replica: its process while it runs, its disk, its clock.

use super::brain::{Brain, Task};
use super::disk::{Disk, Queue};
use super::register::Register;
use super::setup::Setup;
use lock_rsm::consensus::{Core, ReplicaId, Role};
use lock_rsm::rsm::{Machine, ReplyLimits};
use std::collections::VecDeque;
use std::sync::Arc;

/// A replica, running or not.
pub struct Node {
    /// Its identity.
    pub id: ReplicaId,
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
    pub brain: Brain,
    /// Executes, on a thread of its own.
    pub machine: Machine,
    /// What `machine` works on.
    pub register: Arc<Register>,
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
        self.process.as_ref().map(|process| process.brain.core())
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
        let register = Arc::new(Register::default());
        let mut machine = Machine::new(register.clone(), ReplyLimits::default());
        if let Some(snapshot) = &self.disk.snapshot {
            let restored = machine.restore(snapshot.state.clone(), snapshot.meta.stamp);
            restored.map_err(|error| format!("replica {} cannot read its snapshot: {error}", self.id))?;
        }
        let restored = self.disk.restored();
        let brain = Brain::new(setup, self.id, self.incarnation, restored, self.clock(now_ms))
            .map_err(|error| format!("replica {} cannot start from its disk: {error}", self.id))?;
        let (tasks, busy_until_ms) = (VecDeque::new(), now_ms);
        self.process = Some(Process { brain, machine, register, tasks, busy_until_ms });
        Ok(())
    }

    /// One line on how it stands, for a failure.
    pub fn describe(&self, now_ms: u64) -> String {
        let Some(process) = &self.process else { return format!("{}: down", self.id) };
        let core = process.brain.core();
        let members = core.membership().members.iter();
        format!(
            "{}: {:?} view {} master {:?} last {} committed {} applied {} members {:?} followers {:?}",
            self.id,
            core.role(),
            core.view(),
            core.master(),
            core.last(),
            core.committed(),
            process.machine.applied(),
            members.map(|member| (member.id, member.voter)).collect::<Vec<_>>(),
            core.followers(self.clock(now_ms)),
        )
    }
}
