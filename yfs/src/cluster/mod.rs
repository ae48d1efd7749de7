//! Starting, stopping and watching a cluster's processes.
