//! What files and a directory do, one operation after the other, when clients may die with changes they had not flushed.
//!
//! Each object is a part: a file holds one number (what was written last), a directory a set of at most 64 names. A
//! client's changes count as **unsynced** until it syncs them, or until another client sees the object, which it may only
//! after they were flushed. A client that dies or loses its session ([`What::Lose`]) may lose unsynced changes, the last
//! ones first (P2, P3); what is left then shows when somebody looks. A client that lives on must be told: a sync that
//! succeeds after a loss says that there was none (P4).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;

/// A client process; a restarted one is another.
pub type ClientId = u32;

/// What is asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The file's number.
    Read,
    /// To hold this number.
    Write(u64),
    /// To make a name that must not be there.
    Create(u8),
    /// To remove a name.
    Unlink(u8),
    /// To give the first name's object the second name, over what that stands for.
    Rename(u8, u8),
    /// Whether the name is there.
    Look(u8),
    /// All names.
    List,
    /// To make durable what this client did.
    Sync,
    /// Nobody asks for it: the client dies, or loses its session and, if `lives`, goes on without what it had not flushed.
    Lose {
        /// It goes on, and must be told.
        lives: bool,
    },
    /// The client was told that something was lost.
    Told,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// On which object.
    pub object: u8,
    /// By whom.
    pub client: ClientId,
    /// What.
    pub what: What,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done.
    Done,
    /// A number; 0 or 1 to [`What::Look`]; a set of names to [`What::List`].
    Value(u64),
    /// The name is there already, or is not there.
    Refused,
    /// Not done, to [`What::Sync`].
    Failed,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// What it may hold; more than one thing after a loss that nobody has looked at.
    now: Vec<u64>,
    /// Who has changes that may be lost.
    writer: Option<ClientId>,
    /// What it held before each of those, and so may hold again.
    behind: Vec<u64>,
    /// Who lost something and has not been told, and what it had last.
    untold: Vec<(ClientId, u64)>,
}

/// Files and directories.
#[derive(Clone, Copy, Debug)]
pub struct Objects;

impl Model for Objects {
    type Key = u8;
    type State = State;
    type Input = Ask;
    type Output = Said;

    fn key(&self, input: &Ask) -> u8 {
        input.object
    }

    fn initial(&self, _: &u8) -> State {
        State { now: vec![0], writer: None, behind: Vec::new(), untold: Vec::new() }
    }

    fn step(&self, state: &State, ask: &Ask, said: Option<&Said>) -> Option<State> {
        let mut after = state.clone();
        let client = ask.client;
        match ask.what {
            What::Sync => after.sync(client, said)?,
            What::Lose { lives } => after.lose(client, lives),
            What::Told => after.untold.retain(|(who, _)| *who != client),
            what => after.operate(client, what, said)?,
        }
        Some(after)
    }
}

impl State {
    fn operate(&mut self, client: ClientId, what: What, said: Option<&Said>) -> Option<()> {
        let fitting: Vec<(u64, u64)> =
            self.now.iter().filter_map(|&before| Some((before, apply(what, before, said)?))).collect();
        if fitting.is_empty() {
            return None;
        }
        if self.writer != Some(client) {
            // Its lock was given back for this, so what it did is durable.
            self.writer = None;
            self.behind.clear();
        }
        if fitting.iter().any(|(before, after)| before != after) {
            self.writer = Some(client);
            self.behind.extend(fitting.iter().map(|(before, _)| *before));
            self.untold.clear();
        }
        self.now = set(fitting.into_iter().map(|(_, after)| after));
        Some(())
    }

    fn sync(&mut self, client: ClientId, said: Option<&Said>) -> Option<()> {
        if said != Some(&Said::Done) {
            if said.is_some() {
                self.untold.retain(|(who, _)| *who != client);
            }
            return Some(());
        }
        if let Some(at) = self.untold.iter().position(|(who, _)| *who == client) {
            let (_, last) = self.untold.remove(at);
            if !self.now.contains(&last) {
                return None;
            }
            self.now = vec![last];
        }
        if self.writer == Some(client) {
            self.writer = None;
            self.behind.clear();
        }
        Some(())
    }

