//! The request target (RFC 9112 section 3.2): its form, its parts, and which bytes may stand in it.
//!
//! What passes goes to the instance byte by byte as the client sent it, so nothing may pass that could lead the instance
//! to another path than the one that the route was chosen by. The decisions beyond the grammar:
//!
//! | target has | answer | why |
//! |---|---|---|
//! | `.` or `..` as a segment, also escaped, also before `;` | 400 | leads out of the route's path; `..;` is how servlet containers are fooled |
//! | the same between `%2f`, `%5c` | 400 | many instances decode these to separators |
//! | `%2f`, `%5c` elsewhere | passed | data in a segment (`/@scope%2fname`), needed by package registries |
//! | `\` in the path | 400 | not a URI character; instances on Windows take it for `/` |
//! | `//` | passed | `route` skips empty segments |
//! | a malformed escape, `%00` in the path | 400 | instances decode it in their own ways |
//! | the same in the query | passed | queries in the wild are full of it, and no route depends on them |
//! | controls, space, `#`, DEL, octets above ASCII | 400 | no URI characters (RFC 3986 section 2) |
//! | `"`, `<`, `>`, `^`, `` ` ``, `{`, `\|`, `}` | passed | neither, but sent by clients and harmless |

use std::ops::Range;

use super::Refusal;
use crate::http1::Method;

/// A target taken apart; ranges are positions in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Of an absolute target.
    pub authority: Option<Range<usize>>,
    /// Empty: an absolute target without one, or `*`.
    pub path: Range<usize>,
    /// Without the `?`.
    pub query: Option<Range<usize>>,
    /// `OPTIONS` for the server as a whole (RFC 9112 section 3.2.4).
    pub asterisk: bool,
}

/// What a byte means to us, as bits.
mod class {
    /// Refused wherever it stands.
    pub(super) const NEVER: u8 = 1;
    /// Worth a closer look if it stands in the path.
    pub(super) const LOOK: u8 = 2;
    /// A dot: worth it at the beginning of a segment, where it rarely stands.
    pub(super) const DOT: u8 = 4;
    /// The end of the path.
    pub(super) const QUESTION: u8 = 8;
}

