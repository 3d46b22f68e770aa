//! A client with control of each byte.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::message::{Response, Wire};
use super::wait::{BOUND, millis, seconds};

/// One connection to a listener.
pub(crate) struct Client {
    /// For what has no method here.
    pub(crate) wire: Wire,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, BOUND)?;
        Ok(Self { wire: Wire::new(stream, BOUND + seconds(5)) })
    }

    /// With another bound for its reads.
    pub(crate) fn patient(self, timeout: Duration) -> Self {
        self.wire.set_timeout(timeout);
        self
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.write(bytes).expect("send to the proxy");
        self
    }

    /// The response to a GET, or to anything else that has a body by its head.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The response to a request with this method.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.wire.read_response_to(method).unwrap_or_else(|error| {
            panic!("no whole response: {error}; unread: {:?}", String::from_utf8_lossy(self.wire.buffered()))
        })
    }

    /// Sends a GET on this connection, which stays open, and reads the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// Sends a POST on this connection, which stays open, and reads the answer.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Response {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .response()
    }

    /// Asserts that the proxy ends the connection, without another byte.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        match self.wire.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }

    /// Whether the proxy has ended the connection by now.
    pub(crate) fn ended(&mut self) -> bool {
        self.wire.set_timeout(millis(1));
        let ended = match self.wire.fill() {
            Ok(more) => !more,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.wire.set_timeout(BOUND);
        ended
    }

    /// Asserts that no byte comes and the connection stays open for that long.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, span: Duration) {
        self.wire.set_timeout(span);
        match self.wire.fill() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Ok(true) => panic!("unexpected bytes: {:?}", String::from_utf8_lossy(self.wire.buffered())),
            other => panic!("the connection ended: {other:?}"),
        }
        self.wire.set_timeout(BOUND);
    }
}
