//! A simulated machine: programs on a runtime of their own, whose clock goes only when the machine may run.

use super::clock;
use super::network::HostId;
use std::cell::Cell;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNNING: Cell<HostId> = const { Cell::new(0) };
}

/// The machine that runs in this thread; 0 for none.
pub fn current() -> HostId {
    RUNNING.get()
}

struct Running {
    _clock: clock::InHost,
}

impl Running {
    fn on(id: HostId) -> Running {
        RUNNING.set(id);
        Running { _clock: clock::enter_host() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(0);
    }
}

/// A machine that is switched on. Dropping it is pulling the plug.
pub struct Host {
    id: HostId,
    runtime: Option<Runtime>,
    /// How far its clock has come.
    at_ms: u64,
}

impl Host {
    /// Switches a machine on, which begins with `main`.
    pub fn start(id: HostId, now_ms: u64, main: impl Future<Output = ()> + Send + 'static) -> Host {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        runtime.spawn(main);
        Host { id, runtime: Some(runtime), at_ms: now_ms }
    }

    /// Lets it run until `ms`. Timers that came due while it stood still are due at once.
    pub fn run_until(&mut self, ms: u64, tick_ms: u64) {
        let Some(runtime) = &self.runtime else { return };
        let _running = Running::on(self.id);
        let stood_still = ms.saturating_sub(self.at_ms + tick_ms);
        runtime.block_on(async {
            if stood_still > 0 {
                tokio::time::advance(Duration::from_millis(stood_still)).await;
            }
            tokio::time::sleep(Duration::from_millis(ms - self.at_ms - stood_still)).await;
        });
        self.at_ms = ms;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _running = Running::on(self.id);
        // What ends with the runtime may look at the clock.
        drop(self.runtime.take());
    }
}
