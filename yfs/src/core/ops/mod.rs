//! The operations, one file for each family.

mod attr;
mod create;
mod data;
mod lookup;
mod open;
mod orphans;
mod readdir;
mod rename;
mod unlink;
