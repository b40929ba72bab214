//! Helpers for all hyper-based servers: protocol detection when a connection begins, and graceful shutdown when it ends.

use std::{io, pin::pin, time::Duration};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::refusal::PREFACE;

/// Reads the first bytes of a connection until they show whether the client uses HTTP/2. The returned bytes equal [`PREFACE`] if
/// the client uses HTTP/2. The caller must put the bytes back in front of the stream with [`Prefixed`](crate::Prefixed).
///
/// # Errors
/// Returns the stream's error, or `UnexpectedEof` if the stream ends before the first byte.
pub async fn beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() && bytes[..length] == PREFACE[..length] {
        match stream.read(&mut bytes[length..]).await? {
            0 if length == 0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client sent nothing")),
            0 => break,
            read => length += read,
        }
    }
    Ok(bytes[..length].to_vec())
}

/// Serves a connection until it ends.
///
/// After `stop` completes, the connection accepts no new requests, but requests in flight can still finish. After `idle`
/// completes, the connection is shut down gracefully. It is dropped if the client does not close it within `drain_timeout`.
///
/// # Errors
/// Returns the connection's error.
pub async fn serve_until<C: GracefulConnection>(
    connection: C,
    stop: impl Future,
    idle: impl Future,
    drain_timeout: Duration,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        _ = idle => {
            connection.as_mut().graceful_shutdown();
            timeout(drain_timeout, connection).await.unwrap_or(Ok(()))
        }
    }
}
