//! The consensus core: a pure, deterministic state machine that follows the rules of Raft.
