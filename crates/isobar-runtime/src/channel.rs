//! The requests socket of one child: frames in, answers out, in lock step.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use isobar_wire::answers::Reply;
use isobar_wire::frames::{FrameBuffer, FrameError, Request, encode_response};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Room for one read, in bytes.
const READ_AHEAD: usize = 16 * 1024;

/// Why a child can no longer be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It sent what is not a frame.
    #[error("the process sent what cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("the process can no longer be reached: {0}")]
    Socket(#[from] io::Error),
}

/// One child's requests socket. Works for tasks and for parses, whose children wait for each answer.
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
    buffer: FrameBuffer,
}

impl Channel {
    /// Takes the socket; frames of more than `frame_limit` bytes are refused.
    #[must_use]
    pub fn new(socket: UnixStream, frame_limit: usize) -> Self {
        Self {
            socket,
            buffer: FrameBuffer::new(frame_limit),
        }
    }

    /// The next request; none where the child and all that inherited its socket have closed it. Cancel-safe.
    ///
    /// # Errors
    /// After an error nothing more can be read.
    pub async fn next(&mut self) -> Result<Option<Request>, ChannelError> {
        loop {
            if let Some(request) = self.buffer.next_request()? {
                return Ok(Some(request));
            }
            // Grows with what arrives, never with what is announced.
            self.buffer.bytes_mut().reserve(READ_AHEAD);
            match self.socket.read_buf(self.buffer.bytes_mut()).await {
                // A child that dies in the middle of a frame has said nothing.
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends the first frame, which answers no request.
    ///
    /// # Errors
    /// Where the child is gone already.
    pub async fn start(&mut self, body: &Value) -> Result<(), ChannelError> {
        self.send(&encode_response(0, Some(body), None)?).await
    }

    /// Answers request `id`.
    ///
    /// # Errors
    /// Where the child is gone.
    pub async fn answer(&mut self, id: i64, reply: &Reply) -> Result<(), ChannelError> {
        let frame = match reply {
            Reply::Body(body) => encode_response(id, body.as_ref(), None)?,
            Reply::Error(error) => encode_response(id, None, Some(error))?,
        };
        self.send(&frame).await
    }

    /// Answers request `id` with a descriptor attached to the first bytes of the frame.
    ///
    /// # Errors
    /// Where the child is gone.
    pub async fn answer_with_fd(&mut self, id: i64, body: &Value, fd: BorrowedFd<'_>) -> Result<(), ChannelError> {
        let frame = encode_response(id, Some(body), None)?;
        let raw = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&raw)];
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, || {
                let socket = self.socket.as_raw_fd();
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<UnixAddr>(
                    socket,
                    &[IoSlice::new(&frame)],
                    &rights,
                    flags,
                    None,
                )?)
            })
            .await?;
        self.send(&frame[sent..]).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        Ok(self.socket.write_all(bytes).await?)
    }
}
