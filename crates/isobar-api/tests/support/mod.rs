//! A whole API over a real store, with the Dags of `data/rest_dags.json` (serialized by Airflow 3.3.2 itself).

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part; a test ends where something fails"
)]

use std::path::Path;
use std::sync::Arc;

use isobar_api::AppState;
use isobar_auth::simple::SimpleAuthManager;
use isobar_auth::{Auth, Directory, KnownTeam, Lifetimes, MasterKey, OrgScope};
use isobar_config::{Config, OrgRole, Secret, Team, TeamRole, TeamsPlan, User};
use isobar_execution::{Execution, Settings};
use isobar_model::{AirflowTime, TeamId, TeamName};
use isobar_store::{Store, migrate, pools, teams};
use isobar_wire::agent::{AgentApi, KnownFile, ParsedFile};
use jiff::Timestamp;
use serde_json::Value;

/// Where the tests' Dags come from.
pub const DAGS: &str = include_str!("../data/rest_dags.json");

/// A deployment.
pub struct World {
    pub state: AppState,
    pub org: OrgScope,
    pub execution: Arc<Execution>,
    pub teams: Vec<(TeamName, TeamId)>,
    /// Of its database.
    pub url: String,
}

fn user(name: &str, teams: &[(&str, TeamRole)], org: Option<OrgRole>, home: Option<&str>) -> User {
    User {
        name: name.to_owned(),
        password: Some(Secret::new(name.to_owned())),
        teams: teams
            .iter()
            .map(|(team, role)| (TeamName::from_stored((*team).to_owned()), *role))
            .collect(),
        org,
        home: home.map(|home| TeamName::from_stored(home.to_owned())),
    }
}

/// The users of a deployment without teams: one per role; each password is the name.
pub fn plain_users() -> Vec<User> {
    [
        ("viewer", TeamRole::Viewer),
        ("user", TeamRole::User),
        ("op", TeamRole::Op),
        ("admin", TeamRole::Admin),
    ]
    .into_iter()
    .map(|(name, role)| user(name, &[("default", role)], None, Some("default")))
    .collect()
}

/// The users of two teams: `ann` administers alpha, `bea` beta, `eve` works for alpha and looks at beta, `org` is the
/// organisation's.
pub fn team_users() -> Vec<User> {
    vec![
        user("ann", &[("alpha", TeamRole::Admin)], None, Some("alpha")),
        user("bea", &[("beta", TeamRole::Admin)], None, Some("beta")),
        user(
            "eve",
            &[("alpha", TeamRole::Op), ("beta", TeamRole::Viewer)],
            None,
            Some("alpha"),
        ),
        user("org", &[], Some(OrgRole::Admin), None),
    ]
}

impl World {
    /// The same deployment on SQLite and, where `ISOBAR_TEST_POSTGRES` names a server, in a schema of its own there.
    pub async fn on_each_database(home: &Path, multi_team: bool) -> Vec<Self> {
        Self::with_dags_on_each_database(home, multi_team, DAGS).await
    }

    /// As [`Self::on_each_database`], with other Dags.
    pub async fn with_dags_on_each_database(home: &Path, multi_team: bool, dags: &str) -> Vec<Self> {
        let mut worlds = vec![Self::new(&home.join("sqlite"), multi_team, dags, None).await];
        if let Ok(url) = std::env::var("ISOBAR_TEST_POSTGRES") {
            let schema = format!("api_{}", uuid::Uuid::new_v4().simple());
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            let statement = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
            sqlx::query(statement).execute(&pool).await.unwrap();
            pool.close().await;
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}options=-c%20search_path%3D{schema}");
            worlds.push(Self::new(&home.join("postgres"), multi_team, dags, Some(url)).await);
        }
        worlds
    }

    /// A deployment in a folder, without teams or with `alpha` and `beta`; each team has the same Dags.
    pub async fn new(home: &Path, multi_team: bool, dags: &str, url: Option<String>) -> Self {
        let mut config = Config::with_home(home);
        config.core.multi_team = multi_team;
        if multi_team {
            config.teams = ["alpha", "beta"]
                .iter()
                .map(|name| Team::new(TeamName::parse(name).unwrap()))
                .collect();
            config.auth.users = team_users();
        } else {
            config.auth.users = plain_users();
        }
        std::fs::create_dir_all(home.join("logs")).unwrap();
        config.logging.folder = home.join("logs");
        let url = url.unwrap_or_else(|| format!("sqlite:///{}", home.join("isobar.db").display()));
        let store = Store::open(&url).await.unwrap();
        let org = OrgScope::at_process_start();
        migrate::migrate(&store, &org).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        if multi_team {
            let plan = TeamsPlan::new(&config, &[]);
            teams::apply(&mut tx, &org, &plan.steps, Timestamp::now())
                .await
                .unwrap();
        } else {
            teams::ensure_default(&mut tx, &org, Timestamp::now()).await.unwrap();
        }
        tx.commit().await.unwrap();
        let rows = teams::all(&mut store.read().await.unwrap(), &org).await.unwrap();
        let known: Vec<KnownTeam> = rows
            .iter()
            .filter(|row| (row.id == TeamId::DEFAULT) != multi_team)
            .map(|row| KnownTeam {
                id: row.id,
                name: row.name.clone(),
                token_epoch: row.token_epoch,
            })
            .collect();
        let teams: Vec<_> = known.iter().map(|team| (team.name.clone(), team.id)).collect();
        let directory = Directory::new(multi_team, known);
        let master = MasterKey::from_text("a secret of the tests that is long enough").unwrap();
        let (manager, _) = SimpleAuthManager::new(&config.auth, directory.clone()).unwrap();
        let auth = Auth::new(master.clone(), directory, manager, Lifetimes::default());
        let settings = Settings::from_config(&config, master.clone());
        let execution = Arc::new(Execution::new(store.clone(), org.clone(), settings));
        let mut tx = store.begin().await.unwrap();
        for (_, team) in &teams {
            let pool = (pools::DEFAULT_POOL, 128, Some("Default pool"));
            pools::create(
                &mut tx,
                org.team(*team),
                pool.0,
                pool.1,
                pool.2,
                false,
                Timestamp::now(),
            )
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
        for (_, team) in &teams {
            execution.files_parsed(*team, vec![parsed(dags)]).await.unwrap();
        }
        let state = AppState::new(store, auth, execution.clone(), Arc::new(master), &org, &config);
        Self {
            state,
            org,
            execution,
            teams,
            url,
        }
    }

    /// The number of a team.
    pub fn team(&self, name: &str) -> TeamId {
        self.teams
            .iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, id)| *id)
            .unwrap()
    }
}

fn parsed(dags: &str) -> ParsedFile {
    let data: Value = serde_json::from_str(dags).unwrap();
    ParsedFile {
        file: KnownFile {
            bundle: "dags-folder".into(),
            rel_path: "rest_dags.py".into(),
            mtime_ns: 1,
            size: 1,
            fingerprint: "tests".into(),
        },
        fileloc: "/dags/rest_dags.py".into(),
        source: data["source"].as_str().unwrap().to_owned(),
        dags: data["dags"].as_array().unwrap().clone(),
        warnings: vec![],
        import_errors: vec![],
        parsed_at: AirflowTime(Timestamp::now()),
        seconds: 0.25,
    }
}
