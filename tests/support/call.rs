//! A gRPC call as a client's library would make it, by a library for HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) status: u16,
    pub(crate) head: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Of a body, or of the head where there is nothing else.
    pub(crate) trailers: HeaderMap,
    /// Whether the head had the end of the stream.
    pub(crate) trailers_only: bool,
}

impl Called {
    /// The outcome.
    pub(crate) fn outcome(&self) -> Option<&str> {
        let fields = if self.trailers_only { &self.head } else { &self.trailers };
        fields.get("grpc-status").and_then(|value| value.to_str().ok())
    }

    pub(crate) fn message(&self) -> &str {
        let fields = if self.trailers_only { &self.head } else { &self.trailers };
        fields.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Makes one call over a connection of its own.
pub(crate) fn call(front: SocketAddr, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Result<Called, h2::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut request = Request::post(format!("http://shop.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let body = Bytes::copy_from_slice(body);
    runtime.block_on(async {
        let call = async {
            let stream = tokio::net::TcpStream::connect(front).await.expect("a connection");
            let (mut sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(connection);
            let (response, mut sending) = sender.send_request(request, false)?;
            sending.send_data(body, true)?;
            let (head, mut stream) = response.await?.into_parts();
            let trailers_only = stream.is_end_stream();
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                let data = data?;
                stream.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            let trailers = stream.trailers().await?.unwrap_or_default();
            Ok(Called { status: head.status.as_u16(), head: head.headers, body, trailers, trailers_only })
        };
        tokio::time::timeout(Duration::from_secs(20), call).await.expect("an end of the call")
    })
}
