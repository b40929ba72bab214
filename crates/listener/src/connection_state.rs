//! Parts of serving a connection that all servers on hyper share: protocol detection at the start, and graceful shutdown at the end.

use std::{io, pin::pin, time::Duration};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::refusal::PREFACE;

/// Reads until it is clear whether the client speaks HTTP/2; if it does, the returned bytes are [`PREFACE`]. Put them in front of the
/// rest of the stream with [`Prefixed`](crate::Prefixed).
///
/// # Errors
/// Returns the error of the stream; `UnexpectedEof` if it ended without a byte.
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

/// Serves a connection until it ends. After `stop`, the requests in flight may finish. After `idle`, the connection is shut down
/// gracefully, and dropped if the client has not closed it after `drain_timeout`.
///
/// # Errors
/// Returns the error of the connection.
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
