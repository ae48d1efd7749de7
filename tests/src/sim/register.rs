//! The replicated program of the simulator: a register to which things are appended. What it holds is the order in which
//! everything was executed, so a thing lost, doubled or out of order is seen in it.

use lock_rsm::rsm::{Service, StateError};
use parking_lot::Mutex;
use rpc::{CallInfo, Proc, Register as Handlers};
use std::sync::Arc;

/// Appends a `u64` and returns how many there were before it.
pub const APPEND: Proc = 1;

/// The program of one replica.
#[derive(Debug, Default)]
pub struct Register(Mutex<Content>);

/// What a register holds.
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

/// A fingerprint of `chain` followed by `word`: FNV-1a's step with the multiplier of SplitMix64.
pub fn mix(chain: u64, word: u64) -> u64 {
    let mixed = (chain ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

impl Register {
    /// Looks at what it holds.
    pub fn with<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.0.lock())
    }
}

impl Service for Register {
    fn register(self: Arc<Self>, to: &mut dyn Handlers) {
        to.register(APPEND, rpc::typed(move |_: &CallInfo, item: u64| Ok(self.0.lock().append(item))));
    }

    fn marshal_state(&self) -> Vec<u8> {
        self.0.lock().items.iter().flat_map(|item| item.to_le_bytes()).collect()
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        if !bytes.len().is_multiple_of(8) {
            return Err(StateError(format!("{} bytes are no list of numbers", bytes.len())));
        }
        let mut content = Content::default();
        for item in bytes.chunks_exact(8) {
            content.append(u64::from_le_bytes(item.try_into().expect("eight bytes")));
        }
        *self.0.lock() = content;
        Ok(())
    }
}
