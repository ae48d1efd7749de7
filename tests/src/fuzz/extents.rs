//! The extent server: what travels, what stands on its disk, its log.

use super::{Target, one_of, samples_of};
use extent_server::fuzzing::{COMMITS, HEADERS, STORE, journal, sample_journals};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

pub(super) const TARGETS: &[Target] = &[
    Target::new("extent_calls", |input| one_of(HEADERS, input), || samples_of(HEADERS)),
    Target::new("extent_commits", |input| one_of(COMMITS, input), || samples_of(COMMITS)),
    Target::new("extent_disk", |input| one_of(STORE, input), || samples_of(STORE)),
    Target::new("extent_journal", journals, journal_seeds),
];

thread_local! {
    static LOG: RefCell<File> = RefCell::new(in_memory());
}

/// A file that no disk slows down.
fn in_memory() -> File {
    // SAFETY: the name is a C string; the descriptor, if there is one, is nobody else's.
    unsafe {
        let fd = libc::memfd_create(c"a log".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "there is room for a file");
        File::from_raw_fd(fd)
    }
}

/// A log file: its outline ends within it, zeros behind a log change nothing, and what is cut off is torn.
fn journals(input: &[u8]) -> bool {
    LOG.with_borrow_mut(|file| {
        let mut look = |bytes: &[u8]| {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(bytes))
                .expect("it is written");
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            journal(&path).expect("it is read")
        };
        let found = look(input);
        assert!(found.end <= input.len() as u64);
        assert!(found.unsound.is_none_or(|start| start < found.end));
        let end = found.end as usize;
        assert_eq!(found.torn, input[end..].iter().any(|byte| *byte != 0));
        let sound = look(&input[..end]);
        assert_eq!((sound.end, sound.torn, sound.unsound), (found.end, false, found.unsound));
        assert_eq!(look(&[&input[..end], &[0; 64]].concat()), sound);
        end > 0
    })
}

fn journal_seeds() -> Vec<(String, Vec<u8>)> {
    sample_journals().into_iter().zip(1..).map(|(log, n)| (format!("log-{n}"), log)).collect()
}
