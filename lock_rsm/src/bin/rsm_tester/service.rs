//! Tests 8 to 16 of the later labs: the lock service under `lock_tester`, while servers die, return, and are cut off.
//!
//! As in [`super::membership`], `order[0]` is the master, which the labs call the first server or the primary.

use std::time::Duration;

use super::failure::Failure;
use super::scene::{Scene, first, with, without};
use super::tester::Tester;

/// Servers that joined one after the other, and lock_tester at work; the master first.
async fn serving(scene: &mut Scene, count: usize) -> Result<(Tester, Vec<usize>), Failure> {
    let all = first(count);
    scene.group.start_joining(count).await?;
    scene.group.say_spawned();
    let mut tester = Tester::start(&scene.group, &all)?;
    scene.moment(&mut tester).await?;
    let order = scene.group.master_first(&all).await?;
    Ok((tester, order))
}

/// The views of a group of `count` that grows one by one, and then these.
fn growing(count: usize, then: &[&[usize]]) -> Vec<Vec<usize>> {
    (1..=count).map(first).chain(then.iter().map(|members| members.to_vec())).collect()
}

async fn finish(scene: &mut Scene, tester: Tester, then: &[&[usize]], count: usize) -> Result<(), Failure> {
    tester.passes().await?;
    let views = growing(count, then);
    let views: Vec<&[usize]> = views.iter().map(Vec::as_slice).collect();
    let last = views.last().expect("a group has a view");
    scene.group.finish(last, &views).await
}

/// 8: nobody dies.
pub async fn undisturbed(scene: &mut Scene) -> Result<(), Failure> {
    let (tester, _) = serving(scene, 3).await?;
    finish(scene, tester, &[], 3).await
}

/// 9 to 11: the second slave dies, or the master; and perhaps comes back.
pub async fn kill(scene: &mut Scene, which: usize, restart: bool) -> Result<(), Failure> {
    let (mut tester, order) = serving(scene, 3).await?;
    let victim = order[which];
    let rest = without(&first(3), &[victim]);
    scene.group.kill(victim).await?;
    tester.still_running("when the replica was killed")?;
    scene.group.wait_for_view(&rest).await?;
    if !restart {
        return finish(scene, tester, &[&rest], 3).await;
    }
    tester.still_running("when the replica was restarted")?;
    scene.group.start(victim, rest[0])?;
    let again = with(&rest, victim);
    scene.group.wait_for_view(&again).await?;
    finish(scene, tester, &[&rest, &again], 3).await
}

/// 12 and 13: the master, or the second slave, dies in the middle of a command, and comes back.
pub async fn die_at_command(scene: &mut Scene, which: usize) -> Result<(), Failure> {
    let (mut tester, order) = serving(scene, 3).await?;
    let victim = order[which];
    let rest = without(&first(3), &[victim]);
    scene.group.arm(victim, 1).await?;
    scene.group.wait_for_death(victim, 1).await?;
    tester.still_running("when the replica died")?;
    scene.group.wait_for_view(&rest).await?;
    scene.group.start(victim, rest[0])?;
    let again = with(&rest, victim);
    scene.group.wait_for_view(&again).await?;
    finish(scene, tester, &[&rest, &again], 3).await
}

/// 14 and 15: of five the last slave dies in the middle of a command; when it has been removed, so does another slave, or
/// the master.
pub async fn die_at_command_then_at_view(scene: &mut Scene, which: usize) -> Result<(), Failure> {
    let (mut tester, order) = serving(scene, 5).await?;
    let (at_command, at_view) = (order[4], order[which]);
    let four = without(&first(5), &[at_command]);
    let three = without(&four, &[at_view]);
    scene.group.arm(at_view, 2).await?;
    scene.group.arm(at_command, 1).await?;
    scene.group.wait_for_death(at_command, 1).await?;
    tester.still_running("when the first replica died")?;
    scene.group.wait_for_death(at_view, 2).await?;
    scene.group.wait_for_view(&three).await?;
    finish(scene, tester, &[&four, &three], 5).await
}

/// 16: the master is cut off from everybody, and comes back when it is not any more.
pub async fn partition_master(scene: &mut Scene) -> Result<(), Failure> {
    let (mut tester, order) = serving(scene, 3).await?;
    let master = order[0];
    let rest = without(&first(3), &[master]);
    scene.group.partition(master, false).await?;
    scene.group.wait_for_view(&rest).await?;
    tester.still_running("when the master was cut off")?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.group.partition(master, true).await?;
    let again = with(&rest, master);
    scene.group.wait_for_view(&again).await?;
    finish(scene, tester, &[&rest, &again], 3).await
}
