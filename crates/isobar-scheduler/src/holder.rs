//! Who holds a lease: a process of a host, told apart from a later one with the same number.
//!
//! A scheduler that was killed leaves its lease behind. Started again on the same host, its successor sees that the holder
//! is dead and need not wait for the lease to run out.

use std::fmt;
use std::fs;

/// A process: host, boot, process number and start time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    boot: String,
    pid: u32,
    started: String,
}

impl Holder {
    /// This process.
    #[must_use]
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self {
            boot: boot(),
            pid,
            started: started(pid).unwrap_or_default(),
        }
    }

    /// Whether the holder written in a lease was a process of this boot of this host, and is no more.
    #[must_use]
    pub fn is_dead(written: &str) -> bool {
        let mut parts = written.split('/');
        let (Some(of), Some(pid), Some(began)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        // Without a boot id nothing is known of where it ran.
        if of.is_empty() || of != boot() {
            return false;
        }
        let Ok(pid) = pid.parse() else { return false };
        started(pid).as_deref() != Some(began)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.boot, self.pid, self.started)
    }
}

/// Names this boot of this host and its process namespace: numbers of another namespace mean other processes.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match (boot.trim(), namespace.to_str()) {
        (boot, Some(namespace)) if !boot.is_empty() && !namespace.is_empty() => format!("{boot}-{namespace}"),
        _ => String::new(),
    }
}

/// When a process started, in the kernel's ticks; none where there is no such process, or it is a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, so fields are counted from its end.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_later_one_of_its_number_is_another() {
        let this = Holder::this_process();
        assert!(!Holder::is_dead(&this.to_string()));
        let earlier = Holder {
            started: "1".to_owned(),
            ..this
        };
        assert!(Holder::is_dead(&earlier.to_string()));
        let elsewhere = Holder {
            boot: "other".to_owned(),
            ..earlier
        };
        assert!(!Holder::is_dead(&elsewhere.to_string()));
        assert!(!Holder::is_dead("nonsense"));
    }
}
