//! An instance that speaks HTTP/2 by a library, and answers with what it was asked.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};

use super::ports;

/// The instance. It lives as long as the test.
pub(crate) struct Echo {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Echo {
    /// Answers with method, target, fields, body and trailers as text, and with trailers of its own where the path is
    /// `/trailers`. `/hints` comes after a 103, `/slow` after 100 ms, `/health` is for probes.
    pub(crate) fn start() -> Self {
        let (address, connections) = (ports::free(), Arc::new(AtomicUsize::new(0)));
        let listener = std::net::TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking");
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&count)));
                }
            });
        });
        Self { address, connections }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections on which there was a request that was no probe.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(stream: tokio::net::TcpStream, connections: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut used = false;
    while let Some(Ok((request, respond))) = connection.accept().await {
        if !std::mem::replace(&mut used, true) && request.uri().path() != "/health" {
            connections.fetch_add(1, Ordering::Relaxed);
        }
        tokio::spawn(async move {
            // The proxy may be gone.
            let _gone = answer(request, respond).await.is_err();
        });
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, mut stream) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    let write = |text: &mut String, fields: &HeaderMap| {
        for (name, value) in fields {
            writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).expect("a String takes all");
        }
    };
    write(&mut text, &head.headers);
    text.push('\n');
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        text += &String::from_utf8_lossy(&data);
    }
    text.push('\n');
    write(&mut text, &stream.trailers().await?.unwrap_or_default());
    match head.uri.path() {
        "/hints" => {
            let hints = Response::builder().status(103).header("link", "</a.css>").body(()).expect("a head");
            respond.send_informational(hints)?;
        }
        "/slow" => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        _ => {}
    }
    let response = Response::builder().header("x-echo", "1").body(()).expect("a head");
    let mut body = respond.send_response(response, false)?;
    if head.uri.path() == "/trailers" {
        body.send_data(text.into(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-after", "done".parse().expect("a value"));
        body.send_trailers(trailers)
    } else {
        body.send_data(text.into(), true)
    }
}
