//! What services do, for the checker.

mod guards;
mod ids;
mod lock_table;
mod registers;

pub use guards::{GuardOp, Guards};
pub use ids::{Allocation, Ids};
pub use lock_table::{LockOp, LockTable, Place};
pub use registers::{RegisterAnswer, RegisterOp, Registers};
