//! The connections to the other members.

use super::super::types::procs;
use super::super::wire::MessageHead;
use crate::consensus::{Membership, Message, ReplicaId};
use bytes::Bytes;
use rpc::transport::Transport;
use rpc::{Client, ClientOptions, OnRestart};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Link {
    address: String,
    client: Client,
}

/// One RPC client per other member. Messages are one-way and may be lost; the core copes.
pub(super) struct Links {
    me: ReplicaId,
    cluster: u64,
    transport: Arc<dyn Transport>,
    by_member: BTreeMap<ReplicaId, Link>,
    warm_at_ms: u64,
}

/// How often a missing connection is asked for.
const WARM_EVERY_MS: u64 = 50;

impl Links {
    pub(super) fn new(me: ReplicaId, cluster: u64, transport: Arc<dyn Transport>) -> Links {
        Links { me, cluster, transport, by_member: BTreeMap::new(), warm_at_ms: 0 }
    }

    /// Connects to the members of `membership` and to nobody else.
    pub(super) fn update(&mut self, membership: &Membership) {
        self.by_member
            .retain(|id, link| membership.get(*id).is_some_and(|member| member.address == link.address));
        for member in membership.members.iter().filter(|member| member.id != self.me) {
            self.by_member.entry(member.id).or_insert_with(|| Link {
                address: member.address.clone(),
                client: Client::new(&member.address, link_options(&self.transport)),
            });
        }
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

    /// Sends `message` to the member `to`, if it is reachable and keeps up.
    pub(super) fn send(&self, to: ReplicaId, message: &Message) {
        let Some(link) = self.by_member.get(&to) else { return };
        let head = MessageHead { cluster: self.cluster, from: self.me, to };
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