    fn lose(&mut self, client: ClientId, lives: bool) {
        if self.writer != Some(client) {
            return;
        }
        if lives && let [last] = self.now[..] {
            self.untold.push((client, last));
        }
        self.writer = None;
        self.now = set(std::mem::take(&mut self.behind).into_iter().chain(self.now.iter().copied()));
    }
}

fn set(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// What the object holds after an operation that it may answer so.
fn apply(what: What, before: u64, said: Option<&Said>) -> Option<u64> {
    let has = |name: u8| before & (1 << name) != 0;
    let with = |name: u8| before | (1 << name);
    let without = |name: u8| before & !(1 << name);
    let (right, after) = match what {
        What::Read | What::List => (Said::Value(before), before),
        What::Write(value) => (Said::Done, value),
        What::Create(name) if has(name) => (Said::Refused, before),
        What::Create(name) => (Said::Done, with(name)),
        What::Unlink(name) | What::Rename(name, _) if !has(name) => (Said::Refused, before),
        What::Unlink(name) => (Said::Done, without(name)),
        What::Rename(from, to) => (Said::Done, without(from) | (1 << to)),
        What::Look(name) => (Said::Value(u64::from(has(name))), before),
        What::Sync | What::Lose { .. } | What::Told => (Said::Done, before),
    };
    said.is_none_or(|said| *said == right).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{History, Limits, check};

    /// Operations one after the other on object 1; no answer means that it is unknown.
    fn passes(operations: &[(ClientId, What, Option<Said>)]) -> bool {
        let mut history = History::new();
        for (at, &(client, what, said)) in (0..).zip(operations) {
            let id = history.invoke(client.into(), 2 * at, Ask { object: 1, client, what });
            if let Some(said) = said {
                history.answer(id, 2 * at + 1, said);
            }
        }
        check(&Objects, &history, &Limits::default()).is_ok()
    }

    const DONE: Option<Said> = Some(Said::Done);
    const LOSE: (ClientId, What, Option<Said>) = (1, What::Lose { lives: true }, None);

    fn read(client: ClientId, value: u64) -> (ClientId, What, Option<Said>) {
        (client, What::Read, Some(Said::Value(value)))
    }

    #[test]
    fn what_is_unsynced_may_be_lost_with_its_client_the_last_first() {
        let writes = [(1, What::Write(5), DONE), (1, What::Write(6), DONE), LOSE];
        for (value, may) in [(0, true), (5, true), (6, true), (7, false)] {
            assert_eq!(passes(&[&writes[..], &[read(2, value)]].concat()), may, "{value}");
        }
        assert!(!passes(&[&writes[..2], &[read(2, 5)]].concat()), "nobody died");
    }

    #[test]
    fn what_was_synced_or_seen_stays() {
        let synced = [(1, What::Write(5), DONE), (1, What::Sync, DONE), LOSE];
        assert!(passes(&[&synced[..], &[read(2, 5)]].concat()));
        assert!(!passes(&[&synced[..], &[read(2, 0)]].concat()));
        let seen = [(1, What::Write(5), DONE), read(2, 5), LOSE];
        assert!(!passes(&[&seen[..], &[read(3, 0)]].concat()));
    }

    #[test]
    fn a_loss_is_told() {
        let lost = [(1, What::Write(5), DONE), LOSE];
        assert!(!passes(&[&lost[..], &[(1, What::Sync, DONE), read(2, 0)]].concat()), "silent");
        assert!(passes(&[&lost[..], &[(1, What::Sync, Some(Said::Failed)), read(2, 0)]].concat()));
        assert!(passes(&[&lost[..], &[(1, What::Told, DONE), (1, What::Sync, DONE), read(2, 0)]].concat()));
        assert!(passes(&[&lost[..], &[(1, What::Sync, DONE), read(2, 5)]].concat()), "it was not lost");
    }

    #[test]
    fn names_come_and_go() {
        let made = (1, What::Create(3), DONE);
        assert!(passes(&[made, (2, What::Create(3), Some(Said::Refused))]));
        assert!(!passes(&[made, (2, What::Create(3), DONE)]));
        assert!(passes(&[made, (1, What::Rename(3, 4), DONE), (2, What::List, Some(Said::Value(1 << 4)))]));
        assert!(!passes(&[made, (1, What::Unlink(3), DONE), (2, What::Look(3), Some(Said::Value(1)))]));
    }
}
