//! What lies between `h2` and a connection: gathers what is written, and shows a guard what is read.
//!
//! `h2` writes each DATA frame by itself. Frames of many streams that fit into a buffer leave here in one write when the
//! connection has nothing more to do: with a hundred requests under way that is a hundredth of the system calls, and below
//! TLS a few large records instead of many small ones.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Flood, Guard};
use crate::wire::Wire;

/// What is gathered at most; more than that goes out at once. Two TLS records.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// What is read and dropped in one turn of a connection that is over.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;

/// A connection as `h2` sees it. Whoever drives `h2` keeps the other handle.
#[derive(Clone)]
pub(super) struct Io(Rc<RefCell<Inner>>);

struct Inner {
    wire: Wire,
    /// What was read before the connection was known to be one of HTTP/2, and how much of it has been read again.
    ahead: Vec<u8>,
    ahead_read: usize,
    /// What was gathered, and how much of it is written.
    gathered: Vec<u8>,
    written: usize,
    /// Whether the client has closed its sending side, and whether `h2` may know: it takes that for the end of everything.
    ended: bool,
    end_shows: bool,
    guard: Guard,
    flood: Option<Flood>,
}

impl Io {
    pub(super) fn new(wire: Wire, ahead: Vec<u8>, guard: Guard) -> Self {
        let inner = Inner {
            wire,
            ahead,
            ahead_read: 0,
            gathered: Vec::new(),
            written: 0,
            ended: false,
            end_shows: false,
            guard,
            flood: None,
        };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// What there was too much of. Nothing is read any more then.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.0.borrow().flood
    }

    /// A new window of time begins for what is counted.
    pub(super) fn renew(&self) {
        self.0.borrow_mut().guard.renew();
    }

    /// Reads and drops what comes, so that the kernel does not reset the connection over what was never read, and take our
    /// last word with it.
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        let mut scratch = [0; 4096];
        let mut left = DISCARD_BYTES_MAX;
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut inner.wire).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() && left > 0 => left = left.saturating_sub(buffer.filled().len()),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Whether the client has closed its sending side.
    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// Lets `h2` see the end.
    pub(super) fn show_end(&self) {
        self.0.borrow_mut().end_shows = true;
    }

    /// Writes what was gathered.
    pub(super) fn poll_write_out(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_write_gathered(context))?;
        Pin::new(&mut inner.wire).poll_flush(context)
    }
}

impl Inner {
    fn poll_write_gathered(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let count = ready!(Pin::new(&mut self.wire).poll_write(context, &self.gathered[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.gathered.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let ahead = &inner.ahead[inner.ahead_read..];
        if !ahead.is_empty() {
            let count = ahead.len().min(buffer.remaining());
            buffer.put_slice(&ahead[..count]);
            inner.flood = inner.guard.look(&ahead[..count]).err();
            inner.ahead_read += count;
            if inner.ahead_read == inner.ahead.len() {
                inner.ahead = Vec::new();
                inner.ahead_read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if inner.flood.is_some() {
            return Poll::Pending;
        }
        if !inner.ended {
            let filled = buffer.filled().len();
            ready!(Pin::new(&mut inner.wire).poll_read(context, buffer))?;
            inner.ended = buffer.filled().len() == filled;
            if let Err(flood) = inner.guard.look(&buffer.filled()[filled..]) {
                inner.flood = Some(flood);
                buffer.set_filled(filled);
                return Poll::Pending;
            }
        }
        if inner.ended && !inner.end_shows { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if inner.gathered.len() + total > GATHERED_BYTES_MAX {
            ready!(inner.poll_write_gathered(context))?;
            if total > GATHERED_BYTES_MAX {
                let count = ready!(Pin::new(&mut inner.wire).poll_write_vectored(context, slices))?;
                inner.guard.sent(count);
                return Poll::Ready(Ok(count));
            }
        }
        inner.guard.sent(total);
        for slice in slices {
            inner.gathered.extend_from_slice(slice);
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Not yet: see [`Io::poll_write_out`].
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(context))?;
        Pin::new(&mut self.0.borrow_mut().wire).poll_shutdown(context)
    }
}
