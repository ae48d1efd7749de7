//! Where the RSM clients are connected, so that the master can push to them.

use rpc::Peer;
use std::collections::BTreeMap;

struct Known {
    peer: Peer,
    seen: u64,
}

/// The newest connection of each RSM client, up to a bound.
pub(super) struct Peers {
    max: usize,
    clock: u64,
    by_client: BTreeMap<u64, Known>,
    by_seen: BTreeMap<u64, u64>,
}

impl Peers {
    pub(super) fn new(max: usize) -> Peers {
        Peers { max, clock: 0, by_client: BTreeMap::new(), by_seen: BTreeMap::new() }
    }

    /// `client` was heard over `peer`.
    pub(super) fn note(&mut self, client: u64, peer: &Peer) {
        if self.by_client.get(&client).is_some_and(|known| known.peer.is_same(peer)) {
            // By far the most common case, once for each request. Of connections that live, the oldest go first when
            // there are too many; one that is still in use is noted again with its next request.
            return;
        }
        self.clock += 1;
        let known = Known { peer: peer.clone(), seen: self.clock };
        if let Some(before) = self.by_client.insert(client, known) {
            self.by_seen.remove(&before.seen);
        }
        self.by_seen.insert(self.clock, client);
        while self.by_client.len() > self.max {
            let (_, silent) = self.by_seen.pop_first().expect("every client is listed by when it was heard");
            self.by_client.remove(&silent);
        }
    }

    /// The connection over which `client` was heard last, while it lives.
    pub(super) fn get(&mut self, client: u64) -> Option<Peer> {
        let known = self.by_client.get(&client)?;
        if known.peer.is_connected() {
            return Some(known.peer.clone());
        }
        self.by_seen.remove(&known.seen);
        self.by_client.remove(&client);
        None
    }
}
