//! What must hold for any bytes that a peer may send, checked by the fuzz targets and, on the kept corpus, by
//! `tests/corpus.rs`: no panic, the same outcome under any cut into reads, nothing accepted that is ambiguous, and
//! what is written is read back as it was meant.

#![allow(dead_code, reason = "each fuzz target is a crate of its own and uses one of these")]

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use plimsoll::config::diff::diff;
use plimsoll::config::load::{Loaded, Rejected, Surroundings, parse};
use plimsoll::config::model::{self, Listener};
use plimsoll::config::problem::Severity;
use plimsoll::http::admit::{Admitted, admit};
use plimsoll::http::forwarded::{self, Peer, Scheme};
use plimsoll::http::hop_by_hop::{self, Upgrade};
use plimsoll::http::{imitation, via};
use plimsoll::http1::{
    BodyLength, ChunkedDecoder, ChunkedError, ChunkedLimits, Head, HeadError, HeadLimits, HeadReader, HeadStorage,
    Method, Name, chunk_head, last_chunk, persistence, request_body, response_body,
};
use plimsoll::http2::head::{Follows, from_request, to_request};

const HEAD_LIMITS: HeadLimits = HeadLimits { bytes_max: 600, target_bytes_max: 100, fields_max: 40 };
const CHUNKED_LIMITS: ChunkedLimits = ChunkedLimits { line_bytes_max: 60, trailer_bytes_max: 100 };

/// A request head, and what follows it.
pub(crate) fn request_head(bytes: &[u8]) {
    let whole = read_head(HeadReader::request, bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(facts(&read_head(HeadReader::request, bytes, piece)), facts(&whole));
    }
    let Ok(Some(mut head)) = whole else { return };
    check_fields(&head);
    let _framing = request_body(&head);
    let _persistence = persistence(&head);
    assert!(!head.method_text().is_empty() && head.target().iter().all(u8::is_ascii_graphic));
    rewrite(&mut head, |head, out| head.write_request(out, head.target(), b"Extra: e\r\n"), HeadReader::request);
}

/// A request head on its way through the layers: what an instance gets must be read by a strict reader as it was meant.
pub(crate) fn request_rules(bytes: &[u8]) {
    let Ok(Some(mut head)) = read_head(HeadReader::request, bytes, bytes.len().max(1)) else { return };
    let Ok(admitted) = admit(&mut head, listener()) else { return };
    let method = head.method_text().to_vec();
    hop_by_hop::request(&mut head, Upgrade::Drop);
    imitation::drop_all(&mut head, imitation::Certificate::Ours);
    let client = "192.0.2.1:5".parse().expect("an address");
    forwarded::apply(&mut head, &mut Peer::new(client, Scheme::Http, &[]), &admitted);
    if via::request(&mut head).is_err() {
        return;
    }
    let mut extra = Vec::new();
    if !head.has(Name::Host) {
        let host = Some(head.text(admitted.authority)).filter(|host| !host.is_empty()).unwrap_or(b"instance");
        extra = [b"Host: ", host, b"\r\n"].concat();
    }
    if admitted.body == BodyLength::Chunked {
        extra.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    let mut out = Vec::new();
    head.write_request(&mut out, &admitted.target(&head), &extra);
    let limits = HeadLimits { bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: usize::MAX };
    let Ok(Some(mut again)) = HeadReader::request().read(&mut out.clone(), &limits, HeadStorage::default) else {
        panic!("an instance cannot read it: {}", out.escape_ascii())
    };
    assert!(again.rest().is_empty(), "nothing may follow: {}", again.rest().escape_ascii());
    let readmitted = match admit(&mut again, listener()) {
        Ok(readmitted) => readmitted,
        Err(refusal) => panic!("{refusal:?}: {}", out.escape_ascii()),
    };
    let meant =
        |head: &Head, admitted: &Admitted| (admitted.body, admitted.path(head).to_vec(), admitted.query.is_some());
    assert_eq!(meant(&again, &readmitted), meant(&head, &admitted));
    assert_eq!(again.method_text(), method);
    for once in [Name::Host, Name::XForwardedFor, Name::XForwardedProto, Name::Forwarded] {
        assert_eq!(again.all(once).count(), 1, "{once:?}: {}", out.escape_ascii());
    }
    // `TE` is for the next one, so it is named (RFC 9110 section 10.1.4).
    assert!(again.all(Name::Connection).all(|named| named == b"TE"), "{}", out.escape_ascii());
    for never in [Name::KeepAlive, Name::ProxyConnection, Name::Upgrade] {
        assert!(!again.has(never), "{never:?}: {}", out.escape_ascii());
    }
}

/// A configuration file: any text is taken or refused with places that exist, and what is taken is the same each time.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match load(text) {
        Ok(Loaded { config, warnings, .. }) => {
            assert!(warnings.iter().all(|problem| problem.severity == Severity::Warning));
            assert!(!config.listeners.is_empty() && config.runtime.workers > 0);
            assert!(config.pools.iter().all(|pool| !pool.instances.is_empty()));
            let again = load(text).expect("it was taken before").config;
            assert!(diff(&config, &again).is_empty() && *config == *again);
        }
        Err(rejected) => {
            assert!(rejected.problems.iter().any(|problem| problem.severity == Severity::Error));
            let lines: Vec<_> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
            for place in rejected.problems.iter().filter_map(|problem| problem.place.as_ref()) {
                let line = lines[place.line - 1].trim_end_matches('\r');
                assert!(line == place.text || place.text.contains("[secret]"), "{line}: {}", place.text);
                assert!(place.width >= 1 && place.column <= place.text.chars().count() + 1);
            }
            assert!(rejected.to_string().starts_with("error: ") || rejected.to_string().starts_with("warning: "));
        }
    }
}

