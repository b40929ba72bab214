//! Refusals before a request was read: as HTTP/1.1 and HTTP/2 have them.
//!
//! Owns their bytes, and how they reach who does not listen. Must never wait long for anybody. Start reading at [`tell`].

use std::{io, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// How long telling may take.
const LIMIT: Duration = Duration::from_secs(1);
/// `ENHANCE_YOUR_CALM` (RFC 9113 §7): whoever speaks HTTP/2 is asked to go away with this code; the words are beside it.
const CALM: u32 = 0xb;
/// Types of frames (RFC 9113 §6).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// An answer of HTTP/1.1 to whatever was or was not asked; `status` is code and reason.
pub fn http1(status: &str, words: &str) -> Vec<u8> {
    let body = json!({"Error": words, "message": words});
    let retry = if status.starts_with("503") { "retry-after: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\nconnection: close\r\n{retry}\r\n{body}\n"
    )
    .into_bytes()
}

/// The end of a connection of HTTP/2 before it began: settings, which have to come first, and GOAWAY with the words.
pub fn http2(words: &str) -> Vec<u8> {
    let mut bytes = frame(SETTINGS, 0);
    bytes.extend(frame(GOAWAY, 8 + words.len()));
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(CALM.to_be_bytes());
    bytes.extend(words.as_bytes());
    bytes
}

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns a refusal in the protocol that a client has begun to speak: HTTP/2 if these bytes begin its preface, else HTTP/1.1.
pub fn as_begun(beginning: &[u8], status: &str, words: &str) -> Vec<u8> {
    let speaks_http2 = beginning.iter().eq(PREFACE.iter().take(beginning.len()));
    match speaks_http2 {
        true => http2(words),
        false => http1(status, words),
    }
}

/// The header of a frame of the connection (RFC 9113 §4.1): three bytes of length, type, flags, stream 0.
fn frame(kind: u8, length: usize) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    vec![high, middle, low, kind, 0, 0, 0, 0, 0]
}

/// Writes the bytes, and reads what was sent meanwhile: closing a connection with unread data would take them back.
pub async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let telling = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever does not listen is not waited for.
    let _ = timeout(LIMIT, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_by_who_speaks_the_protocol() {
        let text = String::from_utf8(http1("503 Service Unavailable", "a \"word\"")).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && head.contains("retry-after: 1"));
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["message"], "a \"word\"");
        let bytes = http2("no");
        assert_eq!(&bytes[..9], [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[9..18], [0, 0, 10, GOAWAY, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[18..], [0, 0, 0, 0, 0, 0, 0, 0xb, b'n', b'o']);
    }
}
