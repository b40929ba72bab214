//! A gRPC client without generated code. Callers pass the service, the method and the message. See [`Client::call`].

use std::time::Duration;

use prost::Message;
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

/// Address at which the agent under test serves gRPC.
pub const ADDRESS: &str = "127.0.0.1:9111";
/// Path prefix of the service that sets and gets values.
pub const MANAGER: &str = "/ligato.generic.ManagerService/";

/// A gRPC client that needs no generated code.
pub struct Client {
    grpc: Grpc<Channel>,
    token: Option<String>,
}

impl Client {
    /// Connects to the agent under test without TLS.
    pub async fn connect() -> Self {
        Self::over(None).await
    }

    /// Connects with this initial stream window, which limits how much unread data the agent can send.
    pub async fn with_window(bytes: u32) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{ADDRESS}")).expect("an address");
        let endpoint = endpoint.initial_stream_window_size(bytes);
        let channel = endpoint.connect().await;
        Client {
            grpc: Grpc::new(channel.expect("connect to the gRPC API")),
            token: None,
        }
    }

    /// Connects to the agent under test, over TLS if `tls` is given.
    pub async fn over(tls: Option<ClientTlsConfig>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{ADDRESS}")).expect("an address");
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).expect("good certificates");
        }
        let channel = endpoint.timeout(Duration::from_secs(60)).connect().await;
        Client {
            grpc: Grpc::new(channel.expect("connect to the gRPC API")),
            token: None,
        }
    }

    /// Sets the `authorization` metadata of all calls.
    pub fn authorization(mut self, text: &str) -> Self {
        self.token = Some(text.to_owned());
        self
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(text) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", text.parse().expect("it can be sent"));
        }
        request
    }

    /// Makes a unary call.
    pub async fn call<Q, A>(&mut self, service: &str, method: &str, message: Q) -> Result<Response<A>, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.expect("wait for the connection");
        let path: PathAndQuery = format!("{service}{method}").parse().expect("a path");
        let request = self.request(message);
        self.grpc.unary(request, path, ProstCodec::<Q, A>::default()).await
    }

    /// Makes a call that returns a stream of responses.
    pub async fn stream<Q, A>(&mut self, service: &str, method: &str, message: Q) -> Streaming<A>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.expect("wait for the connection");
        let path: PathAndQuery = format!("{service}{method}").parse().expect("a path");
        let request = self.request(message);
        let stream = self.grpc.server_streaming(request, path, ProstCodec::<Q, A>::default()).await;
        stream.expect("a stream").into_inner()
    }

    /// Opens a stream, and returns the first message for which `wanted` returns true.
    pub async fn first<Q, A>(&mut self, service: &str, method: &str, message: Q, wanted: impl Fn(&A) -> bool) -> A
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut stream = self.stream(service, method, message).await;
        while let Some(answer) = stream.message().await.expect("an answer") {
            if wanted(&answer) {
                return answer;
            }
        }
        panic!("the stream of {method} ended before the expected message arrived");
    }
}
