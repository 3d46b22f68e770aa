//! One stream of an HTTP/2 connection as a stream of bytes: the payload of its DATA frames, with `END_STREAM` as the end.
//!
//! The same for both directions: a client's request and its answer, a request to an instance and what comes back. Heads do
//! not go through here as bytes, they are frames of their own. Flow control is passed through: what was read is given back
//! to the sender as room when it is taken out, and what is written waits until the receiver has given room for it.
//!
//! What must never happen is that a body which was cut off, or is not as long as it said, looks whole to whoever reads it:
//! so the last bytes of a body of known length are held back until the stream has ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Payload;
use super::head::{Follows, TranslateError, from_trailers, to_trailers};

/// Bytes that are handed over at once: a frame of the usual size, so that streams take turns.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// What we send.
enum Sending {
    /// A response whose head has not gone out.
    Response(SendResponse<Payload>),
    /// A body.
    Body(SendStream<Payload>),
    /// All has been handed over.
    Ended,
}

/// What we receive.
enum Receiving {
    /// A head is awaited, elsewhere.
    Head,
    /// A body.
    Body(RecvStream),
    /// All has come.
    Ended,
}

/// One stream of an HTTP/2 connection.
pub struct Stream {
    sending: Sending,
    receiving: Receiving,
    /// What came in and was not read yet.
    chunk: Bytes,
    /// The last bytes of a body of known length, until the stream has ended.
    held: Option<Bytes>,
    /// How much of the body has not come, where its length is known.
    left: Option<u64>,
    /// Lines, each with its CRLF.
    trailers: Vec<u8>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sending = match &self.sending {
            Sending::Response(_) => "response",
            Sending::Body(_) => "body",
            Sending::Ended => "ended",
        };
        let receiving = match &self.receiving {
            Receiving::Head => "head",
            Receiving::Body(_) => "body",
            Receiving::Ended => "ended",
        };
        f.debug_struct("Stream").field("sending", &sending).field("receiving", &receiving).finish_non_exhaustive()
    }
}

/// Making.
impl Stream {
    fn new(sending: Sending, receiving: Receiving) -> Self {
        Self { sending, receiving, chunk: Bytes::new(), held: None, left: None, trailers: Vec::new() }
    }

    /// A client's request whose head has come, of which `length` bytes of body follow if that is known.
    #[must_use]
    pub fn request(respond: SendResponse<Payload>, body: RecvStream, length: Option<u64>) -> Self {
        let mut stream = Self::new(Sending::Response(respond), Receiving::Head);
        stream.receive(body, length);
        stream
    }

    /// A request to an instance whose head has gone out; `None`: without a body. [`Stream::receive`] gives it the answer's.
    #[must_use]
    pub fn sent(body: Option<SendStream<Payload>>) -> Self {
        Self::new(body.map_or(Sending::Ended, Sending::Body), Receiving::Head)
    }

    /// The head has come, and this is its body, of `length` bytes if that is known.
    pub fn receive(&mut self, body: RecvStream, length: Option<u64>) {
        if body.is_end_stream() {
            self.receiving = Receiving::Ended;
        } else {
            self.receiving = Receiving::Body(body);
            self.left = length;
        }
    }
}

/// Sending.
impl Stream {
    /// Sends the head of the response.
    ///
    /// # Errors
    /// The stream is closed, or a head has gone out before.
    pub fn respond(&mut self, head: Response<()>, follows: Follows) -> io::Result<()> {
        let Sending::Response(respond) = &mut self.sending else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let body = respond.send_response(head, follows == Follows::Nothing).map_err(broken)?;
        self.sending = match follows {
            Follows::Body => Sending::Body(body),
            Follows::Nothing => Sending::Ended,
        };
        Ok(())
    }

