//! Whether the deadlines that a run is to have can be set.

use isobar_auth::TeamScope;
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
        deadlines: &[Deadline],
    ) -> Result<Option<String>, StoreError> {
        let master = &self.settings().master_key;
        for deadline in deadlines {
            let DeadlineInterval::Variable(key) = &deadline.interval else {
                continue;
            };
            let own = variables::get(tx, scope, master, key).await?;
            let found = match own {
                Some(own) => Some(own),
                None => variables::get(tx, self.shared(), master, key).await?,
            };
            match found {
                None => return Ok(Some(format!("VariableInterval '{key}' not found"))),
                Some(found) if DeadlineInterval::of_variable(&found.value).is_none() => {
                    return Ok(Some(format!("VariableInterval '{key}' must be an integer (seconds)")));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}
