//! One request over a fresh HTTP/2 connection: what probes of instances that speak it are made of.

use std::future::{Future, poll_fn};
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::BODY_BYTES_MAX;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
    /// As much of it as is read.
    pub(super) body: Vec<u8>,
    /// Empty where there are none, or where the body was not read to its end.
    pub(super) trailers: HeaderMap,
}

/// Sends the request and reads the answer. The connection is driven here, so that no task outlives the probe.
pub(super) async fn exchange<T>(io: T, request: Request<()>, body: Bytes) -> Result<Answer, h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = h2::client::Builder::new().enable_push(false).handshake::<_, Bytes>(io).await?;
    let mut connection = Some(Box::pin(connection));
    let mut answer = pin!(async {
        let mut sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        read(response).await
    });
    poll_fn(|context| {
        // Dropped when it ends: only then do all streams learn of it, and `answer` returns what became of its own.
        if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
            connection = None;
        }
        answer.as_mut().poll(context)
    })
    .await
}

async fn read(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX {
        let Some(data) = stream.data().await else {
            let trailers = stream.trailers().await?.unwrap_or_default();
            return Ok(Answer { head, body, trailers });
        };
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - body.len())]);
    }
    Ok(Answer { head, body, trailers: HeaderMap::new() })
}
