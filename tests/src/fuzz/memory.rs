//! How much memory and processor time a piece of work takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// The system's allocator, counting for each thread. A program that calls [`peak_of`] must declare it:
/// `#[global_allocator] static MEMORY: Counting = Counting;`
#[derive(Debug)]
pub struct Counting;

thread_local! {
    // Neither needs a destructor, so that they can be used as long as the thread allocates.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: every call is handed on as it is to the system's allocator; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's promises are ours.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's promises are ours.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // It may be copied, and then both are there for a moment.
        add(size as isize);
        add(-(layout.size() as isize));
        // SAFETY: the caller's promises are ours.
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller's promises are ours.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Does some work and says how many bytes more than before were in use on this thread at most.
///
/// # Panics
/// When the program does not count.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    drop(std::hint::black_box(Box::new(0u64)));
    assert!(PEAK.get() > before, "this program does not count its memory: declare fuzz::memory::Counting");
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// The processor time this thread has had.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes the one structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
