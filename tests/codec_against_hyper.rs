//! The codec against hyper's: on a generated corpus of requests and responses, sound and faulty.
//!
//! Where both accept a message, they must agree on all of it: method, target or status, fields, body, and where the
//! next message begins. Where only one accepts, the difference must stand in a list with its reason, and every line of
//! those lists must be met, so that none outlives the difference it explains. Seeded: every run sees the same corpus.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use plimsoll::http1::{
    BodyLength, ChunkedDecoder, ChunkedError, FramingError, Head, HeadError, HeadLimits, HeadReader, HeadStorage,
    Method, Persistence, persistence, request_body, response_body,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MESSAGES: usize = 12_000;

/// A request behind each generated one: it is reached only by who finds the end of the first where it is.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n";

/// What a reader makes of a message that it accepts.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    start_line: String,
    /// In lower case and sorted by name, as hyper loses the order between names; values in their order.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Whether the request behind it was reached.
    next: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Refusal {
    Head(HeadError),
    Framing(FramingError),
    Chunked(ChunkedError),
    /// The connection ended before the message did.
    Unfinished,
}

// Ours.

fn read_head(bytes: &[u8], mut reader: HeadReader) -> Result<Head, Refusal> {
    let limits = HeadLimits { bytes_max: 64 * 1024, target_bytes_max: 8 * 1024, fields_max: 100 };
    reader.read(&mut bytes.to_vec(), &limits, HeadStorage::default).map_err(Refusal::Head)?.ok_or(Refusal::Unfinished)
}

/// The body, and what stands behind it.
fn read_body(length: BodyLength, rest: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    match length {
        BodyLength::None => Ok((Vec::new(), rest.to_vec())),
        BodyLength::UntilClose => Ok((rest.to_vec(), Vec::new())),
        BodyLength::Length(length) => {
            let (body, rest) = rest.split_at_checked(length as usize).ok_or(Refusal::Unfinished)?;
            Ok((body.to_vec(), rest.to_vec()))
        }
        BodyLength::Chunked => {
            let mut bytes = rest.to_vec();
            let decoded = ChunkedDecoder::default().decode(&mut bytes).map_err(Refusal::Chunked)?;
            if !decoded.done {
                return Err(Refusal::Unfinished);
            }
            Ok((bytes[..decoded.data].to_vec(), rest[decoded.consumed..].to_vec()))
        }
    }
}

fn fields_of(head: &Head) -> Vec<(String, Vec<u8>)> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).to_ascii_lowercase();
    let mut fields: Vec<_> = head.fields().map(|field| (text(field.text), field.value.to_vec())).collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    fields
}

fn our_request(bytes: &[u8]) -> Result<Message, Refusal> {
    let head = read_head(bytes, HeadReader::request())?;
    let (body, rest) = read_body(request_body(&head).map_err(Refusal::Framing)?, head.rest())?;
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    Ok(Message {
        start_line: format!("{} {}", text(head.method_text()), text(head.target())),
        fields: fields_of(&head),
        body,
        next: persistence(&head) == Persistence::KeepAlive && rest == NEXT,
    })
}

fn our_response(bytes: &[u8]) -> Result<Message, Refusal> {
    let head = read_head(bytes, HeadReader::response())?;
    let (body, _) = read_body(response_body(&head, Method::Get).map_err(Refusal::Framing)?, head.rest())?;
    Ok(Message { start_line: head.status().to_string(), fields: fields_of(&head), body, next: false })
}

// Hyper's.

fn fields_of_hyper(fields: &hyper::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    fields
}

/// Gives these bytes to hyper and then ends, after having read as many of hyper's.
fn pipe(bytes: &[u8], after: usize) -> TokioIo<tokio::io::DuplexStream> {
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let bytes = bytes.to_vec();
    tokio::spawn(async move {
        ours.read_exact(&mut vec![0; after]).await?;
        ours.write_all(&bytes).await?;
        ours.shutdown().await?;
        // What hyper answers is of no interest, but it must be able to write it.
        tokio::io::copy(&mut ours, &mut tokio::io::sink()).await
    });
    TokioIo::new(theirs)
}

