//! Teams with triggers of their own.

use super::{Database, Deployment};

/// One trigger waits for a file and then does what it is told, one watches a folder. Each leaves notes.
const WATCHING: &str = include_str!("../data/watching.py");

/// A deployment of teams that have these Dags, and triggers of their own on their path.
pub fn with_triggers(database: Database, teams: &[&'static str], dags: &[(&str, &str)]) -> Deployment {
    let mut deployment = Deployment::on(database);
    for team in teams {
        let path = deployment.dags(team);
        deployment = deployment
            .team(team, &format!("[team.env]\nPYTHONPATH = \"{}\"\n", path.display()))
            .user(team, &format!("{team} = \"op\""));
        deployment.write_dag(team, "watching.py", WATCHING);
        for (file, text) in dags {
            deployment.write_dag(team, file, &with_evidence(&deployment, team, text));
        }
    }
    deployment
}

/// A Dag's text that knows where the team's evidence is left.
pub fn with_evidence(deployment: &Deployment, team: &str, text: &str) -> String {
    let evidence = format!("\"{}\"", deployment.evidence(team).display());
    text.replace("__EVIDENCE__", &evidence)
}
