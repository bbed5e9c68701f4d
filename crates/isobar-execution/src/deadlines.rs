//! Whether the deadlines that a run is to have can be set.

use isobar_auth::TeamScope;
use isobar_config::variable_of_env;
use isobar_model::dag::{Deadline, DeadlineInterval};
use isobar_store::{StoreError, Tx, variables};

use crate::execution::Execution;

impl Execution {
    /// What a person who starts a run is told where a variable is to say how long it may take, and does not. What the variable
    /// holds is not told, as who may start runs need not be allowed to read variables.
    ///
    /// # Errors
    /// The database failed.
    pub async fn problem_of_deadlines(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        team: &str,
        deadlines: &[Deadline],
    ) -> Result<Option<String>, StoreError> {
        let master = &self.settings().master_key;
        let env = self.settings().team(team).map(|team| &team.env);
        for deadline in deadlines {
            let DeadlineInterval::Variable(key) = &deadline.interval else {
                continue;
            };
            let mut found = env
                .and_then(|env| variable_of_env(env, key))
                .map(|set| set.expose().to_owned());
            for scope in [scope, self.shared()] {
                if found.is_none() {
                    let stored = variables::get(tx, scope, master, key).await?;
                    found = stored.map(|stored| stored.value);
                }
            }
            match found {
                None => return Ok(Some(format!("VariableInterval '{key}' not found"))),
                Some(found) if DeadlineInterval::of_variable(&found).is_none() => {
                    return Ok(Some(format!("VariableInterval '{key}' must be an integer (seconds)")));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}
