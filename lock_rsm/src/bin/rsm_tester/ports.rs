//! Ports that stay free for a whole test, also while a server is down, and beside other testers.

use std::net::TcpListener;

use super::failure::Failure;

/// Below the ports that Linux gives to outgoing connections, and above those of well-known services.
const FIRST: u16 = 10_000;
const BLOCKS: u64 = 1_300;
const BLOCK: u16 = 16;
const TRIES: u64 = 200;

/// A block of neighbouring ports. Its first one is kept open, so that other testers take another block.
pub struct Ports {
    base: u16,
    _guard: TcpListener,
}

impl Ports {
    /// Takes a block in which the ports for `servers` servers and their test ports are free; where it begins to look
    /// depends on `seed`.
    pub fn take(servers: u16, seed: u64) -> Result<Ports, Failure> {
        (0..TRIES)
            .map(|i| FIRST + BLOCK * u16::try_from(seed.wrapping_add(i) % BLOCKS).expect("few blocks"))
            .find_map(|base| Ports::at(base, servers))
            .ok_or_else(|| Failure::new(format!("no {BLOCK} neighbouring ports from {FIRST} on are free")))
    }

    fn at(base: u16, servers: u16) -> Option<Ports> {
        let open = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
        let guard = open(base)?;
        let all: Option<Vec<_>> = (1..=2 * servers).map(|offset| open(base + offset)).collect();
        all.map(|_| Ports { base, _guard: guard })
    }

    /// The port of server `i`; the next one is for its test port, as in the labs.
    pub fn server(&self, i: usize) -> u16 {
        self.base + 1 + 2 * u16::try_from(i).expect("few servers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_testers_with_one_seed_get_different_ports() {
        let (one, two) = (Ports::take(5, 7).unwrap(), Ports::take(5, 7).unwrap());
        assert_ne!(one.base, two.base);
        assert_eq!(one.server(4), one.base + 9);
        const { assert!(2 * 5 < BLOCK) };
    }
}
