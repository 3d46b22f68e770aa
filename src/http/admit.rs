//! Is this a request that we forward? The first layer: nothing else looks at a request that it refuses.
//!
//! RFC 9110 and 9112 are the measure, and where they leave a choice, what could be read in two ways is refused, because an
//! instance might read it in the other. `authority` and `target` have the rules for hosts and targets, `http1::framing`
//! those for bodies. What is admitted has one host, one path, one framing.

use std::borrow::Cow;

use super::{Refusal, authority, hop_by_hop, target};
use crate::cause::Cause;
use crate::config::model::Listener;
use crate::http1::head::list;
use crate::http1::{self, BodyLength, Head, Method, Name, Persistence, Span, Version};

/// What a request is about, as the layers below need it. Spans are positions in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The host without its port, as sent; empty from HTTP/1.0 clients that name none.
    pub host: Span,
    /// The host with its port, as sent; empty like `host`.
    pub authority: Span,
    /// The path; empty where the target has none: see [`Admitted::path`].
    pub path: Span,
    /// The query without its `?`.
    pub query: Option<Span>,
    /// Whether the target is `*`.
    pub asterisk: bool,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the client wants the connection to go on.
    pub persistence: Persistence,
    /// Whether it waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// The protocols that it offers to go over to.
    pub upgrade: Option<Span>,
}

impl Admitted {
    /// The path: `/` where an absolute target has none, `*` for the server as a whole.
    #[inline]
    #[must_use]
    pub fn path<'a>(&self, head: &'a Head) -> &'a [u8] {
        match head.text(self.path) {
            _ if self.asterisk => b"*",
            [] => b"/",
            path => path,
        }
    }

    /// The target that an instance gets: path and query as sent (RFC 9112 section 3.2.1), or `*` (section 3.2.4).
    #[inline]
    #[must_use]
    pub fn target<'a>(&self, head: &'a Head) -> Cow<'a, [u8]> {
        match self.query {
            Some(query) if self.path.is_empty() => [b"/?", head.text(query)].concat().into(),
            Some(query) => head.text(Span { start: self.path.start, end: query.end }).into(),
            None => self.path(head).into(),
        }
    }
}

/// Looks at a request before anything else does. Takes off what HTTP/1.0 does not have, and a `Host` that an absolute
/// target overrules: **without `Host` in the head, whoever writes the request adds `authority`**, or the instance's own
/// where that is empty.
///
/// # Errors
/// If the request is not forwarded; the connection closes after the answer.
#[inline]
pub fn admit(head: &mut Head, listener: &Listener) -> Result<Admitted, Refusal> {
    let method = head.method();
    let body = http1::request_body(head)?;
    check_method(method, body, listener)?;
    check_size(body, listener)?;
    let (authority, host, target) = host_and_target(head, method)?;

    let at = |range: std::ops::Range<usize>| {
        let base = head.target_span().start;
        Span { start: base + range.start as u32, end: base + range.end as u32 }
    };
    let (path, query) = (at(target.path), target.query.map(at));
    if target.authority.is_some() {
        head.remove(Name::Host);
    }
    if head.connection().names.contains(Name::Host) {
        return Err(Refusal::bad_request("Connection names Host"));
    }
    if head.connection().others {
        check_connection_options(head)?;
    }
    Ok(Admitted {
        host,
        authority,
        path,
        query,
        asterisk: target.asterisk,
        body,
        persistence: http1::persistence(head),
        expects_continue: head.has(Name::Expect) && expects_continue(head)?,
        upgrade: if head.has(Name::Upgrade) { upgrade(head, body) } else { None },
    })
}

/// `CONNECT` makes tunnels, which is not what a reverse proxy is for; `TRACE` shows headers to scripts.
#[inline]
fn check_method(method: Method, body: BodyLength, listener: &Listener) -> Result<(), Refusal> {
    match method {
        Method::Connect => {
            Err(Refusal { cause: Cause::NotImplemented, status: 501, detail: "CONNECT is not implemented" })
        }
        Method::Trace if !listener.allow_trace => {
            Err(Refusal { cause: Cause::MethodNotAllowed, status: 405, detail: "TRACE is not allowed" })
        }
        // RFC 9110 9.3.8.
        Method::Trace if !matches!(body, BodyLength::None | BodyLength::Length(0)) => {
            Err(Refusal::bad_request("TRACE has no body"))
        }
        _ => Ok(()),
    }
}

/// A body without a length is counted while it is read.
#[inline]
fn check_size(body: BodyLength, listener: &Listener) -> Result<(), Refusal> {
    match (body, listener.request_body_bytes_max) {
        (BodyLength::Length(length), Some(max)) if length > max => {
            Err(Refusal::too_large(413, "the body is larger than allowed"))
        }
        _ => Ok(()),
    }
}

