//! Free ports for a new cluster.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports are looked for below the range from which Linux takes the local ports of outgoing connections, so that a
/// connection of somebody else does not sit on a port between our choice and the server's start.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// Picks `n` ports `p` on the loopback address such that `p` and `p + 1` are free, all of them disjoint. (A replica's
/// second port is left free for tools that stand beside it.)
///
/// # Errors
/// When the machine has not enough free ports.
pub fn pick_pairs(n: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(n); // keeps what was picked from being picked again
    let mut ports = Vec::with_capacity(n);
    let mut candidate = random_start();
    for _ in FIRST..LAST {
        if ports.len() == n {
            break;
        }
        if let (Ok(first), Ok(second)) = (listen(candidate), listen(candidate + 1)) {
            held.push((first, second));
            ports.push(candidate);
        }
        candidate = if candidate + 3 >= LAST { FIRST } else { candidate + 2 };
    }
    if ports.len() < n {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("found no {n} pairs of free ports between {FIRST} and {LAST}"),
        ));
    }
    Ok(ports)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Clusters made at the same time should not race for the same ports, hence the random start.
fn random_start() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the search starts at the beginning, which is only slower.
    let _ = getrandom::fill(&mut bytes);
    let pairs = (LAST - FIRST) / 2 - 1;
    FIRST + (u16::from_le_bytes(bytes) % pairs) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_free_and_disjoint() {
        let ports = pick_pairs(8).unwrap();
        assert_eq!(ports.len(), 8);
        let mut all: Vec<u16> = ports.iter().flat_map(|p| [*p, *p + 1]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16, "pairs overlap: {ports:?}");
        for port in all {
            assert!((FIRST..=LAST).contains(&port));
        }
    }

    #[test]
    fn an_occupied_port_is_passed_over() {
        let taken = pick_pairs(1).unwrap()[0];
        let _holder = listen(taken + 1).unwrap();
        for _ in 0..50 {
            assert!(!pick_pairs(2).unwrap().contains(&taken));
        }
    }
}
