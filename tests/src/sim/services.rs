//! The replicated program of the simulator: three services in one.
//!
//! * A list to which things are appended. What it holds is the order in which everything was executed, so a thing lost,
//!   doubled or out of order is seen in it.
//! * Registers that are read, written, and compared and swapped.
//! * The lock table of the lock service.

use crate::linear::models::{RegisterAnswer, RegisterOp};
use lock_rsm::locks::protocol::{
    ACQUIRE, ALLOCATE, Acquire, Allocate, Allocated, CLOSE_SESSION, EndSession, Ended, NO_SESSION,
    OPEN_SESSION, OpenSession, RELEASE, Release, Standings,
};
use lock_rsm::locks::table::{LockTable, Refusal};
use lock_rsm::rsm::{Service, StateError};
use parking_lot::Mutex;
use rpc::{CallInfo, Handler, Proc, Register, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Appends a `u64` to the list and returns how many there were before it.
pub const APPEND: Proc = 1;
/// [`RegisterOp`] to [`RegisterAnswer`].
pub const REGISTER: Proc = 2;

/// The program of one replica.
#[derive(Debug, Default)]
pub struct Services(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    list: Content,
    registers: BTreeMap<u64, u64>,
    locks: LockTable,
}

/// What a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// All that was appended, in order.
    pub items: Vec<u64>,
    /// A fingerprint of that, kept up as it grows.
    pub chain: u64,
}

impl Content {
    /// Appends and returns the place.
    pub fn append(&mut self, item: u64) -> u64 {
        self.items.push(item);
        self.chain = mix(self.chain, item);
        self.items.len() as u64 - 1
    }
}

impl FromIterator<u64> for Content {
    fn from_iter<T: IntoIterator<Item = u64>>(items: T) -> Content {
        let mut content = Content::default();
        for item in items {
            content.append(item);
        }
        content
    }
}

/// A fingerprint of `chain` followed by `word`: FNV-1a's step with the multiplier of SplitMix64.
pub fn mix(chain: u64, word: u64) -> u64 {
    let mixed = (chain ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

impl State {
    fn register(&mut self, op: RegisterOp) -> RegisterAnswer {
        let (answer, after) = op.apply(self.registers.get(&op.key()).copied());
        if let Some(value) = after {
            self.registers.insert(op.key(), value);
        }
        answer
    }

    fn open_session(&mut self, info: &CallInfo, args: &OpenSession) -> Result<u64, Status> {
        self.locks.open_session(info.order, info.client, args).map_err(status)
    }

    fn acquire(&mut self, info: &CallInfo, args: &Acquire) -> Result<Standings, Status> {
        let locks = self.locks.acquire(info.order, info.client, args, &mut Default::default());
        Ok(Standings { stamp: info.order, locks: locks.map_err(status)? })
    }

    fn release(&mut self, info: &CallInfo, args: &Release) -> Result<Standings, Status> {
        let locks = self.locks.release(info.order, info.client, args, &mut Default::default());
        Ok(Standings { stamp: info.order, locks: locks.map_err(status)? })
    }

    fn allocate(&mut self, info: &CallInfo, args: &Allocate) -> Result<Allocated, Status> {
        let first = self.locks.allocate(info.order, info.client, args).map_err(status)?;
        Ok(Allocated { stamp: info.order, first, count: args.count })
    }

    fn close_session(&mut self, info: &CallInfo, args: &EndSession) -> Ended {
        let ended =
            self.locks.end_session(info.order, Some(info.client), args.session, &mut Default::default());
        Ended { more: ended }
    }
}

/// Nobody here sends anything that could be refused for another reason.
fn status(refusal: Refusal) -> Status {
    assert_eq!(refusal, Refusal::NoSession);
    Status(NO_SESSION)
}

impl Services {
    /// Looks at the list.
    pub fn with<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.0.lock().list)
    }

    /// What this replica's copy of a register holds.
    pub fn register_value(&self, key: u64) -> Option<u64> {
        self.0.lock().registers.get(&key).copied()
    }

    fn handler<A, R, F>(self: &Arc<Self>, execute: F) -> Arc<dyn Handler>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(&mut State, &CallInfo, A) -> Result<R, Status> + Send + Sync + 'static,
    {
        let services = Arc::clone(self);
        rpc::typed(move |info: &CallInfo, args: A| execute(&mut services.0.lock(), info, args))
    }
}

impl Service for Services {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        to.register(APPEND, self.handler(|state, _, item: u64| Ok(state.list.append(item))));
        to.register(REGISTER, self.handler(|state, _, op: RegisterOp| Ok(state.register(op))));
        to.register(OPEN_SESSION, self.handler(|state, info, args| state.open_session(info, &args)));
        to.register(ACQUIRE, self.handler(|state, info, args| state.acquire(info, &args)));
        to.register(RELEASE, self.handler(|state, info, args| state.release(info, &args)));
        to.register(ALLOCATE, self.handler(|state, info, args| state.allocate(info, &args)));
        to.register(CLOSE_SESSION, self.handler(|state, info, args| Ok(state.close_session(info, &args))));
    }

    fn marshal_state(&self) -> Vec<u8> {
        let state = self.0.lock();
        rpc::codec::encode(&(&state.list.items, &state.registers, state.locks.marshal()))
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        let (items, registers, locks): (Vec<u64>, _, Vec<u8>) =
            rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        let locks = LockTable::unmarshal(&locks).map_err(|error| StateError(error.to_string()))?;
        *self.0.lock() = State { list: items.into_iter().collect(), registers, locks };
        Ok(())
    }
}
