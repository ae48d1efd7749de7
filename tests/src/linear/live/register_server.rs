//! Replicated registers: the smallest service there can be, on the RSM library.

use crate::linear::models::{RegisterAnswer, RegisterOp};
use lock_rsm::programs;
use lock_rsm::rsm::{Replica, ReplicaOptions, Service, StateError, View};
use parking_lot::Mutex;
use rpc::{CallInfo, Register, ServerBuilder, ServerOptions, Status, typed};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Replicated: [`RegisterOp`] to [`RegisterAnswer`].
pub(super) const REGISTER: u32 = 0x5001;
/// Not replicated, and only with `--local-reads`: the same for a get, answered by the replica that is asked from what it
/// has applied so far. A mistake on purpose: what is read may be old.
pub(super) const LOCAL_READ: u32 = 0x5002;
/// Status: that is no read.
const NOT_A_READ: i32 = 5101;

#[derive(Default)]
struct RegisterService(Mutex<BTreeMap<u64, u64>>);

impl RegisterService {
    fn execute(&self, op: &RegisterOp) -> RegisterAnswer {
        let mut registers = self.0.lock();
        let (answer, after) = op.apply(registers.get(&op.key()).copied());
        if let Some(value) = after {
            registers.insert(op.key(), value);
        }
        answer
    }
}

impl Service for RegisterService {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        to.register(REGISTER, typed(move |_: &CallInfo, op: RegisterOp| Ok(self.execute(&op))));
    }

    fn marshal_state(&self) -> Vec<u8> {
        rpc::codec::encode(&*self.0.lock())
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        Ok(())
    }
}

/// One replica of the registers, until it is told to stop.
pub async fn serve_registers(
    master: &str,
    me: &str,
    members: &[String],
    data: &Path,
    local_reads: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let service = Arc::new(RegisterService::default());
    let mut server = ServerBuilder::new(ServerOptions::default());
    if local_reads {
        let service = Arc::clone(&service);
        let read = move |_: &CallInfo, op: RegisterOp| match op {
            RegisterOp::Get { .. } => Ok(service.execute(&op)),
            _ => Err(Status(NOT_A_READ)),
        };
        server.register(LOCAL_READ, typed(read));
    }
    let mut options = ReplicaOptions::new(master, me, members, data);
    options.on_view = Some(Arc::new(|view: &View, _| println!("{view}")));
    let replica = tokio::select! {
        started = Replica::start(options, service, server) => started?,
        stopped = programs::told_to_stop() => return Ok(stopped?),
    };
    tokio::select! {
        ended = replica.ended() => ended?,
        stopped = programs::told_to_stop() => {
            stopped?;
            replica.shutdown().await;
        }
    }
    Ok(())
}
