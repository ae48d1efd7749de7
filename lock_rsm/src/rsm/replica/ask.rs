//! Asking the group to be taken in (again).

use super::super::types::procs;
use super::super::wire::{JoinReply, JoinRequest};
use super::driver::Internal;
use super::form::client_options;
use super::shared::Shared;
use parking_lot::Mutex;
use rpc::{Client, ClientOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

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
    /// Where is said that this replica has left for good.
    driver: UnboundedSender<Internal>,
}

/// What an answer says.
enum Heard {
    /// These may be members.
    Members(Vec<String>),
    /// This replica is none for good.
    Retired,
}

impl Applicant {
    pub(super) fn new(shared: &Shared, cluster: u64, driver: UnboundedSender<Internal>) -> Applicant {
        let identity = &shared.identity;
        let request = JoinRequest { cluster, id: identity.id, address: identity.address.clone() };
        let applicant = Applicant {
            request,
            options: client_options(shared),
            clients: Arc::default(),
            busy: Arc::default(),
            driver,
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
        let (clients, busy, driver) =
            (Arc::clone(&self.clients), Arc::clone(&self.busy), self.driver.clone());
        tokio::spawn(async move {
            let asked: Vec<Client> = clients.lock().values().cloned().collect();
            let questions = asked.iter().map(|client| ask_one(client, &request));
            for heard in futures_util::future::join_all(questions).await.into_iter().flatten() {
                match heard {
                    Heard::Members(members) => {
                        note(&mut clients.lock(), &request.address, &options, &members);
                    }
                    // A driver that is gone need not know.
                    Heard::Retired => drop(driver.send(Internal::Retired)),
                }
            }
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

/// What the replica asked says, if it is one of this group.
async fn ask_one(client: &Client, request: &JoinRequest) -> Option<Heard> {
    match client.call(procs::JOIN, request, ANSWER_WITHIN).await {
        Ok(JoinReply::Noted(members)) => Some(Heard::Members(members)),
        Ok(JoinReply::Retired) => Some(Heard::Retired),
        Ok(JoinReply::OtherGroup) => {
            tracing::debug!("{} belongs to another group", client.addr());
            None
        }
        Err(error) => {
            tracing::debug!("{} does not hear that this replica wants in: {error}", client.addr());
            None
        }
    }
}
