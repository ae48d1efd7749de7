//! The replicated program that is measured beside the key-value stores of others: a map of registers.

use lock_rsm::rsm::{Replica, ReplicaOptions, Service, StateError};
use parking_lot::Mutex;
use rpc::{CallInfo, Handler, Register, ServerBuilder, ServerOptions, Status};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Sets a register: the key (8 bytes), then the value. Answers nothing.
pub const PUT: u32 = 1;

/// The registers.
#[derive(Default)]
pub struct Registers(Mutex<BTreeMap<u64, Vec<u8>>>);

/// The arguments of a [`PUT`].
pub fn put(key: u64, value: &[u8]) -> Vec<u8> {
    [&key.to_le_bytes(), value].concat()
}

impl Registers {
    fn put(&self, args: &[u8]) -> Result<Vec<u8>, Status> {
        let (key, value) = args.split_first_chunk().ok_or(Status::BAD_ARGS)?;
        self.0.lock().insert(u64::from_le_bytes(*key), value.to_vec());
        Ok(Vec::new())
    }
}

impl Service for Registers {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        let put: Arc<dyn Handler> = Arc::new(move |_: &CallInfo, args: &[u8]| self.put(args));
        to.register(PUT, put);
    }

    fn marshal_state(&self) -> Vec<u8> {
        rpc::codec::encode(&*self.0.lock())
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        Ok(())
    }
}

/// Runs the replica `me` of a group that `master` leads first, until SIGTERM.
pub async fn serve(master: &str, me: &str, members: &[String], data: &Path) -> Result<(), Box<dyn Error>> {
    let options = ReplicaOptions::new(master, me, members, data);
    let server = ServerBuilder::new(ServerOptions::default());
    let replica = Replica::start(options, Arc::new(Registers::default()), server).await?;
    tokio::select! {
        ended = replica.ended() => Ok(ended?),
        stopped = lock_rsm::programs::told_to_stop() => {
            stopped?;
            replica.shutdown().await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_set_and_carried_over() {
        let registers = Registers::default();
        registers.put(&put(7, b"seven")).unwrap();
        registers.put(&put(7, b"sieben")).unwrap();
        assert_eq!(registers.put(&[1, 2]), Err(Status::BAD_ARGS));
        let copy = Registers::default();
        copy.unmarshal_state(&registers.marshal_state()).unwrap();
        assert_eq!(copy.0.lock().get(&7).map(Vec::as_slice), Some(&b"sieben"[..]));
        assert!(copy.unmarshal_state(&[9]).is_err());
    }
}
