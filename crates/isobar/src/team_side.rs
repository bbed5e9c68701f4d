//! The team side of every team that this process serves: its Python, its zygote, its dag-processor, its triggerer, its local
//! executors.
//!
//! All of it starts in the background: a server answers before the first environment is looked at, and one team's broken
//! environment keeps no other team waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use isobar_auth::KnownTeam;
use isobar_config::{Config, ExecutorKind, Team};
use isobar_execution::Execution;
use isobar_executors::{Executor, LocalExecutor, Reports, RunEnded, RunTask, Running};
use isobar_runtime::environment::{self, EnvironmentSpec, TeamPython, team_python};
use isobar_runtime::helper::{Helper, HelperSpec};
use isobar_runtime::listeners::{Listeners, ListenersSpec};
use isobar_runtime::masker::MaskerConfig;
use isobar_runtime::processor::{DagProcessor, ProcessorSpec};
use isobar_runtime::sandbox::{self, DEFAULT_UID_BASE, Launcher, OsUser, Ways};
use isobar_runtime::supervisor::{Supervisor, SupervisorConfig, Timers};
use isobar_runtime::triggerer::{Triggerer, TriggererSpec, TriggererTimers};
use isobar_runtime::zygote::{Launch, PythonSpec, Zygote, ZygoteError};
use isobar_scheduler::{Holder, TeamSetting};
use isobar_store::signals::Signals;
use isobar_wire::agent::AgentApi;
use isobar_wire::execution::ExecutionApi;
use isobar_wire::listeners::ListenerApi;
use isobar_wire::questions::QuestionApi;
use isobar_wire::triggers::TriggerApi;
use isobar_wire::wake::Wake;
use isobar_wire::workload::Workload;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::team_python;

/// Pause before a zygote that ended or did not start is started again, growing to the second.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long running tasks may take to end when the server is asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long the teams' Python may take to end then. Longer than all limits on the way: what is left is a process that sleeps
/// in the kernel.
const END_PATIENCE: Duration = Duration::from_secs(45);

/// The team sides of this process.
pub(crate) struct TeamSides {
    stop: CancellationToken,
    tracker: TaskTracker,
    executors: Vec<Arc<dyn Executor>>,
}

/// What all team sides share.
#[derive(Clone)]
struct Ground {
    config: Arc<Config>,
    execution: Arc<Execution>,
    signals: Signals,
    hostname: String,
    stop: CancellationToken,
}

impl TeamSides {
    /// Starts the team side of each team; answers what the scheduler needs of them.
    pub(crate) fn start(
        config: &Config,
        teams: &[KnownTeam],
        execution: &Arc<Execution>,
        signals: &Signals,
        reports: &Reports,
    ) -> anyhow::Result<(Self, HashMap<isobar_model::TeamId, TeamSetting>)> {
        let launcher = Launcher::this_binary()?;
        let supervising = supervisor_config(config)?;
        let hostname = supervising.hostname.clone();
        let supervisor = Supervisor::new(Arc::clone(execution) as Arc<dyn ExecutionApi>, supervising);
        let ground = Ground {
            config: Arc::new(config.clone()),
            execution: Arc::clone(execution),
            signals: signals.clone(),
            hostname,
            stop: CancellationToken::new(),
        };
        make_write_folders(config, teams);
        let tracker = TaskTracker::new();
        let (mut settings, mut all_executors) = (HashMap::new(), Vec::new());
        for known in teams {
            let Some(team) = config.team(known.name.as_str()) else {
                continue;
            };
            let (zygotes, zygote) = watch::channel(None);
            let executors = executors(team, &supervisor, &zygote, reports);
            all_executors.extend(executors.values().cloned());
            settings.insert(
                known.id,
                TeamSetting {
                    name: known.name.clone(),
                    config: team.clone(),
                    executors,
                },
            );
            let (ground, launcher, known, team) = (ground.clone(), launcher.clone(), known.clone(), team.clone());
            tracker.spawn(async move { ground.keep(&team, &known, &launcher, &zygotes).await });
        }
        tracker.close();
        let sides = Self {
            stop: ground.stop,
            tracker,
            executors: all_executors,
        };
        Ok((sides, settings))
    }

