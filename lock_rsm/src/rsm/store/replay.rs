//! What the log's files say when they are read one after the other. Nothing is changed by reading.

use super::frame::{self, Found, Item};
use super::segment::{self, HEADING_BYTES};
use super::{Identity, SavedSnapshot};
use crate::consensus::{Entry, HardState, Membership, Viewstamp};
use bytes::Bytes;

/// What a log that was read says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) identity: Option<Identity>,
    pub(super) founding: Option<Membership>,
    pub(super) hard_state: Option<HardState>,
    pub(super) snapshot: Option<SavedSnapshot>,
    /// The entries behind the snapshot, without holes.
    pub(super) entries: Vec<Entry>,
    /// The number of the last frame.
    pub(super) last_frame: u64,
}

/// Why a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Something is not as it was written. The text names the part.
    Damaged(String),
    /// A record of a version that is not known, and where.
    Version(String),
}

/// A file that was read.
#[derive(Debug)]
struct Parsed {
    number: u64,
    frames: Vec<(u64, Vec<Item>)>,
}

/// Reads the files of a log, ascending by number. Those before the last one that says it is whole do not matter: `read` is
/// asked for a file's content only if it does.
///
/// The outer result is that of `read`.
pub(super) fn replay<E>(
    numbers: &[u64],
    mut read: impl FnMut(u64) -> Result<Bytes, E>,
) -> Result<Result<Replayed, Unusable>, E> {
    let mut files = Vec::new();
    for number in numbers.iter().rev() {
        let file = match parse(*number, &read(*number)?) {
            Ok(file) => file,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let whole = file.frames.first().is_some_and(|(_, items)| items.contains(&Item::Whole));
        files.push(file);
        if whole {
            break;
        }
    }
    let mut state = State::default();
    let taken = files.iter().rev().try_for_each(|file| state.take_file(file));
    Ok(taken.and_then(|()| state.finish()))
}

fn name(number: u64) -> String {
    format!("{}/{number:016x}", segment::DIR)
}

/// The frames of a file. An end that was never synced is left out: what was promised of it is known elsewhere.
fn parse(number: u64, bytes: &Bytes) -> Result<Parsed, Unusable> {
    let damaged = |what: &str| Unusable::Damaged(format!("its {} is broken: {what}", name(number)));
    let salt = segment::salt_of(bytes, number).map_err(|why| damaged(&why))?;
    let mut frames: Vec<(u64, Vec<Item>)> = Vec::new();
    let mut at = HEADING_BYTES;
    loop {
        let before = frames.last().map(|(number, _)| *number);
        match frame::read(bytes, at, salt) {
            Found::Frame { number, items, end }
                if before.is_none_or(|before| before.checked_add(1) == Some(number)) =>
            {
                frames.push((number, items));
                at = end;
            }
            Found::Frame { .. } => {
                return Err(damaged(&format!("the record at byte {at} is not the one that comes next")));
            }
            Found::Unknown(version) => {
                return Err(Unusable::Version(format!("{version} (of a record in its {})", name(number))));
            }
            found @ (Found::End | Found::Broken(_)) => {
                let why = if let Found::Broken(why) = found { why } else { "it is gone".into() };
                let later = frame::find_later(bytes, at, before.unwrap_or(0), salt);
                return match (later, before) {
                    (Some(later), _) => Err(damaged(&format!(
                        "of the record at byte {at}, {why}; others follow at byte {later}"
                    ))),
                    (None, None) => Err(damaged(&format!("of its first record, {why}"))),
                    (None, Some(_)) => Ok(Parsed { number, frames }),
                };
            }
        }
    }
}

#[derive(Default)]
struct State {
    replayed: Replayed,
    /// The seq at which the log ends; entries before those that are held are in files that are gone.
    last_seq: u64,
}

impl State {
    fn take_file(&mut self, file: &Parsed) -> Result<(), Unusable> {
        let damaged = |what: &str| Unusable::Damaged(format!("its {} {what}", name(file.number)));
        for (number, items) in &file.frames {
            let expected = self.replayed.last_frame + 1;
            if self.replayed.last_frame != 0 && *number != expected {
                let missing = format!(
                    "begins with record {number}, and record {expected} is in none: something of log/ is gone"
                );
                return Err(damaged(&missing));
            }
            self.replayed.last_frame = *number;
            for item in items {
                self.take(item).map_err(|why| damaged(&why))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, item: &Item) -> Result<(), String> {
        let known = &mut self.replayed;
        match item {
            Item::Whole => {
                *self = State {
                    replayed: Replayed { last_frame: known.last_frame, ..Replayed::default() },
                    last_seq: 0,
                };
            }
            Item::Identity(identity) => {
                if known.identity.as_ref().is_some_and(|known| known != identity) {
                    return Err("is of another replica".into());
                }
                known.identity = Some(identity.clone());
            }
            Item::Founding(members) => known.founding = Some(members.clone()),
            Item::HardState(promises) => known.hard_state = Some(*promises),
            Item::Snapshot(saved) => self.cover(saved, false),
            Item::SnapshotAlone(saved) => self.cover(saved, true),
            Item::Continues(seq) => {
                let last = self.last_seq;
                if last != 0 && last != *seq {
                    return Err(format!("goes on behind entry {seq}, but the log ends at {last}"));
                }
                self.last_seq = *seq;
            }
            Item::CutFrom(seq) => {
                known.entries.retain(|entry| entry.stamp.seq < *seq);
                self.last_seq = self.last_seq.min(seq.saturating_sub(1));
            }
            Item::Entries(entries) => return self.append(entries),
        }
        Ok(())
    }

    fn cover(&mut self, saved: &SavedSnapshot, alone: bool) {
        let seq = saved.meta.stamp.seq;
        if alone {
            self.replayed.entries.clear();
            self.last_seq = seq;
        } else {
            let covered = self.replayed.entries.partition_point(|entry| entry.stamp.seq <= seq);
            self.replayed.entries.drain(..covered);
            self.last_seq = self.last_seq.max(seq);
        }
        self.replayed.snapshot = Some(saved.clone());
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        let Some(first) = entries.first() else { return Err("has a record of no entries".into()) };
        if self.last_seq.checked_add(1) != Some(first.stamp.seq) {
            return Err(hole(self.last_seq, first.stamp));
        }
        self.last_seq = entries.last().map_or(self.last_seq, |last| last.stamp.seq);
        self.replayed.entries.extend_from_slice(entries);
        Ok(())
    }

    /// Entries behind the snapshot must all be there; those of files that are gone are covered by it.
    fn finish(self) -> Result<Replayed, Unusable> {
        let base = self.replayed.snapshot.as_ref().map_or(Viewstamp::ZERO, |saved| saved.meta.stamp);
        let missing = match self.replayed.entries.first() {
            Some(first) if base.seq.checked_add(1) != Some(first.stamp.seq) => {
                Some(hole(base.seq, first.stamp))
            }
            None if self.last_seq > base.seq => {
                Some(format!("ends at entry {}, which is gone", self.last_seq))
            }
            _ => None,
        };
        match missing {
            Some(what) => Err(Unusable::Damaged(format!("the log in its {}/ {what}", segment::DIR))),
            None => Ok(self.replayed),
        }
    }
}

fn hole(before: u64, next: Viewstamp) -> String {
    format!("has a hole between entry {before} and {next}")
}
