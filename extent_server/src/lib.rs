//! A durable, ordered store of extents with atomic commits and fencing.
//!
//! It keeps two things: ordered keys with small values, and bulk objects, which are sparse arrays of bytes. It knows
//! nothing of files or directories; the file system owns the formats. Bulk data is written first, into the server's
//! page cache; then one [`commit`](ExtentClient::commit) makes it durable *and* applies a batch of key operations, all or
//! nothing. Every change carries the session of its client, and a fenced session is refused for ever.
//!
//! A client uses [`ExtentClient`]; a server is [`serve`] over a [`Store`].

mod client;
mod error;
pub mod format;
#[doc(hidden)]
pub mod fuzzing;
mod group_commit;
pub mod protocol;
mod server;
pub mod store;
pub mod survey;
mod types;

pub use client::{ExtentClient, ExtentOptions};
pub use error::{ExtentError, StoreError};
pub use server::serve;
pub use store::{EmbeddedStore, OpenError, Store, StoreOptions, VerifyReport};
pub use types::*;
