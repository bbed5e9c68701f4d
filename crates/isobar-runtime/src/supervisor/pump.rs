//! Cutting a child's output into lines.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::tasklog::Stream;

/// Longer lines are cut; a child that never ends its line cannot fill this process's memory.
const LINE_LIMIT: usize = 8 << 20;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Where lines go.
pub trait LineSink {
    /// One line, without its line end.
    fn line(&self, stream: Stream, line: &[u8]);
    /// All lines of one read have been given: a good moment to write them.
    fn pause(&self);
}

/// Reads `socket` to its end. What follows the last line end counts as a line.
pub async fn pump(mut socket: impl AsyncRead + Unpin, stream: Stream, sink: &impl LineSink) {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(CHUNK);
        // An error on a local socket is its end: the child is gone.
        let read = socket.read_buf(&mut bytes).await.unwrap_or(0);
        let mut searched = bytes.len() - read;
        while let Some(at) = bytes[searched..].iter().position(|byte| *byte == b'\n') {
            sink.line(stream, &bytes[..searched + at]);
            bytes.advance(searched + at + 1);
            searched = 0;
        }
        if !bytes.is_empty() && (read == 0 || bytes.len() >= LINE_LIMIT) {
            sink.line(stream, &bytes);
            bytes.clear();
        }
        sink.pause();
        if read == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LineSink for Lines {
        fn line(&self, _: Stream, line: &[u8]) {
            self.0.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
        }
        fn pause(&self) {}
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_arrive_and_the_rest_counts() {
        let lines = Lines::default();
        let bytes: &[u8] = b"one\n\ntwo\r\nrest";
        for cut in 0..bytes.len() {
            lines.0.lock().unwrap().clear();
            let socket = AsyncReadExt::chain(&bytes[..cut], &bytes[cut..]);
            pump(socket, Stream::Stdout, &lines).await;
            assert_eq!(*lines.0.lock().unwrap(), ["one", "", "two\r", "rest"]);
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let lines = Lines::default();
        pump(
            tokio::io::repeat(b'x').take((LINE_LIMIT + 10) as u64),
            Stream::Stdout,
            &lines,
        )
        .await;
        let lengths: Vec<_> = lines.0.lock().unwrap().iter().map(String::len).collect();
        assert_eq!(lengths.iter().sum::<usize>(), LINE_LIMIT + 10);
        assert!(lengths.len() == 2 && lengths[0] >= LINE_LIMIT);
    }
}
