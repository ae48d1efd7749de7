//! The connections to the other members.

use super::super::store::Identity;
use super::super::types::procs;
use super::super::wire::MessageHead;
use crate::consensus::{Membership, Message, ReplicaId};
use bytes::Bytes;
use rpc::transport::Transport;
use rpc::{Client, ClientOptions, OnRestart};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

struct Link {
    address: String,
    client: Client,
}

impl Link {
    fn to(address: &str, transport: &Arc<dyn Transport>) -> Link {
        Link { address: address.to_owned(), client: Client::new(address, link_options(transport)) }
    }
}

/// One RPC client per other member. Messages are one-way and may be lost; the core copes.
pub(super) struct Links {
    me: ReplicaId,
    cluster: u64,
    transport: Arc<dyn Transport>,
    address: String,
    by_member: BTreeMap<ReplicaId, Link>,
    /// Replicas that are no members as far as is known here, and sent a message: the master of a later view may be one.
    strangers: VecDeque<(ReplicaId, Link)>,
    warm_at_ms: u64,
}

/// Strangers remembered.
const STRANGERS_MAX: usize = 16;
/// How often a missing connection is asked for.
const WARM_EVERY_MS: u64 = 50;

impl Links {
    pub(super) fn new(me: &Identity, cluster: u64, transport: Arc<dyn Transport>) -> Links {
        Links {
            me: me.id,
            cluster,
            transport,
            address: me.address.clone(),
            by_member: BTreeMap::new(),
            strangers: VecDeque::new(),
            warm_at_ms: 0,
        }
    }

    /// Connects to the members of `membership`.
    pub(super) fn update(&mut self, membership: &Membership) {
        self.by_member
            .retain(|id, link| membership.get(*id).is_some_and(|member| member.address == link.address));
        for member in membership.members.iter().filter(|member| member.id != self.me) {
            self.by_member.entry(member.id).or_insert_with(|| Link::to(&member.address, &self.transport));
        }
        self.strangers.retain(|(id, _)| !membership.contains(*id));
    }

    /// A message came from the replica `id`, which listens at `address`: it may have to be answered.
    pub(super) fn heard_from(&mut self, id: ReplicaId, address: &str) {
        if self.link(id).is_some_and(|link| link.address == address)
            || self.by_member.contains_key(&id)
            || rpc::addr::parse(address).is_err()
        {
            return;
        }
        self.strangers.retain(|(stranger, _)| *stranger != id);
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back((id, Link::to(address, &self.transport)));
    }

    fn link(&self, id: ReplicaId) -> Option<&Link> {
        let stranger = || self.strangers.iter().find(|(stranger, _)| *stranger == id).map(|(_, link)| link);
        self.by_member.get(&id).or_else(stranger)
    }

    /// Has missing connections made. Slaves have nothing to say to each other until they elect a new master, and then the
    /// first word must not be lost for want of a connection.
    pub(super) fn keep_warm(&mut self, now_ms: u64) {
        if now_ms < self.warm_at_ms {
            return;
        }
        self.warm_at_ms = now_ms + WARM_EVERY_MS;
        for link in self.by_member.values().filter(|link| !link.client.is_connected()) {
            // Lost when there is no connection, which is what it is for; dropped by the receiver otherwise.
            link.client.notify(procs::MESSAGE, Bytes::new(), Bytes::new());
        }
    }

    /// Sends `message` to the replica `to`, if it is reachable and keeps up.
    pub(super) fn send(&self, to: ReplicaId, message: &Message) {
        let Some(link) = self.link(to) else { return };
        let head = MessageHead { cluster: self.cluster, from: self.me, address: self.address.clone(), to };
        let args: Bytes = rpc::codec::encode(&(head, message)).into();
        link.client.notify(procs::MESSAGE, args, Bytes::new());
    }
}

fn link_options(transport: &Arc<dyn Transport>) -> ClientOptions {
    ClientOptions {
        transport: Arc::clone(transport),
        on_restart: OnRestart::Rebind,
        fail_fast: true,
        // Several full appends may be on their way at once.
        max_queue_bytes: 16 << 20,
        ..ClientOptions::default()
    }
}
