//! Leases: one holder at a time, and late writers are fenced.

use std::time::Duration;

use crate::ground::{Ground, now};
use isobar_store::StoreError;
use isobar_store::leases::{self, Lease};

async fn acquire(ground: &Ground, holder: &str, lasting: Duration) -> Option<Lease> {
    let mut tx = ground.store.begin().await.unwrap();
    let lease = leases::acquire(&mut tx, &ground.org, "x", holder, lasting, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    lease
}

contract!(a_lease_has_one_holder_who_may_renew_it, |ground| {
    let minute = Duration::from_secs(60);
    let first = acquire(ground, "one", minute).await.unwrap();
    assert_eq!(acquire(ground, "two", minute).await, None);
    assert_eq!(acquire(ground, "one", minute).await, Some(first));
});

contract!(
    a_lease_that_was_given_back_or_ran_out_goes_to_another_under_a_new_epoch,
    |ground| {
        let first = acquire(ground, "one", Duration::from_secs(60)).await.unwrap();
        let mut tx = ground.store.begin().await.unwrap();
        leases::release(&mut tx, &ground.org, &first).await.unwrap();
        tx.commit().await.unwrap();
        let second = acquire(ground, "two", Duration::ZERO).await.unwrap();
        assert!(second.epoch > first.epoch);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let third = acquire(ground, "three", Duration::from_secs(60)).await.unwrap();
        assert!(third.epoch > second.epoch);

        let mut tx = ground.store.begin().await.unwrap();
        leases::fence(&mut tx, &ground.org, &third).await.unwrap();
        let late = leases::fence(&mut tx, &ground.org, &second).await;
        assert!(matches!(late, Err(StoreError::LeaseLost(_))), "{late:?}");
    }
);
