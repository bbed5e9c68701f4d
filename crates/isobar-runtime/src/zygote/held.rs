//! A hold on a child, for the time when nobody is left to say that it has ended.
//!
//! A zygote tells of the end of its children. Where it is killed itself, its socket closes a moment before the kernel
//! kills them, and one that has asked the kernel not to is left alone. Whoever was told then that a child is gone
//! could start its task again while the first still runs. So each child is held by a descriptor, which, other than its
//! number, cannot come to mean another process.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often to say that a killed child is still there.
const REMIND: Duration = Duration::from_secs(10);

/// A process that was reported as a child.
pub(super) struct Held {
    pid: i32,
    process: OwnedFd,
    /// Whether it was the zygote's own child when it was reported. The team's code can run in a zygote and report any
    /// number: another process must not be killed on its word, and not be waited for without end.
    own: bool,
}

impl Held {
    /// Takes hold of a child that its zygote `parent` has just reported; none where it has ended already, or this kernel
    /// (before Linux 5.3) knows no such hold.
    pub(super) fn of(pid: i32, parent: i32) -> Option<Self> {
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // What was opened is what is asked about: it would have to end in between, and then it is no child of anybody.
        let own = parent_of(pid) == Some(parent);
        Some(Self { pid, process, own })
    }

    /// Kills it and returns when it runs no more.
    pub(super) async fn die(self, team: &str) {
        if self.own {
            // An error means that it has ended.
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
        }
        #[expect(
            deprecated,
            reason = "an OwnedFd cannot change its number; the replacement is unsafe"
        )]
        let Ok(ended) = AsyncFd::with_interest(self.process, Interest::READABLE) else {
            tracing::error!(team, pid = self.pid, "whether a child has ended cannot be told");
            return;
        };
        loop {
            if tokio::time::timeout(REMIND, ended.readable()).await.is_ok() {
                return;
            }
            if !self.own {
                tracing::error!(
                    team,
                    pid = self.pid,
                    "what was reported as a child is another's, and lives"
                );
                return;
            }
            tracing::warn!(
                team,
                pid = self.pid,
                "a child that was killed has not ended yet; it is waited for"
            );
        }
    }
}

fn parent_of(pid: i32) -> Option<i32> {
    let about = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    about.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
