//! Groups of replicas in one process: invoking, failing over, restarting, catching up.

mod rsm_support;

use rsm_support::{ADD, Group, PATIENCE, WHERE};

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_execute_in_the_same_order() {
    let group = Group::start(3).await;
    assert_eq!(group.master().await, 0, "the designated master begins");
    let client = group.client().await;
    for by in 1..=10u64 {
        let sum: u64 = client.invoke(ADD, &by, PATIENCE).await.unwrap();
        assert_eq!(sum, (1..=by).sum());
    }
    let (who, (view, seq)): (u64, (u64, u64)) = client.invoke(WHERE, &(), PATIENCE).await.unwrap();
    let (_, (view2, seq2)): (u64, (u64, u64)) = client.invoke(WHERE, &(), PATIENCE).await.unwrap();
    assert_eq!(who, client.id());
    assert!((view2, seq2) > (view, seq));
    group.check_equal().await;
    let view = client.view().await.unwrap();
    assert_eq!(view.members, group.addresses());
    assert_eq!(view.master.as_ref(), Some(&group.addresses()[0]));
}
