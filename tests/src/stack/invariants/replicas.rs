//! The lock replicas end up equal: the same commands applied, and then the same state.

use crate::stack::record::{Broken, Record};
use lock_rsm::rsm::Service;

/// Its name.
pub const NAME: &str = "equal replicas";

/// Whether all replicas have applied the same; their states must be the same then.
pub fn are_even(record: &Record) -> Result<bool, Broken> {
    let replicas = record.replicas();
    let stamps: Vec<_> = replicas.iter().map(|(replica, _)| replica.viewstamp()).collect();
    if stamps.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(false);
    }
    let states: Vec<_> = replicas.iter().map(|(_, locks)| locks.marshal_state()).collect();
    if states.windows(2).any(|pair| pair[0] != pair[1]) {
        let what = format!("the states at {:?} differ", stamps.first());
        return Err(Broken { invariant: NAME, what });
    }
    Ok(true)
}
