//! The test port: how `rsm_tester` has a replica die at a chosen point, cuts it off the network, and reads its history.
//!
//! It exists only where a program asks for it (`lock_server --test-port`), and listens on the loopback address alone.
//! Without one a replica has none of this: nothing is recorded, and nothing can be reached.
//!
//! | procedure | arguments → reply | meaning |
//! | --- | --- | --- |
//! | NET_REPAIR 0x12001 | 0 or 1 → 0 | 0: at the next command, cut this replica off; 1: repair that |
//! | BREAKPOINT 0x12002 | 1 to 4 → 0 | die there, see below; 0: call all that off |
//! | HISTORY 0x12003 | seq → [`HistoryPage`] | the committed entries from there on |
//!
//! # Breakpoints
//!
//! | | the replica dies |
//! | --- | --- |
//! | 1 | as master: when the first slave has acknowledged a command, before anything is made of that. As slave: when a command is on disk, before it is acknowledged |
//! | 2 | when a change of the members that keeps this replica is committed; as master, after a slave has heard so |
//! | 3 | as master: when it decided on a change of the members, before anything of it is written or sent |
//! | 4 | as master: when a majority has accepted a change of the members that it decided on itself, before anybody is told |

mod breakpoints;
mod cut;
mod history;

pub use history::{HistoryLine, HistoryPage};

use super::core::{Effects, Task};
use crate::consensus::{Message, ReplicaId, Role};
use breakpoints::{Breakpoints, Event, Standing};
use cut::{Cut, CutTransport};
use history::History;
use parking_lot::Mutex;
use rpc::transport::Transport;
use rpc::{Client, ClientOptions, Register, RpcError, Server, ServerBuilder, ServerOptions, Status};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// The breakpoints are numbered from 1 to this.
pub const BREAKPOINT_LAST: u32 = 4;

/// Procedure numbers of the test port; the first two are the labs'.
pub mod procs {
    /// Arms a partition, or heals it.
    pub const NET_REPAIR: u32 = 0x1_2001;
    /// Arms a breakpoint.
    pub const BREAKPOINT: u32 = 0x1_2002;
    /// The committed entries.
    pub const HISTORY: u32 = 0x1_2003;
}

/// What a test has in mind for one replica.
pub struct TestPort {
    breakpoints: Mutex<Breakpoints>,
    history: Mutex<History>,
    cut: Arc<Cut>,
}

impl TestPort {
    /// Nothing is planned yet.
    pub fn new() -> Arc<TestPort> {
        Arc::new(TestPort { breakpoints: Mutex::default(), history: Mutex::default(), cut: Arc::default() })
    }

    /// The network of a replica that may be cut off: TCP until then. For its server; its own calls use it anyway.
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(CutTransport::new(Arc::clone(&self.cut)))
    }

    /// Takes orders at `address`.
    pub async fn listen(self: &Arc<Self>, address: &str) -> io::Result<Server> {
        let mut server = ServerBuilder::new(ServerOptions::default());
        let port = Arc::clone(self);
        server.register(procs::NET_REPAIR, rpc::typed(move |_, heal: u32| port.net_repair(heal)));
        let port = Arc::clone(self);
        server.register(procs::BREAKPOINT, rpc::typed(move |_, number: u32| port.breakpoint(number)));
        let port = Arc::clone(self);
        server.register(procs::HISTORY, rpc::typed(move |_, from: u64| Ok(port.history.lock().page(from))));
        server.listen(address).await
    }

    fn net_repair(&self, heal: u32) -> Result<i32, Status> {
        match heal {
            0 => self.breakpoints.lock().arm_partition(),
            1 => {
                self.breakpoints.lock().disarm_partition();
                if self.cut.heal() {
                    say("Partition healed!");
                }
            }
            _ => return Err(Status::BAD_ARGS),
        }
        Ok(0)
    }

    fn breakpoint(&self, number: u32) -> Result<i32, Status> {
        match number {
            0 => self.breakpoints.lock().disarm(),
            1..=BREAKPOINT_LAST => self.breakpoints.lock().arm(number),
            _ => return Err(Status::BAD_ARGS),
        }
        Ok(0)
    }

    /// The replica `me` wants this done; nothing of it is yet.
    pub(super) fn wanted<T>(&self, me: ReplicaId, role: Role, effects: &Effects<T>) {
        let standing = Standing { me, role };
        let logged = effects.writes.iter().map(|batch| &batch.write.append);
        let committed = effects.tasks.iter().filter_map(|task| match task {
            Task::Apply(entries) => Some(entries),
            _ => None,
        });
        let mut breakpoints = self.breakpoints.lock();
        let mut events = Vec::new();
        events.extend(logged.filter_map(|entries| breakpoints.logged(standing, entries)));
        events.extend(committed.clone().filter_map(|entries| breakpoints.committed(standing, entries)));
        events.extend(effects.messages.iter().filter_map(|(_, message)| breakpoints.sending(message)));
        drop(breakpoints);
        events.into_iter().for_each(|event| self.happened(event));
        let mut history = self.history.lock();
        committed.for_each(|entries| history.committed(entries));
    }

    /// A message of another replica came and was not looked at yet.
    pub(super) fn received(&self, me: ReplicaId, role: Role, message: &Message) {
        let event = self.breakpoints.lock().received(Standing { me, role }, message);
        event.into_iter().for_each(|event| self.happened(event));
    }

    fn happened(&self, event: Event) {
        match event {
            Event::Cut => {
                say("Cut off!");
                self.cut.off();
            }
            Event::Die(number) => die(number),
        }
    }
}

/// Ends the process as a crash would: no other thread of it gets anything done any more.
fn die(number: u32) -> ! {
    say(&format!("Dying at breakpoint {number}!"));
    // SAFETY: _exit only ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(1) }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Whoever does not listen misses it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The longest a test port may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Has the replica with the test port `address` die at breakpoint `number`.
pub async fn arm_breakpoint(address: &str, number: u32) -> Result<i32, RpcError> {
    client(address).call(procs::BREAKPOINT, &number, ANSWER_WITHIN).await
}

/// Has the replica with the test port `address` be cut off at the next command, or heals that.
pub async fn net_repair(address: &str, heal: bool) -> Result<i32, RpcError> {
    client(address).call(procs::NET_REPAIR, &u32::from(heal), ANSWER_WITHIN).await
}

/// A page of the committed entries of the replica with the test port `address`, from `seq` on.
pub async fn read_history(address: &str, seq: u64) -> Result<HistoryPage, RpcError> {
    client(address).call(procs::HISTORY, &seq, ANSWER_WITHIN).await
}

fn client(address: &str) -> Client {
    let options = ClientOptions {
        fail_fast: true,
        at_most_once: false,
        loss: rpc::Loss::Off,
        ..ClientOptions::default()
    };
    Client::new(address, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_are_taken_and_nonsense_is_refused() {
        let port = TestPort::new();
        let server = port.listen("127.0.0.1:0").await.unwrap();
        let address = server.local_addr();
        assert_eq!(arm_breakpoint(address, 4).await.unwrap(), 0);
        assert_eq!(arm_breakpoint(address, 0).await.unwrap(), 0);
        assert!(matches!(arm_breakpoint(address, BREAKPOINT_LAST + 1).await, Err(RpcError::BadArgs)));
        assert_eq!(net_repair(address, false).await.unwrap(), 0);
        assert_eq!(net_repair(address, true).await.unwrap(), 0);
        assert_eq!(read_history(address, 1).await.unwrap().lines, []);
        server.shutdown().await;
    }
}
