//! The control socket: JSON packets, some with descriptors attached.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, Shutdown, UnixAddr, recv, sendmsg, shutdown};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use tokio::io::unix::AsyncFd;

/// Longest packet that a zygote sends.
const PACKET_LIMIT: usize = 64 * 1024;

/// What a zygote is told.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Order<'a> {
    /// Fork, with four descriptors attached.
    Fork {
        id: u64,
        target: &'static str,
        #[serde(serialize_with = "as_map")]
        env: &'a [(String, String)],
    },
    /// Fork a zygote that reads this Dag file, with its control socket attached.
    Prepare {
        bundle: &'a str,
        version: Option<&'a str>,
        path: &'a str,
    },
    /// Signal one of its children, or that child's process group.
    Kill { pid: i32, signal: i32, group: bool },
}

/// What a zygote tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Report {
    /// The team's previous zygote still holds the lock.
    Waiting,
    /// It must not be forked warm: an import failed or left threads behind. It ends.
    NotWarm { reason: String },
    /// Imports are done.
    Ready {
        pid: i32,
        airflow: String,
        seconds: f64,
        #[serde(default)]
        shapes_instances: Option<bool>,
    },
    /// A zygote that is to read a Dag file begins.
    Reading { pid: i32 },
    /// It has read it.
    Prepared,
    /// It could not, and ends.
    Unfit { reason: String },
    /// The fork asked for as `id` runs as `pid`.
    Forked { id: u64, pid: i32 },
    /// A child ended; negative codes are signals. `cpu` is in seconds.
    Exit { pid: i32, code: i32, cpu: f64 },
    /// The fork asked for as `id` did not happen.
    Refused { id: u64, message: String },
}

fn as_map<S: Serializer>(env: &&[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(env.len()))?;
    for (name, value) in *env {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// This side's end of the control socket.
pub(super) struct Control(AsyncFd<OwnedFd>);

impl Control {
    /// Takes a non-blocking SOCK_SEQPACKET socket.
    #[expect(
        deprecated,
        reason = "an OwnedFd cannot change its number; the replacement is unsafe"
    )]
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        AsyncFd::new(fd).map(Self)
    }

    /// Sends one packet whole, or fails.
    pub(super) async fn send(&self, order: &Order<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = serde_json::to_vec(order)?;
        let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let attached: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            let mut ready = self.0.writable().await?;
            let sent = ready.try_io(|fd| {
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<UnixAddr>(
                    fd.as_raw_fd(),
                    &[IoSlice::new(&packet)],
                    attached,
                    flags,
                    None,
                )?)
            });
            if let Ok(sent) = sent {
                return sent.map(drop);
            }
        }
    }

    /// Closes both directions, which tells the zygote to end.
    pub(super) fn close(&self) {
        // An error means that the other end is gone already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Receives one packet; none where the zygote has closed its end.
    pub(super) async fn receive(&self) -> io::Result<Option<Report>> {
        let mut packet = vec![0; PACKET_LIMIT];
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|fd| Ok(recv(fd.as_raw_fd(), &mut packet, MsgFlags::empty())?));
            match received {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(length)) => return Ok(Some(serde_json::from_slice(&packet[..length])?)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_not_ready) => {}
            }
        }
    }
}
