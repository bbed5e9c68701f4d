//! Questions to a team's Python: claimed, put off, forgotten.

use isobar_store::questions::{self, NewQuestion};
use isobar_wire::questions::{QuestionKind, Said};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::ground::{Ground, now};

const HOLD: SignedDuration = SignedDuration::from_mins(5);

async fn ask(ground: &Ground, kind: QuestionKind, wanted_until: Option<Timestamp>) -> i64 {
    let question = NewQuestion {
        kind,
        dag_id: "d".into(),
        subject: String::new(),
        body: json!({"ask": kind.as_str()}),
        version_id: None,
        wanted_until,
    };
    let mut tx = ground.store.begin().await.unwrap();
    let id = questions::ask(&mut tx, ground.team(1), &question, now()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn claim(ground: &Ground, team: i32, at: Timestamp) -> Vec<i64> {
    let mut tx = ground.store.begin().await.unwrap();
    let claimed = questions::claim(&mut tx, ground.team(team), 64, at, HOLD)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    claimed.iter().map(|question| question.id).collect()
}

async fn said(ground: &Ground, id: i64) -> Option<Option<Said>> {
    let mut tx = ground.store.read().await.unwrap();
    let found = questions::get(&mut tx, ground.team(1), id).await.unwrap();
    found.map(|found| found.said)
}

contract!(a_question_that_nobody_waits_for_any_more_is_forgotten, |ground| {
    let second = SignedDuration::from_secs(1);
    let end = now() + second * 5;
    let waited = ask(ground, QuestionKind::ManualInterval, Some(end)).await;
    let answered = ask(ground, QuestionKind::RunsBetween, Some(end)).await;
    let kept = ask(ground, QuestionKind::NextRun, None).await;
    assert_eq!(claim(ground, 1, end - second).await, [waited, answered, kept]);
    let mut tx = ground.store.begin().await.unwrap();
    let answer = [(answered, Said::Answer(json!({"runs": []})))];
    questions::said(&mut tx, ground.team(1), &answer, end - second)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    // Another team's helper forgets nothing of this one's.
    assert!(claim(ground, 2, end + HOLD).await.is_empty());
    assert!(said(ground, waited).await.is_some());
    assert_eq!(claim(ground, 1, end + HOLD).await, [kept]);
    assert_eq!((said(ground, waited).await, said(ground, answered).await), (None, None));
});

contract!(
    a_question_whose_answer_cannot_be_used_is_claimed_again_after_a_pause,
    |ground| {
        let second = SignedDuration::from_secs(1);
        let id = ask(ground, QuestionKind::Partitions, None).await;
        assert_eq!(claim(ground, 1, now()).await, [id]);
        let mut tx = ground.store.begin().await.unwrap();
        let answer = [(id, Said::Answer(json!("nonsense")))];
        questions::said(&mut tx, ground.team(1), &answer, now()).await.unwrap();
        questions::ask_again(&mut tx, ground.team(1), id, "no use", now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(said(ground, id).await, Some(Some(Said::Later("no use".to_owned()))));
        assert!(claim(ground, 1, now() + second).await.is_empty());
        assert_eq!(claim(ground, 1, now() + second * 6).await, [id]);
    }
);
