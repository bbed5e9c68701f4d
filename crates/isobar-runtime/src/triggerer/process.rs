//! One fork from its first frame to its end: its questions, its news, its orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use isobar_wire::answers::{Reply, Request as Planned, plan};
use isobar_wire::execution::{Caller, Refusal};
use isobar_wire::frames::{DEFAULT_FRAME_LIMIT, Request};
use isobar_wire::messages::ToSupervisor;
use isobar_wire::triggers::{Assigned, TriggerApi, TriggerNews};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::life::Life;
use super::logs::Logs;
use super::news::{self, Report};
use crate::channel::{Channel, ChannelError};
use crate::masker::Masker;
use crate::supervisor::{Server, pump, unserved};
use crate::tasklog::Stream;
use crate::zygote::{Child, Sockets, Target, Zygote};

/// News of so many triggers are stored at once.
const AT_ONCE: usize = 16;

/// How a fork's time ended.
pub(super) enum Ended {
    /// There was nothing to run for a while.
    Idle,
    /// The server ends.
    Stopped,
    /// Others took its triggers; this is what it has under its new number.
    GivenUp(Assigned),
    /// By itself.
    Died(String),
}

/// What comes back from work that does not hold up the fork's other questions.
enum Done {
    Served { id: i64, reply: Reply },
    Stored { id: i64, report: Report },
    Beat(Result<Assigned, Refusal>),
}

/// One fork.
struct Process<'a> {
    life: &'a Life,
    triggerer: i64,
    server: Server,
    logs: Logs,
    channel: Channel,
    /// Triggers that it was told to run and that it has not said to be over.
    running: BTreeSet<i64>,
    /// Triggers to start with the next orders.
    start: Vec<Value>,
    /// Triggers to stop with the next orders.
    stop: Vec<i64>,
    /// Triggers that it was told to stop.
    stopping: BTreeSet<i64>,
    /// The question that waits for orders.
    question: Option<i64>,
    /// When it said anything last.
    heard: Instant,
    /// Whether it was said that it is stuck.
    stuck: bool,
    /// Whether a beat is on its way.
    beating: bool,
    /// Whether to beat once more when it is back.
    beat_again: bool,
    idle_since: Option<Instant>,
    /// Watchers that run, and since when: one that ends is started again.
    watchers: BTreeMap<i64, Instant>,
    /// When to ask for a watcher that has ended.
    again_at: Option<Instant>,
    done: mpsc::UnboundedSender<Done>,
}

/// Runs one fork.
pub(super) async fn run(life: &Life, zygote: &Zygote, triggerer: i64, assigned: Assigned) -> Ended {
    let mut child = match zygote.fork(Target::Triggers, &[]).await {
        Ok(child) => child,
        Err(error) => return Ended::Died(error.to_string()),
    };
    tracing::info!(team = %life.spec.team_name, pid = child.pid(), triggerer, "the team's triggerer runs");
    let masker = Arc::new(Masker::new(life.spec.masking.clone()));
    let logs = Logs::new(
        life.spec.team_name.clone(),
        life.spec.base_log_folder.clone(),
        Arc::clone(&masker),
    );
    let Sockets {
        requests,
        stdout,
        stderr,
        logs: events,
    } = child.take_sockets().expect("the sockets of a new child are there");
    for (socket, kind) in [
        (stdout, Stream::Stdout),
        (stderr, Stream::Stderr),
        (events, Stream::Log),
    ] {
        let logs = logs.clone();
        tokio::spawn(async move { pump(socket, kind, &logs).await });
    }
    let (done, dones) = mpsc::unbounded_channel();
    let mut process = Process {
        life,
        triggerer,
        server: Server::new(
            Arc::clone(&life.api),
            Caller::clone(&life.caller),
            masker,
            Arc::clone(&life.spec.timers.retries),
        ),
        logs,
        channel: Channel::new(requests, DEFAULT_FRAME_LIMIT),
        running: BTreeSet::new(),
        start: Vec::new(),
        stop: Vec::new(),
        stopping: BTreeSet::new(),
        question: None,
        heard: Instant::now(),
        stuck: false,
        beating: false,
        beat_again: false,
        idle_since: None,
        watchers: BTreeMap::new(),
        again_at: None,
        done,
    };
    process.take_orders(assigned);
    let ended = process.work(&mut child, dones).await;
    end(&mut child, life.spec.timers.end).await;
    ended
}

/// Asks the fork to end, so that its triggers clean up, and makes it.
async fn end(child: &mut Child, patience: Duration) {
    child.kill_one(Signal::SIGTERM).await;
    if timeout(patience, child.wait()).await.is_err() {
        child.kill_group(Signal::SIGKILL).await;
        child.wait().await;
    }
}

