//! The thinnest whole path.

mod support;

use support::{MemoryApi, Team};

#[tokio::test]
async fn a_task_runs_to_success() {
    let team = Team::start().await;
    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "noop").await;
    println!("{:#?}", done.ended);
    for line in &done.log {
        println!("{line}");
    }
    let done = team.run(&MemoryApi::with(|_| {}), "value").await;
    println!("{:#?}", done.ended);
    for line in &done.log {
        println!("{line}");
    }
    assert_eq!(api.world().state, "success");
}
