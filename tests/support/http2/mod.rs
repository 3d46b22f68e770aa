//! Clients of HTTP/2: [`frames`] with control of each byte, [`Http2`] for what sound clients do.

pub(crate) mod frames;

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::wait::BOUND;

/// One connection with prior knowledge, by the `h2` crate.
pub(crate) struct Http2 {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Statuses of interim answers before it.
    pub(crate) interim: Vec<u16>,
}

impl Answer {
    /// The value of a field, empty without one.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request that is under way.
pub(crate) struct Exchange {
    answer: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

impl Http2 {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        // A worker of its own, so that the connection lives while the test does something else.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("connect");
            let (send, connection) = h2::client::handshake(stream).await.expect("a connection of HTTP/2");
            tokio::spawn(connection);
            send
        });
        Self { runtime, send }
    }

    /// Runs a future of this connection, with a bound.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(BOUND, future).await }).unwrap_or_else(|_| panic!("{what}"))
    }

    /// Sends the head of a request, whose body is to follow.
    #[track_caller]
    pub(crate) fn begin(&self, request: Request<()>) -> Exchange {
        let mut send = self.send.clone();
        let (answer, body) = self.wait("a request is sent", async {
            poll_fn(|context| send.poll_ready(context)).await.expect("room for a request");
            send.send_request(request, false).expect("a request that can be sent")
        });
        Exchange { answer, body }
    }

    /// Sends a request without a body.
    #[track_caller]
    pub(crate) fn send(&self, request: Request<()>) -> Exchange {
        let mut send = self.send.clone();
        let (answer, body) = self.wait("a request is sent", async {
            poll_fn(|context| send.poll_ready(context)).await.expect("room for a request");
            send.send_request(request, true).expect("a request that can be sent")
        });
        Exchange { answer, body }
    }

    /// The whole answer.
    #[track_caller]
    pub(crate) fn answer(&self, exchange: Exchange) -> Result<Answer, h2::Error> {
        self.wait("an answer", exchange.answer())
    }

    /// Sends a GET, and returns the answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        let exchange = self.send(get(path));
        self.answer(exchange).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a POST with a body in one frame, and returns the answer.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        let mut exchange = self.begin(Request::post(format!("http://test{path}")).body(()).unwrap());
        exchange.body.send_data(Bytes::copy_from_slice(body), true).expect("room for a body");
        self.answer(exchange).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Exchange {
    async fn answer(self) -> Result<Answer, h2::Error> {
        let Self { mut answer, body: _kept } = self;
        let mut interim = Vec::new();
        while let Some(head) = poll_fn(|context| answer.poll_informational(context)).await {
            interim.push(head?.status().as_u16());
        }
        let (head, mut stream) = answer.await?.into_parts();
        let (body, trailers) = read_body(&mut stream).await?;
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, trailers, interim })
    }
}

async fn read_body(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok((body, stream.trailers().await?))
}

/// A GET for the host `test`.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).unwrap()
}
