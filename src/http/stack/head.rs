//! Reads the head of a request: within its limits, within its time.

use std::pin::Pin;
use std::task::Poll;

use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::cause::Cause;
use crate::connection::Client;
use crate::http::Refusal;
use crate::http1::head::Head;
use crate::http1::read::{HeadLimits, HeadReader};
use crate::worker::Worker;
use crate::worker::alarm::Alarm;
use crate::worker::buffers::make_room;

/// Why there is no request.
pub(super) enum Unread {
    /// The client closed, or sent nothing in time: there is nobody to answer, or nothing to answer to.
    Gone,
    /// Nothing after all (a new socket counts as readable until it has been read), or empty lines only, which some clients
    /// send behind a body (RFC 9112 section 2.2): the connection idles on, without a buffer.
    Blank,
    /// What came is not a request, or did not come in time.
    Refused(Refusal, Instant),
}

/// When a head came.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// Its first byte.
    pub(super) begun: Instant,
    /// Its last byte.
    pub(super) whole: Instant,
}

/// Reads one request head.
pub(super) async fn read_head(worker: &Worker, client: &mut Client, alarm: &Alarm) -> Result<(Head, Arrival), Unread> {
    let settings = &client.origin.listener.settings;
    let limits = HeadLimits {
        bytes_max: settings.request_head_bytes_max,
        target_bytes_max: settings.request_target_bytes_max,
        fields_max: settings.request_fields_max,
    };
    let begun = Instant::now();
    let deadline = begun + settings.request_head_timeout;
    let mut buffer = if client.ahead.is_empty() { worker.buffers.take() } else { std::mem::take(&mut client.ahead) };
    let mut reader = HeadReader::request();
    let mut reads = 0;
    loop {
        if !buffer.is_empty() {
            match reader.read(&mut buffer, &limits, || worker.buffers.take_head()) {
                Ok(Some(head)) => {
                    // Nearly every head is there with its first byte: no second look at the clock for those.
                    let whole = if reads > 1 { Instant::now() } else { begun };
                    return Ok((head, Arrival { begun, whole }));
                }
                Ok(None) if !reader.has_begun() && buffer.ends_with(b"\n") => {
                    worker.buffers.give(buffer);
                    return Err(Unread::Blank);
                }
                Ok(None) => {}
                Err(error) => return Err(Unread::Refused(error.into(), begun)),
            }
        }
        make_room(&mut buffer);
        let stream = &mut client.stream;
        let read = std::future::poll_fn(|context| match poll_read_buf(Pin::new(&mut *stream), context, &mut buffer) {
            Poll::Pending if buffer.is_empty() => Poll::Ready(None),
            read => read.map(Some),
        });
        match alarm.run(deadline, read).await {
            Ok(Some(Ok(1..))) => reads += 1,
            Ok(None) => {
                worker.buffers.give(buffer);
                return Err(Unread::Blank);
            }
            Ok(Some(Ok(0) | Err(_))) => {
                worker.buffers.give(buffer);
                return Err(Unread::Gone);
            }
            Err(_ring) if reader.has_begun() => return Err(Unread::Refused(LATE_HEAD, begun)),
            Err(_ring) => return Err(Unread::Gone),
        }
    }
}

const LATE_HEAD: Refusal =
    Refusal { cause: Cause::RequestHeaderTimeout, status: 408, detail: "the request head did not arrive in time" };
