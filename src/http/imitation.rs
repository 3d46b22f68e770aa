//! Client fields that would pass for ours behind a gateway that maps names to variables.
//!
//! CGI, WSGI, Rack, PHP and others turn both `X-Forwarded-For` and `X_Forwarded_For` into `HTTP_X_FORWARDED_FOR`, and the
//! last one wins. So a field with underscores whose name with hyphens is one that Plimsoll sets or trusts is dropped,
//! also from trusted peers: no proxy sends such a name. `Proxy` is dropped because the same mapping makes it the variable
//! that HTTP clients take for their forward proxy (CVE-2016-5385, "httpoxy").
//!
//! The fields about a client's certificate are dropped in any spelling, but for a trusted peer that speaks for its client.

use crate::http1::name::tells_client_certificate;
use crate::http1::{Head, Name, NameSet};

/// Fields that Plimsoll sets, acts on or believes, and that have a hyphen to imitate.
const PROTECTED: NameSet = NameSet::of(&[
    Name::ContentLength,
    Name::TransferEncoding,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::ProxyAuthorization,
    Name::Http2Settings,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XRealIp,
    Name::XRequestId,
    Name::MaxForwards,
]);

/// Longer than each of their names.
const NAME_BYTES_MAX: usize = 32;

/// A bit per length that one of their names (or `Proxy`) has: most fields are passed over by that alone.
const LENGTHS: u32 =
    1 << 5 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 19 | 1 << 21 | 1 << 25;

/// Whose word on the client's certificate goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Ours alone.
    Ours,
    /// The peer's: it speaks for its client, and has not shown one itself.
    Peers,
}

/// Drops the imitations.
#[inline]
pub fn drop_all(head: &mut Head, certificate: Certificate) {
    if !head.has(Name::Other) {
        return;
    }
    // Allocates only where there is one.
    let found: Vec<usize> = head
        .fields()
        .filter(|field| field.name == Name::Other && imitates(field.text, certificate))
        .map(|field| field.index)
        .collect();
    for index in found {
        head.remove_at(index);
    }
}

#[inline]
fn imitates(name: &[u8], certificate: Certificate) -> bool {
    if name.len() >= NAME_BYTES_MAX || LENGTHS & 1 << name.len() == 0 {
        return false;
    }
    if !name.contains(&b'_') {
        let passes = certificate == Certificate::Peers || !tells_client_certificate(name);
        return name.eq_ignore_ascii_case(b"proxy") || !passes;
    }
    let mut hyphened = [0; NAME_BYTES_MAX];
    for (to, from) in hyphened.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    let hyphened = &hyphened[..name.len()];
    PROTECTED.contains(Name::recognise(hyphened)) || tells_client_certificate(hyphened)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, request};
    use super::*;

    #[test]
    fn a_peer_that_is_believed_tells_of_certificates_in_their_own_spelling_only() {
        let mut head = request("GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AA==:\r\nClient_Cert: :AB==:\r\n\r\n");
        drop_all(&mut head, Certificate::Peers);
        let kept = [("Host", "a"), ("Client-Cert", ":AA==:")];
        assert_eq!(fields(&head), kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn imitations_are_dropped_and_other_underscores_kept() {
        let dropped = [
            "X_Forwarded_For",
            "x_forwarded_for",
            "X-Forwarded_For",
            "X_FORWARDED_PROTO",
            "X_Forwarded-Host",
            "X_Forwarded_Port",
            "X_Real_IP",
            "X_Request_Id",
            "Content_Length",
            "Transfer_Encoding",
            "Max_Forwards",
            "Keep_Alive",
            "Proxy_Connection",
            "Proxy_Authorization",
            "HTTP2_Settings",
            "Proxy",
            "PROXY",
            "Client-Cert",
            "client_cert",
            "CLIENT-CERT-CHAIN",
            "X_Client-Cert_Subject",
            "X-Client-Cert-SAN",
            "x_client_cert_fingerprint",
        ];
        for name in dropped {
            let mut head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\nX-A: 1\r\n{name}: 2\r\n\r\n"));
            drop_all(&mut head, Certificate::Ours);
            let kept = [("Host".to_owned(), "a".to_owned()), ("X-A".to_owned(), "1".to_owned())];
            assert_eq!(fields(&head), kept, "{name}");
        }
        let long = format!("X_{}", "a".repeat(100));
        for name in
            ["My_Field", "X_Forwarded_Fo", "X_Forwarded_For_", "_Host", "Host_", "Proxy2", "X-Forwarded-For", &long]
        {
            let mut head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\n\r\n"));
            drop_all(&mut head, Certificate::Ours);
            assert_eq!(fields(&head).len(), 2, "{name}");
        }
    }
}
