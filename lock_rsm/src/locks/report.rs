//! What the master tells an operator about its clients.

use std::time::Duration;

use rpc::Status;

use super::protocol::{StuckClient, StuckReport};
use super::service::LockService;
use super::stuck::Debt;
use crate::rsm::{NOT_MASTER, Replica};

/// Clients named in one report, those that owe longest.
const NAMED_MAX: usize = 100;

impl LockService {
    /// The open sessions, and the clients that have kept for longer than a lease what others wait for.
    pub(super) fn stuck_report(&self) -> Result<StuckReport, Status> {
        let replica = self.replica.get().filter(|replica| replica.am_master()).ok_or(Status(NOT_MASTER))?;
        let debts = self.expiry.overdue();
        let sessions = self.read(|table| table.sessions().count());
        Ok(StuckReport {
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            stuck_count: u32::try_from(debts.len()).unwrap_or(u32::MAX),
            stuck: debts.iter().take(NAMED_MAX).map(|debt| self.stuck_client(replica, debt)).collect(),
        })
    }

    fn stuck_client(&self, replica: &Replica, debt: &Debt) -> StuckClient {
        let &Debt { session, lock, owed } = debt;
        let (client, waiting) = self.read(|table| (table.client_of(session), table.waiting(lock)));
        StuckClient {
            session,
            name: self.name_of(session),
            address: client.and_then(|client| replica.address_of(client)),
            lock,
            owed_ms: millis(owed),
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
