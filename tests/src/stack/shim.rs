//! The two functions of the C library that a simulation needs in its hands. Not part of the library: a program that
//! simulates includes this file (`#[path]`), and so has them in place of the C library's.

use yfs_tests::stack::clock;

/// # Safety
/// As in the C library: `time` is a valid pointer.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(which: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let Some(ns) = clock::reading(which) else {
        // SAFETY: the caller's promise is the system's.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, which, time) } as libc::c_int;
    };
    let (tv_sec, tv_nsec) = ((ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64);
    // SAFETY: the caller gives a valid pointer.
    unsafe { time.write(libc::timespec { tv_sec, tv_nsec }) };
    0
}

/// # Safety
/// As in the C library: `bytes` points to `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    bytes: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if len > 0 {
        // SAFETY: the caller gives so many bytes; numbers have no invalid values.
        let bytes = unsafe {
            bytes.cast::<u8>().write_bytes(0, len);
            std::slice::from_raw_parts_mut(bytes.cast::<u8>(), len)
        };
        if clock::fill(bytes) {
            return len as libc::ssize_t;
        }
    }
    // SAFETY: the caller's promise is the system's.
    unsafe { libc::syscall(libc::SYS_getrandom, bytes, len, flags) as libc::ssize_t }
}
