//! The table as bytes, for snapshots and state hashes.
//!
//! Format (all numbers LEB128 varints unless said otherwise), version 1:
//!
//! ```text
//! version · stamp view · stamp seq · next id · sessions opened
//! count of sessions, then for each, ascending: id (8 bytes LE) · client (8 bytes LE) · lease · ending · length of name · name
//! count of locks, then for each, ascending: id minus the one before · shape, then
//!     shape 0: one shared holder      session
//!     shape 1: one exclusive holder   session
//!     shape 2: contended              count of holders · (session · mode)… · count of waiters · (session · mode)…
//! ```
//!
//! A session is named by its place in the list of sessions; mode is 0 shared, 1 exclusive. Equal tables give equal
//! bytes, since every part is ordered. A million exclusively held locks take about four megabytes.

use super::lock::Lock;
use super::session::Session;
use super::{LockTable, NAME_MAX};
use crate::locks::protocol::{LockId, Mode, SessionId};

const VERSION: u64 = 1;

/// Why bytes are not a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Written by another version of the program.
    #[error("lock table of version {0}, this program reads version {VERSION}")]
    Version(u64),
    /// Cut off, or left over bytes.
    #[error("lock table has the wrong length")]
    Length,
    /// A value that no table holds.
    #[error("lock table is inconsistent: {0}")]
    Inconsistent(&'static str),
}

