//! What was lost and must be said (P4), by the rules Linux has for writes that failed behind a process's back
//! (`Documentation/core-api/errseq.rst`, Layton 2017):
//!
//! * A loss belongs to the file. Every open of it (an *open file description*) that was there then is told once: the next
//!   `write` or `fsync` through it fails, or its `close`. Two programs that have the file open both hear of it.
//! * A `close` does not count as having been told as long as the open lives on under another descriptor: whenever a program
//!   starts another one, the descriptors that this does not get are closed, and nobody looks at the error.
//! * When nobody had it open, the first to ask through a later open is told.
//! * A file opened after somebody was told hears nothing.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use super::errors::FsError;
use super::types::Ino;

/// Names one open of a file, from [`super::Fs::opened`] to [`super::Fs::closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenId(pub u64);

/// On whose behalf a file is written, synced or closed, which decides who is told of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Through this open.
    Open(OpenId),
    /// Through none; what nobody was told yet is told.
    Anybody,
    /// The kernel itself, which writes back pages that were changed through a mapping: there is nobody to tell.
    Kernel,
}

/// Files whose losses nobody was told of are forgotten beyond so many, unless they are open.
const LOSSES_MAX: usize = 10_000;

/// Losses, and who has been told.
#[derive(Debug, Default)]
pub struct Reports {
    losses: BTreeMap<Ino, Loss>,
    opens: BTreeMap<OpenId, Open>,
    /// The number of the last loss.
    last_loss: u64,
    last_open: u64,
}

#[derive(Debug)]
struct Loss {
    number: u64,
    error: FsError,
    /// Somebody was told.
    told: bool,
}

#[derive(Debug)]
struct Open {
    ino: Ino,
    /// Losses up to this number are not its business, or were told.
    upto: u64,
}

impl Reports {
    /// A file was opened.
    pub fn opened(&mut self, ino: Ino) -> OpenId {
        let untold = self.losses.get(&ino).is_some_and(|loss| !loss.told);
        let upto = if untold { 0 } else { self.last_loss };
        self.last_open += 1;
        let id = OpenId(self.last_open);
        self.opens.insert(id, Open { ino, upto });
        id
    }

    /// The open is over, and its last `close` has said what there was to say.
    pub fn closed(&mut self, id: OpenId) {
        let Some(Open { ino, .. }) = self.opens.get(&id) else { return };
        let _ = self.tell(*ino, Caller::Open(id));
        self.opens.remove(&id);
    }

    /// What the caller must be told, also the next time: a descriptor is closed, which may not be the last.
    ///
    /// # Errors
    /// The loss.
    pub fn warn(&mut self, ino: Ino, caller: Caller) -> Result<(), FsError> {
        let Caller::Open(id) = caller else { return self.tell(ino, caller) };
        match (self.losses.get(&ino), self.opens.get(&id)) {
            (Some(loss), Some(open)) if open.upto < loss.number => Err(loss.error.clone()),
            _ => Ok(()),
        }
    }

    /// Something of the file was lost. `open`: it is open here.
    pub fn lose(&mut self, ino: Ino, error: FsError, open: bool) {
        if open || self.losses.len() < LOSSES_MAX {
            self.last_loss += 1;
            self.losses.insert(ino, Loss { number: self.last_loss, error, told: false });
        }
    }

    /// What the caller must be told now, and is told by this.
    ///
    /// # Errors
    /// The loss.
    pub fn tell(&mut self, ino: Ino, caller: Caller) -> Result<(), FsError> {
        let Some(loss) = self.losses.get_mut(&ino) else { return Ok(()) };
        let due = match caller {
            Caller::Kernel => false,
            Caller::Anybody => !loss.told,
            Caller::Open(id) => self.opens.get_mut(&id).is_some_and(|open| {
                let due = open.upto < loss.number;
                open.upto = loss.number;
                due
            }),
        };
        if !due {
            return Ok(());
        }
        loss.told = true;
        let error = loss.error.clone();
        self.forget_told(ino);
        Err(error)
    }

