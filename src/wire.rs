//! What the bytes of a client or of an instance go through: a socket, alone or below TLS, or one stream of HTTP/2.
//!
//! One type for all of them, so that whatever moves messages is written once; the choice costs one branch. Writing is not
//! sending here: TLS keeps what the socket did not take, so that whoever has written all must flush.

use std::io::{self, BufRead, IoSlice, Read};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::http2::head::Follows;
use crate::http2::stream::Stream;
use crate::tls::session::Session;

/// A connection as a stream of bytes.
#[derive(Debug)]
pub enum Wire {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted, after the handshake. Boxed: an idle plain connection must stay small.
    Tls(Box<TlsStream<TcpStream>>),
    /// The body of one message, and the one that answers it. The connection below belongs to somebody else.
    H2(Box<Stream>),
}

/// Where a body comes from.
pub trait Source: AsyncRead + Unpin {
    /// The trailers that came with the end, as lines, each with its CRLF; none where they come as bytes.
    fn take_trailers(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// Where a body goes to.
pub trait Sink: AsyncWrite + Unpin {
    /// Writes some of `bytes`. Where an end is more than the end of the connection, it goes out with them if nothing
    /// [`Follows`].
    ///
    /// # Errors
    /// The receiver is gone.
    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8], _follows: Follows) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(context, bytes)
    }

    /// Says that this was all, with trailers if there are any: lines, each with its CRLF.
    ///
    /// # Errors
    /// The receiver is gone.
    fn finish(&mut self, _trailers: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Wire {
    fn take_trailers(&mut self) -> Vec<u8> {
        match self {
            Self::H2(stream) => stream.take_trailers(),
            Self::Plain(_) | Self::Tls(_) => Vec::new(),
        }
    }
}

impl Sink for Wire {
    #[inline]
    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8], follows: Follows) -> Poll<io::Result<usize>> {
        match self {
            Self::H2(stream) => stream.poll_send(context, bytes, follows),
            Self::Plain(_) | Self::Tls(_) => Pin::new(self).poll_write(context, bytes),
        }
    }

    fn finish(&mut self, trailers: &[u8]) -> io::Result<()> {
        match self {
            Self::H2(stream) => stream.finish(trailers),
            Self::Plain(_) | Self::Tls(_) => Ok(()),
        }
    }
}

/// What every kind of [`Wire`] can do.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

/// What has happened on a connection on which nobody waits for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing.
    Yes,
    /// It has ended, or is broken.
    Ended,
    /// Bytes came that nobody asked for.
    Unasked,
}