/// A machine without a network.
struct Alone;

impl Surroundings for Alone {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        hosts.iter().map(|_| Err(io::ErrorKind::NotFound.into())).collect()
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> usize {
        2
    }
}

fn load(text: &str) -> Result<Loaded, Rejected> {
    parse(text, Path::new("plimsoll.toml"), &Alone)
}

/// A listener with defaults.
fn listener() -> &'static Listener {
    static CONFIG: OnceLock<Arc<model::Config>> = OnceLock::new();
    let text = "[[listener]]\nbind = \"127.0.0.1:1\"\n[pool.a]\ninstances = [\"127.0.0.1:2\"]\n";
    &CONFIG.get_or_init(|| load(text).expect("the smallest configuration").config).listeners[0]
}

/// The fields of an HTTP/2 request, each with the lengths of name and value before them in a byte: what becomes of them is
/// one request of HTTP/1.1 that reads back as it was meant, whatever was in them.
pub(crate) fn h2_request(bytes: &[u8]) {
    let mut request = http::Request::builder();
    let (mut uri, mut rest) = (http::uri::Parts::default(), bytes);
    while let Some((name, after)) = take(rest) {
        let Some((value, after)) = take(after) else { break };
        rest = after;
        // What `h2` itself refuses never becomes a request.
        request = match name {
            b":method" => request.method(value),
            b":scheme" => match value.try_into() {
                Ok(scheme) => {
                    uri.scheme = Some(scheme);
                    request
                }
                Err(_) => return,
            },
            b":authority" => match value.try_into() {
                Ok(authority) => {
                    uri.authority = Some(authority);
                    request
                }
                Err(_) => return,
            },
            b":path" => match value.try_into() {
                Ok(path) => {
                    uri.path_and_query = Some(path);
                    request
                }
                Err(_) => return,
            },
            b":protocol" => match std::str::from_utf8(value) {
                Ok(protocol) => request.extension(h2::ext::Protocol::from(protocol)),
                Err(_) => return,
            },
            _ => request.header(name, value),
        };
    }
    let Ok(uri) = http::Uri::from_parts(uri) else { return };
    let Ok(request) = request.uri(uri).body(()) else { return };
    let parts = request.into_parts().0;
    for follows in [Follows::Body, Follows::Nothing] {
        let translated = from_request(&parts, follows, &[b'k'; 24], HeadStorage::default(), Vec::new(), &HEAD_LIMITS);
        let Ok(mut head) = translated else { continue };
        check_fields(&head);
        assert!(head.all(Name::Cookie).count() <= 1 && head.all(Name::Host).count() <= 1);
        rewrite(&mut head, |head, out| head.write_request(out, head.target(), b"Extra: e\r\n"), HeadReader::request);
        if let Ok(response) = to_request(&head, "http", b"test", b"/") {
            assert!(response.headers().keys().all(|name| name != "connection" && name != "upgrade"));
        }
    }
}

