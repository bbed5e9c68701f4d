//! What a team's Python says of a Dag's partition mappers, where those are classes of the team's: asked in one question about all
//! that arrived, and kept until it is used. While a question is open, what arrives meanwhile waits for the next one.

use std::collections::{BTreeSet, HashMap};

use isobar_engine::admission::DagKey;
use isobar_engine::partition::PartitionSaid;
use isobar_model::{parse_time, render_time};
use isobar_store::StoreError;
use isobar_store::questions::{self, NewQuestion};
use isobar_wire::questions::{QuestionKind, Said};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::asking::PARTITION_PROBLEM;
use crate::pass::Pass;

/// As much as one question asks: the helper has to answer all of it in time.
const MOST: usize = 500;

/// A key of an asset to be mapped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyAsk {
    /// The mapper, serialized.
    pub mapper: String,
    pub key: String,
    /// The date of the producing run's partition.
    pub date: Option<Timestamp>,
}

/// A partition of the Dag of which something arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionAsk {
    /// The mapper of the asset, serialized.
    pub mapper: String,
    pub key: String,
    /// The keys of the asset that arrived.
    pub arrived: BTreeSet<String>,
}

/// Where a key belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Downstream {
    pub keys: Vec<String>,
    /// How many keys there may be, where the mapper says.
    pub most: Option<u32>,
    /// The date that goes with it.
    pub carried: Option<Timestamp>,
}

/// What one question asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub keys: BTreeSet<KeyAsk>,
    pub partitions: BTreeSet<PartitionAsk>,
}

/// What is known of a Dag's mappers.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// What the open question asks.
    asked: Option<Wanted>,
    /// An error is what the mapper raised.
    pub keys: HashMap<KeyAsk, Result<Downstream, String>>,
    pub partitions: HashMap<PartitionAsk, PartitionSaid>,
}

impl Wanted {
    fn cut(self) -> Self {
        let keys: BTreeSet<_> = self.keys.into_iter().take(MOST).collect();
        let room = MOST - keys.len();
        Self {
            partitions: self.partitions.into_iter().take(room).collect(),
            keys,
        }
    }

    fn body(&self) -> Value {
        let mapper = |written: &str| serde_json::from_str::<Value>(written).unwrap_or_default();
        json!({
            "ask": QuestionKind::Partitions.as_str(),
            "keys": self.keys.iter().map(|ask| json!({
                "mapper": mapper(&ask.mapper), "key": ask.key, "date": ask.date.map(render_time),
            })).collect::<Vec<_>>(),
            "partitions": self.partitions.iter().map(|ask| json!({
                "mapper": mapper(&ask.mapper), "key": ask.key, "arrived": ask.arrived,
            })).collect::<Vec<_>>(),
        })
    }
}

fn read_time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(parse_time)
}

