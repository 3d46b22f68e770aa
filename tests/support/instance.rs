//! A fake instance: an HTTP/1 server of raw sockets and threads that does exactly what a test wants.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Head, Trailers, Wire};
use super::ports;
use super::wait::{BOUND, millis, pause};

/// A request that an instance got; probes are counted apart.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: Head,
    /// `None` while it has not come whole.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: Trailers,
    /// Number of the connection that it came on.
    pub(crate) connection: u64,
}

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    KeepAlive,
    Close,
    Reset,
}

type Handler = Arc<dyn Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync>;

/// A fake instance. It lives until dropped.
pub(crate) struct Instance(Arc<Inner>);

struct Inner {
    name: String,
    address: SocketAddr,
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    changed: Condvar,
    probes: AtomicU64,
    accepted: AtomicU64,
    connections: Mutex<HashMap<u64, TcpStream>>,
    run: Mutex<Option<Arc<AtomicBool>>>,
}

#[derive(Clone)]
struct Behaviour {
    health: Handler,
    serve: Handler,
    delay: Duration,
}

impl Instance {
    /// A healthy one that answers 200 with its name.
    pub(crate) fn named(name: &str) -> Self {
        Self::at(name, ports::free())
    }

    /// As [`Instance::named`], at a given address.
    pub(crate) fn at(name: &str, address: SocketAddr) -> Self {
        let instance = Self::stopped(name, address);
        instance.start();
        instance
    }

    /// One that does not listen yet.
    pub(crate) fn stopped(name: &str, address: SocketAddr) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            address,
            behaviour: Mutex::new(Behaviour {
                health: Arc::new(|exchange| exchange.respond(200, "", b"ok")),
                serve: Arc::new(|exchange: &mut Exchange<'_>| exchange.answer_with_name()),
                delay: Duration::ZERO,
            }),
            received: Mutex::default(),
            changed: Condvar::new(),
            probes: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            connections: Mutex::default(),
            run: Mutex::default(),
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    // What it does.

    /// Fails probes with 503.
    pub(crate) fn unhealthy(self) -> Self {
        self.set_health(503, "no");
        self
    }

    /// Answers everything but probes that much later.
    pub(crate) fn slow(self, delay: Duration) -> Self {
        lock(&self.0.behaviour).delay = delay;
        self
    }

    /// Answers everything but probes with these bytes, and keeps the connection.
    pub(crate) fn answering(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.answering_then(bytes, Then::KeepAlive)
    }

    /// Answers everything but probes with these bytes.
    pub(crate) fn answering_then(self, bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        let bytes = bytes.into();
        self.serving(move |exchange| {
            exchange.read_body()?;
            exchange.write(&bytes)?;
            Ok(then)
        })
    }

    /// Answers everything but probes by a function, which is called when a head is there.
    pub(crate) fn serving(self, serve: impl Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        self.serve(serve);
        self
    }

    /// As [`Instance::serving`], from now on.
    pub(crate) fn serve(&self, serve: impl Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync + 'static) {
        lock(&self.0.behaviour).serve = Arc::new(serve);
    }

    /// Answers probes by a function.
    pub(crate) fn probed(self, health: impl Fn(&mut Exchange<'_>) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        lock(&self.0.behaviour).health = Arc::new(health);
        self
    }

    /// Answers probes with this from now on.
    pub(crate) fn set_health(&self, status: u16, body: &str) {
        let body = body.to_owned();
        lock(&self.0.behaviour).health = Arc::new(move |exchange| exchange.respond(status, "", body.as_bytes()));
    }

    /// Takes probes and never answers them, from now on.
    pub(crate) fn hang_probes(&self) {
        lock(&self.0.behaviour).health = Arc::new(|exchange| {
            exchange.wait_for_end();
            Ok(Then::Close)
        });
    }

    // Its life.

    /// Listens (again).
    pub(crate) fn start(&self) {
        let listener =
            super::wait::eventually("the instance's port is free", || TcpListener::bind(self.0.address).ok());
        let running = Arc::new(AtomicBool::new(true));
        *lock(&self.0.run) = Some(Arc::clone(&running));
        let inner = Arc::clone(&self.0);
        std::thread::spawn(move || accept(&inner, &listener, &running));
    }

    /// Ends as a killed process does: the port refuses, connections are cut.
    pub(crate) fn stop(&self) {
        let Some(running) = lock(&self.0.run).take() else { return };
        running.store(false, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect_timeout(&self.0.address, BOUND));
        super::wait::eventually("the instance refuses", || {
            TcpStream::connect_timeout(&self.0.address, BOUND).is_err().then_some(())
        });
        self.cut_connections();
    }

    /// Closes every connection that it has.
    pub(crate) fn cut_connections(&self) {
        for (_, stream) in lock(&self.0.connections).drain() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    // What it saw.

    /// All requests but probes.
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.0.received).clone()
    }

    /// How many requests but probes.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0.received).len()
    }

