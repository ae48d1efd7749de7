//! The committed entries of all servers, over all their runs: there must be one history.

use std::collections::BTreeMap;

use lock_rsm::rsm::test_port::HistoryLine;

use super::views;

#[derive(Default)]
pub struct History {
    lines: BTreeMap<u64, HistoryLine>,
    /// Up to where each server's entries have been looked at in its present run.
    read: BTreeMap<u16, u64>,
}

impl History {
    /// The seq from which the server at `port` has to be asked next.
    pub fn next_of(&self, port: u16) -> u64 {
        self.read.get(&port).map_or(0, |last| last + 1)
    }

    /// The server at `port` starts anew, and tells from the beginning what its disk remembers.
    pub fn restarted(&mut self, port: u16) {
        self.read.remove(&port);
    }

    /// The server at `port` says that these entries are committed.
    pub fn told(&mut self, port: u16, lines: Vec<HistoryLine>) -> Result<(), String> {
        for line in lines {
            let seq = line.stamp.seq;
            let known = self.lines.entry(seq).or_insert_with(|| line.clone());
            if *known != line {
                return Err(format!("two entries are committed at {seq}: {known:?}, and {line:?} by {port}"));
            }
            self.read.insert(port, seq);
        }
        Ok(())
    }

    /// Whether all entries up to `seq` are known, and the server at `port` has told its last one.
    pub fn is_complete(&self, seq: u64, port: u16) -> Result<(), String> {
        if self.read.get(&port) != Some(&seq) {
            return Err(format!("{port} tells its history up to {:?}, not {seq}", self.read.get(&port)));
        }
        match (1..=seq).find(|seq| !self.lines.contains_key(seq)) {
            Some(hole) => Err(format!("nobody tells of the entry {hole}")),
            None => Ok(()),
        }
    }

    /// Seq of the last entry known to be committed.
    pub fn last(&self) -> u64 {
        self.lines.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Who the members were, one after the other, in a group founded by `founders`.
    pub fn members(&self, founders: Vec<String>) -> Vec<Vec<String>> {
        let changes = self.lines.values().filter_map(|line| line.members.clone());
        views::changes(std::iter::once(founders).chain(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_rsm::rsm::Viewstamp;

    fn line(seq: u64, hash: u64) -> HistoryLine {
        HistoryLine { stamp: Viewstamp { view: 1, seq }, hash, members: None }
    }

    #[test]
    fn servers_must_tell_the_same() {
        let mut history = History::default();
        history.told(1, vec![line(1, 10), line(2, 20)]).unwrap();
        history.told(2, vec![line(1, 10)]).unwrap();
        assert!(history.told(2, vec![line(2, 21)]).is_err());
        assert_eq!((history.next_of(1), history.next_of(2), history.next_of(3)), (3, 2, 0));
    }

    #[test]
    fn a_restarted_server_must_tell_the_same_again() {
        let mut history = History::default();
        history.told(1, vec![line(1, 10)]).unwrap();
        history.restarted(1);
        assert_eq!(history.next_of(1), 0);
        assert!(history.told(1, vec![line(1, 11)]).is_err());
    }

    #[test]
    fn holes_and_laggards_are_noticed() {
        let mut history = History::default();
        history.told(1, vec![line(1, 10), line(3, 30)]).unwrap();
        assert!(history.is_complete(3, 1).unwrap_err().contains("entry 2"));
        history.told(2, vec![line(2, 20)]).unwrap();
        assert_eq!(history.is_complete(3, 1), Ok(()));
        assert!(history.is_complete(3, 2).is_err());
    }

    #[test]
    fn members_are_told_in_order() {
        let named = |seq, name: &str| HistoryLine { members: Some(vec![name.to_owned()]), ..line(seq, seq) };
        let mut history = History::default();
        history.told(1, vec![named(1, "a"), line(2, 2), named(3, "b"), named(4, "b")]).unwrap();
        assert_eq!(history.members(vec!["a".to_owned()]), [["a"], ["b"]]);
    }
}
