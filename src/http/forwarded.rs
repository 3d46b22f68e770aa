//! Who the client is, by which scheme and under which host: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! Instances believe these fields, so a client must never be able to write them: they are set afresh. Only a peer in
//! `trusted_proxies` is a proxy of ours that speaks for its own client, and gets its lists appended to; `-Proto` and
//! `-Host` are no lists to most readers (`https, http` is not `https`), so what such a peer says of them stays. A trusted
//! peer that knows only `X-Forwarded-For` has its list turned into `Forwarded` (RFC 7239 section 7.4), because instances
//! that know both prefer the latter and would take the peer for the client. `X-Real-IP` and `X-Forwarded-Port`, which
//! Plimsoll does not set, pass from trusted peers only.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::admit::Admitted;
use crate::http1::{Head, Name, NameSet, Span};

/// The scheme that a client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in URIs.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whose word is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A client.
    None,
    /// In `trusted_proxies`.
    Proxy,
}

/// The other end of a client connection: made once per connection, so that a request only copies.
#[derive(Debug, Clone)]
pub struct Peer {
    trust: Trust,
    scheme: Scheme,
    /// `"[` address `]"`.
    text: String,
    /// Where the address stands in `text`.
    address: std::ops::Range<usize>,
    /// Where the node of `for=` stands in `text`: an IPv6 address needs brackets and quotes (RFC 7239 section 6).
    node: std::ops::Range<usize>,
    /// For a client: the lines about it for `lines_host`, ready to be copied, because one connection rarely asks for two
    /// hosts. For a proxy: values under construction.
    lines: Vec<u8>,
    /// Where the host stands in `lines`; `None`: they are still to be made.
    lines_host: Option<std::ops::Range<usize>>,
}

impl Peer {
    /// The peer at `address`. An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`, on a socket for both) is an IPv4 address.
    #[must_use]
    pub fn new(address: SocketAddr, scheme: Scheme, trusted_proxies: &[IpNet]) -> Self {
        let ip = address.ip().to_canonical();
        let trusted = trusted_proxies.iter().any(|network| network.contains(&ip));
        let text = format!("\"[{ip}]\"");
        let address = 2..text.len() - 2;
        let node = if ip.is_ipv6() { 0..text.len() } else { address.clone() };
        let trust = if trusted { Trust::Proxy } else { Trust::None };
        Self { trust, scheme, text, address, node, lines: Vec::new(), lines_host: None }
    }

    /// The address without a port, as text.
    #[must_use]
    pub fn ip_text(&self) -> &str {
        &self.text[self.address.clone()]
    }

    /// Whether the request came by TLS: to us, or to a proxy that speaks for its client.
    #[must_use]
    pub fn is_secure(&self, head: &Head) -> bool {
        match self.trust {
            Trust::Proxy if head.has(Name::XForwardedProto) => {
                // The first one is about the client; proxies between add theirs behind it.
                let proto = head.first(Name::XForwardedProto).unwrap_or_default();
                let first = proto.split(|byte| *byte == b',').next().unwrap_or_default();
                first.trim_ascii().eq_ignore_ascii_case(b"https")
            }
            _ => self.scheme == Scheme::Https,
        }
    }

