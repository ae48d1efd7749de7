//! The RSM library: replicates a program of deterministic, non-blocking RPC handlers.
