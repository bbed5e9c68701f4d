//! One listener process and the conversation with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::listeners::{Hook, ListenerApi, PendingCall};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ListenersSpec;
use crate::conversation::{Conversation, Opening};
use crate::zygote::{Target, Zygote};

/// How long listeners may take to finish what they have begun (`before_stopping`).
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Why it is not known whether a call was made to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It took too long.
    Slow,
    /// The process ended over it.
    Died(String),
    /// The zygote ended, and the process with it, or the server stops: nothing to do with the call.
    Zygote,
}

impl Lost {
    pub(super) fn sentence(&self, spec: &ListenersSpec) -> String {
        match self {
            Self::Slow => format!("took longer than {} s and was stopped", spec.patience.as_secs()),
            Self::Died(how) => format!("did not end: the team's listener process {how}"),
            Self::Zygote => "did not end: the team's Python ended".to_owned(),
        }
    }
}

/// A process with the team's plugins that waits for a call.
pub(super) struct Talk {
    with: Conversation,
    /// The hooks that the plugins implement.
    pub(super) hooks: BTreeSet<Hook>,
    /// Whether all plugins could be loaded.
    pub(super) has_all: bool,
    /// The process id of the zygote that it was forked from.
    pub(super) zygote: i32,
    /// The plugins that it was started with.
    pub(super) plugins: u64,
}

impl Talk {
    /// Forks the process and waits until it has loaded the plugins.
    pub(super) async fn start(
        zygote: &Zygote,
        spec: &ListenersSpec,
        api: Arc<dyn ExecutionApi>,
        plugins: u64,
    ) -> Result<Self, String> {
        let caller = Caller::Parse {
            team: spec.team,
            team_name: spec.team_name.clone(),
            bundle: (spec.bundles.first()).map_or_else(String::new, |bundle| bundle.name.to_string()),
        };
        let opening = Opening {
            target: Target::Listeners,
            name: "listeners",
            ready: "ListenersReady",
            patience: spec.start_timeout,
            log_folder: &spec.log_folder,
            masking: &spec.masking,
        };
        let (with, ready) = Conversation::open(zygote, opening, api, caller).await?;
        let words = ready.get("hooks").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            with,
            hooks: words.filter_map(|word| Hook::from_word(word.as_str()?)).collect(),
            has_all: ready.get("all").and_then(Value::as_bool) == Some(true),
            zygote: zygote.pid(),
            plugins,
        })
    }

    /// Whether it can be told anything.
    pub(super) fn is_alive(&mut self) -> bool {
        self.with.is_alive()
    }

    /// Makes one call.
    pub(super) async fn call(
        &mut self,
        call: &PendingCall,
        spec: &ListenersSpec,
        listeners: &dyn ListenerApi,
    ) -> Result<(), Lost> {
        let order = json!({
            "type": "ListenerCall",
            "id": call.id,
            "hook": call.hook,
            "arguments": located(call.arguments.clone(), spec),
            "version": call.version_id,
        });
        match tokio::time::timeout(spec.patience, self.see_through(order, call, spec, listeners)).await {
            Err(_) => Err(Lost::Slow),
            Ok(Err(_)) if self.with.ended_with_the_zygote().await => Err(Lost::Zygote),
            Ok(Err(how)) => Err(Lost::Died(how)),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Until the call was made; gives the Dag that the call is about where a listener looks at it.
    async fn see_through(
        &mut self,
        order: Value,
        call: &PendingCall,
        spec: &ListenersSpec,
        listeners: &dyn ListenerApi,
    ) -> Result<(), String> {
        self.with.say(order).await;
        loop {
            let said = self.with.hear(&["ListenerHeard", "GetListenerDag"]).await?;
            if said.get("type").and_then(Value::as_str) == Some("ListenerHeard") {
                return Ok(());
            }
            let version = said.get("version").and_then(Value::as_str);
            let version = version.and_then(|text| text.parse::<Uuid>().ok());
            let mut dag = None;
            if let Some(version) = version.filter(|version| Some(*version) == call.version_id) {
                dag = listeners
                    .dag_of_call(spec.team, version)
                    .await
                    .map_err(|refusal| format!("asked for a Dag that could not be read ({})", refusal.status))?;
            }
            self.with.say(json!({"type": "ListenerDag", "dag": dag})).await;
        }
    }

    /// Lets listeners finish what they have begun, and ends the process.
    pub(super) async fn stop(mut self) {
        if self.with.is_alive() {
            self.with.say(json!({"type": "ListenersStop"})).await;
            // It says nothing more, and ends.
            let _ = tokio::time::timeout(STOP_PATIENCE, self.with.hear(&[])).await;
        }
        self.with.end().await;
    }

    /// Kills the process and what it started.
    pub(super) async fn end(self) {
        self.with.end().await;
    }
}

/// A Dag file as a path: where the folder of its bundle is, only this side knows.
fn located(mut arguments: Value, spec: &ListenersSpec) -> Value {
    let Some(file) = arguments.get_mut("filename") else {
        return arguments;
    };
    let word = |key: &str| file[key].as_str().unwrap_or_default();
    let bundle = spec.bundles.iter().find(|bundle| *bundle.name == *word("bundle"));
    let path = bundle.map_or_else(
        || word("rel_path").into(),
        |bundle| bundle.folder.join(word("rel_path")),
    );
    *file = path.display().to_string().into();
    arguments
}
