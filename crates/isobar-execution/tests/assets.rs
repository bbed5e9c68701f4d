//! Assets across teams and within one: who is told of an event, who consumes it, and which assets are active.

#![allow(clippy::unwrap_used, reason = "tests")]

mod stage;

use std::collections::BTreeSet;

use isobar_auth::ReadScope;
use isobar_model::{RunKey, RunType, TeamId, TeamName};
use isobar_store::assets::{self, Change};
use isobar_store::lists::{Page, dag_warnings};
use isobar_store::runs::{self, NewRun};
use isobar_store::{loading, run_calls, stores};
use isobar_wire::execution::{AssetRef, Operation, TaskEnd};
use jiff::Timestamp;
use serde_json::{Value, json};
use stage::{ALPHA, BETA, Stage, asset, dag, now, scheduled_by, stages, with_outlet};

const URI: &str = "s3://thing";

/// An asset of the common URI that accepts events of these teams.
fn accepting(name: &str, teams: &[&str]) -> Value {
    let mut asset = asset(name, URI);
    asset["access_control"] = json!({"producer_teams": teams, "allow_global": true});
    asset
}

async fn unpause(stage: &Stage, team: TeamId, dag_id: &str) {
    let mut tx = stage.store.begin().await.unwrap();
    isobar_store::dag_changes::set_paused(&mut tx, stage.scope(team), &[dag_id.into()], false)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn waits(stage: &Stage, team: TeamId, dag_id: &str) -> bool {
    let mut tx = stage.store.read().await.unwrap();
    assets::queued_for(&mut tx, stage.scope(team), dag_id).await.unwrap() > 0
}

fn change(aliases: &[&str], consumer_teams: Option<&[&str]>) -> Change {
    Change {
        name: "thing".to_owned(),
        uri: URI.to_owned(),
        asset_extra: json!({}),
        extra: json!({}),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        partition_key: None,
        partition_date: None,
        consumer_teams: consumer_teams.map(|teams| teams.iter().map(|team| (*team).to_owned()).collect()),
    }
}

/// An event that no task produced: of the API, of a watcher.
async fn register(stage: &Stage, team: TeamId, name: &str, change: Change) -> i64 {
    let mut tx = stage.store.begin().await.unwrap();
    let team_name = TeamName::parse(name).unwrap();
    let (scope, at) = (stage.scope(team), Timestamp::now());
    let made = assets::register(&mut tx, scope, &stage.org, &team_name, None, &[change], at)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    made[0].event_id
}

/// A task of alpha that has this outlet succeeds.
async fn produce(stage: &Stage, dag_id: &str, outlet: Value) {
    stage
        .parse(
            ALPHA,
            &format!("{dag_id}.py"),
            vec![with_outlet(dag(dag_id, &["a"]), outlet)],
        )
        .await;
    let run = stage.run(ALPHA, dag_id, "r").await;
    let caller = stage.start(ALPHA, &run, "a").await;
    let end = Operation::State(TaskEnd::Success {
        end_date: now(),
        task_outlets: vec![json!({"name": "thing", "uri": URI, "type": "Asset"})],
        outlet_events: Vec::new(),
        rendered_map_index: None,
    });
    stage.call(&caller, end).await.unwrap();
}

async fn consumed(
    stage: &Stage,
    team: TeamId,
    dag_id: &str,
    run_id: &str,
    catchup: bool,
) -> BTreeSet<(String, String)> {
    let mut tx = stage.store.begin().await.unwrap();
    let at = Timestamp::now();
    let run = RunKey {
        dag_id: dag_id.into(),
        run_id: run_id.into(),
    };
    let new = NewRun::new(dag_id.into(), run_id.into(), RunType::AssetTriggered, at);
    runs::insert(&mut tx, stage.scope(team), &new, at).await.unwrap();
    loading::consume_assets(&mut tx, stage.scope(team), &stage.org, &run, at, catchup)
        .await
        .unwrap();
    let events = run_calls::consumed_events(&mut tx, stage.scope(team), &stage.org, &run)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    events
        .into_iter()
        .map(|event| (event.producer_name, event.source_dag_id.unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn an_event_crosses_where_both_sides_consent_however_it_was_made() {
    for stage in stages().await {
        let consumers = [
            ("listed", accepting("mine", &["alpha"])),
            ("by_glob", accepting("mine", &["al*", "x"])),
            ("other_team", accepting("mine", &["gamma", "bet*"])),
            ("unlisted", asset("mine", URI)),
            ("by_reference", json!({"__type": "asset_ref", "uri": URI})),
            ("by_alias", json!({"__type": "asset_alias", "name": "al", "group": ""})),
        ];
        for (id, on) in consumers {
            stage
                .parse(BETA, &format!("{id}.py"), vec![scheduled_by(dag(id, &["a"]), on)])
                .await;
            unpause(&stage, BETA, id).await;
        }
        let told = || async {
            let mut told = Vec::new();
            for id in [
                "listed",
                "by_glob",
                "other_team",
                "unlisted",
                "by_reference",
                "by_alias",
            ] {
                if waits(&stage, BETA, id).await {
                    told.push(id);
                    consumed(
                        &stage,
                        BETA,
                        id,
                        &format!("r{}", Timestamp::now().as_microsecond()),
                        false,
                    )
                    .await;
                }
            }
            told
        };
        // A producer that restricts its consumers, then one that lets beta in by a glob, then one that says nothing.
        let mut closed = asset("thing", URI);
        closed["access_control"] = json!({"producer_teams": [], "consumer_teams": ["gamma"], "allow_global": true});
        produce(&stage, "closed", closed).await;
        assert!(told().await.is_empty());
        let mut ajar = asset("thing", URI);
        ajar["access_control"] = json!({"producer_teams": [], "consumer_teams": ["b*"], "allow_global": true});
        produce(&stage, "ajar", ajar).await;
        assert_eq!(told().await, ["listed", "by_glob"]);
        produce(&stage, "open", asset("thing", URI)).await;
        assert_eq!(told().await, ["listed", "by_glob"]);
        // Of the API and of watchers, and through an alias: the same resolver.
        register(&stage, ALPHA, "alpha", change(&[], None)).await;
        assert_eq!(told().await, ["listed", "by_glob"]);
        register(&stage, ALPHA, "alpha", change(&["al"], None)).await;
        assert_eq!(told().await, ["listed", "by_glob"]);
        register(&stage, ALPHA, "alpha", change(&[], Some(&["gamma"]))).await;
        assert!(told().await.is_empty());
        // Its own events reach everybody who names the asset.
        let mut own = change(&["al"], Some(&[]));
        own.name = "mine".to_owned();
        register(&stage, BETA, "beta", own).await;
        let all = [
            "listed",
            "by_glob",
            "other_team",
            "unlisted",
            "by_reference",
            "by_alias",
        ];
        assert_eq!(told().await, all);
    }
}

#[tokio::test]
async fn a_run_consumes_foreign_events_of_its_window_only_where_both_sides_consent() {
    for stage in stages().await {
        produce(&stage, "early", asset("thing", URI)).await;
        for (id, on) in [
            ("listed", accepting("mine", &["alpha"])),
            ("unlisted", asset("mine", URI)),
        ] {
            stage
                .parse(BETA, &format!("{id}.py"), vec![scheduled_by(dag(id, &["a"]), on)])
                .await;
        }
        // While the consumer is paused.
        produce(&stage, "open", asset("thing", URI)).await;
        let mut closed = asset("thing", URI);
        closed["access_control"] = json!({"producer_teams": [], "consumer_teams": ["gamma"], "allow_global": true});
        produce(&stage, "closed", closed).await;
        let from = |dags: &[&str]| -> BTreeSet<(String, String)> {
            dags.iter().map(|dag| ("alpha".to_owned(), (*dag).to_owned())).collect()
        };
        assert_eq!(consumed(&stage, BETA, "listed", "r1", false).await, from(&["open"]));
        assert!(
            consumed(&stage, BETA, "listed", "r2", false).await.is_empty(),
            "once is enough"
        );
        assert!(consumed(&stage, BETA, "unlisted", "r1", true).await.is_empty());
        // With catchup a first run looks back to the beginning.
        stage
            .parse(
                BETA,
                "late.py",
                vec![scheduled_by(dag("late", &["a"]), accepting("mine", &["*"]))],
            )
            .await;
        assert_eq!(
            consumed(&stage, BETA, "late", "r1", true).await,
            from(&["early", "open"])
        );
    }
}

#[tokio::test]
async fn the_state_of_a_foreign_asset_is_as_that_of_a_made_up_one() {
    for stage in stages().await {
        produce(&stage, "open", asset("thing", URI)).await;
        let mut tx = stage.store.begin().await.unwrap();
        let found = assets::find(&mut tx, stage.scope(ALPHA), assets::Named::Uri(URI))
            .await
            .unwrap();
        let (id, at) = (found[0].id, Timestamp::now());
        stores::set_asset_value(&mut tx, stage.scope(ALPHA), id, "k", &json!(1), stores::Writer::Api, at)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let spy = stage.running(BETA, "spy").await;
        let read = |asset: AssetRef| Operation::GetAssetStore {
            asset,
            key: "k".to_owned(),
        };
        let write = |asset: AssetRef| Operation::SetAssetStore {
            asset,
            key: "k".to_owned(),
            value: json!(2),
        };
        for make in [&read as &dyn Fn(AssetRef) -> Operation, &write] {
            let foreign = stage.call(&spy, make(AssetRef::Uri(URI.to_owned()))).await.unwrap_err();
            let made_up = stage
                .call(&spy, make(AssetRef::Uri("s3://nothing".to_owned())))
                .await
                .unwrap_err();
            assert_eq!(foreign.status, 404);
            let plain = |refusal: &isobar_wire::execution::Refusal| {
                refusal.detail.to_string().replace(URI, "").replace("s3://nothing", "")
            };
            assert_eq!(plain(&foreign), plain(&made_up));
        }
        let mut tx = stage.store.read().await.unwrap();
        let kept = stores::get_asset_value(&mut tx, stage.scope(ALPHA), id, "k")
            .await
            .unwrap();
        assert_eq!(kept, Some(json!(1)));
    }
}

async fn active(stage: &Stage, name: &str, uri: &str) -> Option<bool> {
    let mut tx = stage.store.read().await.unwrap();
    let found = assets::find(&mut tx, stage.scope(ALPHA), assets::Named::Both(name, uri))
        .await
        .unwrap();
    found.first().map(|asset| asset.active)
}

async fn conflicts(stage: &Stage) -> Vec<(String, String)> {
    let mut tx = stage.store.read().await.unwrap();
    let order = dag_warnings::ORDER.order(&["dag_id".into()]).unwrap();
    let scope = ReadScope::from(stage.scope(ALPHA));
    let page = Page { limit: 100, offset: 0 };
    let found = dag_warnings::list(&mut tx, &scope, &dag_warnings::WarningFilter::default(), &order, page)
        .await
        .unwrap();
    found
        .rows
        .into_iter()
        .map(|row| (row.dag_id.to_string(), row.message))
        .collect()
}

#[tokio::test]
async fn no_two_active_assets_share_a_name_or_a_uri() {
    for stage in stages().await {
        let with = |id: &str, outlet: Value| vec![with_outlet(dag(id, &["a"]), outlet)];
        stage
            .parse(ALPHA, "first.py", with("first", asset("n", "s3://1")))
            .await;
        stage
            .parse(ALPHA, "second.py", with("second", asset("n", "s3://2")))
            .await;
        stage
            .parse(ALPHA, "third.py", with("third", asset("m", "s3://1")))
            .await;
        assert_eq!(active(&stage, "n", "s3://1").await, Some(true));
        assert_eq!(active(&stage, "n", "s3://2").await, Some(false));
        assert_eq!(active(&stage, "m", "s3://1").await, Some(false));
        let asset_text = |name: &str, uri: &str| format!("Asset(name=\"{name}\", uri=\"{uri}\", group=\"asset\")");
        let (second, third) = (asset_text("n", "s3://2"), asset_text("m", "s3://1"));
        assert_eq!(
            conflicts(&stage).await,
            [
                (
                    "second".to_owned(),
                    format!("Cannot activate asset {second}; name is already associated to 's3://1'")
                ),
                (
                    "third".to_owned(),
                    format!("Cannot activate asset {third}; uri is already associated to 'n'")
                ),
            ]
        );
        // Nobody names the first any more: its state goes with it, the others take their places.
        let mut tx = stage.store.begin().await.unwrap();
        let first = assets::find(&mut tx, stage.scope(ALPHA), assets::Named::Both("n", "s3://1"))
            .await
            .unwrap();
        let (id, at) = (first[0].id, Timestamp::now());
        stores::set_asset_value(&mut tx, stage.scope(ALPHA), id, "k", &json!(1), stores::Writer::Api, at)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        stage.parse(ALPHA, "first.py", vec![dag("first", &["a", "b"])]).await;
        assert_eq!(active(&stage, "n", "s3://1").await, Some(false));
        assert_eq!(active(&stage, "n", "s3://2").await, Some(true));
        assert_eq!(active(&stage, "m", "s3://1").await, Some(true));
        assert!(conflicts(&stage).await.is_empty());
        let mut tx = stage.store.read().await.unwrap();
        let gone = stores::get_asset_value(&mut tx, stage.scope(ALPHA), id, "k")
            .await
            .unwrap();
        assert_eq!(gone, None);
    }
}

#[tokio::test]
async fn what_an_alias_made_is_active_and_stays_so() {
    for stage in stages().await {
        register(&stage, ALPHA, "alpha", change(&["al"], None)).await;
        assert_eq!(active(&stage, "thing", URI).await, Some(true));
        stage
            .parse(ALPHA, "d.py", vec![with_outlet(dag("d", &["a"]), asset("thing", URI))])
            .await;
        stage.parse(ALPHA, "d.py", vec![dag("d", &["a", "b"])]).await;
        assert_eq!(active(&stage, "thing", URI).await, Some(true));
    }
}
