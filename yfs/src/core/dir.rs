//! What is known of a directory's entries: names known to be there, names known to be absent, and one interval of the
//! hash space ([`super::format::name_hash`]) that is known entirely.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::format::name_hash;
use super::types::{DirEntry, FileKind, Ino};

/// What a name stands for.
pub type Target = (Ino, FileKind);

/// Above all hashes.
pub const HASH_END: u64 = 1 << 63;

#[derive(Clone, Debug)]
struct Known {
    target: Option<Target>,
    /// The generation that changed it last; 0 when read from the store.
    changed: u64,
}

/// A directory's cached entries.
#[derive(Clone, Debug, Default)]
pub struct Dir {
    names: BTreeMap<(u64, Bytes), Known>,
    /// All names with a hash in `complete.0..complete.1` that exist are in `names`.
    complete: (u64, u64),
}

impl Dir {
    /// A directory that was just made: everything is known, nothing is there.
    pub fn empty() -> Dir {
        Dir { names: BTreeMap::new(), complete: (0, HASH_END) }
    }

    /// How many names (present or absent) are cached.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// What is known of a name: `Some(None)` is known to be absent, `None` is not known.
    pub fn get(&self, name: &[u8]) -> Option<Option<Target>> {
        let hash = name_hash(name);
        let mut same = self.names.range((hash, Bytes::new())..).take_while(|((h, _), _)| *h == hash);
        match same.find(|((_, n), _)| n == name) {
            Some((_, known)) => Some(known.target),
            None if self.complete.0 <= hash && hash < self.complete.1 => Some(None),
            None => None,
        }
    }

    /// Records a change made in generation `generation`. Returns how many more names are cached now.
    pub fn change(&mut self, name: &[u8], target: Option<Target>, generation: u64) -> usize {
        let before = self.names.len();
        let known = Known { target, changed: generation };
        self.names.insert((name_hash(name), Bytes::copy_from_slice(name)), known);
        self.names.len() - before
    }

    /// Records what the store says of a name of which nothing was known.
    pub fn learn(&mut self, name: &[u8], target: Option<Target>) -> usize {
        let before = self.names.len();
        let place = (name_hash(name), Bytes::copy_from_slice(name));
        self.names.entry(place).or_insert(Known { target, changed: 0 });
        self.names.len() - before
    }

    /// Records that all names with a hash in `from..to` that the store has were learned.
    pub fn learned_range(&mut self, from: u64, to: u64) {
        let (lo, hi) = self.complete;
        self.complete = if from <= hi && lo <= to { (lo.min(from), hi.max(to)) } else { (from, to) };
    }

    /// Where to go on scanning to know what comes at and after `hash`; `None` when at least one entry or the end is
    /// known from there.
    pub fn missing_from(&self, hash: u64) -> Option<u64> {
        let (lo, hi) = self.complete;
        if !(lo <= hash && hash < hi) {
            return Some(hash);
        }
        let known_entry = || self.present(hash, hi).next().is_some();
        if hi >= HASH_END || known_entry() { None } else { Some(hi) }
    }

    fn present(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Bytes, Target)> {
        let range = self.names.range((from, Bytes::new())..(to.max(from), Bytes::new()));
        range.filter_map(|((hash, name), known)| Some((*hash, name, known.target?)))
    }

    /// The names known to be there, in no useful order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Target)> {
        self.names.iter().filter_map(|((_, name), known)| Some((&name[..], known.target?)))
    }

    /// The entries from `hash` on that are known without a gap: about `limit`, never part of the names of one hash.
    pub fn list(&self, hash: u64, limit: usize) -> Vec<DirEntry> {
        let mut out: Vec<DirEntry> = Vec::new();
        for (h, name, (ino, kind)) in self.present(hash, self.complete.1) {
            if let Some(last) = out.last_mut() {
                if last.cookie == h {
                    // Names of one hash: only behind the last of them does the cookie lead past them all.
                    last.cookie = h - 1;
                } else if out.len() >= limit {
                    break;
                }
            }
            out.push(DirEntry { name: name.to_vec(), ino, kind, cookie: h, attr: None });
        }
        out
    }

    /// Forgets what the store knows too, keeping what changed after generation `committed`. Returns how many fewer
    /// names are cached.
    pub fn forget_clean(&mut self, committed: u64) -> usize {
        let before = self.names.len();
        self.names.retain(|_, known| known.changed > committed);
        self.complete = (0, 0);
        before - self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: Ino) -> Option<Target> {
        Some((ino, FileKind::Regular))
    }

    #[test]
    fn knows_what_it_was_told() {
        let mut dir = Dir::default();
        assert_eq!(dir.get(b"a"), None);
        dir.learn(b"a", file(5));
        dir.learn(b"b", None);
        assert_eq!((dir.get(b"a"), dir.get(b"b"), dir.get(b"c")), (Some(file(5)), Some(None), None));
        dir.change(b"a", None, 3);
        dir.learn(b"a", file(5));
        assert_eq!(dir.get(b"a"), Some(None), "a change is newer than the store");
        dir.learned_range(0, HASH_END);
        assert_eq!(dir.get(b"c"), Some(None));
        assert_eq!(dir.forget_clean(3), 2);
        assert_eq!(dir.get(b"a"), None);
    }

    #[test]
    fn lists_in_pages_without_a_gap() {
        let mut dir = Dir::empty();
        for i in 0..100 {
            dir.change(format!("n{i}").as_bytes(), file(100 + i), 1);
        }
        let (mut after, mut seen) = (0, 0);
        loop {
            assert_eq!(dir.missing_from(after + 1), None);
            let page = dir.list(after + 1, 7);
            let Some(last) = page.last() else { break };
            after = last.cookie;
            seen += page.len();
        }
        assert_eq!(seen, 100);
    }

    #[test]
    fn an_interval_grows_or_moves() {
        let mut dir = Dir::default();
        assert_eq!(dir.missing_from(1), Some(1));
        dir.learned_range(1, 50);
        assert_eq!(dir.missing_from(1), Some(50));
        dir.learned_range(50, 90);
        assert_eq!(dir.missing_from(20), Some(90));
        dir.learned_range(200, HASH_END);
        assert_eq!(dir.missing_from(300), None);
        assert_eq!(dir.missing_from(20), Some(20));
    }
}
