//! An instance in a process of its own, which can be killed, stopped and made unreachable.
//!
//! The process is this test binary again, told by its environment to serve. It appends the id of each request to a file
//! before it answers, so that what reached it is known after any kind of death.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use super::instance::Instance;
use super::wait::{eventually, millis, pause};
use super::{ports, proxy};

const ADDRESS: &str = "PLIMSOLL_TEST_INSTANCE_ADDRESS";
const RECORD: &str = "PLIMSOLL_TEST_INSTANCE_RECORD";

/// An instance in a process of its own.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    folder: Folder,
    child: Option<Child>,
    hole: Option<Blackhole>,
}

impl Process {
    pub(crate) fn start(name: &str) -> Self {
        let mut process =
            Self { name: name.to_owned(), address: ports::free(), folder: Folder::new(), child: None, hole: None };
        process.restart();
        process
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("record")
    }

    /// Ids of all requests that reached it, in all of its lives.
    pub(crate) fn ids(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.record()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A new process at the same address, whatever became of the last.
    pub(crate) fn restart(&mut self) {
        self.hole = None;
        self.kill_and_wait();
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "support::process::serves_when_told_to", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ADDRESS, self.address.to_string())
            .env(RECORD, self.record())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test, again");
        self.child = Some(child);
        eventually("the instance's process listens", || TcpStream::connect_timeout(&self.address, millis(200)).ok());
    }

    /// `kill -9`, without waiting for its end: several can be killed at once.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
        }
    }

    fn kill_and_wait(&mut self) {
        self.kill();
        if let Some(mut child) = self.child.take() {
            drop(child.wait());
        }
    }

    /// `kill -STOP`: it keeps its connections and does nothing.
    pub(crate) fn freeze(&self) {
        proxy::signal(self.child.as_ref().expect("a running process").id(), "STOP");
    }

    /// `kill -CONT`.
    pub(crate) fn thaw(&self) {
        proxy::signal(self.child.as_ref().expect("a running process").id(), "CONT");
    }

    /// Killed, and then a host that drops every packet of a new connection.
    pub(crate) fn blackhole(&mut self) {
        self.kill_and_wait();
        self.hole = Some(Blackhole::at(self.address));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_and_wait();
    }
}

/// An address that answers no SYN: its accept queue is full and nobody accepts.
pub(crate) struct Blackhole {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = eventually("the port is free", || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
            socket.set_reuse_address(true).ok()?;
            socket.bind(&address.into()).ok()?;
            socket.listen(0).ok()?;
            Some(TcpListener::from(socket))
        });
        // The kernel takes one more than the backlog; then it drops SYNs.
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, millis(50)) {
            queued.push(stream);
            assert!(queued.len() < 16, "the accept queue does not fill");
        }
        Self { _listener: listener, _queued: queued }
    }
}

#[test]
#[ignore = "no test: the process of an instance"]
fn serves_when_told_to() {
    let (Ok(address), Ok(record)) = (std::env::var(ADDRESS), std::env::var(RECORD)) else { return };
    let address: SocketAddr = address.parse().expect("an address");
    let instance = Instance::at("process", address).serving(move |exchange| {
        exchange.read_body()?;
        if let Some(id) = exchange.head.field("x-id") {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&record)?;
            std::io::Write::write_all(&mut file, format!("{id}\n").as_bytes())?;
        }
        pause(millis(2));
        exchange.respond(200, "", b"done")
    });
    // Until it is killed; if the test that wanted it is gone, that happened to its parent.
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        pause(millis(200));
    }
    drop(instance);
}
