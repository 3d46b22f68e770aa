//! Fields that concern one connection only are taken off, in both directions (RFC 9110 section 7.6.1).
//!
//! That is those that the RFC names, `Keep-Alive` and `Proxy-Connection` of old, `Proxy-Authorization` and
//! `Proxy-Authenticate` (sections 11.7.1 and 11.7.2: meant for us, and we neither ask nor answer), and each that
//! `Connection` names. What must stay for the next connection is added anew: `Upgrade` where the stack wants it, and
//! `TE: trailers`, because trailers pass here (gRPC clients insist). `Transfer-Encoding` is made anew by whoever writes the
//! body. `Trailer` stays.
//!
//! `Connection` may not remove what Plimsoll itself speaks for (`Via`, the forwarding and the trace fields): with a list
//! from a trusted peer gone, its own address would pass for the client's (CVE-2022-31813). `Host` and framing fields named
//! there never get this far (`admit`, `http1::framing`). The RFC has everything else removed, even `Authorization` and
//! `Cookie`: that can only take rights away from the one who asks for it.

use crate::http1::head::list;
use crate::http1::{Head, Name, NameSet, Version};

/// What becomes of `Upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// The request asks for an upgrade that passes, or the response (101) agrees to it.
    Keep,
    /// Anything else.
    Drop,
}

/// Takes the fields off a request.
#[inline]
pub fn request(head: &mut Head, upgrade: Upgrade) {
    if !head.has_any(CONCERNED) {
        return;
    }
    let trailers = head.has(Name::Te) && head.all(Name::Te).flat_map(list).any(accepts_trailers);
    strip(head, upgrade);
    if trailers {
        head.add("TE", &[b"trailers"]);
    }
    match (upgrade, trailers) {
        (Upgrade::Keep, true) => head.add("Connection", &[b"upgrade, TE"]),
        (Upgrade::Keep, false) => head.add("Connection", &[b"upgrade"]),
        (Upgrade::Drop, true) => head.add("Connection", &[b"TE"]),
        (Upgrade::Drop, false) => {}
    }
}

/// Takes the fields off a response. `Upgrade` of a 426 stays, too: it must have one (RFC 9110 section 15.5.22).
/// `Content-Length` of a 1xx or 204 does not: it must not have one (section 8.6), and a client that believes it would
/// wait for a body, or take the next response for it.
#[inline]
pub fn response(head: &mut Head, upgrade: Upgrade) {
    if matches!(head.status(), 100..=199 | 204) {
        head.remove(Name::ContentLength);
    }
    if !head.has_any(CONCERNED) {
        return;
    }
    let keep = upgrade == Upgrade::Keep || (head.status() == 426 && head.has(Name::Upgrade));
    strip(head, if keep { Upgrade::Keep } else { Upgrade::Drop });
    if keep {
        head.add("Connection", &[b"upgrade"]);
    }
}

/// The fields of this layer but `Upgrade`.
const ALWAYS: &[Name] = &[
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::Te,
    Name::TransferEncoding,
    Name::Http2Settings,
    Name::ProxyAuthorization,
    Name::ProxyAuthenticate,
];

/// All fields of this layer: without one of them there is nothing to do.
const CONCERNED: NameSet = {
    let mut names = [Name::Upgrade; ALWAYS.len() + 1];
    let mut index = 0;
    while index < ALWAYS.len() {
        names[index] = ALWAYS[index];
        index += 1;
    }
    NameSet::of(&names)
};

/// What `Connection` may not remove.
const OUR_WORD: &[Name] = &[
    Name::Host,
    Name::ContentLength,
    Name::Upgrade,
    Name::Via,
    Name::Forwarded,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XRealIp,
    Name::Traceparent,
    Name::Tracestate,
    Name::XRequestId,
];

