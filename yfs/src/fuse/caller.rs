//! Whether the process that waits for an answer has been killed.
//!
//! The kernel asks a FUSE server to give up a request whose caller got a signal (FUSE_INTERRUPT). `fuser` does not hand
//! that on, and refuses it, whereupon the kernel asks no more: a caller whose request has been taken up is not killable
//! until it is answered. So while a request waits, its caller is looked at: once a fatal signal has begun to end a
//! process, SIGKILL is pending for each of its threads, which `/proc` shows.

use std::time::Duration;

/// The first look at a caller, and the longest time between two.
const LOOK_MIN: Duration = Duration::from_millis(250);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// SIGKILL in a mask of pending signals.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// Returns when the thread `tid` is about to be killed; never for 0, which stands for a caller that cannot be seen from
/// here (it is in another PID namespace), and for threads of the kernel.
pub async fn killed(tid: u32) {
    if tid == 0 {
        return std::future::pending().await;
    }
    let mut pause = LOOK_MIN;
    loop {
        tokio::time::sleep(pause).await;
        // A thread that is not there any more did not wait for us: what `/proc` cannot tell is no reason to give up.
        if std::fs::read_to_string(format!("/proc/{tid}/status")).is_ok_and(|status| is_dying(&status)) {
            return;
        }
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// Whether SIGKILL is pending for the thread or its process.
fn is_dying(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & KILL != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_kill_is_seen_in_either_mask() {
        let status = |thread: u64, process: u64| {
            format!(
                "Name:\tcat\nSigPnd:\t{thread:016x}\nShdPnd:\t{process:016x}\nSigBlk:\t0000000000000100\n"
            )
        };
        assert!(is_dying(&status(0x100, 0)) && is_dying(&status(0, 0x100)));
        assert!(
            !is_dying(&status(0, 0)) && !is_dying(&status(0x4002, 0x200)),
            "other signals may be handled"
        );
        assert!(!is_dying("") && !is_dying("SigPnd:\tnonsense\n"));
    }

    #[tokio::test]
    async fn who_lives_or_cannot_be_seen_is_waited_for() {
        let two_looks = LOOK_MIN * 4;
        let me = tokio::time::timeout(two_looks, killed(std::process::id()));
        let nobody = tokio::time::timeout(two_looks, killed(0));
        let (me, nobody) = futures_util::future::join(me, nobody).await;
        assert!(me.is_err() && nobody.is_err());
    }
}