async fn hyper_request(bytes: &[u8]) -> Option<Message> {
    let seen: Arc<Mutex<Vec<Option<Message>>>> = Arc::default();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let message = body.collect().await.ok().map(|body| Message {
                start_line: format!("{} {}", head.method, head.uri),
                fields: fields_of_hyper(&head.headers),
                body: body.to_bytes().to_vec(),
                next: false,
            });
            seen.lock().expect("no panic").push(message);
            Ok::<_, std::convert::Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(pipe(bytes, 0), service);
    // How it ends is told by what the service saw.
    drop(tokio::time::timeout(Duration::from_secs(5), connection).await.expect("hyper ends"));
    let mut seen = std::mem::take(&mut *seen.lock().expect("no panic")).into_iter();
    let mut first = seen.next()??;
    first.next = matches!(seen.next(), Some(Some(second)) if second.start_line == "GET /next");
    Some(first)
}

async fn hyper_response(bytes: &[u8]) -> Option<Message> {
    let request_bytes = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".len();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(pipe(bytes, request_bytes)).await.ok()?;
    tokio::spawn(connection);
    let request = hyper::Request::get("/").header("host", "h").body(Empty::new()).expect("a sound request");
    let response =
        tokio::time::timeout(Duration::from_secs(5), sender.send_request(request)).await.expect("hyper ends");
    let (head, body) = response.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let fields = fields_of_hyper(&head.headers);
    Some(Message { start_line: head.status.as_u16().to_string(), fields, body, next: false })
}

// The corpus.

