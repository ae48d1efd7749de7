//! The file system: its records, and text files.

use super::{Target, one_of, samples_of};
use yfs::fuzzing::{RECORDS, TEXTS};

pub(super) const TARGETS: &[Target] = &[
    Target::new("fs_records", |input| one_of(RECORDS, input), || samples_of(RECORDS)),
    Target::new("fs_texts", |input| one_of(TEXTS, input), || samples_of(TEXTS)),
];
