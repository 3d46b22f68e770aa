//! A message on its way from one connection to the other: head first, then the body as it comes.
//!
//! One [`Pipe`] serves both directions. It decodes the framing of the side that it reads from (so that nothing ambiguous
//! passes) and makes the framing of the other side anew. It holds one buffer: bytes are read only when those before
//! them are written, so a slow reader slows the writer down, and memory per direction is bounded by
//! [`BUFFER_BYTES_MAX`]. A request body that may have to be repeated stays in the buffer up to a limit.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::http1::chunked::{ChunkedDecoder, ChunkedError};
use crate::http1::framing::BodyLength;
use crate::http1::write;
use crate::worker::buffers::{BUFFER_BYTES, BUFFER_BYTES_MAX};

/// How the receiving side learns where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// By its length, which the head tells, or by the end of the connection.
    Plain,
    /// By chunks.
    Chunked,
}

/// Why a message did not get through.
#[derive(Debug, Error)]
pub enum PipeError {
    /// The sender's connection broke.
    #[error("reading failed")]
    Source(#[source] io::Error),
    /// The sender's connection ended before the body did.
    #[error("body ended before its length")]
    Truncated,
    /// The sender's chunks are not chunks.
    #[error("body is malformed")]
    Malformed(#[source] ChunkedError),
    /// The body is longer than is allowed.
    #[error("body is over the limit")]
    TooLarge,
    /// The receiver's connection broke.
    #[error("writing failed")]
    Sink(#[source] io::Error),
}

/// What the pipe waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The sender must send.
    Source,
    /// The receiver must take.
    Sink,
}

#[derive(Debug)]
enum Decoder {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
    Done,
}

/// A message on its way.
#[derive(Debug)]
pub struct Pipe {
    decoder: Decoder,
    encoding: Encoding,
    /// Payload that is being written; with `keep`, all payload so far.
    buffer: Vec<u8>,
    /// Whether `buffer` holds the body from its first byte, and how long it may grow to do so.
    keep: Option<usize>,
    /// Bytes that go out before `payload`: head, chunk size.
    before: Vec<u8>,
    payload: Range<usize>,
    /// Bytes that go out after `payload`: the end of a chunk, trailers.
    after: Vec<u8>,
    /// How many bytes of before + payload + after are written.
    written: usize,
    /// Bytes that came after the end of the message.
    surplus: Vec<u8>,
    /// Trailer fields that came behind the last chunk, as lines.
    trailers: Vec<u8>,
    received: u64,
    received_max: u64,
    sent: u64,
    wait: Wait,
    moved: bool,
    finished: bool,
}

impl Pipe {
    /// A message without bytes yet. `buffer` is empty; `received_max` bounds the payload.
    #[must_use]
    pub fn new(length: BodyLength, encoding: Encoding, buffer: Vec<u8>, received_max: Option<u64>) -> Self {
        let decoder = match length {
            BodyLength::None | BodyLength::Length(0) => Decoder::Done,
            BodyLength::Length(length) => Decoder::Length(length),
            BodyLength::Chunked => Decoder::Chunked(Box::default()),
            BodyLength::UntilClose => Decoder::UntilClose,
        };
        Self {
            decoder,
            encoding,
            buffer,
            keep: None,
            before: Vec::new(),
            payload: 0..0,
            after: Vec::new(),
            written: 0,
            surplus: Vec::new(),
            trailers: Vec::new(),
            received: 0,
            received_max: received_max.unwrap_or(u64::MAX),
            sent: 0,
            wait: Wait::Source,
            moved: false,
            finished: false,
        }
    }

    /// Keeps the body for [`Pipe::restart`] as long as it is not longer than `bytes_max`.
    pub fn keep(&mut self, bytes_max: usize) {
        self.keep = Some(bytes_max);
    }

    /// Takes what was read behind the head: the first part of the body, and what follows it.
    ///
    /// # Errors
    /// As the body's sender has it; see [`PipeError`].
    pub fn begin(&mut self, rest: &[u8]) -> Result<(), PipeError> {
        if matches!(self.decoder, Decoder::Done) {
            self.surplus.extend_from_slice(rest);
            return Ok(());
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(rest);
        self.decode(start)
    }

    /// Sets the head, which goes out first, together with the first part of the body if that is here.
    pub fn head(&mut self, head: Vec<u8>) {
        debug_assert!(self.before.is_empty() && self.written == 0, "the head is set once per attempt");
        self.before = head;
        self.payload = 0..self.buffer.len();
        self.frame();
    }

    /// Whether everything that went out is still here, so that it can go out again.
    #[must_use]
    pub fn can_restart(&self) -> bool {
        self.sent == 0 || self.received == 0 || self.keep.is_some()
    }

    /// Goes back to the first byte, for another attempt with a new head.
    pub fn restart(&mut self) {
        debug_assert!(self.can_restart(), "the body is gone");
        self.before.clear();
        self.after.clear();
        self.written = 0;
        self.finished = false;
        self.sent = 0;
    }

    /// Whether all of the message has come from its sender.
    #[must_use]
    pub fn is_received(&self) -> bool {
        matches!(self.decoder, Decoder::Done)
    }

    /// Whether all of the message has gone to its receiver.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes of payload that came in.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that went out, head and framing included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What it waits for.
    #[must_use]
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// Whether bytes moved since this was asked last.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Bytes that came after the end of the message.
    #[must_use]
    pub fn surplus(&mut self) -> &mut Vec<u8> {
        &mut self.surplus
    }

    /// Ends the pipe: its buffer and the one of the head, to be used again.
    #[must_use]
    pub fn into_buffers(self) -> (Vec<u8>, Vec<u8>) {
        (self.buffer, self.before)
    }

    /// Moves bytes until one side must be waited for, or all are through.
    ///
    /// # Errors
    /// See [`PipeError`].
    pub fn poll<R, W>(&mut self, context: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<(), PipeError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.wait = Wait::Sink;
            ready!(self.poll_flush(context, sink)).map_err(PipeError::Sink)?;
            if self.is_received() {
                self.finished = true;
                return Poll::Ready(Ok(()));
            }
            self.wait = Wait::Source;
            ready!(self.poll_fill(context, source))?;
        }
    }

    /// Writes what is framed.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, context: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        let total = self.before.len() + self.payload.len() + self.after.len();
        while self.written < total {
            let count = {
                let mut skip = self.written;
                let mut slices = [IoSlice::new(&[]); 3];
                let mut used = 0;
                for part in [&self.before[..], &self.buffer[self.payload.clone()], &self.after[..]] {
                    if skip < part.len() {
                        slices[used] = IoSlice::new(&part[skip..]);
                        used += 1;
                        skip = 0;
                    } else {
                        skip -= part.len();
                    }
                }
                ready!(Pin::new(&mut *sink).poll_write_vectored(context, &slices[..used]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.sent += count as u64;
            self.moved = true;
        }
        self.before.clear();
        self.after.clear();
        self.written = 0;
        if self.keep.is_none() {
            self.buffer.clear();
        }
        self.payload = self.buffer.len()..self.buffer.len();
        Poll::Ready(Ok(()))
    }

    /// Reads once, and frames what came.
    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut R,
    ) -> Poll<Result<(), PipeError>> {
        let start = self.buffer.len();
        if self.buffer.capacity() - start < BUFFER_BYTES / 2 {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let room = self.buffer.capacity() - start;
        let count = ready!(poll_read_buf(Pin::new(source), context, &mut self.buffer)).map_err(PipeError::Source)?;
        self.moved = true;
        if count == 0 {
            return Poll::Ready(match self.decoder {
                Decoder::UntilClose => {
                    self.decoder = Decoder::Done;
                    self.payload = start..start;
                    self.frame();
                    Ok(())
                }
                _ => Err(PipeError::Truncated),
            });
        }
        self.decode(start)?;
        self.payload = start..self.buffer.len();
        self.frame();
        if count == room && self.buffer.capacity() < BUFFER_BYTES_MAX {
            // The sender fills what it gets: the next read may bring twice as much.
            self.buffer.reserve(self.buffer.capacity());
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the framing off the bytes from `start` on; what is beyond the message becomes `surplus`.
    fn decode(&mut self, start: usize) -> Result<(), PipeError> {
        let fresh = &mut self.buffer[start..];
        let (data, consumed) = match &mut self.decoder {
            Decoder::Length(left) => {
                let data = fresh.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data as u64;
                if *left == 0 {
                    self.decoder = Decoder::Done;
                }
                (data, data)
            }
            Decoder::Chunked(decoder) => {
                let decoded = decoder.decode(fresh).map_err(PipeError::Malformed)?;
                if decoded.done {
                    let Decoder::Chunked(decoder) = std::mem::replace(&mut self.decoder, Decoder::Done) else {
                        unreachable!("matched above")
                    };
                    self.trailers = decoder.trailers().to_vec();
                }
                (decoded.data, decoded.consumed)
            }
            Decoder::UntilClose => (fresh.len(), fresh.len()),
            Decoder::Done => (0, 0),
        };
        self.surplus.extend_from_slice(&self.buffer[start + consumed..]);
        self.buffer.truncate(start + data);
        self.received += data as u64;
        if self.received > self.received_max {
            return Err(PipeError::TooLarge);
        }
        if self.keep.is_some_and(|max| self.buffer.len() > max) {
            self.keep = None;
        }
        Ok(())
    }

    /// Puts the receiver's framing around `payload`.
    fn frame(&mut self) {
        if self.encoding == Encoding::Plain {
            return;
        }
        if !self.payload.is_empty() {
            self.before.extend_from_slice(&write::chunk_head(self.payload.len()));
            self.after.extend_from_slice(write::CRLF);
        }
        if self.is_received() {
            write::last_chunk(&mut self.after, &self.trailers);
        }
    }
}
