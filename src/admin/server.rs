//! Accepts admin connections and speaks HTTP/1.1 on them (hyper), within bounds.
//!
//! When [`CONNECTIONS_MAX`] are open, further ones wait in the accept queue; since an idle connection ends after
//! [`HEAD_TIMEOUT`] and any after [`CONNECTION_TIME_MAX`], they get their turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Admin, routes};

/// Open admin connections at a time.
const CONNECTIONS_MAX: usize = 64;

/// From the accept, or the end of an answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The life of a connection: also of one whose client takes no bytes.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);

/// Request head; hyper reads into a buffer of at most this size.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields in a request head.
const FIELDS_MAX: usize = 64;

/// Pause after an accept that failed, which it does again at once where descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long answers that are under way may take to end once the listener stops.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the admin API on `listener` until `stop` changes or its sender is gone; then lets answers that are under way
/// end.
///
/// # Cancel safety
/// A dropped future cuts its connections off.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Losing a branch loses nothing: a connection that is not accepted stays in the queue, a permit is given
            // back.
            accepted = accept(&listener, &room) => accepted,
            _stopped = stop.changed() => break,
            Some(_ended) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let connection = connection(Arc::clone(&admin), stream, peer, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "admin connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Queued connections end with the listener, not when the last answer has ended.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(END_TIMEOUT, all).await.is_err() {
        tracing::debug!("admin connections were cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// Serves one connection to its end.
async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&admin, request, peer).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let whole_life = async {
        tokio::select! {
            // Losing to `stop` loses nothing: the same future is polled on below.
            result = &mut serving => return result,
            _stopped = stop.changed() => {}
        }
        serving.as_mut().graceful_shutdown();
        serving.await
    };
    match timeout(CONNECTION_TIME_MAX, whole_life).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(client = %peer, error = %error, "admin connection failed"),
        Err(_) => tracing::debug!(client = %peer, "admin connection was too long open"),
    }
}