/// Mostly the first, sound ones; sometimes anything.
fn pick<'a>(random: &mut fastrand::Rng, sound: &[&'a str], faulty: &[&'a str]) -> &'a str {
    let from = if !faulty.is_empty() && random.u8(..10) == 0 { faulty } else { sound };
    from[random.usize(..from.len())]
}

const REQUEST_LINES: (&[&str], &[&str]) = (
    &["GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "PUT http://h/p HTTP/1.1", "OPTIONS * HTTP/1.1", "XY /z HTTP/1.0"],
    &[
        "GET  / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET /",
        "GET / HTTP/1.1 ",
        "G@T / HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET /{a}|b HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\"<> HTTP/1.1",
        "\r\nGET / HTTP/1.1",
        "GET a HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "get / http/1.1",
        "GET /%zz HTTP/1.1",
        "\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1",
    ],
);

const STATUS_LINES: (&[&str], &[&str]) = (
    &["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.0 200 OK", "HTTP/1.1 204 ", "HTTP/1.1 304 Not Modified"],
    &[
        "HTTP/1.1 200",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1 20 x",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 é",
        "HTTP/1.1 2000 x",
        "HTTP/1.1 200 \x07",
        "\r\nHTTP/1.1 200 OK",
    ],
);

const FIELDS: (&[&str], &[&str]) = (
    &["Host: h", "A: b", "x-y:z", "Accept:  */* ", "A: c, d", "Empty:", "Connection: close", "Connection: x", "B: \té"],
    &[
        "A : b",
        ": b",
        "A b: c",
        "A",
        "A: b\r\n c",
        " A: b",
        "A: \0",
        "A: b\x01",
        "A: b\x7f",
        "A\x7f: b",
        "é: b",
        "A(: b",
        "A: b\rc",
        "A: b\nB: c",
        "A: b\n",
        "\nA: b",
        "Connection: content-length",
        "Connection: transfer-encoding, close",
        "A: b\r",
        "!#$%&'*+-.^_`|~: x",
    ],
);

/// Framing fields, and a body that belongs to them or contradicts them.
type Framed = (&'static str, &'static str);

const BODIES: (&[Framed], &[Framed]) = (
    &[
        ("", ""),
        ("Content-Length: 5\r\n", "hello"),
        ("Content-Length: 0\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: Chunked\r\n", "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n"),
    ],
    &[
        ("Content-Length: +5\r\n", "hello"),
        ("Content-Length: 05\r\n", "hello"),
        ("Content-Length: 5, 5\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: 5;\r\n", "hello"),
        ("Content-Length:\r\n", "hello"),
        ("Content-Length: 18446744073709551616\r\n", "hello"),
        ("Content-Length: 500\r\n", "hello"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\n", "hello"),
        ("Transfer-Encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked, gzip\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: , chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked,\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked;a=b\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding:\r\n", "hello"),
        ("Transfer-Encoding: xchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: \"chunked\"\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\n"),
        ("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", " 5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a=\"b\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a\x01\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhelloo\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n A: b\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nA: b\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nA\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "1000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
    ],
);

fn generate(random: &mut fastrand::Rng, start_lines: (&[&str], &[&str]), behind: &[u8]) -> Vec<u8> {
    let mut bytes = pick(random, start_lines.0, start_lines.1).to_owned() + "\r\n";
    for _ in 0..random.usize(..4) {
        bytes += pick(random, FIELDS.0, FIELDS.1);
        bytes += "\r\n";
    }
    let bodies = if random.u8(..4) == 0 { BODIES.1 } else { BODIES.0 };
    let (framing, body) = bodies[random.usize(..bodies.len())];
    bytes += framing;
    bytes += if random.u8(..40) == 0 { "\n" } else { "\r\n" };
    bytes += body;
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(behind);
    bytes
}

// What differs, and why.

/// What we refuse and hyper accepts: the refusal, what stands in the bytes then (any of these), and the reason.
type Stricter = (Refusal, &'static [&'static str], &'static str);

const STRICTER: &[Stricter] = &[
    (Refusal::Head(HeadError::BareLineFeed), &["\n"], "RFC 9112 2.2 allows it, and smuggling needs it"),
    (Refusal::Head(HeadError::BadStartLine), &["\u{e9} HTTP/1.1"], "a target is ASCII (RFC 3986 2)"),
    (Refusal::Head(HeadError::BadStartLine), &["\r\n\r\n\r\n\r\n\r\n"], "more empty lines than any client sends"),
    (
        Refusal::Head(HeadError::BadStartLine),
        &["\r\nHTTP/1.1"],
        "empty lines stand before requests only (RFC 9112 2.2)",
    ),
    (Refusal::Head(HeadError::BadStartLine), &[" 600 ", " 999 "], "a status is at most 599 (RFC 9110 15)"),
    (
        Refusal::Framing(FramingError::BothLengthAndEncoding),
        &[""],
        "RFC 9112 6.1 allows to drop the length; we don't guess",
    ),
    (Refusal::Framing(FramingError::RepeatedLength), &[""], "RFC 9110 8.6 leaves it open; we don't repair"),
    (
        Refusal::Framing(FramingError::DifferingLengths),
        &[" 204 ", " 304 "],
        "contradicts itself, with a body or without",
    ),
    (
        Refusal::Framing(FramingError::BadLength),
        &["HTTP/1.1 2", "HTTP/1.1 3"],
        "hyper looks at it only where a body can be",
    ),
    (Refusal::Framing(FramingError::ChunkedTwice), &[""], "RFC 9112 6.1"),
    (Refusal::Framing(FramingError::UnknownCoding), &["gzip, chunked"], "we would have to pass the coding on"),
    (Refusal::Framing(FramingError::ConnectionNamesFraming), &[""], "the next recipient would lose the framing"),
    (Refusal::Framing(FramingError::FinalCodingNotChunked), &[""], "hyper reads such a response until it closes"),
    (Refusal::Framing(FramingError::BadEncoding), &[""], "hyper reads such a response until it closes"),
    (Refusal::Chunked(ChunkedError::BadExtension), &["5;a\u{1}"], "not in the grammar (RFC 9112 7.1.1)"),
    (Refusal::Chunked(ChunkedError::BadLineEnd), &["5 \r\n", "5;\r\n"], "not in the grammar (RFC 9112 7.1.1)"),
    (Refusal::Chunked(ChunkedError::BadLineEnd), &["a=\"b\r\n"], "a quoted string that does not end"),
    (Refusal::Chunked(ChunkedError::BadLineEnd), &["A: b\n"], "RFC 9112 2.2, in trailers, too"),
    (Refusal::Chunked(ChunkedError::BadLineEnd), &["0\r\n\n"], "hyper takes what follows for trailers"),
];

/// What hyper refuses and we accept: what stands in the bytes then, and the reason.
const MORE_LENIENT: &[(&str, &str)] = &[
    ("HTTP/1.2", "RFC 9110 2.5: a higher minor version is read as 1.1"),
    ("A : b", "a proxy takes such white space off in responses (RFC 9112 5.1)"),
    ("GET /\"<> ", "what a target says is judged by `http::target`"),
];

/// Where both accept and see different things: what stands in the bytes then, and the reason.
const SEEN_DIFFERENTLY: &[(&str, &str)] = &[("GET /a#b ", "hyper drops a fragment, `http::target` refuses it")];

/// Which line of the lists explains the difference between the two.
fn explain(bytes: &[u8], ours: &Result<Message, Refusal>, theirs: Option<&Message>) -> Option<&'static str> {
    let contains =
        |needle: &&str| needle.is_empty() || bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
    let of = |list: &[(&str, &'static str)]| list.iter().find(|(needle, _)| contains(needle)).map(|(_, why)| *why);
    match (ours, theirs) {
        (Ok(_), Some(_)) => of(SEEN_DIFFERENTLY),
        (Ok(_), None) => of(MORE_LENIENT),
        (Err(refusal), _) => STRICTER
            .iter()
            .find(|(expected, needles, _)| expected == refusal && needles.iter().any(contains))
            .map(|(_, _, why)| *why),
    }
}

#[tokio::test]
async fn what_the_codec_and_hyper_both_accept_they_understand_alike() {
    let mut random = fastrand::Rng::with_seed(9112);
    let mut explained = HashSet::new();
    let mut unexplained = Vec::new();
    let mut alike = 0;
    for index in 0..MESSAGES {
        let (bytes, ours, theirs) = if index % 2 == 0 {
            let bytes = generate(&mut random, REQUEST_LINES, NEXT);
            let (ours, theirs) = (our_request(&bytes), hyper_request(&bytes).await);
            (bytes, ours, theirs)
        } else {
            let bytes = generate(&mut random, STATUS_LINES, b"");
            let (ours, theirs) = (our_response(&bytes), hyper_response(&bytes).await);
            (bytes, ours, theirs)
        };
        match (&ours, &theirs) {
            (Ok(ours), Some(theirs)) if ours == theirs => alike += 1,
            (Err(_), None) => {}
            _ => match explain(&bytes, &ours, theirs.as_ref()) {
                Some(why) => drop(explained.insert(why)),
                None => unexplained.push(format!("{}\nours: {ours:?}\nhyper's: {theirs:?}", bytes.escape_ascii())),
            },
        }
    }
    assert!(unexplained.is_empty(), "{} differ: {}", unexplained.len(), unexplained.join("\n"));
    assert!(alike > MESSAGES / 3, "most of the corpus is sound: {alike}");
    let all = STRICTER.iter().map(|(_, _, why)| why);
    let all = all.chain(MORE_LENIENT.iter().chain(SEEN_DIFFERENTLY).map(|(_, why)| why));
    let stale: Vec<_> = all.filter(|why| !explained.contains(*why)).collect();
    assert!(stale.is_empty(), "no longer different: {stale:#?}");
}
