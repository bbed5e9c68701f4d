//! Questions that are thought about for long, each by a helper of its own, while another goes on with other Dags.

use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use isobar_model::DagId;
use isobar_wire::questions::{OpenQuestion, QuestionApi, Said};
use tokio::task::{Id, JoinError, JoinSet};

use super::HelperSpec;
use super::talk::{Lost, Talk};

/// How many Dags of a team may be thought about for long at once; where more are, all others wait.
const MOST: usize = 4;

/// A question, what came of it, and the helper that was asked.
pub(super) type Asked = (Talk, OpenQuestion, Result<Said, Lost>);

/// A question that is being thought about. The helper ends where this is dropped, at the latest with its zygote.
pub(super) type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

/// Asks one question.
pub(super) fn asking(
    mut talk: Talk,
    question: OpenQuestion,
    spec: HelperSpec,
    questions: Arc<dyn QuestionApi>,
) -> Asking {
    Box::pin(async move {
        let outcome = talk.ask(&question, &spec, &*questions).await;
        (talk, question, outcome)
    })
}

/// What to say of a question; none where it had nothing to do with its helper's end, and is asked again at once.
pub(super) fn concluded(spec: &HelperSpec, question: &OpenQuestion, outcome: Result<Said, Lost>) -> Option<Said> {
    let (team, dag) = (&spec.team_name, &question.dag_id);
    match outcome {
        Ok(answer) => {
            if let Said::Problem(reason) = &answer {
                tracing::warn!(%team, %dag, reason, "the team's Python could not answer");
            }
            Some(answer)
        }
        Err(Lost::Zygote) => None,
        Err(lost) => {
            let reason = lost.sentence(spec);
            tracing::error!(%team, %dag, reason, "a question is put off");
            Some(Said::Later(reason))
        }
    }
}

/// The slow questions of a team, at most one of each Dag.
#[derive(Default)]
pub(super) struct SlowQuestions {
    tasks: JoinSet<()>,
    /// Which question each is about, and of which Dag.
    about: HashMap<Id, (i64, DagId)>,
    /// Questions of the same Dags, which might be as slow.
    behind: Vec<OpenQuestion>,
}

impl SlowQuestions {
    /// Whether one more would be too many.
    pub(super) fn is_full(&self) -> bool {
        self.about.len() >= MOST
    }

    /// Waits for the answer in the background, says it, and ends the helper.
    pub(super) fn see_through(
        &mut self,
        question: i64,
        dag: DagId,
        asking: Asking,
        spec: &HelperSpec,
        questions: &Arc<dyn QuestionApi>,
    ) {
        tracing::info!(team = %spec.team_name, %dag, "the team's Python thinks for long; others are not kept waiting");
        let (spec, questions) = (spec.clone(), Arc::clone(questions));
        let task = self.tasks.spawn(async move {
            let (talk, question, outcome) = asking.await;
            let told = match concluded(&spec, &question, outcome) {
                Some(said) => questions.questions_answered(spec.team, vec![(question.id, said)]).await,
                None => {
                    let reason = Lost::Zygote.sentence(&spec);
                    questions
                        .questions_given_back(spec.team, vec![question.id], reason)
                        .await
                }
            };
            if let Err(refusal) = told {
                // It is claimed again when the claim runs out.
                tracing::warn!(team = %spec.team_name, status = refusal.status, "an answer could not be written");
            }
            talk.end().await;
        });
        self.about.insert(task.id(), (question, dag));
    }

    /// The question, unless one of its Dag is being thought about: then it is asked after that.
    pub(super) fn unless_behind(&mut self, question: OpenQuestion) -> Option<OpenQuestion> {
        let mut about = self.about.values();
        let Some((asked, _)) = about.find(|(_, dag)| *dag == question.dag_id) else {
            return Some(question);
        };
        // Its claim may have run out, and it comes a second time.
        let known = *asked == question.id || self.behind.iter().any(|behind| behind.id == question.id);
        if !known {
            self.behind.push(question);
        }
        None
    }

    /// Questions that were behind slow ones, and are no more.
    pub(super) fn no_longer_behind(&mut self) -> Vec<OpenQuestion> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(&ended);
        }
        let waits = |question: &mut OpenQuestion| !self.about.values().any(|(_, dag)| *dag == question.dag_id);
        self.behind.extract_if(.., waits).collect()
    }

    /// Returns when one has ended; never where there is none.
    pub(super) async fn one_ends(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.forget(&ended),
            None => pending().await,
        }
    }

    fn forget(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            // A panic was reported where it happened.
            Err(error) => error.id(),
        };
        self.about.remove(&id);
    }
}
