//! A sample instance: says its name, has `/health`, and switches that make it slow, unhealthy or dead.
//!
//! Dead means what it means elsewhere: the port refuses and open connections break. The port itself stays ours, so that
//! the kernel gives it to nobody else until the instance comes back.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::listener::bind::{self, Bound, Neighbour};
use crate::platform::SOCKET_PER_WORKER;

/// How long a slow one takes for an answer.
const SLOW: Duration = Duration::from_millis(400);

/// How long one that was switched to dead by hand stays so: a dead one cannot be switched back.
const DEAD: Duration = Duration::from_secs(15);

/// Pause between two tries to take the port again.
const BIND_PAUSE: Duration = Duration::from_millis(50);

const BACKLOG: u32 = 1024;

/// What the switches say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Serves.
    Well,
    /// Serves, late.
    Slow,
    /// Serves, but says that it should not.
    Unhealthy,
    /// Refuses connections.
    Dead,
}

/// A running sample instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Instance {
    /// Starts one on a port that the kernel chooses. It ends with its runtime.
    pub(super) fn start(name: &'static str, runtime: &tokio::runtime::Handle) -> io::Result<Self> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = bind::bind(any_port, 1, Neighbour::None).map_err(io::Error::other)?;
        let instance = Self { name, address: port.address, mode: watch::Sender::new(Mode::Well) };
        runtime.spawn(instance.clone().live(port));
        Ok(instance)
    }

    pub(super) fn switch(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Serves while it is not dead.
    async fn live(self, port: Bound) {
        let mut mode = self.mode.subscribe();
        let mut port = Some(port);
        loop {
            let Ok(listener) = self.listen(&mut port) else {
                sleep(BIND_PAUSE).await;
                continue;
            };
            tokio::select! {
                // Dropped, it drops its listener and its connections.
                () = self.serve(listener) => {}
                _dead = mode.wait_for(|mode| *mode == Mode::Dead) => {}
            }
            let _back = mode.wait_for(|mode| *mode != Mode::Dead).await.is_ok();
        }
    }

    /// Opens the port. Where sockets can share it, `port` goes on holding it.
    fn listen(&self, port: &mut Option<Bound>) -> io::Result<TcpListener> {
        let bound = match port.take() {
            Some(held) if SOCKET_PER_WORKER => {
                *port = Some(held);
                bind::bind(self.address, 1, Neighbour::Ours)
            }
            Some(held) => Ok(held),
            None => bind::bind(self.address, 1, Neighbour::None),
        };
        let mut sockets = bound.and_then(|bound| bound.listen(BACKLOG)).map_err(io::Error::other)?;
        TcpListener::from_std(sockets.remove(0))
    }

    async fn serve(&self, listener: TcpListener) {
        let this = Arc::new(self.clone());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Both arms are cancel-safe.
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let this = Arc::clone(&this);
                    connections.spawn(async move {
                        let answer = service_fn(|request| {
                            let this = Arc::clone(&this);
                            async move { Ok::<_, Infallible>(this.answer(&request).await) }
                        });
                        // A client that breaks off is none of our business.
                        let _broken = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.is_err();
                    });
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mode = *self.mode.borrow();
        if mode == Mode::Slow {
            sleep(SLOW).await;
        }
        match (request.method(), request.uri().path()) {
            (_, "/health") if mode == Mode::Unhealthy => {
                text(StatusCode::SERVICE_UNAVAILABLE, "application/json", "{\"status\":\"unhealthy\"}\n".to_owned())
            }
            (_, "/health") => text(StatusCode::OK, "application/json", "{\"status\":\"healthy\"}\n".to_owned()),
            (&Method::POST, path) if path.starts_with("/switch/") => self.switched(&path["/switch/".len()..]),
            _ => text(StatusCode::OK, "text/plain", format!("hello from {}\n", self.name)),
        }
    }

    fn switched(&self, word: &str) -> Response<Full<Bytes>> {
        let mode = match word {
            "well" => Mode::Well,
            "slow" => Mode::Slow,
            "unhealthy" => Mode::Unhealthy,
            "dead" => {
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(DEAD).await;
                    this.switch(Mode::Well);
                });
                Mode::Dead
            }
            _ => return text(StatusCode::NOT_FOUND, "text/plain", "well, slow, unhealthy or dead?\n".to_owned()),
        };
        self.switch(mode);
        text(StatusCode::OK, "text/plain", format!("{} is {word}\n", self.name))
    }
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
