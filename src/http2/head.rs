//! Heads and trailers of HTTP/2 as heads of HTTP/1.1, and back (RFC 9113 section 8).
//!
//! What comes in becomes the head that the same message would have in HTTP/1.1: `Host` from `:authority`, one `Cookie`, a
//! body without a length as `chunked`, an extended `CONNECT` for `WebSocket` (RFC 8441) as the upgrade that it stands for.
//! So every layer behind this one needs one set of rules. `h2` has refused by then: unknown, repeated, missing or late
//! pseudo-header fields, upper-case names, `Connection` and its like, `TE` other than `trailers`, NUL, CR and LF in values,
//! a `content-length` that the frames contradict. Refused here is the rest: what could not stand in a line, a `:scheme`
//! that is not ours, a `:path` that is none, an `:authority` and a `host` that differ.
//!
//! What goes out loses what HTTP/2 does not have (section 8.2.2), and its names become lower-case.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request, response};
use thiserror::Error;

use crate::http1::chunked::passes_as_trailer;
use crate::http1::{ChunkedLimits, Head, HeadBuilder, HeadError, HeadLimits, HeadStorage, Name, NameSet, Version};

/// Why a message has no equivalent in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TranslateError {
    /// As in HTTP/1.1.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// RFC 9113 section 8.3.1: the two must agree.
    #[error("`:authority` and `host` differ")]
    AuthorityAgainstHost,
    /// RFC 9113 section 8.3.1: `:path` begins with a slash, or is `*` for `OPTIONS`.
    #[error("`:path` is not a path")]
    BadPath,
    /// Something else than `http` and `https`.
    #[error("unknown `:scheme`")]
    UnknownScheme,
    /// `CONNECT` with a `:protocol` other than `websocket` (RFC 8441).
    #[error("unknown `:protocol`")]
    UnknownProtocol,
    /// A name or a value that HTTP/2 cannot carry.
    #[error("not a field of HTTP/2")]
    BadField,
}

/// Whether anything follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// A body, perhaps an empty one.
    Body,
    /// Nothing: the head had `END_STREAM`.
    Nothing,
}

/// What `Sec-WebSocket-Key` needs, and `Sec-WebSocket-Accept` answers to.
pub type WebSocketKey = [u8; 24];

/// The head of a request that came over HTTP/2. `buffer` is empty. `key` is taken where the request asks for a `WebSocket`.
///
/// # Errors
/// The request is malformed (RFC 9113 section 8.1.1), or over a limit.
pub fn from_request(
    parts: &request::Parts,
    follows: Follows,
    key: &WebSocketKey,
    storage: HeadStorage,
    buffer: Vec<u8>,
    limits: &HeadLimits,
) -> Result<Head, TranslateError> {
    check_scheme(&parts.uri)?;
    let web_socket = web_socket(parts)?;
    let method = if web_socket { "GET" } else { parts.method.as_str() };
    let target = target(parts, limits)?;
    let mut builder = HeadBuilder::request(storage, buffer, method.as_bytes(), target)?;
    let mut fields = host(parts, &mut builder)?;
    let mut with_length = false;
    let mut with_cookie = false;
    for (name, value) in &parts.headers {
        if *name == header::COOKIE {
            // RFC 9113 section 8.2.3: HTTP/1.1 has one field, so that a reader may look at the first alone. They may stand
            // apart, so that the one which is written may not be the last.
            if std::mem::replace(&mut with_cookie, true) {
                continue;
            }
            let mut cookies = parts.headers.get_all(header::COOKIE).iter();
            builder.field(b"cookie", cookies.next().map_or(b"", HeaderValue::as_bytes))?;
            for cookie in cookies {
                builder.join(b"; ", cookie.as_bytes())?;
            }
        } else if *name != header::HOST && !(web_socket && name == "sec-websocket-key") {
            with_length |= *name == header::CONTENT_LENGTH;
            builder.field(name.as_str().as_bytes(), value.as_bytes())?;
        }
        fields += 1;
        if fields > limits.fields_max {
            return Err(HeadError::TooManyFields.into());
        }
        if builder.size() > limits.bytes_max {
            return Err(HeadError::TooLarge.into());
        }
    }
    if web_socket {
        builder.field(b"connection", b"upgrade")?;
        builder.field(b"upgrade", b"websocket")?;
        builder.field(b"sec-websocket-key", key)?;
    } else if !with_length {
        match follows {
            Follows::Body => builder.field(b"transfer-encoding", b"chunked")?,
            // Instances that want a length of every request with content would answer 411 (RFC 9110 section 8.6).
            Follows::Nothing if has_content(&parts.method) => builder.field(b"content-length", b"0")?,
            Follows::Nothing => {}
        }
    }
    Ok(builder.finish(Version::Http2))
}

