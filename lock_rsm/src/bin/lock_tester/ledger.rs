//! Who has which lock, as the clients see it: the check that the service cannot influence.

use lock_rsm::locks::LockId;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// One counter for each low byte of a lock id, as in the labs.
pub struct Ledger([AtomicU32; 256]);

impl Ledger {
    pub fn new() -> Ledger {
        Ledger([const { AtomicU32::new(0) }; 256])
    }

    /// To be called right after an exclusive acquire. Ends the program if somebody else has the lock.
    pub fn granted(&self, lock: LockId) {
        if self.counter(lock).fetch_add(1, SeqCst) != 0 {
            give_up(&format!("error: server granted {lock:016x} twice"));
        }
    }

    /// To be called right before an exclusive lock is released. Ends the program if nobody has it.
    pub fn released(&self, lock: LockId) {
        if self.counter(lock).fetch_sub(1, SeqCst) != 1 {
            give_up(&format!("error: client released un-held lock {lock:016x}"));
        }
    }

    /// To be called under a shared lock.
    pub fn nobody_writes(&self, lock: LockId) {
        if self.counter(lock).load(SeqCst) != 0 {
            give_up(&format!("error: server granted {lock:016x} twice"));
        }
    }

    fn counter(&self, lock: LockId) -> &AtomicU32 {
        &self.0[(lock & 0xff) as usize]
    }
}

fn give_up(line: &str) -> ! {
    println!("{line}");
    eprintln!("{line}");
    std::process::exit(1);
}