    /// A loss of which everybody was told needs no place any more.
    fn forget_told(&mut self, ino: Ino) {
        let Some(loss) = self.losses.get(&ino) else { return };
        let waits = |open: &Open| open.ino == ino && open.upto < loss.number;
        if loss.told && !self.opens.values().any(waits) {
            self.losses.remove(&ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Result<(), FsError> = Err(FsError::Lost);

    #[test]
    fn every_open_of_then_is_told_once_and_later_ones_are_not() {
        let mut reports = Reports::default();
        let (a, b, other) = (reports.opened(7), reports.opened(7), reports.opened(8));
        reports.lose(7, FsError::Lost, true);
        let untold = reports.opened(7);
        assert_eq!(reports.tell(7, Caller::Open(a)), LOST);
        assert_eq!(reports.tell(7, Caller::Open(a)), Ok(()));
        let later = reports.opened(7);
        assert_eq!(reports.tell(7, Caller::Open(later)), Ok(()), "somebody was told before it came");
        assert_eq!(reports.tell(7, Caller::Open(b)), LOST);
        assert_eq!(reports.tell(7, Caller::Open(untold)), LOST, "nobody was told when it came");
        assert_eq!(reports.tell(8, Caller::Open(other)), Ok(()));
        assert!(reports.losses.is_empty(), "everybody was told");
    }

    #[test]
    fn what_nobody_had_open_is_told_to_the_first_who_asks() {
        let mut reports = Reports::default();
        reports.lose(7, FsError::Lost, false);
        assert_eq!(reports.tell(7, Caller::Kernel), Ok(()));
        let (first, second) = (reports.opened(7), reports.opened(7));
        assert_eq!(reports.tell(7, Caller::Open(first)), LOST);
        assert_eq!(reports.tell(7, Caller::Open(second)), LOST, "it was opened before anybody was told");
        assert_eq!(reports.tell(7, Caller::Anybody), Ok(()));
        reports.lose(9, FsError::Lost, false);
        assert_eq!(reports.tell(9, Caller::Anybody), LOST);
        assert_eq!(reports.tell(9, Caller::Anybody), Ok(()));
    }

    #[test]
    fn closing_a_duplicate_says_so_but_does_not_count_and_the_last_close_does() {
        let mut reports = Reports::default();
        let (first, second) = (reports.opened(7), reports.opened(7));
        reports.lose(7, FsError::Lost, true);
        for _ in 0..3 {
            assert_eq!(reports.warn(7, Caller::Open(first)), LOST);
        }
        assert_eq!(reports.tell(7, Caller::Open(first)), LOST);
        assert_eq!(reports.warn(7, Caller::Open(first)), Ok(()));
        assert_eq!(reports.warn(7, Caller::Open(second)), LOST);
        reports.closed(second);
        let next = reports.opened(7);
        assert_eq!(reports.tell(7, Caller::Open(next)), Ok(()));
        reports.closed(next);
        reports.closed(first);
        reports.closed(first);
        assert!(reports.losses.is_empty() && reports.opens.is_empty());
    }

    #[test]
    fn a_second_loss_is_told_again() {
        let mut reports = Reports::default();
        let (a, b) = (reports.opened(7), reports.opened(7));
        reports.lose(7, FsError::Lost, true);
        assert_eq!(reports.tell(7, Caller::Open(a)), LOST);
        reports.lose(7, FsError::NoSpace, true);
        assert_eq!(reports.tell(7, Caller::Open(a)), Err(FsError::NoSpace));
        assert_eq!(reports.tell(7, Caller::Open(b)), Err(FsError::NoSpace), "the newest, once");
        assert_eq!(reports.tell(7, Caller::Open(b)), Ok(()));
    }

    #[test]
    fn losses_nobody_asks_about_are_bounded_but_for_open_files() {
        let mut reports = Reports::default();
        let open = reports.opened(1);
        (10..).take(LOSSES_MAX + 10).for_each(|ino| reports.lose(ino, FsError::Lost, false));
        assert_eq!(reports.losses.len(), LOSSES_MAX);
        reports.lose(1, FsError::Lost, true);
        assert_eq!(reports.tell(1, Caller::Open(open)), LOST);
    }
}
