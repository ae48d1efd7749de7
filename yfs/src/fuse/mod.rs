//! The kernel's requests turned into operations of the core.
