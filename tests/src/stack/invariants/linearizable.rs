//! What clients saw can be explained by one copy of everything, from which only what its writer had not flushed may
//! vanish, with that writer ([`model`](crate::stack::model)).

use crate::linear::{Limits, check};
use crate::stack::model::Objects;
use crate::stack::record::{Broken, Record};

/// Its name.
pub const NAME: &str = "one copy";

/// Checks the whole history.
pub fn verify(record: &Record) -> Result<(), Broken> {
    match check(&Objects, &record.history(), &Limits::default()) {
        Ok(_) => Ok(()),
        Err(failure) => Err(Broken { invariant: NAME, what: failure.to_string() }),
    }
}