    /// Whether it came by TLS to us.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it speaks for its own clients.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

/// Tells the instance about the client.
#[inline]
pub fn apply(head: &mut Head, peer: &mut Peer, admitted: &Admitted) {
    match peer.trust {
        Trust::None => set(head, peer, admitted.authority),
        Trust::Proxy => append(head, peer, Some(admitted.authority).filter(|authority| !authority.is_empty())),
    }
}

/// Sets everything afresh.
#[inline]
fn set(head: &mut Head, peer: &mut Peer, authority: Span) {
    head.remove_all(OURS);
    let host = head.text(authority);
    if peer.lines_host.as_ref().is_none_or(|lines_host| peer.lines[lines_host.clone()] != *host) {
        make_lines(peer, host);
    }
    head.add_lines(&peer.lines);
}

/// Makes the lines about a client that asks for `host`; an empty one is not told.
fn make_lines(peer: &mut Peer, host: &[u8]) {
    let mut lines = std::mem::take(&mut peer.lines);
    lines.clear();
    for part in ["X-Forwarded-For: ", peer.ip_text(), "\r\nX-Forwarded-Proto: ", peer.scheme.text(), "\r\nForwarded: "]
    {
        lines.extend_from_slice(part.as_bytes());
    }
    push_element(
        &mut lines,
        peer.text[peer.node.clone()].as_bytes(),
        peer.scheme,
        Some(host).filter(|host| !host.is_empty()),
    );
    lines.extend_from_slice(b"\r\n");
    let mut lines_host = 0..0;
    if !host.is_empty() {
        lines.extend_from_slice(b"X-Forwarded-Host: ");
        lines_host = lines.len()..lines.len() + host.len();
        lines.extend_from_slice(host);
        lines.extend_from_slice(b"\r\n");
    }
    peer.lines = lines;
    peer.lines_host = Some(lines_host);
}

/// The fields that only we and trusted peers may write.
const OURS: NameSet = NameSet::of(&[
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XRealIp,
    Name::Forwarded,
]);

/// Appends to what a trusted peer says.
fn append(head: &mut Head, peer: &mut Peer, authority: Option<Span>) {
    let mut lines = std::mem::take(&mut peer.lines);
    lines.clear();
    append_in(&mut lines, head, peer, authority);
    peer.lines = lines;
}

fn append_in(scratch: &mut Vec<u8>, head: &mut Head, peer: &Peer, authority: Option<Span>) {
    let address = peer.ip_text().as_bytes();
    let node = peer.text[peer.node.clone()].as_bytes();
    let host = authority.map(|authority| head.text(authority));

    // Before `X-Forwarded-For` grows, because it may be made of it.
    if head.has(Name::Forwarded) {
        push_list(scratch, head, Name::Forwarded);
        push_element(scratch, node, peer.scheme, host);
    } else {
        let before = head.all(Name::XForwardedFor).flat_map(|list| list.split(|byte| *byte == b','));
        for client in before.map(<[u8]>::trim_ascii).filter(|client| !client.is_empty()) {
            scratch.extend_from_slice(b"for=");
            push_node(scratch, client);
            scratch.extend_from_slice(b", ");
        }
        push_element(scratch, node, peer.scheme, host);
    }
    head.remove(Name::Forwarded);
    head.add("Forwarded", &[scratch]);

    // One line, because many readers see only the first or the last one.
    scratch.clear();
    push_list(scratch, head, Name::XForwardedFor);
    scratch.extend_from_slice(address);
    head.remove(Name::XForwardedFor);
    head.add("X-Forwarded-For", &[scratch]);

    if !head.has(Name::XForwardedProto) {
        head.add("X-Forwarded-Proto", &[peer.scheme.text().as_bytes()]);
    }
    if let Some(authority) = authority.filter(|_| !head.has(Name::XForwardedHost)) {
        scratch.clear();
        scratch.extend_from_slice(head.text(authority));
        head.add("X-Forwarded-Host", &[scratch]);
    }
}

/// All values of a list field, each followed by a comma.
fn push_list(out: &mut Vec<u8>, head: &Head, name: Name) {
    for value in head.all(name).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// `for=…;proto=…;host="…"`; the host needs quotes for its port and brackets, and has nothing to escape (`authority`).
#[inline]
fn push_element(out: &mut Vec<u8>, node: &[u8], scheme: Scheme, host: Option<&[u8]>) {
    out.extend_from_slice(b"for=");
    out.extend_from_slice(node);
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme.text().as_bytes());
    if let Some(host) = host {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
}

/// A member of `X-Forwarded-For` as a node (RFC 7239 section 6): an address, with its port if it has one, else `unknown`.
fn push_node(out: &mut Vec<u8>, client: &[u8]) {
    let mut text = String::new();
    let written = std::str::from_utf8(client).ok().and_then(|client| {
        let bare = client.strip_prefix('[').and_then(|client| client.strip_suffix(']')).unwrap_or(client);
        match (bare.parse::<IpAddr>(), client.parse::<SocketAddr>()) {
            (Ok(IpAddr::V4(ip)), _) => write!(text, "{ip}").ok(),
            (Ok(IpAddr::V6(ip)), _) => write!(text, "\"[{ip}]\"").ok(),
            (Err(_), Ok(address)) => write!(text, "\"{address}\"").ok(),
            (Err(_), Err(_)) => None,
        }
    });
    out.extend_from_slice(written.map_or("unknown", |()| text.as_str()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, request};
    use super::*;
    use crate::config::model::Listener;

    /// The fields about the client after the layer, sorted by name.
    fn applied(peer: &str, trusted: &str, lines: &str) -> Vec<String> {
        let listener = Listener {
            trusted_proxies: vec![trusted.parse().expect("a network")],
            ..super::super::testing::listener()
        };
        let mut head = request(&format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        let admitted = super::super::admit::admit(&mut head, &listener).expect("admitted");
        let mut peer = Peer::new(peer.parse().expect("an address"), Scheme::Http, &listener.trusted_proxies);
        apply(&mut head, &mut peer, &admitted);
        let about = |name: &str| name.starts_with("x-") || name == "forwarded";
        let mut found: Vec<String> = fields(&head)
            .into_iter()
            .filter(|(name, _)| about(&name.to_ascii_lowercase()))
            .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_client_is_told_about_and_its_own_word_dropped() {
        let imitations = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
            X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nForwarded: for=x\r\n";
        let cases = [
            (
                "192.0.2.1:4711",
                "Host: a.example:8080\r\n",
                [
                    "forwarded: for=192.0.2.1;proto=http;host=\"a.example:8080\"",
                    "x-forwarded-for: 192.0.2.1",
                    "x-forwarded-host: a.example:8080",
                ],
                "RFC 7239 4: host with a port needs quotes",
            ),
            (
                "[2001:db8::1]:4711",
                "Host: [::1]:80\r\n",
                [
                    "forwarded: for=\"[2001:db8::1]\";proto=http;host=\"[::1]:80\"",
                    "x-forwarded-for: 2001:db8::1",
                    "x-forwarded-host: [::1]:80",
                ],
                "RFC 7239 6: IPv6 in brackets and quotes",
            ),
            (
                "[::ffff:192.0.2.1]:4711",
                "Host: a\r\n",
                ["forwarded: for=192.0.2.1;proto=http;host=\"a\"", "x-forwarded-for: 192.0.2.1", "x-forwarded-host: a"],
                "IPv4 on a socket for both",
            ),
        ];
        for (peer, host, expected, why) in cases {
            for lines in [String::from(host), format!("{imitations}{host}")] {
                let mut expected: Vec<_> = expected.map(String::from).into();
                expected.push("x-forwarded-proto: http".into());
                assert_eq!(applied(peer, "10.0.0.0/8", &lines), expected, "{why}");
            }
        }
    }

    #[test]
    fn a_trusted_peer_is_appended_to() {
        let cases: [(&str, &[&str], &str); 8] = [
            (
                "",
                &[
                    "forwarded: for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "nothing to append to",
            ),
            (
                "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 192.0.2.1\r\n",
                &[
                    "forwarded: for=192.0.2.1, for=192.0.2.2, for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 192.0.2.1, 192.0.2.2, 10.0.0.1",
                    "x-forwarded-host: b",
                    "x-forwarded-port: 443",
                    "x-forwarded-proto: https",
                    "x-real-ip: 192.0.2.1",
                ],
                "RFC 7239 7.4: made of X-Forwarded-For",
            ),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n",
                &[
                    "forwarded: for=192.0.2.1, for=192.0.2.2, for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 192.0.2.1, 192.0.2.2, 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "RFC 9110 5.3: lines are one list",
            ),
            (
                "X-Forwarded-For: 2001:db8::1, [2001:db8::2]:80, 192.0.2.1:80, [2001:db8::3], _hidden, a\"b,\r\n",
                &[
                    "forwarded: for=\"[2001:db8::1]\", for=\"[2001:db8::2]:80\", for=\"192.0.2.1:80\", for=\"[2001:db8::3]\", for=unknown, for=unknown, for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 2001:db8::1, [2001:db8::2]:80, 192.0.2.1:80, [2001:db8::3], _hidden, a\"b,, 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "RFC 7239 6: nodes",
            ),
            (
                "Forwarded: for=192.0.2.1;proto=https\r\nForwarded: for=_b\r\n",
                &[
                    "forwarded: for=192.0.2.1;proto=https, for=_b, for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "RFC 7239 4: elements are appended",
            ),
            (
                "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.9\r\n",
                &[
                    "forwarded: for=192.0.2.1, for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 192.0.2.9, 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "both: each by itself",
            ),
            (
                "X-Forwarded-For:\r\n",
                &[
                    "forwarded: for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: http",
                ],
                "an empty list",
            ),
            (
                "Connection: close\r\nX-Forwarded-Proto: https\r\n",
                &[
                    "forwarded: for=10.0.0.1;proto=http;host=\"a\"",
                    "x-forwarded-for: 10.0.0.1",
                    "x-forwarded-host: a",
                    "x-forwarded-proto: https",
                ],
                "its scheme stays",
            ),
        ];
        for (lines, expected, why) in cases {
            let lines = format!("Host: a\r\n{lines}");
            assert_eq!(applied("10.0.0.1:4711", "10.0.0.0/8", &lines), expected, "{why}");
            assert_eq!(
                applied("[::ffff:10.0.0.1]:4711", "10.0.0.0/8", &lines),
                expected,
                "IPv4 in IPv6 is trusted: {why}"
            );
        }
    }

    #[test]
    fn the_host_of_one_request_does_not_leak_into_the_next() {
        let mut peer = Peer::new("192.0.2.1:1".parse().expect("an address"), Scheme::Https, &[]);
        for host in ["first.example", "b", "b", "b:80", "first.example"] {
            let mut head = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let admitted = super::super::admit::admit(&mut head, &super::super::testing::listener()).expect("admitted");
            apply(&mut head, &mut peer, &admitted);
            let expected = format!("for=192.0.2.1;proto=https;host=\"{host}\"");
            assert!(fields(&head).contains(&("Forwarded".into(), expected)), "{:?}", fields(&head));
            assert!(fields(&head).contains(&("X-Forwarded-Host".into(), host.into())), "{:?}", fields(&head));
        }
    }
}