impl LockTable {
    /// The table as bytes: equal tables give equal bytes.
    pub fn marshal(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64 + self.locks.len() * 5));
        for number in [VERSION, self.stamp.0, self.stamp.1, self.next_id, self.sessions_opened] {
            out.number(number);
        }
        out.number(self.sessions.len() as u64);
        for (&id, session) in &self.sessions {
            out.session(id, session);
        }
        let places: Vec<SessionId> = self.sessions.keys().copied().collect();
        out.number(self.locks.len() as u64);
        let mut before = 0;
        for (&id, lock) in &self.locks {
            out.number(id - before);
            out.lock(lock, &places);
            before = id;
        }
        out.0
    }

    /// Reads what [`LockTable::marshal`] wrote.
    pub fn unmarshal(bytes: &[u8]) -> Result<LockTable, TableError> {
        let mut from = Reader(bytes);
        let version = from.number()?;
        if version != VERSION {
            return Err(TableError::Version(version));
        }
        let mut table = LockTable { stamp: (from.number()?, from.number()?), ..LockTable::default() };
        table.next_id = from.number()?;
        table.sessions_opened = from.number()?;
        let mut places = Vec::new();
        for _ in 0..from.number()? {
            let (id, session) = from.session()?;
            if places.last().is_some_and(|&last| last >= id) {
                return Err(TableError::Inconsistent("sessions out of order"));
            }
            table.sessions.insert(id, session);
            places.push(id);
        }
        let mut before: Option<LockId> = None;
        for _ in 0..from.number()? {
            let step = from.number()?;
            let id = before.unwrap_or(0).checked_add(step).ok_or(TableError::Inconsistent("lock id"))?;
            if before.is_some() && step == 0 {
                return Err(TableError::Inconsistent("locks out of order"));
            }
            let lock = from.lock(&places)?;
            table.link(id, &lock);
            table.locks.insert(id, lock);
            before = Some(id);
        }
        if from.0.is_empty() { Ok(table) } else { Err(TableError::Length) }
    }

    /// Enters a lock into its sessions' lists.
    fn link(&mut self, id: LockId, lock: &Lock) {
        for (session, _) in lock.holders() {
            self.sessions.get_mut(&session).expect("read from the list of sessions").held.insert(id);
            self.load += 1;
        }
        for waiter in lock.queue() {
            self.sessions
                .get_mut(&waiter.session)
                .expect("read from the list of sessions")
                .waiting
                .insert(id);
            self.load += 1;
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn session(&mut self, id: SessionId, session: &Session) {
        self.0.extend_from_slice(&id.to_le_bytes());
        self.0.extend_from_slice(&session.client.to_le_bytes());
        self.number(session.lease_ms.into());
        self.number(session.ending.into());
        self.number(session.name.len() as u64);
        self.0.extend_from_slice(session.name.as_bytes());
    }

    fn lock(&mut self, lock: &Lock, places: &[SessionId]) {
        let place = |session| places.binary_search(&session).expect("a lock names sessions only") as u64;
        match lock {
            Lock::Shared(session) => {
                self.number(0);
                self.number(place(*session));
            }
            Lock::Exclusive(session) => {
                self.number(1);
                self.number(place(*session));
            }
            Lock::Contended(_) => {
                self.number(2);
                self.number(lock.holders().count() as u64);
                for (session, mode) in lock.holders() {
                    self.number(place(session));
                    self.number(mode as u64);
                }
                self.number(lock.waiter_count() as u64);
                for waiter in lock.queue() {
                    self.number(place(waiter.session));
                    self.number(waiter.mode as u64);
                }
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], TableError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(TableError::Length)?;
        self.0 = tail;
        Ok(head)
    }

    fn number(&mut self) -> Result<u64, TableError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(TableError::Inconsistent("number too large"))
    }

    fn fixed(&mut self) -> Result<u64, TableError> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into().expect("eight bytes")))
    }

    fn session(&mut self) -> Result<(SessionId, Session), TableError> {
        let (id, client) = (self.fixed()?, self.fixed()?);
        let lease_ms = u32::try_from(self.number()?).map_err(|_| TableError::Inconsistent("lease"))?;
        let ending = match self.number()? {
            0 => false,
            1 => true,
            _ => return Err(TableError::Inconsistent("session state")),
        };
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > NAME_MAX {
            return Err(TableError::Inconsistent("session name"));
        }
        let name = String::from_utf8(self.bytes(length)?.to_vec());
        let mut session =
            Session::new(client, name.map_err(|_| TableError::Inconsistent("session name"))?, lease_ms);
        session.ending = ending;
        Ok((id, session))
    }

    fn place(&mut self, places: &[SessionId]) -> Result<SessionId, TableError> {
        let place = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        places.get(place).copied().ok_or(TableError::Inconsistent("a lock of an unknown session"))
    }

    fn mode(&mut self) -> Result<Mode, TableError> {
        match self.number()? {
            0 => Ok(Mode::Shared),
            1 => Ok(Mode::Exclusive),
            _ => Err(TableError::Inconsistent("mode")),
        }
    }

    fn lock(&mut self, places: &[SessionId]) -> Result<Lock, TableError> {
        match self.number()? {
            0 => Ok(Lock::held(self.place(places)?, Mode::Shared)),
            1 => Ok(Lock::held(self.place(places)?, Mode::Exclusive)),
            2 => self.contended(places),
            _ => Err(TableError::Inconsistent("shape of a lock")),
        }
    }

    fn contended(&mut self, places: &[SessionId]) -> Result<Lock, TableError> {
        let holders = self.number()?;
        if holders == 0 {
            return Err(TableError::Inconsistent("a queue without a holder"));
        }
        let mut lock = Lock::held(self.place(places)?, self.mode()?);
        for _ in 1..holders {
            let (session, mode) = (self.place(places)?, self.mode()?);
            if lock.standing(session).held.is_some() || !lock.may_hold(session, mode) {
                return Err(TableError::Inconsistent("holders exclude each other"));
            }
            lock.hold(session, mode);
        }
        for _ in 0..self.number()? {
            let (session, mode) = (self.place(places)?, self.mode()?);
            let standing = lock.standing(session);
            if standing.waiting.is_some() || standing.grants(mode) {
                return Err(TableError::Inconsistent("a waiter twice"));
            }
            lock.enqueue(session, mode);
        }
        if lock.first_waiter().is_some_and(|first| lock.may_hold(first.session, first.mode)) {
            return Err(TableError::Inconsistent("a waiter that need not wait"));
        }
        Ok(lock)
    }
}
