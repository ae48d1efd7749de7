//! The RSM library: replicates a program of deterministic, non-blocking RPC handlers.
//!
//! A program implements [`Service`]: it registers its handlers by procedure number, as with a plain RPC server, and can
//! give and take its whole state as bytes. [`Replica::start`] makes it one replica of a group: requests come in through
//! INVOKE, are put into an order all replicas agree on ([`crate::consensus`]), and are executed by every replica in that
//! order; the master answers. [`RsmClient`] finds the master, follows it when it changes, and gets every request executed
//! exactly once.
//!
//! What is promised: a request that was answered is never lost, whatever crashes, as long as the disks of a majority survive;
//! it was executed once; and it comes after every request that was answered before it was sent (linearizability). The group
//! answers while a majority of it is alive and connected.
//!
//! # A whole program
//!
//! `examples/kv.rs` is one to run in three processes. This one is a lottery, and a group of one:
//!
//! ```
//! use lock_rsm::rsm::{Replica, ReplicaOptions, RsmClient, RsmClientOptions, Service, StateError};
//! use rpc::{CallInfo, Register, ServerBuilder, ServerOptions, Status, typed};
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! const BUY: u32 = 1;
//! const DRAW: u32 = 2;
//! const NOBODY_PLAYS: i32 = 1;
//!
//! /// Who has bought how many tickets. A `BTreeMap`, whose order is the same everywhere.
//! #[derive(Default)]
//! struct Lottery(Mutex<BTreeMap<String, u64>>);
//!
//! impl Service for Lottery {
//!     fn register(self: Arc<Self>, to: &mut dyn Register) {
//!         let at = Arc::clone(&self);
//!         to.register(BUY, typed(move |_: &CallInfo, who: String| {
//!             let mut tickets = at.0.lock().unwrap();
//!             *tickets.entry(who).or_default() += 1;
//!             Ok(tickets.values().sum::<u64>())
//!         }));
//!         // Chance is an argument: the client draws it, and every replica comes to the same winner.
//!         to.register(DRAW, typed(move |_: &CallInfo, chance: u64| {
//!             let mut tickets = self.0.lock().unwrap();
//!             let sold: u64 = tickets.values().sum();
//!             let mut at = chance.checked_rem(sold).ok_or(Status(NOBODY_PLAYS))?;
//!             let winner = tickets.iter().find(|(_, count)| {
//!                 let here = at < **count;
//!                 at = at.saturating_sub(**count);
//!                 here
//!             });
//!             let winner = winner.map(|(who, _)| who.clone());
//!             tickets.clear();
//!             Ok(winner)
//!         }));
//!     }
//!
//!     fn marshal_state(&self) -> Vec<u8> {
//!         rpc::codec::encode(&*self.0.lock().unwrap())
//!     }
//!
//!     fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
//!         *self.0.lock().unwrap() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let me = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
//! # let members = [me.clone()];
//! // One replica of a group of `members`; the first master is the first of them.
//! let options = ReplicaOptions::new(&members[0], &me, &members, dir.path());
//! let server = ServerBuilder::new(ServerOptions::default());
//! let replica = Replica::start(options, Arc::new(Lottery::default()), server).await?;
//!
//! // Anywhere else.
//! let client = RsmClient::connect(&members, RsmClientOptions::default()).await?;
//! let patience = Duration::from_secs(10);
//! let sold: u64 = client.invoke(BUY, "ann", patience).await?;
//! assert_eq!(sold, 1);
//! let winner: Option<String> = client.invoke(DRAW, &0x5eed_u64, patience).await?;
//! assert_eq!(winner.as_deref(), Some("ann"));
//!
//! replica.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The rules for handlers
//!
//! Every replica calls the same handlers with the same arguments in the same order, at its own time, and again after a restart
//! (from the last snapshot on). Out of that must come the same replies and the same state, byte for byte. So a handler
//!
//! * **reads no clock and draws no random numbers.** Time, randomness, host names, file contents are arguments: whoever sends
//!   the request puts them in. A program that needs time of its own (to let leases end, say) has its master propose a command
//!   with the time in it ([`Replica::propose`]), and takes the greatest seen so far for now.
//!   [`CallInfo`](rpc::CallInfo) says who asked and where the call stands in the order; that is the same everywhere.
//! * **iterates over nothing unordered**: `BTreeMap`, not `HashMap`, whose order differs from process to process. No floating
//!   point that depends on the machine, no addresses of pointers, no thread ids.
//! * **does not wait**: no I/O, no lock held by others for long, no `await`. One call at a time runs, and while it does no other
//!   command is applied on that replica. Heartbeats go on, so a slow handler costs answers, not the mastership.
//! * **changes nothing but the program's state.** What is to be told to the world (a push to a client, a mail) it queues, and a
//!   task of the program sends it if [`Replica::am_master`] says so then; see [`Replica::push`]. It may be sent twice or never,
//!   because masters change: let the receiver ask again.
//! * **does not count on being called.** A command that only reads goes through the log like any other.
//!
//! **Panics.** A handler that panics is caught, and the request is answered with [`Status::FAULT`](rpc::Status::FAULT), on all
//! replicas alike. The state stays as the panic left it: check first, change then. A `std` mutex is poisoned by it.
//!
//! **Errors** are [`Status`](rpc::Status) values above 0; they are outcomes like any other, remembered and given again to a retry.
//! Arguments that do not decode, and procedures that do not exist, are answered so by the library.
//!
//! **Sizes.** A command with its arguments has at most [`core::COMMAND_BYTES_MAX`] bytes, 4 MiB; larger ones are refused with
//! [`RsmError::TooLarge`]. A reply should be of that order too; it is kept until its client acknowledges it (1 MiB and 1024 replies
//! for each client, 32 MiB in all; who is forgotten is told so and never executed twice). A state is held in memory, and two or
//! three times while it is marshalled or received: at most 1 GiB. [`Limits`] has the rest: what waits beyond is refused as busy,
//! and the client waits and tries again.
//!
//! **The state** as bytes must be the same for the same state ([`Service::marshal_state`]): order everything. It includes all that
//! the handlers' replies depend on, and nothing else (no caches). Give it a version; [`Service::unmarshal_state`] reads what earlier
//! versions wrote, and refuses what it does not know without changing anything.
//!
//! **A new version of the program** executes what old ones logged. What a procedure did it must do for ever; a new behaviour is a
//! new procedure number.
//!
//! # What is where
//!
//! * [`core`]: the deciding half of a replica, without I/O, for simulators; [`crate::consensus`] below it.
//! * [`Store`]: a replica's disk; [`DiskStore`] is the real one. `docs/on-disk-format.md` has its files byte by byte.
//! * `docs/protocol.md`: every message.

pub mod admin;
pub mod alone;
mod client;
pub mod config;
pub mod core;
mod formation;
pub(crate) mod fuzzing;
mod replica;
mod service;
mod state;
mod store;
pub mod test_port;
mod types;
mod wire;

pub use crate::consensus::Viewstamp;

pub use client::{RsmClient, RsmClientOptions, RsmError, replica_status};
pub use formation::FormationError;
pub use replica::{CommandRefused, Replica, ReplicaFailure, StartError};
pub use service::Service;
pub(crate) use store::fuzzing as store_fuzzing;
pub use store::{
    DiskStore, Identity, LogWrite, Recovered, SaveSnapshot, SavedSnapshot, Snapshot, SnapshotPiece, Store,
    StoreError,
};
pub use types::{
    DiskTime, Limits, NOT_MASTER, ReplicaOptions, ReplicaStatus, StateError, Timers, View, ViewHook, Workers,
    procs,
};
