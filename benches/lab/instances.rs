//! Instances for the benches: one thread, any number of ports, answers that cost next to nothing.
//!
//! `bench_instances DATE PORT…` answers `/N` with N bytes on each port, and all else with an empty 200 (probes). It
//! must be much cheaper than a proxy, because it shares its core with the load generator: were that core the limit, the
//! proxy would run half idle, and a faster one would look no better. An answer is one read and one write; heads are
//! only searched for their end and their length.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet, spawn_local};

/// Room for the largest request of the benches in one read.
const READ_BYTES: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<Infallible> {
    let mut arguments = std::env::args().skip(1);
    let date: Rc<str> = arguments.next().unwrap_or_default().into();
    let local = LocalSet::new();
    let mut listeners = JoinSet::new();
    for (number, port) in arguments.enumerate() {
        listeners.spawn_local_on(listen(port, number, Rc::clone(&date)), &local);
    }
    match local.run_until(listeners.join_next()).await {
        Some(ended) => ended?,
        None => Err(io::Error::other("no ports given")),
    }
}

/// Accepts on one port, as long as that works.
async fn listen(port: String, number: usize, date: Rc<str>) -> io::Result<Infallible> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        spawn_local(serve(socket, number, Rc::clone(&date)));
    }
}

/// Answers requests on one connection until it ends.
async fn serve(mut socket: TcpStream, number: usize, date: Rc<str>) -> io::Result<()> {
    let mut answers: HashMap<(Vec<u8>, usize), Vec<u8>> = HashMap::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let Some(head) = memmem::find(&buffer[..filled], b"\r\n\r\n").map(|end| end + 4) else {
            match socket.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                read => filled += read,
            }
            continue;
        };
        let target = buffer[..head].split(|byte| *byte == b' ').nth(1).unwrap_or_default().to_vec();
        let body = content_length(&buffer[..head]);
        let mut left = (head + body).saturating_sub(filled);
        buffer.copy_within((head + body).min(filled)..filled, 0);
        filled = filled.saturating_sub(head + body);
        while left > 0 {
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                read => {
                    filled = read.saturating_sub(left);
                    buffer.copy_within(left.min(read)..read, 0);
                    left = left.saturating_sub(read);
                }
            }
        }
        let answer = answers.entry((target, body)).or_insert_with_key(|key| answer(&key.0, body, number, &date));
        socket.write_all(answer).await?;
    }
}

/// The length of a request body; bodies without one are not part of the benches.
fn content_length(head: &[u8]) -> usize {
    head.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// A whole answer: the head that web servers usually send, and the body that the path asks for.
fn answer(target: &[u8], request_bytes: usize, number: usize, date: &str) -> Vec<u8> {
    let bytes = std::str::from_utf8(target).ok().and_then(|text| text.strip_prefix('/')?.parse().ok()).unwrap_or(0);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: {date}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {bytes}\r\nLast-Modified: {date}\r\nETag: \"{bytes:x}\"\r\nX-Instance: {number}\r\n\
         X-Request-Bytes: {request_bytes}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    answer
}