    /// Ends everything: running tasks are asked to end, then zygotes kill what is left.
    pub(crate) async fn stop(self) {
        for executor in &self.executors {
            executor.cancel_all();
        }
        let _ = tokio::time::timeout(STOP_PATIENCE, async {
            while self.executors.iter().any(|executor| executor.held() > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        self.stop.cancel();
        if tokio::time::timeout(END_PATIENCE, self.tracker.wait()).await.is_err() {
            tracing::error!(
                teams = self.tracker.len(),
                "the Python of some teams has not ended in {} s; the server stops without it (what is left of it is \
                 killed when the server is gone)",
                END_PATIENCE.as_secs()
            );
        }
    }
}

/// Makes every team's write folders before the first zygote starts: one team may read what another writes, and walls
/// open only folders that exist.
fn make_write_folders(config: &Config, teams: &[KnownTeam]) {
    let ways = Ways::of(config);
    for known in teams {
        let Some(team) = config.team(known.name.as_str()) else {
            continue;
        };
        let made = OsUser::of_team(known.name.as_str(), known.id, team.os_user.as_deref(), DEFAULT_UID_BASE)
            .and_then(|user| sandbox::make_write_folders(team, user, &ways));
        if let Err(error) = made {
            tracing::error!(team = %team.name, %error, "a write folder of the team cannot be made");
        }
    }
}

fn executors(
    team: &Team,
    supervisor: &Supervisor,
    zygote: &watch::Receiver<Option<Zygote>>,
    reports: &Reports,
) -> HashMap<String, Arc<dyn Executor>> {
    team.executors
        .iter()
        .map(|executor| {
            let runner = Forks {
                supervisor: supervisor.clone(),
                zygote: zygote.clone(),
            };
            let made: Arc<dyn Executor> = match executor.kind {
                ExecutorKind::Local => Arc::new(LocalExecutor::new(
                    Arc::new(runner),
                    executor.parallelism,
                    reports.clone(),
                )),
            };
            (executor.name.clone(), made)
        })
        .collect()
}

fn supervisor_config(config: &Config) -> anyhow::Result<SupervisorConfig> {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").context("this host has no name")?;
    let uid = nix::unistd::geteuid();
    let unixname = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    Ok(SupervisorConfig {
        base_log_folder: config.logging.folder.clone(),
        hostname: hostname.trim().to_owned(),
        unixname,
        frame_limit: isobar_wire::frames::DEFAULT_FRAME_LIMIT,
        masker: MaskerConfig::from_config(config),
        timers: Timers {
            heartbeat: config.tasks.heartbeat_interval,
            overtime: config.tasks.success_overtime,
            kill_escalation: config.tasks.kill_grace,
            ..Timers::default()
        },
    })
}

/// Runs workloads as forks of the team's zygote.
struct Forks {
    supervisor: Supervisor,
    zygote: watch::Receiver<Option<Zygote>>,
}

impl RunTask for Forks {
    fn run<'a>(&'a self, workload: &'a Workload, cancel: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            let mut zygote = self.zygote.clone();
            let alive = zygote.wait_for(|zygote| zygote.as_ref().is_some_and(Zygote::is_alive));
            let zygote = tokio::select! {
                () = cancel.cancelled() => return failed("it was cancelled before it started"),
                alive = alive => match alive {
                    Ok(zygote) => zygote.clone(),
                    Err(_) => return failed("the server is ending"),
                },
            };
            let Some(zygote) = zygote else {
                return failed("the team's Python is not running");
            };
            let ended = self.supervisor.run(&zygote, workload, cancel).await;
            RunEnded {
                failure: ended.failure,
                callbacks_lost: ended.callbacks_lost,
            }
        })
    }

    fn explain(&self, log_path: &str, said: &str) {
        self.supervisor.explain(log_path, said);
    }
}

