//! Everything that tests YFS from outside: the lab checks against mounted directories, real work on a mount, the
//! runs in which replicas are killed meanwhile, and the benchmark. The programs of this crate are thin: what they do
//! is here, in one module each.

pub mod bench;
pub mod binaries;
pub mod chaos;
pub mod cluster;
pub mod fire;
pub mod fuzz;
pub mod labs;
pub mod linear;
pub mod ports;
pub mod process;
pub mod rng;
pub mod sim;
pub mod stack;
pub mod work;