/// `http` and `https` both stand for us: who is asked for the one may sit behind something that ends TLS.
fn check_scheme(uri: &Uri) -> Result<(), TranslateError> {
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(TranslateError::UnknownScheme),
    }
}

/// Whether the request is an extended `CONNECT` for a `WebSocket`.
fn web_socket(parts: &request::Parts) -> Result<bool, TranslateError> {
    match parts.extensions.get::<Protocol>() {
        None => Ok(false),
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => Ok(true),
        Some(_) => Err(TranslateError::UnknownProtocol),
    }
}

fn target<'a>(parts: &'a request::Parts, limits: &HeadLimits) -> Result<&'a [u8], TranslateError> {
    let target = match parts.uri.path_and_query() {
        Some(target) => target.as_str().as_bytes(),
        // A plain `CONNECT` has an authority alone.
        None => parts.uri.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes()),
    };
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong.into());
    }
    let sound = match target {
        [b'/', ..] => true,
        b"*" => parts.method == Method::OPTIONS,
        _ => parts.method == Method::CONNECT,
    };
    if sound { Ok(target) } else { Err(TranslateError::BadPath) }
}

/// Writes `Host`. Returns how many fields that are.
fn host(parts: &request::Parts, builder: &mut HeadBuilder) -> Result<usize, TranslateError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(host) = authority.or_else(|| hosts.next().map(HeaderValue::as_bytes)) else { return Ok(0) };
    builder.field(b"host", host)?;
    // Two are malformed even where they agree (RFC 9112 section 3.2).
    let two = parts.headers.get_all(header::HOST).iter().nth(1).is_some();
    if two || hosts.any(|other| !other.as_bytes().eq_ignore_ascii_case(host)) {
        return Err(TranslateError::AuthorityAgainstHost);
    }
    Ok(1)
}

/// Whether a request of this method says something by having no content.
fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// The head of a response that came over HTTP/2, interim ones included. `buffer` is empty.
///
/// # Errors
/// The response is malformed, or over a limit.
pub fn from_response(
    parts: &response::Parts,
    follows: Follows,
    storage: HeadStorage,
    buffer: Vec<u8>,
    limits: &HeadLimits,
) -> Result<Head, TranslateError> {
    let mut builder = HeadBuilder::response(storage, buffer, parts.status.as_u16());
    let mut with_length = false;
    for (index, (name, value)) in parts.headers.iter().enumerate() {
        with_length |= *name == header::CONTENT_LENGTH;
        builder.field(name.as_str().as_bytes(), value.as_bytes())?;
        if index >= limits.fields_max {
            return Err(HeadError::TooManyFields.into());
        }
        if builder.size() > limits.bytes_max {
            return Err(HeadError::TooLarge.into());
        }
    }
    let bodiless = parts.status.is_informational() || matches!(parts.status.as_u16(), 204 | 304);
    if !with_length && !bodiless {
        match follows {
            Follows::Body => builder.field(b"transfer-encoding", b"chunked")?,
            Follows::Nothing => builder.field(b"content-length", b"0")?,
        }
    }
    Ok(builder.finish(Version::Http2))
}

/// Trailers as lines, each with its CRLF; those that may not be passed on are left out, as from a chunked body.
///
/// # Errors
/// A value could not stand in a line.
pub fn from_trailers(trailers: &HeaderMap) -> Result<Vec<u8>, TranslateError> {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(HeadError::BadField.into());
        }
        if passes_as_trailer(name) {
            for part in [name, b": ", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    }
    if lines.len() > ChunkedLimits::TRAILER_BYTES_MAX {
        return Err(HeadError::TooLarge.into());
    }
    Ok(lines)
}

