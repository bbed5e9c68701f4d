//! The helper of one team: a long-lived fork of the team's zygote that answers questions only the team's Python can answer
//! (custom timetables, weight rules, cluster policies).
//!
//! It is started with the first question. One that is thought about for long keeps its helper to itself, and a new helper
//! goes on with the questions of other Dags. A question over which a helper hangs or dies is put off, longer each time: a
//! bad timetable stops its own Dag only. Where no helper can be started, the questions stay open and say why.

mod slow;
mod talk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_config::{Config, Team};
use isobar_model::{TeamId, TeamName};
use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::questions::{OpenQuestion, QuestionApi, Said};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::masker::MaskerConfig;
use crate::plugins;
use crate::processor::Bundle;
use crate::zygote::Zygote;
use slow::{Asking, SlowQuestions};
use talk::Talk;

/// Questions claimed at once.
const BATCH: u32 = 64;
/// Answers wait for more at most this long before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// For so long others wait for an answer.
const SLOW: Duration = Duration::from_secs(1);
/// The pause before a helper that did not start is started again, growing to the second.
const START_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often to look where nothing tells of questions: a hint may have been lost.
const SWEEP: Duration = Duration::from_secs(30);

/// What one team's helper is to do.
#[derive(Clone, Debug)]
pub struct HelperSpec {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub team_name: TeamName,
    /// The bundle whose name its requests for variables and connections carry.
    pub bundle: String,
    /// How long it may think about one question before it is killed.
    pub patience: Duration,
    /// How long its start may take, the team's plugins among it.
    pub start_timeout: Duration,
    /// A change below here starts it again.
    pub plugins: Option<PathBuf>,
    /// The team's log folder, which its children cannot write.
    pub log_folder: PathBuf,
    /// What its log hides.
    pub masking: MaskerConfig,
}

impl HelperSpec {
    /// The specification that follows from the configuration.
    #[must_use]
    pub fn from_config(config: &Config, team: &Team, number: TeamId) -> Self {
        Self {
            team: number,
            team_name: team.name.clone(),
            bundle: Bundle::of_team(team)
                .first()
                .map(|bundle| bundle.name.to_string())
                .unwrap_or_default(),
            patience: config.scheduler.question_timeout,
            start_timeout: Duration::from_secs(60),
            plugins: team.plugins_folder.clone(),
            log_folder: config.log_folder(team),
            masking: MaskerConfig::from_config(config),
        }
    }
}

/// The team's helper, running or not. Dropping it stops it without waiting.
pub struct Helper {
    look: mpsc::UnboundedSender<()>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts to look for questions. `zygotes` holds the team's zygote; while there is none, questions wait.
    ///
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start(
        spec: HelperSpec,
        api: Arc<dyn ExecutionApi>,
        questions: Arc<dyn QuestionApi>,
        zygotes: watch::Receiver<Option<Zygote>>,
    ) -> Self {
        let (look, looks) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let manager = Manager {
            spec,
            api,
            questions,
            zygotes,
            looks,
            stop: stop.clone(),
            talk: None,
            slow: SlowQuestions::default(),
            pause: START_PAUSE.0,
        };
        Self {
            look,
            stop,
            task: Some(tokio::spawn(manager.run())),
        }
    }

    /// Says that questions wait: the answer to [`isobar_wire::wake::Wake::Questions`].
    pub fn look_for_questions(&self) {
        let _ = self.look.send(());
    }

    /// Kills the helper process and waits until that is done.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // A panic was reported where it happened.
            let _ = task.await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Manager {
    spec: HelperSpec,
    api: Arc<dyn ExecutionApi>,
    questions: Arc<dyn QuestionApi>,
    zygotes: watch::Receiver<Option<Zygote>>,
    looks: mpsc::UnboundedReceiver<()>,
    stop: CancellationToken,
    talk: Option<Talk>,
    slow: SlowQuestions,
    pause: Duration,
}

impl Manager {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
        if let Some(talk) = self.talk.take() {
            talk.end().await;
        }
    }

    async fn work(&mut self) {
        loop {
            let (mut claimed, due) = match self.questions.claim_questions(self.spec.team, BATCH).await {
                Ok(found) => found,
                Err(refusal) => {
                    tracing::warn!(team = %self.spec.team_name, status = refusal.status, "questions cannot be read");
                    tokio::time::sleep(START_PAUSE.0).await;
                    continue;
                }
            };
            claimed.extend(self.slow.no_longer_behind());
            if claimed.is_empty() {
                self.wait(due).await;
                continue;
            }
            self.answer_all(claimed).await;
        }
    }

    /// Until somebody asks, something that was put off is due, a slow answer is there, or a hint may have been lost.
    async fn wait(&mut self, due: Option<Timestamp>) {
        let left = due.map_or(SWEEP, |due| {
            let left = due.duration_since(Timestamp::now());
            Duration::try_from(left)
                .unwrap_or(Duration::ZERO)
                .clamp(Duration::from_millis(20), SWEEP)
        });
        tokio::select! {
            look = self.looks.recv() => if look.is_none() {
                std::future::pending::<()>().await;
            },
            changed = self.zygotes.changed() => if changed.is_ok() {
                self.follow_zygote().await;
            } else {
                std::future::pending::<()>().await;
            },
            () = self.slow.one_ends() => {}
            () = tokio::time::sleep(left) => {}
        }
        while self.looks.try_recv().is_ok() {}
    }