fn failed(why: &str) -> RunEnded {
    RunEnded {
        failure: Some(why.to_owned()),
        callbacks_lost: false,
    }
}

impl Ground {
    /// Keeps one team's zygote and dag-processor running until the server stops, in each environment that the team
    /// has meanwhile.
    async fn keep(&self, team: &Team, known: &KnownTeam, launcher: &Launcher, zygotes: &watch::Sender<Option<Zygote>>) {
        // Tasks that run on may still import from an environment that has been replaced.
        let mut replaced = Vec::new();
        // Heard from before it first looks, so that no question falls between.
        let hints = self.signals.subscribe();
        let helper = Helper::start(
            HelperSpec::from_config(&self.config, team, known.id),
            Arc::clone(&self.execution) as Arc<dyn ExecutionApi>,
            Arc::clone(&self.execution) as Arc<dyn QuestionApi>,
            zygotes.subscribe(),
        );
        let listeners = Arc::new(Listeners::start(
            ListenersSpec::from_config(&self.config, team, known.id, &self.hostname),
            Arc::clone(&self.execution) as Arc<dyn ExecutionApi>,
            Arc::clone(&self.execution) as Arc<dyn ListenerApi>,
            zygotes.subscribe(),
        ));
        let told = Arc::clone(&listeners);
        let helping = tokio::spawn(tell_of_questions(hints, known.id, helper, told, self.stop.clone()));
        while let Some(mut python) = self.python(team, known, launcher).await {
            if replaced.is_empty() {
                team_python::wait_for_predecessor(&python.python.lock_file).await;
            }
            python.python.lock_file = team_python::lock_of_generation(&python.python.lock_file, replaced.len());
            let processor = self.processor(team, known, &python, zygotes);
            let generation = self.stop.child_token();
            let mut listening = tokio::spawn(pass_hints_on(
                self.signals.clone(),
                known.id,
                processor,
                self.triggerer(known, zygotes),
                generation.clone(),
            ));
            self.keep_zygote(
                team,
                known,
                launcher,
                &mut python,
                (zygotes, &listeners),
                &mut listening,
            )
            .await;
            generation.cancel();
            if !listening.is_finished() {
                let _ = listening.await;
            }
            if self.stop.is_cancelled() {
                break;
            }
            tracing::info!(team = %team.name, "the team's environment changed; its Python is started again in the new one");
            replaced.push(python);
        }
        let _ = helping.await;
        listeners.stop().await;
    }