/// Known names that `Connection` may remove and that this layer does not remove anyway.
const REMOVABLE: NameSet = NameSet::of(&{
    let mut names = [Name::Upgrade; ALWAYS.len() + OUR_WORD.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = if index < ALWAYS.len() { ALWAYS[index] } else { OUR_WORD[index - ALWAYS.len()] };
        index += 1;
    }
    names
})
.complement();

fn strip(head: &mut Head, upgrade: Upgrade) {
    let options = head.connection();
    // Rare, so it may allocate; `keep-alive`, `close` and `upgrade` have been understood while the head was parsed.
    if options.others || options.names.intersects(REMOVABLE) {
        let named: Vec<Vec<u8>> =
            head.all(Name::Connection).flat_map(list).filter(may_remove).map(<[u8]>::to_vec).collect();
        for name in named {
            head.remove_text(&name);
        }
    }
    match upgrade {
        Upgrade::Keep => head.remove_all(NameSet::of(ALWAYS)),
        Upgrade::Drop => head.remove_all(CONCERNED),
    }
}

fn may_remove(option: &&[u8]) -> bool {
    REMOVABLE.contains(Name::recognise(option))
}

/// `trailers`, with or without the weight that it cannot have.
fn accepts_trailers(member: &[u8]) -> bool {
    let coding = member.split(|byte| *byte == b';').next().unwrap_or_default();
    coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
}

/// Whether `Upgrade` offers a protocol that must not pass: HTTP/2 or TLS within the connection would let a client speak
/// to the instance past every layer ("h2c smuggling"), and RFC 9113 section 3.1 has given the former up.
pub(super) fn is_forbidden_upgrade(value: &[u8]) -> bool {
    list(value).any(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"HTTP", b"TLS"].iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
    })
}