/// What HTTP/2 does not have: it says the same by its frames (RFC 9113 section 8.2.2).
const OF_HTTP1: NameSet = NameSet::of(&[
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::Http2Settings,
]);

/// A response for a client of HTTP/2: what is kept of `head`, and what was added to it.
///
/// # Errors
/// A field cannot be carried, which does not happen to heads that were parsed.
pub fn to_response(head: &Head) -> Result<Response<()>, TranslateError> {
    let mut response = Response::new(());
    // What a switch of protocols is over HTTP/2 (RFC 8441 section 5).
    let status = if head.status() == 101 { 200 } else { head.status() };
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_error| TranslateError::BadField)?;
    fields_into(head, response.headers_mut(), NameSet::EMPTY)?;
    if head.status() == 101 {
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    }
    Ok(response)
}

/// A request for an instance that speaks HTTP/2, with `host` as its `:authority`.
///
/// # Errors
/// Target, host or a field cannot be carried.
pub fn to_request(head: &Head, scheme: &str, host: &[u8], target: &[u8]) -> Result<Request<()>, TranslateError> {
    let bad = |_error| TranslateError::BadField;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method_text()).map_err(|_error| TranslateError::BadField)?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme.parse().map_err(bad)?);
    uri.authority = Some(host.try_into().map_err(bad)?);
    uri.path_and_query = Some(target.try_into().map_err(|_error| TranslateError::BadPath)?);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_error| TranslateError::BadField)?;
    fields_into(head, request.headers_mut(), NameSet::of(&[Name::Host]))?;
    Ok(request)
}

/// Copies the fields of `head` but those of HTTP/1 alone, and those in `without`. `TE` stays where it is `trailers`.
fn fields_into(head: &Head, fields: &mut HeaderMap, without: NameSet) -> Result<(), TranslateError> {
    // All values are slices of one allocation.
    let mut lines = Vec::new();
    head.write_lines(&mut lines);
    let lines = Bytes::from(lines);
    let mut rest = &lines[..];
    while let Some(end) = memchr::memchr(b'\r', rest) {
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        let colon = memchr::memchr(b':', line).ok_or(TranslateError::BadField)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let known = Name::recognise(name);
        if OF_HTTP1.contains(known) || without.contains(known) {
            continue;
        }
        if known == Name::Te && !value.eq_ignore_ascii_case(b"trailers") {
            continue;
        }
        append(fields, name, lines.slice_ref(value))?;
    }
    Ok(())
}

fn append(fields: &mut HeaderMap, name: &[u8], value: Bytes) -> Result<(), TranslateError> {
    let name = HeaderName::from_bytes(name).map_err(|_error| TranslateError::BadField)?;
    let value = HeaderValue::from_maybe_shared(value).map_err(|_error| TranslateError::BadField)?;
    // Limits on heads are far below what a map can hold.
    fields.try_append(name, value).map(drop).map_err(|_error| TranslateError::BadField)
}

