//! Messages of a real broker, by way of Airflow's own providers: an asset that a queue feeds, and a task that waits for a
//! message. The built binary, real Python, Redis.
//!
//! Wants `ISOBAR_TEST_QUEUES`, a folder made by `tools/test_queues.sh`; `make test` sets it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deployment::{Client, Database, Deployment};
use serde_json::{Value, json};

const QUEUES: &str = r#"
from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger
from airflow.sdk import DAG, Asset, AssetWatcher, BaseOperator, task

def messages(channel):
    return MessageQueueTrigger(scheme="redis+pubsub", channels=[channel], poll_interval=0.1)

orders = Asset("orders", watchers=[AssetWatcher(name="redis", trigger=messages("orders"))])

with DAG(dag_id="reads_orders", schedule=[orders]):
    @task
    def read(triggering_asset_events=None):
        return [event.extra["payload"]["data"] for event in triggering_asset_events[orders]]
    read()

class AwaitsReply(BaseOperator):
    def execute(self, context):
        self.defer(trigger=messages("replies"), method_name="resume")

    def resume(self, context, event):
        return [event["channel"], event["data"]]

with DAG(dag_id="awaits_reply", schedule=None):
    AwaitsReply(task_id="awaits")
"#;

/// A broker that keeps nothing.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    fn start(tools: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(tools.join("redis-server"))
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        Self { process, port }
    }

    /// Publishes a message once somebody listens: what nobody hears is lost.
    fn publish(&self, channel: &str, message: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        while self.heard(channel, message) == 0 {
            assert!(Instant::now() < end, "nobody listens to {channel}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many heard it.
    fn heard(&self, channel: &str, message: &str) -> i64 {
        let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return 0;
        };
        write!(connection, "PUBLISH {channel} {message}\r\n").unwrap();
        let mut answer = String::new();
        BufReader::new(connection).read_line(&mut answer).unwrap();
        answer.trim().trim_start_matches(':').parse().expect(":NUMBER")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the runs of the Dag that a queue feeds have read, once there are so many.
fn orders_read(client: &Client, count: usize) -> Vec<Value> {
    let succeeded = |answer: &deployment::Answer| -> Vec<String> {
        let runs = answer.body["dag_runs"].as_array().cloned().unwrap_or_default();
        let done = runs.iter().filter(|run| run["state"] == "success");
        done.map(|run| run["dag_run_id"].as_str().unwrap().to_owned()).collect()
    };
    let path = "/api/v2/dags/reads_orders/dagRuns?order_by=run_after";
    let runs = client.wait_for(path, 90, |answer| succeeded(answer).len() == count);
    succeeded(&runs)
        .iter()
        .map(|run| client.xcom("reads_orders", run, "read"))
        .collect()
}

#[test]
fn messages_of_a_queue_make_runs_and_resume_tasks() {
    let tools = PathBuf::from(
        std::env::var_os("ISOBAR_TEST_QUEUES")
            .expect("ISOBAR_TEST_QUEUES: see tools/test_queues.sh; `make test` sets it"),
    );
    let broker = Broker::start(&tools);
    let packages = tools.join("packages").display().to_string();
    let team = format!(
        "read_folders = [\"{packages}\"]\n[team.env]\nPYTHONPATH = \"{packages}\"\n\
         [team.connections]\nredis_default = \"redis://127.0.0.1:{}\"\n",
        broker.port
    );
    let mut place = Deployment::on(Database::Sqlite)
        .team("alpha", &team)
        .user("alpha", "alpha = \"op\"")
        .dag("alpha", "queues.py", QUEUES);
    place.start("standalone");
    let client = place.client("alpha");
    client.wait_for_dag("reads_orders");

    // The provider's trigger ends with its message, and listens again at once.
    for (number, message) in ["first", "second", "third"].iter().enumerate() {
        broker.publish("orders", message);
        assert_eq!(orders_read(&client, number + 1).last().unwrap(), &json!([message]));
    }

    let run = client.trigger("awaits_reply");
    client.wait_for_task("awaits_reply", &run, "awaits", "deferred");
    broker.publish("replies", "hello");
    assert_eq!(client.wait_for_run("awaits_reply", &run, 90)["state"], "success");
    assert_eq!(client.xcom("awaits_reply", &run, "awaits"), json!(["replies", "hello"]));
    let log = client.task_log("awaits_reply", &run, "awaits");
    assert!(log.contains("Trigger fired event"), "{log}");
}
