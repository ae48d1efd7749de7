//! Asking around until the group is formed: the driver of [`formation`](super::super::formation).

use super::super::formation::{Decision, FormationError, decide};
use super::super::types::procs;
use super::super::wire::IdentityReply;
use super::shared::Shared;
use crate::consensus::Membership;
use futures_util::future::join_all;
use rpc::{Client, ClientOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
const REMIND_AFTER: Duration = Duration::from_secs(5);

/// The group of a fresh replica.
pub(super) struct Formed {
    /// The members that founded it. This replica need not be one of them.
    pub(super) founding: Membership,
    /// Whether it was founded just now, with this replica in it.
    pub(super) now: bool,
}

/// Finds or founds the group of a fresh replica. Takes as long as it takes for all members to be up, or for the group that is
/// to be joined to be there.
pub(super) async fn form(shared: &Shared) -> Result<Formed, FormationError> {
    let others: Vec<Client> = shared
        .configured
        .iter()
        .filter(|address| **address != shared.identity.address)
        .map(|address| Client::new(address, client_options(shared)))
        .collect();
    let mut reminded: Option<(Instant, Vec<String>)> = None;
    loop {
        match decide(&shared.identity, &shared.configured, &ask_all(&others).await) {
            // Who hears of a founding that it is part of has taken part in nothing yet: for it, too, the group begins.
            Decision::Found(founding) | Decision::Adopt(founding) => {
                return Ok(Formed { founding, now: true });
            }
            Decision::Join(founding) => return Ok(Formed { founding, now: false }),
            Decision::Refuse(error) => return Err(error),
            Decision::Wait(missing) => {
                let due = reminded
                    .as_ref()
                    .is_none_or(|(at, names)| *names != missing || at.elapsed() >= REMIND_AFTER);
                if due {
                    tracing::info!("waiting for {} to be up, or to belong to a group", missing.join(" "));
                    reminded = Some((Instant::now(), missing));
                }
            }
        }
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
    }
}

async fn ask_all(others: &[Client]) -> BTreeMap<String, IdentityReply> {
    let questions = others.iter().map(|client| async move {
        let answer: Result<IdentityReply, _> = client.call(procs::IDENTITY, &(), ANSWER_WITHIN).await;
        match answer {
            Ok(answer) => Some((client.addr().to_owned(), answer)),
            Err(error) => {
                tracing::debug!("{} does not say who it is: {error}", client.addr());
                None
            }
        }
    });
    join_all(questions).await.into_iter().flatten().collect()
}

pub(super) fn client_options(shared: &Shared) -> ClientOptions {
    ClientOptions {
        fail_fast: true,
        at_most_once: false,
        transport: shared.transport(),
        ..ClientOptions::default()
    }
}