    /// Sends an interim response.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn inform(&mut self, head: Response<()>) -> io::Result<()> {
        match &mut self.sending {
            Sending::Response(respond) => respond.send_informational(head).map_err(broken),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether the head of the response has not gone out.
    #[must_use]
    pub fn awaits_response(&self) -> bool {
        matches!(self.sending, Sending::Response(_))
    }

    /// Hands over as much of `bytes` as the receiver has room for. With [`Follows::Nothing`] they are the last, and the
    /// stream ends with them, if all of them go.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8], follows: Follows) -> Poll<io::Result<usize>> {
        let Sending::Body(body) = &mut self.sending else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let wanted = bytes.len().min(WRITE_BYTES_MAX);
        body.reserve_capacity(wanted);
        let mut room = body.capacity();
        while room == 0 && wanted > 0 {
            room = match ready!(body.poll_capacity(context)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        let count = wanted.min(room);
        let last = follows == Follows::Nothing && count == bytes.len();
        body.send_data(Payload::copy_from_slice(&bytes[..count]), last).map_err(broken)?;
        if last {
            self.sending = Sending::Ended;
        }
        Poll::Ready(Ok(count))
    }

    /// Ends what we send, with trailers if there are any: lines, each with its CRLF.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn finish(&mut self, trailers: &[u8]) -> io::Result<()> {
        match std::mem::replace(&mut self.sending, Sending::Ended) {
            Sending::Body(mut body) if trailers.is_empty() => body.send_data(Payload::new(), true).map_err(broken),
            Sending::Body(mut body) => {
                let trailers = to_trailers(trailers).map_err(io::Error::other)?;
                body.send_trailers(trailers).map_err(broken)
            }
            Sending::Response(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Sending::Ended => Ok(()),
        }
    }

    /// Ends the stream at once, both ways, so that nobody takes what came so far for the whole.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.sending {
            Sending::Response(respond) => respond.send_reset(reason),
            Sending::Body(body) => body.send_reset(reason),
            Sending::Ended => {}
        }
        self.receiving = Receiving::Ended;
    }
}

/// Receiving.
impl Stream {
    /// The trailers that came at the end, as lines, each with its CRLF: those that may be passed on.
    #[must_use]
    pub fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Waits for the other side to reset the stream, while it is not read.
    pub fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let reset = match &mut self.sending {
            Sending::Response(respond) => respond.poll_reset(context),
            Sending::Body(body) => body.poll_reset(context),
            Sending::Ended => return Poll::Pending,
        };
        reset.map(|reason| match reason {
            Ok(reason) => broken(h2::Error::from(reason)),
            Err(error) => broken(error),
        })
    }

    /// Makes `chunk` the next bytes, or finds the end.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Receiving::Body(body) = &mut self.receiving {
            match ready!(body.poll_data(context)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(bytes.len() as u64);
                        if *left == 0 && !body.is_end_stream() {
                            self.held = Some(bytes);
                            continue;
                        }
                    }
                    self.chunk = bytes;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => {
                    let trailers = ready!(body.poll_trailers(context)).map_err(broken)?;
                    if let Some(trailers) = trailers {
                        self.trailers = from_trailers(&trailers)
                            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    }
                    match self.held.take() {
                        Some(held) => {
                            self.chunk = held;
                            return Poll::Ready(Ok(()));
                        }
                        None => self.receiving = Receiving::Ended,
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.chunk.is_empty() {
            ready!(this.poll_chunk(context))?;
        }
        let count = this.chunk.len().min(buffer.remaining());
        buffer.put_slice(&this.chunk[..count]);
        this.chunk.advance(count);
        if let Receiving::Body(body) = &mut this.receiving {
            body.flow_control().release_capacity(count).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, bytes, Follows::Body)
    }

    /// The connection sends what it has, whoever waits for it.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().finish(b""))
    }
}

/// An error of `h2` as one of streams; [`reason`] tells it again.
#[must_use]
pub fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

/// Whether what came was not what it said, as opposed to a stream that broke off: `h2` has found that the frames
/// contradict the length, or trailers have no equivalent.
#[must_use]
pub fn is_malformed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| {
        let found = error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_reset() && error.is_library());
        found || error.is::<TranslateError>()
    })
}

/// Why the stream or its connection was ended, if it was ended in the way of HTTP/2.
#[must_use]
pub fn reason(error: &io::Error) -> Option<Reason> {
    error.get_ref()?.downcast_ref::<h2::Error>()?.reason()
}