    /// Ends a helper of a zygote that was replaced, which it would keep alive; starts one where only a fork can tell what the
    /// team's policies are (a cold launch).
    async fn follow_zygote(&mut self) {
        let zygote = self.zygotes.borrow_and_update().clone();
        let pid = zygote.as_ref().map(Zygote::pid);
        if let Some(talk) = self.talk.take_if(|talk| Some(talk.zygote) != pid) {
            talk.end().await;
        }
        if zygote.is_some_and(|zygote| zygote.shapes_instances().is_none())
            && let Err(reason) = self.have_a_helper().await
        {
            tracing::error!(team = %self.spec.team_name, reason, "what the team's policies are is not known");
        }
    }

    async fn answer_all(&mut self, claimed: Vec<OpenQuestion>) {
        let mut left = claimed.into_iter().collect::<std::collections::VecDeque<_>>();
        let mut said: Vec<(i64, Said)> = Vec::new();
        while let Some(question) = left.pop_front() {
            if question.wanted_until.is_some_and(|end| end <= Timestamp::now()) {
                // Those before it took long; the next claim forgets it.
                continue;
            }
            let Some(question) = self.slow.unless_behind(question) else {
                continue;
            };
            if let Err(reason) = self.have_a_helper().await {
                self.tell(&mut said).await;
                let ids = std::iter::once(question.id)
                    .chain(left.iter().map(|question| question.id))
                    .collect();
                self.give_back(ids, &reason).await;
                self.rest(&reason).await;
                return;
            }
            let Some(talk) = self.talk.take() else { return };
            let (id, dag_id) = (question.id, question.dag_id.clone());
            let mut asking = slow::asking(talk, question, self.spec.clone(), Arc::clone(&self.questions));
            let Some((talk, question, outcome)) = self.hear(&mut asking, &mut said).await else {
                self.slow.see_through(id, dag_id, asking, &self.spec, &self.questions);
                continue;
            };
            let was_lost = outcome.is_err();
            match slow::concluded(&self.spec, &question, outcome) {
                Some(conclusion) => said.push((question.id, conclusion)),
                None => left.push_front(question),
            }
            if was_lost {
                talk.end().await;
                // Whoever waits should not wait for the next question's helper to start.
                self.tell(&mut said).await;
            } else {
                self.talk = Some(talk);
            }
        }
        self.tell(&mut said).await;
    }

    /// What comes of a question; none where it takes so long that others should go on. What was said before is told first.
    async fn hear(&self, asking: &mut Asking, said: &mut Vec<(i64, Said)>) -> Option<slow::Asked> {
        if let Ok(asked) = tokio::time::timeout(GATHER, &mut *asking).await {
            return Some(asked);
        }
        self.tell(said).await;
        if self.slow.is_full() {
            return Some(asking.await);
        }
        tokio::time::timeout(SLOW, asking).await.ok()
    }

    /// A helper that lives and knows the plugins as they are now.
    async fn have_a_helper(&mut self) -> Result<(), String> {
        let print = plugins::print(self.spec.plugins.clone()).await;
        if let Some(mut talk) = self.talk.take() {
            let zygote = self.zygotes.borrow().as_ref().map(Zygote::pid);
            if talk.is_alive() && talk.plugins == print && zygote == Some(talk.zygote) {
                self.talk = Some(talk);
                return Ok(());
            }
            talk.end().await;
        }
        let zygote = self.zygotes.borrow().clone();
        let Some(zygote) = zygote.filter(Zygote::is_alive) else {
            return Err("the team's Python is not running (yet); see the server's log".to_owned());
        };
        let caller = Caller::Parse {
            team: self.spec.team,
            team_name: self.spec.team_name.clone(),
            bundle: self.spec.bundle.clone(),
        };
        let started = Talk::start(&zygote, &self.spec, Arc::clone(&self.api), caller, print).await;
        let talk = started.map_err(|reason| format!("the team's helper did not start: {reason}"))?;
        self.pause = START_PAUSE.0;
        if let Err(refusal) = self.questions.python_found(self.spec.team, talk.shapes_instances).await {
            tracing::warn!(status = refusal.status, "what the team's Python has could not be noted");
        }
        self.talk = Some(talk);
        Ok(())
    }

    /// Pauses after a failed start. Who asks meanwhile is told why there is no answer.
    async fn rest(&mut self, reason: &str) {
        tracing::error!(team = %self.spec.team_name, reason, pause = ?self.pause, "the team's Dags that need its Python wait");
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(START_PAUSE.1);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                // Another zygote may be all that was missing.
                changed = self.zygotes.changed() => if changed.is_ok() {
                    self.pause = START_PAUSE.0;
                    return;
                } else {
                    std::future::pending::<()>().await;
                },
                look = self.looks.recv() => if look.is_some() {
                    if let Ok((claimed, _)) = self.questions.claim_questions(self.spec.team, BATCH).await {
                        self.give_back(claimed.into_iter().map(|question| question.id).collect(), reason).await;
                    }
                } else {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    async fn tell(&self, said: &mut Vec<(i64, Said)>) {
        let said = std::mem::take(said);
        if said.is_empty() {
            return;
        }
        if let Err(refusal) = self.questions.questions_answered(self.spec.team, said).await {
            // They are claimed again when the claim runs out.
            tracing::warn!(team = %self.spec.team_name, status = refusal.status, "answers could not be written");
        }
    }

    async fn give_back(&self, ids: Vec<i64>, reason: &str) {
        if ids.is_empty() {
            return;
        }
        let reason = reason.to_owned();
        if let Err(refusal) = self.questions.questions_given_back(self.spec.team, ids, reason).await {
            tracing::warn!(team = %self.spec.team_name, status = refusal.status, "questions could not be given back");
        }
    }
}
