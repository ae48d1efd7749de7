//! What a program must offer to be replicated.

use super::types::{StateError, View};
use rpc::Register;
use std::sync::Arc;

/// A program that is replicated: deterministic handlers and a state that can be carried over as bytes.
///
/// Handlers run to completion, never block, take time and randomness only from their arguments, and change nothing but
/// the service's own state, so that the same calls in the same order give the same state on every replica. What they
/// want said to the outside (pushes to clients) they leave to the master: see [`Replica::am_master`](super::Replica::am_master).
/// The [module's page](super#the-rules-for-handlers) has the rules one by one.
pub trait Service: Send + Sync + 'static {
    /// Registers the replicated handlers by procedure number, as with a plain RPC server. Called once, before anything else.
    ///
    /// Procedure 0x9010 belongs to the library. Procedures that are not replicated (status, keepalives) are registered with the
    /// server given to [`Replica::start`](super::Replica::start); they may do what they like, and see the state of one replica.
    fn register(self: Arc<Self>, to: &mut dyn Register);

    /// The whole state as bytes; equal states must give equal bytes.
    ///
    /// Called between commands, for snapshots and for the hash in the replica's status. No command is applied meanwhile.
    fn marshal_state(&self) -> Vec<u8>;

    /// Replaces the whole state by one that [`marshal_state`](Self::marshal_state) gave, possibly on another replica.
    /// After an error the state must be as before; the replica then stops and says so.
    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError>;

    /// This replica adopted `view`, and whether it is its master now: the state then includes everything committed
    /// in earlier views. Must not block.
    fn on_view_change(&self, _view: &View, _am_master: bool) {}
}
