//! An HTTP/1.1 client that shows exactly what the server sends.
//!
//! It sends one request per connection. It does not hide headers or repair responses. See [`Request::send`].

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Time limit for a response.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Address at which the agent under test serves REST.
pub const ADDRESS: &str = "127.0.0.1:9191";

/// A request to send.
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An HTTP response, as the server sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// HTTP status code, such as 200.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body, decoded as UTF-8.
    pub body: String,
}

impl Request {
    /// Creates a request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Creates a GET request.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {ADDRESS}\r\n"));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat()
    }

    /// Sends the request to the agent under test.
    pub async fn send(&self) -> Answer {
        let stream = TcpStream::connect(ADDRESS)
            .await
            .unwrap_or_else(|error| panic!("{ADDRESS}: {error}"));
        self.send_over(stream).await
    }

    /// Sends the request over this stream, such as a TLS connection, and returns the response.
    pub async fn send_over(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        // Ignore errors, because the server can respond and close the connection before it has read the whole request.
        let _ = stream.write_all(&self.bytes()).await;
        read_answer(stream).await
    }
}

/// Reads a response until the server closes the connection.
pub async fn read_answer(mut stream: impl AsyncRead + Unpin) -> Answer {
    let mut bytes = Vec::new();
    // Ignore errors, because data that arrived before a connection reset is still a response.
    let _ = timeout(TIME_LIMIT, stream.read_to_end(&mut bytes))
        .await
        .expect("the server did not answer in time");
    parse(&String::from_utf8(bytes).expect("UTF-8"))
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.unwrap_or_else(|| panic!("no status line: {text:?}")),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

impl Answer {
    /// Returns the content type, or an empty text if the header is missing.
    pub fn content_type(&self) -> &str {
        self.headers.get("content-type").map(String::as_str).unwrap_or_default()
    }
}