    /// Keeps one team's zygote running until the server stops or the team's environment is another one. Then what runs
    /// in the old zygote runs on, and the zygote ends with the last of it.
    async fn keep_zygote(
        &self,
        team: &Team,
        known: &KnownTeam,
        launcher: &Launcher,
        python: &mut TeamPython,
        (zygotes, listeners): (&watch::Sender<Option<Zygote>>, &Listeners),
        listening: &mut JoinHandle<()>,
    ) {
        let spec = match EnvironmentSpec::from_config(&self.config, team, known.id, DEFAULT_UID_BASE) {
            Ok(spec) => spec,
            Err(error) => return tracing::error!(team = %team.name, %error, "the team's environment cannot be used"),
        };
        let environment = python.environment.clone();
        let changed = team_python::changed(&environment, &spec);
        tokio::pin!(changed);
        let mut pause = RESTART_PAUSE.0;
        let mut again = false;
        loop {
            let start = async {
                if again {
                    self.prepare_again(team, known, launcher, python).await?;
                }
                anyhow::Ok(Zygote::start(&python.python).await)
            };
            let started = tokio::select! {
                started = start => started,
                () = self.stop.cancelled() => return,
            };
            again = true;
            match started {
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(team = %team.name, error, "the ground of the team's Python is not ready; trying again");
                }
                Ok(Ok(zygote)) => {
                    tracing::info!(team = %team.name, "the team's Python is ready");
                    let as_declared =
                        python.python.launch == Launch::Warm || team.launch == isobar_config::Launch::Cold;
                    if as_declared {
                        team_python::remember_cold(&self.config, team, None);
                    }
                    // Known before the first file is read: no task of theirs may pass the team's policy by.
                    self.note_python(known, &zygote).await;
                    tokio::select! {
                        () = listeners.meet(&zygote) => {}
                        () = self.stop.cancelled() => {}
                    }
                    zygotes.send_replace(Some(zygote.clone()));
                    let began = tokio::time::Instant::now();
                    tokio::select! {
                        () = zygote.gone() => {}
                        () = &mut changed => {
                            zygotes.send_replace(None);
                            return;
                        }
                        () = self.stop.cancelled() => {
                            // Triggers clean up while their process may still work.
                            let _ = listening.await;
                            listeners.stop().await;
                            zygotes.send_replace(None);
                            return zygote.shutdown().await;
                        }
                    }
                    zygotes.send_replace(None);
                    tracing::error!(team = %team.name, "the team's Python ended; it is started again");
                    if began.elapsed() > RESTART_PAUSE.1 {
                        pause = RESTART_PAUSE.0;
                    }
                }
                Ok(Err(ZygoteError::NotWarm { reason, .. })) => {
                    tracing::warn!(
                        team = %team.name,
                        "the team's Python cannot be warmed: {reason}. It starts cold: each task and parse takes some \
                         1.5 s longer. Mend it and restart the server, or write `launch = \"cold\"` for the team"
                    );
                    team_python::remember_cold(&self.config, team, Some(&reason));
                    python.python.launch = Launch::Cold;
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::error!(team = %team.name, %error, "the team's Python did not start; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut changed => return,
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(RESTART_PAUSE.1);
        }
    }

    /// Makes the ground for a zygote anew, in the same environment: since the last one, folders may have been removed, or
    /// links that lead to them changed.
    async fn prepare_again(
        &self,
        team: &Team,
        known: &KnownTeam,
        launcher: &Launcher,
        python: &mut TeamPython,
    ) -> anyhow::Result<()> {
        let (config, of, number, by) = (Arc::clone(&self.config), team.clone(), known.id, launcher.clone());
        let preparing = move || team_python(&config, &of, number, DEFAULT_UID_BASE, &by);
        let made = tokio::task::spawn_blocking(preparing).await??;
        // Another environment is noticed by those who look for that, and is another generation.
        if made.environment.fingerprint == python.environment.fingerprint {
            let (lock_file, launch) = (python.python.lock_file.clone(), python.python.launch);
            python.confinement = made.confinement;
            python.python = PythonSpec {
                lock_file,
                launch,
                ..made.python
            };
        }
        Ok(())
    }

    /// Notes whether the team's cluster policy shapes task instances.
    async fn note_python(&self, known: &KnownTeam, zygote: &Zygote) {
        let Some(shapes) = zygote.shapes_instances() else {
            return;
        };
        while let Err(refusal) = self.execution.python_found(known.id, shapes).await {
            tracing::warn!(team = %known.name, status = refusal.status, "what the team's Python has could not be noted; trying again");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// The team's environment and walls, tried again until they are there: a person may be mending them.
    async fn python(&self, team: &Team, known: &KnownTeam, launcher: &Launcher) -> Option<TeamPython> {
        let mut pause = Duration::from_secs(5);
        loop {
            let (config, team, number, launcher) = (Arc::clone(&self.config), team.clone(), known.id, launcher.clone());
            let name = team.name.clone();
            let made = tokio::task::spawn_blocking(move || make_python(&config, &team, number, &launcher)).await;
            let error = match made {
                Ok(Ok(python)) => return Some(python),
                Ok(Err(error)) => error,
                Err(error) => error.into(),
            };
            tracing::error!(team = %name, error = format!("{error:#}"), "the team's environment is not ready; its Dags wait");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return None,
            }
            pause = (pause * 2).min(Duration::from_secs(300));
        }
    }

    fn triggerer(&self, known: &KnownTeam, zygotes: &watch::Sender<Option<Zygote>>) -> Triggerer {
        let settings = &self.config.triggerer;
        let spec = TriggererSpec {
            team: known.id,
            team_name: known.name.clone(),
            hostname: self.hostname.clone(),
            holder: Holder::this_process().to_string(),
            capacity: settings.capacity,
            at_once: settings.max_trigger_to_select_per_loop,
            base_log_folder: self.config.logging.folder.clone(),
            masking: MaskerConfig::from_config(&self.config),
            timers: TriggererTimers::with_silence(
                settings.triggerer_health_check_threshold,
                settings.runner_health_check_threshold,
            ),
        };
        Triggerer::start(
            spec,
            Arc::clone(&self.execution) as Arc<dyn ExecutionApi>,
            Arc::clone(&self.execution) as Arc<dyn TriggerApi>,
            zygotes.subscribe(),
        )
    }

    fn processor(
        &self,
        team: &Team,
        known: &KnownTeam,
        python: &TeamPython,
        zygotes: &watch::Sender<Option<Zygote>>,
    ) -> DagProcessor {
        let spec = ProcessorSpec::from_config(&self.config, team, known.id, &python.environment.fingerprint);
        DagProcessor::start(
            spec,
            Arc::clone(&self.execution) as Arc<dyn ExecutionApi>,
            Arc::clone(&self.execution) as Arc<dyn AgentApi>,
            zygotes.subscribe(),
        )
    }
}

/// The environment as declared (installed where it is missing), and all that its zygote is started with.
fn make_python(
    config: &Config,
    team: &Team,
    number: isobar_model::TeamId,
    launcher: &Launcher,
) -> anyhow::Result<TeamPython> {
    let spec = EnvironmentSpec::from_config(config, team, number, DEFAULT_UID_BASE)?;
    if spec.python.venv.is_none() {
        environment::apply(&spec, &mut |line| tracing::info!(team = %team.name, "{line}"))?;
    }
    Ok(team_python(config, team, number, DEFAULT_UID_BASE, launcher)?)
}

/// Tells the dag-processor when callbacks wait and the triggerer when triggers do, and stops both with the server.
async fn pass_hints_on(
    signals: Signals,
    team: isobar_model::TeamId,
    processor: DagProcessor,
    triggerer: Triggerer,
    stop: CancellationToken,
) {
    use tokio::sync::broadcast::error::RecvError;
    let mut hints = signals.subscribe();
    loop {
        let hint = tokio::select! {
            hint = hints.recv() => hint,
            () = stop.cancelled() => break,
        };
        match hint {
            Ok(Wake::Callbacks(of) | Wake::Triggers(of)) if of != team => {}
            Ok(Wake::Callbacks(_)) => processor.look_for_callbacks(),
            Ok(Wake::Triggers(_)) => triggerer.look(),
            Err(RecvError::Lagged(_)) => {
                processor.look_for_callbacks();
                triggerer.look();
            }
            Ok(Wake::Events | Wake::Questions(_) | Wake::Listeners(_) | Wake::Definitions) => {}
            Err(RecvError::Closed) => break,
        }
    }
    tokio::join!(processor.stop(), triggerer.stop());
}

/// Tells the helper when questions wait and the listeners when there is something to hear, and stops the helper with the server.
async fn tell_of_questions(
    mut hints: tokio::sync::broadcast::Receiver<Wake>,
    team: isobar_model::TeamId,
    helper: Helper,
    listeners: Arc<Listeners>,
    stop: CancellationToken,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let hint = tokio::select! {
            hint = hints.recv() => hint,
            () = stop.cancelled() => break,
        };
        match hint {
            Ok(Wake::Questions(of)) if of == team => helper.look_for_questions(),
            Ok(Wake::Listeners(of)) if of == team => listeners.look_for_calls(),
            Err(RecvError::Lagged(_)) => {
                helper.look_for_questions();
                listeners.look_for_calls();
            }
            Ok(_) => {}
            Err(RecvError::Closed) => break,
        }
    }
    helper.stop().await;
}
