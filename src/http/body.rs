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
use tokio_util::io::poll_read_buf;

use crate::http1::chunked::{ChunkedDecoder, ChunkedError};
use crate::http1::framing::BodyLength;
use crate::http1::write;
use crate::http2::head::Follows;
use crate::wire::{Sink, Source};
use crate::worker::buffers::{BUFFER_BYTES, BUFFER_BYTES_MAX, Buffers};

/// What is read at once at most where a body goes out in frames: two of the usual size, which may be written while the next
/// two are read.
const FRAMES_BYTES_MAX: usize = 32 * 1024;

/// How the receiving side learns where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// By its length, which the head tells, or by the end of the connection.
    Plain,
    /// By chunks.
    Chunked,
    /// By the frames of HTTP/2.
    Frames,
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
    /// The sender has not agreed to what the message would mean.
    #[error("the protocol was not agreed on")]
    Disagreed,
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
    /// The sender has filled the last buffer, so that there is most likely more to be read at once.
    ample: bool,
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
            ample: false,
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
        self.ample = rest.len() >= BUFFER_BYTES / 2;
        self.buffer.extend_from_slice(rest);
        self.decode(start)
    }

    /// How the receiver of this attempt learns of the end. Set before [`Pipe::head`].
    #[inline]
    pub fn encode(&mut self, encoding: Encoding) {
        self.encoding = encoding;
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
        self.sent == 0 || self.received == 0 || self.keep.is_some_and(|bytes_max| self.received <= bytes_max as u64)
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

    /// Whether all of the message has come, and it has neither payload nor trailers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_received() && self.received == 0 && self.trailers.is_empty()
    }

    /// The trailers that have come: lines, each with its CRLF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
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

    /// Whether bytes came after the end of the message.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        !self.surplus.is_empty()
    }

    /// Bytes that came after the end of the message.
    #[must_use]
    pub fn surplus(&mut self) -> &mut Vec<u8> {
        &mut self.surplus
    }

    /// Ends the pipe: its buffers are used again.
    pub fn recycle(self, buffers: &Buffers) {
        buffers.give(self.buffer);
        buffers.give(self.before);
    }

    /// Moves bytes until one side must be waited for, or all are through.
    ///
    /// # Errors
    /// See [`PipeError`].
    pub fn poll<R, W>(&mut self, context: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<(), PipeError>>
    where
        R: Source,
        W: Sink,
    {
        loop {
            // Fewer and larger writes cost both sides less; what is here does not wait for what is not.
            while self.ample && self.written == 0 && self.may_fill_more() {
                match self.poll_fill(context, source) {
                    Poll::Pending => self.ample = false,
                    Poll::Ready(result) => result?,
                }
            }
            self.wait = Wait::Sink;
            ready!(self.poll_flush(context, sink)).map_err(PipeError::Sink)?;
            if self.is_received() {
                if self.encoding == Encoding::Frames {
                    sink.finish(&self.trailers).map_err(PipeError::Sink)?;
                }
                self.finished = true;
                return Poll::Ready(Ok(()));
            }
            self.wait = Wait::Source;
            ready!(self.poll_fill(context, source))?;
        }
    }

    /// Reads the rest and drops it: nobody wants it, but its sender may not listen before it has sent all of it.
    ///
    /// # Errors
    /// See [`PipeError`].
    pub fn poll_discard<R: Source>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut R,
    ) -> Poll<Result<(), PipeError>> {
        self.keep = None;
        self.encoding = Encoding::Plain;
        while !self.is_received() {
            self.buffer.clear();
            self.wait = Wait::Source;
            ready!(self.poll_fill(context, source))?;
        }
        self.buffer.clear();
        self.payload = 0..0;
        Poll::Ready(Ok(()))
    }

    /// Whether payload can be added to what is framed already: a chunk's size is written before its data.
    fn may_fill_more(&self) -> bool {
        self.encoding != Encoding::Chunked && !self.is_received() && self.payload.len() < self.read_bytes_max()
    }

    /// Writes what is framed.
    fn poll_flush<W: Sink>(&mut self, context: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
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
                if self.encoding == Encoding::Frames {
                    let last = used == 1 && self.is_received() && self.trailers.is_empty();
                    let follows = if last { Follows::Nothing } else { Follows::Body };
                    ready!(sink.poll_send(context, &slices[0], follows))?
                } else if used == 1 {
                    ready!(Pin::new(&mut *sink).poll_write(context, &slices[0]))?
                } else {
                    ready!(Pin::new(&mut *sink).poll_write_vectored(context, &slices[..used]))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.sent += count as u64;
            self.moved = true;
        }
        ready!(Pin::new(&mut *sink).poll_flush(context))?;
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
    fn poll_fill<R: Source>(&mut self, context: &mut Context<'_>, source: &mut R) -> Poll<Result<(), PipeError>> {
        let start = self.buffer.len();
        if self.ample {
            self.buffer.reserve(self.expected());
        } else if self.buffer.capacity() - start < BUFFER_BYTES / 2 {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let room = self.buffer.capacity() - start;
        let count =
            ready!(poll_read_buf(Pin::new(&mut *source), context, &mut self.buffer)).map_err(PipeError::Source)?;
        self.moved = true;
        if count == 0 {
            return Poll::Ready(match self.decoder {
                Decoder::UntilClose => {
                    self.decoder = Decoder::Done;
                    self.trailers = source.take_trailers();
                    self.frame();
                    Ok(())
                }
                _ => Err(PipeError::Truncated),
            });
        }
        self.decode(start)?;
        self.payload.end = self.buffer.len();
        self.frame();
        self.ample = count == room;
        Poll::Ready(Ok(()))
    }

    /// How much more a sender is likely to have that has filled its buffer: the rest of the body, or twice as much.
    fn expected(&self) -> usize {
        let left = match self.decoder {
            Decoder::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => self.buffer.capacity(),
        };
        // One byte more than the rest: a read that does not fill the buffer tells that there is nothing else.
        left.saturating_add(1).clamp(BUFFER_BYTES, self.read_bytes_max())
    }

    /// How much is read at once at most. A connection of HTTP/2 has many bodies.
    fn read_bytes_max(&self) -> usize {
        if self.encoding == Encoding::Frames { FRAMES_BYTES_MAX } else { BUFFER_BYTES_MAX / 2 }
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
        if self.encoding != Encoding::Chunked {
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// A sender whose bytes come in pieces; after the last one it has closed.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn cut(bytes: &[u8], piece: usize) -> Self {
            Self(bytes.chunks(piece.max(1)).map(<[u8]>::to_vec).collect())
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let left = piece.split_off(piece.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if !left.is_empty() {
                    self.0.push_front(left);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Source for Pieces {}
    impl Sink for Narrow {}

    /// A receiver that takes a few bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn run(pipe: &mut Pipe, source: &mut Pieces, sink: &mut Narrow) -> Result<(), PipeError> {
        match pipe.poll(&mut Context::from_waker(Waker::noop()), source, sink) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("neither side ever waits here"),
        }
    }

    /// Sends `body` behind a head; its first `first` bytes came with the head.
    fn pass(
        length: BodyLength,
        encoding: Encoding,
        body: &[u8],
        first: usize,
        cuts: (usize, usize),
    ) -> (Vec<u8>, Pipe) {
        let mut pipe = Pipe::new(length, encoding, Vec::new(), None);
        pipe.begin(&body[..first]).expect("valid");
        pipe.head(b"HEAD|".to_vec());
        let (mut source, mut sink) = (Pieces::cut(&body[first..], cuts.0), Narrow(Vec::new(), cuts.1.max(1)));
        run(&mut pipe, &mut source, &mut sink).expect("valid");
        assert!(pipe.is_finished());
        assert_eq!(pipe.sent(), sink.0.len() as u64);
        (sink.0, pipe)
    }

    /// The payload of a chunked body, and its trailers.
    fn unchunked(mut bytes: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let mut decoder = ChunkedDecoder::default();
        let decoded = decoder.decode(&mut bytes).expect("what we write is valid");
        assert!(decoded.done);
        assert_eq!(decoded.consumed, bytes.len());
        (bytes[..decoded.data].to_vec(), decoder.trailers().to_vec())
    }

    proptest! {
        #[test]
        fn a_body_with_a_length_arrives_whole_however_it_is_cut(
            body in proptest::collection::vec(any::<u8>(), 0..40_000),
            first in 0usize..500, cuts in (1usize..9_000, 1usize..9_000),
        ) {
            let length = BodyLength::Length(body.len() as u64);
            let (out, _) = pass(length, Encoding::Plain, &body, first.min(body.len()), cuts);
            prop_assert_eq!(&out[..5], b"HEAD|");
            prop_assert_eq!(&out[5..], &body[..]);
        }

        #[test]
        fn a_chunked_body_arrives_whole_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3_000), 0..8),
            first in 0usize..500, cuts in (1usize..5_000, 1usize..5_000),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
            let (out, _) = pass(BodyLength::Chunked, Encoding::Chunked, &body, first.min(body.len()), cuts);
            let (payload, trailers) = unchunked(out[5..].to_vec());
            prop_assert_eq!(payload, chunks.concat());
            prop_assert_eq!(trailers, b"X-Sum: 1\r\n");
        }
    }

    #[test]
    fn what_follows_a_body_is_kept_for_the_next_message() {
        let (out, mut pipe) = pass(BodyLength::Length(3), Encoding::Plain, b"abcNEXT", 7, (1, 9));
        assert_eq!(out, b"HEAD|abc");
        assert_eq!(pipe.surplus(), b"NEXT");
    }

    #[test]
    fn a_body_that_ends_with_the_connection_gets_an_end_that_can_be_seen() {
        let (out, _) = pass(BodyLength::UntilClose, Encoding::Chunked, b"some bytes", 4, (3, 9));
        assert_eq!(unchunked(out[5..].to_vec()).0, b"some bytes");
    }

    #[test]
    fn a_body_that_ends_early_is_an_error_and_gets_no_end() {
        for (length, body) in [(BodyLength::Length(9), &b"abc"[..]), (BodyLength::Chunked, b"3\r\nabc\r\n")] {
            let mut pipe = Pipe::new(length, Encoding::Chunked, Vec::new(), None);
            pipe.head(Vec::new());
            let mut sink = Narrow(Vec::new(), 100);
            let result = run(&mut pipe, &mut Pieces::cut(body, 100), &mut sink);
            assert!(matches!(result, Err(PipeError::Truncated)), "{length:?}");
            assert!(!sink.0.ends_with(write::LAST_CHUNK), "{length:?}");
        }
    }

    #[test]
    fn a_kept_body_goes_out_again_from_its_first_byte() {
        let mut pipe = Pipe::new(BodyLength::Length(10), Encoding::Plain, Vec::new(), None);
        pipe.keep(10);
        pipe.begin(b"01234").expect("valid");
        pipe.head(b"A|".to_vec());
        let mut source = Pieces::cut(b"56789", 2);
        run(&mut pipe, &mut source, &mut Narrow(Vec::new(), 3)).expect("valid");
        assert!(pipe.can_restart());
        pipe.restart();
        pipe.head(b"B|".to_vec());
        let mut again = Narrow(Vec::new(), 4);
        run(&mut pipe, &mut source, &mut again).expect("valid");
        assert_eq!(again.0, b"B|0123456789");
    }

    #[test]
    fn a_body_that_is_too_long_to_keep_cannot_go_out_again() {
        let mut pipe = Pipe::new(BodyLength::Length(11), Encoding::Plain, Vec::new(), None);
        pipe.keep(10);
        pipe.head(Vec::new());
        let mut sink = Narrow(Vec::new(), 100);
        run(&mut pipe, &mut Pieces::cut(b"0123456789x", 4), &mut sink).expect("valid");
        assert_eq!(sink.0, b"0123456789x");
        assert!(!pipe.can_restart());
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        let mut pipe = Pipe::new(BodyLength::Chunked, Encoding::Chunked, Vec::new(), Some(3));
        assert!(matches!(pipe.begin(b"4\r\nabcd\r\n"), Err(PipeError::TooLarge)));
    }
}
