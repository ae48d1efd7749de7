//! What a test plays with, and the steps that many tests have.

use std::time::Duration;

use super::failure::Failure;
use super::group::Group;
use super::random::Random;
use super::tester::Tester;

/// A random moment comes within this time after lock_tester's clients compete; they do for longer.
const RANDOM_WITHIN: Duration = Duration::from_secs(5);

pub struct Scene {
    pub group: Group,
    pub random: Random,
    /// Harm is done at a random moment, not as soon as the clients compete.
    pub at_random: bool,
}

impl Scene {
    /// Waits until `tester` is at it, and perhaps a little longer.
    pub async fn moment(&mut self, tester: &mut Tester) -> Result<(), Failure> {
        tester.busy().await?;
        if self.at_random {
            tokio::time::sleep(self.random.within(RANDOM_WITHIN)).await;
        }
        tester.still_running("before harm was done")
    }
}

/// `members` without `gone`, in their order.
pub fn without(members: &[usize], gone: &[usize]) -> Vec<usize> {
    members.iter().copied().filter(|member| !gone.contains(member)).collect()
}

/// `members`, and `joined` after them.
pub fn with(members: &[usize], joined: usize) -> Vec<usize> {
    members.iter().copied().chain([joined]).collect()
}

/// Numbers 0 to `count` - 1.
pub fn first(count: usize) -> Vec<usize> {
    (0..count).collect()
}