impl Wire {
    /// The socket below, if it is ours alone.
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::H2(_) => None,
        }
    }

    /// What TLS has agreed on with a client; `None`: there is none.
    #[must_use]
    pub fn session(&self) -> Option<Session<'_>> {
        match self {
            Self::Tls(stream) => match &**stream {
                TlsStream::Server(stream) => Some(Session::of(stream.get_ref().1)),
                TlsStream::Client(_) => None,
            },
            _ => None,
        }
    }

    /// The chain that a client has shown and the handshake verified, its own certificate first; empty where it has not.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        let chain = match self {
            Self::Tls(stream) => match &**stream {
                TlsStream::Server(stream) => stream.get_ref().1.peer_certificates(),
                TlsStream::Client(_) => None,
            },
            _ => None,
        };
        chain.unwrap_or_default().iter().map(AsRef::as_ref)
    }

    /// The stream by what all kinds have in common. Not inlined, so that what moves bytes is short enough to be: on a plain
    /// socket, which most are, the choice costs one branch then, and 170 instructions less per request.
    #[inline(never)]
    fn inner(&mut self) -> Pin<&mut dyn Bytes> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            Self::Tls(stream) => Pin::new(&mut **stream),
            Self::H2(stream) => Pin::new(&mut **stream),
        }
    }

    /// What ALPN came to.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => match &**stream {
                TlsStream::Server(stream) => stream.get_ref().1.alpn_protocol(),
                TlsStream::Client(stream) => stream.get_ref().1.alpn_protocol(),
            },
            Self::Plain(_) | Self::H2(_) => None,
        }
    }

    /// Waits until reading is worth while: there are bytes, an end, or an error. Below TLS it may turn out that what came
    /// was not for us, so that the read has to wait again. On a stream of HTTP/2 it is asked when the body has come, so that
    /// only a reset can follow.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(context),
            layered => layered.poll_read_ready_above(context),
        }
    }

    #[inline(never)]
    fn poll_read_ready_above(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(context),
            Self::Tls(stream) => {
                // What the last read decrypted beyond what it returned: the socket knows nothing of it.
                let holds = match &mut **stream {
                    TlsStream::Server(stream) => holds_plaintext(stream.get_mut().1),
                    TlsStream::Client(stream) => holds_plaintext(stream.get_mut().1),
                };
                if holds { Poll::Ready(Ok(())) } else { stream.get_ref().0.poll_read_ready(context) }
            }
            Self::H2(stream) => stream.poll_reset(context).map(Err),
        }
    }

    /// Whether an unused connection is still as it was left. Costs no system call while it is: the readiness that the last
    /// poll left behind tells it.
    pub fn quiet(&mut self) -> Quiet {
        match self {
            Self::Plain(socket) => match socket.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Quiet::Yes,
                Ok(1..) => Quiet::Unasked,
                Ok(_) | Err(_) => Quiet::Ended,
            },
            Self::Tls(stream) => match &mut **stream {
                TlsStream::Server(stream) => {
                    let (socket, session) = stream.get_mut();
                    quiet_below(socket, session)
                }
                TlsStream::Client(stream) => {
                    let (socket, session) = stream.get_mut();
                    quiet_below(socket, session)
                }
            },
            // Nothing can follow a message here.
            Self::H2(_) => Quiet::Ended,
        }
    }

    /// Whether the peer has reset the connection, or it broke: shows also while bytes are there that nobody reads. Costs no
    /// system call: the runtime keeps the readiness up to date. It wakes nobody, so ask again ([`Alarm::look_again`]).
    ///
    /// [`Alarm::look_again`]: crate::worker::alarm::Alarm::look_again
    pub fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
            Self::H2(stream) => return stream.poll_reset(context).is_ready(),
        };
        let state = pin!(socket.ready(Interest::WRITABLE));
        match state.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(state) => state.map_or(true, Ready::is_write_closed),
            Poll::Pending => false,
        }
    }

    /// How the kernel ends the connection when it is dropped: `None`, in order, after all that was written; zero, at once,
    /// so that the peer sees that something is missing. A stream of HTTP/2 that is dropped before its end is reset anyway.
    ///
    /// # Errors
    /// The connection is broken already.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| socket2::SockRef::from(socket).set_linger(linger))
    }
}

/// Whether decrypted bytes, or the end of them, wait to be read.
fn holds_plaintext<D>(session: &mut ConnectionCommon<D>) -> bool {
    !matches!(session.reader().fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// [`Wire::quiet`] below TLS: what comes may be session tickets and key updates, which are no bytes of ours.
fn quiet_below<D: SideData>(socket: &TcpStream, session: &mut ConnectionCommon<D>) -> Quiet {
    // Decrypted with the last bytes that somebody asked for, and not read by them.
    match session.reader().fill_buf() {
        Ok([]) => return Quiet::Ended,
        Ok(_) => return Quiet::Unasked,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => return Quiet::Ended,
    }
    loop {
        match session.read_tls(&mut TryRead(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Quiet::Yes,
            Ok(0) | Err(_) => return Quiet::Ended,
            Ok(_) => {}
        }
        match session.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() > 0 => return Quiet::Unasked,
            Ok(state) if !state.peer_has_closed() => {}
            _ => return Quiet::Ended,
        }
    }
}

/// Reads what is there, without waiting for more.
struct TryRead<'a>(&'a TcpStream);

impl Read for TryRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl AsyncRead for Wire {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            layered => layered.inner().poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            layered => layered.inner().poll_write(context, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            layered => layered.inner().poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            layered => layered.inner().poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::H2(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
