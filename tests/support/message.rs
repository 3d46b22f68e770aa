//! HTTP/1 messages as tests see them: a reader of its own, strict about framing, blind to meaning.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Names and values behind a chunked body.
pub(crate) type Trailers = Vec<(String, String)>;

/// A message head: start line and fields as they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// Without its line end.
    pub(crate) start: String,
    /// Names as sent, values without the space around them.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.strip_suffix("\r\n\r\n").ok_or_else(|| malformed("head"))?.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(|| malformed(line))?;
                Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { start, fields })
    }

    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether there is a field of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// Word `index` of the start line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    fn chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> io::Result<Option<usize>> {
        match self.all("content-length")[..] {
            [] => Ok(None),
            [one] => one.parse().map(Some).map_err(|_| malformed(one)),
            _ => Err(malformed("two lengths")),
        }
    }
}

/// A whole response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    /// Its head.
    pub(crate) head: Head,
    /// Decoded from its transfer coding.
    pub(crate) body: Vec<u8>,
    /// Of a chunked body.
    pub(crate) trailers: Trailers,
    /// 1xx responses before it.
    pub(crate) interim: Vec<Head>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        status(&self.head)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The cause code in `Proxy-Status`; empty when an instance answered.
    pub(crate) fn cause(&self) -> String {
        let value = self.field("proxy-status").unwrap_or_default();
        let details = value.split_once("details=").map(|(_, rest)| rest.split(';').next().unwrap_or(rest));
        details.unwrap_or_default().trim_matches('"').to_owned()
    }

    /// Whether the connection is announced to end.
    pub(crate) fn closes(&self) -> bool {
        self.head.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("close"))
    }
}

fn status(head: &Head) -> u16 {
    head.word(1).parse().unwrap_or(0)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed: {what:?}"))
}

fn ended(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("ended within {what}"))
}

/// What bytes go through.
pub(crate) trait Stream: Read + Write + Send {
    /// Says that no more follows.
    fn end_sending(&mut self) -> io::Result<()>;
}

/// One end of a connection: bytes out as they are, messages in.
pub(crate) struct Wire {
    stream: TcpStream,
    /// What is above the socket; `None`: nothing.
    above: Option<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, timeout: Duration) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(timeout)).expect("a read timeout");
        stream.set_write_timeout(Some(timeout)).expect("a write timeout");
        Self { stream, above: None, buffer: Vec::new() }
    }

    /// Bytes go through `above`, which has the same socket.
    pub(crate) fn above(above: Box<dyn Stream>, stream: TcpStream, timeout: Duration) -> Self {
        Self { above: Some(above), ..Self::new(stream, timeout) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What was read and not used yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("a read timeout");
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.above {
            Some(above) => above.write_all(bytes.as_ref()).and_then(|()| above.flush()),
            None => self.stream.write_all(bytes.as_ref()),
        }
    }

    /// Ends the sending side.
    pub(crate) fn half_close(&mut self) -> io::Result<()> {
        if let Some(above) = &mut self.above {
            above.end_sending()?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset instead of an orderly end.
    pub(crate) fn reset(self) {
        drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    /// Reads more; `false` at the end.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = loop {
            let read = match &mut self.above {
                Some(above) => above.read(&mut bytes),
                None => self.stream.read(&mut bytes),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Reads a head; `None` when the connection ends before its first byte.
    pub(crate) fn read_head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ended("a head")) };
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..end).collect();
        Head::parse(&raw).map(Some)
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill()? {
                return Err(ended("a body"));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer) {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                if !line.ends_with(b"\r\n") {
                    return Err(malformed("a bare line feed"));
                }
                line.truncate(line.len() - 2);
                return Ok(line);
            }
            if !self.fill()? {
                return Err(ended("a line"));
            }
        }
    }

    /// Reads a chunked body with its trailers.
    pub(crate) fn read_chunked(&mut self) -> io::Result<(Vec<u8>, Trailers)> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.read_line()?).into_owned();
            let digits = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16).map_err(|_| malformed(&line))?;
            if size == 0 {
                break;
            }
            body.extend(self.read_exactly(size)?);
            if !self.read_line()?.is_empty() {
                return Err(malformed("no line end after chunk data"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.read_line()?).into_owned();
            if line.is_empty() {
                return Ok((body, trailers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
            trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads until the other side ends.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// The body of a request with this head, and its trailers.
    pub(crate) fn read_request_body(&mut self, head: &Head) -> io::Result<(Vec<u8>, Trailers)> {
        if head.chunked() {
            return self.read_chunked();
        }
        Ok((self.read_exactly(head.length()?.unwrap_or(0))?, Vec::new()))
    }

    /// The response to a request with this method, 1xx ones before it included.
    pub(crate) fn read_response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut response = Response::default();
        loop {
            response.head = self.read_head()?.ok_or_else(|| ended("nothing: no response at all"))?;
            match status(&response.head) {
                101 => return Ok(response),
                100..=199 => response.interim.push(std::mem::take(&mut response.head)),
                _ => break,
            }
        }
        let none = method == "HEAD" || matches!(response.status(), 204 | 304);
        if none {
            return Ok(response);
        }
        if response.head.chunked() {
            (response.body, response.trailers) = self.read_chunked()?;
        } else if let Some(length) = response.head.length()? {
            response.body = self.read_exactly(length)?;
        } else {
            response.body = self.read_to_end()?;
        }
        Ok(response)
    }
}
