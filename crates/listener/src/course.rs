//! A connection from its first bytes to its end, whatever it answers with.
//!
//! Owns what the servers on hyper have in common: which protocol a client begins with, and how a connection ends. Must never look into
//! a request. Start reading at [`serve_until`].

use std::{io, pin::pin, time::Duration};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::refusal::PREFACE;

/// Reads until it is clear whether the client speaks HTTP/2: then the bytes read are [`PREFACE`]. They belong before the rest of the
/// stream ([`Prefixed`](crate::Prefixed)).
///
/// # Errors
/// That of the stream; `UnexpectedEof` if there was nothing to read.
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

/// Serves a connection until it ends. At `stop` it may finish what was begun. At `idle` it may do so for `farewell`: a client that
/// notices takes leave, one that does not is not waited for.
///
/// # Errors
/// That of the connection.
pub async fn serve_until<C: GracefulConnection>(
    connection: C,
    stop: impl Future,
    idle: impl Future,
    farewell: Duration,
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
            timeout(farewell, connection).await.unwrap_or(Ok(()))
        }
    }
}
