//! When the faults have ended, every client works again.

/// Its name.
pub const NAME: &str = "everybody works again after the faults";
/// Within so long, in virtual time.
pub const WITHIN_MS: u64 = 60_000;
/// Operations that each client must complete.
pub const OPERATIONS: u64 = 20;
