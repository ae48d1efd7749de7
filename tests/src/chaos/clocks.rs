//! Clocks that are wrong.
//!
//! A process that is started again finds its monotonic clocks (CLOCK_MONOTONIC, CLOCK_BOOTTIME) somewhere else, by a time
//! namespace of its own: after a restart no clock value from before means anything. The calendar's clock is the whole
//! machine's and is left alone; a clock that jumps while a process runs is what a stopped process sees when it goes on.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// `command` will see its monotonic clocks `seconds` ahead.
pub fn shift(mut command: Command, seconds: i64) -> Command {
    if seconds == 0 {
        return command;
    }
    let offsets = format!("monotonic {seconds} 0\nboottime {seconds} 0\n");
    // SAFETY: between fork and exec only system calls are made, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWTIME) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let fd = libc::open(c"/proc/self/timens_offsets".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            let written = libc::write(fd, offsets.as_ptr().cast(), offsets.len());
            let error = std::io::Error::last_os_error();
            libc::close(fd);
            if written == offsets.len() as isize { Ok(()) } else { Err(error) }
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes root and a kernel with time namespaces; where there are none, starting says so.
    #[test]
    fn a_shifted_process_sees_another_uptime() {
        let mut plain = Command::new("cat");
        plain.arg("/proc/uptime");
        let mut command = Command::new("cat");
        command.arg("/proc/uptime");
        let uptime = |output: std::process::Output| -> f64 {
            String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().parse().unwrap()
        };
        let before = uptime(plain.output().unwrap());
        match shift(command, 100_000).output() {
            Ok(output) => assert!(uptime(output) >= before + 99_000.0),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::PermissionDenied, "{e}"),
        }
    }
}
