//! Ways to speak to a listener that no good client has: in drops, in nonsense, not at all.
//!
//! Owns the connections. Each function returns what was told until the other side closed the connection. Start reading at [`say`].

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::certificates;

/// No limit of the scanned agent is nearly as long: whoever is still connected then was forgotten.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two drops; many of them make less than the least speed that is borne.
const DROP: Duration = Duration::from_millis(50);

/// A connection of any sort.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A listener, and how it is reached.
#[derive(Clone, Copy)]
pub struct Target {
    /// Where it listens.
    pub address: &'static str,
    /// The protocol that is named over TLS with a good certificate; `None`: without TLS.
    pub tls: Option<&'static str>,
}

impl Target {
    /// The same without TLS.
    pub fn plain(self) -> Self {
        Target { tls: None, ..self }
    }

    /// Connects.
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
    // What came before a reset was told, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    bytes
}

/// Says this, and tells which frames of HTTP/2 came back.
pub async fn say_for_frames(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    let _ = stream.write_all(bytes.as_ref()).await;
    let told = bytes_until_closed(stream).await;
    let (mut rest, mut names) = (&told[..], Vec::new());
    // Three bytes of length, one of type, five that do not matter here (RFC 9113 §4.1).
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

/// Says this, and nothing more.
pub async fn say(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    // It may be closed before all is said.
    let _ = stream.write_all(bytes.as_ref()).await;
    until_closed(stream).await
}

/// Says this, and takes leave without waiting for an answer.
pub async fn say_and_leave(target: Target, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = target.open().await;
    let _ = stream.write_all(bytes.as_ref()).await;
    let _ = stream.shutdown().await;
    until_closed(stream).await
}

/// Says the first part at once, and the second drop by drop; when it is over, it begins anew.
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
        told = until_closed(reader) => told,
        told = dripping => told,
    }
}

/// Why a TLS handshake with this certificate and this protocol fails.
pub async fn handshake(address: &str, identity: Option<&str>, protocol: &str) -> String {
    match certificates::connect(address, identity, &[protocol]).await {
        Err(error) => error.to_string(),
        // In TLS 1.3 the server judges after the client is done.
        Ok(mut stream) => {
            let read = timeout(PATIENCE, stream.read_u8()).await.expect("it is closed");
            read.map_or_else(|error| error.to_string(), |_| "it was served".to_owned())
        }
    }
}
