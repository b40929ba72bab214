//! Clients that misbehave: they send slowly, send garbage, or send nothing.
//!
//! Each function returns what it received before the listener closed the connection. See [`say`].

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::certificates;

/// Time limit for the agent to close a connection. It is much longer than any time limit in the agent under test.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two bytes of a slow client. At this rate, no request is complete within the time limits of the agent.
const DROP: Duration = Duration::from_millis(50);

/// A byte stream, with or without TLS.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A listener, and how to connect to it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Address of the listener.
    pub address: &'static str,
    /// Protocol to offer over TLS with a valid certificate, or `None` for no TLS.
    pub tls: Option<&'static str>,
}

impl Target {
    /// Returns the same target without TLS.
    pub fn plain(self) -> Self {
        Target { tls: None, ..self }
    }

    /// Opens a connection, over TLS if `tls` is set.
    pub async fn open(self) -> Box<dyn Wire> {
        match self.tls {
            None => Box::new(TcpStream::connect(self.address).await.expect("a connection")),
            Some(protocol) => {
                let stream = certificates::connect(self.address, Some("client"), &[protocol]).await;
                Box::new(stream.expect("both sides trust each other"))
            }
        }
    }
}

async fn until_closed(stream: impl AsyncRead + Unpin) -> String {
    String::from_utf8_lossy(&bytes_until_closed(stream).await).into_owned()
}

async fn bytes_until_closed(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Ignore errors, because data that arrived before a connection reset is returned too.
    let _ = timeout(TIME_LIMIT, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    bytes
}

/// Sends these bytes, and returns the types of the HTTP/2 frames received until the listener closes the connection.
pub async fn say_for_frames(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    let _ = stream.write_all(bytes.as_ref()).await;
    let reported = bytes_until_closed(stream).await;
    let (mut rest, mut names) = (&reported[..], Vec::new());
    // A frame header has three bytes of length, one byte of type, and five bytes that are ignored here (RFC 9113 §4.1).
    while let [high, middle, low, kind, _, _, _, _, _, more @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        rest = more.get(length..).unwrap_or_default();
        names.push(match kind {
            4 => "SETTINGS".to_owned(),
            6 => "PING".to_owned(),
            7 => "GOAWAY".to_owned(),
            8 => "WINDOW_UPDATE".to_owned(),
            other => format!("type {other}"),
        });
    }
    names.join(", ")
}

/// Sends these bytes, and returns everything received until the listener closes the connection.
pub async fn say(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    // Ignore errors, because the listener can close the connection before it has read everything.
    let _ = stream.write_all(bytes.as_ref()).await;
    until_closed(stream).await
}

/// Sends these bytes and shuts down the sending side without waiting for a response.
pub async fn say_and_leave(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    let _ = stream.write_all(bytes.as_ref()).await;
    let _ = stream.shutdown().await;
    until_closed(stream).await
}

/// Sends `first` at once, and then repeats the bytes of `drops` until the connection closes. Pauses after each of these bytes.
pub async fn dribble(target: Target, first: impl AsRef<[u8]>, drops: impl AsRef<[u8]>) -> String {
    let (reader, mut writer) = tokio::io::split(target.open().await);
    let _ = writer.write_all(first.as_ref()).await;
    let dripping = async {
        for drop in drops.as_ref().iter().cycle() {
            if writer.write_all(&[*drop]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            sleep(DROP).await;
        }
        std::future::pending::<String>().await
    };
    tokio::select! {
        reported = until_closed(reader) => reported,
        reported = dripping => reported,
    }
}

/// Attempts a TLS handshake with this certificate and protocol, and returns the error that ends the connection.
pub async fn handshake(address: &str, identity: Option<&str>, protocol: &str) -> String {
    match certificates::connect(address, identity, &[protocol]).await {
        Err(error) => error.to_string(),
        // In TLS 1.3 the client completes its handshake before the server verifies the certificate.
        Ok(mut stream) => {
            let read = timeout(TIME_LIMIT, stream.read_u8()).await.expect("it is closed");
            read.map_or_else(|error| error.to_string(), |_| "it was served".to_owned())
        }
    }
}
