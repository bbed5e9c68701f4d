//! `isobar doctor`: looks at a whole deployment and says what to change. Changes nothing.

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

use isobar_auth::OrgScope;
use isobar_config::{Config, Isolation};
use isobar_model::TeamId;
use isobar_runtime::environment::{self, EnvironmentSpec};
use isobar_runtime::sandbox::{self, DEFAULT_UID_BASE, Launcher};
use isobar_store::migrate;

use crate::setup::{self, ServerLock};
use crate::team_python;

/// What was found, line by line.
#[derive(Default)]
struct Findings {
    faults: usize,
}

impl Findings {
    fn well(&self, what: &str) {
        println!("ok     {what}");
    }

    fn advice(&self, what: &str) {
        println!("note   {what}");
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        println!("FAULT  {what}");
    }
}

pub(crate) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = setup::load(file)?.config;
    let mut findings = Findings::default();
    findings.well("the configuration is well-formed, and every Dag folder exists");
    database(&config, &mut findings).await;
    isolation(&config, &mut findings);
    environments(&config, &mut findings);
    door(&config, &mut findings);
    if config.auth.users.is_empty() {
        findings.fault("nobody can log in\n       hint: add an `[[auth.user]]`");
    }
    findings.advice("the `simple` auth manager is for demonstrations and development");
    if findings.faults == 0 {
        println!("\nThis deployment is ready.");
        Ok(ExitCode::SUCCESS)
    } else {
        println!(
            "\n{} to mend.",
            if findings.faults == 1 {
                "1 fault".to_owned()
            } else {
                format!("{} faults", findings.faults)
            }
        );
        Ok(ExitCode::FAILURE)
    }
}

async fn database(config: &Config, findings: &mut Findings) {
    let org = OrgScope::at_process_start();
    let store = match setup::open_store(config).await {
        Ok(store) => store,
        Err(error) => return findings.fault(&format!("{error:#}")),
    };
    match migrate::check(&store, &org).await {
        Ok(()) => findings.well("the metadata database is at this version"),
        Err(error) => return findings.fault(&error.to_string()),
    }
    match setup::teams_plan(config, &store, &org).await {
        Ok(plan) if !plan.refused.is_empty() => plan
            .refused
            .iter()
            .for_each(|refused| findings.fault(&refused.to_string())),
        Ok(plan)
            if plan
                .steps
                .iter()
                .any(|step| !matches!(step, isobar_config::Step::Keep { .. })) =>
        {
            findings.fault("the declared teams are not those that the database knows\n       hint: `isobar teams plan` says how, `isobar teams apply` applies");
        }
        Ok(_) => findings.well("the database knows the declared teams"),
        Err(error) => findings.fault(&format!("{error:#}")),
    }
}

fn isolation(config: &Config, findings: &mut Findings) {
    let as_root = nix::unistd::geteuid().is_root();
    let shortcomings = sandbox::kernel().shortcomings(as_root);
    let confined = config.teams.iter().any(|team| team.isolation == Isolation::Landlock);
    if shortcomings.is_empty() {
        findings.well("the kernel keeps the teams' children apart");
    }
    let no_tmp = confined && Launcher::this_binary().is_ok_and(|launcher| sandbox::way_to_own_tmp(&launcher).is_none());
    if no_tmp {
        findings.advice(
            "teams have no /tmp: this host lets Isobar mount none for them\n       hint: run Isobar as root, or allow user namespaces",
        );
    }
    for shortcoming in shortcomings {
        let unconfined = if confined { "" } else { " (isolation = \"none\")" };
        findings.advice(&format!("{shortcoming}{unconfined}"));
    }
}

fn environments(config: &Config, findings: &mut Findings) {
    for team in &config.teams {
        let looked =
            EnvironmentSpec::from_config(config, team, TeamId::DEFAULT, DEFAULT_UID_BASE).map_err(anyhow::Error::from);
        match looked.and_then(|spec| Ok(environment::ready(&spec)?)) {
            Ok(found) => findings.well(&format!(
                "{}: Python {}, Airflow {}",
                team.name, found.python_version, found.airflow_version
            )),
            Err(error) => findings.fault(&format!("{}: {error:#}", team.name)),
        }
        if let Some((reason, when)) = team_python::cold_because(config, team) {
            let when = jiff::Timestamp::try_from(when)
                .map_or_else(|_| "an unknown time".to_owned(), |when| format!("{when:.0}"));
            findings.advice(&format!(
                "{}: starts cold since {when}, some 1.5 s more for each task: {reason}\n       hint: mend that and restart the server, or write `launch = \"cold\"`",
                team.name
            ));
        }
    }
}

fn door(config: &Config, findings: &mut Findings) {
    let address = (config.server.host.as_str(), config.server.port);
    let running = ServerLock::take(config).is_err();
    match TcpListener::bind(address) {
        Ok(_) => findings.well(&format!("{}:{} is free", address.0, address.1)),
        Err(_) if running => findings.well("a server of this deployment is running"),
        Err(error) => findings.fault(&format!(
            "{}:{} cannot be listened on: {error}\n       hint: `server.port` chooses another",
            address.0, address.1
        )),
    }
}
