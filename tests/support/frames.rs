//! A fake instance that speaks HTTP/2 frame by frame, and does exactly what a test wants: also what no library would send.
//!
//! It reads the frames of a client without looking into their header blocks, and writes blocks without compression.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ports;
use super::wait::eventually;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// Of SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const CANCEL: u32 = 8;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;

/// A frame that came from the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Whether a stream's request ends with it.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Whether a request begins with it.
    pub(crate) fn begins(&self) -> bool {
        self.kind == HEADERS
    }
}

/// One connection of the proxy, as a script sees it.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Counted from 1; those without a request, as of probes, are not counted.
    pub(crate) connection: usize,
}

impl Peer {
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes)
    }

    /// A response head; `:status` is among the fields.
    pub(crate) fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> io::Result<()> {
        self.frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// A whole response of this text.
    pub(crate) fn answer(&mut self, stream: u32, text: &str) -> io::Result<()> {
        self.head(stream, 0, &[(":status", "200")])?;
        self.frame(DATA, END_STREAM, stream, text.as_bytes())
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub(crate) fn goaway(&mut self, last: u32, code: u32) -> io::Result<()> {
        self.frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both)
    }
}

/// A header block without compression: literals that are not indexed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "lengths of one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// What an instance does with each frame that is no SETTINGS and no PING.
type Script = Arc<dyn Fn(&mut Peer, &Frame) -> io::Result<()> + Send + Sync>;

/// The instance. It lives until dropped.
pub(crate) struct Frames {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// With the number of their connection.
    frames: Mutex<Vec<(usize, Frame)>>,
    connections: Mutex<usize>,
    stopped: AtomicBool,
    /// Whether pings and settings are not answered.
    mute: AtomicBool,
}

impl Frames {
    /// Greets with these settings, then follows the script.
    pub(crate) fn with_settings(
        settings: &[(u16, u32)],
        script: impl Fn(&mut Peer, &Frame) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = ports::free();
        let listener = TcpListener::bind(address).expect("a free port");
        let (seen, script): (Arc<Seen>, Script) = (Arc::default(), Arc::new(script));
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let of_thread = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let (seen, script, payload) = (Arc::clone(&of_thread), Arc::clone(&script), payload.clone());
                std::thread::spawn(move || {
                    // The proxy may be gone in the middle of a frame.
                    let _gone = converse(stream, &seen, &script, &payload).is_err();
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn new(script: impl Fn(&mut Peer, &Frame) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::with_settings(&[], script)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing is answered, as if the machine had lost its power.
    pub(crate) fn mute(&self) {
        self.seen.mute.store(true, Ordering::Relaxed);
    }

    /// Connections on which there was a request.
    pub(crate) fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frames that came, with the number of their connection.
    pub(crate) fn frames(&self) -> Vec<(usize, Frame)> {
        self.seen.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that began.
    pub(crate) fn requests(&self) -> usize {
        self.frames().iter().filter(|(_, frame)| frame.begins()).count()
    }

    /// Waits for a frame.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        eventually(what, || self.frames().into_iter().map(|(_, frame)| frame).find(|frame| wanted(frame)))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _refused = TcpStream::connect(self.address).is_err();
    }
}

fn converse(mut stream: TcpStream, seen: &Seen, script: &Script, settings: &[u8]) -> io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    assert_eq!(preface, PREFACE);
    let mut peer = Peer { stream: stream.try_clone()?, connection: 0 };
    peer.frame(SETTINGS, 0, 0, settings)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream: number, payload };
        if seen.mute.load(Ordering::Relaxed) {
            continue;
        }
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => peer.frame(SETTINGS, ACK, 0, &[])?,
            (PING, 0) => peer.frame(PING, ACK, 0, &frame.payload)?,
            _ => {}
        }
        if frame.begins() && peer.connection == 0 {
            let mut connections = seen.connections.lock().unwrap_or_else(PoisonError::into_inner);
            *connections += 1;
            peer.connection = *connections;
        }
        seen.frames.lock().unwrap_or_else(PoisonError::into_inner).push((peer.connection, frame.clone()));
        if !matches!(frame.kind, SETTINGS | PING) {
            script(&mut peer, &frame)?;
        }
    }
}