/// Authority, host and target. `Host` must be sound even where an absolute target overrules it (RFC 9112 section 3.2).
#[inline]
fn host_and_target(head: &Head, method: Method) -> Result<(Span, Span, target::Target), Refusal> {
    let field = match head.first_span(Name::Host) {
        Some(field) if head.has_once(Name::Host) => Some(field),
        Some(_) => return Err(Refusal::bad_request("Host is there twice")),
        None if head.version() != Version::Http10 => return Err(Refusal::bad_request("Host is missing")),
        None => None,
    };
    let mut authority = field.unwrap_or_default();
    let mut host_length = match field {
        Some(field) => authority::host_length(head.text(field))?,
        None => 0,
    };
    let target = target::parse(method, head.target())?;
    if let Some(range) = &target.authority {
        host_length = authority::host_length(&head.target()[range.clone()])?;
        let start = head.target_span().start + range.start as u32;
        authority = Span { start, end: start + range.len() as u32 };
    }
    Ok((authority, Span { start: authority.start, end: authority.start + host_length as u32 }, target))
}

/// Fields to look for take a pass over the head each, so a long list would be work for nothing.
const CONNECTION_OPTIONS_MAX: usize = 32;

#[cold]
fn check_connection_options(head: &Head) -> Result<(), Refusal> {
    if head.all(Name::Connection).flat_map(list).nth(CONNECTION_OPTIONS_MAX).is_some() {
        return Err(Refusal::bad_request("Connection has too many options"));
    }
    Ok(())
}

/// The one expectation there is (RFC 9110 section 10.1.1); from HTTP/1.0 clients it must be ignored.
#[cold]
fn expects_continue(head: &mut Head) -> Result<bool, Refusal> {
    if head.version() == Version::Http10 {
        head.remove(Name::Expect);
        return Ok(false);
    }
    if head.all(Name::Expect).flat_map(list).all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue")) {
        return Ok(true);
    }
    Err(Refusal { status: 417, ..Refusal::bad_request("the expectation is not 100-continue") })
}

