//! What lies between `h2` and a shared connection: notes when the instance was heard last, and whether it speaks HTTP/2.
//!
//! RFC 9113 section 3.4: the first frame of a server is SETTINGS. Until it is there nothing is known of the peer, least of
//! all that it speaks HTTP/2, so no request goes out before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::link::Link;
use crate::wire::Wire;

/// Length, type, flags, stream (RFC 9113 section 4.1).
const FRAME_HEAD_BYTES: usize = 9;

/// Of SETTINGS, by section 6.5.
const SETTINGS: u8 = 4;

/// A shared connection's bytes.
pub(super) struct Watched<'a> {
    wire: &'a mut Wire,
    link: &'a Link,
    greeting: Greeting,
}

impl<'a> Watched<'a> {
    pub(super) fn new(wire: &'a mut Wire, link: &'a Link) -> Self {
        Self { wire, link, greeting: Greeting::default() }
    }
}

/// The first frame, as it comes.
#[derive(Debug, Default)]
struct Greeting {
    head: [u8; FRAME_HEAD_BYTES],
    seen: usize,
}

impl Greeting {
    /// Takes in what was read. Returns whether all of a first frame that is SETTINGS has come.
    fn is_whole(&mut self, bytes: &[u8]) -> bool {
        let begin = self.seen.min(FRAME_HEAD_BYTES);
        let more = bytes.len().min(FRAME_HEAD_BYTES - begin);
        self.head[begin..begin + more].copy_from_slice(&bytes[..more]);
        self.seen += bytes.len();
        let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
        self.head[3] == SETTINGS && self.seen >= FRAME_HEAD_BYTES + length
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *this.wire).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        if !fresh.is_empty() {
            this.link.heard();
            if !this.link.has_greeted() && this.greeting.is_whole(fresh) {
                this.link.greeted();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_frame_of_settings_is_a_greeting_however_it_is_cut() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
        for cut in 0..settings.len() {
            let mut greeting = Greeting::default();
            assert!(!greeting.is_whole(&settings[..cut]), "{cut}");
            assert!(greeting.is_whole(&settings[cut..]), "{cut}");
        }
        assert!(!Greeting::default().is_whole(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        assert!(!Greeting::default().is_whole(&[0, 0, 0, 7, 0, 0, 0, 0, 0]), "GOAWAY");
    }
}