    /// The last request.
    #[track_caller]
    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("a request")
    }

    /// Forgets the requests that it got.
    pub(crate) fn forget(&self) {
        lock(&self.0.received).clear();
    }

    /// Waits until it got that many requests.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Received> {
        let received = lock(&self.0.received);
        let (received, timeout) = self
            .0
            .changed
            .wait_timeout_while(received, BOUND, |received| received.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {count} requests came", received.len());
        received.clone()
    }

    /// How many probes.
    pub(crate) fn probes(&self) -> u64 {
        self.0.probes.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        lock(&self.0.connections).len()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(running) = lock(&self.0.run).take() {
            running.store(false, Ordering::SeqCst);
            drop(TcpStream::connect_timeout(&self.0.address, millis(500)));
        }
        self.cut_connections();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(inner: &Arc<Inner>, listener: &TcpListener, running: &AtomicBool) {
    while running.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else { continue };
        if !running.load(Ordering::SeqCst) {
            return;
        }
        let number = inner.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(copy) = stream.try_clone() else { continue };
        lock(&inner.connections).insert(number, copy);
        let inner = Arc::clone(inner);
        std::thread::spawn(move || {
            converse(&inner, stream, number);
            lock(&inner.connections).remove(&number);
        });
    }
}

/// One connection, first byte to end.
fn converse(inner: &Inner, stream: TcpStream, number: u64) {
    let mut wire = Wire::new(stream, super::wait::seconds(120));
    loop {
        let Ok(Some(head)) = wire.read_head() else { return };
        let probe = head.word(1) == "/health" && !head.has("via");
        let behaviour = lock(&inner.behaviour).clone();
        let index = if probe {
            inner.probes.fetch_add(1, Ordering::SeqCst);
            None
        } else {
            let mut received = lock(&inner.received);
            received.push(Received { head: head.clone(), body: None, trailers: Vec::new(), connection: number });
            inner.changed.notify_all();
            Some(received.len() - 1)
        };
        let mut exchange = Exchange { head, inner, index, wire: &mut wire, body: None };
        let then = if probe {
            (behaviour.health)(&mut exchange)
        } else {
            pause(behaviour.delay);
            (behaviour.serve)(&mut exchange)
        };
        match then {
            Ok(Then::KeepAlive) => {}
            Ok(Then::Reset) => {
                lock(&inner.connections).remove(&number);
                return wire.reset();
            }
            Ok(Then::Close) => {
                // An orderly end, even where bytes were left unread: the copy in `connections` would keep it open.
                drop(wire.stream().shutdown(Shutdown::Write));
                return;
            }
            Err(_) => return drop(wire.stream().shutdown(Shutdown::Both)),
        }
    }
}

/// One request at an instance, and the way to answer it.
pub(crate) struct Exchange<'a> {
    pub(crate) head: Head,
    inner: &'a Inner,
    index: Option<usize>,
    /// For what has no method here.
    pub(crate) wire: &'a mut Wire,
    body: Option<Vec<u8>>,
}

impl Exchange<'_> {
    /// The request's body, read on the first call.
    pub(crate) fn read_body(&mut self) -> io::Result<Vec<u8>> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        if self.head.has("expect") {
            self.wire.write("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (body, trailers) = self.wire.read_request_body(&self.head)?;
        if let Some(index) = self.index {
            let mut received = lock(&self.inner.received);
            if let Some(entry) = received.get_mut(index) {
                entry.body = Some(body.clone());
                entry.trailers = trailers;
            }
            self.inner.changed.notify_all();
        }
        self.body = Some(body.clone());
        Ok(body)
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.write(bytes)
    }

    /// A whole response after the whole request; `fields` as lines with their ends.
    pub(crate) fn respond(&mut self, status: u16, fields: &str, body: &[u8]) -> io::Result<Then> {
        self.read_body()?;
        let length = body.len();
        let name = &self.inner.name;
        let mut bytes =
            format!("HTTP/1.1 {status} Fine\r\nContent-Length: {length}\r\nInstance: {name}\r\n{fields}\r\n");
        if self.head.word(0) == "HEAD" || matches!(status, 204 | 304) {
            self.wire.write(bytes)?;
        } else {
            bytes.push_str(&String::from_utf8_lossy(body));
            self.wire.write(bytes)?;
        }
        Ok(Then::KeepAlive)
    }

    fn answer_with_name(&mut self) -> io::Result<Then> {
        let body = self.inner.name.clone();
        self.respond(200, "", body.as_bytes())
    }

    /// Waits until the proxy ends its side or the connection breaks; returns how long that took.
    pub(crate) fn wait_for_end(&mut self) -> Duration {
        let begin = Instant::now();
        while matches!(self.wire.fill(), Ok(true)) {}
        begin.elapsed()
    }
}
