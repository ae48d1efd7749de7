//! Catching panics of code that is not ours without a word on standard error.

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; if it panics on this thread, nothing is printed and what it said is returned.
///
/// For libraries that panic where they should fail, such as a store that opens damaged files: whoever calls has a clear
/// message of its own to give. Panics elsewhere are printed as before; the process's panic hook stays in force.
pub fn catch_quietly<T>(f: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = catch_unwind(f);
    QUIET.set(outer);
    result.map_err(|said| {
        let text = said.downcast_ref::<String>().cloned();
        text.or_else(|| said.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_panic_said() {
        assert_eq!(catch_quietly(|| 1), Ok(1));
        assert_eq!(catch_quietly(|| -> u8 { panic!("broken {}", 7) }), Err("broken 7".to_owned()));
        assert!(!QUIET.get(), "only while it runs");
    }
}
