//! Who may ask the admin API what.
//!
//! `/live` and `/ready` are open: load balancers and orchestrators ask them. Everything else needs the token where one is
//! configured (off loopback one must be). Without a token the API trusts whoever reaches loopback, and a browser on this
//! machine does so on behalf of any page it shows. So requests that change something must not come from a page of another
//! origin (`Origin`), nor under a name of a foreign domain that was pointed to 127.0.0.1 (DNS rebinding: `Host`).

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::{Method, StatusCode};

use super::answer::{Answer, failure, unauthorized};
use crate::config::model::Secret;

/// What a path demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone may ask.
    Open,
    /// Those who have the token.
    Operators,
}

/// Lets a request pass, or says why not.
pub(super) fn admit(
    method: &Method,
    headers: &HeaderMap,
    access: Access,
    token: Option<&Secret>,
) -> Result<(), Box<Answer>> {
    if access == Access::Open {
        return Ok(());
    }
    if token.is_some_and(|token| !bears(headers, token)) {
        return Err(Box::new(unauthorized()));
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if changes && !same_origin(headers) {
        let error = "requests from pages of another origin are refused";
        return Err(Box::new(failure(StatusCode::FORBIDDEN, error, Some("send no `Origin`"))));
    }
    // Who knows the token is no browser that was led here.
    if changes && token.is_none() && !host(headers).is_some_and(is_this_machine) {
        let error = "`Host` has to be an IP address or `localhost`";
        let hint = "ask by address, or set `token_file` in `[admin]`: then any name will do";
        return Err(Box::new(failure(StatusCode::FORBIDDEN, error, Some(hint))));
    }
    Ok(())
}

fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, credentials)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return false };
    let equal = equal_in_constant_time(credentials.trim().as_bytes(), token.reveal().as_bytes());
    scheme.eq_ignore_ascii_case("bearer") && equal
}

/// Takes as long for any two texts of the same lengths, so that the time tells nothing about the token but its length.
fn equal_in_constant_time(given: &[u8], token: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != token.len());
    for (index, byte) in given.iter().enumerate() {
        // `black_box` keeps the compiler from leaving the loop at the first difference.
        difference |= std::hint::black_box(byte ^ token.get(index).copied().unwrap_or_default());
    }
    std::hint::black_box(difference) == 0 && !token.is_empty()
}

/// Whether there is no `Origin`, or one of this very listener.
fn same_origin(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    origins.next().is_none()
        && authority.is_some()
        && authority.map(str::to_ascii_lowercase) == host(headers).map(str::to_ascii_lowercase)
}

fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

/// Whether a `Host` names no domain that somebody else could point to this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn status(method: &Method, access: Access, token: Option<&str>, fields: &[(&'static str, &'static str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let token = token.map(Secret::new);
        admit(method, &headers, access, token.as_ref()).map_or_else(|answer| answer.status().as_u16(), |()| 200)
    }

    #[test]
    fn the_token_is_asked_for_where_it_is_configured_and_must_be_the_whole_one() {
        let get = |fields: &[_]| status(&Method::GET, Access::Operators, Some("s3cret"), fields);
        assert_eq!(get(&[("authorization", "Bearer s3cret")]), 200);
        assert_eq!(get(&[("authorization", "bearer  s3cret")]), 200);
        for wrong in ["Bearer s3cre", "Bearer s3cret0", "Bearer ", "Bearer", "Basic s3cret", "s3cret", ""] {
            assert_eq!(get(&[("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(get(&[]), 401);
        assert_eq!(get(&[("authorization", "Bearer no"), ("authorization", "Bearer s3cret")]), 401);
        assert_eq!(status(&Method::GET, Access::Open, Some("s3cret"), &[]), 200);
        assert_eq!(status(&Method::GET, Access::Operators, None, &[]), 200);
    }

    #[test]
    fn a_page_of_another_origin_cannot_change_anything() {
        let post = |origin| status(&Method::POST, Access::Operators, None, &[("host", "127.0.0.1:1876"), origin]);
        assert_eq!(post(("origin", "http://127.0.0.1:1876")), 200);
        for foreign in ["http://127.0.0.1:8080", "https://evil.example", "null", ""] {
            assert_eq!(post(("origin", foreign)), 403, "{foreign}");
        }
    }

    #[test]
    fn a_name_that_points_here_cannot_change_anything_without_the_token() {
        let post = |host| status(&Method::POST, Access::Operators, None, &[("host", host)]);
        for own in ["127.0.0.1:1876", "127.0.0.1", "localhost:1876", "LOCALHOST", "[::1]:1876", "[::1]", "10.0.0.9:1"] {
            assert_eq!(post(own), 200, "{own}");
        }
        for foreign in ["evil.example", "evil.example:1876", "127.0.0.1.evil.example", "localhost.evil:1", "", ":1"] {
            assert_eq!(post(foreign), 403, "{foreign}");
        }
        assert_eq!(status(&Method::POST, Access::Operators, None, &[]), 403);
        let bearer = [("host", "proxy.example:1876"), ("authorization", "Bearer t")];
        assert_eq!(status(&Method::POST, Access::Operators, Some("t"), &bearer), 200);
    }
}
