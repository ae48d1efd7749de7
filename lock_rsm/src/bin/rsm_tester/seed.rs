//! The four tests of 2007: the lock service under `lock_tester`, while replicas die and join.

use super::failure::Failure;
use super::scene::{Scene, first, without};
use super::tester::Tester;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Nobody,
    Slave,
    Master,
}

/// Tests 1 to 3: three servers, founded together.
pub async fn three(scene: &mut Scene, victim: Victim) -> Result<(), Failure> {
    let all = first(3);
    let group = &mut scene.group;
    group.start_listed()?;
    group.say_spawned();
    group.wait_for_view(&all).await?;
    let mut tester = Tester::start(group, &all)?;
    if victim == Victim::Nobody {
        tester.passes().await?;
        return group.finish(&all, &[&all]).await;
    }

    scene.moment(&mut tester).await?;
    let group = &mut scene.group;
    let order = group.master_first(&all).await?;
    let victim = order[usize::from(victim == Victim::Slave)];
    group.kill(victim).await?;
    tester.still_running("when the replica was killed")?;
    let rest = without(&all, &[victim]);
    group.wait_for_view(&rest).await?;
    tester.passes().await?;
    group.finish(&rest, &[&all, &rest]).await
}

/// Test 4: two servers, later a third one, then the master dies.
pub async fn join_and_kill_master(scene: &mut Scene) -> Result<(), Failure> {
    let (two, three) = (first(2), first(3));
    scene.group.start_joining(2).await?;
    scene.group.say_spawned();
    let mut tester = Tester::start(&scene.group, &three)?;
    scene.moment(&mut tester).await?;
    let group = &mut scene.group;
    group.start(2, 0)?;
    group.wait_for_view(&three).await?;
    let master = group.master_first(&three).await?[0];
    group.kill(master).await?;
    tester.still_running("when the master was killed")?;
    let rest = without(&three, &[master]);
    group.wait_for_view(&rest).await?;
    tester.passes().await?;
    group.finish(&rest, &[&[0], &two, &three, &rest]).await
}
