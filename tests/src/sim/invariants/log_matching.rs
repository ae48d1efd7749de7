//! Log matching: two entries with the same stamp are the same and follow the same (§3.5); a log has no holes.

use super::{Invariant, Nodes, Seen, fingerprint, hold, running};
use lock_rsm::consensus::{Entry, ReplicaId, Viewstamp};
use std::collections::BTreeMap;

/// Every entry ever logged, and each replica's log as it told its disk.
#[derive(Default)]
pub(super) struct LogMatching {
    /// Its fingerprint, and the stamp before it.
    entries: BTreeMap<Viewstamp, (u64, Viewstamp)>,
    logs: BTreeMap<ReplicaId, Log>,
}

#[derive(Default)]
struct Log {
    base: Viewstamp,
    stamps: BTreeMap<u64, Viewstamp>,
}

impl Log {
    fn last(&self) -> Viewstamp {
        self.stamps.last_key_value().map_or(self.base, |(_, &stamp)| stamp)
    }
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(disk) => {
                let base = disk.snapshot.as_ref().map_or(Viewstamp::ZERO, |snapshot| snapshot.meta.stamp);
                self.logs.insert(at, Log { base, stamps: BTreeMap::new() });
                disk.log.values().try_for_each(|entry| self.append(at, entry))
            }
            Seen::Logged(write) => {
                let log = self.logs.entry(at).or_default();
                if let Some((snapshot, discard_log)) = &write.install {
                    let base = snapshot.meta.stamp;
                    log.stamps =
                        if *discard_log { BTreeMap::new() } else { log.stamps.split_off(&(base.seq + 1)) };
                    log.base = base;
                }
                if let Some(from) = write.truncate_from {
                    log.stamps.split_off(&from);
                }
                write.append.iter().try_for_each(|entry| self.append(at, entry))?;
                self.compare(at, nodes)
            }
            _ => Ok(()),
        }
    }
}

impl LogMatching {
    fn append(&mut self, at: ReplicaId, entry: &Entry) -> Result<(), String> {
        let log = self.logs.entry(at).or_default();
        let previous = log.last();
        hold!(
            entry.stamp.seq == previous.seq + 1,
            "replica {at} has {} after {previous}: a hole",
            entry.stamp
        );
        let here = (fingerprint(entry), previous);
        let known = *self.entries.entry(entry.stamp).or_insert(here);
        hold!(known.0 == here.0, "entry {} of replica {at} differs from what others have there", entry.stamp);
        hold!(
            known.1 == here.1,
            "entry {} follows {} elsewhere and {previous} at replica {at}",
            entry.stamp,
            known.1
        );
        log.stamps.insert(entry.stamp.seq, entry.stamp);
        Ok(())
    }

    /// What the disk was told is what the core has.
    fn compare(&self, at: ReplicaId, nodes: &Nodes) -> Result<(), String> {
        let Some(core) = running(nodes, at) else { return Ok(()) };
        let (told, has) = (self.logs[&at].last(), core.last());
        hold!(told == has, "the log of replica {at} ends with {has}, and its disk was told {told}");
        Ok(())
    }
}
