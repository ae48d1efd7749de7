//! Free ports for servers under test.

use crate::rng::Rng;
use std::collections::BTreeSet;
use std::net::TcpListener;

/// `n` different ports of 127.0.0.1 that nobody listens on now.
///
/// They are drawn from below the range the kernel uses for outgoing connections, so that none of those takes one
/// before its server does.
pub fn free(n: usize) -> Vec<u16> {
    let mut rng = Rng::new(Rng::fresh_seed());
    let mut found = BTreeSet::new();
    let mut ports = Vec::new();
    while ports.len() < n {
        let port = 10_000 + rng.below(22_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && found.insert(port) {
            ports.push(port);
        }
    }
    ports
}
