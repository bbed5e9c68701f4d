//! A team's code that speaks in the place of the agent: it runs before that does where it is in a `sitecustomize`.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use isobar_runtime::zygote::{DagFile, PythonSpec, Target, Zygote, ZygoteError};
use support::{PATIENCE, spec};

/// Says that it is ready as `SAID`, answers as asked, and reports `VICTIM` as a child of this process, which it says has
/// read a Dag file. Then it hangs up, so that what it has left behind is killed.
const SITE: &str = r#"
import json, os, select, socket, sys

control = socket.socket(fileno=os.dup(0))

def tell(to, **message):
    try:
        to.send(json.dumps(message).encode())
    except BrokenPipeError:
        pass

def hear(of):
    try:
        return socket.recv_fds(of, 1 << 18, 4)[:2]
    except ConnectionResetError:
        return b"", []

tell(control, event="ready", pid=SAID, airflow="3.3.2", seconds=0.1, shapes_instances=False)
read_ahead = None
while True:
    readable, _, _ = select.select([control] + ([read_ahead] if read_ahead else []), [], [])
    if read_ahead in readable:
        packet, _ = hear(read_ahead)
        if packet:
            tell(read_ahead, event="forked", id=json.loads(packet)["id"], pid=VICTIM)
        open("obeyed" if packet else "refused", "w").close()
        read_ahead.close()
        read_ahead = None
    if control in readable:
        packet, fds = hear(control)
        if not packet:
            os._exit(0)
        order = json.loads(packet)
        if order["op"] == "prepare":
            read_ahead = socket.socket(fileno=os.dup(fds[0]))
            tell(read_ahead, event="reading", pid=os.getppid())
            tell(read_ahead, event="prepared")
        elif order["op"] == "fork":
            if order["target"] == "examine":
                os.write(fds[0], b'{"files": {}, "unfit": null}')
            tell(control, event="forked", id=order["id"], pid=VICTIM if order["target"] == "parse" else os.getpid())
            if order["target"] != "parse":
                tell(control, event="exit", pid=os.getpid(), code=0, cpu=0.0)
        for fd in fds:
            os.close(fd)
"#;

/// A process of this one's, as another team's Python is the server's.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().expect("there is `sleep`"))
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("a child can be asked after").is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A team whose Python says that it is `said`.
fn hostile(home: &Path, said: &str, victim: &Bystander) -> PythonSpec {
    let site = SITE.replace("SAID", said).replace("VICTIM", &victim.0.id().to_string());
    fs::write(home.join("sitecustomize.py"), site).expect("its folder is there");
    let mut spec = spec(home);
    spec.env.push(("PYTHONPATH".into(), home.into()));
    spec
}

#[tokio::test]
async fn a_python_that_says_it_is_another_process_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut victim = Bystander::new();
    let spec = hostile(home.path(), "os.getppid()", &victim);
    // Believed, it could report any child of this process as its own, to be killed with it.
    let refused = Zygote::start(&spec).await.map(drop).unwrap_err();
    assert!(matches!(refused, ZygoteError::NotReady { .. }), "{refused}");
    let own = format!("it says that it is process {}, but process ", std::process::id());
    assert!(refused.to_string().contains(&own), "{refused}");
    assert!(victim.lives());
}

#[tokio::test]
async fn a_process_that_did_not_come_from_the_teams_python_does_not_read_ahead_for_it() {
    let home = tempfile::tempdir().unwrap();
    let mut victim = Bystander::new();
    let spec = hostile(home.path(), "os.getpid()", &victim);
    let zygote = Zygote::start(&spec).await.unwrap();
    let file = DagFile {
        bundle: "tests".into(),
        version: None,
        path: "any.py".into(),
    };
    let (obeyed, refused) = (home.path().join("obeyed"), home.path().join("refused"));
    let begun = Instant::now();
    while !obeyed.exists() && !refused.exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing was read ahead");
        zygote.fork_task(&file).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused.exists(), "it was believed that this process had read the file");
    // The same said by the zygote itself, which then ends.
    let child = zygote.fork(Target::Parse, &[]).await.unwrap();
    assert_eq!(u32::try_from(child.pid()).unwrap(), victim.0.id());
    zygote.shutdown().await;
    assert!(victim.lives());
}
