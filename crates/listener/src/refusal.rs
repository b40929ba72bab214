//! HTTP/1.1 and HTTP/2 errors for clients that are rejected before a request is read.

use std::{io, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Time limit for sending an error.
const LIMIT: Duration = Duration::from_secs(1);
/// `ENHANCE_YOUR_CALM` (RFC 9113 §7), the error code of the GOAWAY frame. The debug data of the frame contains the message.
const CALM: u32 = 0xb;
/// Frame types (RFC 9113 §6).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Encodes an HTTP/1.1 error response. `status` is the status code and reason phrase, such as `400 Bad Request`.
pub fn http1(status: &str, words: &str) -> Vec<u8> {
    let body = json!({"Error": words, "message": words});
    let retry = if status.starts_with("503") { "retry-after: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\nconnection: close\r\n{retry}\r\n{body}\n"
    )
    .into_bytes()
}

/// Encodes an HTTP/2 connection error: a SETTINGS frame, which must come first, and a GOAWAY frame with the message.
pub fn http2(words: &str) -> Vec<u8> {
    let mut bytes = frame(SETTINGS, 0);
    bytes.extend(frame(GOAWAY, 8 + words.len()));
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(CALM.to_be_bytes());
    bytes.extend(words.as_bytes());
    bytes
}

/// Client connection preface of HTTP/2 (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Encodes an error in the client's protocol: HTTP/2 if `beginning` is the start of the HTTP/2 preface, otherwise HTTP/1.1.
pub fn as_begun(beginning: &[u8], status: &str, words: &str) -> Vec<u8> {
    let speaks_http2 = beginning.iter().eq(PREFACE.iter().take(beginning.len()));
    match speaks_http2 {
        true => http2(words),
        false => http1(status, words),
    }
}

/// Encodes the header of a frame on stream 0 (RFC 9113 §4.1): a three-byte length, then type, flags and stream.
fn frame(kind: u8, length: usize) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    vec![high, middle, low, kind, 0, 0, 0, 0, 0]
}

/// Writes the bytes, then discards everything that the client sends until the client closes the connection or the time limit
/// expires.
///
/// Closing a socket with unread data would reset the connection, and the client would not receive the bytes.
pub async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let telling = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // Ignore an error or timeout: the client is not reading.
    let _ = timeout(LIMIT, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_encoded_in_http1_and_http2() {
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
