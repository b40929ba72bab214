//! Wraps the request and response bodies of gRPC calls. Limits the size of received messages and the time to receive them, and
//! counts messages in both directions.
//!
//! A tonic layer cannot do this, because it sees bodies but not messages. A codec cannot do it either, because it sees messages
//! but not the call to which they belong.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use prometheus::IntCounter;
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, body::Body};

use super::call::Running;
use listener::Limits;

/// Size of the header before each message: a flag byte and a length of four bytes (gRPC over HTTP/2, `Length-Prefixed-Message`).
const HEADER: usize = 5;

/// Parser that finds the messages in a body.
#[derive(Default)]
struct Frames {
    header: [u8; HEADER],
    /// Number of header bytes received for the current message.
    have: usize,
    /// Number of bytes that are still missing from the current message.
    missing: usize,
    /// Length of the longest message so far, in bytes.
    longest: usize,
}

impl Frames {
    /// Parses the next bytes of the body, and returns the number of messages that end in these bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut complete = 0;
        loop {
            if self.have < HEADER {
                let (now, later) = bytes.split_at(bytes.len().min(HEADER - self.have));
                self.header[self.have..self.have + now.len()].copy_from_slice(now);
                (self.have, bytes) = (self.have + now.len(), later);
                if self.have < HEADER {
                    return complete;
                }
                let [_, length @ ..] = self.header;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.longest = self.longest.max(self.missing);
            }
            let now = bytes.len().min(self.missing);
            (self.missing, bytes) = (self.missing - now, &bytes[now..]);
            if self.missing > 0 {
                return complete;
            }
            (self.have, complete) = (0, complete + 1);
        }
    }
}

/// Request body with limits on the message size and on the time to receive the body. If the client streams messages, the time
/// limit restarts whenever a chunk of the body arrives.
pub(super) struct Arriving {
    body: Incoming,
    frames: Frames,
    received: Option<IntCounter>,
    longest: usize,
    time_limit: Duration,
    streams: bool,
    limit: Pin<Box<Sleep>>,
}

impl Arriving {
    /// Wraps a request body and applies the limits to its messages.
    pub fn new(body: Incoming, limits: &Limits, streams: bool, received: Option<IntCounter>) -> Self {
        let time_limit = limits.body();
        Arriving {
            body,
            frames: Frames::default(),
            received,
            longest: limits.body_max,
            time_limit,
            streams,
            limit: Box::pin(sleep(time_limit)),
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let complete = self.frames.pass(data);
                    if let Some(received) = &self.received {
                        received.inc_by(complete);
                    }
                }
                if self.frames.longest > self.longest {
                    return Poll::Ready(Some(Err(too_long(self.frames.longest, self.longest))));
                }
                if self.streams {
                    let later = Instant::now() + self.time_limit;
                    self.limit.as_mut().reset(later);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.limit.as_mut().poll(context).map(|()| {
                let seconds = self.time_limit.as_secs();
                let words = format!("the message did not arrive within {seconds} s; see --http-time-limit");
                Some(Err(Status::deadline_exceeded(words)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_long(length: usize, longest: usize) -> Status {
    let words = format!("the message has {length} bytes, but --http-body-max allows only {longest}; send less or raise the limit");
    Status::resource_exhausted(words)
}

/// Response body that counts the messages sent. Dropping the body ends the call.
pub(super) struct Answering {
    body: Body,
    frames: Frames,
    running: Running,
}

impl Answering {
    /// Wraps the response body of a call.
    pub fn new(body: Body, running: Running) -> Self {
        let frames = Frames::default();
        Answering { body, frames, running }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                let complete = self.frames.pass(data);
                if let Some(counted) = &self.running.counted {
                    counted.sent.inc_by(complete);
                }
            }
            if let Some(trailers) = frame.trailers_ref() {
                self.running.see(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_across_chunk_boundaries() {
        let bytes: Vec<u8> = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1, 9]].concat();
        for piece in 1..=bytes.len() {
            let mut frames = Frames::default();
            let complete: u64 = bytes.chunks(piece).map(|chunk| frames.pass(chunk)).sum();
            assert_eq!(complete, 3, "in pieces of {piece}");
        }
    }
}
