//! Starting, stopping and watching a cluster's processes.

pub mod file;
pub mod ports;
pub mod process;
