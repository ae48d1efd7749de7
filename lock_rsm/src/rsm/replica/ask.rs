//! Asking the group to be taken in (again).

use super::super::types::procs;
use super::super::wire::{JoinReply, JoinRequest};
use super::form::client_options;
use super::shared::Shared;
use parking_lot::Mutex;
use rpc::{Client, ClientOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Addresses remembered. A group has far fewer; what else is heard of is not worth asking.
const ADDRESSES_MAX: usize = 64;

/// Tells everybody who may be the master, or know it, that this replica wants in.
pub(super) struct Applicant {
    request: JoinRequest,
    options: ClientOptions,
    /// Everybody heard of, this replica left out.
    clients: Arc<Mutex<BTreeMap<String, Client>>>,
    /// The answers to the last asking are not all there yet.
    busy: Arc<AtomicBool>,
}

impl Applicant {
    pub(super) fn new(shared: &Shared, cluster: u64) -> Applicant {
        let identity = &shared.identity;
        let request = JoinRequest { cluster, id: identity.id, address: identity.address.clone() };
        let applicant = Applicant {
            request,
            options: client_options(shared),
            clients: Arc::default(),
            busy: Arc::default(),
        };
        applicant.note(&shared.configured);
        if let Some(founders) = shared.founding.lock().as_ref() {
            let addresses: Vec<String> = founders.iter().map(|member| member.address.clone()).collect();
            applicant.note(&addresses);
        }
        applicant
    }

    /// These may be members.
    pub(super) fn note(&self, addresses: &[String]) {
        note(&mut self.clients.lock(), &self.request.address, &self.options, addresses);
    }

    /// Asks all of them once, in the background. Who answers may name others, who are asked the next time.
    pub(super) fn ask(&self) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (request, options) = (self.request.clone(), self.options.clone());
        let (clients, busy) = (Arc::clone(&self.clients), Arc::clone(&self.busy));
        tokio::spawn(async move {
            let asked: Vec<Client> = clients.lock().values().cloned().collect();
            let questions = asked.iter().map(|client| ask_one(client, &request));
            let heard: Vec<String> =
                futures_util::future::join_all(questions).await.into_iter().flatten().collect();
            note(&mut clients.lock(), &request.address, &options, &heard);
            busy.store(false, Ordering::Release);
        });
    }
}

fn note(clients: &mut BTreeMap<String, Client>, me: &str, options: &ClientOptions, addresses: &[String]) {
    for address in addresses {
        let is_new = address != me && !clients.contains_key(address);
        if is_new && clients.len() < ADDRESSES_MAX && rpc::addr::parse(address).is_ok() {
            clients.insert(address.clone(), Client::new(address, options.clone()));
        }
    }
}

/// Whom the replica asked knows.
async fn ask_one(client: &Client, request: &JoinRequest) -> Vec<String> {
    match client.call(procs::JOIN, request, ANSWER_WITHIN).await {
        Ok(JoinReply::Noted(members)) => members,
        Ok(JoinReply::OtherGroup) => {
            tracing::debug!("{} belongs to another group", client.addr());
            Vec::new()
        }
        Err(error) => {
            tracing::debug!("{} does not hear that this replica wants in: {error}", client.addr());
            Vec::new()
        }
    }
}