impl Process<'_> {
    async fn work(&mut self, child: &mut Child, mut dones: mpsc::UnboundedReceiver<Done>) -> Ended {
        // An error shows in the child's end.
        let _ = self.channel.start(&json!({"type": "StartTriggerer"})).await;
        let mut next_beat = Instant::now() + self.life.spec.timers.beat;
        loop {
            let idle = self.idle_since.map(|since| since + self.life.spec.timers.idle);
            let outcome = tokio::select! {
                exit = child.wait() => return Ended::Died(format!("{exit:?}")),
                () = self.life.stop.cancelled() => return Ended::Stopped,
                () = sleep_until(idle.unwrap_or_else(Instant::now)), if idle.is_some() => return Ended::Idle,
                request = self.channel.next() => match request {
                    Ok(Some(request)) => self.hear(request).await,
                    Ok(None) => return Ended::Died("it closed its socket".to_owned()),
                    Err(error) => return Ended::Died(error.to_string()),
                },
                Some(done) = dones.recv() => match self.take(done).await {
                    Ok(Some(given_up)) => return Ended::GivenUp(given_up),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                () = self.life.look.notified() => {
                    self.beat();
                    Ok(())
                }
                () = sleep_until(self.again_at.unwrap_or(next_beat)), if self.again_at.is_some() => {
                    self.again_at = None;
                    self.beat();
                    Ok(())
                }
                () = sleep_until(next_beat) => {
                    next_beat = Instant::now() + self.life.spec.timers.beat;
                    self.logs.tidy();
                    if self.is_stuck() {
                        Ok(())
                    } else {
                        self.beat();
                        self.ping().await
                    }
                }
            };
            if let Err(error) = outcome {
                return Ended::Died(error.to_string());
            }
        }
    }

    /// Takes one message of the fork. What needs the control plane is done beside.
    async fn hear(&mut self, request: Request) -> Result<(), ChannelError> {
        let Request {
            id, body, lost_numbers, ..
        } = request;
        self.heard = Instant::now();
        self.stuck = false;
        if body.get("type").and_then(Value::as_str) == Some(news::KIND) {
            let report = Report::read(&body);
            if report.is_question() {
                self.question = Some(id);
                return self.order().await;
            }
            self.store(id, report);
            return Ok(());
        }
        let message = match ToSupervisor::read(body) {
            Ok(message) => message,
            Err(error) => return self.channel.answer(id, &unserved(&error.to_string())).await,
        };
        if lost_numbers && matches!(message, ToSupervisor::SetXCom(_)) {
            let text = "Out of range float values are not JSON compliant: an XCom cannot hold NaN or Infinity";
            return self.channel.answer(id, &unserved(text)).await;
        }
        let (server, done) = (self.server.clone(), self.done.clone());
        tokio::spawn(async move {
            let reply = match plan(message) {
                Planned::Ask(operation, shape) | Planned::NotForTasks(operation, shape) => {
                    server.ask(operation, shape).await
                }
                Planned::Trigger { operation, reset } => server.trigger(operation, reset).await,
                Planned::Mask { value, name } => {
                    server.mask(&value, name.as_deref());
                    Reply::Body(None)
                }
                Planned::End(_) | Planned::EndAtExit(_) | Planned::ResendLog => unserved("Unhandled request"),
            };
            let _ = done.send(Done::Served { id, reply });
        });
        Ok(())
    }

    /// Stores news: those of one trigger in order, those of several at once.
    fn store(&self, id: i64, report: Report) {
        let (triggers, caller, done) = (
            Arc::clone(&self.life.triggers),
            Arc::clone(&self.life.caller),
            self.done.clone(),
        );
        let retries = Arc::clone(&self.life.spec.timers.retries);
        tokio::spawn(async move {
            let mut by_trigger: BTreeMap<i64, Vec<TriggerNews>> = BTreeMap::new();
            for news in &report.news {
                by_trigger.entry(news.trigger()).or_default().push(news.clone());
            }
            stream::iter(by_trigger.into_values())
                .for_each_concurrent(AT_ONCE, |of_trigger| async {
                    for news in of_trigger {
                        tell(&*triggers, &caller, news, &retries).await;
                    }
                })
                .await;
            let _ = done.send(Done::Stored { id, report });
        });
    }

    /// Takes in what was done beside. Answers what it has under another number, where it was given up.
    async fn take(&mut self, done: Done) -> Result<Option<Assigned>, ChannelError> {
        match done {
            Done::Served { id, reply } => self.channel.answer(id, &reply).await?,
            Done::Stored { id, report } => {
                let was_full = self.running.len() >= self.life.spec.capacity as usize;
                for trigger in report.finished {
                    self.running.remove(&trigger);
                    self.logs.end(trigger);
                    let watched_since = self.watchers.remove(&trigger);
                    if !self.stopping.remove(&trigger)
                        && let Some(since) = watched_since
                    {
                        let again = since + self.life.spec.timers.watcher;
                        self.again_at = Some(self.again_at.map_or(again, |soonest| soonest.min(again)));
                    }
                }
                // What never began is never said to be over.
                for news in &report.news {
                    if let TriggerNews::Failed { trigger, .. } = news {
                        self.running.remove(trigger);
                    }
                }
                self.note_idle();
                if was_full {
                    self.beat();
                }
                let answer = news::answer(&[], &[], &report.numbers);
                self.channel.answer(id, &Reply::Body(Some(answer))).await?;
            }
            Done::Beat(Ok(assigned)) if assigned.triggerer == Some(self.triggerer) => {
                self.beating = false;
                self.take_orders(assigned);
                self.order().await?;
            }
            Done::Beat(Ok(assigned)) => return Ok(Some(assigned)),
            Done::Beat(Err(error)) => {
                self.beating = false;
                tracing::warn!(team = %self.life.spec.team_name, %error, "the triggerer's sign of life was not heard");
            }
        }
        if !self.beating && std::mem::take(&mut self.beat_again) {
            self.beat();
        }
        Ok(None)
    }

    /// Whether Python has said nothing for too long, although it was asked to. Then it is not said to live, and others of its
    /// team take over.
    fn is_stuck(&mut self) -> bool {
        let silent = self.heard.elapsed();
        // A question that waits for orders is no silence.
        let stuck = self.question.is_none() && self.life.spec.timers.stuck.is_some_and(|limit| silent > limit);
        if stuck && !self.stuck {
            tracing::error!(team = %self.life.spec.team_name, triggerer = self.triggerer, ?silent,
                "a trigger blocks the event loop of the team's triggerer; other triggerers may take over");
        }
        self.stuck = stuck;
        stuck
    }

    /// Answers the question that waits, with what there is to do. The fork asks once more at once, unless something blocks its
    /// event loop.
    async fn ping(&mut self) -> Result<(), ChannelError> {
        let Some(id) = self.question.take() else { return Ok(()) };
        let answer = news::answer(&self.start, &self.stop, &[]);
        self.start.clear();
        self.stop.clear();
        self.channel.answer(id, &Reply::Body(Some(answer))).await
    }

    /// Says that it lives, and asks what to run.
    fn beat(&mut self) {
        if self.stuck {
            return;
        }
        if self.beating {
            self.beat_again = true;
            return;
        }
        self.beating = true;
        let beat = isobar_wire::triggers::Beat {
            triggerer: Some(self.triggerer),
            hostname: self.life.spec.hostname.clone(),
            holder: self.life.spec.holder.clone(),
            capacity: self.life.spec.capacity,
            at_once: self.life.spec.at_once,
            running: self.running.clone(),
        };
        let (triggers, caller, done) = (
            Arc::clone(&self.life.triggers),
            Arc::clone(&self.life.caller),
            self.done.clone(),
        );
        tokio::spawn(async move {
            let assigned = triggers.beat(&caller, beat).await;
            let _ = done.send(Done::Beat(assigned));
        });
    }

    fn take_orders(&mut self, assigned: Assigned) {
        for trigger in &self.running {
            if !assigned.keep.contains(trigger) && self.stopping.insert(*trigger) {
                self.stop.push(*trigger);
            }
        }
        let more = assigned.more;
        for trigger in assigned.start {
            if self.running.insert(trigger.id) {
                match trigger.log_path {
                    Some(path) => self.logs.begin(trigger.id, path),
                    None => drop(self.watchers.insert(trigger.id, Instant::now())),
                }
                self.start.push(trigger.message);
            }
        }
        self.note_idle();
        if more {
            self.beat();
        }
    }

    fn note_idle(&mut self) {
        if self.running.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        } else {
            self.idle_since = None;
        }
    }

    /// Answers the question that waits, where there is something to do.
    async fn order(&mut self) -> Result<(), ChannelError> {
        if self.start.is_empty() && self.stop.is_empty() {
            return Ok(());
        }
        self.ping().await
    }
}

/// Stores one piece of news, tried again where the control plane fails. What is lost so happens again: its trigger is started
/// anew with the next beat.
async fn tell(triggers: &dyn TriggerApi, caller: &Caller, news: TriggerNews, retries: &[Duration]) {
    for pause in retries {
        match triggers.trigger_news(caller, news.clone()).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(trigger = news.trigger(), %error, "a trigger's event was not stored and is told again");
            }
        }
        sleep(*pause).await;
    }
    if let Err(error) = triggers.trigger_news(caller, news.clone()).await {
        tracing::error!(trigger = news.trigger(), %error, "a trigger's event was not stored; the trigger starts anew");
    }
}
