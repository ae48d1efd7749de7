//! Starting, stopping and watching a cluster's processes.
//!
//! * `file`: `cluster.json`, what a cluster's directory says about itself.
//! * `process`, `ports`: daemons that can be recognised later, and free ports for them.
//! * `up`, `down`, `status`: the commands.

pub mod down;
pub mod file;
pub mod ports;
pub mod process;
pub mod status;
pub mod up;