/// As many bytes as the first one says, and what follows them.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A response head, and what follows it.
pub(crate) fn response_head(bytes: &[u8]) {
    let whole = read_head(HeadReader::response, bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(facts(&read_head(HeadReader::response, bytes, piece)), facts(&whole));
    }
    let Ok(Some(mut head)) = whole else { return };
    check_fields(&head);
    let _framing = (response_body(&head, Method::Get), response_body(&head, Method::Head));
    assert!((100..600).contains(&head.status()));
    rewrite(&mut head, |head, out| head.write_response(out, b"Extra: e\r\n"), HeadReader::response);
}

/// A chunked body, and what follows it.
pub(crate) fn chunked(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(decode(bytes, piece), whole);
    }
    let Ok(Some((data, trailers, consumed))) = whole else { return };
    assert!(bytes[..consumed].ends_with(b"\r\n") && data.len() < consumed);
    let mut again = Vec::new();
    for chunk in data.chunks(5) {
        again.extend_from_slice(&chunk_head(chunk.len()));
        again.extend_from_slice(chunk);
        again.extend_from_slice(b"\r\n");
    }
    last_chunk(&mut again, &trailers);
    assert_eq!(decode(&again, again.len()), Ok(Some((data, trailers, again.len()))));
}

type Reader = fn() -> HeadReader;

/// The head in bytes that come in pieces of this length; `None` if it is not whole.
fn read_head(reader: Reader, bytes: &[u8], piece: usize) -> Result<Option<Head>, HeadError> {
    let mut reader = reader();
    let mut read = Vec::new();
    for piece in bytes.chunks(piece) {
        read.extend_from_slice(piece);
        if let Some(head) = reader.read(&mut read, &HEAD_LIMITS, HeadStorage::default)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

type Facts = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

/// What must not depend on how the bytes were cut: start line and fields.
fn facts(read: &Result<Option<Head>, HeadError>) -> Result<Option<Facts>, HeadError> {
    read.as_ref().map(|head| head.as_ref().map(|head| (start_line(head), fields(head)))).map_err(|error| *error)
}

fn start_line(head: &Head) -> Vec<u8> {
    [head.method_text(), b" ", head.target(), b" ", head.status().to_string().as_bytes(), b" ", head.reason()].concat()
}

fn fields(head: &Head) -> Vec<(Vec<u8>, Vec<u8>)> {
    head.fields().map(|field| (field.text.to_vec(), field.value.to_vec())).collect()
}

fn check_fields(head: &Head) {
    for field in head.fields() {
        assert!(!field.text.is_empty() && field.text.iter().all(u8::is_ascii_graphic) && !field.text.contains(&b':'));
        assert!(field.value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)));
        assert!(field.value.trim_ascii() == field.value);
        assert!(head.has(field.name) && field.name == Name::recognise(field.text));
    }
}

/// Removes and adds fields, writes the head and reads it again.
fn rewrite(head: &mut Head, write: impl Fn(&Head, &mut Vec<u8>), reader: Reader) {
    head.remove(Name::Connection);
    head.remove_at(1);
    head.add("Added", &[b"a", b"b"]);
    let mut expected = fields(head);
    expected.push((b"Added".to_vec(), b"ab".to_vec()));
    expected.push((b"Extra".to_vec(), b"e".to_vec()));
    let mut out = Vec::new();
    write(head, &mut out);
    let limits = HeadLimits { bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: usize::MAX };
    match reader().read(&mut out, &limits, HeadStorage::default) {
        Ok(Some(again)) => {
            assert!(again.rest().is_empty(), "nothing may follow: {}", again.rest().escape_ascii());
            assert_eq!((start_line(&again), fields(&again)), (start_line(head), expected));
        }
        Ok(None) => panic!("not whole: {}", out.escape_ascii()),
        Err(error) => panic!("{error}: {}", out.escape_ascii()),
    }
}

/// Data and trailers of a body that has ended, and how many bytes it took.
type Body = (Vec<u8>, Vec<u8>, usize);

/// The body in bytes that come in pieces of this length; `None` if it has not ended.
fn decode(bytes: &[u8], piece: usize) -> Result<Option<Body>, ChunkedError> {
    let mut decoder = ChunkedDecoder::new(CHUNKED_LIMITS);
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.data <= decoded.consumed && decoded.consumed <= piece.len());
        data.extend_from_slice(&piece[..decoded.data]);
        consumed += decoded.consumed;
        if decoded.done {
            return Ok(Some((data, decoder.trailers().to_vec(), consumed)));
        }
        assert_eq!(decoded.consumed, piece.len());
    }
    Ok(None)
}