/// Trailer lines, each with its CRLF, as trailers of HTTP/2.
///
/// # Errors
/// A line cannot be carried, which does not happen to trailers that were decoded.
pub fn to_trailers(lines: &[u8]) -> Result<HeaderMap, TranslateError> {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line).ok_or(TranslateError::BadField)?;
        append(&mut trailers, &line[..colon], Bytes::copy_from_slice(line[colon + 1..].trim_ascii()))?;
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes_max: 2_000, target_bytes_max: 40, fields_max: 8 };
    const KEY: &WebSocketKey = b"dGhlIHNhbXBsZSBub25jZQ==";

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request of the http crate").into_parts().0
    }

    fn translate(parts: &request::Parts, follows: Follows) -> Result<String, TranslateError> {
        let head = from_request(parts, follows, KEY, HeadStorage::default(), Vec::new(), &LIMITS)?;
        assert_eq!(head.version(), Version::Http2);
        let mut out = Vec::new();
        head.write_request(&mut out, head.target(), b"");
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn requests_become_what_they_would_be_in_http_1_1() {
        let cases: &[(request::Parts, Follows, &str, &str)] = &[
            (
                parts("GET", "http://h:8080/a?b", &[("accept", "*/*")]),
                Follows::Nothing,
                "GET /a?b HTTP/1.1\r\nhost: h:8080\r\naccept: */*\r\n\r\n",
                "RFC 9113 8.3.1: Host from :authority",
            ),
            (
                parts("GET", "https://h/", &[("x", "1"), ("host", "H")]),
                Follows::Nothing,
                "GET / HTTP/1.1\r\nhost: h\r\nx: 1\r\n\r\n",
                "RFC 9113 8.3.1: the two agree",
            ),
            (
                parts("GET", "/", &[("host", "h")]),
                Follows::Nothing,
                "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
                "RFC 9113 8.3.1: host without :authority",
            ),
            (
                parts("GET", "/", &[]),
                Follows::Nothing,
                "GET / HTTP/1.1\r\n\r\n",
                "neither: admission refuses it as in HTTP/1.1",
            ),
            (
                parts("OPTIONS", "*", &[("host", "h")]),
                Follows::Nothing,
                "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
                "RFC 9113 8.3.1",
            ),
            (
                parts("GET", "/", &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]),
                Follows::Nothing,
                "GET / HTTP/1.1\r\ncookie: a=b; c=d; e=f\r\nx: y\r\n\r\n",
                "RFC 9113 8.2.3",
            ),
            (
                parts("POST", "/", &[("content-length", "5")]),
                Follows::Body,
                "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
                "RFC 9113 8.1.1: the length is kept",
            ),
            (
                parts("POST", "/", &[]),
                Follows::Body,
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                "a body without a length",
            ),
            (parts("POST", "/", &[]), Follows::Nothing, "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "RFC 9110 8.6"),
            (
                parts("GET", "/", &[("te", "trailers")]),
                Follows::Nothing,
                "GET / HTTP/1.1\r\nte: trailers\r\n\r\n",
                "RFC 9113 8.2.2",
            ),
            (
                parts("CONNECT", "h:443", &[]),
                Follows::Body,
                "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\ntransfer-encoding: chunked\r\n\r\n",
                "RFC 9113 8.5: refused by admission",
            ),
        ];
        for (parts, follows, expected, why) in cases {
            assert_eq!(translate(parts, *follows).as_deref(), Ok(*expected), "{why}");
        }
    }

    #[test]
    fn an_extended_connect_becomes_the_upgrade_that_it_stands_for() {
        let mut parts =
            parts("CONNECT", "https://h/chat", &[("sec-websocket-version", "13"), ("sec-websocket-key", "x")]);
        parts.extensions.insert(Protocol::from_static("websocket"));
        assert_eq!(
            translate(&parts, Follows::Body).as_deref(),
            Ok("GET /chat HTTP/1.1\r\nhost: h\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        );
        parts.extensions.insert(Protocol::from_static("connect-udp"));
        assert_eq!(translate(&parts, Follows::Body), Err(TranslateError::UnknownProtocol));
    }

    #[test]
    fn requests_that_have_no_equivalent_are_refused() {
        let many: Vec<(&str, &str)> = vec![("x", "y"); 9];
        let long = "x".repeat(2_000);
        let field = TranslateError::Head(HeadError::BadField);
        let cases = [
            (parts("GET", "http://h/", &[("host", "other")]), TranslateError::AuthorityAgainstHost, "8.3.1"),
            (parts("GET", "http://h/", &[("host", "h"), ("host", "i")]), TranslateError::AuthorityAgainstHost, "8.3.1"),
            (parts("GET", "/", &[("host", "h"), ("host", "i")]), TranslateError::AuthorityAgainstHost, "8.3.1"),
            (parts("GET", "ftp://h/", &[]), TranslateError::UnknownScheme, "8.3.1"),
            (parts("GET", "*", &[("host", "h")]), TranslateError::BadPath, "8.3.1"),
            (parts("GET", "/", &[("x", " a")]), field, "8.2.1: white space before"),
            (parts("GET", "/", &[("x", "a\t")]), field, "8.2.1: white space behind"),
            (parts("GET", "/", &[("cookie", "a"), ("cookie", " b")]), field, "8.2.1"),
            (parts("GET", "/", &many), HeadError::TooManyFields.into(), "10.5.1"),
            (parts("GET", "/", &[("x", &long)]), HeadError::TooLarge.into(), "10.5.1"),
            (parts("GET", &format!("/{}", &long[..40]), &[]), HeadError::TargetTooLong.into(), "RFC 9110 15.5.15"),
        ];
        for (parts, error, why) in cases {
            assert_eq!(translate(&parts, Follows::Nothing), Err(error), "RFC 9113 {why}");
        }
    }

    fn response(text: &str) -> Head {
        let bytes = text.as_bytes().to_vec();
        let end = bytes.len();
        Head::response(bytes, 0, end, 100).map_err(|(error, _)| error).expect("a sound head")
    }

    fn pairs(fields: &HeaderMap) -> Vec<(&str, &[u8])> {
        fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }

    #[test]
    fn responses_lose_what_http_2_does_not_have_and_their_case() {
        let mut head = response(
            "HTTP/1.1 426 Upgrade Required\r\nServer: s\r\nUpgrade: x\r\nConnection: upgrade\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nX-Empty:\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n",
        );
        head.remove(Name::Server);
        head.add("Via", &[b"1.1 plimsoll"]);
        let response = to_response(&head).expect("a response");
        assert_eq!(response.status(), 426);
        assert_eq!(
            pairs(response.headers()),
            [("x-empty", &b""[..]), ("set-cookie", b"a"), ("set-cookie", b"b"), ("via", b"1.1 plimsoll")]
        );
    }

    #[test]
    fn requests_for_instances_have_their_host_as_authority() {
        let bytes = b"POST /ignored HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\nX-A: b\r\n\r\n".to_vec();
        let end = bytes.len();
        let head = Head::request(bytes, 0, end, 100).map_err(|(error, _)| error).expect("a sound head");
        let request = to_request(&head, "http", b"h:1", b"/a?b").expect("a request");
        assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "http://h:1/a?b".to_owned()));
        assert_eq!(pairs(request.headers()), [("te", &b"trailers"[..]), ("x-a", b"b")]);
    }

    #[test]
    fn trailers_pass_in_both_directions_but_for_the_forbidden_ones() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("grpc-status", "0"), ("content-length", "5"), ("grpc-message", ""), ("host", "h")] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        let lines = from_trailers(&trailers).expect("sound trailers");
        assert_eq!(lines.escape_ascii().to_string(), r"grpc-status: 0\r\ngrpc-message: \r\n");
        let back = to_trailers(&lines).expect("sound lines");
        assert_eq!(pairs(&back), [("grpc-status", &b"0"[..]), ("grpc-message", b"")]);
        assert_eq!(pairs(&to_trailers(b"").expect("none")), []);
        trailers.append("x", HeaderValue::from_static(" a"));
        assert!(from_trailers(&trailers).is_err());
    }

    proptest! {
        #[test]
        fn what_comes_over_http_2_parses_back_to_what_was_meant(
            fields in prop::collection::vec(("x-[a-z0-9!#$%&'*+.^_`|~-]{1,9}", "[ -~\t\u{80}-\u{ff}]{0,20}"), 0..8),
            path in "/[!$-;=@-_a-z|~]{0,20}",
        ) {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            let parts = parts("GET", &path, &fields);
            let sound = fields.iter().all(|(_, value)| !value.starts_with([' ', '\t']) && !value.ends_with([' ', '\t']));
            match from_request(&parts, Follows::Nothing, KEY, HeadStorage::default(), Vec::new(), &LIMITS) {
                Err(_) => prop_assert!(!sound),
                Ok(head) => {
                    prop_assert!(sound);
                    let mut out = Vec::new();
                    head.write_request(&mut out, head.target(), b"");
                    let end = out.len();
                    let Ok(back) = Head::request(out, 0, end, 100) else { panic!("does not parse back") };
                    prop_assert_eq!(back.target(), path.as_bytes());
                    // The map groups equal names.
                    let mut found: Vec<(&[u8], &[u8])> = back.fields().map(|field| (field.text, field.value)).collect();
                    let mut meant: Vec<(&[u8], &[u8])> =
                        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
                    found.sort_unstable();
                    meant.sort_unstable();
                    prop_assert_eq!(found, meant);
                }
            }
        }
    }
}
