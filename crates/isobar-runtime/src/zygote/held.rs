//! A hold on a child, for the time when nobody is left to say that it has ended.
//!
//! A zygote tells of the end of its children. Where it is killed itself, its socket closes a moment before the kernel
//! kills them, and one that has asked the kernel not to is left alone. Whoever was told then that a child is gone
//! could start its task again while the first still runs. So each child is held by a descriptor, which, other than its
//! number, cannot come to mean another process.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

/// How often to say that a killed child is still there.
const REMIND: Duration = Duration::from_secs(10);
/// How long a killed child is waited for when the server stops: one that sleeps in the kernel, on a file server that is
/// gone, may not end for days.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A process whose children are held: the team's zygote, or one that has read a Dag file.
///
/// The team's code can run in it and report any number as its own. So that number is never taken from it alone.
pub(super) struct Parent {
    pid: i32,
    /// None where this kernel (before Linux 5.3) knows no such hold. Nothing is killed then.
    process: Option<OwnedFd>,
}

impl Parent {
    /// The process that was started from here as `pid`, and not yet waited for: until then the number is its own.
    pub(super) fn started(pid: i32) -> Self {
        Self {
            pid,
            process: open(pid),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// What reports itself as `pid`, where that is a child of this one and lives.
    pub(super) fn child(&self, pid: i32) -> Option<Self> {
        let process = open(pid)?;
        self.has_child(pid, &process).then_some(Self {
            pid,
            process: Some(process),
        })
    }

    /// Whether `process`, which was opened as `pid`, is its child.
    fn has_child(&self, pid: i32, process: &OwnedFd) -> bool {
        let Some(own) = &self.process else { return false };
        // In this order: a process that still lives has had its number all the time, so that what was read was said of
        // these two, and of no others that have their numbers now.
        parent_of(pid) == Some(self.pid) && lives(process) && lives(own)
    }
}

/// A process that was reported as a child.
pub(super) struct Held {
    pid: i32,
    process: OwnedFd,
    /// Whether it was its parent's own child when it was reported. The team's code can report any number: another
    /// process must not be killed on its word, and not be waited for without end.
    own: bool,
}

impl Held {
    /// Takes hold of a child that `parent` has just reported; none where it has ended already, or cannot be held.
    pub(super) fn of(pid: i32, parent: &Parent) -> Option<Self> {
        let process = open(pid)?;
        let own = parent.has_child(pid, &process);
        Some(Self { pid, process, own })
    }

    /// Kills it and returns when it runs no more. False where it has not ended, and the server stops.
    pub(super) async fn die(self, team: &str, stop: &CancellationToken) -> bool {
        if self.own {
            // An error means that it has ended.
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
        }
        self.ends(team, stop, LAST_WAIT).await
    }

    async fn ends(self, team: &str, stop: &CancellationToken, last_wait: Duration) -> bool {
        let pid = self.pid;
        #[expect(
            deprecated,
            reason = "an OwnedFd cannot change its number; the replacement is unsafe"
        )]
        let Ok(ended) = AsyncFd::with_interest(self.process, Interest::READABLE) else {
            tracing::error!(team, pid, "whether a child has ended cannot be told");
            return true;
        };
        let mut given_up = pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(last_wait).await;
        });
        loop {
            tokio::select! {
                biased;
                _ = ended.readable() => return true,
                () = &mut given_up => if self.own {
                    tracing::error!(team, pid, "a child that was killed does not end; the server stops without it");
                    return false;
                },
                () = tokio::time::sleep(REMIND) => {}
            }
            if !self.own {
                tracing::error!(team, pid, "what was reported as a child is another's, and lives");
                return true;
            }
            tracing::warn!(team, pid, "a child that was killed has not ended yet; it is waited for");
        }
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    // The number may be the team's word; a negative one must not get as far as `Pid`.
    let pid = Pid::from_raw(pid.max(0))?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether it has not ended yet.
fn lives(process: &OwnedFd) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    matches!(poll(&mut asked, Some(&Timespec::default())), Ok(0))
}

fn parent_of(pid: i32) -> Option<i32> {
    let about = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    about.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that is killed when the test ends, however that is.
    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id().try_into().unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn this_process() -> Parent {
        Parent::started(std::process::id().try_into().unwrap())
    }

    #[tokio::test]
    async fn only_a_child_of_the_very_process_that_reported_it_is_killed() {
        let (mut own, other) = (Sleeper::new(), Sleeper::new());
        let stop = CancellationToken::new();
        // Another's child: of no process, and of one that has ended, whose number could be this process's by now.
        let stranger = Parent::started(other.pid());
        assert!(stranger.child(own.pid()).is_none());
        let mut ended = Sleeper::new();
        let mut former = Parent::started(ended.pid());
        ended.0.kill().unwrap();
        ended.0.wait().unwrap();
        former.pid = this_process().pid;
        assert!(former.child(own.pid()).is_none());
        for parent in [&stranger, &former] {
            let held = Held::of(own.pid(), parent).unwrap();
            assert!(!held.own);
            let dying = held.die("t", &stop);
            assert!(tokio::time::timeout(Duration::from_millis(50), dying).await.is_err());
            assert!(own.0.try_wait().unwrap().is_none());
        }

        assert_eq!(this_process().child(own.pid()).unwrap().pid(), own.pid());
        assert!(Held::of(own.pid(), &this_process()).unwrap().die("t", &stop).await);
        assert!(!own.0.wait().unwrap().success());
        assert!(this_process().child(own.pid()).is_none());
    }

    #[test]
    fn what_is_no_number_of_a_process_is_nobody() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert!(Held::of(pid, &this_process()).is_none());
        }
    }

    #[tokio::test]
    async fn a_child_that_does_not_end_is_waited_for_until_the_server_stops() {
        let sleeper = Sleeper::new();
        let stop = CancellationToken::new();
        // As one that was killed and sleeps in the kernel.
        let held = || Held::of(sleeper.pid(), &this_process()).unwrap();
        let waiting = held().ends("t", &stop, Duration::ZERO);
        assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
        stop.cancel();
        assert!(!held().ends("t", &stop, Duration::from_millis(1)).await);
    }
}
