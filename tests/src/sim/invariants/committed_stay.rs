//! Committed entries never change or vanish: nobody takes another entry for committed at the same place (state machine
//! safety, §3.6.3), and nobody drops one from its log.

use super::{Invariant, Nodes, Seen, fingerprint, hold};
use lock_rsm::consensus::{ReplicaId, Viewstamp};
use std::collections::BTreeMap;

/// What was committed first at each place, and the stamps in each replica's log.
#[derive(Default)]
pub(super) struct CommittedStay {
    committed: BTreeMap<u64, (Viewstamp, u64)>,
    logs: BTreeMap<ReplicaId, BTreeMap<u64, Viewstamp>>,
}

impl Invariant for CommittedStay {
    fn name(&self) -> &'static str {
        "committed entries stay"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(disk) => {
                let stamps = disk.log.iter().map(|(&seq, entry)| (seq, entry.stamp)).collect();
                self.logs.insert(at, stamps);
            }
            Seen::Logged(write) => {
                let log = self.logs.entry(at).or_default();
                if let Some(from) = write.truncate_from {
                    for (seq, stamp) in log.split_off(&from) {
                        let committed = self.committed.get(&seq).map(|(stamp, _)| *stamp);
                        hold!(
                            committed != Some(stamp),
                            "replica {at} drops {stamp} from its log, which is committed"
                        );
                    }
                }
                log.extend(write.append.iter().map(|entry| (entry.stamp.seq, entry.stamp)));
            }
            Seen::Committed(entries) => {
                for entry in *entries {
                    let here = (entry.stamp, fingerprint(entry));
                    let known = *self.committed.entry(entry.stamp.seq).or_insert(here);
                    hold!(
                        known.0 == here.0,
                        "replica {at} takes {} for committed, others {}",
                        here.0,
                        known.0
                    );
                    hold!(known.1 == here.1, "replica {at} has another entry committed at {}", here.0);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