/// The offer of an upgrade that may pass. With a body it could not be told where the new protocol begins, so then it is
/// ignored, as RFC 9110 section 7.8 allows.
#[cold]
fn upgrade(head: &Head, body: BodyLength) -> Option<Span> {
    let bodiless = matches!(body, BodyLength::None | BodyLength::Length(0));
    let passes = hop_by_hop::asks_for_upgrade(head) && !head.all(Name::Upgrade).any(hop_by_hop::is_forbidden_upgrade);
    (bodiless && passes).then(|| head.first_span(Name::Upgrade)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, listener, request};
    use super::*;

    fn admitted(text: &str) -> Result<(Admitted, Head), u16> {
        let mut head = request(text);
        match admit(&mut head, &listener()) {
            Ok(admitted) => Ok((admitted, head)),
            Err(refusal) => Err(refusal.status),
        }
    }

    #[test]
    fn host_path_and_target_are_found_in_every_form() {
        let cases = [
            ("GET /a?b HTTP/1.1\r\nHost: x:80\r\n\r\n", ["x", "x:80", "/a", "/a?b"], "RFC 9112 3.2.1"),
            ("GET http://x:80/a?b HTTP/1.1\r\nHost: y\r\n\r\n", ["x", "x:80", "/a", "/a?b"], "RFC 9112 3.2.2"),
            ("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", ["x", "x", "/", "/"], "RFC 9110 4.2.3: no path"),
            ("GET http://x?b HTTP/1.1\r\nHost: x\r\n\r\n", ["x", "x", "/", "/?b"], "RFC 9110 4.2.3: no path"),
            ("GET http://[::1]:8/ HTTP/1.0\r\n\r\n", ["[::1]", "[::1]:8", "/", "/"], "RFC 3986 3.2.2"),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", ["x", "x", "*", "*"], "RFC 9112 3.2.4"),
            ("OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n", ["x", "x", "*", "*"], "RFC 9112 3.2.4"),
            ("GET / HTTP/1.0\r\n\r\n", ["", "", "/", "/"], "HTTP/1.0 without Host"),
            ("BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", ["x", "x", "/a", "/a"], "RFC 9110 9.1: unknown methods pass"),
        ];
        for (text, expected, why) in cases {
            let (admitted, head) = admitted(text).expect(why);
            let found = [
                head.text(admitted.host),
                head.text(admitted.authority),
                admitted.path(&head),
                &admitted.target(&head),
            ]
            .map(|text| String::from_utf8_lossy(text).into_owned());
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn an_absolute_target_overrules_host() {
        let (_, head) = admitted("GET http://x/ HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n").expect("admitted");
        assert_eq!(fields(&head), [("A".to_owned(), "b".to_owned())], "RFC 9112 3.2.2");
        assert!(!head.has(Name::Host));
    }

    #[test]
    fn what_could_be_smuggled_is_refused() {
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n", 400, "RFC 9112 3.2: no Host"),
            ("GET http://x/ HTTP/1.1\r\n\r\n", 400, "RFC 9112 3.2: no Host beside an absolute target"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "RFC 9112 3.2: two of them"),
            ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400, "RFC 9112 3.2: two of them"),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "RFC 9110 4.2.1: an empty host"),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "RFC 9112 3.2: an invalid value"),
            ("GET http://a/ HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "RFC 9112 3.2: an invalid value, though overruled"),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 9110 4.2.4: user information"),
            ("GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 9110 4.2.1: an empty host"),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "another scheme"),
            ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 9112 3.2.3: only with CONNECT"),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 9112 3.2.4: only with OPTIONS"),
            ("GET /../b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 3986 5.2.4: a dot segment"),
            ("GET /%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "RFC 3986 6.2.2.2: an escaped dot segment"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n", 400, "Connection names Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\n\r\n", 400, "Connection names framing"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\n\r\n", 400, "Connection names framing"),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501, "RFC 9110 9.3.6"),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "RFC 9110 9.3.8"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413, "RFC 9110 15.5.14"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "RFC 9112 6.1",
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "RFC 9112 6.3"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "RFC 9112 6.3"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "RFC 9112 6.1"),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "RFC 9112 6.1"),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417, "RFC 9110 10.1.1"),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n", 417, "RFC 9110 10.1.1"),
        ];
        for (text, status, why) in cases {
            assert_eq!(admitted(text).map(|_| ()), Err(status), "{why}: {text:?}");
        }
        let options = vec!["x"; 33].join(",");
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
        assert_eq!(admitted(&long).map(|_| ()), Err(400), "a list that is work for nothing");
    }

    #[test]
    fn trace_passes_where_it_is_allowed_but_has_no_body() {
        let listener = Listener { allow_trace: true, ..listener() };
        let status = |lines: &str| {
            let mut head = request(&format!("TRACE / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            admit(&mut head, &listener).map(|_| ()).map_err(|refusal| refusal.status)
        };
        assert_eq!(status(""), Ok(()));
        assert_eq!(status("Content-Length: 1\r\n"), Err(400), "RFC 9110 9.3.8");
        assert_eq!(status("Transfer-Encoding: chunked\r\n"), Err(400), "RFC 9110 9.3.8");
    }

    #[test]
    fn expectations_are_understood_from_http_1_1_only() {
        let expects = |version: &str, value: &str| {
            let text = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 1\r\n\r\n");
            admitted(&text).map(|(admitted, head)| (admitted.expects_continue, head.has(Name::Expect)))
        };
        assert_eq!(expects("1.1", "100-Continue"), Ok((true, true)), "RFC 9110 10.1.1: case");
        assert_eq!(expects("1.0", "100-continue"), Ok((false, false)), "RFC 9110 10.1.1: ignored");
        assert_eq!(expects("1.0", "x"), Ok((false, false)), "RFC 9110 10.1.1: ignored");
    }

    #[test]
    fn upgrades_are_offered_by_http_1_1_without_a_body_and_named_by_connection() {
        let offers = |version: &str, lines: &str| {
            let (admitted, head) =
                admitted(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).expect("admitted");
            admitted.upgrade.map(|span| String::from_utf8_lossy(head.text(span)).into_owned())
        };
        let both = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        let cases = [
            ("1.1", both.to_owned(), Some("websocket"), "RFC 9110 7.8"),
            ("1.1", format!("{both}Content-Length: 0\r\n"), Some("websocket"), "an empty body is none"),
            ("1.0", both.to_owned(), None, "RFC 9110 7.8: HTTP/1.0 has no upgrade"),
            ("1.1", "Upgrade: websocket\r\n".into(), None, "RFC 9110 7.8: Connection must name it"),
            ("1.1", "Connection: Upgrade\r\n".into(), None, "nothing offered"),
            ("1.1", format!("{both}Content-Length: 5\r\n"), None, "a body"),
            ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n".into(), None, "RFC 9113 3.1: h2c"),
            ("1.1", format!("{both}Upgrade: h2c\r\n"), None, "RFC 9113 3.1: h2c in a second field"),
        ];
        for (version, lines, expected, why) in cases {
            assert_eq!(offers(version, &lines).as_deref(), expected, "{why}");
        }
    }
}
