//! From `http` to `https`: the answer to a request that came without TLS to a listener that sends everybody there.
//!
//! 308 (RFC 9110 section 15.4.9), because 301 lets clients turn a POST into a GET. Path and query go as they came; host and
//! path have been through `admit`, so that nothing in them can end the line or name another host.

use super::Refusal;
use super::admit::Admitted;
use super::date::HttpDate;
use crate::config::model::Redirect;
use crate::http1::{Head, Persistence};

/// Writes the whole answer; `lines` are further fields.
///
/// # Errors
/// If the request names no host, as HTTP/1.0 allows: there is nowhere to send it.
pub fn write_answer(
    out: &mut Vec<u8>,
    redirect: Redirect,
    head: &Head,
    admitted: &Admitted,
    persistence: Persistence,
    lines: &[u8],
    date: &HttpDate,
) -> Result<(), Refusal> {
    if admitted.host.is_empty() {
        return Err(Refusal::bad_request("without a host it cannot be redirected to https"));
    }
    let port = redirect.port.map_or_else(String::new, |port| format!(":{port}"));
    let connection: &[u8] = if persistence == Persistence::Close { b"close" } else { b"keep-alive" };
    // `OPTIONS *` asks about the server as a whole, and is written without a path as an absolute URI (RFC 9112 section 3.2.4).
    let target = if admitted.asterisk { Vec::new().into() } else { admitted.target(head) };
    for part in [
        b"HTTP/1.1 308 Permanent Redirect\r\nDate: ",
        date.text(),
        b"\r\nLocation: https://",
        head.text(admitted.host),
        port.as_bytes(),
        &*target,
        b"\r\nContent-Length: 0\r\nConnection: ",
        connection,
        b"\r\n",
        lines,
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::admit::admit;
    use super::super::testing::{listener, request};
    use super::*;

    fn answer(text: &str, port: Option<u16>) -> Result<String, u16> {
        let mut head = request(text);
        let admitted = admit(&mut head, &listener()).map_err(|refusal| refusal.status)?;
        let (mut out, date) = (Vec::new(), HttpDate::at(UNIX_EPOCH));
        write_answer(&mut out, Redirect { port }, &head, &admitted, Persistence::KeepAlive, b"", &date)
            .map_err(|refusal| refusal.status)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn path_and_query_stay_and_the_port_is_the_one_of_https() {
        let cases = [
            ("GET /a/b?c=d&e HTTP/1.1\r\nHost: a.test", None, "https://a.test/a/b?c=d&e"),
            ("GET /a%2fb;c?%0d HTTP/1.1\r\nHost: a.test:8080", None, "https://a.test/a%2fb;c?%0d"),
            ("POST / HTTP/1.1\r\nHost: a.test:80", Some(8443), "https://a.test:8443/"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80", Some(8443), "https://[::1]:8443/"),
            ("GET http://b.test:81?x HTTP/1.1\r\nHost: a.test", None, "https://b.test/?x"),
            ("GET //evil.test/x HTTP/1.1\r\nHost: a.test", None, "https://a.test//evil.test/x"),
            ("OPTIONS * HTTP/1.1\r\nHost: a.test", None, "https://a.test"),
        ];
        for (request, port, location) in cases {
            let answer = answer(&format!("{request}\r\n\r\n"), port).expect(request);
            assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
            assert!(answer.contains(&format!("\r\nLocation: {location}\r\n")), "{answer}");
            assert!(answer.ends_with("\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"), "{answer}");
        }
    }

    #[test]
    fn what_names_no_host_cannot_be_sent_anywhere() {
        assert_eq!(answer("GET / HTTP/1.0\r\n\r\n", None), Err(400));
    }
}
