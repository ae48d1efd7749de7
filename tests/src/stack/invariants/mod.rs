//! What must hold, one file each. Some are looked at all the time where it happens; their names are here.

pub mod acknowledged;
pub mod consistent;
pub mod linearizable;
pub mod live;
pub mod replicas;

/// The store takes no change of a session that was fenced, or whose locks are free.
pub const FENCED: &str = "no write after the fence";
/// A read gives one write whole.
pub const WHOLE: &str = "writes are seen whole";
/// An operation fails only as it may.
pub const ERRORS: &str = "objects stay where they are";
/// No assertion of the product fails.
pub const PANICS: &str = "no assertion fails";
