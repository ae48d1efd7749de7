//! Who has a session: for tools that must know whether anybody else is there.

use std::time::Duration;

use super::protocol::{SESSIONS, SESSIONS_PAGE_MAX, SessionId, SessionsFrom, SessionsPage};
use super::table::LockTable;
use crate::rsm::{RsmClient, RsmClientOptions, RsmError};

/// Every session that the lock service of which some replicas are at `addrs` has not ended, with the name that its
/// client gave itself.
///
/// # Errors
/// When no master answers in time.
pub async fn sessions(addrs: &[String], patience: Duration) -> Result<Vec<(SessionId, String)>, RsmError> {
    let options = RsmClientOptions { connect_timeout: patience, ..RsmClientOptions::default() };
    let rsm = RsmClient::connect(addrs, options).await?;
    let mut all = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let page: SessionsPage = rsm.call_master(SESSIONS, &SessionsFrom { from }, patience).await?;
        next = page.next.filter(|next| *next > from);
        all.extend(page.sessions);
    }
    Ok(all)
}

/// The sessions from an id on, as many as an answer has.
pub(super) fn page(table: &LockTable, from: SessionId) -> SessionsPage {
    let mut sessions: Vec<(SessionId, String)> =
        table.sessions().filter(|(id, ..)| *id >= from).map(|(id, name, ..)| (id, name.to_owned())).collect();
    sessions.sort_unstable();
    let next = sessions.get(SESSIONS_PAGE_MAX).map(|(id, _)| *id);
    sessions.truncate(SESSIONS_PAGE_MAX);
    SessionsPage { sessions, next }
}