const CLASSES: [u8; 256] = {
    let mut classes = [class::NEVER; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        classes[byte as usize] = match byte {
            b'#' => class::NEVER,
            b'%' | b'\\' => class::LOOK,
            b'.' => class::DOT,
            b'?' => class::QUESTION,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Takes a target apart.
///
/// # Errors
/// If it is malformed or could mean two things.
#[inline]
pub(super) fn parse(method: Method, target: &[u8]) -> Result<Target, Refusal> {
    let path_begins = match target {
        [b'/', ..] => 0,
        b"*" if method == Method::Options => {
            return Ok(Target { authority: None, path: 0..0, query: None, asterisk: true });
        }
        _ => return absolute(method, target),
    };
    let (path, query) = path_and_query(target, path_begins)?;
    Ok(Target { authority: None, path, query, asterisk: false })
}

/// `http://host:port/path?query` (RFC 9112 section 3.2.2); the authority is checked by the caller.
fn absolute(method: Method, target: &[u8]) -> Result<Target, Refusal> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(Refusal::bad_request("the target is neither a path nor an absolute http URI"))?;
    let begin = scheme.len();
    let length =
        target[begin..].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(target.len() - begin);
    let authority = begin..begin + length;
    let (path, query) = path_and_query(target, authority.end)?;
    // RFC 9112 3.2.4: what the last proxy makes of `OPTIONS http://host`.
    let asterisk = method == Method::Options && path.is_empty() && query.is_none();
    Ok(Target { authority: Some(authority), path, query, asterisk })
}

/// Splits what follows `begin` at the first `?` and looks at every byte once.
#[inline]
fn path_and_query(target: &[u8], begin: usize) -> Result<(Range<usize>, Option<Range<usize>>), Refusal> {
    // One pass by table: targets are short, and a vectorised search for the `?` alone costs more than that.
    let mut classes = 0;
    let ends = |byte: &u8| {
        let class = CLASSES[usize::from(*byte)];
        classes |= class;
        class & class::QUESTION != 0
    };
    let path_end = target[begin..].iter().position(ends).map_or(target.len(), |length| begin + length);
    let query = (path_end < target.len()).then(|| path_end + 1..target.len());
    let path = &target[begin..path_end];
    let joined = |classes, byte: &u8| classes | CLASSES[usize::from(*byte)];
    let all = query.clone().map_or(classes, |query| target[query].iter().fold(classes, joined));
    if all & class::NEVER != 0 {
        return Err(Refusal::bad_request("the target has a byte that no URI has"));
    }
    let dot_begins = |path: &[u8]| path.windows(2).any(|pair| pair == b"/.");
    if classes & class::LOOK != 0 || (classes & class::DOT != 0 && dot_begins(path)) {
        check_path(path)?;
    }
    Ok((begin..path_end, query))
}

/// Looks for segments that lead elsewhere, and for escapes that are none.
fn check_path(path: &[u8]) -> Result<(), Refusal> {
    /// How far a segment is from being a dot segment.
    enum Segment {
        Dots(u32),
        Other,
    }
    let mut segment = Segment::Other;
    let mut rest = path;
    loop {
        let octet = match rest {
            [] => None,
            [b'%', tail @ ..] => {
                let octet = escaped(tail).ok_or(Refusal::bad_request("the path has a malformed percent escape"))?;
                rest = &tail[2..];
                Some(octet)
            }
            [b'\\', ..] => return Err(Refusal::bad_request("the path has a backslash")),
            [octet, tail @ ..] => {
                rest = tail;
                Some(*octet)
            }
        };
        segment = match (octet, segment) {
            (Some(0), _) => return Err(Refusal::bad_request("the path has an escaped NUL")),
            (None | Some(b'/' | b'\\' | b';'), Segment::Dots(1 | 2)) => {
                return Err(Refusal::bad_request("the path has a dot segment"));
            }
            (None, _) => return Ok(()),
            (Some(b'/' | b'\\'), _) => Segment::Dots(0),
            (Some(b'.'), Segment::Dots(dots)) => Segment::Dots(dots + 1),
            _ => Segment::Other,
        };
    }
}

/// The octet of an escape, from what follows the `%`.
fn escaped(tail: &[u8]) -> Option<u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    match tail {
        [high, low, ..] => Some((hex(*high)? << 4) | hex(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, target: &str) -> Result<[Option<&str>; 3], u16> {
        let Target { authority, path, query, asterisk } =
            parse(method, target.as_bytes()).map_err(|refusal| refusal.status)?;
        let path = if asterisk { "*" } else { &target[path] };
        Ok([authority.map(|range| &target[range]), Some(path), query.map(|range| &target[range])])
    }

    #[test]
    fn every_form_is_taken_apart() {
        let cases = [
            (Method::Get, "/", [None, Some("/"), None], "RFC 9112 3.2.1"),
            (Method::Get, "/a/b?c=d?e", [None, Some("/a/b"), Some("c=d?e")], "RFC 9112 3.2.1"),
            (Method::Get, "/?", [None, Some("/"), Some("")], "an empty query"),
            (Method::Get, "http://a", [Some("a"), Some(""), None], "RFC 9112 3.2.2"),
            (Method::Get, "http://a:8/b?c", [Some("a:8"), Some("/b"), Some("c")], "RFC 9112 3.2.2"),
            (Method::Get, "HTTPS://a?c", [Some("a"), Some(""), Some("c")], "RFC 9110 4.2.3: case of the scheme"),
            (Method::Get, "http:///b", [Some(""), Some("/b"), None], "refused later, for its empty host"),
            (Method::Options, "*", [None, Some("*"), None], "RFC 9112 3.2.4"),
            (Method::Options, "http://a", [Some("a"), Some("*"), None], "RFC 9112 3.2.4"),
            (Method::Options, "http://a/", [Some("a"), Some("/"), None], "RFC 9112 3.2.4"),
            (Method::Options, "http://a?b", [Some("a"), Some(""), Some("b")], "RFC 9112 3.2.4"),
        ];
        for (method, target, expected, why) in cases {
            assert_eq!(parts(method, target), Ok(expected), "{target}: {why}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let cases = [
            (Method::Get, "*", "RFC 9112 3.2.4: only with OPTIONS"),
            (Method::Get, "", "RFC 9112 3.2"),
            (Method::Get, "a/b", "RFC 9112 3.2.1: no slash"),
            (Method::Get, "example.com:80", "RFC 9112 3.2.3: only with CONNECT"),
            (Method::Get, "ftp://a/", "another scheme"),
            (Method::Get, "http:/a", "RFC 3986 3: no authority"),
            (Method::Get, "?a", "RFC 9112 3.2.1: no path"),
            (Method::Options, "**", "RFC 9112 3.2.4"),
            (Method::Options, "*?a", "RFC 9112 3.2.4"),
        ];
        for (method, target, why) in cases {
            assert_eq!(parts(method, target), Err(400), "{target}: {why}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_or_are_malformed_are_refused() {
        let cases = [
            ("/.", "RFC 3986 5.2.4"),
            ("/..", "RFC 3986 5.2.4"),
            ("/a/./b", "RFC 3986 5.2.4"),
            ("/a/../b", "RFC 3986 5.2.4"),
            ("/a/..?b", "RFC 3986 5.2.4: before a query"),
            ("http://a/../b", "RFC 3986 5.2.4: in an absolute target"),
            ("/%2e", "RFC 3986 6.2.2.2: escaped"),
            ("/%2E%2e/b", "RFC 3986 6.2.2.2: escaped"),
            ("/.%2e/b", "RFC 3986 6.2.2.2: half escaped"),
            ("/a%2f..%2fb", "between escaped slashes"),
            ("/a%2F%2e%2E", "between escaped slashes"),
            ("/a%5c..%5Cb", "between escaped backslashes"),
            ("/a/..%5cb", "before an escaped backslash"),
            ("/a/..;/b", "with parameters"),
            ("/a/..;x=y", "with parameters"),
            ("/a/..%3bx/b", "with escaped parameters"),
            ("/a/.;/b", "with parameters"),
            ("/a\\b", "a backslash"),
            ("/a\\..\\b", "a backslash"),
            ("/%", "RFC 3986 2.1: a malformed escape"),
            ("/%4", "RFC 3986 2.1: a malformed escape"),
            ("/%4?0", "RFC 3986 2.1: a malformed escape"),
            ("/%zz", "RFC 3986 2.1: a malformed escape"),
            ("/%u0041", "RFC 3986 2.1: a malformed escape"),
            ("/%00", "an escaped NUL"),
            ("/a#b", "RFC 9112 3.2.1: a fragment"),
            ("/a?b#c", "RFC 9112 3.2.1: a fragment"),
            ("http://a#b", "RFC 9112 3.2.2: a fragment"),
            ("/a b", "RFC 3986 2: a space"),
            ("/a?b c", "RFC 3986 2: a space"),
            ("/a\tb", "RFC 3986 2: a control"),
            ("/a?\u{1}", "RFC 3986 2: a control"),
            ("/a\u{7f}", "RFC 3986 2: a control"),
            ("/\u{e4}", "RFC 3986 2: not ASCII"),
            ("/?\u{e4}", "RFC 3986 2: not ASCII"),
        ];
        for (target, why) in cases {
            assert_eq!(parts(Method::Get, target), Err(400), "{target:?}: {why}");
        }
    }

    #[test]
    fn what_looks_like_them_passes() {
        let cases = [
            ("/a.js", "a dot in a segment"),
            ("/.well-known/x", "a segment that begins with a dot"),
            ("/...", "three dots"),
            ("/..a/b..", "dots and more"),
            ("/a;..", "dots after a parameter"),
            ("/%2e%2e%2e", "three escaped dots"),
            ("/%252e%252e/", "escaped twice: data"),
            ("/@scope%2fname", "an escaped slash in a name"),
            ("/a%5Cb", "an escaped backslash in a name"),
            ("/a//b", "an empty segment"),
            ("/?../..", "dots in the query"),
            ("/?a=%&b=%zz&c=%00&d=\\", "escapes and backslashes in the query"),
            ("/a|b?{x}^\"`<>", "characters that clients do not escape"),
            ("/!$&'()*+,;=:@-._~", "RFC 3986 3.3: pchar"),
        ];
        for (target, why) in cases {
            assert!(parts(Method::Get, target).is_ok(), "{target}: {why}");
        }
    }
}