fn read_downstream(answer: &Value) -> Option<Result<Downstream, String>> {
    if let Some(problem) = answer["problem"].as_str() {
        return Some(Err(problem.to_owned()));
    }
    let keys = answer["keys"].as_array()?.iter();
    Some(Ok(Downstream {
        keys: keys.map(|key| key.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        most: answer["most"].as_u64().and_then(|most| u32::try_from(most).ok()),
        carried: read_time(&answer["carried"]),
    }))
}

fn read_partition(answer: &Value) -> Option<PartitionSaid> {
    Some(PartitionSaid {
        ready: answer["ready"].as_bool()?,
        date: read_time(&answer["date"]),
        undated: answer["undated"].as_bool()?,
    })
}

impl Mapped {
    /// Takes in an answer to what was asked; none where it does not fit that.
    fn take(&mut self, asked: Wanted, answer: &Value) -> Option<()> {
        let (keys, partitions) = (answer["keys"].as_array()?, answer["partitions"].as_array()?);
        if keys.len() != asked.keys.len() || partitions.len() != asked.partitions.len() {
            return None;
        }
        for (ask, said) in asked.keys.into_iter().zip(keys) {
            self.keys.insert(ask, read_downstream(said)?);
        }
        for (ask, said) in asked.partitions.into_iter().zip(partitions) {
            self.partitions.insert(ask, read_partition(said)?);
        }
        Some(())
    }
}

impl Pass<'_> {
    /// Asks what is not known, unless a question is open.
    pub(crate) async fn ask_partitions(&mut self, key: &DagKey, wanted: Wanted) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        let Some(dag) = self.memory.dags.get_mut(key) else {
            return Ok(());
        };
        if dag.mapped.asked.is_some() || (wanted.keys.is_empty() && wanted.partitions.is_empty()) {
            return Ok(());
        }
        let wanted = wanted.cut();
        let question = NewQuestion {
            kind: QuestionKind::Partitions,
            dag_id: key.dag_id.clone(),
            subject: String::new(),
            body: wanted.body(),
            version_id: None,
            wanted_until: None,
        };
        dag.mapped.asked = Some(wanted);
        questions::ask(self.tx, scope, &question, self.now).await.map(drop)
    }

    /// Takes in what was said of a Dag's mappers.
    pub(crate) async fn take_partitions(&mut self, key: &DagKey, id: i64, said: Said) -> Result<(), StoreError> {
        let mut unusable = false;
        let problem = match (said, self.memory.dags.get_mut(key)) {
            (_, None) => return Ok(()),
            (Said::Answer(answer), Some(dag)) => {
                let asked = dag.mapped.asked.take().unwrap_or_default();
                // Nothing is asked by this scheduler: it was another's question, and what is not known is asked again.
                let foreign = asked.keys.is_empty() && asked.partitions.is_empty();
                unusable = !foreign && dag.mapped.take(asked, &answer).is_none();
                unusable.then(|| "the answer of the team's Python cannot be used".to_owned())
            }
            (Said::Problem(reason) | Said::Later(reason), Some(_)) => Some(reason),
        };
        if let Some(reason) = problem.as_deref().filter(|_| unusable) {
            // What waits shall not wait for the next arrival: the second answer has what is not known asked anew.
            let scope = self.setting.org.team(key.team);
            questions::ask_again(self.tx, scope, id, reason, self.now).await?;
        }
        let failed = problem.is_some();
        let problem = problem.map(|reason| {
            tracing::warn!(team = %key.team, dag = %key.dag_id, reason, "the Dag's partition mappers cannot be asked");
            format!("what arrived for its partitions waits while its partition mappers cannot be asked: {reason}")
        });
        self.show_problem(key, PARTITION_PROBLEM, problem.as_deref()).await?;
        if failed {
            return Ok(());
        }
        self.plan_partitions(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(keys: usize) -> Wanted {
        let ask = |number: usize| KeyAsk {
            mapper: r#"{"__type":"acme.M","__var":{}}"#.to_owned(),
            key: format!("{number:04}"),
            date: None,
        };
        let partition = PartitionAsk {
            mapper: "{}".to_owned(),
            key: "p".to_owned(),
            arrived: BTreeSet::from(["k".to_owned()]),
        };
        Wanted {
            keys: (0..keys).map(ask).collect(),
            partitions: BTreeSet::from([partition]),
        }
    }

    #[test]
    fn an_answer_is_taken_for_what_was_asked_and_one_of_another_length_is_not() {
        let mut mapped = Mapped::default();
        let asked = wanted(2);
        assert_eq!(asked.body()["keys"][0]["mapper"]["__type"], "acme.M");
        let keys =
            json!([{"keys": ["a", "b"], "most": 7, "carried": "2026-01-01T00:00:00+00:00"}, {"problem": "E: no"}]);
        let answer = json!({"keys": keys, "partitions": [{"ready": true, "date": null, "undated": false}]});
        assert_eq!(mapped.take(asked.clone(), &answer), Some(()));
        let first = asked.keys.first().unwrap();
        assert_eq!(mapped.keys[first].as_ref().unwrap().most, Some(7));
        assert_eq!(mapped.keys[asked.keys.last().unwrap()], Err("E: no".to_owned()));
        assert!(mapped.partitions[asked.partitions.first().unwrap()].ready);
        assert_eq!(mapped.take(wanted(3), &answer), None);
    }

    #[test]
    fn one_question_asks_no_more_than_can_be_answered_in_time() {
        let cut = wanted(1000).cut();
        assert_eq!((cut.keys.len(), cut.partitions.len()), (MOST, 0));
        assert_eq!(wanted(2).cut().partitions.len(), 1);
    }
}