/// Whether the request asks for an upgrade (RFC 9110 section 7.8): HTTP/1.0 has none, and `Connection` must name it.
pub(super) fn asks_for_upgrade(head: &Head) -> bool {
    head.has(Name::Upgrade) && head.version() != Version::Http10 && head.connection().names.contains(Name::Upgrade)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, request as head, response as response_head};
    use super::*;

    fn left(head: &Head) -> Vec<String> {
        fields(head).into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn requests_lose_what_concerned_the_connection() {
        let cases: [(&str, Upgrade, &[&str], &str); 20] = [
            ("", Upgrade::Drop, &[], "nothing to do"),
            ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", Upgrade::Drop, &[], "7.6.1"),
            ("Connection: close\r\nX: 1\r\n", Upgrade::Drop, &["X: 1"], "7.6.1"),
            ("Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n", Upgrade::Drop, &["X-B: 2"], "7.6.1: named"),
            ("Connection: close ,\tX-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n", Upgrade::Drop, &[], "7.6.1: lists"),
            ("X-A: 1\r\nConnection: x-a\r\n", Upgrade::Drop, &[], "7.6.1: case, order"),
            (
                "Connection: Cookie, Authorization\r\nCookie: a\r\nAuthorization: b\r\n",
                Upgrade::Drop,
                &[],
                "7.6.1: any",
            ),
            ("Proxy-Connection: keep-alive\r\n", Upgrade::Drop, &[], "7.6.1: without Connection"),
            ("Keep-Alive: 5\r\n", Upgrade::Drop, &[], "7.6.1: without Connection"),
            ("Transfer-Encoding: chunked\r\nTrailer: X\r\n", Upgrade::Drop, &["Trailer: X"], "RFC 9112 6.1"),
            ("TE: gzip\r\nConnection: TE\r\n", Upgrade::Drop, &[], "10.1.4"),
            ("TE: trailers\r\nConnection: TE\r\n", Upgrade::Drop, &["TE: trailers", "Connection: TE"], "10.1.4"),
            ("TE: gzip;q=0.5, Trailers\r\n", Upgrade::Drop, &["TE: trailers", "Connection: TE"], "10.1.4"),
            ("Upgrade: websocket\r\nConnection: Upgrade\r\n", Upgrade::Drop, &[], "7.8"),
            ("Upgrade: x\r\n", Upgrade::Drop, &[], "7.8: not named by Connection"),
            (
                "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
                Upgrade::Keep,
                &["Upgrade: websocket", "Connection: upgrade"],
                "7.8",
            ),
            (
                "Upgrade: websocket\r\nConnection: Upgrade, TE\r\nTE: trailers\r\n",
                Upgrade::Keep,
                &["Upgrade: websocket", "TE: trailers", "Connection: upgrade, TE"],
                "7.8 and 10.1.4",
            ),
            ("Proxy-Authorization: Basic x\r\nAuthorization: b\r\n", Upgrade::Drop, &["Authorization: b"], "11.7.2"),
            ("HTTP2-Settings: x\r\n", Upgrade::Drop, &[], "RFC 7540 3.2.1"),
            (
                "Connection: Via, X-Forwarded-For, traceparent\r\nVia: 1.1 a\r\nX-Forwarded-For: b\r\ntraceparent: c\r\n",
                Upgrade::Drop,
                &["Via: 1.1 a", "X-Forwarded-For: b", "traceparent: c"],
                "what we speak for",
            ),
        ];
        for (lines, upgrade, expected, why) in cases {
            let mut head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            request(&mut head, upgrade);
            assert_eq!(left(&head)[1..], *expected, "RFC 9110 {why}: {lines:?}");
        }
    }

    #[test]
    fn responses_lose_it_too() {
        let cases: [(&str, Upgrade, &[&str], &str); 12] = [
            ("204 N\r\nContent-Length: 0\r\nETag: x\r\n", Upgrade::Drop, &["ETag: x"], "8.6"),
            ("103 E\r\nContent-Length: 5\r\nLink: x\r\n", Upgrade::Drop, &["Link: x"], "8.6"),
            ("304 N\r\nContent-Length: 5\r\n", Upgrade::Drop, &["Content-Length: 5"], "8.6: what GET would have"),
            ("200 OK\r\nServer: x\r\n", Upgrade::Drop, &["Server: x"], "nothing to do"),
            ("200 OK\r\nConnection: close, X-A\r\nX-A: 1\r\nX-B: 2\r\n", Upgrade::Drop, &["X-B: 2"], "7.6.1"),
            ("200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n", Upgrade::Drop, &[], "7.6.1"),
            ("200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n", Upgrade::Drop, &["Trailer: X"], "RFC 9112 6.1"),
            ("200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\n", Upgrade::Drop, &[], "7.8: an offer of Apache's"),
            (
                "407 P\r\nProxy-Authenticate: Basic\r\nWWW-Authenticate: b\r\n",
                Upgrade::Drop,
                &["WWW-Authenticate: b"],
                "11.7.1",
            ),
            (
                "101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
                Upgrade::Keep,
                &["Upgrade: websocket", "Connection: upgrade"],
                "7.8",
            ),
            (
                "426 U\r\nUpgrade: x\r\nConnection: Upgrade\r\n",
                Upgrade::Drop,
                &["Upgrade: x", "Connection: upgrade"],
                "15.5.22",
            ),
            ("426 U\r\nConnection: close\r\n", Upgrade::Drop, &[], "15.5.22: nothing to keep"),
        ];
        for (lines, upgrade, expected, why) in cases {
            let mut head = response_head(&format!("HTTP/1.1 {lines}\r\n"));
            response(&mut head, upgrade);
            assert_eq!(left(&head), expected, "RFC 9110 {why}: {lines:?}");
        }
    }

    #[test]
    fn upgrades_to_other_framings_of_http_do_not_pass() {
        for value in ["h2c", "H2C", "websocket, h2c", "h2", "HTTP/2.0", "TLS/1.0"] {
            assert!(is_forbidden_upgrade(value.as_bytes()), "{value}");
        }
        for value in ["websocket", "SPDY/3.1", "tcp", "h2x", ""] {
            assert!(!is_forbidden_upgrade(value.as_bytes()), "{value}");
        }
    }
}
