//! The RSM library: what travels, what stands on its disk, whole states.

use super::{Target, one_of, samples_of};
use lock_rsm::fuzzing::{MESSAGES, REPLICAS, SNAPSHOTS, STORE, TEXTS};

pub(super) const TARGETS: &[Target] = &[
    Target::new("rsm_messages", |input| one_of(MESSAGES, input), || samples_of(MESSAGES)),
    Target::new("rsm_calls", |input| one_of(REPLICAS, input), || samples_of(REPLICAS)),
    Target::new("rsm_disk", |input| one_of(STORE, input), || samples_of(STORE)),
    Target::new("rsm_config", |input| one_of(TEXTS, input), || samples_of(TEXTS)),
    Target::new("rsm_snapshots", |input| one_of(SNAPSHOTS, input), || samples_of(SNAPSHOTS)),
];
