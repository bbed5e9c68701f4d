//! Frames of the Task SDK's channel: a big-endian `u32` length and that many bytes of msgpack.
//!
//! A request is `[id, body, context_carrier]`, a response `[id, body, error]`; trailing elements may be left out.
//! What a child sends is not trusted: every malformed frame is an error, none is a panic or an unbounded allocation.

use bytes::{Buf, BytesMut};
use serde_json::{Map, Value};

use crate::msgpack::{self, MsgpackError};

/// The largest frame that is accepted where nothing else is configured: 256 MiB. Airflow's own limit is 4 GiB.
pub const DEFAULT_FRAME_LIMIT: usize = 256 * 1024 * 1024;

/// Why bytes from a child are not a frame. None can be recovered from: the stream's position is lost.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the limit.
    #[error("a frame of {length} bytes is longer than the limit of {limit} bytes")]
    TooLong {
        /// The announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The body is not msgpack, or not of a kind that the channel uses.
    #[error("a frame's body cannot be read: {0}")]
    Body(#[from] MsgpackError),
    /// msgpack, but not `[id, body, context]`.
    #[error("a frame is not a request: {0}")]
    NotARequest(&'static str),
    /// To be sent, but longer than a length can say.
    #[error("an answer of {0} bytes is longer than a frame can be")]
    AnswerTooLong(usize),
}

/// One request of a child.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its number, to be repeated in the answer. Unique per process only.
    pub id: i64,
    /// The message, with its `type`.
    pub body: Map<String, Value>,
    /// Whether the body held NaN or an infinity, which read as `null` here.
    pub lost_numbers: bool,
    /// W3C trace context.
    pub context: Option<Map<String, Value>>,
}

/// Collects bytes as they arrive and cuts them into requests.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
}

impl FrameBuffer {
    /// An empty buffer that accepts frames of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
        }
    }

    /// Where to read into.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Whether a part of a frame is waiting for its rest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole request; none where more bytes are needed.
    ///
    /// # Errors
    /// See [`FrameError`]; after an error the buffer is useless.
    pub fn next_request(&mut self) -> Result<Option<Request>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        if self.bytes.len() < 4 + length {
            // Grows as bytes come, at most doubling: an announced length alone allocates nothing.
            return Ok(None);
        }
        self.bytes.advance(4);
        let frame = self.bytes.split_to(length);
        read_request(&frame).map(Some)
    }
}

fn read_request(frame: &[u8]) -> Result<Request, FrameError> {
    let decoded = msgpack::decode(frame)?;
    let Value::Array(parts) = decoded.value else {
        return Err(FrameError::NotARequest("it is not an array"));
    };
    let mut parts = parts.into_iter();
    let id = parts
        .next()
        .and_then(|id| id.as_i64())
        .ok_or(FrameError::NotARequest("its first element is not a whole number"))?;
    let Some(Value::Object(body)) = parts.next() else {
        return Err(FrameError::NotARequest("its second element is not a map"));
    };
    let context = match parts.next() {
        None | Some(Value::Null) => None,
        Some(Value::Object(context)) => Some(context),
        Some(_) => return Err(FrameError::NotARequest("its third element is not a map")),
    };
    Ok(Request {
        id,
        body,
        lost_numbers: decoded.lost_numbers,
        context,
    })
}

/// The frame of an answer; `body` and `error` are left out where none.
///
/// # Errors
/// [`FrameError::AnswerTooLong`] where it does not fit.
pub fn encode_response(id: i64, body: Option<&Value>, error: Option<&Value>) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    let parts = match (body, error) {
        (None, None) => 1,
        (Some(_), None) => 2,
        (_, Some(_)) => 3,
    };
    msgpack::write_array_len(&mut frame, parts);
    msgpack::write_int(&mut frame, id);
    if parts > 1 {
        msgpack::encode_into(&mut frame, body.unwrap_or(&Value::Null));
    }
    if let Some(error) = error {
        msgpack::encode_into(&mut frame, error);
    }
    let length = frame.len() - 4;
    let header = u32::try_from(length).map_err(|_| FrameError::AnswerTooLong(length))?;
    frame[..4].copy_from_slice(&header.to_be_bytes());
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn frame(body: &rmpv::Value) -> Vec<u8> {
        let mut packed = Vec::new();
        rmpv::encode::write_value(&mut packed, body).unwrap();
        let mut frame = u32::try_from(packed.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(packed);
        frame
    }

    fn request(id: i64) -> Vec<u8> {
        let body = rmpv::Value::Map(vec![("type".into(), "GetVariable".into()), ("key".into(), "k".into())]);
        frame(&rmpv::Value::Array(vec![id.into(), body, rmpv::Value::Nil]))
    }

    #[test]
    fn a_request_arrives_whole_however_it_is_cut() {
        let bytes: Vec<u8> = (0..3).flat_map(request).collect();
        for step in 1..bytes.len() {
            let mut buffer = FrameBuffer::new(1024);
            let mut ids = Vec::new();
            for piece in bytes.chunks(step) {
                buffer.bytes_mut().extend_from_slice(piece);
                while let Some(request) = buffer.next_request().unwrap() {
                    assert_eq!(request.body["key"], "k");
                    ids.push(request.id);
                }
            }
            assert_eq!(ids, [0, 1, 2]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
        let mut buffer = FrameBuffer::new(1024);
        buffer.bytes_mut().extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            buffer.next_request(),
            Err(FrameError::TooLong {
                length: u32::MAX as usize,
                limit: 1024
            })
        );
    }

    #[test]
    fn what_is_not_a_request_is_refused_by_name() {
        use rmpv::Value as V;
        for (body, reason) in [
            (V::Nil, "it is not an array"),
            (V::Array(vec![]), "its first element is not a whole number"),
            (V::Array(vec!["x".into()]), "its first element is not a whole number"),
            (V::Array(vec![1.into()]), "its second element is not a map"),
            (V::Array(vec![1.into(), 2.into()]), "its second element is not a map"),
            (
                V::Array(vec![1.into(), V::Map(vec![]), 3.into()]),
                "its third element is not a map",
            ),
        ] {
            let mut buffer = FrameBuffer::new(1024);
            buffer.bytes_mut().extend_from_slice(&frame(&body));
            assert_eq!(buffer.next_request(), Err(FrameError::NotARequest(reason)));
        }
    }

    #[test]
    fn an_answer_leaves_out_what_it_does_not_say() {
        assert_eq!(encode_response(7, None, None).unwrap(), [0, 0, 0, 2, 0x91, 7]);
        assert_eq!(
            encode_response(7, Some(&json!({})), None).unwrap(),
            [0, 0, 0, 3, 0x92, 7, 0x80]
        );
        assert_eq!(
            encode_response(7, None, Some(&json!({}))).unwrap(),
            [0, 0, 0, 4, 0x93, 7, 0xc0, 0x80]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = FrameBuffer::new(64);
            buffer.bytes_mut().extend_from_slice(&bytes);
            while let Ok(Some(_)) = buffer.next_request() {}
            let mut framed = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
            framed.extend(&bytes);
            let mut buffer = FrameBuffer::new(1024);
            buffer.bytes_mut().extend_from_slice(&framed);
            let _ = buffer.next_request();
        }

        #[test]
        fn damaged_requests_never_make_the_reader_panic(at in 4_usize..30, with in any::<u8>()) {
            let mut bytes = request(1);
            let at = at.min(bytes.len() - 1);
            bytes[at] = with;
            let mut buffer = FrameBuffer::new(1024);
            buffer.bytes_mut().extend_from_slice(&bytes);
            let _ = buffer.next_request();
        }
    }
}
